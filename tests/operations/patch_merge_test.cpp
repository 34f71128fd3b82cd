#include "intact/patch_merge.hpp"

#include <cstdint>
#include <limits>

#include "catch.hpp"
#include "refusal.hpp"
#include "tensor.hpp"

namespace intact_test::patch_merge_test {
namespace {

/// The slices x[0::2, 0::2], x[1::2, 0::2], x[0::2, 1::2] and x[1::2, 1::2] side by side.
template <class T>
void check_merge(index_t height, index_t width, index_t columns, const layout& where) {
  INFO(height << " x " << width << " x " << columns);
  constexpr index_t first_row[] = {0, 1, 0, 1}, first_column[] = {0, 0, 1, 1};
  const index_t down = (height + 1) / 2, across = (width + 1) / 2;
  tensor<T> x(height * width, columns, where), y(down * across, 4 * columns, where);
  generator random(2);
  fill(x.view(), values::random, std::numeric_limits<T>::min(), std::numeric_limits<T>::max(), random);
  patch_merge(x.view(), height, width, 99, y.view());
  for (int slice = 0; slice < 4; ++slice) {
    for (index_t i = 0; i < down; ++i) {
      for (index_t j = 0; j < across; ++j) {
        const index_t top = first_row[slice] + 2 * i, left = first_column[slice] + 2 * j;
        for (index_t c = 0; c < columns; ++c) {
          const T expected = top < height && left < width ? x(top * width + left, c) : T{99};
          REQUIRE(y(i * across + j, slice * columns + c) == expected);
        }
      }
    }
  }
  CHECK(y.surroundings_untouched());
}

TEST_CASE("patch_merge: joins the channels of neighbouring tokens", "[patch_merge]") {
  for (const index_t height : {0, 1, 2, 3, 8, 13}) {
    for (const index_t width : {0, 1, 2, 5, 6}) {
      for (const index_t columns : {0, 1, 5, 32}) {
        for (const layout& where : layouts) {
          check_merge<std::uint8_t>(height, width, columns, where);
          check_merge<std::int16_t>(height, width, columns, where);
        }
      }
    }
  }
}

TEST_CASE("patch_merge: refuses shapes before anything is written", "[patch_merge]") {
  tensor<std::uint8_t> x(15, 4), y(6, 16);
  const auto refused = [&](index_t height, index_t width, index_t rows, index_t columns) {
    return refusal([&] { patch_merge(x.view(), height, width, 0, y.view().prefix(rows, columns)); });
  };
  CHECK(refused(-3, -5, 6, 16) == "intact::patch_merge: height is -3; it must be at least 0");
  CHECK(refused(3, -5, 6, 16) == "intact::patch_merge: width is -5; it must be at least 0");
  CHECK(refused(3, 4, 6, 16) == "intact::patch_merge: x is 15 x 4; it must be 12 x 4");
  CHECK(refused(3, 5, 5, 16) == "intact::patch_merge: y is 5 x 16; it must be 6 x 16");
  CHECK(refused(5, 3, 6, 12) == "intact::patch_merge: y is 6 x 12; it must be 6 x 16");
  CHECK(first_difference(y.view(), tensor<std::uint8_t>(6, 16).view()) == "");
  CHECK(refused(3, 5, 6, 16) == "");
}

}  // namespace
}  // namespace intact_test::patch_merge_test
