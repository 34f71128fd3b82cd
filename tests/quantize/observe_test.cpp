#include "intact/quantize/observe.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "cases.hpp"
#include "catch.hpp"
#include "intact/io/safetensors.hpp"
#include "recorded_codes.hpp"
#include "refusal.hpp"

namespace intact_test::observe_test {
namespace {

using intact::code_range;
using intact::granularity;
using intact::matrix_view;
using intact::range_observer;
using intact::range_rule;
using intact::safetensors_file;
using intact::value_range;

constexpr float infinity = std::numeric_limits<float>::infinity();

/// A matrix that owns its values.
struct table {
  std::vector<float> values;
  intact::index_t rows = 0;
  intact::index_t columns = 0;

  matrix_view<const float> view() const { return {values.data(), rows, columns}; }
};

table random_table(std::mt19937& random, intact::index_t rows, intact::index_t columns, float spread = 1) {
  std::normal_distribution<float> normal(0.2f, spread);
  table x{{}, rows, columns};
  for (intact::index_t i = 0; i < rows * columns; ++i) {
    x.values.push_back(normal(random));
  }
  return x;
}

/// fl(x), whatever the compiler does to an expression that it is part of.
float rounded(float x) {
  volatile float stored = x;
  return stored;
}

// ---- recorded cases ----

/// A tensor as the original's observers see it: channels are the last dimension of activations and the first of
/// weights.
table recorded_batch(const safetensors_file& file, const std::string& name, bool weights) {
  const std::vector<float> values = file.values<float>(name);
  const std::vector<std::int64_t> shape = file.info(name).shape;
  const intact::index_t channels = static_cast<intact::index_t>(weights ? shape.front() : shape.back());
  const intact::index_t others = static_cast<intact::index_t>(values.size()) / channels;
  if (!weights) {
    return {values, others, channels};
  }
  table transposed{std::vector<float>(values.size()), others, channels};
  for (intact::index_t c = 0; c < channels; ++c) {
    for (intact::index_t k = 0; k < others; ++k) {
      transposed.values[static_cast<std::size_t>(k * channels + c)] = values[static_cast<std::size_t>(c * others + k)];
    }
  }
  return transposed;
}

void check_recorded(const std::filesystem::path& path) {
  const std::string name = path.stem().string();
  CAPTURE(name);
  const safetensors_file file = safetensors_file::read(path);
  const code_range codes = recorded_codes(file);
  const bool omse = name.starts_with("obs_omse"), ptf = name.starts_with("obs_ptf");
  const range_rule rule = name.starts_with("obs_ema")          ? range_rule::ema
                          : name.starts_with("obs_percentile") ? range_rule::percentile
                                                               : range_rule::minmax;
  range_observer observer(rule, says(file, "channel_wise") ? granularity::channel : granularity::tensor);
  range_observer whole(range_rule::minmax);
  table last;
  for (const char* const batch : {"batch0", "batch1", "batch2"}) {
    if (file.contains(batch)) {
      last = recorded_batch(file, batch, !says(file, "activation"));
      observer.update(last.view());
      whole.update(last.view());
    }
  }
  const matrix_view<const float> last_view = last.view();
  const std::vector<float> scale = file.values<float>("scale");
  const std::vector<std::int32_t> zero_point = file.values<std::int32_t>("zero_point");

  if (omse) {
    // The original shrinks its range to the chosen one.
    const intact::affine_scale built = intact::build_omse_scale(observer.range(), codes, {&last_view, 1});
    CHECK(built.scale == scale.at(0));
    CHECK(built.zero_point == zero_point.at(0));
    return;
  }
  for (std::size_t c = 0; c < observer.ranges().size(); ++c) {
    CHECK(observer.ranges()[c].low == file.values<float>("min_val").at(c));
    CHECK(observer.ranges()[c].high == file.values<float>("max_val").at(c));
  }
  if (ptf) {
    const intact::ptf_scale built = intact::build_ptf_scale(whole.range(), codes, {&last_view, 1});
    REQUIRE(built.shift.size() == scale.size());
    CHECK(built.zero_point == zero_point.at(0));
    for (std::size_t c = 0; c < scale.size(); ++c) {
      CHECK(built.channel(static_cast<intact::index_t>(c)).scale == scale[c]);
    }
    return;
  }
  REQUIRE(observer.ranges().size() == scale.size());
  for (std::size_t c = 0; c < scale.size(); ++c) {
    const intact::affine_scale built = intact::build_affine_scale(observer.ranges()[c], codes);
    CHECK(built.scale == scale[c]);
    CHECK(built.zero_point == zero_point.at(c));
  }
}

}  // namespace

TEST_CASE("range_observer: equals the observers of the original [recorded cases]", "[observe][cases]") {
  if (intact_test::skip_without_cases()) {
    return;
  }
  int cases = 0;
  for (const auto& entry : std::filesystem::directory_iterator(intact_test::cases_directory())) {
    if (entry.path().filename().string().starts_with("obs_")) {
      check_recorded(entry.path());
      ++cases;
    }
  }
  REQUIRE(cases > 0);
}

// ---- ranges ----

TEST_CASE("range_observer: minmax gives the least and the largest value per tensor and per channel", "[observe]") {
  const table first{{1, -2, 3, 4, 5, -6}, 3, 2};
  const table second{{0.5f, 9, 0.25f, -1}, 2, 2};
  range_observer tensor(range_rule::minmax), channel(range_rule::minmax, granularity::channel);
  for (const table* const batch : {&first, &second}) {
    tensor.update(batch->view());
    channel.update(batch->view());
  }
  REQUIRE(tensor.ranges().size() == 1);
  CHECK(tensor.range().low == -6);
  CHECK(tensor.range().high == 9);
  REQUIRE(channel.ranges().size() == 2);
  CHECK(channel.range(0).low == 0.25f);
  CHECK(channel.range(0).high == 5);
  CHECK(channel.range(1).low == -6);
  CHECK(channel.range(1).high == 9);
}

TEST_CASE("range_observer: several matrices are one batch", "[observe]") {
  std::mt19937 random(3);
  for (const range_rule rule : {range_rule::minmax, range_rule::ema, range_rule::percentile}) {
    range_observer joined(rule), apart(rule);
    for (int step = 0; step < 3; ++step) {
      const table x = random_table(random, 12, 5);
      const std::array parts{x.view().row_block(0, 7), x.view().row_block(7, 0), x.view().row_block(7, 5)};
      joined.update(x.view());
      apart.update(parts);
    }
    CHECK(joined.range().low == apart.range().low);
    CHECK(joined.range().high == apart.range().high);
  }
}

TEST_CASE("range_observer: skips the elements between the rows of a view", "[observe]") {
  const table x{{1, 99, 2, -99, 3, 99}, 3, 2};
  range_observer observer(range_rule::minmax);
  observer.update(x.view().column_block(0, 1));
  CHECK(observer.range().low == 1);
  CHECK(observer.range().high == 3);
}

TEST_CASE("range_observer: moving averages round after every operation", "[observe]") {
  std::mt19937 random(4);
  std::uniform_real_distribution<float> uniform(-10, 10);
  range_observer observer(range_rule::ema);
  float expected = uniform(random);
  observer.update(matrix_view<const float>(&expected, 1, 1));
  int fused_differs = 0;
  for (int step = 0; step < 2000; ++step) {
    const float value = uniform(random);
    observer.update(matrix_view<const float>(&value, 1, 1));
    const float change = rounded(value - expected);
    fused_differs += std::fma(0.01f, change, expected) != rounded(expected + rounded(0.01f * change));
    expected = rounded(expected + rounded(0.01f * change));
    REQUIRE(observer.range().low == expected);
    REQUIRE(observer.range().high == expected);
  }
  REQUIRE(fused_differs > 0);  // or this test could not see a fused operation
}

TEST_CASE("range_observer: quantiles interpolate between neighbours", "[observe]") {
  // 100,001 values 0, 1, 2, ...: the ranks are q * 100,000 with q = 0.99999 and 0.00001 rounded to float.
  table ramp{{}, 100'001, 1};
  for (int i = 100'000; i >= 0; --i) {
    ramp.values.push_back(static_cast<float>(i));
  }
  range_observer observer(range_rule::percentile);
  observer.update(ramp.view());
  CHECK(observer.range().high == rounded(0.99999f * 100'000.0f));
  CHECK(observer.range().low == rounded(static_cast<float>(1 - 0.99999) * 100'000.0f));

  range_observer single(range_rule::percentile);
  single.update(table{{7}, 1, 1}.view());
  CHECK(single.range().low == 7);
  CHECK(single.range().high == 7);

  range_observer pair(range_rule::percentile);
  pair.update(table{{8, 0}, 1, 2}.view());
  CHECK(pair.range().high == 8 * 0.99999f);
  CHECK(pair.range().low == 8 * static_cast<float>(1 - 0.99999));
}

TEST_CASE("range_observer: quantiles are interpolated from the nearer neighbour, with one rounding", "[observe]") {
  std::mt19937 random(8);
  std::uniform_real_distribution<float> uniform(0, 1);
  int farther_differs = 0, twice_rounded_differs = 0;
  for (intact::index_t n = 1000; n < 40'000; n += 1000) {
    const float high = uniform(random), low = -uniform(random), difference = rounded(high - low);
    table x{std::vector<float>(static_cast<std::size_t>(n), -1.0f), n, 1};
    x.values[7] = high;
    x.values[99] = low;
    range_observer observer(range_rule::percentile);
    observer.update(x.view());

    const float position = rounded(0.99999f * static_cast<float>(n - 1));
    const float weight = position - std::floor(position);
    REQUIRE(weight > 0.5f);
    REQUIRE(observer.range().high == std::fma(weight - 1, difference, high));
    farther_differs += observer.range().high != std::fma(weight, difference, low);
    twice_rounded_differs += observer.range().high != rounded(high - rounded((1 - weight) * difference));
  }
  REQUIRE(farther_differs > 0);  // or this test could not see another interpolation
  REQUIRE(twice_rounded_differs > 0);
}

TEST_CASE("range_observer: ranks of quantiles are in double [more values than torch.quantile takes]", "[observe]") {
  table ramp{{}, 16'040'001, 1};
  ramp.values.reserve(static_cast<std::size_t>(ramp.rows));
  for (int i = 0; i < 16'040'001; ++i) {
    ramp.values.push_back(static_cast<float>(i - 16'000'000));
  }
  range_observer observer(range_rule::percentile);
  observer.update(ramp.view());
  CHECK(observer.range().high == 39'839.6f);  // a rank in float would be an integer here
  CHECK(observer.range().low == -15'999'840);
}

// ---- scales ----

TEST_CASE("build_affine_scale: gives the scale and zero point of a range", "[observe]") {
  SECTION("unsigned codes") {
    const intact::affine_scale scale = intact::build_affine_scale({-1, 254}, intact::u8_codes);
    CHECK(scale.scale == 1);
    CHECK(scale.zero_point == 1);
  }
  SECTION("a range above 0 is not widened; its zero point is clamped") {
    const intact::affine_scale scale = intact::build_affine_scale({100, 355}, intact::u8_codes);
    CHECK(scale.scale == 1);
    CHECK(scale.zero_point == 0);
  }
  SECTION("a range below 0") {
    const intact::affine_scale scale = intact::build_affine_scale({-355, -100}, intact::u8_codes);
    CHECK(scale.scale == 1);
    CHECK(scale.zero_point == 255);
  }
  SECTION("symmetric codes: the range is 2^b - 1 steps") {
    CHECK(intact::build_affine_scale({-255, 100}, intact::s8_codes).scale == 2);
    CHECK(intact::build_affine_scale({-100, 255}, intact::s8_codes).scale == 2);
    CHECK(intact::build_affine_scale({-100, 255}, intact::s8_codes).zero_point == 0);
    CHECK(intact::build_affine_scale({-15, 1}, intact::s4_codes).scale == 2);
  }
  SECTION("no range: the smallest scale") {
    CHECK(intact::build_affine_scale({0, 0}, intact::u8_codes).scale == std::ldexp(1.0f, -23));
    CHECK(intact::build_affine_scale({0, 0}, intact::s8_codes).scale == std::ldexp(1.0f, -23));
    CHECK(intact::build_affine_scale({5, 5}, intact::u8_codes).zero_point == 0);
    CHECK(intact::build_affine_scale({-5, -5}, intact::u8_codes).zero_point == 255);
  }
  SECTION("the zero point rounds halves to even") {
    CHECK(intact::build_affine_scale({-2.5f, 252.5f}, intact::u8_codes).zero_point == 2);
    CHECK(intact::build_affine_scale({-3.5f, 251.5f}, intact::u8_codes).zero_point == 4);
  }
}

TEST_CASE("build_omse_scale: narrows a range for an outlier, but only for one of the last batch", "[observe]") {
  table x{{}, 1000, 1};
  for (int i = 0; i < 1000; ++i) {
    x.values.push_back(static_cast<float>(i % 16));
  }
  const matrix_view<const float> view = x.view();
  // 0..15 are codes of the full range: nothing is better than no error.
  const intact::affine_scale whole = intact::build_omse_scale({0, 15}, intact::u4_codes, {&view, 1});
  CHECK(whole.scale == 1);
  CHECK(whole.zero_point == 0);
  // At the range of 0..30 every second step is missing; 30 * 0.5 fits exactly.
  const intact::affine_scale narrowed = intact::build_omse_scale({0, 30}, intact::u4_codes, {&view, 1});
  CHECK(narrowed.scale == 1);
  // Signedness is ignored: signed codes get a zero point.
  const intact::affine_scale as_signed = intact::build_omse_scale({0, 15}, intact::s4_codes, {&view, 1});
  CHECK(as_signed.scale == 1);
  CHECK(as_signed.zero_point == -8);
}

TEST_CASE("build_omse_scale: takes the first of equal candidates, also without a range", "[observe]") {
  const table zeros{{0, 0, 0}, 3, 1};
  const matrix_view<const float> view = zeros.view();
  CHECK(intact::build_omse_scale({-1, 1}, intact::u8_codes, {&view, 1}).scale == 2.0f / 255);
  CHECK(intact::build_omse_scale({0, 0}, intact::u8_codes, {&view, 1}).scale == std::ldexp(1.0f, -23));
}

TEST_CASE("build_ptf_scale: takes a factor per channel", "[observe]") {
  // With 8 s = 8 and the zero point 0: channel c has multiples of 2^c up to 255 * 2^c; the last is all 0, a tie.
  table x{{}, 256, 5};
  for (int i = 0; i < 256; ++i) {
    for (int c = 0; c < 5; ++c) {
      x.values.push_back(c == 4 ? 0.0f : static_cast<float>(i << c));
    }
  }
  const matrix_view<const float> view = x.view();
  const intact::ptf_scale scale = intact::build_ptf_scale({0, 2040}, intact::u8_codes, {&view, 1});
  CHECK(scale.scale == 1);
  CHECK(scale.zero_point == 0);
  CHECK(scale.shift == std::vector<std::uint8_t>{0, 1, 2, 3, 0});
  CHECK(scale.channel(3).scale == 8);
}

TEST_CASE("build_ptf_scale, build_omse_scale: scores of several matrices equal those of one", "[observe]") {
  std::mt19937 random(6);
  table x = random_table(random, 40, 9);
  for (intact::index_t i = 0; i < 40; ++i) {
    x.values[static_cast<std::size_t>(i * 9 + 4)] *= 0.1f;
  }
  const std::array whole{x.view()};
  const std::array parts{x.view().row_block(0, 1), x.view().row_block(1, 19), x.view().row_block(20, 20)};
  const value_range range{-4, 4};
  const intact::ptf_scale ptf = intact::build_ptf_scale(range, intact::u8_codes, whole);
  CHECK(intact::build_ptf_scale(range, intact::u8_codes, parts).shift == ptf.shift);
  CHECK(intact::build_omse_scale(range, intact::u4_codes, parts).scale ==
        intact::build_omse_scale(range, intact::u4_codes, whole).scale);
  CHECK(ptf.shift != std::vector<std::uint8_t>(9, ptf.shift[0]));
}

TEST_CASE("build_ptf_scale, build_omse_scale: scores are rounded to float32", "[observe]") {
  // The same choice from arithmetic that stores every result to memory; sums in double, as in the library.
  std::mt19937 random(7);
  for (int trial = 0; trial < 20; ++trial) {
    const table x = random_table(random, 64, 3, std::ldexp(1.0f, trial - 10));
    range_observer observer(range_rule::minmax);
    observer.update(x.view());
    const value_range range = observer.range();
    float best_scale = 0, best_zero_point = 0;
    double least = std::numeric_limits<double>::infinity();
    for (int i = 0; i < 90; ++i) {
      const float factor = static_cast<float>(1.0 - i * 0.01);
      const float low = rounded(range.low * factor), high = rounded(range.high * factor);
      const float scale = rounded(rounded(high - low) / 15.0f);
      const float zero_point = std::min(15.0f, std::max(0.0f, rounded(0 - std::nearbyint(rounded(low / scale)))));
      double error = 0;
      for (const float value : x.values) {
        const float shifted = std::nearbyint(rounded(rounded(value / scale) + zero_point));
        const float code = std::min(15.0f, std::max(0.0f, shifted));
        const float difference = rounded(value - rounded(rounded(code - zero_point) * scale));
        error += static_cast<double>(difference) * static_cast<double>(difference);
      }
      if (error < least) {
        least = error;
        best_scale = scale;
        best_zero_point = zero_point;
      }
    }
    const matrix_view<const float> view = x.view();
    const intact::affine_scale built = intact::build_omse_scale(range, intact::u4_codes, {&view, 1});
    CHECK(built.scale == best_scale);
    CHECK(static_cast<float>(built.zero_point) == best_zero_point);
  }
}

// ---- errors ----

TEST_CASE("range_observer: refuses bad batches before anything changes", "[observe]") {
  range_observer observer(range_rule::minmax, granularity::channel);
  CHECK(refusal([&] { observer.range(); }) == "intact::range_observer: channel is 0; 0 channels have a range");
  observer.update(table{{1, 2}, 1, 2}.view());

  CHECK(refusal([&] {
          observer.update(table{{1, 5, 3, infinity}, 2, 2}.view());
        }) == "intact::range_observer: batch[0] has the value inf at row 1, column 1; it must be finite");
  const std::string nan_message = refusal([&] { observer.update(table{{std::nanf(""), 5}, 1, 2}.view()); });
  CHECK(nan_message.find("nan at row 0, column 0; it must be finite") != std::string::npos);
  CHECK(refusal([&] { observer.update(matrix_view<const float>(nullptr, 0, 2)); }) ==
        "intact::range_observer: batch has 1 matrices and no values; it must have some");
  CHECK(refusal([&] { observer.update(intact::float_batch()); }) ==
        "intact::range_observer: batch has 0 matrices and no values; it must have some");
  CHECK(refusal([&] {
          observer.update(table{{1, 2, 3}, 1, 3}.view());
        }) == "intact::range_observer: columns of batch[0] is 3; it must be equal to 2");
  const table wide{{1, 2, 3}, 1, 3}, narrow{{1, 2}, 1, 2};
  const std::array uneven{narrow.view(), wide.view()};
  CHECK(refusal([&] { observer.update(uneven); }) ==
        "intact::range_observer: columns of batch[1] is 3; it must be equal to 2");
  CHECK(observer.range(0).high == 1);
  CHECK(observer.range(1).high == 2);
  CHECK(refusal([&] { observer.range(2); }) == "intact::range_observer: channel is 2; 2 channels have a range");
  CHECK(refusal([] { range_observer(range_rule::percentile, granularity::channel); }) ==
        "intact::range_observer: granularity is channel; with the rule percentile it must be tensor");
}

TEST_CASE("build_affine_scale, build_omse_scale, build_ptf_scale: refuse bad ranges", "[observe]") {
  const table x{{1, 2}, 1, 2};
  const std::array batch{x.view()};
  const float largest = std::numeric_limits<float>::max();
  for (const value_range range :
       {value_range{1, 0}, value_range{0, infinity}, value_range{std::nanf(""), 1}, value_range{-largest, largest}}) {
    CHECK_THROWS_AS(intact::build_affine_scale(range, intact::u8_codes), std::invalid_argument);
    CHECK_THROWS_AS(intact::build_omse_scale(range, intact::u8_codes, batch), std::invalid_argument);
    CHECK_THROWS_AS(intact::build_ptf_scale(range, intact::u8_codes, batch), std::invalid_argument);
  }
  CHECK(refusal([] {
          intact::build_affine_scale({1, 0}, intact::u8_codes);
        }) == "intact::build_affine_scale: the range is 1 to 0; it must be finite, not empty and of finite length");
  CHECK_THROWS_AS(intact::build_affine_scale({0, 1}, {5, 5, false}), std::invalid_argument);
  CHECK_THROWS_AS(intact::build_omse_scale({0, 1}, intact::u8_codes, {}), std::invalid_argument);
  CHECK_THROWS_AS(intact::build_ptf_scale({0, 1}, intact::u8_codes, {}), std::invalid_argument);
}

}  // namespace intact_test::observe_test
