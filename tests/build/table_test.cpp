#include "intact/build/table.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <iostream>
#include <limits>
#include <nlohmann/json.hpp>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "cases.hpp"
#include "catch.hpp"
#include "intact/io/safetensors.hpp"
#include "refusal.hpp"
#include "tensor.hpp"

// The builders of exponential and activation tables, against their formulas written a second time, against recorded
// cases of FQ-ViT, and against real arithmetic.

namespace intact_test::table_test {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

// ------------------------------------------------------------------------------------------------ exponentials

/// I-BERT's exponential in float32 and integers, as in docs/numerics.md, section 5, in 128 bits and with 30 octaves
/// for every scale.
struct polynomial {
  std::int64_t octave, b, c;

  explicit polynomial(float scale) {
    const float reciprocal = 1.0F / scale;
    const float square = scale * scale;
    octave = -std::llround(std::floor(static_cast<float>(-0.6931) * reciprocal));
    b = std::llround(std::floor(static_cast<float>(0.96963238 / 0.35815147) * reciprocal));
    c = std::llround(std::floor(static_cast<float>(1 / 0.35815147) * (1.0F / square)));
  }

  uint128 exponential(int d) const {
    std::int64_t r = 0;
    int halvings = 0;
    for (int step = 0; step < d && halvings < 30; ++step) {
      ++r;
      if (r == octave) {
        r = 0;
        ++halvings;
      }
    }
    const std::int64_t value = c - r * (b - r);
    return static_cast<uint128>(std::max<std::int64_t>(value, 0)) << (30 - halvings);
  }

