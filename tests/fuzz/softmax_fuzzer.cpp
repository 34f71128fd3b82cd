// log_softmax with every kind of codes, rounding and table, and max_softmax, with masks and without.

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "fuzz_input.hpp"
#include "intact/log_softmax.hpp"
#include "intact/max_softmax.hpp"
#include "intact/reference/log_softmax.hpp"
#include "intact/reference/max_softmax.hpp"
#include "same_bits.hpp"
#include "softmax_cases.hpp"
#include "softmax_input.hpp"

namespace intact_test {
namespace {

guarded_tensor<std::uint8_t> some_logits(fuzz_input& input, generator& random) {
  const bool at_lanes = input.flag();
  guarded_tensor<std::uint8_t> logits(at_lanes ? input.size(70) : input.size(), input.size(600), input.where());
  const std::int64_t least = input.code(), most = input.between(least, 255);
  fill(logits.view(), input.contents(), least, most, random);
  input.change(logits.view(), 0, 255);
  return logits;
}

template <attention_code Format, log2_rounding Rounding, class T>
void check_log_softmax(fuzz_input& input) {
  generator random = input.random();
  const guarded_tensor<std::uint8_t> x = some_logits(input, random);
  const matrix_view<const std::uint8_t> logits = x.view();
  const guarded_vector<T> entries = some_table<T>(input, x.columns(), random);
  const exp_table<T> table = entries;
  expect_same_bits<code_tensor<Format>>(
      input, x.rows(), x.columns(), [&](auto y) { reference::log_softmax<Format, Rounding>(logits, table, y); },
      [&](auto y, const auto& run) { log_softmax<tested_isa, Format, Rounding>(logits, table, y, run); });
  if constexpr (Format != attention_code::u4_clipped) {
    const guarded_tensor<std::uint8_t> visible = some_mask(input, x.rows(), x.columns(), random);
    const key_mask mask{visible.view()};
    expect_same_bits<guarded_tensor<std::uint8_t>>(
        input, x.rows(), x.columns(), [&](auto y) { reference::log_softmax<Format, Rounding>(logits, table, mask, y); },
        [&](auto y, const auto& run) { log_softmax<tested_isa, Format, Rounding>(logits, table, mask, y, run); });
    expect_same_bits_in_place(
        x, [&](auto y) { reference::log_softmax<Format, Rounding>(logits, table, y); },
        [&](auto y) { log_softmax<tested_isa, Format, Rounding>(y, table, y); });
  }
}

template <attention_code Format, log2_rounding Rounding>
void check_both_widths(fuzz_input& input) {
  input.flag() ? check_log_softmax<Format, Rounding, std::uint64_t>(input)
               : check_log_softmax<Format, Rounding, std::uint32_t>(input);
}

template <attention_code Format>
void check_codes(fuzz_input& input) {
  input.flag() ? check_both_widths<Format, log2_rounding::round_log>(input)
               : check_both_widths<Format, log2_rounding::round_ratio>(input);
}

template <class Codes>
void check_max_softmax(fuzz_input& input) {
  generator random = input.random();
  const guarded_tensor<std::uint8_t> x = some_logits(input, random);
  const matrix_view<const std::uint8_t> logits = x.view();
  guarded_vector<std::uint8_t> table(256);
  constexpr bool packed = !std::is_same_v<Codes, guarded_tensor<std::uint8_t>>;
  fill(matrix_view(table.data(), 1, 256), input.contents(), 0, packed ? 15 : 255, random);
  expect_same_bits<Codes>(
      input, x.rows(), x.columns(), [&](auto y) { reference::max_softmax(logits, table, y); },
      [&](auto y, const auto& run) { max_softmax<tested_isa>(logits, table, y, run); });
  if constexpr (!packed) {
    const guarded_tensor<std::uint8_t> visible = some_mask(input, x.rows(), x.columns(), random);
    const key_mask mask{visible.view()};
    const auto masked = static_cast<std::uint8_t>(input.code());
    expect_same_bits<Codes>(
        input, x.rows(), x.columns(), [&](auto y) { reference::max_softmax(logits, table, mask, masked, y); },
        [&](auto y, const auto& run) { max_softmax<tested_isa>(logits, table, mask, masked, y, run); });
  }
}

}  // namespace
}  // namespace intact_test

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  using namespace intact_test;
  fuzz_input input(bytes, size);
  input.call_one({check_codes<attention_code::u8_masked>, check_codes<attention_code::u4_clipped>,
                  check_codes<attention_code::u8_full>, check_max_softmax<guarded_tensor<std::uint8_t>>,
                  check_max_softmax<guarded_packed_tensor<u4>>});
  return 0;
}
