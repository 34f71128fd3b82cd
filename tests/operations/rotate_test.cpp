#include "intact/rotate.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numbers>
#include <string>
#include <utility>

#include "catch.hpp"
#include "intact/build/rotation.hpp"
#include "intact/reference/rotate.hpp"
#include "refusal.hpp"
#include "reversed_executor.hpp"
#include "tensor.hpp"

namespace intact_test::rotate_test {
namespace {

constexpr int zero_points[] = {0, 1, 128, 254, 255};

/// Tables of the angles' cosines and sines.
struct angle_tables {
  tensor<std::int16_t> cosine, sine;

  angle_tables(index_t tokens, index_t pairs, const layout& where = layouts[0])
      : cosine(tokens, pairs, where), sine(tokens, pairs, where) {}

  rotation_parameters view() const { return {cosine.view(), sine.view()}; }
};

/// The formula in double precision, which holds all sums and quotients.
double rotated(double a, double b, double cosine, double sine, int zero_point) {
  return std::clamp(std::floor((a * cosine + b * sine) / 16384 + 0.5) + zero_point, 0.0, 255.0);
}

/// Differences from the formula of all codes of a result.
index_t differences(const tensor<std::uint8_t>& x, int zero_point, const angle_tables& p,
                    const tensor<std::uint8_t>& y) {
  const index_t half = p.cosine.columns();
  index_t wrong = 0;
  for (index_t t = 0; t < x.rows(); ++t) {
    for (index_t c = 0; c < x.columns(); ++c) {
      const index_t j = c % half;
      const bool second = c % (2 * half) >= half;
      const double own = x(t, c) - zero_point, other = x(t, second ? c - half : c + half) - zero_point;
      wrong += y(t, c) != rotated(own, other, p.cosine(t, j), second ? p.sine(t, j) : -p.sine(t, j), zero_point);
    }
  }
  return wrong;
}

TEST_CASE("rotate: equals the formula in double precision [every layout, heads, tables of any s16 codes]") {
  generator random(71);
  for (const index_t rows : {0, 1, 5, 17}) {
    for (const index_t half : {1, 2, 7, 8, 16, 17, 32, 65}) {
      for (const index_t heads : {1, 3}) {
        for (const layout& where : layouts) {
          const std::int64_t largest = random.between(0, 1) == 0 ? 16384 : 32767;
          tensor<std::uint8_t> x(rows, heads * 2 * half, where), y(rows, heads * 2 * half, where),
              specified(rows, heads * 2 * half, where);
          angle_tables p(rows, half, where);
          fill(x.view(), values::random, 0, 255, random);
          fill(p.cosine.view(), values::random, -largest - 1, largest, random);
          fill(p.sine.view(), values::random, -largest - 1, largest, random);
          const int zero_point = zero_points[random.between(0, 4)];
          CAPTURE(rows, half, heads, where.gap, zero_point);
          rotate({x.view(), zero_point}, p.view(), y.view());
          reference::rotate({x.view(), zero_point}, p.view(), specified.view());
          CHECK(differences(x, zero_point, p, y) == 0);
          CHECK(differences(x, zero_point, p, specified) == 0);
          CHECK(y.surroundings_untouched());
          rotate({x.view(), zero_point}, p.view(), x.view(), reversed_executor{});
          CHECK(x.memory() == y.memory());
        }
      }
    }
  }
}

TEST_CASE("rotate: sums are exact [extremes of codes, tables and zero points]") {
  for (const int cosine : {-32768, -16384, 0, 16384, 32767}) {
    for (const int sine : {-32768, -16384, 0, 16384, 32767}) {
      for (const int zero_point : zero_points) {
        tensor<std::uint8_t> x(4, 64), y(4, 64);
        angle_tables p(4, 32);
        for (index_t t = 0; t < 4; ++t) {
          for (index_t c = 0; c < 64; ++c) {
            x(t, c) = (c < 32 ? t % 2 : t / 2) == 0 ? 0 : 255;
            p.cosine(t, c % 32) = static_cast<std::int16_t>(cosine);
            p.sine(t, c % 32) = static_cast<std::int16_t>(sine);
          }
        }
        CAPTURE(cosine, sine, zero_point);
        rotate({x.view(), zero_point}, p.view(), y.view());
        CHECK(differences(x, zero_point, p, y) == 0);
      }
    }
  }
}

TEST_CASE("rotate: halves round up") {
  tensor<std::uint8_t> x(1, 2), y(1, 2);
  angle_tables p(1, 1);
  p.cosine(0, 0) = 8192;
  p.sine(0, 0) = 0;
  for (const auto& [code, expected] : {std::pair{101, 101}, {103, 102}, {99, 100}, {97, 99}, {102, 101}}) {
    x(0, 0) = x(0, 1) = static_cast<std::uint8_t>(code);
    rotate({x.view(), 100}, p.view(), y.view());
    CHECK(y(0, 0) == expected);
    CHECK(y(0, 1) == expected);
  }
}

TEST_CASE("build_rotation: tables are rounded to nearest, and rotated codes are within 0.52 of real numbers") {
  generator random(72);
  const index_t tokens = 40, half = 8;
  tensor<double> angles(tokens, half);
  for (index_t t = 0; t < tokens; ++t) {
    for (index_t j = 0; j < half; ++j) {
      angles(t, j) = static_cast<double>(random.between(-1'000'000, 1'000'000)) / 1000;
    }
  }
  angles(0, 0) = 0;
  angles(0, 1) = std::numbers::pi;
  angles(0, 2) = -std::numbers::pi / 2;
  angle_tables p(tokens, half);
  const rotation_parameters built = build_rotation(angles.view(), p.cosine.view(), p.sine.view());
  CHECK(built.cosine.data == p.cosine.view().data);
  CHECK(built.sine.data == p.sine.view().data);
  CHECK(p.cosine(0, 0) == 16384);
  CHECK(p.sine(0, 0) == 0);
  CHECK(p.cosine(0, 1) == -16384);
  CHECK(p.cosine(0, 2) == 0);
  CHECK(p.sine(0, 2) == -16384);
  double table_error = 0;  // in codes
  for (index_t t = 0; t < tokens; ++t) {
    for (index_t j = 0; j < half; ++j) {
      table_error = std::max({table_error, std::fabs(p.cosine(t, j) - 16384 * std::cos(angles(t, j))),
                              std::fabs(p.sine(t, j) - 16384 * std::sin(angles(t, j)))});
    }
  }
  CHECK(table_error <= 0.5);
  for (const int zero_point : {0, 127, 255}) {
    tensor<std::uint8_t> x(tokens, 2 * half), y(tokens, 2 * half);
    fill(x.view(), values::random, 0, 255, random);
    rotate({x.view(), zero_point}, built, y.view());
    double largest = 0;
    for (index_t t = 0; t < tokens; ++t) {
      for (index_t j = 0; j < half; ++j) {
        const double a = x(t, j) - zero_point, b = x(t, half + j) - zero_point, angle = angles(t, j);
        const double first = a * std::cos(angle) - b * std::sin(angle) + zero_point,
                     second = b * std::cos(angle) + a * std::sin(angle) + zero_point;
        largest = std::max({largest, std::fabs(y(t, j) - std::clamp(first, 0.0, 255.0)),
                            std::fabs(y(t, half + j) - std::clamp(second, 0.0, 255.0))});
      }
    }
    CHECK(largest < 0.52);
    CHECK(y(0, 0) == x(0, 0));
  }
}

TEST_CASE("rotate: refuses arguments that do not match, before anything is written") {
  const tensor<std::uint8_t> x(4, 12);
  tensor<std::uint8_t> y(4, 12);
  const angle_tables p(4, 3);
  const auto refused = [&](const quantized_matrix& from, const rotation_parameters& tables,
                           matrix_view<std::uint8_t> to) {
    const std::string message = refusal([&] { rotate(from, tables, to); });
    CHECK(refusal([&] { reference::rotate(from, tables, to); }) == message);
    return message;
  };
  CHECK(refused({x.view(), 3}, p.view(), y.view()) == "");
  const auto before = y.memory();
  CHECK(refused({x.view(), 256}, p.view(), y.view()) ==
        "intact::rotate: zero point of x is 256; it must be at most 255");
  CHECK(refused({x.view(), -1}, p.view(), y.view()) == "intact::rotate: zero point of x is -1; it must be at least 0");
  CHECK(refused({x.view(), 3}, angle_tables(3, 3).view(), y.view()) ==
        "intact::rotate: rows of cosine is 3; it must be equal to 4");
  CHECK(refused({x.view(), 3}, angle_tables(4, 4).view(), y.view()) ==
        "intact::rotate: columns of x modulo twice those of cosine is 4; it must be equal to 0");
  CHECK(refused({x.view(), 3}, angle_tables(4, 0).view(), y.view()) ==
        "intact::rotate: columns of cosine is 0; it must be at least 1");
  CHECK(refused({x.view(), 3}, {p.cosine.view(), angle_tables(4, 2).sine.view()}, y.view()) ==
        "intact::rotate: sine is 4 x 2; it must be 4 x 3");
  CHECK(refused({x.view(), 3}, p.view(), y.view().row_block(0, 3)) == "intact::rotate: y is 3 x 12; it must be 4 x 12");
  CHECK(y.memory() == before);
  tensor<std::uint8_t> nothing(4, 0);
  CHECK(refused({nothing.view(), 3}, angle_tables(4, 0).view(), nothing.view()) == "");
}

TEST_CASE("build_rotation: refuses angles that are not finite and tables of another shape") {
  tensor<double> angles(2, 3);
  angles(1, 2) = std::numeric_limits<double>::infinity();
  angle_tables p(2, 3);
  const auto before = p.cosine.memory();
  CHECK(refusal([&] { build_rotation(angles.view(), p.cosine.view(), p.sine.view()); }) ==
        "intact::build_rotation: the angle at row 1, column 2 is inf; it must be finite");
  CHECK(p.cosine.memory() == before);
  angle_tables narrow(2, 2);
  CHECK(refusal([&] { build_rotation(angles.view(), narrow.cosine.view(), p.sine.view()); }) ==
        "intact::build_rotation: cosine is 2 x 2; it must be 2 x 3");
  CHECK(refusal([&] { build_rotation(angles.view(), p.cosine.view(), narrow.sine.view()); }) ==
        "intact::build_rotation: sine is 2 x 2; it must be 2 x 3");
}

}  // namespace
}  // namespace intact_test::rotate_test
