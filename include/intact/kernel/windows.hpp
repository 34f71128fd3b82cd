#pragma once

#include <cstring>

#include "intact/config/compiler.hpp"
#include "intact/types/row_range.hpp"
#include "intact/types/window_grid.hpp"

// Windows as runs of tokens that are contiguous in both orders.

namespace intact {
inline namespace INTACT_UNIT {
namespace kernel {

/// Copies rows; all at once where they are contiguous.
template <class Isa, class T>
INTACT_INLINE void copy_rows(const T* from, index_t from_stride, T* to, index_t to_stride, index_t rows,
                             index_t columns) {
  if (from_stride == columns && to_stride == columns) {
    std::memcpy(to, from, static_cast<std::size_t>(rows * columns) * sizeof(T));
    return;
  }
  for (index_t i = 0; i < rows; ++i) {
    std::memcpy(to + i * to_stride, from + i * from_stride, static_cast<std::size_t>(columns) * sizeof(T));
  }
}

template <class Isa, class T>
INTACT_INLINE void fill_rows(T value, T* to, index_t stride, index_t rows, index_t columns) {
  for (index_t i = 0; i < rows; ++i) {
    for (index_t c = 0; c < columns; ++c) {
      to[i * stride + c] = value;
    }
  }
}

/// Calls run(row, position, count) for a range of windows: `count` rows in window order are the tokens from
/// `position` on, or padding if that is -1.
template <class Isa, class Run>
INTACT_INLINE void for_each_window_run(const window_grid& grid, row_range windows, const Run& run) {
  const index_t size = grid.window, across = grid.windows_across();
  const index_t padded_height = grid.windows_down() * size, padded_width = across * size;
  index_t row = windows.begin * size * size;
  for (index_t window = windows.begin; window < windows.end; ++window) {
    const index_t top = window / across * size + grid.shift, left = window % across * size + grid.shift;
    for (index_t i = top; i < top + size; ++i, row += size) {
      const index_t y = i < padded_height ? i : i - padded_height;
      for (index_t done = 0; done < size;) {
        const index_t x = left + done < padded_width ? left + done : left + done - padded_width;
        const bool exists = y < grid.height && x < grid.width;
        const index_t until = exists ? grid.width : padded_width;
        const index_t count = size - done < until - x ? size - done : until - x;
        run(row + done, exists ? y * grid.width + x : -1, count);
        done += count;
      }
    }
  }
}

/// A range of windows.
template <class Isa, class T>
void window_partition(const matrix_view<const T>& x, const window_grid& grid, T padding, const matrix_view<T>& y,
                      row_range windows) noexcept {
  for_each_window_run<Isa>(grid, windows, [&](index_t row, index_t position, index_t count) {
    T* const to = y.data + row * y.stride;
    if (position < 0) {
      fill_rows<Isa>(padding, to, y.stride, count, y.columns);
    } else {
      copy_rows<Isa>(x.data + position * x.stride, x.stride, to, y.stride, count, y.columns);
    }
  });
}

template <class Isa, class T>
void window_reverse(const matrix_view<const T>& x, const window_grid& grid, const matrix_view<T>& y,
                    row_range windows) noexcept {
  for_each_window_run<Isa>(grid, windows, [&](index_t row, index_t position, index_t count) {
    if (position >= 0) {
      copy_rows<Isa>(x.data + row * x.stride, x.stride, y.data + position * y.stride, y.stride, count, y.columns);
    }
  });
}

/// A token's region: 1 if it is below the cut, plus 2 if it is to the right of it.
inline void shifted_window_mask(const window_grid& grid, bool bottom, bool right, matrix_view<std::uint8_t> visible) {
  const index_t cut = grid.window - grid.shift;
  const auto region = [&](index_t token) {
    return (bottom && token / grid.window >= cut ? 1 : 0) + (right && token % grid.window >= cut ? 2 : 0);
  };
  for (index_t i = 0; i < visible.rows; ++i) {
    for (index_t j = 0; j < visible.columns; ++j) {
      visible(i, j) = region(i) == region(j) ? 1 : 0;
    }
  }
}

}  // namespace kernel
}  // namespace INTACT_UNIT
}  // namespace intact
