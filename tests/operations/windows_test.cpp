#include "intact/windows.hpp"

#include <array>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "catch.hpp"
#include "refusal.hpp"
#include "tensor.hpp"

namespace intact_test::windows_test {
namespace {

//                          height, width, window, shift
constexpr window_grid grids[] = {
    {8, 8, 4, 0},  {8, 8, 4, 2},                 // windows fill the grid
    {14, 7, 7, 3}, {7, 14, 7, 3},                // a window wide or high
    {5, 9, 4, 0},  {5, 9, 4, 1},  {5, 9, 4, 3},  // padding
    {3, 2, 5, 0},  {3, 2, 5, 4},                 // less than a window
    {6, 5, 1, 0},                                // windows of a token
    {1, 1, 1, 0},  {1, 1, 3, 2},                 // one token
    {0, 0, 3, 1},  {0, 4, 2, 0},  {4, 0, 2, 1},  // none
};

/// Where the tokens of a padded grid come from after a cyclic shift by (-shift, -shift), by moving them one at a time.
std::vector<index_t> shifted_positions(const window_grid& grid) {
  const index_t height = grid.windows_down() * grid.window, width = grid.windows_across() * grid.window;
  std::vector<index_t> positions(static_cast<std::size_t>(height * width));
  for (index_t y = 0; y < height; ++y) {
    for (index_t x = 0; x < width; ++x) {
      const index_t to = (y + height - grid.shift) % height * width + (x + width - grid.shift) % width;
      positions[static_cast<std::size_t>(to)] = y < grid.height && x < grid.width ? y * grid.width + x : -1;
    }
  }
  return positions;
}

/// The same, cut into windows.
std::vector<index_t> window_positions(const window_grid& grid) {
  const std::vector<index_t> shifted = shifted_positions(grid);
  const index_t width = grid.windows_across() * grid.window;
  std::vector<index_t> positions;
  for (index_t down = 0; down < grid.windows_down(); ++down) {
    for (index_t across = 0; across < grid.windows_across(); ++across) {
      for (index_t y = 0; y < grid.window; ++y) {
        for (index_t x = 0; x < grid.window; ++x) {
          const index_t at = (down * grid.window + y) * width + across * grid.window + x;
          positions.push_back(shifted[static_cast<std::size_t>(at)]);
        }
      }
    }
  }
  return positions;
}

template <class T>
void check_partition(const window_grid& grid, index_t columns, const layout& where, const layout& in_windows) {
  INFO(grid.height << " x " << grid.width << ", window " << grid.window << ", shift " << grid.shift);
  const std::vector<index_t> positions = window_positions(grid);
  REQUIRE(grid.padded_tokens() == std::ssize(positions));
  tensor<T> x(grid.tokens(), columns, where), windows(grid.padded_tokens(), columns, in_windows);
  tensor<T> back(grid.tokens(), columns, where);
  generator random(1);
  fill(x.view(), values::random, std::numeric_limits<T>::min(), std::numeric_limits<T>::max(), random);

  window_partition(x.view(), grid, 99, windows.view());
  for (index_t row = 0; row < windows.rows(); ++row) {
    const index_t from = positions[static_cast<std::size_t>(row)];
    for (index_t c = 0; c < columns; ++c) {
      REQUIRE(windows(row, c) == (from < 0 ? 99 : x(from, c)));
    }
  }
  CHECK(windows.surroundings_untouched());

  window_reverse(windows.view(), grid, back.view());
  CHECK(first_difference(back.view(), x.view()) == "");
  CHECK(back.surroundings_untouched());
}

TEST_CASE("window_partition, window_reverse: move tokens into shifted windows and back", "[windows]") {
  for (const window_grid& grid : grids) {
    for (const index_t columns : {0, 1, 3, 64}) {
      for (const layout& where : layouts) {
        for (const layout& in_windows : layouts) {
          check_partition<std::uint8_t>(grid, columns, where, in_windows);
          check_partition<std::int16_t>(grid, columns, where, in_windows);
        }
      }
    }
  }
}

TEST_CASE("shifted_window_mask: tokens see each other if both or neither wrapped around", "[windows]") {
  for (const window_grid& grid : grids) {
    if (grid.shift == 0 || grid.tokens() == 0) {
      continue;
    }
    const index_t size = grid.tokens_per_window(), width = grid.windows_across() * grid.window;
    const index_t height = grid.windows_down() * grid.window;
    for (const bool bottom : {false, true}) {
      for (const bool right : {false, true}) {
        tensor<std::uint8_t> visible(size, size, {2, 1, 3});
        shifted_window_mask(grid, bottom, right, visible.view());
        // Before the shift: tokens of such a window that have wrapped around have smaller coordinates.
        const auto wrapped = [&](index_t token) {
          const index_t y = (bottom ? height - grid.window : 0) + token / grid.window + grid.shift;
          const index_t x = (right ? width - grid.window : 0) + token % grid.window + grid.shift;
          return std::array<bool, 2>{bottom && y >= height, right && x >= width};
        };
        for (index_t i = 0; i < size; ++i) {
          for (index_t j = 0; j < size; ++j) {
            REQUIRE(visible(i, j) == (wrapped(i) == wrapped(j) ? 1 : 0));
          }
        }
        CHECK(visible.surroundings_untouched());
      }
    }
  }
}

TEST_CASE("window_partition, window_reverse, shifted_window_mask: refuse shapes before anything is written",
          "[windows]") {
  const window_grid grid{5, 6, 3, 1};
  tensor<std::uint8_t> x(30, 4), y(36, 4);
  const auto partition = [&](const window_grid& of, index_t rows, index_t columns) {
    return refusal([&] { window_partition(x.view().prefix(rows, 4), of, 0, y.view().prefix(36, columns)); });
  };
  CHECK(partition(grid, 30, 4) == "");
  CHECK(partition({-1, 6, 3, 1}, 30, 4) == "intact::window_partition: height of the grid is -1; it must be at least 0");
  CHECK(partition({5, -6, 3, 1}, 30, 4) == "intact::window_partition: width of the grid is -6; it must be at least 0");
  CHECK(partition({5, 6, 0, 0}, 30, 4) == "intact::window_partition: window is 0; it must be at least 1");
  CHECK(partition({5, 6, 3, 3}, 30, 4) == "intact::window_partition: shift of the windows is 3; it must be at most 2");
  CHECK(partition({5, 6, 3, -1}, 30, 4) ==
        "intact::window_partition: shift of the windows is -1; it must be at least 0");
  CHECK(partition(grid, 29, 4) == "intact::window_partition: x is 29 x 4; it must be 30 x 4");
  CHECK(partition(grid, 30, 3) == "intact::window_partition: y is 36 x 3; it must be 36 x 4");

  tensor<std::uint8_t> untouched(30, 4);
  CHECK(refusal([&] { window_reverse(y.view().prefix(35, 4), grid, untouched.view()); }) ==
        "intact::window_reverse: x is 35 x 4; it must be 36 x 4");
  CHECK(refusal([&] { window_reverse(y.view(), grid, untouched.view().prefix(30, 3)); }) ==
        "intact::window_reverse: y is 30 x 3; it must be 30 x 4");
  CHECK(refusal([&] { shifted_window_mask(grid, true, true, untouched.view()); }) ==
        "intact::shifted_window_mask: visible is 30 x 4; it must be 9 x 9");
  CHECK(first_difference(untouched.view(), tensor<std::uint8_t>(30, 4).view()) == "");
}

}  // namespace
}  // namespace intact_test::windows_test
