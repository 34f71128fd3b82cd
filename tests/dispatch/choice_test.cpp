// The choice of an instruction set, in a program that has plain C++ and a set of another processor family; and that
// intact::dispatch refuses broken arguments before it looks at its table.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <span>
#include <stdexcept>
#include <string>
#include <tuple>
#include <type_traits>
#include <vector>

#include "catch.hpp"
#include "choice_tags.hpp"
#include "intact/dispatch/all.hpp"
#include "intact/dispatch/choose.hpp"
#include "intact/interop/dispatch/operations.hpp"
#include "intact/simd/detect.hpp"
#include "refusal.hpp"

namespace {

using foreign_isa = std::tuple_element_t<1, std::tuple<INTACT_DISPATCH_TAGS>>;

/// Thrown by calls that get past the checks: the tables of this program compute nothing.
struct table_reached {};

/// The functions of the table of interop/. One of them is part of a check.
struct unit_of_checks {
  template <class Operation, class... Arguments>
  static void run(const Arguments&... arguments) {
    if constexpr (std::is_same_v<Operation, intact::dispatched::first_row_not_finite>) {
      [](const auto& x, auto* row) {
        *row = intact::kernel::first_row_not_finite<intact::isa::scalar>(x);
      }(arguments...);
    } else {
      throw table_reached();
    }
  }
};
constexpr intact::interop_dispatch_table interop_table{unit_of_checks()};

}  // namespace

namespace intact {
inline namespace INTACT_ABI {

template <>
const dispatch_table& dispatch_table_of<isa::scalar>() {
  throw table_reached();
}
template <>
const dispatch_table& dispatch_table_of<foreign_isa>() {
  std::abort();
}
template <>
const interop_dispatch_table& interop_dispatch_table_of<isa::scalar>() {
  return interop_table;
}
template <>
const interop_dispatch_table& interop_dispatch_table_of<foreign_isa>() {
  std::abort();
}

}  // namespace INTACT_ABI
}  // namespace intact

