#include "intact/build/weights.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "cases.hpp"
#include "catch.hpp"
#include "intact/io/safetensors.hpp"
#include "recorded_codes.hpp"
#include "refusal.hpp"

namespace intact_test::quantize_test {
namespace {

using intact::affine_scale;
using intact::code_range;
using intact::matrix_view;
using intact::ptf_scale;
using intact::safetensors_file;

constexpr float infinity = std::numeric_limits<float>::infinity();

template <class Code = int>
std::vector<Code> quantized(const std::vector<float>& x, const affine_scale& scale, const code_range& codes) {
  std::vector<Code> y(x.size(), Code{99});
  const intact::index_t size = static_cast<intact::index_t>(x.size());
  intact::quantize_codes(matrix_view(x.data(), 1, size), scale, matrix_view(y.data(), 1, size), codes);
  return y;
}

// ---- recorded cases ----

/// Quantizes the recorded tensor with the recorded scales, one per tensor, per channel of the last dimension
/// (activations), or per channel of the first (weights).
void check_recorded_uniform(const safetensors_file& file) {
  const code_range codes = recorded_codes(file);
  const std::vector<float> x = file.values<float>("x"), scale = file.values<float>("scale");
  const std::vector<std::int32_t> zero_point = file.values<std::int32_t>("zero_point");
  const intact::index_t channels = static_cast<intact::index_t>(scale.size());
  const intact::index_t others = static_cast<intact::index_t>(x.size()) / channels;
  const bool channels_first = !says(file, "activation");
  const intact::index_t rows = channels_first ? channels : others, columns = channels_first ? others : channels;

  std::vector<std::int32_t> y(x.size());
  std::vector<float> z(x.size());
  for (intact::index_t c = 0; c < channels; ++c) {
    const affine_scale channel{scale[static_cast<std::size_t>(c)],
                               zero_point[zero_point.size() == 1 ? 0 : static_cast<std::size_t>(c)]};
    const auto part = [&](auto view) { return channels_first ? view.row_block(c, 1) : view.column_block(c, 1); };
    const matrix_view<std::int32_t> y_part = part(matrix_view(y.data(), rows, columns));
    intact::quantize_codes(part(matrix_view(x.data(), rows, columns)), channel, y_part, codes);
    intact::dequantize(matrix_view<const std::int32_t>(y_part), channel, part(matrix_view(z.data(), rows, columns)));
  }
  CHECK(y == file.values<std::int32_t>("codes"));
  CHECK(z == file.values<float>("dequant"));
}

/// A residual stream: the recorded scales are powers of two apart.
void check_recorded_ptf(const safetensors_file& file) {
  const std::vector<float> x = file.values<float>("x"), scale = file.values<float>("scale");
  const float smallest = *std::min_element(scale.begin(), scale.end());
  ptf_scale ptf{smallest, file.values<std::int32_t>("zero_point").at(0), {}};
  for (const float channel : scale) {
    ptf.shift.push_back(static_cast<std::uint8_t>(std::ilogb(channel / smallest)));
  }
  const intact::index_t columns = std::ssize(scale), rows = std::ssize(x) / columns;
  std::vector<std::uint8_t> y(x.size());
  intact::quantize_codes(matrix_view(x.data(), rows, columns), ptf, matrix_view(y.data(), rows, columns));
  const std::vector<std::int32_t> expected = file.values<std::int32_t>("codes");
  CHECK(std::vector<std::int32_t>(y.begin(), y.end()) == expected);
}

/// The quantizer that Log-Int-Softmax replaces: clamp(rne(-log2 x)).
void check_recorded_log2(const safetensors_file& file) {
  const float largest = says(file, "uint4") ? 15.0f : 255.0f;
  std::vector<std::int32_t> codes;
  for (const float x : file.values<float>("x")) {
    codes.push_back(static_cast<std::int32_t>(std::clamp(std::nearbyint(-std::log2(x)), 0.0f, largest)));
  }
  CHECK(codes == file.values<std::int32_t>("codes"));
}

/// The layer's weights, quantized here, are the recorded ones.
void check_recorded_layer(const safetensors_file& file) {
  const std::vector<float> weights = file.values<float>("weight_f32");
  const std::vector<std::int64_t>& shape = file.info("weight_f32").shape;
  const code_range codes =
      file.metadata_value("case").find("int4") != std::string::npos ? intact::s4_codes : intact::s8_codes;
  const intact::quantized_weights built =
      intact::quantize_weights(matrix_view<const float>(weights.data(), shape.at(0), shape.at(1)), codes);
  const std::vector<std::int32_t> expected = file.values<std::int32_t>("lin__wcodes");
  CHECK(std::vector<std::int32_t>(built.codes.begin(), built.codes.end()) == expected);
  CHECK(built.scale == file.values<float>("lin__wscale"));
}

}  // namespace

TEST_CASE("quantize_codes: equals the quantizers of the original [recorded cases]", "[quantize][cases]") {
  if (intact_test::skip_without_cases()) {
    return;
  }
  int uniform = 0, ptf = 0, log2 = 0, layers = 0;
  for (const auto& entry : std::filesystem::directory_iterator(intact_test::cases_directory())) {
    const std::string name = entry.path().stem().string();
    CAPTURE(name);
    if (name.starts_with("quant_log2")) {
      check_recorded_log2(safetensors_file::read(entry.path()));
      ++log2;
    } else if (name.starts_with("quant_")) {
      check_recorded_uniform(safetensors_file::read(entry.path()));
      ++uniform;
    } else if (name.starts_with("linear_")) {
      check_recorded_layer(safetensors_file::read(entry.path()));
      ++layers;
    }
    if (name.find("_ptf_channel") != std::string::npos) {
      check_recorded_ptf(safetensors_file::read(entry.path()));
      ++ptf;
    }
  }
  REQUIRE(uniform > 0);
  REQUIRE(ptf > 0);
  REQUIRE(log2 > 0);
  REQUIRE(layers > 0);
}

// ---- activations ----

TEST_CASE("quantize_codes: rounds halves to even and clamps codes", "[quantize]") {
  const std::vector<float> x{0, 0.5f, 1.5f, 2.5f, -0.5f, -1.5f, -100, 1000, 252.5f, 251.5f, 1e38f, -1e38f};
  CHECK(quantized(x, {1, 3}, intact::u8_codes) ==
        std::vector<int>{3, 4, 4, 6, 2, 2, 0, 255, 255, 254, 255, 0});  // x + 3: 3, 3.5, 4.5, 5.5, 2.5, 1.5, ...
  CHECK(quantized(x, {1, 0}, intact::s8_codes) == std::vector<int>{0, 0, 2, 2, 0, -2, -100, 127, 127, 127, 127, -128});
  CHECK(quantized(x, {1, 0}, intact::s4_codes) == std::vector<int>{0, 0, 2, 2, 0, -2, -8, 7, 7, 7, 7, -8});
  CHECK(quantized(x, {1, 15}, intact::u4_codes) == std::vector<int>{15, 15, 15, 15, 14, 14, 0, 15, 15, 15, 15, 0});
  CHECK(quantized<std::uint16_t>({5000, -5}, {1, 0}, {0, 4095, false}) == std::vector<std::uint16_t>{4095, 0});
}

TEST_CASE("quantize_codes: rounds to float after the division and after the addition", "[quantize]") {
  std::mt19937 random(1);
  std::uniform_real_distribution<float> uniform(-3, 3);
  std::uniform_int_distribution<int> halves(-128, 127);
  const affine_scale scale{0.0123f, 117};
  std::vector<float> x;
  std::vector<int> expected;
  int double_differs = 0;
  for (int i = 0; i < 20'000; ++i) {
    const float near_tie = (static_cast<float>(halves(random)) + 0.5f) * scale.scale;
    x.push_back(i % 2 == 0 ? uniform(random) : near_tie);
    const volatile float quotient = x.back() / scale.scale;
    const volatile float sum = quotient + 117.0f;
    expected.push_back(static_cast<int>(std::min(255.0f, std::max(0.0f, std::nearbyint(sum)))));
    const double real = static_cast<double>(x.back()) / static_cast<double>(scale.scale) + 117.0;
    double_differs += expected.back() != static_cast<int>(std::min(255.0, std::max(0.0, std::nearbyint(real))));
  }
  CHECK(quantized(x, scale, intact::u8_codes) == expected);
  REQUIRE(double_differs > 0);  // or this test could not see a wider format
}

TEST_CASE("quantize_code: equals quantize_codes for one value", "[quantize]") {
  const affine_scale scale{0.5f, 10};
  for (const float x : {-6.0f, -5.0f, 0.0f, 0.25f, 0.75f, 200.0f}) {
    CHECK(intact::quantize_code(x, scale, intact::u8_codes) == quantized({x}, scale, intact::u8_codes).front());
    CHECK(intact::quantize_code<std::uint8_t>(x, scale) == quantized({x}, scale, intact::u8_codes).front());
    CHECK(intact::quantize_code<std::int8_t>(x, scale) == quantized({x}, scale, intact::s8_codes).front());
  }
  CHECK(intact::dequantize_code(13, scale) == 1.5f);
}

TEST_CASE("quantize_code: refuses a value without a quotient", "[quantize]") {
  constexpr float nan = std::numeric_limits<float>::quiet_NaN();
  const auto refused = [](float x, float step) {
    return intact_test::refusal([&] { intact::quantize_code(x, {step, 10}, intact::u8_codes); });
  };
  CHECK(refused(nan, 0.5f) == "intact::quantize_code: x is nan and scale is 0.5; x / scale must be a number");
  CHECK(intact_test::mentions(refused(infinity, infinity), "x is inf and scale is inf"));
  CHECK(intact_test::mentions(refused(0, 0), "x is 0 and scale is 0"));
  CHECK(intact::quantize_code(infinity, {0.5f, 10}, intact::u8_codes) == 255);
  CHECK(intact::quantize_code(-3e38f, {1e-7f, 10}, intact::u8_codes) == 0);
}

TEST_CASE("quantize_codes: refuses codes of more than 24 bits", "[quantize]") {
  const float large = std::numeric_limits<float>::max();
  std::int32_t y = 0;
  const auto refused = [&](const intact::code_range& codes) {
    return intact_test::refusal([&] {
      intact::quantize_codes(matrix_view<const float>(&large, 1, 1), affine_scale{0.5f, 10}, matrix_view(&y, 1, 1),
                             codes);
    });
  };
  CHECK(refused({-(1 << 24), 1 << 24, true}).empty());
  CHECK(y == 1 << 24);
  CHECK(intact_test::mentions(refused({0, (1 << 24) + 1, false}), "codes.high is 16777217; it must be at most"));
  CHECK(intact_test::mentions(refused(intact::codes_of<std::int32_t>), "codes.low is -2147483648"));
}

TEST_CASE("quantize_codes: takes a power of two per channel", "[quantize]") {
  const std::vector<float> x{16, 16, 16, 16, -8, -8, -8, -8};
  const ptf_scale scale{0.5f, 100, {0, 1, 2, 3}};
  std::vector<std::uint8_t> y(8);
  intact::quantize_codes(matrix_view(x.data(), 2, 4), scale, matrix_view(y.data(), 2, 4));
  CHECK(y == std::vector<std::uint8_t>{132, 116, 108, 104, 84, 92, 96, 98});
  CHECK(scale.channel(3).scale == 4);
  CHECK(scale.channel(3).zero_point == 100);
}

TEST_CASE("quantize_codes: takes sizes 0 and 1, and strides", "[quantize]") {
  CHECK(quantized({}, {1, 0}, intact::u8_codes).empty());
  CHECK(quantized({7}, {1, 0}, intact::u8_codes) == std::vector<int>{7});
  intact::quantize_codes(matrix_view<const float>(nullptr, 0, 3), ptf_scale{1, 0, {0, 1, 2}},
                         matrix_view<std::uint8_t>(nullptr, 0, 3));

  const std::vector<float> x{1, 2, 77, 3, 4, 77};
  std::vector<std::uint8_t> y(8, 99);
  intact::quantize_codes(matrix_view<const float>(x.data(), 2, 2, 3), affine_scale{1, 0},
                         matrix_view<std::uint8_t>(y.data(), 2, 2, 4));
  CHECK(y == std::vector<std::uint8_t>{1, 2, 99, 99, 3, 4, 99, 99});
}

TEST_CASE("quantize_codes: refuses values, scales and shapes before anything is written", "[quantize]") {
  const std::vector<float> good{1, 2, 3, 4};
  std::vector<std::uint8_t> y(4, 99);
  const matrix_view<const float> x(good.data(), 2, 2);
  const matrix_view<std::uint8_t> out(y.data(), 2, 2);
  const auto message = [&](const affine_scale& scale, const code_range& codes = intact::u8_codes) {
    return refusal([&] { intact::quantize_codes(x, scale, out, codes); });
  };
  CHECK(message({0, 0}) == "intact::quantize_codes: scale is 0; it must be above 0 and finite");
  CHECK(message({-1, 0}) == "intact::quantize_codes: scale is -1; it must be above 0 and finite");
  CHECK(message({infinity, 0}) == "intact::quantize_codes: scale is inf; it must be above 0 and finite");
  CHECK(message({std::nanf(""), 0}) != "");
  CHECK(message({1, 256}) == "intact::quantize_codes: zero_point is 256; it must be at most 255");
  CHECK(message({1, 16}, intact::u4_codes) == "intact::quantize_codes: zero_point is 16; it must be at most 15");
  CHECK(message({1, 0}, {-1, 255, false}) == "intact::quantize_codes: codes.low is -1; it must be at least 0");
  CHECK(message({1, 0}, {0, 256, false}) == "intact::quantize_codes: codes.high is 256; it must be at most 255");

  const std::vector<float> bad{1, 2, 3, -infinity};
  const matrix_view<const float> bad_x(bad.data(), 2, 2);
  const std::string bad_value = "intact::quantize_codes: x has the value -inf at row 1, column 1; it must be finite";
  CHECK(refusal([&] { intact::quantize_codes(bad_x, affine_scale{1, 0}, out); }) == bad_value);
  CHECK(refusal([&] { intact::quantize_codes(bad_x, ptf_scale{1, 0, {0, 0}}, out); }) == bad_value);

  CHECK(refusal([&] {
          intact::quantize_codes(x, affine_scale{1, 0}, out.row_block(0, 1));
        }) == "intact::quantize_codes: y is 1 x 2; it must be 2 x 2");
  CHECK(refusal([&] {
          intact::quantize_codes(x, ptf_scale{1, 0, {0}}, out);
        }) == "intact::quantize_codes: size of shift is 1; it must be equal to 2");
  CHECK(refusal([&] {
          intact::quantize_codes(x, ptf_scale{1, 0, {0, 4}}, out);
        }) == "intact::quantize_codes: shift is 4; it must be at most 3");
  CHECK(y == std::vector<std::uint8_t>(4, 99));

  std::vector<float> z(2);
  CHECK(refusal([&] {
          intact::dequantize(matrix_view<const std::uint8_t>(y.data(), 1, 4), affine_scale{1, 0},
                             matrix_view(z.data(), 1, 2));
        }) == "intact::dequantize: y is 1 x 2; it must be 1 x 4");
}

// ---- weights ----

TEST_CASE("quantize_weights: gives a scale per row", "[quantize]") {
  const std::vector<float> w{255, -255, 2, 0, -127.5f, 1, 0.5f, -0.5f, 0, 0, 0, 0};
  const intact::quantized_weights s8 = intact::quantize_weights(matrix_view(w.data(), 3, 4), intact::s8_codes);
  CHECK(s8.rows == 3);
  CHECK(s8.columns == 4);
  CHECK(s8.scale == std::vector<float>{2, 1, std::ldexp(1.0f, -23)});
  // 127.5 rounds to 128, which is no code; -127.5 to -128; halves to even.
  CHECK(s8.codes == std::vector<std::int8_t>{127, -128, 1, 0, -128, 1, 0, 0, 0, 0, 0, 0});
  CHECK(s8.view()(1, 0) == -128);

  const std::vector<float> v{15, -15, 7, 1};
  const intact::quantized_weights s4 = intact::quantize_weights(matrix_view(v.data(), 1, 4), intact::s4_codes);
  CHECK(s4.scale == std::vector<float>{2});
  CHECK(s4.codes == std::vector<std::int8_t>{7, -8, 4, 0});  // 7.5, -7.5, 3.5, 0.5
}

TEST_CASE("quantize_weights: takes sizes 0 and 1", "[quantize]") {
  CHECK(intact::quantize_weights(matrix_view<const float>(nullptr, 0, 5), intact::s8_codes).codes.empty());
  const intact::quantized_weights no_columns =
      intact::quantize_weights(matrix_view<const float>(nullptr, 2, 0), intact::s8_codes);
  CHECK(no_columns.codes.empty());
  CHECK(no_columns.scale == std::vector<float>(2, std::ldexp(1.0f, -23)));
  const float one = -3;
  CHECK(intact::quantize_weights(matrix_view(&one, 1, 1), intact::s8_codes).codes == std::vector<std::int8_t>{-128});
}

TEST_CASE("quantize_weights: refuses weights that are not finite, naming tensor and position", "[quantize]") {
  std::vector<float> w(12, 1);
  const matrix_view<const float> view(w.data(), 3, 4);
  const auto message = [&](const code_range& codes) {
    return refusal([&] { intact::quantize_weights(view, codes, "head.weight"); });
  };
  CHECK(message(intact::u8_codes) == "intact::quantize_weights: codes.low is 0; it must be at most -1");
  CHECK(message({-129, 127, true}) == "intact::quantize_weights: codes.low is -129; it must be at least -128");
  CHECK(message({-128, 128, true}) == "intact::quantize_weights: codes.high is 128; it must be at most 127");
  CHECK(message({-128, 127, false}) == "intact::quantize_weights: codes.symmetric is 0; it must be equal to 1");
  w[6] = infinity;
  CHECK(message(intact::s8_codes) ==
        "intact::quantize_weights: head.weight has the value inf at row 1, column 2; it must be finite");
  w[6] = std::nanf("");
  CHECK(message(intact::s8_codes).find("nan at row 1, column 2") != std::string::npos);
}

}  // namespace intact_test::quantize_test
