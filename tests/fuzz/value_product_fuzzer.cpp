// Attention times V: shift_matmul with every kind of codes, and weighted_matmul.

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "fuzz_input.hpp"
#include "guarded_memory.hpp"
#include "intact/reference/shift_matmul.hpp"
#include "intact/reference/weighted_matmul.hpp"
#include "intact/shift_matmul.hpp"
#include "intact/weighted_matmul.hpp"
#include "keep_wide_accumulator.hpp"
#include "same_bits.hpp"
#include "softmax_cases.hpp"
#include "stage_cases.hpp"

namespace intact_test {
namespace {

struct product_sizes {
  index_t rows, keys, channels;
  bool at_limit = false;  ///< of the keys
};

/// Any sizes; at times small ones with next to as many keys as there may be.
product_sizes some_sizes(fuzz_input& input, index_t most_keys) {
  if (input.between(0, 127) == 127) {
    return {input.between(0, 2), most_keys + input.between(-1, 1), input.between(0, 2), true};
  }
  return {input.size(60), input.size(600), input.size(100)};
}

/// V, its zero point, and where the workspace begins.
struct value_operand {
  guarded_tensor<std::uint8_t> codes;
  int zero_point;
  std::size_t misaligned;

  value_operand(fuzz_input& input, const product_sizes& of, generator& random)
      : codes(of.keys, of.channels, input.where()),
        zero_point(input.code()),
        misaligned(static_cast<std::size_t>(input.between(0, 63))) {
    fill(codes.view(), input.contents(), 0, 255, random);
    input.change(codes.view(), 0, 255);
  }

  quantized_matrix view() const { return {codes.view(), zero_point}; }
};

row_divisor some_divisor(fuzz_input& input) {
  return {static_cast<std::int32_t>(input.between(0, 1 << 30)), input.code()};
}

template <attention_code Format, class Out, class Stage>
void check_stage(fuzz_input& input, const typename attention_codes<Format>::const_view& codes, const value_operand& v,
                 const Stage& stage) {
  const index_t keys = v.codes.rows(), channels = v.codes.columns();
  expect_same_bits<guarded_tensor<Out>>(
      input, codes.rows, channels, [&](auto y) { reference::shift_matmul<Format>(codes, v.view(), stage, y); },
      [&](auto y, const auto& run) {
        exact_workspace memory(shift_matmul_workspace_bytes(keys, channels, run.threads()), v.misaligned);
        shift_matmul<tested_isa, Format>(codes, v.view(), stage, y, memory.get(), run);
      });
}

/// Contents of rows whose 2^-code have a sum in range, also of the longest.
constexpr code_contents contents_at_limit[] = {code_contents::nothing, code_contents::last, code_contents::behind_last,
                                               code_contents::first};

template <attention_code Format>
void check_shift_matmul(fuzz_input& input) {
  constexpr int largest = attention_codes<Format>::last_code;
  const product_sizes of = some_sizes(input, input.flag() ? shift_matmul_max_keys : weighted_matmul_max_keys);
  generator random = input.random();
  code_tensor<Format> stored(of.rows, of.keys, input.where());
  fill_codes(stored.view(), of.at_limit ? input.one_of(contents_at_limit) : input.one_of(all_code_contents), largest,
             random);
  input.change(stored.view(), 5, largest);  // smaller ones are few, for the sum of a row
  const typename attention_codes<Format>::const_view codes = stored.view();
  const value_operand v(input, of, random);
  const stage_arrays arrays(of.rows, of.channels, input.where(), input.one_of(all_scales), 0x7fffffff, random);
  const auto check_stage_of = [&]<class Stage>(std::type_identity<Stage>) {
    check_stage<Format, typename Stage::output>(input, codes, v, stage_of<Stage>(arrays));
  };
  if constexpr (Format == attention_code::u8_full) {
    const tensor_scale scale = stage_of<requantize<std::uint8_t, tensor_scale>>(arrays).scale;
    check_stage<Format, std::int64_t>(input, codes, v, keep_wide_accumulator{});
    check_stage<Format, std::uint8_t>(input, codes, v, requantize_s64<std::uint8_t>{scale});
  } else {
    check_stage_of(std::type_identity<raw_accumulator>());
    check_stage_of(std::type_identity<requantize<std::uint8_t, tensor_scale>>());
    check_stage<Format, std::uint8_t>(input, codes, v, some_divisor(input));
  }
}

void check_weighted_matmul(fuzz_input& input) {
  const product_sizes of = some_sizes(input, weighted_matmul_max_keys);
  generator random = input.random();
  guarded_tensor<std::uint8_t> weights(of.rows, of.keys, input.where());
  fill(weights.view(), input.contents(), 0, input.code(), random);
  input.change(weights.view(), 0, 255);
  const value_operand v(input, of, random);
  const row_divisor divisor = some_divisor(input);
  expect_same_bits<guarded_tensor<std::uint8_t>>(
      input, of.rows, of.channels, [&](auto y) { reference::weighted_matmul(weights.view(), v.view(), divisor, y); },
      [&](auto y, const auto& run) {
        exact_workspace memory(weighted_matmul_workspace_bytes(of.keys, of.channels, run.threads()), v.misaligned);
        weighted_matmul<tested_isa>(weights.view(), v.view(), divisor, y, memory.get(), run);
      });
}

}  // namespace
}  // namespace intact_test

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  using namespace intact_test;
  fuzz_input input(bytes, size);
  input.call_one({check_shift_matmul<attention_code::u8_masked>, check_shift_matmul<attention_code::u4_clipped>,
                  check_shift_matmul<attention_code::u8_full>, check_weighted_matmul});
  return 0;
}
