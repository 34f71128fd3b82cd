#include "intact/config/contract.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <iterator>
#include <limits>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "catch.hpp"
#include "intact/intact.hpp"
#include "intact/reference/gemm.hpp"
#include "intact/reference/model/attention.hpp"
#include "intact/reference/model/mlp.hpp"
#include "refusal.hpp"
#include "small_model.hpp"
#include "tensor.hpp"

// Every public operation refuses every argument that its contract excludes: with a message that names the operation,
// the argument, its value and the limit, and before it has written anything.

namespace intact_test::contract_test {
namespace {

using words = std::vector<std::string>;

words operator+(words first, const words& second) {
  first.insert(first.end(), second.begin(), second.end());
  return first;
}

/// Whether the text contains the phrase, not as a part of a longer word or number.
bool contains(const std::string& text, const std::string& phrase) {
  const auto is_part = [&](std::size_t i) {
    return i < text.size() && std::isalnum(static_cast<unsigned char>(text[i]));
  };
  for (std::size_t i = text.find(phrase); i != std::string::npos; i = text.find(phrase, i + 1)) {
    if (!(i > 0 && is_part(i - 1)) && !is_part(i + phrase.size())) {
      return true;
    }
  }
  return false;
}

template <class Call>
void check_message(const words& expected, Call call) {
  const std::string message = refusal(call);
  CAPTURE(message);
  for (const std::string& word : expected) {
    CAPTURE(word);
    CHECK(contains(message, word));
  }
}

template <class Output, class Call>
void check_refused(const Output& output, const words& expected, Call call) {
  const auto before = output.memory();
  check_message(expected, call);
  CHECK(output.memory() == before);
}

template <class Output, class Call>
void check_accepted(const Output& output, Call call) {
  const auto before = output.memory();
  CHECK(refusal(call) == "");
  CHECK(output.memory() != before);
}

/// An argument that must be refused, and what the message must say.
template <class Argument>
struct wrong {
  Argument argument;
  words expected;
};

/// Views that do not describe memory.
template <class View>
std::vector<wrong<View>> wrong_views(const View& good) {
  const std::string limits = "it must have sizes of at least 0, a stride of at least its columns, and data";
  std::vector<wrong<View>> all(4, {good, {limits}});
  all[0].argument.rows = -1;
  all[0].expected.push_back("-1 rows");
  all[1].argument.columns = -1;
  all[1].expected.push_back("-1 columns");
  all[2].argument.stride = good.columns - 1;
  all[2].expected.push_back("stride " + std::to_string(good.columns - 1));
  all[3].argument.data = nullptr;
  all[3].expected.push_back("no data");
  return all;
}

/// The same, and views of another shape.
template <class View>
std::vector<wrong<View>> wrong_shapes(const View& good) {
  const auto in_words = [](const View& view) {
    return std::to_string(view.rows) + " x " + std::to_string(view.columns);
  };
  std::vector<wrong<View>> all = wrong_views(good);
  for (const index_t step : {-1, 1}) {
    View longer = good;
    longer.rows += step;
    all.push_back({longer, {in_words(longer), in_words(good)}});
    View wider = good;
    wider.columns += step;
    wider.stride += 2;
    all.push_back({wider, {in_words(wider), in_words(good)}});
  }
  return all;
}

/// Values outside low..high.
std::vector<wrong<int>> wrong_values(int low, int high) {
  return {{low - 1, {std::to_string(low - 1), std::to_string(low)}},
          {high + 1, {std::to_string(high + 1), std::to_string(high)}}};
}

words sizes(index_t value, index_t limit) {
  return {std::to_string(value), std::to_string(limit)};
}

template <class Scale>
std::vector<wrong<Scale>> wrong_shifts(const Scale& good) {
  std::vector<wrong<Scale>> all;
  for (const wrong<int>& value : wrong_values(0, 30)) {
    all.push_back({good, words{"scale.shift"} + value.expected});
    all.back().argument.shift = value.argument;
    all.push_back({good, words{"scale.left_shift"} + value.expected});
    all.back().argument.left_shift = value.argument;
  }
  return all;
}

std::vector<wrong<channel_scale>> wrong_scales(const channel_scale& good) {
  const index_t channels = std::ssize(good.offset);
  std::vector<wrong<channel_scale>> all = wrong_shifts(good);
  all.push_back({good, words{"scale.multiplier"} + sizes(channels - 1, channels)});
  all.back().argument.multiplier = good.multiplier.first(good.multiplier.size() - 1);
  all.push_back({good, words{"scale.offset"} + sizes(channels - 1, channels)});
  all.back().argument.offset = good.offset.first(good.offset.size() - 1);
  return all;
}

std::vector<wrong<tensor_scale>> wrong_scales(const tensor_scale& good) {
  std::vector<wrong<tensor_scale>> all = wrong_shifts(good);
  all.push_back({good, {"scale.multiplier", "-1", "0"}});
  all.back().argument.multiplier = -1;
  all.push_back({good, {"scale.offset", "4611686018427387904", "4611686018427387903"}});
  all.back().argument.offset = std::int64_t{1} << 62;
  all.push_back({good, {"scale.offset", "-4611686018427387904", "-4611686018427387903"}});
  all.back().argument.offset = -(std::int64_t{1} << 62);
  return all;
}

std::vector<wrong<add_parameters>> wrong_scales(const add_parameters& good) {
  const index_t channels = std::ssize(good.offset);
  std::vector<wrong<add_parameters>> all;
  const auto change = [&](const words& expected) -> add_parameters& {
    all.push_back({good, expected});
    return all.back().argument;
  };
  const auto one_less = [](auto span) { return span.first(span.size() - 1); };
  change(words{"stream_multiplier"} + sizes(channels - 1, channels)).stream_multiplier =
      one_less(good.stream_multiplier);
  change(words{"branch_multiplier"} + sizes(channels - 1, channels)).branch_multiplier =
      one_less(good.branch_multiplier);
  change(words{"offset"} + sizes(channels - 1, channels)).offset = one_less(good.offset);
  for (const wrong<int>& value : wrong_values(0, 255)) {
    change(words{"stream_zero_point"} + value.expected).stream_zero_point = value.argument;
    change(words{"branch_zero_point"} + value.expected).branch_zero_point = value.argument;
  }
  for (const wrong<int>& value : wrong_values(17, 24)) {
    change(words{"shift"} + value.expected).shift = value.argument;
  }
  return all;
}

std::vector<wrong<layernorm_parameters>> wrong_layernorms(const layernorm_parameters& good, parameter_memory& memory) {
  const index_t channels = std::ssize(good.shift);
  std::vector<wrong<layernorm_parameters>> all;
  const auto change = [&](const words& expected) -> layernorm_parameters& {
    all.push_back({good, expected});
    return all.back().argument;
  };
  const auto one_less = [](auto span) { return span.first(span.size() - 1); };
  change(words{"size of shift"} + sizes(channels - 1, channels)).shift = one_less(good.shift);
  change(words{"size of gain"} + sizes(channels - 1, channels)).gain = one_less(good.gain);
  change(words{"size of bias"} + sizes(channels - 1, channels)).bias = one_less(good.bias);
  for (const wrong<int>& value : wrong_values(0, 255)) {
    change(words{"zero_point"} + value.expected).zero_point = value.argument;
  }
  for (const wrong<int>& value : wrong_values(1, 48)) {
    change(words{"output_shift"} + value.expected).output_shift = value.argument;
  }
  change({"epsilon", "0", "1..2305843009213693952"}).epsilon = 0;
  change({"epsilon", "2305843009213693953", "1..2305843009213693952"}).epsilon = layernorm_max_epsilon + 1;
  change({"epsilon_fraction", "-1073741825", "-1073741824"}).epsilon_fraction = layernorm_min_epsilon_fraction - 1;
  change({"epsilon_fraction", "536870913", "536870912"}).epsilon_fraction = layernorm_max_epsilon_fraction + 1;
  change({"shift of a channel", "4", "3"}).shift =
      memory.array<std::uint8_t>(channels, [&](index_t c) { return c == channels - 1 ? 4 : 0; });
  return all;
}

TEST_CASE("require_equal, require_between: accept their limits and refuse other values in words") {
  CHECK(refusal([] { require_equal("op", "size", 3, 3); }) == "");
  CHECK(refusal([] { require_at_least("op", "size", 3, 3); }) == "");
  CHECK(refusal([] { require_at_most("op", "size", 3, 3); }) == "");
  CHECK(refusal([] { require_between("op", "size", 3, 3, 3); }) == "");
  CHECK(refusal([] { require_equal("op", "size", 4, 3); }) == "intact::op: size is 4; it must be equal to 3");
  CHECK(refusal([] { require_at_least("op", "size", 2, 3); }) == "intact::op: size is 2; it must be at least 3");
  CHECK(refusal([] { require_at_most("op", "size", 4, 3); }) == "intact::op: size is 4; it must be at most 3");
  check_message({"op", "size", "2", "3"}, [] { require_between("op", "size", 2, 3, 5); });
  check_message({"op", "size", "6", "5"}, [] { require_between("op", "size", 6, 3, 5); });
  check_message({"-9223372036854775808", "9223372036854775807"}, [] {
    require_equal("op", "size", std::numeric_limits<std::int64_t>::min(), std::numeric_limits<std::int64_t>::max());
  });
}

TEST_CASE("require_equal: cuts off a message that exceeds its buffer") {
  const std::string name(2000, 'x');
  const std::string message = refusal([&] { require_equal("op", name.c_str(), 4, 3); });
  CHECK(message.substr(0, 14) == "intact::op: xx");
  CHECK(message.size() < 2000);
}

TEST_CASE("reference::gemm: refuses matrices that do not fit each other") {
  generator random(42);
  parameter_memory memory;
  const matrix_view<const std::uint8_t> a = memory.matrix<std::uint8_t>(3, 6, 0, 255, random);
  const matrix_view<const std::int8_t> w = memory.matrix<std::int8_t>(4, 6, -128, 127, random);
  const channel_scale scale = random_scale(memory, 4, 6, {});
  tensor<std::uint8_t> y(3, 4, layouts[1]);
  using stage = requantize<std::uint8_t>;
  for (const auto& bad : wrong_views(a)) {
    check_refused(y, words{"gemm", "a"} + bad.expected,
                  [&] { reference::gemm(bad.argument, w, stage{scale}, y.view()); });
  }
  for (const auto& bad : wrong_views(w)) {
    check_refused(y, words{"gemm", "w"} + bad.expected,
                  [&] { reference::gemm(a, bad.argument, stage{scale}, y.view()); });
  }
  check_refused(y, {"gemm", "w", "4 x 5", "4 x 6"},
                [&] { reference::gemm(a, w.column_block(0, 5), stage{scale}, y.view()); });
  for (const auto& bad : wrong_scales(scale)) {
    check_refused(y, words{"gemm"} + bad.expected, [&] { reference::gemm(a, w, stage{bad.argument}, y.view()); });
  }
  for (const auto& bad : wrong_shapes(y.view())) {
    check_refused(y, words{"gemm", "y"} + bad.expected, [&] { reference::gemm(a, w, stage{scale}, bad.argument); });
  }
  check_accepted(y, [&] { reference::gemm(a, w, stage{scale}, y.view()); });
}

TEST_CASE("reference::gemm: refuses scales of a tensor that are out of range") {
  generator random(43);
  parameter_memory memory;
  const matrix_view<const std::uint8_t> a = memory.matrix<std::uint8_t>(3, 6, 0, 255, random);
  const matrix_view<const std::int8_t> w = memory.matrix<std::int8_t>(4, 6, -128, 127, random);
  const tensor_scale scale{1 << 28, 1, 0, 0};
  tensor<std::uint8_t> y(3, 4, layouts[1]);
  using stage = requantize<std::uint8_t, tensor_scale>;
  for (const auto& bad : wrong_scales(scale)) {
    check_refused(y, words{"gemm"} + bad.expected, [&] { reference::gemm(a, w, stage{bad.argument}, y.view()); });
  }
  check_accepted(y, [&] { reference::gemm(a, w, stage{scale}, y.view()); });
}

TEST_CASE("reference::gemm: refuses packed weights of another shape") {
  generator random(44);
  parameter_memory memory;
  const matrix_view<const std::uint8_t> a = memory.matrix<std::uint8_t>(3, 5, 0, 255, random);
  packed_tensor<s4> weights(4, 5);
  fill(weights.view(), values::random, s4::min, s4::max, random);
  tensor<std::int32_t> y(3, 4, layouts[1]);
  const auto call = [&](const packed_view<s4, std::uint8_t>& w) { reference::gemm(a, w, raw_accumulator{}, y.view()); };
  packed_view<s4, std::uint8_t> w = weights.view();
  for (const auto& bad : wrong_views(w)) {
    check_refused(y, words{"gemm", "w"} + bad.expected, [&] { call(bad.argument); });
  }
  w.columns = 4;
  check_refused(y, {"gemm", "w", "4 x 4", "4 x 5"}, [&] { call(w); });
  w = weights.view();
  w.stride = 5;
  check_refused(y, {"gemm", "w", "stride 5", "even"}, [&] { call(w); });
  check_accepted(y, [&] { call(weights.view()); });
}

/// K at its limit is accepted, K one above refused; without rows nothing needs memory.
template <class A, class Weights>
void check_depth_limit(index_t limit) {
  const auto call = [](index_t k) {
    Weights w;
    w.columns = k;
    w.stride = k + k % 2;
    reference::gemm(matrix_view<const A>(nullptr, 0, k), w, raw_accumulator{}, matrix_view<std::int32_t>());
  };
  CHECK(refusal([&] { call(limit); }) == "");
  check_message(words{"gemm", "columns of a"} + sizes(limit + 1, limit), [&] { call(limit + 1); });
}

TEST_CASE("reference::gemm: refuses sums that int32 might not hold") {
  check_depth_limit<std::uint8_t, matrix_view<const std::int8_t>>(65793);
  check_depth_limit<std::int8_t, matrix_view<const std::int8_t>>(131071);
  check_depth_limit<std::uint8_t, packed_view<s4, const std::uint8_t>>(1052688);
  check_depth_limit<std::int8_t, packed_view<s4, const std::uint8_t>>(2097151);
}

/// A product with packed weights that every refusal is tried on, 3 x 6 times 4 x 6.
struct packed_product {
  generator random{50};
  parameter_memory memory;
  matrix_view<const std::uint8_t> a = memory.matrix<std::uint8_t>(3, 6, 0, 255, random);
  matrix_view<const std::int8_t> weights = memory.matrix<std::int8_t>(4, 6, -128, 127, random);
  channel_scale scale = random_scale(memory, 4, 6, {});
  alignas(packed_weights_alignment) std::byte bytes[packed_weights_bytes<std::int8_t>(4, 6)];
  packed_weights<std::int8_t> w = pack_weights(weights, bytes);
};

TEST_CASE("gemm: refuses matrices and scales that do not fit each other") {
  packed_product one;
  tensor<std::uint8_t> y(3, 4, layouts[1]);
  using stage = requantize<std::uint8_t>;
  for (const auto& bad : wrong_views(one.a)) {
    check_refused(y, words{"gemm", "a"} + bad.expected, [&] { gemm(bad.argument, one.w, stage{one.scale}, y.view()); });
  }
  for (const index_t k : {0, 5, 7}) {
    check_refused(y, words{"gemm", "columns of w"} + sizes(6, k),
                  [&] { gemm(matrix_view(one.a.data, 3, k, 7), one.w, stage{one.scale}, y.view()); });
  }
  check_refused(y, words{"gemm", "columns of w"} + sizes(5, 6),
                [&] { gemm(one.a, one.w.prefix(4, 5), stage{one.scale}, y.view()); });
  check_refused(y, words{"gemm", "scale.multiplier"} + sizes(4, 3),
                [&] { gemm(one.a, one.w.prefix(3, 6), stage{one.scale}, y.view()); });
  for (const auto& bad : wrong_scales(one.scale)) {
    check_refused(y, words{"gemm"} + bad.expected, [&] { gemm(one.a, one.w, stage{bad.argument}, y.view()); });
  }
  for (const auto& bad : wrong_scales(tensor_scale{1 << 28, 1, 0, 0})) {
    using tensor_stage = requantize<std::uint8_t, tensor_scale>;
    check_refused(y, words{"gemm"} + bad.expected, [&] { gemm(one.a, one.w, tensor_stage{bad.argument}, y.view()); });
  }
  for (const auto& bad : wrong_shapes(y.view())) {
    check_refused(y, words{"gemm", "y"} + bad.expected, [&] { gemm(one.a, one.w, stage{one.scale}, bad.argument); });
  }
  check_accepted(y, [&] { gemm(one.a, one.w, stage{one.scale}, y.view()); });
}

TEST_CASE("rotate: refuses views that describe no memory, and tables and outputs of another shape") {
  generator random(46);
  tensor<std::uint8_t> x(4, 12), y(4, 12, layouts[1]);
  tensor<std::int16_t> cosine(4, 3), sine(4, 3);
  fill(x.view(), values::random, 0, 255, random);
  fill(cosine.view(), values::random, -16384, 16384, random);
  fill(sine.view(), values::random, -16384, 16384, random);
  const quantized_matrix from{x.view(), 30};
  const rotation_parameters angles{cosine.view(), sine.view()};
  for (const auto& bad : wrong_views(x.view())) {
    check_refused(y, words{"rotate", "x"} + bad.expected, [&] { rotate({bad.argument, 30}, angles, y.view()); });
  }
  for (const auto& bad : wrong_views(cosine.view())) {
    check_refused(y, words{"rotate", "cosine"} + bad.expected, [&] {
      rotate(from, {bad.argument, sine.view()}, y.view());
    });
  }
  for (const auto& bad : wrong_shapes(sine.view())) {
    check_refused(y, words{"rotate", "sine"} + bad.expected, [&] {
      rotate(from, {cosine.view(), bad.argument}, y.view());
    });
  }
  for (const auto& bad : wrong_shapes(y.view())) {
    check_refused(y, words{"rotate", "y"} + bad.expected, [&] { rotate(from, angles, bad.argument); });
  }
  check_accepted(y, [&] { rotate(from, angles, y.view()); });
}

TEST_CASE("gemm: refuses a stream that its stages cannot add to") {
  packed_product one;
  tensor<std::int16_t> addend(3, 4), y(3, 4, layouts[1]);
  fill(addend.view(), values::random, -100, 100, one.random);
  for (const auto& bad : wrong_shapes(addend.view())) {
    check_refused(y, words{"gemm", "addend of the stage"} + bad.expected, [&] {
      gemm(one.a, one.w, add_to_stream{one.scale, bad.argument}, y.view());
    });
  }
  check_accepted(y, [&] { gemm(one.a, one.w, add_to_stream{one.scale, addend.view()}, y.view()); });

  tensor<std::uint8_t> stream(3, 4), sum(3, 4, layouts[1]);
  fill(stream.view(), values::random, 0, 255, one.random);
  const std::vector<std::int32_t> multiplier(4, 1 << 20), offset(4, 0);
  const add_parameters good{multiplier, multiplier, offset, 100, 200, 20};
  const auto call = [&](const add_parameters& addition, matrix_view<const std::uint8_t> to) {
    gemm(one.a, one.w, requantize_add{one.scale, addition, to}, sum.view());
  };
  for (const auto& bad : wrong_shapes(stream.view())) {
    check_refused(sum, words{"gemm", "stream of the stage"} + bad.expected, [&] { call(good, bad.argument); });
  }
  for (const auto& bad : wrong_values(0, 255)) {
    add_parameters wrong_stream = good, wrong_branch = good;
    wrong_stream.stream_zero_point = wrong_branch.branch_zero_point = bad.argument;
    check_refused(sum, words{"gemm", "stream_zero_point"} + bad.expected, [&] { call(wrong_stream, stream.view()); });
    check_refused(sum, words{"gemm", "branch_zero_point"} + bad.expected, [&] { call(wrong_branch, stream.view()); });
  }
  for (const auto& bad : wrong_values(17, 24)) {
    add_parameters wrong_shift = good;
    wrong_shift.shift = bad.argument;
    check_refused(sum, words{"gemm", "shift"} + bad.expected, [&] { call(wrong_shift, stream.view()); });
  }
  const auto three = std::span(multiplier).first(3);
  check_refused(sum, words{"gemm", "size of stream_multiplier"} + sizes(3, 4), [&] {
    call({three, multiplier, offset, 100, 200, 20}, stream.view());
  });
  check_refused(sum, words{"gemm", "size of branch_multiplier"} + sizes(3, 4), [&] {
    call({multiplier, three, offset, 100, 200, 20}, stream.view());
  });
  check_refused(sum, words{"gemm", "size of offset"} + sizes(3, 4), [&] {
    call({multiplier, multiplier, three, 100, 200, 20}, stream.view());
  });
  check_accepted(sum, [&] { call(good, stream.view()); });
}

TEST_CASE("gemm: refuses tables and scales of rows that do not fit") {
  packed_product one;
  tensor<std::uint8_t> y(3, 4, layouts[1]);
  const std::vector<std::uint8_t> table(4097, 7);
  for (const std::size_t size : {0u, 4095u, 4097u}) {
    check_refused(y, words{"gemm", "size of table"} + sizes(static_cast<index_t>(size), 4096), [&] {
      gemm(one.a, one.w, requantize_lut{one.scale, std::span(table).first(size)}, y.view());
    });
  }
  check_accepted(y, [&] { gemm(one.a, one.w, requantize_lut{one.scale, std::span(table).first(4096)}, y.view()); });

  using stage = requantize_per_row<std::uint8_t>;
  const std::vector<tensor_scale> rows(4, tensor_scale{1 << 28, std::int64_t{9} << 32, 0, 0});
  for (const std::size_t size : {0u, 2u, 4u}) {
    check_refused(y, words{"gemm", "size of rows"} + sizes(static_cast<index_t>(size), 3),
                  [&] { gemm(one.a, one.w, stage{std::span(rows).first(size)}, y.view()); });
  }
  for (const auto& bad : wrong_scales(rows[0])) {
    std::vector<tensor_scale> wrong_rows(rows.begin(), rows.begin() + 3);
    wrong_rows[2] = bad.argument;
    check_refused(y, words{"gemm"} + bad.expected, [&] { gemm(one.a, one.w, stage{wrong_rows}, y.view()); });
  }
  check_accepted(y, [&] { gemm(one.a, one.w, stage{std::span(rows).first(3)}, y.view()); });
}

/// K at its limit is accepted, K one above refused; without rows nothing needs memory.
template <class A, class Element>
void check_packed_depth_limit(index_t limit) {
  const auto call = [](index_t k) {
    packed_weights<Element> w;
    w.columns = w.packed_columns = k;
    gemm(matrix_view<const A>(nullptr, 0, k), w, raw_accumulator{}, matrix_view<std::int32_t>());
  };
  CHECK(refusal([&] { call(limit); }) == "");
  check_message(words{"gemm", "columns of a"} + sizes(limit + 1, limit), [&] { call(limit + 1); });
}

TEST_CASE("gemm: refuses sums that int32 might not hold") {
  check_packed_depth_limit<std::uint8_t, std::int8_t>(65793);
  check_packed_depth_limit<std::int8_t, std::int8_t>(131071);
  check_packed_depth_limit<std::uint8_t, s4>(1052688);
  check_packed_depth_limit<std::int8_t, s4>(2097151);
  check_packed_depth_limit<std::uint8_t, grouped_s4>(131586);
  check_packed_depth_limit<std::int8_t, grouped_s4>(262143);
}

/// A product of two activations with everything that a call of it needs.
struct activation_call {
  quantized_batch a, b;
  tensor_scale scale;
  matrix_batch<std::uint8_t> y;
  std::size_t bytes;
};

TEST_CASE("gemm: refuses arguments before anything is written to y or the workspace [two activations]") {
  generator random(45);
  parameter_memory memory;
  tensor<std::uint8_t> y(6, 4, layouts[1]);
  const std::size_t bytes = gemm_workspace_bytes(3, 4, 6);
  tensor<std::uint8_t> scratch(1, static_cast<index_t>(bytes));
  const activation_call good{{{memory.matrix<std::uint8_t>(3, 6, 0, 255, random), 2, 0}, 128},
                             {{memory.matrix<std::uint8_t>(8, 6, 0, 255, random).row_block(0, 4), 2, 24}, 128},
                             {1 << 28, 1, 0, 0},
                             {y.view().row_block(0, 3), 2, 3 * y.view().stride},
                             bytes};
  const auto run = [&](const activation_call& call) {
    gemm(call.a, call.b, requantize<std::uint8_t, tensor_scale>{call.scale}, call.y,
         workspace(scratch.view().data, call.bytes));
  };
  const auto check = [&](const words& expected, const std::function<void(activation_call&)>& change) {
    activation_call call = good;
    change(call);
    check_refused(y, words{"gemm"} + expected, [&] { run(call); });
  };
  for (const auto& bad : wrong_views(good.a.codes.first)) {
    check(words{"a"} + bad.expected, [&](activation_call& call) { call.a.codes.first = bad.argument; });
  }
  for (const auto& bad : wrong_views(good.b.codes.first)) {
    check(words{"b"} + bad.expected, [&](activation_call& call) { call.b.codes.first = bad.argument; });
  }
  check({"b", "4 x 5", "4 x 6"}, [](activation_call& call) { call.b.codes.first.columns = 5; });
  for (const auto& bad : wrong_values(0, 255)) {
    check(words{"zero point of a"} + bad.expected, [&](activation_call& call) { call.a.zero_point = bad.argument; });
    check(words{"zero point of b"} + bad.expected, [&](activation_call& call) { call.b.zero_point = bad.argument; });
  }
  for (const auto& bad : wrong_scales(good.scale)) {
    check(bad.expected, [&](activation_call& call) { call.scale = bad.argument; });
  }
  for (const auto& bad : wrong_shapes(good.y.first)) {
    check(words{"y"} + bad.expected, [&](activation_call& call) { call.y.first = bad.argument; });
  }
  check({"matrices of a", "-1", "0"}, [](activation_call& call) { call.a.codes.count = -1; });
  check({"matrices of b", "1", "2"}, [](activation_call& call) { call.b.codes.count = 1; });
  check({"matrices of y", "3", "2"}, [](activation_call& call) { call.y.count = 3; });
  for (const std::size_t given : {std::size_t{0}, bytes - 1}) {
    check({"workspace", std::to_string(given), std::to_string(bytes)},
          [&](activation_call& call) { call.bytes = given; });
  }
  CHECK(scratch.memory() == tensor<std::uint8_t>(1, static_cast<index_t>(bytes)).memory());
  check_accepted(y, [&] { run(good); });
}

TEST_CASE("gemm: refuses sums that int32 might not hold [two activations]") {
  std::vector<std::byte> scratch(gemm_workspace_bytes(0, 0, 33025));
  const auto call = [&](index_t k) {
    const quantized_matrix codes{{nullptr, 0, k}, 0};
    gemm(codes, codes, raw_accumulator{}, matrix_view<std::int32_t>(), workspace(scratch.data(), scratch.size()));
  };
  CHECK(refusal([&] { call(33025); }) == "");
  check_message({"gemm", "columns of a", "33026", "33025"}, [&] { call(33026); });
}

TEST_CASE("add: refuses matrices and scales that do not fit each other") {
  generator random(46);
  parameter_memory memory;
  const matrix_view<const std::uint8_t> stream = memory.matrix<std::uint8_t>(3, 5, 0, 255, random);
  const matrix_view<const std::uint8_t> branch = memory.matrix<std::uint8_t>(3, 5, 0, 255, random);
  const add_parameters scale = random_add(memory, 5, random);
  tensor<std::uint8_t> y(3, 5, layouts[1]);
  for (const auto& bad : wrong_views(stream)) {
    check_refused(y, words{"add", "stream"} + bad.expected, [&] { add(bad.argument, branch, scale, y.view()); });
  }
  for (const auto& bad : wrong_shapes(branch)) {
    check_refused(y, words{"add", "branch"} + bad.expected, [&] { add(stream, bad.argument, scale, y.view()); });
  }
  for (const auto& bad : wrong_shapes(y.view())) {
    check_refused(y, words{"add", "y"} + bad.expected, [&] { add(stream, branch, scale, bad.argument); });
  }
  for (const auto& bad : wrong_scales(scale)) {
    check_refused(y, words{"add"} + bad.expected, [&] { add(stream, branch, bad.argument, y.view()); });
  }
  check_accepted(y, [&] { add(stream, branch, scale, y.view()); });
}

template <class Code>
void check_activation_refusals(index_t entries) {
  generator random(47);
  parameter_memory memory;
  const matrix_view<const Code> codes = memory.matrix<Code>(3, 5, 0, 255, random);
  const std::span<const std::uint8_t> table =
      memory.array<std::uint8_t>(entries + 1, [](index_t k) { return k % 251; });
  const auto good = table.first(static_cast<std::size_t>(entries));
  tensor<std::uint8_t> y(3, 5, layouts[1]);
  for (const index_t size : {index_t{0}, entries - 1, entries + 1}) {
    check_refused(y, words{"activation", "size of table"} + sizes(size, entries),
                  [&] { activation(codes, table.first(static_cast<std::size_t>(size)), y.view()); });
  }
  for (const auto& bad : wrong_views(codes)) {
    check_refused(y, words{"activation", "codes"} + bad.expected, [&] { activation(bad.argument, good, y.view()); });
  }
  for (const auto& bad : wrong_shapes(y.view())) {
    check_refused(y, words{"activation", "y"} + bad.expected, [&] { activation(codes, good, bad.argument); });
  }
  check_accepted(y, [&] { activation(codes, good, y.view()); });
}

TEST_CASE("activation: refuses tables and matrices that do not fit") {
  check_activation_refusals<std::uint8_t>(256);
  check_activation_refusals<std::uint16_t>(4096);
}

TEST_CASE("im2col: refuses images that are not whole patches") {
  generator random(48);
  parameter_memory memory;
  const std::uint8_t* const pixels = memory.matrix<std::uint8_t>(1, 3 * 4 * 6, 0, 255, random).data;
  const image_view image = planar_image(pixels, 3, 4, 6);
  tensor<std::uint8_t> y(6, 12, layouts[1]);
  const auto change = [&](index_t image_view::*size, index_t value) {
    image_view changed = image;
    changed.*size = value;
    return changed;
  };
  for (const index_t patch : {index_t{0}, index_t{-2}}) {
    check_refused(y, words{"im2col", "patch height"} + sizes(patch, 1), [&] { im2col(image, {patch, 2}, y.view()); });
    check_refused(y, words{"im2col", "patch width"} + sizes(patch, 1), [&] { im2col(image, {2, patch}, y.view()); });
  }
  check_refused(y, {"im2col", "channels", "-1", "0"}, [&] { im2col(change(&image_view::channels, -1), 2, y.view()); });
  check_refused(y, {"im2col", "height", "-2", "0"}, [&] { im2col(change(&image_view::height, -2), 2, y.view()); });
  check_refused(y, {"im2col", "width", "-2", "0"}, [&] { im2col(change(&image_view::width, -2), 2, y.view()); });
  check_refused(y, {"im2col", "height % patch height", "1", "0"},
                [&] { im2col(change(&image_view::height, 3), 2, y.view()); });
  check_refused(y, {"im2col", "width % patch width", "1", "0"},
                [&] { im2col(change(&image_view::width, 5), 2, y.view()); });
  check_refused(y, {"im2col", "height % patch height", "4", "0"}, [&] { im2col(image, 6, y.view()); });
  check_refused(y, {"im2col", "y", "6 x 12", "4 x 12"}, [&] { im2col(change(&image_view::width, 4), 2, y.view()); });
  for (const auto& bad : wrong_shapes(y.view())) {
    check_refused(y, words{"im2col", "y"} + bad.expected, [&] { im2col(image, 2, bad.argument); });
  }
  image_view without_data = image;
  without_data.data = nullptr;
  check_refused(y, {"im2col", "image", "no data"}, [&] { im2col(without_data, 2, y.view()); });
  check_accepted(y, [&] { im2col(image, 2, y.view()); });
}

TEST_CASE("layernorm: refuses parameters and matrices that do not fit") {
  generator random(49);
  parameter_memory memory;
  const matrix_view<const std::uint8_t> x = memory.matrix<std::uint8_t>(3, 5, 0, 255, random);
  const layernorm_parameters p = random_layernorm(memory, 5, random);
  tensor<std::uint8_t> y(3, 5, layouts[1]);
  for (const auto& bad : wrong_views(x)) {
    check_refused(y, words{"layernorm", "x"} + bad.expected, [&] { layernorm(bad.argument, p, y.view()); });
  }
  for (const auto& bad : wrong_shapes(y.view())) {
    check_refused(y, words{"layernorm", "y"} + bad.expected, [&] { layernorm(x, p, bad.argument); });
  }
  for (const auto& bad : wrong_layernorms(p, memory)) {
    check_refused(y, words{"layernorm"} + bad.expected, [&] { layernorm(x, bad.argument, y.view()); });
  }
  check_accepted(y, [&] { layernorm(x, p, y.view()); });

  constexpr index_t most = 524288;
  const auto without_rows = [&](index_t channels) {
    const layernorm_parameters wide = random_layernorm(memory, channels, random);
    return refusal([&] {
      layernorm(matrix_view<const std::uint8_t>(nullptr, 0, channels), wide, {nullptr, 0, channels});
    });
  };
  CHECK(without_rows(most) == "");
  check_message({"layernorm", "number of normalized channels", "524289", "524288"},
                [&] { throw std::invalid_argument(without_rows(most + 1)); });
}

template <attention_code Format, class T>
void check_table_refusals() {
  generator random(50);
  parameter_memory memory;
  const matrix_view<const std::uint8_t> logits = memory.matrix<std::uint8_t>(3, 6, 0, 255, random);
  tensor<std::uint8_t> bytes(3, 6, layouts[1]);
  typename attention_codes<Format>::view codes;
  codes.data = bytes.view().data;
  codes.rows = 3;
  codes.columns = 6;
  codes.stride = 8;
  std::vector<T> values(256, 7);
  const auto call = [&] { log_softmax<isa::native, Format>(logits, exp_table<T>(values), codes); };

  for (const index_t size : {index_t{0}, index_t{255}, index_t{257}}) {
    values.assign(static_cast<std::size_t>(size), 7);
    check_refused(bytes, words{"log_softmax", "size of the exponential table"} + sizes(size, 256), call);
  }
  values.assign(256, 7);
  const T limit = std::numeric_limits<T>::max() / 13;  // 2 * 6 + 1
  values[0] = limit + 1;
  check_refused(bytes, {"log_softmax", "exponential of 0", std::to_string(limit + 1), "1.." + std::to_string(limit)},
                call);
  values.assign(256, 0);
  check_refused(bytes, {"log_softmax", "exponential of 0", "0", "1.." + std::to_string(limit)}, call);
  for (const std::size_t d : {std::size_t{1}, std::size_t{128}, std::size_t{255}}) {
    values.assign(256, 7);
    values[d] = 8;
    check_refused(bytes,
                  {"log_softmax", "exponential of " + std::to_string(d), "8", "that of " + std::to_string(d - 1), "7",
                   "must not increase"},
                  call);
  }
  values.assign(256, limit);
  check_accepted(bytes, call);
}

TEMPLATE_TEST_CASE("log_softmax: refuses tables that rows cannot be summed with", "", std::uint32_t, std::uint64_t) {
  check_table_refusals<attention_code::u8_masked, TestType>();
  check_table_refusals<attention_code::u4_clipped, TestType>();
  check_table_refusals<attention_code::u8_full, TestType>();
}

/// Without rows nothing needs memory: the largest entry that a table for so many keys may have.
template <class T>
void check_table_limit(index_t keys, T limit) {
  std::vector<T> values(256, limit);
  const auto call = [&] {
    log_softmax<isa::native, attention_code::u8_masked>({nullptr, 0, keys}, exp_table<T>(values), {nullptr, 0, keys});
  };
  CAPTURE(keys);
  CHECK(refusal(call) == "");
  values[0] = limit + 1;
  check_message({"log_softmax", std::to_string(limit + 1), "1.." + std::to_string(limit)}, call);
}

TEST_CASE("exp_table_limit: is the last with which 2 * sum + e and 6 * e fit") {
  check_table_limit<std::uint32_t>(0, 715827882);  // (2^32 - 1) / 6
  check_table_limit<std::uint32_t>(2, 715827882);
  check_table_limit<std::uint32_t>(3, 613566756);  // (2^32 - 1) / 7
  check_table_limit<std::uint32_t>(197, 10873334);
  check_table_limit<std::uint64_t>(2, 3074457345618258602);
  check_table_limit<std::uint64_t>(197, 46700617908125447);
  check_table_limit<std::uint32_t>(index_t{1} << 28, 7);
}

template <attention_code Format>
void check_log_softmax_views() {
  generator random(51);
  parameter_memory memory;
  const matrix_view<const std::uint8_t> logits = memory.matrix<std::uint8_t>(3, 6, 0, 255, random);
  const std::vector<std::uint64_t> values(256, 7);
  const exp_table<std::uint64_t> table(values);
  tensor<std::uint8_t> bytes(3, 6, layouts[1]);
  typename attention_codes<Format>::view codes;
  codes.data = bytes.view().data;
  codes.rows = 3;
  codes.columns = 6;
  codes.stride = 8;
  for (const auto& bad : wrong_views(logits)) {
    check_refused(bytes, words{"log_softmax", "logits"} + bad.expected,
                  [&] { log_softmax<isa::native, Format>(bad.argument, table, codes); });
  }
  for (const auto& bad : wrong_shapes(codes)) {
    check_refused(bytes, words{"log_softmax", "codes"} + bad.expected,
                  [&] { log_softmax<isa::native, Format>(logits, table, bad.argument); });
  }
  if constexpr (Format == attention_code::u4_clipped) {
    codes.stride = 7;
    check_refused(bytes, {"log_softmax", "codes", "stride 7", "even"},
                  [&] { log_softmax<isa::native, Format>(logits, table, codes); });
    codes.stride = 8;
  }
  check_accepted(bytes, [&] { log_softmax<isa::native, Format>(logits, table, codes); });
}

TEST_CASE("log_softmax: refuses matrices that do not fit each other") {
  check_log_softmax_views<attention_code::u8_masked>();
  check_log_softmax_views<attention_code::u4_clipped>();
  check_log_softmax_views<attention_code::u8_full>();
  const std::vector<std::uint64_t> values(256, 7);
  check_message({"log_softmax", "number of keys", "268435457", "268435456"}, [&] {
    log_softmax<isa::native, attention_code::u8_masked>({nullptr, 0, 268435457}, exp_table<std::uint64_t>(values),
                                                        {nullptr, 0, 268435457});
  });
}

template <attention_code Format, class Stage>
void check_shift_matmul() {
  generator random(52);
  parameter_memory memory;
  tensor<std::uint8_t> bytes(3, 6);
  fill(bytes.view(), values::random, 0, 15, random);
  typename attention_codes<Format>::const_view codes;
  codes.data = bytes.view().data;
  codes.rows = 3;
  codes.columns = 6;
  codes.stride = 6;
  const quantized_matrix v{memory.matrix<std::uint8_t>(6, 5, 0, 255, random), 128};
  const Stage stage{{1 << 30, std::int64_t{257} << 44, 13, 0}};
  tensor<std::uint8_t> y(3, 5, layouts[1]);
  std::vector<std::byte> scratch(shift_matmul_workspace_bytes(6, 5));
  const auto multiply = [&](const typename attention_codes<Format>::const_view& of, const quantized_matrix& values,
                            const Stage& with, matrix_view<std::uint8_t> to) {
    shift_matmul<isa::native, Format>(of, values, with, to, workspace(scratch.data(), scratch.size()));
  };
  for (const auto& bad : wrong_views(v.codes)) {
    check_refused(y, words{"shift_matmul", "v"} + bad.expected, [&] {
      multiply(codes, {bad.argument, 128}, stage, y.view());
    });
  }
  for (const auto& bad : wrong_values(0, 255)) {
    check_refused(y, words{"shift_matmul", "zero point of v"} + bad.expected, [&] {
      multiply(codes, {v.codes, bad.argument}, stage, y.view());
    });
  }
  for (const auto& bad : wrong_views(codes)) {
    check_refused(y, words{"shift_matmul", "codes"} + bad.expected,
                  [&] { multiply(bad.argument, v, stage, y.view()); });
  }
  check_refused(y, {"shift_matmul", "codes", "3 x 6", "3 x 5"}, [&] {
    multiply(codes, {v.codes.row_block(0, 5), 128}, stage, y.view());
  });
  if constexpr (Format == attention_code::u4_clipped) {
    codes.stride = 7;
    check_refused(y, {"shift_matmul", "codes", "stride 7", "even"}, [&] { multiply(codes, v, stage, y.view()); });
    codes.stride = 6;
  }
  for (const auto& bad : wrong_scales(stage.scale)) {
    check_refused(y, words{"shift_matmul"} + bad.expected, [&] { multiply(codes, v, Stage{bad.argument}, y.view()); });
  }
  if constexpr (Format == attention_code::u8_full) {
    tensor_scale prescaled = stage.scale;
    prescaled.left_shift = 1;
    check_refused(y, {"shift_matmul", "scale.left_shift", "1", "0"},
                  [&] { multiply(codes, v, Stage{prescaled}, y.view()); });
  }
  for (const auto& bad : wrong_shapes(y.view())) {
    check_refused(y, words{"shift_matmul", "y"} + bad.expected, [&] { multiply(codes, v, stage, bad.argument); });
  }
  check_accepted(y, [&] { multiply(codes, v, stage, y.view()); });

  const auto with_keys = [&](index_t keys) {
    typename attention_codes<Format>::const_view none;
    none.columns = keys;
    none.stride = keys + keys % 2;
    std::vector<std::byte> bytes_for_keys(shift_matmul_workspace_bytes(keys, 0));
    shift_matmul<isa::native, Format>(none, {{nullptr, keys, 0}, 0}, stage, matrix_view<std::uint8_t>(),
                                      workspace(bytes_for_keys.data(), bytes_for_keys.size()));
  };
  CHECK(refusal([&] { with_keys(82000); }) == "");
  check_message({"shift_matmul", "rows of v", "82001", "82000"}, [&] { with_keys(82001); });
}

TEST_CASE("shift_matmul: refuses codes, values and stages that do not fit each other") {
  check_shift_matmul<attention_code::u8_masked, requantize<std::uint8_t, tensor_scale>>();
  check_shift_matmul<attention_code::u4_clipped, requantize<std::uint8_t, tensor_scale>>();
  check_shift_matmul<attention_code::u8_full, requantize_s64<std::uint8_t>>();
}

TEST_CASE("workspace: a refusal names the available and the needed bytes") {
  alignas(64) std::byte memory[100];
  workspace left(memory, 100);
  check_message({"workspace", "100", "101"}, [&] { left.take<std::uint8_t>(101); });
  check_message({"test", "workspace", "100", "101"}, [&] { require_workspace("test", left, 101); });
  CHECK(refusal([&] { require_workspace("test", left, 100); }) == "");
}

/// A block with everything that a call of it needs; copies share the parameters' arrays.
struct block_call {
  block_shape shape;
  block_parameters parameters;
};

/// Something to break about a call, and what the message must say.
using broken_block = wrong<std::function<void(block_call&)>>;

/// Packed weights of another shape.
std::vector<wrong<any_packed_weights>> wrong_weights(const any_packed_weights& good) {
  const auto& weights = std::get<packed_weights<std::int8_t>>(good);
  std::vector<wrong<any_packed_weights>> all;
  for (const index_t step : {-1, 1}) {
    packed_weights<std::int8_t> other_rows = weights, other_columns = weights;
    other_rows.rows += step;
    other_columns.columns += step;
    all.push_back({other_rows, words{"rows of weights"} + sizes(other_rows.rows, weights.rows)});
    all.push_back({other_columns, words{"columns of weights"} + sizes(other_columns.columns, weights.columns)});
  }
  return all;
}

void break_linear(std::vector<broken_block>& all, const std::string& operation,
                  const std::function<linear_parameters&(block_call&)>& layer, const linear_parameters& good) {
  for (const auto& bad : wrong_weights(good.weights)) {
    all.push_back({[=](block_call& call) { layer(call).weights = bad.argument; }, words{operation} + bad.expected});
  }
  for (const auto& bad : wrong_scales(good.scale)) {
    all.push_back({[=](block_call& call) { layer(call).scale = bad.argument; }, words{operation} + bad.expected});
  }
}

void break_norms_and_adds(std::vector<broken_block>& all, const block_parameters& good, parameter_memory& memory) {
  for (const auto& bad : wrong_layernorms(good.norm1, memory)) {
    all.push_back(
        {[=](block_call& call) { call.parameters.norm1 = bad.argument; }, words{"block: norm1"} + bad.expected});
    all.push_back(
        {[=](block_call& call) { call.parameters.norm2 = bad.argument; }, words{"block: norm2"} + bad.expected});
  }
  for (const auto& bad : wrong_scales(good.add1)) {
    all.push_back(
        {[=](block_call& call) { call.parameters.add1 = bad.argument; }, words{"block: add1"} + bad.expected});
    all.push_back(
        {[=](block_call& call) { call.parameters.add2 = bad.argument; }, words{"block: add2"} + bad.expected});
  }
}

exp_table<std::uint64_t>& exponential_of(softmax_parameters& p) {
  return std::get<log2_of_sum>(p.weights).exponential;
}

void break_attention(std::vector<broken_block>& all, const block_parameters& good, parameter_memory& memory) {
  const attention_parameters& p = good.attention;
  break_linear(
      all, "attention: qkv", [](block_call& call) -> linear_parameters& { return call.parameters.attention.qkv; },
      p.qkv);
  break_linear(
      all, "attention: proj", [](block_call& call) -> linear_parameters& { return call.parameters.attention.proj; },
      p.proj);
  for (const auto& bad : wrong_values(0, 255)) {
    all.push_back({[=](block_call& call) { call.parameters.attention.zero_points.q = bad.argument; },
                   words{"attention", "zero point of q"} + bad.expected});
    all.push_back({[=](block_call& call) { call.parameters.attention.zero_points.k = bad.argument; },
                   words{"attention", "zero point of k"} + bad.expected});
    all.push_back({[=](block_call& call) { call.parameters.attention.zero_points.v = bad.argument; },
                   words{"attention", "zero point of v"} + bad.expected});
  }
  for (const auto& bad : wrong_scales(p.logits)) {
    all.push_back({[=](block_call& call) { call.parameters.attention.logits = bad.argument; },
                   words{"attention: logits"} + bad.expected});
    all.push_back({[=](block_call& call) { call.parameters.attention.softmax.context = bad.argument; },
                   words{"attention: context"} + bad.expected});
  }
  using table = exp_table<std::uint64_t>;
  const auto falling = [&](index_t size, std::uint64_t first, std::uint64_t last) -> table {
    return memory.array<std::uint64_t>(size, [&](index_t d) { return d == 0 ? first : d < 255 ? 5 : last; });
  };
  const std::string range = "1..1676976733973595601";  // (2^64 - 1) / (2 * 5 + 1)
  const std::vector<wrong<table>> wrong_tables = {
      {falling(0, 5, 5), {"size of the exponential table", "0", "256"}},
      {falling(257, 5, 5), {"size of the exponential table", "257", "256"}},
      {falling(256, 0, 0), {"exponential of 0", "0", range}},
      {falling(256, std::uint64_t{1} << 63, 0), {"exponential of 0", "9223372036854775808", range}},
      {falling(256, 9, 6), {"exponential of 255", "6", "254", "5"}}};
  for (const wrong<table>& bad : wrong_tables) {
    all.push_back({[=](block_call& call) { exponential_of(call.parameters.attention.softmax) = bad.argument; },
                   words{"attention"} + bad.expected});
  }
  all.push_back({[](block_call& call) {
                   std::get<log2_of_sum>(call.parameters.attention.softmax.weights).codes = attention_code::u8_full;
                   std::get<tensor_scale>(call.parameters.attention.softmax.context).left_shift = 1;
                 },
                 {"attention", "context.left_shift", "1", "0"}});
  all.push_back({[](block_call& call) { call.shape.attention.heads = 0; }, {"attention", "heads", "0", "1"}});
  all.push_back({[](block_call& call) { call.shape.attention.heads = 3; }, {"attention", "width % heads", "2", "0"}});
}

void break_mlp(std::vector<broken_block>& all, const block_parameters& good, parameter_memory& memory) {
  break_linear(
      all, "mlp: fc1", [](block_call& call) -> linear_parameters& { return call.parameters.mlp.fc1; }, good.mlp.fc1);
  break_linear(
      all, "mlp: fc2", [](block_call& call) -> linear_parameters& { return call.parameters.mlp.fc2; }, good.mlp.fc2);
  for (const index_t size : {index_t{0}, index_t{256}, index_t{4095}, index_t{4097}}) {
    const std::span<const std::uint8_t> table = memory.array<std::uint8_t>(size, [](index_t) { return 0; });
    all.push_back({[=](block_call& call) { call.parameters.mlp.table = table; },
                   words{"mlp", "size of table"} + sizes(size, 4096)});
  }
  all.push_back({[](block_call& call) { call.shape.hidden = 11; }, {"mlp: fc1", "rows of weights", "12", "11"}});
  all.push_back({[](block_call& call) { call.shape.hidden = -1; }, {"mlp: fc1", "rows of weights", "12", "-1"}});
}

void break_gate(std::vector<broken_block>& all, const block_parameters& good) {
  const auto gate_of = [](block_call& call) -> gate_parameters& {
    return std::get<gate_parameters>(call.parameters.mlp.gate);
  };
  const auto& gate = std::get<gate_parameters>(good.mlp.gate);
  break_linear(
      all, "mlp: up", [=](block_call& call) -> linear_parameters& { return gate_of(call).up; }, gate.up);
  for (const auto& bad : wrong_values(0, 255)) {
    all.push_back({[=](block_call& call) { gate_of(call).activation_zero_point = bad.argument; },
                   words{"mlp", "gate.activation_zero_point"} + bad.expected});
    all.push_back({[=](block_call& call) { gate_of(call).up_zero_point = bad.argument; },
                   words{"mlp", "gate.up_zero_point"} + bad.expected});
  }
  for (const auto& bad : wrong_scales(gate.product)) {
    all.push_back(
        {[=](block_call& call) { gate_of(call).product = bad.argument; }, words{"mlp: gate.product"} + bad.expected});
  }
  all.push_back({[](block_call& call) { call.parameters.mlp.gate = no_gate{}; },
                 {"mlp: the perceptron has no gate; the shape calls for one"}});
  all.push_back({[](block_call& call) { call.shape.gated = false; },
                 {"mlp: the perceptron has a gate; the shape calls for none"}});
}

void break_qk_norms(std::vector<broken_block>& all, const block_parameters& good, parameter_memory& memory) {
  const auto norms_of = [](block_call& call) -> qk_norm_parameters& {
    return std::get<qk_norm_parameters>(call.parameters.attention.norms);
  };
  for (const auto& bad : wrong_layernorms(std::get<qk_norm_parameters>(good.attention.norms).q, memory)) {
    all.push_back(
        {[=](block_call& call) { norms_of(call).q = bad.argument; }, words{"attention: q_norm"} + bad.expected});
    all.push_back(
        {[=](block_call& call) { norms_of(call).k = bad.argument; }, words{"attention: k_norm"} + bad.expected});
  }
  all.push_back({[](block_call& call) { call.parameters.attention.norms = no_qk_norms{}; },
                 {"attention: queries and keys have no norms; the shape calls for them"}});
  all.push_back({[](block_call& call) { call.shape.attention.qk_norm.reset(); },
                 {"attention: queries and keys have norms; the shape calls for none"}});
}

void break_rotation(std::vector<broken_block>& all, const block_parameters& good) {
  const auto tables_of = [](block_call& call) -> rotation_parameters& {
    return std::get<rotation_parameters>(call.parameters.attention.rotation);
  };
  for (const auto& bad : wrong_shapes(std::get<rotation_parameters>(good.attention.rotation).cosine)) {
    all.push_back({[=](block_call& call) { tables_of(call).cosine = bad.argument; },
                   words{"attention: rotation", "cosine"} + bad.expected});
    all.push_back({[=](block_call& call) { tables_of(call).sine = bad.argument; },
                   words{"attention: rotation", "sine"} + bad.expected});
  }
  for (const index_t prefix : {1, 3}) {  // the tables are for a prefix of 2
    all.push_back({[=](block_call& call) { call.shape.attention.rotary_prefix = prefix; },
                   {"attention: rotation: cosine is 3 x 2; it must be " + std::to_string(5 - prefix) + " x 2"}});
  }
  for (const auto& bad : wrong_values(0, 5)) {
    all.push_back({[=](block_call& call) { call.shape.attention.rotary_prefix = bad.argument; },
                   words{"attention", "rotary_prefix"} + bad.expected});
  }
  all.push_back({[](block_call& call) { call.parameters.attention.rotation = no_qk_rotation{}; },
                 {"attention: queries and keys have no rotary positions; the shape calls for them"}});
  all.push_back({[](block_call& call) { call.shape.attention.rotary_prefix.reset(); },
                 {"attention: queries and keys have rotary positions; the shape calls for none"}});
}

constexpr block_shape small_block = {{5, 8, 2}, 12};
constexpr block_shape gated_block = {.attention = {5, 8, 2}, .hidden = 12, .gated = true};
constexpr block_shape block_with_qk_norms = {.attention = {5, 8, 2, normalization::layernorm}, .hidden = 12};
constexpr block_shape rotary_block = {.attention = {.tokens = 5, .width = 8, .heads = 2, .rotary_prefix = 2},
                                      .hidden = 12};

TEST_CASE(
    "block: refuses every wrong parameter before anything is written [with a gate, with norms of queries and keys, "
    "with rotary positions, without]") {
  const block_shape shape = GENERATE(small_block, gated_block, block_with_qk_norms, rotary_block);
  generator random(53);
  parameter_memory memory;
  const block_call good{shape, random_block(memory, shape, attention_code::u8_masked, random)};
  std::vector<broken_block> all;
  break_norms_and_adds(all, good.parameters, memory);
  break_attention(all, good.parameters, memory);
  break_mlp(all, good.parameters, memory);
  if (shape.gated) {
    break_gate(all, good.parameters);
  }
  if (shape.attention.qk_norm) {
    break_qk_norms(all, good.parameters, memory);
  }
  if (shape.attention.rotary_prefix) {
    break_rotation(all, good.parameters);
  }
  CHECK(all.size() > 100);

  tensor<std::uint8_t> stream(5, 8, layouts[1]);
  fill(stream.view(), values::random, 0, 255, random);
  tensor<std::uint8_t> scratch(1, static_cast<index_t>(block_workspace_bytes(shape)));
  const auto run = [&](const block_call& call) {
    block(stream.view(), call.parameters, call.shape, workspace(scratch.view().data, scratch.memory().size()));
  };
  for (const broken_block& bad : all) {
    block_call call = good;
    bad.argument(call);
    const std::vector<std::uint8_t> before = scratch.memory();
    check_refused(stream, bad.expected, [&] { run(call); });
    CHECK(scratch.memory() == before);
  }
  check_accepted(stream, [&] { run(good); });
}

TEST_CASE("block: refuses rotary positions of heads with an odd number of channels") {
  generator random(55);
  parameter_memory memory;
  const block_shape shape = {.attention = {.tokens = 5, .width = 9, .heads = 3, .rotary_prefix = 2}, .hidden = 12};
  const block_parameters p = random_block(memory, shape, attention_code::u8_masked, random);
  tensor<std::uint8_t> stream(5, 9);
  std::vector<std::byte> scratch(block_workspace_bytes(shape));
  check_refused(stream, {"attention: head size % 2 with rotary positions is 1; it must be equal to 0"},
                [&] { block(stream.view(), p, shape, workspace(scratch.data(), scratch.size())); });
}

TEST_CASE("block: refuses a stream that does not fit and a workspace that is too small") {
  generator random(54);
  parameter_memory memory;
  const block_parameters p = random_block(memory, small_block, attention_code::u4_clipped, random);
  const std::size_t bytes = block_workspace_bytes(small_block);
  tensor<std::uint8_t> stream(5, 8, layouts[1]);
  tensor<std::uint8_t> scratch(1, static_cast<index_t>(bytes));
  const auto run = [&](matrix_view<std::uint8_t> x, std::size_t given) {
    block(x, p, small_block, workspace(scratch.view().data, given));
  };
  for (const auto& bad : wrong_views(stream.view())) {
    check_refused(stream, words{"block", "stream"} + bad.expected, [&] { run(bad.argument, bytes); });
  }
  const auto check_shape = [&](index_t rows, index_t columns, const words& expected) {
    const matrix_view<std::uint8_t> other(stream.view().data, rows, columns, stream.view().stride);
    check_refused(stream, words{"block", "stream"} + expected, [&] { run(other, bytes); });
  };
  check_shape(4, 8, {"4 x 8", "0 x 8"});  // an image has five rows
  check_shape(6, 8, {"6 x 8", "5 x 8"});
  check_shape(5, 7, {"5 x 7", "5 x 8"});
  check_shape(5, 9, {"5 x 9", "5 x 8"});
  for (const std::size_t given : {std::size_t{0}, bytes - 1}) {
    check_refused(stream, {"block", "workspace", std::to_string(given), std::to_string(bytes)},
                  [&] { run(stream.view(), given); });
  }
  CHECK(scratch.memory() == tensor<std::uint8_t>(1, static_cast<index_t>(bytes)).memory());
  check_accepted(stream, [&] { run(stream.view(), bytes); });
}

TEST_CASE("block: refuses sizes whose sums would not fit") {
  generator random(55);
  parameter_memory memory;
  const auto run = [&](const block_shape& shape, const block_parameters& p) {
    tensor<std::uint8_t> stream(shape.attention.tokens, shape.attention.width);
    block(stream.view(), p, shape, workspace(nullptr, 0));
  };
  const block_parameters p = random_block(memory, small_block, attention_code::u8_masked, random);
  check_message({"attention", "tokens", "82001", "82000"}, [&] { run({{82001, 8, 2}, 12}, p); });
  const block_shape deep = {{0, 8, 2}, 65794};
  check_message({"mlp: fc2", "columns of weights", "65794", "65793"},
                [&] { run(deep, random_block(memory, deep, attention_code::u8_masked, random)); });
  block_parameters wide = p;
  wide.norm1 = random_layernorm(memory, 33026, random);
  check_message({"attention", "head size", "33026", "33025"}, [&] { run({{0, 33026, 1}, 12}, wide); });
}

/// The same weights as if they were of another kind.
template <class Element>
any_packed_weights relabelled(const any_packed_weights& weights) {
  const auto& s8 = std::get<packed_weights<std::int8_t>>(weights);
  return packed_weights<Element>{s8.data, s8.sums, s8.rows, s8.columns, s8.packed_rows, s8.packed_columns, 8};
}

TEST_CASE("block: refuses weights of a kind that it is not compiled for before anything is written") {
  generator random(59);
  parameter_memory memory;
  const block_parameters good = random_block(memory, small_block, attention_code::u8_masked, random);
  tensor<std::uint8_t> stream(5, 8, layouts[1]);
  fill(stream.view(), values::random, 0, 255, random);
  tensor<std::uint8_t> scratch(1, static_cast<index_t>(block_workspace_bytes(small_block)));
  const auto run = [&]<class... Elements>(weight_kinds<Elements...>, const block_parameters& p) {
    block<isa::native, weight_kinds<Elements...>>(stream.view(), p, small_block,
                                                  workspace(scratch.view().data, scratch.memory().size()));
  };
  struct named_layer {
    std::string name;
    linear_parameters& (*of)(block_parameters&);
  };
  const named_layer layers[] = {
      {"attention: qkv", [](block_parameters& p) -> linear_parameters& { return p.attention.qkv; }},
      {"attention: proj", [](block_parameters& p) -> linear_parameters& { return p.attention.proj; }},
      {"mlp: fc1", [](block_parameters& p) -> linear_parameters& { return p.mlp.fc1; }},
      {"mlp: fc2", [](block_parameters& p) -> linear_parameters& { return p.mlp.fc2; }}};
  const std::string other = "the call names other weight_kinds";
  for (const named_layer& layer : layers) {
    block_parameters p = good;
    any_packed_weights& weights = layer.of(p).weights;
    const any_packed_weights s8 = weights;
    weights = relabelled<s4>(s8);
    check_refused(stream, {"intact::" + layer.name + ": weights are s4; " + other},
                  [&] { run(weight_kinds<std::int8_t>{}, p); });
    weights = relabelled<grouped_s4>(s8);
    check_refused(stream, {"intact::" + layer.name + ": weights are s4 with group factors; " + other},
                  [&] { run(weight_kinds<std::int8_t>{}, p); });
  }
  check_refused(stream, {"intact::attention: qkv: weights are s8; " + other},
                [&] { run(weight_kinds<s4, grouped_s4>{}, good); });
  CHECK(scratch.memory() == tensor<std::uint8_t>(1, scratch.columns()).memory());
  check_accepted(stream, [&] { run(weight_kinds<std::int8_t>{}, good); });
}

struct attention_call {
  attention_operands operands;
  multihead_parameters parameters;
  matrix_view<std::uint8_t> y;
  std::size_t bytes;
};

TEST_CASE("attention: refuses every wrong argument before anything is written") {
  generator random(56);
  parameter_memory memory;
  tensor<std::uint8_t> y(5, 8, layouts[1]);
  const std::size_t bytes = attention_workspace_bytes(6, 2, 4, 1);
  tensor<std::uint8_t> scratch(1, static_cast<index_t>(bytes));
  const attention_parameters of_block = random_block(memory, small_block, attention_code::u8_masked, random).attention;
  const attention_call good{{{memory.matrix<std::uint8_t>(5, 8, 0, 255, random), 128},
                             {memory.matrix<std::uint8_t>(6, 8, 0, 255, random), 100},
                             {memory.matrix<std::uint8_t>(6, 8, 0, 255, random), 120}},
                            of_block.multihead(2),
                            y.view(),
                            bytes};
  const auto run = [&](const attention_call& call) {
    attention(call.operands, call.parameters, call.y, workspace(scratch.view().data, call.bytes));
  };
  const auto check = [&](const words& expected, const std::function<void(attention_call&)>& change) {
    attention_call call = good;
    change(call);
    check_refused(y, words{"attention"} + expected, [&] { run(call); });
  };
  const auto check_operand = [&](const std::string& name, quantized_matrix attention_operands::*operand,
                                 const auto& wrongs) {
    for (const auto& bad : wrongs) {
      check(words{name} + bad.expected, [&](attention_call& call) { (call.operands.*operand).codes = bad.argument; });
    }
    for (const auto& bad : wrong_values(0, 255)) {
      check(words{"zero point of " + name} + bad.expected,
            [&](attention_call& call) { (call.operands.*operand).zero_point = bad.argument; });
    }
  };
  std::vector<wrong<matrix_view<const std::uint8_t>>> wrong_queries = wrong_views(good.operands.q.codes);
  std::erase_if(wrong_queries, [](const auto& bad) { return bad.argument.columns < 0; });
  check_operand("q", &attention_operands::q, wrong_queries);
  check_operand("v", &attention_operands::v, wrong_shapes(good.operands.v.codes));
  check_operand("k", &attention_operands::k, wrong_views(good.operands.k.codes));
  check({"k", "6 x 7", "6 x 8"}, [](attention_call& call) { call.operands.k.codes.columns = 7; });
  check({"v", "6 x 8", "5 x 8"}, [](attention_call& call) { call.operands.k.codes.rows = 5; });
  for (const auto& bad : wrong_shapes(y.view())) {
    check(words{"y"} + bad.expected, [&](attention_call& call) { call.y = bad.argument; });
  }
  check({"heads", "0", "1"}, [](attention_call& call) { call.parameters.heads = 0; });
  check({"columns of q modulo heads", "2", "0"}, [](attention_call& call) { call.parameters.heads = 3; });
  for (const auto& bad : wrong_scales(good.parameters.logits)) {
    check(words{"attention: logits"} + bad.expected,
          [&](attention_call& call) { call.parameters.logits = bad.argument; });
  }
  check({"size of the exponential table", "255", "256"}, [](attention_call& call) {
    exponential_of(call.parameters.softmax) = exponential_of(call.parameters.softmax).first(255);
  });
  check({"relative to the maximum", "divisor"},
        [](attention_call& call) { call.parameters.softmax.weights = weights_of_max{}; });
  std::array<std::uint8_t, 256> codes{};
  std::array<std::uint8_t, 16> of_codes{};
  const auto with_codes = [&](attention_call& call) {
    call.parameters.softmax = {weight_codes_of_max{codes, of_codes}, row_divisor{1 << 28, 120}};
  };
  codes[255] = 16;
  check({"entry of the softmax table", "16", "15"}, with_codes);
  codes[255] = 15;
  of_codes[15] = 1;
  check({"weight of code 15", "1", "0"}, with_codes);
  of_codes[15] = 0;
  check({"number of weights of codes", "15", "16"}, [&](attention_call& call) {
    call.parameters.softmax = {weight_codes_of_max{codes, std::span(of_codes).first(15)}, row_divisor{1 << 28, 120}};
  });
  check({"size of the softmax table", "255", "256"}, [&](attention_call& call) {
    call.parameters.softmax = {weight_codes_of_max{std::span(codes).first(255), of_codes}, row_divisor{1 << 28, 120}};
  });
  check({"attention_code::u8_full", "relative to the sum"}, [](attention_call& call) {
    std::get<log2_of_sum>(call.parameters.softmax.weights).codes = attention_code::u8_full;
    call.parameters.softmax.context = row_divisor{1 << 28, 120};
  });
  check({"mask", "4 x 6", "5 x 6"},
        [&](attention_call& call) { call.operands.mask = {memory.matrix<std::uint8_t>(4, 6, 0, 1, random)}; });
  check({"mask", "1 x 5", "1 x 6"},
        [&](attention_call& call) { call.operands.mask = {memory.matrix<std::uint8_t>(1, 5, 0, 1, random)}; });
  check({"mask", "attention_code::u4_clipped"}, [&](attention_call& call) {
    std::get<log2_of_sum>(call.parameters.softmax.weights).codes = attention_code::u4_clipped;
    call.operands.mask = {memory.matrix<std::uint8_t>(1, 6, 0, 1, random)};
  });
  check_refused(y, {"padding_mask", "rows of the mask", "5", "2"}, [&] {
    padding_mask(std::array<index_t, 2>{3, 4}, y.view());
  });
  for (const std::size_t given : {std::size_t{0}, bytes - 1}) {
    check({"workspace", std::to_string(given), std::to_string(bytes)},
          [&](attention_call& call) { call.bytes = given; });
  }
  CHECK(scratch.memory() == tensor<std::uint8_t>(1, static_cast<index_t>(bytes)).memory());
  check_accepted(y, [&] { run(good); });
}

TEST_CASE("prepare_keys_values, attention: refuse what does not fit prepared keys before anything is written") {
  generator random(57);
  parameter_memory memory;
  tensor<std::uint8_t> y(5, 8, layouts[1]);
  const multihead_parameters p =
      random_block(memory, small_block, attention_code::u8_masked, random).attention.multihead(2);
  const quantized_matrix q{memory.matrix<std::uint8_t>(5, 8, 0, 255, random), 128};
  const quantized_matrix k{memory.matrix<std::uint8_t>(6, 8, 0, 255, random), 100};
  const quantized_matrix v{memory.matrix<std::uint8_t>(6, 8, 0, 255, random), 120};
  const std::size_t bytes = prepared_keys_bytes(6, 2, 4), scratch_bytes = attention_workspace_bytes(6, 1);
  tensor<std::uint8_t> prepared(1, static_cast<index_t>(bytes)), scratch(1, static_cast<index_t>(scratch_bytes));
  const auto prepare = [&](const quantized_matrix& keys, const quantized_matrix& values, index_t heads, int zero_point,
                           std::size_t given) {
    return prepare_keys_values(keys, values, heads, zero_point, workspace(prepared.view().data, given));
  };
  const auto refused = [&](const words& expected, const auto& call) {
    check_refused(prepared, words{"prepare_keys_values"} + expected, call);
  };
  refused({"heads", "0", "1"}, [&] { prepare(k, v, 0, 128, bytes); });
  refused({"columns of k modulo heads", "2", "0"}, [&] { prepare(k, v, 3, 128, bytes); });
  refused({"v", "6 x 7", "6 x 8"}, [&] { prepare(k, {v.codes.column_block(0, 7), v.zero_point}, 2, 128, bytes); });
  refused({"workspace", std::to_string(bytes - 1), std::to_string(bytes)}, [&] { prepare(k, v, 2, 128, bytes - 1); });
  check_refused(prepared, {"zero point of q", "256", "255"}, [&] { prepare(k, v, 2, 256, bytes); });
  check_refused(prepared, {"zero point of k", "-1", "0"}, [&] { prepare({k.codes, -1}, v, 2, 128, bytes); });

  const prepared_keys_values kv = prepare(k, v, 2, 128, bytes);
  const auto attend = [&](const quantized_matrix& queries, const multihead_parameters& parameters, std::size_t given) {
    attention(prepared_operands{queries, kv}, parameters, y.view(), workspace(scratch.view().data, given));
  };
  multihead_parameters other_heads = p;
  other_heads.heads = 4;
  check_refused(y, {"attention", "prepared heads", "2", "4"}, [&] { attend(q, other_heads, scratch_bytes); });
  check_refused(y, {"attention", "zero point of q", "127", "128"}, [&] { attend({q.codes, 127}, p, scratch_bytes); });
  check_refused(y, {"attention", "q", "5 x 7", "5 x 8"}, [&] {
    attend({q.codes.column_block(0, 7), 128}, p, scratch_bytes);
  });
  check_refused(y, {"attention", "workspace"}, [&] { attend(q, p, scratch_bytes - 1); });
  check_accepted(y, [&] { attend(q, p, scratch_bytes); });
}

TEST_CASE("reference::attention: refuses inputs and outputs of another shape") {
  generator random(60);
  parameter_memory memory;
  const block_parameters p = random_block(memory, small_block, attention_code::u8_masked, random);
  const matrix_view<const std::uint8_t> x = memory.matrix<std::uint8_t>(5, 8, 0, 255, random);
  tensor<std::uint8_t> y(5, 8, layouts[1]);
  std::vector<std::byte> scratch(reference::attention_workspace_bytes(small_block.attention));
  const auto run = [&](matrix_view<const std::uint8_t> in, matrix_view<std::uint8_t> out) {
    reference::attention(in, p.attention, small_block.attention, out, workspace(scratch.data(), scratch.size()));
  };
  for (const auto& bad : wrong_shapes(x)) {
    check_refused(y, words{"attention", "x"} + bad.expected, [&] { run(bad.argument, y.view()); });
  }
  for (const auto& bad : wrong_shapes(y.view())) {
    check_refused(y, words{"attention", "y"} + bad.expected, [&] { run(x, bad.argument); });
  }
  check_accepted(y, [&] { run(x, y.view()); });
}

TEST_CASE("reference::mlp: refuses every wrong argument before anything is written") {
  generator random(58);
  parameter_memory memory;
  const block_shape shape = GENERATE(small_block, gated_block);
  const mlp_parameters good = random_block(memory, shape, attention_code::u8_masked, random).mlp;
  const matrix_view<const std::uint8_t> x = memory.matrix<std::uint8_t>(5, 8, 0, 255, random);
  tensor<std::uint8_t> y(5, 8, layouts[1]);
  tensor<std::uint8_t> scratch(1, 2000);
  const auto run = [&](const mlp_parameters& p, matrix_view<const std::uint8_t> in, matrix_view<std::uint8_t> out,
                       std::size_t bytes) { reference::mlp(in, p, out, workspace(scratch.view().data, bytes)); };
  mlp_parameters p = good;
  p.table = good.table.first(4095);
  check_refused(y, {"mlp", "size of table", "4095", "4096"}, [&] { run(p, x, y.view(), 2000); });
  for (const auto& bad : wrong_scales(good.fc1.scale)) {
    p = good;
    p.fc1.scale = bad.argument;
    check_refused(y, words{"mlp: fc1"} + bad.expected, [&] { run(p, x, y.view(), 2000); });
  }
  for (const auto& bad : wrong_weights(good.fc2.weights)) {
    p = good;
    p.fc2.weights = bad.argument;
    check_refused(y, words{"mlp: fc2"} + bad.expected, [&] { run(p, x, y.view(), 2000); });
  }
  for (const auto& bad : wrong_views(x)) {
    check_refused(y, {"mlp"}, [&] { run(good, bad.argument, y.view(), 2000); });
  }
  check_refused(y, {"mlp: fc1", "columns of weights", "8", "7"},
                [&] { run(good, x.column_block(0, 7), y.view(), 2000); });
  for (const auto& bad : wrong_shapes(y.view())) {
    check_refused(y, words{"mlp", "y"} + bad.expected, [&] { run(good, x, bad.argument, 2000); });
  }
  if (shape.gated) {
    p = good;
    std::get<gate_parameters>(p.gate).up_zero_point = 256;
    check_refused(y, {"mlp", "gate.up_zero_point", "256", "255"}, [&] { run(p, x, y.view(), 2000); });
  }
  check_refused(y, {"workspace", "bytes"}, [&] { run(good, x, y.view(), 100); });
  CHECK(scratch.memory() == tensor<std::uint8_t>(1, 2000).memory());
  check_accepted(y, [&] { run(good, x, y.view(), 2000); });
}

constexpr vit_shape small_vit = {.channels = 3,
                                 .height = 4,
                                 .image_width = 6,
                                 .patch = 2,
                                 .width = 8,
                                 .heads = 2,
                                 .hidden = 12,
                                 .depth = 2,
                                 .classes = 4};

struct vit_call {
  image_view image;
  vit_shape shape;
  vit_parameters parameters;
};
using broken_vit = wrong<std::function<void(vit_call&)>>;

/// Errors in an argument of the call itself, one member at a time.
template <class Member, class Wrongs>
void break_member(std::vector<broken_vit>& all, const words& names, Member vit_parameters::*member,
                  const Wrongs& wrongs) {
  for (const auto& bad : wrongs) {
    all.push_back({[=](vit_call& call) { call.parameters.*member = bad.argument; }, names + bad.expected});
  }
}

void break_parameters(std::vector<broken_vit>& all, const vit_parameters& good, parameter_memory& memory) {
  break_member(all, {"vit", "pixel_table"}, &vit_parameters::pixel_table, wrong_shapes(good.pixel_table));
  const auto break_embedding = [&](const words& names, auto member, const auto& wrongs) {
    for (const auto& bad : wrongs) {
      all.push_back({[=](vit_call& call) { call.parameters.embedding.*member = bad.argument; }, names + bad.expected});
    }
  };
  break_embedding({"vit", "class_token"}, &u8_embedding::class_token, wrong_shapes(good.embedding.class_token));
  break_embedding({"vit", "positions"}, &u8_embedding::positions, wrong_shapes(good.embedding.positions));
  break_embedding({"vit: embedding.add_positions"}, &u8_embedding::add_positions,
                  wrong_scales(good.embedding.add_positions));
  break_member(all, {"vit: norm"}, &vit_parameters::norm, wrong_layernorms(good.norm, memory));
  break_member(all, {"vit: head"}, &vit_parameters::head, wrong_weights(good.head));
  break_member(all, {"vit: head, logits"}, &vit_parameters::logits, wrong_scales(good.logits));
  break_member(all, {"vit: head, logits_u8"}, &vit_parameters::logits_u8, wrong_scales(good.logits_u8));
  for (const auto& bad : wrong_weights(good.patch.weights)) {
    all.push_back(
        {[=](vit_call& call) { call.parameters.patch.weights = bad.argument; }, words{"vit: patch"} + bad.expected});
  }
  for (const auto& bad : wrong_scales(good.patch.scale)) {
    all.push_back(
        {[=](vit_call& call) { call.parameters.patch.scale = bad.argument; }, words{"vit: patch"} + bad.expected});
  }
  all.push_back({[](vit_call& call) { call.parameters.embedding.table = call.parameters.embedding.table.first(255); },
                 {"vit", "size of embedding.table", "255", "256"}});
  all.push_back({[](vit_call& call) { call.parameters.blocks = call.parameters.blocks.first(1); },
                 {"vit", "size of blocks", "1", "2"}});
  const std::span<block_parameters> blocks =
      memory.array<block_parameters>(2, [&](index_t i) { return good.blocks[static_cast<std::size_t>(i)]; });
  blocks[1].attention.zero_points.k = 256;
  all.push_back(
      {[=](vit_call& call) { call.parameters.blocks = blocks; }, {"attention", "zero point of k", "256", "255"}});
}

void break_sizes(std::vector<broken_vit>& all) {
  const auto add = [&](const words& expected, const std::function<void(vit_call&)>& change) {
    all.push_back({change, expected});
  };
  add({"vit", "patch height", "0", "1"}, [](vit_call& call) { call.shape.patch.height = 0; });
  add({"vit", "patch width", "0", "1"}, [](vit_call& call) { call.shape.patch.width = 0; });
  add({"vit", "height % patch height", "1", "0"}, [](vit_call& call) { call.shape.height = 5; });
  add({"vit", "image_width % patch width", "1", "0"}, [](vit_call& call) { call.shape.image_width = 7; });
  add({"vit", "pixel_table", "3 x 256", "4 x 256"}, [](vit_call& call) { call.shape.channels = 4; });
  add({"vit", "positions", "7 x 8", "9 x 8"}, [](vit_call& call) { call.shape.image_width = 8; });
  add({"vit", "size of blocks", "2", "3"}, [](vit_call& call) { call.shape.depth = 3; });
  add({"attention", "heads", "0", "1"}, [](vit_call& call) { call.shape.heads = 0; });
  add({"vit: head", "rows of weights", "4", "5"}, [](vit_call& call) { call.shape.classes = 5; });
  add({"vit", "class_tokens", "0", "1"}, [](vit_call& call) { call.shape.class_tokens = 0; });
  add({"vit", "registers", "-1", "0"}, [](vit_call& call) { call.shape.registers = -1; });
  add({"vit: head", "columns of weights", "8", "16"}, [](vit_call& call) {
    call.shape.pooling = vit_pooling::class_tokens_and_mean;
    call.parameters.mean = mean_of_normalized{};
  });
  const words other_kind{"vit", "mean is not of the kind that the shape's pooling demands"};
  for (const vit_pooling pooling :
       {vit_pooling::mean, vit_pooling::class_tokens_and_mean, vit_pooling::normalized_mean}) {
    add(other_kind, [=](vit_call& call) { call.shape.pooling = pooling; });
  }
  add(other_kind, [](vit_call& call) { call.parameters.mean = mean_of_normalized{}; });
  add(other_kind, [](vit_call& call) { call.parameters.mean = mean_of_stream{}; });
  add({"vit: mean", "4", "8"}, [](vit_call& call) {
    call.shape.pooling = vit_pooling::normalized_mean;
    call.parameters.mean = mean_of_stream{call.parameters.logits};
  });
  add({"vit", "image channels", "1", "3"}, [](vit_call& call) { call.image.channels = 1; });
  add({"vit", "image height", "6", "4"}, [](vit_call& call) { call.image.height = 6; });
  add({"vit", "image width", "4", "6"}, [](vit_call& call) { call.image.width = 4; });
  add({"image", "no data"}, [](vit_call& call) { call.image.data = nullptr; });
}

TEST_CASE("vit: refuses every wrong argument before anything is written") {
  generator random(57);
  parameter_memory memory;
  const std::uint8_t* const pixels = memory.matrix<std::uint8_t>(1, 3 * 4 * 6, 0, 255, random).data;
  const vit_call good{planar_image(pixels, 3, 4, 6), small_vit,
                      random_vit(memory, small_vit, attention_code::u8_masked, random)};
  std::vector<broken_vit> all;
  break_parameters(all, good.parameters, memory);
  break_sizes(all);
  CHECK(all.size() > 80);

  const std::size_t bytes = vit_workspace_bytes(small_vit);
  tensor<std::int32_t> logits(1, 4, layouts[1]);
  tensor<std::uint8_t> logits_u8(1, 4, layouts[1]), scratch(1, static_cast<index_t>(bytes));
  const auto run = [&](const vit_call& call, matrix_view<std::int32_t> out, matrix_view<std::uint8_t> out_u8,
                       std::size_t given) {
    vit(std::span(&call.image, 1), call.parameters, call.shape, {out, out_u8}, workspace(scratch.view().data, given));
  };
  const auto check = [&](const words& expected, const auto& call) {
    const std::vector<std::uint8_t> before = scratch.memory(), before_u8 = logits_u8.memory();
    check_refused(logits, expected, call);
    CHECK(scratch.memory() == before);
    CHECK(logits_u8.memory() == before_u8);
  };
  for (const broken_vit& bad : all) {
    vit_call call = good;
    bad.argument(call);
    check(bad.expected, [&] { run(call, logits.view(), logits_u8.view(), bytes); });
  }
  for (const auto& bad : wrong_shapes(logits.view())) {
    check(words{"vit", "logits"} + bad.expected, [&] { run(good, bad.argument, logits_u8.view(), bytes); });
  }
  for (const auto& bad : wrong_shapes(logits_u8.view())) {
    check(words{"vit", "logits_u8"} + bad.expected, [&] { run(good, logits.view(), bad.argument, bytes); });
  }
  check({"vit", "workspace", std::to_string(bytes - 1), std::to_string(bytes)},
        [&] { run(good, logits.view(), logits_u8.view(), bytes - 1); });
  check_accepted(logits, [&] { run(good, logits.view(), logits_u8.view(), bytes); });
}

}  // namespace
}  // namespace intact_test::contract_test
