#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <iostream>
#include <limits>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "catch.hpp"
#include "intact/build/add.hpp"
#include "refusal.hpp"
#include "tensor.hpp"

// The builder of residual additions. A channel has only 65,536 pairs of codes, so that properties of all of them are
// tried on all of them.

namespace intact_test::add_scale_test {
namespace {

/// The result of build_add for a layer.
struct built_addition {
  std::vector<std::int32_t> stream, branch, offset;
  std::vector<realized_add> exact;
  add_parameters scale;

  built_addition(const std::vector<add_spec>& specs, const add_zero_points& zero_points)
      : stream(specs.size()),
        branch(specs.size()),
        offset(specs.size()),
        exact(specs.size()),
        scale(build_add(specs, zero_points, stream, branch, offset, exact)) {}
  built_addition(const built_addition&) = delete;
  built_addition& operator=(const built_addition&) = delete;
};

/// The message with which a layer is refused, nothing having been written; empty if it is built.
std::string refusal_of(const std::vector<add_spec>& specs, const add_zero_points& zero_points = {}) {
  std::vector<std::int32_t> stream(specs.size(), -7), branch(specs.size(), -8), offset(specs.size(), -9);
  std::vector<realized_add> exact(specs.size(), realized_add{-1, -2, -3});
  std::string message = refusal([&] { build_add(specs, zero_points, stream, branch, offset, exact); });
  if (!message.empty()) {
    CHECK(stream == std::vector<std::int32_t>(specs.size(), -7));
    CHECK(branch == std::vector<std::int32_t>(specs.size(), -8));
    CHECK(offset == std::vector<std::int32_t>(specs.size(), -9));
    CHECK(std::all_of(exact.begin(), exact.end(),
                      [](const realized_add& e) { return e.stream == -1 && e.branch == -2 && e.offset == -3; }));
  }
  return message;
}

/// Channels that models have, and worse ones: nothing from one side, ratios that vanish beside the other, ratios that
/// are equal or powers of two (sums then repeat), ratios above 1.
std::vector<add_spec> adversarial_channels() {
  constexpr std::array<double, 12> ratios{0, 1e-9, 1e-4, 0.125, 0.3, 0.5, 1, 1.5, 1.96, 2, 4, 4.09};
  std::vector<add_spec> specs;
  for (const double stream : ratios) {
    for (const double branch : ratios) {
      specs.push_back({stream, branch});
    }
  }
  return specs;
}

constexpr std::array<add_zero_points, 5> zero_point_cases{
    {{0, 0, 0}, {255, 255, 255}, {128, 128, 128}, {0, 255, 128}, {137, 3, 61}}};

/// Statistics of the pairs of codes of one channel.
struct pair_counts {
  int ties = 0;
  int overflows = 0;  ///< of int32, in any step
  int wrong = 0;      ///< results that differ from the exact numbers rounded to nearest
  int inexact = 0;    ///< numbers that double precision rounds
};

pair_counts try_all_pairs(const add_parameters& scale, std::size_t c, const realized_add& exact) {
  pair_counts counts;
  const std::int32_t ma = scale.stream_multiplier[c], mb = scale.branch_multiplier[c], offset = scale.offset[c];
  for (std::int32_t r = 0; r < 256; ++r) {
    for (std::int32_t b = 0; b < 256; ++b) {
      std::int32_t of_stream = 0, of_branch = 0, sum = 0;
      const bool overflows = __builtin_mul_overflow(r - scale.stream_zero_point, ma, &of_stream) ||
                             __builtin_mul_overflow(b - scale.branch_zero_point, mb, &of_branch) ||
                             __builtin_add_overflow(of_stream, of_branch, &sum) ||
                             __builtin_add_overflow(sum, offset, &sum);
      counts.overflows += overflows ? 1 : 0;
      counts.ties += sum % (1 << scale.shift) == 0 ? 1 : 0;

      const double x =
          exact.stream * (r - scale.stream_zero_point) + exact.branch * (b - scale.branch_zero_point) + exact.offset;
      counts.inexact += std::ldexp(x, scale.shift) + std::ldexp(0.5, scale.shift) == sum ? 0 : 1;
      const auto y = static_cast<double>(sum >> scale.shift);
      counts.wrong += y == std::rint(x) && y == std::floor(x + 0.5) && y == std::round(x) ? 0 : 1;
    }
  }
  return counts;
}

void check_all_pairs(const built_addition& built) {
  for (std::size_t c = 0; c < built.exact.size(); ++c) {
    const pair_counts counts = try_all_pairs(built.scale, c, built.exact[c]);
    CAPTURE(c, built.stream[c], built.branch[c], built.offset[c], built.scale.shift);
    CHECK(counts.overflows == 0);
    CHECK(counts.ties == 0);
    CHECK(counts.inexact == 0);
    CHECK(counts.wrong == 0);
  }
}

/// 255 * (stream + branch) + offset at a shift, before the offset is nudged.
std::int64_t largest_sum(const add_spec& target, const add_zero_points& zero_points, int shift) {
  const auto stream = static_cast<std::int64_t>(std::rint(std::ldexp(static_cast<long double>(target.stream), shift)));
  const auto branch = static_cast<std::int64_t>(std::rint(std::ldexp(static_cast<long double>(target.branch), shift)));
  return 255 * (stream + branch) + (std::int64_t{zero_points.output} << shift) + (std::int64_t{1} << (shift - 1));
}

/// Checks integers, exact numbers and the shift against docs/numerics.md, section 8. Below 2^31, the builder may keep
/// up to 2^17 free for the nudge.
void check_definition(const built_addition& built, const std::vector<add_spec>& specs,
                      const add_zero_points& zero_points) {
  const int shift = built.scale.shift;
  constexpr std::int64_t limit = std::int64_t{1} << 31;
  constexpr std::int64_t kept_free = std::int64_t{1} << 17;
  REQUIRE(shift >= add_min_shift);
  REQUIRE(shift <= add_max_shift);
  bool one_more_fits = shift < add_max_shift;
  for (std::size_t c = 0; c < specs.size(); ++c) {
    CAPTURE(c, specs[c].stream, specs[c].branch, shift);
    CHECK(built.stream[c] == std::rint(std::ldexp(specs[c].stream, shift)));
    CHECK(built.branch[c] == std::rint(std::ldexp(specs[c].branch, shift)));
    CHECK(built.exact[c].stream == std::ldexp(static_cast<double>(built.stream[c]), -shift));
    CHECK(built.exact[c].branch == std::ldexp(static_cast<double>(built.branch[c]), -shift));
    CHECK(built.exact[c].offset + 0.5 == std::ldexp(static_cast<double>(built.offset[c]), -shift));
    CHECK(largest_sum(specs[c], zero_points, shift) < limit);
    one_more_fits = one_more_fits && largest_sum(specs[c], zero_points, shift + 1) < limit - kept_free;
  }
  CHECK_FALSE(one_more_fits);
}

/// Checks that each offset is the first of 0, 1, -1, 2, ... away from its ideal value for which no pair is a tie.
void check_nudges(const built_addition& built, const add_zero_points& zero_points, int& largest) {
  const std::int64_t modulus = std::int64_t{1} << built.scale.shift;
  for (std::size_t c = 0; c < built.exact.size(); ++c) {
    const std::int64_t ideal = (std::int64_t{zero_points.output} << built.scale.shift) + modulus / 2;
    const std::int64_t nudge = built.offset[c] - ideal;
    largest = std::max(largest, static_cast<int>(std::abs(nudge)));
    if (nudge == 0) {
      continue;
    }
    std::vector<std::int64_t> residues;  // of all pairs, without an offset
    for (std::int64_t r = 0; r < 256; ++r) {
      for (std::int64_t b = 0; b < 256; ++b) {
        const std::int64_t sum =
            (r - zero_points.stream) * built.stream[c] + (b - zero_points.branch) * built.branch[c];
        residues.push_back(((sum % modulus) + modulus) % modulus);
      }
    }
    std::sort(residues.begin(), residues.end());
    const auto has_tie = [&](std::int64_t move) {
      const std::int64_t residue = ((-ideal - move) % modulus + modulus) % modulus;
      return std::binary_search(residues.begin(), residues.end(), residue);
    };
    bool nearest = true;
    for (std::int64_t distance = 0; distance < std::abs(nudge); ++distance) {
      nearest = nearest && has_tie(distance) && has_tie(-distance);
    }
    CAPTURE(c, nudge);
    CHECK(nearest);
    CHECK((nudge > 0 || has_tie(-nudge)));
  }
}

TEST_CASE("build_add: makes no pair of codes a tie [adversarial channels]", "[add_scale]") {
  int largest_nudge = 0;
  for (const add_zero_points& zero_points : zero_point_cases) {
    const std::vector<add_spec> specs = adversarial_channels();
    const built_addition built(specs, zero_points);
    CAPTURE(zero_points.stream, zero_points.branch, zero_points.output);
    check_definition(built, specs, zero_points);
    check_all_pairs(built);
    check_nudges(built, zero_points, largest_nudge);
  }
  CHECK(largest_nudge > 0);
}

TEST_CASE("build_add: makes no pair of codes a tie [random channels]", "[add_scale]") {
  generator random(1);
  const auto code = [&] { return static_cast<int>(random.between(0, 255)); };
  const auto ratio = [&] { return std::exp2(static_cast<double>(random.between(-12'000, 2300)) / 1000); };
  int largest_nudge = 0;
  for (int layer = 0; layer < 60; ++layer) {
    const add_zero_points zero_points{code(), code(), code()};
    std::vector<add_spec> specs;
    for (int c = 0; c < 6; ++c) {
      specs.push_back({ratio(), ratio()});
    }
    const built_addition built(specs, zero_points);
    CAPTURE(layer);
    check_definition(built, specs, zero_points);
    check_all_pairs(built);
    check_nudges(built, zero_points, largest_nudge);
  }
  std::cout << "residual additions: offsets nudged by at most " << largest_nudge << " units" << std::endl;
}

TEST_CASE("build_add: makes no pair of codes a tie [one channel]", "[add_scale]") {
  int largest_nudge = 0;
  for (const add_spec& target : adversarial_channels()) {
    const add_zero_points zero_points{128, 128, 128};
    const built_addition built({target}, zero_points);
    check_definition(built, {target}, zero_points);
    check_all_pairs(built);
    check_nudges(built, zero_points, largest_nudge);
  }
}

TEST_CASE("build_add: moves an offset by as many units as are needed", "[add_scale]") {
  struct {
    add_spec target;
    int shift;
    int nudge;
  } const cases[] = {
      // code 128 of the branch is half a code; to it come r - 128 units: -127..128 units of nudge are taken
      {{std::ldexp(1.0, -24), std::ldexp(1.0, -8)}, 24, -128},
      // odd r - 128 are halves; to them come 128 * (r - 128) + b units: -16511..16256 units of nudge are taken
      {{0.5 + std::ldexp(1.0, -16), std::ldexp(1.0, -23)}, 23, 16257}};
  for (const auto& [target, shift, nudge] : cases) {
    const add_zero_points zero_points{128, 0, 0};
    const built_addition built({target}, zero_points);
    REQUIRE(built.scale.shift == shift);
    CHECK(built.offset[0] - (1 << (shift - 1)) == nudge);
    check_all_pairs(built);
    int largest_nudge = 0;
    check_nudges(built, zero_points, largest_nudge);
  }
}

TEST_CASE("build_add: builds the largest ratios [63.9 in all]", "[add_scale]") {
  // 63.9 takes all of int32 at the smallest shift, if nothing else is added
  for (const add_spec& target :
       {add_spec{63.9, 0}, add_spec{0, 63.9}, add_spec{31.9, 31.9}, add_spec{63.9, 1e-9}, add_spec{32, 31}}) {
    for (const add_zero_points& zero_points : {add_zero_points{0, 0, 0}, add_zero_points{255, 255, 0},
                                               add_zero_points{0, 255, 0}, add_zero_points{128, 0, 0}}) {
      const built_addition built({target}, zero_points);
      CHECK(built.scale.shift == add_min_shift);
      check_definition(built, {target}, zero_points);
      check_all_pairs(built);
    }
  }
}

TEST_CASE("build_add: takes the shift that the channel with the largest sums allows", "[add_scale]") {
  const std::vector<add_spec> small(9, add_spec{0.2, 0.1});
  const add_zero_points zero_points{128, 128, 0};
  CHECK(built_addition(small, zero_points).scale.shift == 24);
  for (std::size_t place = 0; place < small.size(); ++place) {
    std::vector<add_spec> specs = small;
    specs[place] = {1.96, 4.09};
    const built_addition built(specs, zero_points);
    CHECK(built.scale.shift == 20);  // 255 * 6.05 * 2^20 < 2^31 < 255 * 6.05 * 2^21
    check_definition(built, specs, zero_points);
  }
}

TEST_CASE("build_add: add computes the codes of the built parameters [all pairs of codes]", "[add_scale]") {
  std::vector<std::uint8_t> stream, branch;
  for (int r = 0; r < 256; ++r) {
    for (int b = 0; b < 256; ++b) {
      stream.push_back(static_cast<std::uint8_t>(r));
      branch.push_back(static_cast<std::uint8_t>(b));
    }
  }
  std::vector<std::uint8_t> sum(stream.size());
  for (const add_spec& target : {add_spec{1, 1}, add_spec{0.7, 1.96}, add_spec{4.09, 0.01}, add_spec{0, 0}}) {
    const add_zero_points zero_points{131, 77, 140};
    const built_addition built({target}, zero_points);
    const realized_add& exact = built.exact[0];
    add({stream.data(), 65536, 1}, {branch.data(), 65536, 1}, built.scale, {sum.data(), 65536, 1});
    int wrong = 0;
    for (std::size_t i = 0; i < sum.size(); ++i) {
      const double x = exact.stream * (stream[i] - zero_points.stream) +
                       exact.branch * (branch[i] - zero_points.branch) + exact.offset;
      wrong += sum[i] == std::clamp(std::rint(x), 0.0, 255.0) ? 0 : 1;
    }
    CHECK(wrong == 0);
    CHECK(std::fabs(exact.stream - target.stream) <= std::ldexp(0.5, -built.scale.shift));
    CHECK(std::fabs(exact.branch - target.branch) <= std::ldexp(0.5, -built.scale.shift));
    CHECK(std::fabs(exact.offset - zero_points.output) < 1e-4);
  }
}

TEST_CASE("build_add: builds no channels, and without realized_add", "[add_scale]") {
  const built_addition empty({}, {1, 2, 3});
  CHECK(empty.scale.shift == add_max_shift);
  CHECK(empty.scale.offset.empty());
  CHECK(empty.scale.stream_zero_point == 1);
  CHECK(empty.scale.branch_zero_point == 2);

  const std::vector<add_spec> specs{{1, 0.5}, {0.25, 1.96}};
  const built_addition built(specs, {1, 2, 3});
  std::vector<std::int32_t> stream(2), branch(2), offset(2);
  const add_parameters scale = build_add(specs, {1, 2, 3}, stream, branch, offset);
  CHECK(stream == built.stream);
  CHECK(branch == built.branch);
  CHECK(offset == built.offset);
  CHECK(scale.stream_multiplier.data() == stream.data());
  CHECK(scale.branch_multiplier.data() == branch.data());
  CHECK(scale.offset.data() == offset.data());
}

TEST_CASE("build_add: refuses bad ratios, naming channel and value", "[add_scale]") {
  constexpr double infinity = std::numeric_limits<double>::infinity();
  constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();
  struct {
    double ratio;
    const char* named;
  } const cases[] = {{-0.25, "-0.25"},      {-infinity, "-inf"}, {infinity, "inf"},
                     {not_a_number, "nan"}, {64, "64"},          {1e300, "1e+300"}};
  for (const auto& [ratio, named] : cases) {
    for (std::size_t channel = 0; channel < 3; ++channel) {
      for (const bool of_stream : {true, false}) {
        std::vector<add_spec> specs(3, add_spec{1, 1});
        (of_stream ? specs[channel].stream : specs[channel].branch) = ratio;
        const std::string message = refusal_of(specs);
        CAPTURE(message, named);
        CHECK(mentions(message, "intact::build_add: "));
        CHECK(mentions(message, "channel " + std::to_string(channel)));
        CHECK(mentions(message, named));
        CHECK_FALSE(has_add_scale(specs[channel], 0));
      }
    }
  }
  CHECK(refusal_of({{1, 1}, {1, 1}, {1, 1}}).empty());
  CHECK(has_add_scale({1, 1}, 255));
}

TEST_CASE("build_add: refuses ratios whose sums exceed int32, naming channel and values", "[add_scale]") {
  struct {
    add_spec target;
    const char* named;
  } const cases[] = {
      {{63.5, 63.75}, "63.5 and 63.75"}, {{0.5, 63.875}, "0.5 and 63.875"}, {{32.5, 32.25}, "32.5 and 32.25"}};
  for (const auto& [target, named] : cases) {
    const std::string message = refusal_of({{1, 1}, target});
    CAPTURE(message);
    CHECK(mentions(message, "channel 1"));
    CHECK(mentions(message, named));
    CHECK_FALSE(has_add_scale(target, 0));
  }
  CHECK(refusal_of({{63.5, 0}}, {0, 0, 0}).empty());
  CHECK(has_add_scale({63.5, 0}, 0));
  CHECK(mentions(refusal_of({{63.5, 0}}, {0, 0, 255}), "channel 0"));  // the output's zero point takes the room
  CHECK_FALSE(has_add_scale({63.5, 0}, 255));
}

TEST_CASE("build_add: refuses sums that exceed int32 after their offset is moved", "[add_scale]") {
  // at the smallest shift the largest sum is 2^31 - 1, some pair is a tie, and 2 more would be free of ties
  const add_spec target{std::ldexp(4194562.0, -17), std::ldexp(4194303.0, -17)};
  const add_zero_points zero_points{0, 0, 63};
  REQUIRE(largest_sum(target, zero_points, 17) == std::numeric_limits<std::int32_t>::max());
  CHECK(mentions(refusal_of({target}, zero_points), "channel 0"));
}

TEST_CASE("build_add: refuses bad zero points, naming field and value", "[add_scale]") {
  for (const int bad : {-1, 256, std::numeric_limits<int>::min(), std::numeric_limits<int>::max()}) {
    struct {
      add_zero_points zero_points;
      const char* named;
    } const cases[] = {{{bad, 0, 0}, "zero point of the stream"},
                       {{0, bad, 0}, "zero point of the branch"},
                       {{0, 0, bad}, "zero point of the output"}};
    for (const auto& [zero_points, named] : cases) {
      const std::string message = refusal_of({{1, 1}}, zero_points);
      CAPTURE(message);
      CHECK(mentions(message, std::string(named) + " is " + std::to_string(bad)));
    }
  }
}

TEST_CASE("build_add: refuses arrays of other sizes than the channels", "[add_scale]") {
  const std::vector<add_spec> specs(3, add_spec{1, 1});
  std::vector<std::int32_t> stream(4, -7), branch(4, -8), offset(4, -9);
  std::vector<realized_add> exact(4);
  const auto build = [&](std::size_t a, std::size_t b, std::size_t c, std::size_t e) {
    return refusal([&] {
      build_add(specs, {}, std::span(stream).first(a), std::span(branch).first(b), std::span(offset).first(c),
                std::span(exact).first(e));
    });
  };
  for (const std::size_t size : std::array<std::size_t, 3>{0, 2, 4}) {
    const std::string value = " is " + std::to_string(size);
    CHECK(mentions(build(size, 3, 3, 3), "size of stream_multiplier" + value));
    CHECK(mentions(build(3, size, 3, 3), "size of branch_multiplier" + value));
    CHECK(mentions(build(3, 3, size, 3), "size of offset" + value));
    CHECK((size == 0 || mentions(build(3, 3, 3, size), "size of exact" + value)));
  }
  CHECK(stream == std::vector<std::int32_t>(4, -7));
  CHECK(branch == std::vector<std::int32_t>(4, -8));
  CHECK(offset == std::vector<std::int32_t>(4, -9));
  CHECK(build(3, 3, 3, 0).empty());
}

}  // namespace
}  // namespace intact_test::add_scale_test
