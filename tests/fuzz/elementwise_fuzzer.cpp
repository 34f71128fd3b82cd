// Operations on single elements, on pairs and on columns: activation, add, multiply, rotate, convert_codes,
// average_pool.

#include <cstddef>
#include <cstdint>
#include <limits>
#include <tuple>
#include <type_traits>

#include "fuzz_input.hpp"
#include "guarded_memory.hpp"
#include "intact/activation.hpp"
#include "intact/add.hpp"
#include "intact/average_pool.hpp"
#include "intact/convert_codes.hpp"
#include "intact/multiply.hpp"
#include "intact/reference/activation.hpp"
#include "intact/reference/add.hpp"
#include "intact/reference/average_pool.hpp"
#include "intact/reference/convert_codes.hpp"
#include "intact/reference/multiply.hpp"
#include "intact/reference/rotate.hpp"
#include "intact/rotate.hpp"
#include "same_bits.hpp"
#include "stage_cases.hpp"

namespace intact_test {
namespace {

template <class Code>
guarded_tensor<Code> some_codes(fuzz_input& input, index_t rows, index_t columns, generator& random) {
  constexpr std::int64_t low = std::numeric_limits<Code>::min();
  constexpr std::int64_t high = std::is_same_v<Code, std::uint16_t> ? 4095 : std::numeric_limits<Code>::max();
  guarded_tensor<Code> x(rows, columns, input.where());
  fill(x.view(), input.contents(), low, high, random);
  input.change(x.view(), low, high);
  return x;
}

template <class Code>
void check_activation(fuzz_input& input) {
  generator random = input.random();
  const index_t rows = input.size(), columns = input.size(5000 / (rows + 1) + 100);
  const guarded_tensor<Code> x = some_codes<Code>(input, rows, columns, random);
  guarded_vector<std::uint8_t> table(std::is_same_v<Code, std::uint16_t> ? 4096 : 256);
  fill(matrix_view(table.data(), 1, std::ssize(table)), input.contents(), 0, 255, random);
  const auto specified = [&](auto y) { reference::activation(x.view(), table, y); };
  expect_same_bits<guarded_tensor<std::uint8_t>>(input, rows, columns, specified, [&](auto y, const auto& run) {
    activation<tested_isa>(x.view(), table, y, run);
  });
  if constexpr (std::is_same_v<Code, std::uint8_t>) {
    expect_same_bits_in_place(x, specified, [&](auto y) { activation<tested_isa>(y, table, y); });
  }
}

void check_add(fuzz_input& input) {
  generator random = input.random();
  const index_t rows = input.size(), columns = input.size(1200);
  const guarded_tensor<std::uint8_t> x = some_codes<std::uint8_t>(input, rows, columns, random);
  const guarded_tensor<std::uint8_t> z = some_codes<std::uint8_t>(input, rows, columns, random);
  const stage_arrays arrays(0, columns, {}, scales::bytes, 1, random);  // some channels have the largest sums
  add_parameters scale = stage_of<requantize_add>(arrays).addition;
  scale.stream_zero_point = input.code();
  scale.branch_zero_point = input.code();
  scale.shift = static_cast<int>(input.between(add_min_shift, add_max_shift));
  const auto specified = [&](auto y) { reference::add(x.view(), z.view(), scale, y); };
  expect_same_bits<guarded_tensor<std::uint8_t>>(input, rows, columns, specified, [&](auto y, const auto& run) {
    add<tested_isa>(x.view(), z.view(), scale, y, run);
  });
  expect_same_bits_in_place(x, specified, [&](auto y) { add<tested_isa>(y, z.view(), scale, y); });
  expect_same_bits_in_place(z, specified, [&](auto y) { add<tested_isa>(x.view(), y, scale, y); });
}

using element_stages = std::tuple<raw_accumulator, requantize<std::uint8_t>, requantize<std::int16_t>,
                                  requantize<std::uint8_t, tensor_scale>, requantize<std::int16_t, tensor_scale>,
                                  add_to_stream, stage_of_a_user>;

void check_multiply(fuzz_input& input) {
  with_type_of<element_stages>(input, [&]<class Stage>(std::type_identity<Stage>) {
    generator random = input.random();
    const index_t rows = input.size(), columns = input.size();
    const guarded_tensor<std::uint8_t> a = some_codes<std::uint8_t>(input, rows, columns, random);
    const guarded_tensor<std::uint8_t> b = some_codes<std::uint8_t>(input, rows, columns, random);
    const stage_arrays arrays(rows, columns, input.where(), input.one_of(all_scales), 255 * 255, random);
    const Stage stage = stage_of<Stage>(arrays);
    const int a_zero_point = input.code(), b_zero_point = input.code();
    const auto specified = [&](auto y) {
      reference::multiply({a.view(), a_zero_point}, {b.view(), b_zero_point}, stage, y);
    };
    expect_same_bits<guarded_tensor<typename Stage::output>>(
        input, rows, columns, specified, [&](auto y, const auto& run) {
          multiply<tested_isa>({a.view(), a_zero_point}, {b.view(), b_zero_point}, stage, y, run);
        });
    if constexpr (std::is_same_v<typename Stage::output, std::uint8_t>) {
      expect_same_bits_in_place(a, specified, [&](auto y) {
        multiply<tested_isa>({y, a_zero_point}, {b.view(), b_zero_point}, stage, y);
      });
    }
  });
}

void check_rotate(fuzz_input& input) {
  generator random = input.random();
  const index_t rows = input.size(), half = input.between(1, 100), columns = 2 * half * input.between(0, 4);
  const guarded_tensor<std::uint8_t> x = some_codes<std::uint8_t>(input, rows, columns, random);
  const guarded_tensor<std::int16_t> cosine = some_codes<std::int16_t>(input, rows, half, random);
  const guarded_tensor<std::int16_t> sine = some_codes<std::int16_t>(input, rows, half, random);
  const rotation_parameters angles{cosine.view(), sine.view()};
  const int zero_point = input.code();
  const auto specified = [&](auto y) { reference::rotate({x.view(), zero_point}, angles, y); };
  expect_same_bits<guarded_tensor<std::uint8_t>>(input, rows, columns, specified, [&](auto y, const auto& run) {
    rotate<tested_isa>({x.view(), zero_point}, angles, y, run);
  });
  expect_same_bits_in_place(x, specified, [&](auto y) { rotate<tested_isa>({y, zero_point}, angles, y); });
}

void check_convert_codes(fuzz_input& input) {
  with_type_of<element_stages>(input, [&]<class Stage>(std::type_identity<Stage>) {
    generator random = input.random();
    const guarded_tensor<std::uint8_t> x = some_codes<std::uint8_t>(input, input.size(), input.size(), random);
    const stage_arrays arrays(x.rows(), x.columns(), input.where(), input.one_of(all_scales), 255, random);
    const Stage stage = stage_of<Stage>(arrays);
    expect_same_bits<guarded_tensor<typename Stage::output>>(
        input, x.rows(), x.columns(), [&](auto y) { reference::convert_codes(x.view(), stage, y); },
        [&](auto y, const auto& run) { convert_codes<tested_isa>(x.view(), stage, y, run); });
  });
}

template <class Code>
void check_average_pool(fuzz_input& input) {
  constexpr bool wide = std::is_signed_v<Code>;
  const bool at_limit = wide && input.between(0, 63) == 63;
  const index_t rows = at_limit ? average_pool_max_tokens_s16 + input.between(-1, 1) : input.size();
  generator random = input.random();
  const guarded_tensor<Code> x = some_codes<Code>(input, rows, input.size(at_limit ? 3 : 300), random);
  with_type_of<element_stages>(input, [&]<class Stage>(std::type_identity<Stage>) {
    const std::int64_t bound = std::max<std::int64_t>(1, (wide ? 32768 : 255) * std::min<index_t>(rows, 65535));
    const stage_arrays arrays(1, x.columns(), input.where(), input.one_of(all_scales), bound, random);
    const Stage stage = stage_of<Stage>(arrays);
    expect_same_bits<guarded_tensor<typename Stage::output>>(
        input, 1, x.columns(), [&](auto y) { reference::average_pool(x.view(), stage, y); },
        [&](auto y, const auto&) { average_pool<tested_isa>(x.view(), stage, y); });
  });
}

}  // namespace
}  // namespace intact_test

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  using namespace intact_test;
  fuzz_input input(bytes, size);
  input.call_one({check_activation<std::uint8_t>, check_activation<std::uint16_t>, check_add, check_multiply,
                  check_convert_codes, check_average_pool<std::uint8_t>, check_average_pool<std::int16_t>,
                  check_rotate});
  return 0;
}
