// Multi-head attention, also to prepared keys, with every softmax, masks and any numbers of queries and keys. Attention
// inside windows is a part of Swin blocks.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <variant>

#include "fuzz_input.hpp"
#include "guarded_memory.hpp"
#include "intact/model/attention.hpp"
#include "intact/reference/model/attention.hpp"
#include "intact/types/executor_ref.hpp"
#include "same_bits.hpp"
#include "small_swin.hpp"
#include "softmax_input.hpp"
#include "stage_cases.hpp"

namespace intact_test {
namespace {

/// One of the choices that models have, or one of packed codes, which go without masks.
attention_choice some_choice(fuzz_input& input, bool masked) {
  attention_choice choice = input.one_of(all_choices);
  choice.no_room = false;
  if (!masked && choice.kind == attention_kind::log2_of_sum && input.flag()) {
    choice.probabilities = attention_code::u4_clipped;
  }
  return choice;
}

/// Any scale for logits of heads of so many columns: the offsets of rows have room for some of them.
tensor_scale some_logits_scale(fuzz_input& input, index_t size) {
  const int bits = bit_length(static_cast<std::uint64_t>(255 * 255 * std::max<index_t>(size, 1)));
  return {static_cast<std::int32_t>(input.between(0, largest_multiplier)),
          input.between(-largest_offset, largest_offset), static_cast<int>(input.between(0, 30)),
          static_cast<int>(input.between(0, std::min(30, 31 - bits)))};
}

guarded_tensor<std::uint8_t> some_codes(fuzz_input& input, index_t rows, index_t columns, generator& random) {
  guarded_tensor<std::uint8_t> x(rows, columns, input.where());
  fill(x.view(), input.contents(), 0, 255, random);
  input.change(x.view(), 0, 255);
  return x;
}

/// Fast attention is compiled for executors by reference.
template <class Executor>
executor_ref by_reference(const Executor& run) {
  return executor_ref(run);
}

void check_attention(fuzz_input& input) {
  const index_t heads = input.between(1, 4), size = input.size(70), width = heads * size;
  const index_t queries = input.size(100), keys = input.size();
  const bool masked = input.flag();
  generator random = input.random();
  parameter_memory memory;
  const attention_choice choice = some_choice(input, masked);
  // Its projections are not used here.
  attention_parameters parameters = random_attention(memory, {keys, heads, heads}, choice.probabilities, random);
  parameters.logits = input.flag() ? spread_logits(size) : some_logits_scale(input, size);
  const guarded_vector<std::uint64_t> table = some_table<std::uint64_t>(input, keys, random);
  if (input.flag()) {
    std::get<log2_of_sum>(parameters.softmax.weights).exponential = table;
  }
  choose_softmax(memory, choice, parameters);
  const multihead_parameters p = parameters.multihead(heads);
  const guarded_tensor<std::uint8_t> q = some_codes(input, queries, width, random),
                                     k = some_codes(input, keys, width, random),
                                     v = some_codes(input, keys, width, random),
                                     visible = some_mask(input, queries, keys, random);
  const attention_operands x{{q.view(), input.code()},
                             {k.view(), input.code()},
                             {v.view(), input.code()},
                             masked ? key_mask{visible.view()} : key_mask{}};
  const auto misaligned = static_cast<std::size_t>(input.between(0, 63));
  const auto specified = [&](auto y) {
    exact_workspace scratch(reference::attention_workspace_bytes(queries, keys), misaligned);
    reference::attention(x, p, y, scratch.get());
  };
  expect_same_bits<guarded_tensor<std::uint8_t>>(input, queries, width, specified, [&](auto y, const auto& run) {
    exact_workspace scratch(attention_workspace_bytes(keys, heads, size, run.threads()), misaligned);
    attention<tested_isa>(x, p, y, scratch.get(), executor_ref(run));
  });
  exact_workspace prepared_memory(prepared_keys_bytes(keys, heads, size), misaligned);
  const prepared_keys_values prepared =
      prepare_keys_values<tested_isa>(x.k, x.v, heads, x.q.zero_point, prepared_memory.get());
  expect_same_bits<guarded_tensor<std::uint8_t>>(input, queries, width, specified, [&](auto y, const auto& run) {
    exact_workspace scratch(attention_workspace_bytes(keys, run.threads()), misaligned);
    attention<tested_isa>(prepared_operands{x.q, prepared, x.mask}, p, y, scratch.get(), executor_ref(run));
  });
}

}  // namespace
}  // namespace intact_test

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  using namespace intact_test;
  fuzz_input input(bytes, size);
  check_attention(input);
  return 0;
}
