#include "intact/reference/fq_vit_layernorm.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <iostream>
#include <limits>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "cases.hpp"
#include "catch.hpp"
#include "intact/build/fq_vit_layernorm.hpp"
#include "intact/io/safetensors.hpp"
#include "tensor.hpp"

namespace intact_test::fq_vit_layernorm_test {
namespace {

/// The formula in long double, whose 64 bits hold every number that is compared exactly but for the square root.
std::int64_t real_code(std::int64_t value, std::int64_t sum, std::int64_t variance, index_t channels, long double gain,
                       long double bias) {
  long double multiplier = 0, exponent = 31, centre = 0;
  if (variance != 0 && gain != 0) {
    const long double deviation = std::sqrt(static_cast<long double>(variance));
    const long double a = static_cast<long double>(channels) * std::fabs(gain) / deviation;
    exponent = std::clamp(7 - std::floor(std::log2(a)), 0.0L, 31.0L);
    multiplier = std::min(std::floor(a * std::exp2(exponent)), 255.0L);
    centre = static_cast<long double>(sum) * gain / deviation;
  }
  const long double offset = std::rint((bias - centre) * std::exp2(exponent));
  const long double signed_multiplier = gain < 0 ? -multiplier : multiplier;
  return static_cast<std::int64_t>(
      std::rint((signed_multiplier * static_cast<long double>(value) + offset) / std::exp2(exponent)));
}

/// Random parameters of as many channels; gains of both signs, zeros among them, over many octaves.
owned_fq_vit_layernorm random_parameters(index_t channels, double output_scale, generator& random) {
  std::vector<float> gamma, beta;
  std::vector<std::uint8_t> shift;
  for (index_t c = 0; c < channels; ++c) {
    const double octave = static_cast<double>(random.between(-20, 2));
    gamma.push_back(static_cast<float>(std::exp2(octave) * static_cast<double>(random.between(-1000, 1000)) / 1000));
    beta.push_back(static_cast<float>(random.between(-1000, 1000)) / 500);
    shift.push_back(static_cast<std::uint8_t>(random.between(0, 3)));
  }
  return build_fq_vit_layernorm({.gamma = gamma,
                                 .beta = beta,
                                 .input_zero_point = static_cast<int>(random.between(0, 255)),
                                 .shift = shift,
                                 .output_scale = output_scale});
}

void check_rows(const tensor<std::uint8_t>& x, const owned_fq_vit_layernorm& built) {
  const fq_vit_layernorm_parameters p = built.parameters();
  tensor<std::int32_t> y(x.rows(), x.columns(), {1, 1, 64});
  reference::fq_vit_layernorm(x.view(), p, y.view());
  REQUIRE(y.surroundings_untouched());
  for (index_t i = 0; i < x.rows(); ++i) {
    std::int64_t sum = 0, squares = 0;
    std::vector<std::int64_t> values;
    for (index_t c = 0; c < x.columns(); ++c) {
      values.push_back((x(i, c) - p.zero_point) * (1 << p.shift[static_cast<std::size_t>(c)]));
      sum += values.back();
      squares += values.back() * values.back();
    }
    for (index_t c = 0; c < x.columns(); ++c) {
      const auto channel = static_cast<std::size_t>(c);
      const long double gain = std::ldexp(static_cast<long double>(p.gain[channel]), -p.gain_shift[channel]);
      const long double bias = std::ldexp(static_cast<long double>(p.bias[channel]), -40);
      const std::int64_t expected =
          real_code(values[channel], sum, x.columns() * squares - sum * sum, x.columns(), gain, bias);
      INFO("row " << i << ", channel " << c << " of " << x.columns());
      REQUIRE(y(i, c) == expected);
    }
  }
}

TEST_CASE("reference::fq_vit_layernorm: equals its formula in real arithmetic") {
  generator random(1);
  for (const index_t channels : {0, 1, 2, 3, 7, 64, 192, 769}) {
    for (const double output_scale : {1e-5, 0.03, 0.7}) {
      for (const values what : all_values) {
        tensor<std::uint8_t> x(5, channels);
        fill(x.view(), what, 0, 255, random);
        check_rows(x, random_parameters(channels, output_scale, random));
      }
    }
  }
  check_rows(tensor<std::uint8_t>(0, 5), random_parameters(5, 0.03, random));
}

TEST_CASE("reference::fq_vit_layernorm: rounds halves to even") {
  // C = 2, codes 0 and 4 around 2: deviation 2, gain 1/2 per unit, so that y = +-1 * gamma / s_y.
  const std::vector<float> gamma(2, 1.0F), beta(2, 0.0F);
  const std::vector<std::uint8_t> shift(2, 0);
  for (const auto& [scale, expected] :
       {std::pair(0.4, 2), std::pair(2.0 / 3, 2), std::pair(2.0, 0), std::pair(1.0, 1)}) {
    const owned_fq_vit_layernorm built = build_fq_vit_layernorm(
        {.gamma = gamma, .beta = beta, .input_zero_point = 2, .shift = shift, .output_scale = scale});
    tensor<std::uint8_t> x(1, 2);
    tensor<std::int32_t> y(1, 2);
    x(0, 0) = 0;
    x(0, 1) = 4;
    reference::fq_vit_layernorm(x.view(), built.parameters(), y.view());
    CHECK(y(0, 0) == -expected);
    CHECK(y(0, 1) == expected);
  }
}

TEST_CASE("reference::long_square_root, reference::shifted_quotient: have the promised bits") {
  generator random(2);
  for (int step = 0; step < 2000; ++step) {
    const auto x = static_cast<std::uint64_t>(random.between(std::int64_t{1} << 60, (std::int64_t{1} << 62) - 1));
    const auto root = static_cast<uint128>(reference::long_square_root(x));
    const uint128 radicand = static_cast<uint128>(x) << 58;
    REQUIRE(root * root <= radicand);
    REQUIRE((root + 1) * (root + 1) > radicand);

    const auto n = static_cast<std::uint64_t>(random.between(0, std::int64_t{1} << random.between(0, 60)));
    const auto d = static_cast<std::uint64_t>(random.between(1, (std::int64_t{1} << 60) - 1));
    const int shift = static_cast<int>(random.between(-70, 60));
    const std::uint64_t limit = step % 2 == 0 ? 255 : (std::uint64_t{1} << 62) - 1;
    const uint128 exact = shift >= 0 ? (static_cast<uint128>(n) << shift) / d : shift > -64 ? (n / d) >> -shift : 0;
    REQUIRE(reference::shifted_quotient(n, shift, d, limit) == std::min<uint128>(exact, limit));
  }
  CHECK(reference::long_square_root(std::uint64_t{1} << 60) == std::uint64_t{1} << 59);
}

TEST_CASE("reference::fq_vit_layernorm: refuses values and shapes that it cannot hold") {
  const std::vector<float> one(3, 1.0F), two(2, 1.0F);
  const std::vector<std::uint8_t> shift(3, 0);
  const layernorm_spec good{.gamma = one, .beta = one, .input_zero_point = 3, .shift = shift, .output_scale = 0.1};
  const owned_fq_vit_layernorm built = build_fq_vit_layernorm(good);
  tensor<std::uint8_t> x(2, 3), narrow(2, 2);
  tensor<std::int32_t> y(2, 3);
  generator random(1);
  fill(x.view(), values::random, 0, 255, random);
  CHECK_NOTHROW(reference::fq_vit_layernorm(x.view(), built.parameters(), y.view()));

  const auto refused = [&](auto change) {
    owned_fq_vit_layernorm changed = built;
    change(changed);
    tensor<std::int32_t> untouched(2, 3);
    CHECK_THROWS_AS(reference::fq_vit_layernorm(x.view(), changed.parameters(), untouched.view()),
                    std::invalid_argument);
    CHECK(untouched.memory() == tensor<std::int32_t>(2, 3).memory());
  };
  refused([](auto& p) { p.zero_point = 256; });
  refused([](auto& p) { p.zero_point = -1; });
  refused([](auto& p) { p.shift[2] = 4; });
  refused([](auto& p) { p.shift.pop_back(); });
  refused([](auto& p) { p.gain[1] = 1 << 30; });
  refused([](auto& p) { p.gain.pop_back(); });
  refused([](auto& p) { p.gain_shift[0] = 61; });
  refused([](auto& p) { p.gain_shift.pop_back(); });
  refused([](auto& p) { p.bias[0] = std::int64_t{1} << 61; });
  refused([](auto& p) { p.bias.pop_back(); });
  CHECK_THROWS_AS(reference::fq_vit_layernorm(narrow.view(), built.parameters(), y.view()), std::invalid_argument);

  const auto not_built = [&](auto change) {
    layernorm_spec changed = good;
    change(changed);
    CHECK_THROWS_AS(build_fq_vit_layernorm(changed), std::invalid_argument);
  };
  const std::vector<float> not_finite = {1, std::numeric_limits<float>::infinity(), 1};
  not_built([&](auto& t) { t.beta = two; });
  not_built([&](auto& t) { t.shift = {}; });
  not_built([&](auto& t) { t.gamma = not_finite; });
  not_built([&](auto& t) { t.beta = not_finite; });
  not_built([](auto& t) { t.output_scale = 0; });
  not_built([](auto& t) { t.output_scale = 1e-8; });
  not_built([](auto& t) { t.output_scale = std::numeric_limits<double>::quiet_NaN(); });
  not_built([](auto& t) { t.input_zero_point = 256; });
}

struct recorded_comparison {
  std::int64_t values = 0, exact_differ = 0, original_differ = 0, constant = 0;
};

void compare_recorded(const safetensors_file& file, recorded_comparison& result) {
  const nlohmann::json recorded = nlohmann::json::parse(file.metadata_value("params"));
  const std::vector<std::int32_t> codes = file.values<std::int32_t>("codes");
  const std::vector<float> gamma = file.values<float>("weight"), beta = file.values<float>("bias");
  std::vector<std::uint8_t> shift;
  for (const std::int32_t factor : file.values<std::int32_t>("shift_mask")) {
    shift.push_back(static_cast<std::uint8_t>(bit_length(static_cast<std::uint64_t>(factor)) - 1));
  }
  const owned_fq_vit_layernorm built = build_fq_vit_layernorm({.gamma = gamma,
                                                               .beta = beta,
                                                               .input_zero_point = recorded.at("in_zero_point"),
                                                               .shift = shift,
                                                               .output_scale = recorded.at("out_scale")});
  const index_t channels = std::ssize(gamma), rows = std::ssize(codes) / channels;
  tensor<std::uint8_t> x(rows, channels);
  tensor<std::int32_t> y(rows, channels);
  std::copy(codes.begin(), codes.end(), x.view().data);
  reference::fq_vit_layernorm(x.view(), built.parameters(), y.view());
  const std::vector<std::int32_t> exact = file.values<std::int32_t>("out_exact8");
  const std::vector<std::int32_t> original = file.values<std::int32_t>("out_codes");
  const std::vector<std::int64_t> variance = file.values<std::int64_t>("V");
  for (std::size_t at = 0; at < exact.size(); ++at) {
    if (variance[at / gamma.size()] == 0) {  // the original divided by zero
      ++result.constant;
      continue;
    }
    ++result.values;
    result.exact_differ += y.memory()[at] != exact[at] ? 1 : 0;
    result.original_differ += y.memory()[at] != original[at] ? 1 : 0;
  }
}

TEST_CASE("reference::fq_vit_layernorm: gives the codes of exact arithmetic [recorded cases]") {
  if (skip_without_cases()) {
    return;
  }
  recorded_comparison result;
  for (const auto& entry : std::filesystem::directory_iterator(cases_directory())) {
    if (entry.path().filename().string().starts_with("ln_")) {
      compare_recorded(safetensors_file::read(entry.path()), result);
    }
  }
  std::cout << "compatibility LayerNorm: " << result.exact_differ << " of " << result.values
            << " codes differ from exact arithmetic, " << result.original_differ << " from the original's; "
            << result.constant << " codes of constant rows left out\n";
  CHECK(result.values >= 41512);
  CHECK(result.exact_differ == 0);
  CHECK(result.original_differ * 100000 <= 3 * result.values);
}

}  // namespace
}  // namespace intact_test::fq_vit_layernorm_test