namespace intact_test::choice_test {
namespace {

using namespace intact;
using dispatch::detail::candidate;
using dispatch::detail::choose;
using dispatch::detail::message_writer;

constexpr dispatch_choice scalar_choice{isa::scalar::name.data(), dispatch_table_of<isa::scalar>};
constexpr dispatch_choice foreign_choice{foreign_isa::name.data(), dispatch_table_of<foreign_isa>};

const dispatch_choice* chosen(const char* wanted, std::string* message = nullptr, std::size_t bytes = 512) {
  std::vector<char> words(bytes, '?');
  const simd::processor processor = simd::detect();
  const candidate all[] = {{&scalar_choice, processor.offers(isa::scalar())},
                           {&foreign_choice, processor.offers(foreign_isa())}};
  const dispatch_choice* const choice = choose(all, wanted, message_writer(words.data(), bytes));
  if (message != nullptr) {
    *message = words.data();
  }
  return choice;
}

TEST_CASE("choose_dispatch: takes the most capable set that the processor offers") {
  REQUIRE(chosen("") != nullptr);
  CHECK(chosen("")->isa == std::string("scalar"));
  REQUIRE(chosen("scalar") != nullptr);
  CHECK(chosen("scalar")->table == dispatch_table_of<isa::scalar>);
  char message[512];
  const dispatch_choice* const first = choose_dispatch(message, sizeof message);
  CHECK(first == choose_dispatch(message, sizeof message));
  CHECK(std::string(dispatch::isa_name()) == "scalar");
}

TEST_CASE("choose_dispatch: refuses other names, with those that there are") {
  const std::string foreign(foreign_isa::name);
  std::string message;
  CHECK(chosen("sse9", &message) == nullptr);
  CHECK(message == "INTACT_ISA is \"sse9\"; it must be one of scalar, " + foreign);
  CHECK(chosen(foreign.c_str(), &message) == nullptr);
  CHECK(message == "INTACT_ISA is " + foreign + ", which this processor does not offer; it has scalar");
  CHECK(chosen("sse9", &message, 20) == nullptr);
  CHECK(message == "INTACT_ISA is \"sse9");
  CHECK(chosen(std::string(1000, 'x').c_str(), &message) == nullptr);
  CHECK(mentions(message, "xx\"; it must be one of scalar, " + foreign));
  const candidate not_offered[] = {{&foreign_choice, simd::detect().offers(foreign_isa())}};
  CHECK(choose(not_offered, "", message_writer(message.data(), 512)) == nullptr);
  CHECK(mentions(message, "this processor offers no instruction set of the program, which has " + foreign));
}

TEST_CASE("find_interop_dispatch_table: finds the table of the chosen set") {
  CHECK(find_interop_dispatch_table(*chosen("scalar")) == &interop_table);
  const std::string copy = "scalar";
  CHECK(find_interop_dispatch_table({copy.c_str(), nullptr}) == &interop_table);
  CHECK(find_interop_dispatch_table({"sse9", nullptr}) == nullptr);
}

/// A call gets past the checks with good arguments alone.
template <class Call>
void check_refusal(const Call& call, const char* words) {
  std::string message;
  try {
    message = refusal(call);
  } catch (const table_reached&) {
    message = "nothing was refused";
  }
  CAPTURE(message);
  CHECK(mentions(message, words));
}

TEST_CASE("dispatch: refuses before it looks at the table [every operation]") {
  std::uint8_t codes[16] = {}, outputs[16] = {};
  std::int16_t words[16] = {};
  std::int32_t sums[16] = {};
  const matrix_view<const std::uint8_t> x(codes, 4, 4);
  const matrix_view<std::uint8_t> y(outputs, 4, 4), narrow(outputs, 4, 3);
  const quantized_matrix q{x, 0};
  const raw_accumulator stage;
  const workspace none(nullptr, 0);
  const packed_weights<std::int8_t> w;
  const std::span<const std::uint8_t> table;
  CHECK_THROWS_AS(dispatch::unfold(x, {2, 2}, {1, 1}, 0, y), table_reached);
  check_refusal([&] { dispatch::gemm(x, w, stage, matrix_view(sums, 4, 4)); }, "gemm: columns of w is 0");
  check_refusal([&] { dispatch::gemm(q, q, stage, matrix_view(sums, 4, 4), none); }, "gemm: the workspace has 0 bytes");
  check_refusal([&] { dispatch::row_sums(x, 256, std::span(sums, 4)); }, "row_sums: factor is 256");
  check_refusal([&] { dispatch::layernorm(x, {}, y); }, "layernorm: size of shift is 0");
  check_refusal([&] { dispatch::layernorm(matrix_view<const std::int16_t>(words, 4, 4), {}, y); },
                "layernorm: size of shift is 0");
  check_refusal([&] { dispatch::rmsnorm(x, {}, y); }, "rmsnorm: size of shift is 0");
  check_refusal([&] { dispatch::rotate(q, {}, y); }, "rotate: rows of cosine is 0");
  check_refusal([&] { dispatch::rmsnorm(matrix_view<const std::int16_t>(words, 4, 4), {}, y); },
                "rmsnorm: size of shift is 0");
  check_refusal([&] { dispatch::log_softmax(x, exp_table<std::uint32_t>(), y); }, "size of the exponential table is 0");
  check_refusal([&] { dispatch::log_softmax(x, exp_table<std::uint32_t>(), key_mask{x}, y); },
                "size of the exponential table is 0");
  check_refusal([&] { dispatch::max_softmax(x, table, y); }, "size of the softmax table is 0");
  check_refusal([&] { dispatch::max_softmax(x, table, key_mask{x}, 0, y); }, "size of the softmax table is 0");
  check_refusal([&] { dispatch::shift_matmul(x, q, stage, matrix_view(sums, 4, 4), none); },
                "shift_matmul: the workspace has 0 bytes");
  check_refusal(
      [&] {
        dispatch::shift_matmul(x, q, row_divisor{1 << 27, 128}, y, none);
      },
      "shift_matmul: the workspace has 0 bytes");
  check_refusal(
      [&] {
        dispatch::weighted_matmul(x, q, row_divisor{1 << 27, 128}, y, none);
      },
      "weighted_matmul: the workspace has 0 bytes");
  check_refusal([&] { dispatch::activation(x, table, y); }, "activation: size of table is 0");
  check_refusal([&] { dispatch::add(x, x, {}, narrow); }, "add: y is 4 x 3");
  check_refusal([&] { dispatch::average_pool(x, stage, matrix_view(sums, 1, 3)); }, "average_pool: y is 1 x 3");
  check_refusal([&] { dispatch::multiply(q, q, stage, matrix_view(sums, 4, 3)); }, "multiply: y is 4 x 3");
  check_refusal([&] { dispatch::convert_codes(x, stage, matrix_view(sums, 4, 3)); }, "convert_codes: y is 4 x 3");
  check_refusal(
      [&] {
        dispatch::depthwise_conv(q, {2, 3}, {}, stage, matrix_view(sums, 4, 4));
      },
      "depthwise_conv: x is 4 x 4");
  check_refusal([&] { dispatch::im2col(planar_image(codes, 1, 4, 4), 0, y); }, "im2col: patch height is 0");
  check_refusal([&] { dispatch::unfold(x, {2, 2}, {2, 1}, 0, y); }, "unfold: ");
  check_refusal([&] { dispatch::patch_merge(x, -1, 4, 0, y); }, "patch_merge: height is -1");
  check_refusal([&] { dispatch::window_partition(x, {2, 2, 0, 0}, 0, y); }, "window_partition: window is 0");
  check_refusal([&] { dispatch::window_reverse(x, {2, 2, 0, 0}, y); }, "window_reverse: window is 0");
}

TEST_CASE("dispatch: refuses before it looks at the table [every operation of interop]") {
  std::uint8_t codes[16] = {};
  float numbers[16] = {}, scale[4] = {1, 1, 1, 1};
  const matrix_view<std::uint8_t> x(codes, 4, 4);
  const matrix_view<const float> real(numbers, 4, 4);
  const quantized_matrix q{x, 0};
  const std::int8_t taps[4] = {};
  const depthwise_weights one{matrix_view<const std::int8_t>(taps, 1, 4), 1};
  const float_output<float> stage{scale, scale};
  const matrix_view<float> y(numbers, 4, 4);
  CHECK_THROWS_AS(dispatch::depthwise_conv(q, {2, 2}, one, stage, y), table_reached);
  CHECK_THROWS_AS(dispatch::quantize_rows(real, x, std::span(scale)), table_reached);
  check_refusal([&] { dispatch::gemm(x, packed_weights<std::int8_t>(), stage, y); }, "gemm: columns of w is 0");
  check_refusal(
      [&] {
        dispatch::depthwise_conv(q, {2, 2}, one, float_output<float>{scale, {}}, y);
      },
      "depthwise_conv: size of channel_scale is 0");
  check_refusal([&] { dispatch::quantize_rows(real, x, std::span(scale, 3)); }, "quantize_rows: size of scale is 3");
  numbers[6] = std::numeric_limits<float>::infinity();
  check_refusal([&] { dispatch::quantize_rows(real, x, std::span(scale)); },
                "quantize_rows: x has the value inf at row 1, column 2");
}

TEST_CASE("dispatch: refuses before it looks at the table [every model]") {
  std::uint8_t codes[16] = {};
  std::int16_t words[16] = {};
  const matrix_view<std::uint8_t> y(codes, 4, 4);
  const matrix_view<std::int16_t> wide(words, 4, 4);
  const workspace none(nullptr, 0);
  const attention_operands operands{{y, 0}, {y, 0}, {y, 0}};
  const block_shape shape{.attention = {.tokens = 4, .width = 4, .heads = 1}, .hidden = 4};
  const swin_block_shape swin_shape_of_block{{{2, 2, 2, 0}, 4, 1}, 4};
  const std::span<const image_view> images;
  const std::span<const matrix_view<std::uint8_t>> maps;
  check_refusal([&] { dispatch::attention(operands, {.heads = 3, .logits = {}}, y, none); },
                "columns of q modulo heads");
  check_refusal([&] { dispatch::prepare_keys_values({y, 0}, {y, 0}, 0, 0, none); }, "heads is 0");
  check_refusal([&] { dispatch::attention(prepared_operands{}, {.heads = 2, .logits = {}}, y, none); },
                "prepared heads is 0");
  check_refusal([&] { dispatch::window_attention(y, {}, {{2, 2, 0, 0}, 4, 1}, y, none); }, "window is 0");
  check_refusal([&] { dispatch::block(y, {}, shape, none); }, "block: norm1");
  check_refusal([&] { dispatch::block(wide, {}, shape, none); }, "block: norm1");
  check_refusal([&] { dispatch::swin_block(y, {}, swin_shape_of_block, none); }, "attention: qkv");
  check_refusal([&] { dispatch::vit(images, {}, {.patch = 0, .classes = 1}, {}, none); }, "vit: patch height is 0");
  check_refusal([&] { dispatch::swin(images, {}, {.patch = 0}, {}, none); }, "swin: patch is 0");
  check_refusal([&] { dispatch::swin_features(images, {}, {.patch = 0}, maps, none); }, "swin: patch is 0");
}

}  // namespace
}  // namespace intact_test::choice_test