  /// Whether a table of some octaves leaves room for the sum of a row in 64 bits.
  bool fits(std::int64_t octaves, index_t keys) const {
    return (static_cast<uint128>(c) << octaves) * static_cast<uint128>(std::max<index_t>(2 * keys + 1, 6)) < uint128{1}
                                                                                                                 << 64;
  }
};

/// Scales spread evenly in logarithm.
std::vector<float> scales_between(double low, double high, int count) {
  std::vector<float> scales;
  for (int i = 0; i < count; ++i) {
    scales.push_back(static_cast<float>(low * std::pow(high / low, static_cast<double>(i) / (count - 1))));
  }
  return scales;
}

template <class T>
bool never_increases(const exp_values<T>& table) {
  return std::is_sorted(table.rbegin(), table.rend());
}

/// The code of an exponential in a sum as FQ-ViT computes it: the quotient rounded to an integer, halves to even, then
/// to a power of two. 16 is the code of everything above 15 and of an exponential of 0.
int code_of_quotient(uint128 sum, uint128 e) {
  if (e == 0) {
    return 16;
  }
  uint128 quotient = sum / e;
  const uint128 twice = 2 * (sum % e);
  if (twice > e || (twice == e && quotient % 2 == 1)) {
    ++quotient;
  }
  int power = 0;
  while (quotient >> (power + 1) != 0) {
    ++power;
  }
  const bool upper_half = 2 * (quotient - (uint128{1} << power)) >= uint128{1} << power;
  return std::min(power + (upper_half ? 1 : 0), 16);
}

/// The same in real numbers.
int code_of_quotient(long double sum, long double e) {
  const long double quotient = std::rint(sum / e);
  const int power = std::ilogb(quotient);
  const bool upper_half = quotient - std::ldexp(1.0L, power) >= std::ldexp(0.5L, power);
  return std::min(power + (upper_half ? 1 : 0), 16);
}

enum class row_kind { uniform, wide_bell, narrow_bell, one_above };

/// A nearly normal number: the sum of eight random bytes, whose mean is 1020 and whose deviation is 209.
double bell(generator& random, double mean, double deviation) {
  auto bytes = static_cast<std::uint64_t>(
      random.between(std::numeric_limits<std::int64_t>::min(), std::numeric_limits<std::int64_t>::max()));
  int sum = 0;
  for (; bytes != 0; bytes >>= 8) {
    sum += static_cast<int>(bytes & 255);
  }
  return mean + deviation * (sum - 1020) / 209;
}

std::vector<std::uint8_t> random_row(generator& random, index_t keys, row_kind kind) {
  std::vector<std::uint8_t> row(static_cast<std::size_t>(keys));
  for (std::uint8_t& code : row) {
    const double number = kind == row_kind::uniform     ? static_cast<double>(random.between(0, 255))
                          : kind == row_kind::one_above ? bell(random, 80, 25)
                                                        : bell(random, 140, kind == row_kind::wide_bell ? 40 : 12);
    code = static_cast<std::uint8_t>(std::clamp(number, 0.0, 255.0));
  }
  if (kind == row_kind::one_above && keys > 0) {
    row[static_cast<std::size_t>(random.between(0, keys - 1))] = static_cast<std::uint8_t>(random.between(150, 255));
  }
  return row;
}

template <class T>
std::vector<std::uint8_t> codes_of(const std::vector<std::uint8_t>& row, const exp_values<T>& table) {
  std::vector<std::uint8_t> codes(row.size());
  const auto keys = static_cast<index_t>(row.size());
  log_softmax({row.data(), 1, keys}, exp_table<T>(table), {codes.data(), 1, keys});
  return codes;
}

/// 256 exponentials of any number type, from a function of the distance.
template <class Number, class Exponential>
std::array<Number, 256> table_of(Exponential exponential) {
  std::array<Number, 256> table{};
  for (std::size_t d = 0; d < table.size(); ++d) {
    table[d] = exponential(static_cast<int>(d));
  }
  return table;
}

/// The codes of a row as FQ-ViT defines them.
template <class Number>
std::vector<std::uint8_t> exact_codes_of(const std::vector<std::uint8_t>& row, const std::array<Number, 256>& table) {
  const int largest = *std::max_element(row.begin(), row.end());
  Number sum = 0;
  for (const std::uint8_t logit : row) {
    sum += table[static_cast<std::size_t>(largest - logit)];
  }
  std::array<int, 256> code_of{};
  code_of.fill(-1);  // not known yet
  std::vector<std::uint8_t> codes;
  for (const std::uint8_t logit : row) {
    const auto d = static_cast<std::size_t>(largest - logit);
    code_of[d] = code_of[d] < 0 ? code_of_quotient(sum, table[d]) : code_of[d];
    codes.push_back(static_cast<std::uint8_t>(code_of[d]));
  }
  return codes;
}

constexpr std::array<index_t, 5> row_lengths{17, 197, 577, 4096, 16384};
constexpr std::array<row_kind, 3> common_rows{row_kind::uniform, row_kind::wide_bell, row_kind::narrow_bell};
constexpr std::array<row_kind, 1> rows_with_one_above{row_kind::one_above};

/// The part of the codes for which two ways of coding rows differ, over scales that models have. coders(scale) gives
/// a function from a row to its codes both ways; they must not differ by more than one level.
template <class Coders>
double changed_codes(index_t keys, std::span<const row_kind> kinds, Coders coders) {
  generator random(static_cast<std::uint64_t>(keys));
  std::int64_t changed = 0, all = 0;
  int largest = 0;
  for (const float scale : {0.0021F, 0.0115F, 0.03F, 0.05F, 0.0837F, 0.1234F, 0.175F, 0.3F, 0.5F, 1.2F}) {
    const auto both = coders(scale);
    for (const row_kind kind : kinds) {
      for (std::int64_t elements = 0; elements < 100'000; elements += keys) {
        const auto [codes, expected] = both(random_row(random, keys, kind));
        for (std::size_t i = 0; i < codes.size(); ++i) {
          changed += codes[i] != expected[i] ? 1 : 0;
          largest = std::max(largest, std::abs(codes[i] - expected[i]));
        }
        all += keys;
      }
    }
  }
  CHECK(largest <= 1);
  return static_cast<double>(changed) / static_cast<double>(all);
}

TEST_CASE("i_exp_table: gives the polynomial exponential", "[table]") {
  for (const float scale : scales_between(1e-4, 1.67, 3000)) {
    const polynomial expected(scale);
    const i_exp_constants constants(scale);
    CAPTURE(scale);
    CHECK(constants.octave == expected.octave);
    CHECK(constants.b == expected.b);
    CHECK(constants.c == expected.c);
    const exp_values<std::uint64_t> table = i_exp_table(scale, 8);
    REQUIRE(expected.fits(30, 8));
    int wrong = 0;
    for (std::size_t d = 0; d < table.size(); ++d) {
      wrong += table[d] == expected.exponential(static_cast<int>(d)) ? 0 : 1;
    }
    CHECK(wrong == 0);
    CHECK(table[0] > 0);
    CHECK(never_increases(table));
  }
}

TEST_CASE("i_exp_table, narrow_exp_table, exact_exp_table: built tables pass the checks of log_softmax", "[table]") {
  for (const float scale : scales_between(1e-4, 1.6, 400)) {
    for (const index_t keys : {0, 1, 2, 3, 17, 577, 16384, 1 << 20}) {
      CAPTURE(scale, keys);
      const exp_values<std::uint64_t> wide = i_exp_table(scale, keys);
      const exp_values<std::uint32_t> narrow = narrow_exp_table(wide, keys);
      const exp_values<std::uint32_t> exact = exact_exp_table(static_cast<double>(scale), keys);
      CHECK_NOTHROW(require_exp_table<std::uint64_t>("test", wide, keys));
      CHECK_NOTHROW(require_exp_table<std::uint32_t>("test", narrow, keys));
      CHECK_NOTHROW(require_exp_table<std::uint32_t>("test", exact, keys));
    }
  }
}

TEST_CASE("i_exp_table: fewer octaves change no code", "[table]") {
  generator random(1);
  int fewer_octaves = 0;
  for (const float scale : scales_between(1e-6, 0.07, 60)) {
    for (const index_t keys : {1, 17, 197, 4096}) {
      const polynomial expected(scale);
      const std::int64_t fewest = (255 + expected.octave - 1) / expected.octave;
      CAPTURE(scale, keys, expected.octave, expected.c);
      if (expected.fits(30, keys)) {
        continue;
      }
      ++fewer_octaves;
      REQUIRE(expected.octave >= 9);
      REQUIRE(expected.fits(fewest, keys));
      const exp_values<std::uint64_t> table = i_exp_table(scale, keys);
      const auto exact = table_of<uint128>([&](int d) { return expected.exponential(d); });
      int wrong = 0;
      for (std::size_t d = 0; d < table.size(); ++d) {
        wrong += (uint128{table[d]} << (30 - fewest)) == exact[d] ? 0 : 1;
      }
      CHECK(wrong == 0);
      for (const row_kind kind : {row_kind::uniform, row_kind::wide_bell, row_kind::one_above}) {
        const std::vector<std::uint8_t> row = random_row(random, keys, kind);
        CHECK(codes_of(row, table) == exact_codes_of(row, exact));
      }
    }
  }
  CHECK(fewer_octaves > 50);
}

TEST_CASE("i_exp_table: refuses scales without a polynomial exponential, naming the value", "[table]") {
  for (const double scale : {0.0, -0.1, infinity, -infinity, not_a_number}) {
    const std::string message = refusal([&] { i_exp_table(static_cast<float>(scale), 17); });
    CAPTURE(scale, message);
    CHECK(mentions(message, "intact::i_exp_table"));
    CHECK(mentions(message, "must be above 0 and finite"));
  }
  CHECK(refusal([] { i_exp_table(1.67F, 17); }).empty());
  CHECK(mentions(refusal([] { i_exp_table(1.68F, 17); }), "scale is 1.68"));
  CHECK(mentions(refusal([] { i_exp_table(1.9F, 17); }), "scale is 1.9"));
  CHECK(mentions(refusal([] { i_exp_table(1e10F, 17); }), "scale is 1e+10"));
  CHECK(mentions(refusal([] { i_exp_table(3e38F, 17); }), "scale is 3e+38"));
  CHECK(mentions(refusal([] { i_exp_table(1e-10F, 17); }), "scale is 1e-10"));
  CHECK(mentions(refusal([] { i_exp_table(1e-38F, 17); }), "scale is 1e-38"));
  CHECK(mentions(refusal([] { i_exp_table(std::numeric_limits<float>::denorm_min(), 17); }), "scale is 1.4013e-45"));
  for (const float scale : {0.0F, -1.0F, 1.68F, 3e38F, 1e-38F, std::numeric_limits<float>::quiet_NaN()}) {
    CHECK_FALSE(has_i_exp_table(scale, 17));
  }
  CHECK(has_i_exp_table(1.67F, 17));
  CHECK(refusal([] { i_exp_table(0.09F, 1 << 20); }).empty());
  CHECK(mentions(refusal([] { i_exp_table(0.09F, 1 << 28); }), "268435456 keys"));
  for (const index_t keys : {index_t{-1}, (index_t{1} << 28) + 1}) {
    const std::string value = "keys is " + std::to_string(keys);
    CHECK(mentions(refusal([&] { i_exp_table(0.1F, keys); }), value));
    CHECK(mentions(refusal([&] { narrow_exp_table({1}, keys); }), value));
    CHECK(mentions(refusal([&] { exact_exp_table(0.1, keys); }), value));
  }
}

TEST_CASE("i_exp_table: refuses tiny scales only if 64 bits do not hold a row", "[table]") {
  int built = 0, refused = 0;
  for (const float scale : scales_between(1e-9, 1e-4, 300)) {
    for (const index_t keys : {1, 197, 4096, 1 << 20}) {
      const polynomial expected(scale);
      const bool fits = expected.fits(30, keys) || expected.fits(1, keys);  // an octave is longer than 255
      const std::string message = refusal([&] { i_exp_table(scale, keys); });
      CAPTURE(scale, keys, message);
      CHECK(message.empty() == fits);
      CHECK(has_i_exp_table(scale, keys) == fits);
      CHECK((fits || mentions(message, std::to_string(keys) + " keys")));
      ++(fits ? built : refused);
    }
  }
  CHECK(built > 100);
  CHECK(refused > 100);
}

/// e / 2^shift to the nearest integer, halves up. Not inlined: Clang takes minutes to vectorize shifts of 128 bits.
[[gnu::noinline]] uint128 rounded(std::uint64_t e, int shift) {
  return shift == 0 ? uint128{e} : (uint128{e} + (uint128{1} << (shift - 1))) >> shift;
}

TEST_CASE("narrow_exp_table: rounds entries by the fewest bits", "[table]") {
  for (const float scale : scales_between(1e-4, 1.6, 300)) {
    for (const index_t keys : {0, 1, 3, 197, 16384, 1 << 20}) {
      const exp_values<std::uint64_t> wide = i_exp_table(scale, keys);
      const exp_values<std::uint32_t> narrow = narrow_exp_table(wide, keys);
      const auto fits = [&](int shift) {
        return rounded(wide[0], shift) * static_cast<uint128>(std::max<index_t>(2 * keys + 1, 6)) < uint128{1} << 32;
      };
      int shift = 0;
      while (!fits(shift)) {
        ++shift;
      }
      int wrong = 0;
      for (std::size_t d = 0; d < wide.size(); ++d) {
        wrong += narrow[d] == rounded(wide[d], shift) ? 0 : 1;
      }
      CAPTURE(scale, keys, shift);
      CHECK(wrong == 0);
      CHECK(never_increases(narrow));
    }
  }
}

TEST_CASE("narrow_exp_table: keeps a table that fits 32 bits", "[table]") {
  exp_values<std::uint64_t> table{};
  table[0] = 715'827'882;  // the largest of which six fit
  table[1] = 12'345;
  table[2] = 1;
  const exp_values<std::uint32_t> same = narrow_exp_table(table, 2);
  CHECK(std::equal(table.begin(), table.end(), same.begin()));
  ++table[0];
  const exp_values<std::uint32_t> halved = narrow_exp_table(table, 2);
  CHECK(halved[0] == 357'913'942);
  CHECK(halved[1] == 6'173);
  CHECK(halved[2] == 1);
}

TEST_CASE("narrow_exp_table: changes few codes", "[table]") {
  for (const index_t keys : row_lengths) {
    const auto coders = [keys](float scale) {
      const exp_values<std::uint64_t> wide = i_exp_table(scale, keys);
      return [wide, narrow = narrow_exp_table(wide, keys)](const std::vector<std::uint8_t>& row) {
        return std::pair(codes_of(row, narrow), codes_of(row, wide));
      };
    };
    const double common = changed_codes(keys, common_rows, coders);
    const double above = changed_codes(keys, rows_with_one_above, coders);
    std::cout << "32-bit instead of 64-bit exponentials, " << keys << " keys: " << 100 * common
              << " % of the codes change, " << 100 * above << " % in rows with one key far above the others"
              << std::endl;
    CHECK(common <= 0.001);
    CHECK(above <= 0.005);
  }
}

TEST_CASE("exact_exp_table: rounds to nearest", "[table]") {
  struct {
    index_t keys;
    int fraction_bits;
  } const cases[] = {{0, 29}, {1, 29}, {3, 29}, {4, 28}, {197, 23}, {4095, 19}, {4096, 18}, {1 << 28, 2}};
  for (const auto& [keys, fraction_bits] : cases) {
    for (const double scale : {1e-12, 1e-4, 0.01, 0.17, 1.0, 1.6, 30.0, 1e6, 1e300}) {
      const exp_values<std::uint32_t> table = exact_exp_table(scale, keys);
      CAPTURE(keys, scale);
      CHECK(table[0] == std::uint32_t{1} << fraction_bits);
      CHECK(never_increases(table));
      long double largest_error = 0;
      for (std::size_t d = 0; d < table.size(); ++d) {
        const long double exact = std::ldexp(std::exp(-static_cast<long double>(scale) * d), fraction_bits);
        largest_error = std::max(largest_error, std::fabs(table[d] - exact));
      }
      CHECK(largest_error <= 0.5L + 1e-6L);
    }
  }
  for (const double scale : {0.0, -0.1, infinity, not_a_number}) {
    CHECK(mentions(refusal([&] { exact_exp_table(scale, 17); }), "intact::exact_exp_table: scale is "));
  }
}

TEST_CASE("exact_exp_table: changes few codes of an exact softmax", "[table]") {
  for (const index_t keys : row_lengths) {
    const auto coders = [keys](float scale) {
      const auto real = table_of<long double>([=](int d) { return std::exp(-static_cast<long double>(scale) * d); });
      return [real, built = exact_exp_table(static_cast<double>(scale), keys)](const std::vector<std::uint8_t>& row) {
        return std::pair(codes_of(row, built), exact_codes_of(row, real));
      };
    };
    const double common = changed_codes(keys, common_rows, coders);
    const double above = changed_codes(keys, rows_with_one_above, coders);
    std::cout << "32-bit true exponentials, " << keys << " keys: " << 100 * common << " % of the codes change, "
              << 100 * above << " % in rows with one key far above the others" << std::endl;
    CHECK(common <= (keys <= 4096 ? 0.0003 : 0.001));
    CHECK(above <= 0.005);
  }
}

TEST_CASE("i_exp_table: gives the constants and exponentials of the original [recorded cases]", "[table]") {
  if (skip_without_cases()) {
    return;
  }
  int cases = 0, refused = 0;
  for (const auto& entry : std::filesystem::directory_iterator(cases_directory())) {
    if (!entry.path().filename().string().starts_with("lis_")) {
      continue;
    }
    const safetensors_file file = safetensors_file::read(entry.path());
    const auto constants = nlohmann::json::parse(file.metadata_value("params")).at("consts_b_c_x0");
    const float scale = file.values<float>("scale").at(0);
    CAPTURE(file.name(), scale);
    if (constants.at(1) == 0) {
      CHECK(mentions(refusal([&] { i_exp_table(scale, 1); }), "the polynomial's constant is 0"));
      ++refused;
      continue;
    }
    const i_exp_constants built(scale);
    CHECK(built.b == constants.at(0));
    CHECK(built.c == constants.at(1));
    CHECK(-built.octave == constants.at(2));
    ++cases;
    if (!file.contains("e_exact")) {
      continue;
    }
    const std::vector<std::int32_t> codes = file.values<std::int32_t>("codes");
    const std::vector<std::int64_t> exponentials = file.values<std::int64_t>("e_exact");
    const auto keys = static_cast<std::size_t>(file.info("codes").shape.at(1));
    const exp_values<std::uint64_t> table = i_exp_table(scale, static_cast<index_t>(keys));
    const exp_values<std::uint64_t> unscaled = i_exp_table(scale, 1);
    CHECK(table == unscaled);
    int wrong = 0;
    for (std::size_t i = 0; i < codes.size(); ++i) {
      const auto row = codes.begin() + static_cast<std::ptrdiff_t>(i / keys * keys);
      const int largest = *std::max_element(row, row + static_cast<std::ptrdiff_t>(keys));
      wrong +=
          table[static_cast<std::size_t>(largest - codes[i])] == static_cast<std::uint64_t>(exponentials[i]) ? 0 : 1;
    }
    CHECK(wrong == 0);
  }
  CHECK(cases > 0);
  CHECK(refused > 0);
}

// ------------------------------------------------------------------------------------------------ activations

long double real_gelu(long double x) {
  return x / 2 * std::erfc(-x / std::sqrt(2.0L));
}

/// The input code of a real number: what the stage before the table computes.
std::size_t input_code(const activation_table& table, double x) {
  return static_cast<std::size_t>(std::clamp(std::rint(x / table.input.scale) + table.input.zero_point, 0.0, 4095.0));
}

/// The real number of an input code.
double input_value(const activation_table& table, std::size_t code) {
  return (static_cast<double>(code) - table.input.zero_point) * table.input.scale;
}

/// Checks every entry against the function in long double: within half a code, or at the end of the codes.
template <class Function>
void check_entries(const activation_table& table, Function function, const code_scale& output) {
  int wrong = 0;
  for (std::size_t k = 0; k < table.codes.size(); ++k) {
    const long double exact =
        function(static_cast<long double>(input_value(table, k))) / output.scale + output.zero_point;
    wrong += std::fabs(std::clamp(exact, 0.0L, 255.0L) - table.codes[k]) <= 0.5L + 1e-9L ? 0 : 1;
  }
  CHECK(wrong == 0);
}

/// Checks that beyond the inputs of a table the codes of a range are constant, and that no more than a few entries
/// repeat them. The function is sampled at 2^16 places, and a scale is at least that of float32.
template <class Function>
void check_range(const activation_table& table, Function function, double low, double high, const code_scale& output) {
  const double step = table.input.scale;
  const double first = input_value(table, 0), last = input_value(table, 4095);
  const auto code = [&](double x) {
    const auto y = static_cast<double>(function(static_cast<long double>(x)));
    return std::clamp(std::rint(y / output.scale) + output.zero_point, 0.0, 255.0);
  };
  CHECK(table.input.zero_point == std::rint(table.input.zero_point));
  CHECK(first >= low - step);
  CHECK((last <= high + step || step <= std::numeric_limits<float>::epsilon()));
  int wrong = 0;
  for (int i = 0; i <= 4000; ++i) {
    const double x = low + (high - low) * i / 4000;
    wrong += x < first - step / 2 && code(x) != table.codes.front() ? 1 : 0;
    wrong += x > last + step / 2 && code(x) != table.codes.back() ? 1 : 0;
  }
  CHECK(wrong == 0);
  const auto repeated = [](auto begin, auto end) {
    return static_cast<double>(std::find_if(begin, end, [&](std::uint8_t y) { return y != *begin; }) - begin);
  };
  const double few = 3 + std::ceil(2 * (high - low) / (1 << 16) / step);
  CHECK((first <= low + step || repeated(table.codes.begin(), table.codes.end()) <= few));
  CHECK((last >= high - step || step <= std::numeric_limits<float>::epsilon() ||
         repeated(table.codes.rbegin(), table.codes.rend()) <= few));
}

TEST_CASE("gelu: is within 1e-15 of long double", "[table]") {
  CHECK(gelu(0) == 0);
  for (double x = -12; x <= 12; x += 0.0078125) {
    CAPTURE(x);
    CHECK(std::fabs(static_cast<long double>(gelu(x)) - real_gelu(x)) <= 1e-15L * (1 + std::fabs(x)));
  }
}

TEST_CASE("build_activation_table: entries are nearest [gelu]", "[table]") {
  for (const code_scale& output : {code_scale{0.02, 9}, code_scale{0.05, 3}, code_scale{0.3, 1}, code_scale{0.01, 255},
                                   code_scale{0.02, 0}, code_scale{1e-4, 128}, code_scale{100, 0}}) {
    for (const double low : {-100.0, -8.0, -3.0, -0.5, 0.0, 0.25}) {
      for (const double high : {0.3, 1.0, 4.5, 8.0, 100.0}) {
        const activation_table table = build_activation_table(gelu, low, high, output);
        CAPTURE(low, high, output.scale, output.zero_point);
        check_entries(table, real_gelu, output);
        check_range(table, real_gelu, low, high, output);
      }
    }
  }
}

TEST_CASE("build_activation_table: entries are nearest [relu, identity, tanh, a decreasing function]", "[table]") {
  const auto relu = [](auto x) { return x < 0 ? decltype(x){0} : x; };
  const auto identity = [](auto x) { return x; };
  const auto hyperbolic = [](auto x) { return std::tanh(x); };
  const auto decreasing = [](auto x) { return -2 * x; };
  const auto check = [](auto function, double low, double high, const code_scale& output) {
    const activation_table table = build_activation_table(function, low, high, output);
    CAPTURE(low, high, output.scale, output.zero_point);
    check_entries(table, function, output);
    check_range(table, function, low, high, output);
  };
  for (const code_scale& output : {code_scale{0.02, 0}, code_scale{0.03, 128}, code_scale{0.01, 200}}) {
    for (const double width : {0.01, 1.0, 6.0, 1000.0}) {
      check(relu, -width, width, output);
      check(identity, -width, width, output);
      check(hyperbolic, -width, width, output);
      check(decreasing, -width, width, output);
      check(relu, width / 4, width, output);
      check(hyperbolic, -width, -width / 4, output);
    }
  }
}

TEST_CASE("build_activation_table: input scales grow with the range until the codes are constant", "[table]") {
  const code_scale output{0.02, 9};
  double former = 0, widest = 0;
  for (double width = 0.1; width < 60; width *= 1.01) {
    const double scale = build_activation_table(gelu, -width, width, output).input.scale;
    const double sampling = 4 * width / (1 << 16) / 4095;  // the ends are found by sampling
    CAPTURE(width, scale);
    CHECK(scale >= former - sampling);
    former = scale;
    widest = std::max(widest, scale);
  }
  CHECK(widest <= (4.93 + 3.5) / 4095);  // up to 246 * 0.02, and from where less than half a code is left
  CHECK(widest >= (4.91 + 2.5) / 4095);
}

TEST_CASE("build_activation_table: the input scale is at least the given one", "[table]") {
  const code_scale output{0.02, 9};
  const activation_table fine = build_activation_table(gelu, -4, 4, output);
  CHECK(build_activation_table(gelu, -4, 4, output, fine.input.scale / 2).codes == fine.codes);
  const activation_table coarse = build_activation_table(gelu, -4, 4, output, 8 * fine.input.scale);
  CHECK(coarse.input.scale == 8 * fine.input.scale);
  for (const double x : {-1.0, 0.0, 0.5, 3.0}) {
    const double exact = std::clamp(gelu(x) / output.scale + output.zero_point, 0.0, 255.0);
    CHECK(std::fabs(coarse.codes[input_code(coarse, x)] - exact) < 2);
  }
  const activation_table far = build_activation_table(gelu, 1e9, 1e9, {1e7, 0}, 1e3);
  CHECK(far.input.zero_point == -1e6);
  CHECK(far.codes[0] == 100);
}

TEST_CASE("build_activation_table: takes constant functions and ranges of one number", "[table]") {
  const code_scale output{0.5, 100};
  const activation_table constant = build_activation_table([](double) { return 7.25; }, -3, 5, output);
  CHECK(std::all_of(constant.codes.begin(), constant.codes.end(), [](std::uint8_t y) { return y == 114; }));
  CHECK(constant.input.scale == 8.0 / 4095);
  for (const double number : {0.0, 5.0, -5.0, 1e-30, -2000.0}) {
    const activation_table table = build_activation_table(gelu, number, number, output);
    CAPTURE(number);
    CHECK(table.input.scale > 0);
    CHECK(std::isfinite(table.input.zero_point));
    const double expected = std::clamp(std::rint(gelu(number) / output.scale) + output.zero_point, 0.0, 255.0);
    CHECK(table.codes[input_code(table, number)] == expected);
  }
  for (const double level : {-1000.0, 1000.0}) {  // outside the codes
    const activation_table clamped = build_activation_table([=](double) { return level; }, -1, 1, output);
    CHECK(std::all_of(clamped.codes.begin(), clamped.codes.end(),
                      [=](std::uint8_t y) { return y == (level < 0 ? 0 : 255); }));
  }
}

TEST_CASE("build_activation_table: twelve bits change few codes of a float activation", "[table]") {
  generator random(2);
  for (const double deviation : {0.5, 1.0, 2.0}) {
    std::vector<double> inputs(200'000);
    std::generate(inputs.begin(), inputs.end(), [&] { return bell(random, -0.3, deviation); });
    const auto [low, high] = std::minmax_element(inputs.begin(), inputs.end());
    const double lowest_output = -0.16997;  // of GELU, near -0.75
    code_scale output;
    output.scale = (gelu(*high) - lowest_output) / 255;
    output.zero_point = -std::rint(lowest_output / output.scale);
    const activation_table table = build_activation_table(gelu, *low, *high, output);
    std::int64_t changed = 0;
    int largest = 0;
    for (const double x : inputs) {
      const double direct = std::clamp(std::rint(gelu(x) / output.scale) + output.zero_point, 0.0, 255.0);
      const int difference = std::abs(static_cast<int>(direct) - table.codes[input_code(table, x)]);
      changed += difference != 0 ? 1 : 0;
      largest = std::max(largest, difference);
    }
    const double rate = static_cast<double>(changed) / static_cast<double>(inputs.size());
    std::cout << "GELU by a table of 12 bits, deviation " << deviation << ": " << 100 * rate << " % of the codes change"
              << std::endl;
    CHECK(rate <= 0.012);
    CHECK(rate > 0);
    CHECK(largest <= 1);
  }
}

TEST_CASE("build_activation_table: refuses bad ranges and output scales, naming the value", "[table]") {
  const code_scale output{0.02, 9};
  const auto build = [](double low, double high, const code_scale& to) {
    return refusal([&] { build_activation_table(gelu, low, high, to); });
  };
  CHECK(mentions(build(not_a_number, 1, output), "the range is nan to 1"));
  CHECK(mentions(build(-1, not_a_number, output), "the range is -1 to nan"));
  CHECK(mentions(build(-infinity, 1, output), "the range is -inf to 1"));
  CHECK(mentions(build(-1, infinity, output), "the range is -1 to inf"));
  CHECK(mentions(build(1, -1, output), "the range is 1 to -1"));
  for (const double scale : {0.0, -0.02, infinity, not_a_number}) {
    CAPTURE(scale);
    CHECK(mentions(build(-1, 1, {scale, 9}), "the output scale is "));
  }
  CHECK(build(-1, 1, output).empty());
}

TEST_CASE("build_activation_table: refuses functions whose values are not numbers", "[table]") {
  const code_scale output{0.02, 9};
  const auto nowhere = [](double) { return not_a_number; };
  const auto root = [](double x) { return std::sqrt(x); };  // not a number below 0
  CHECK_FALSE(refusal([&] { build_activation_table(nowhere, -1, 1, output); }).empty());
  CHECK_FALSE(refusal([&] { build_activation_table(root, -1, 1, output); }).empty());
  CHECK_FALSE(refusal([&] { build_activation_table(gelu, -1, 1, {0.02, not_a_number}); }).empty());
  CHECK_FALSE(refusal([&] { build_activation_table(gelu, -1e308, 1e308, output); }).empty());  // the width is infinite
}

}  // namespace
}  // namespace intact_test::table_test
