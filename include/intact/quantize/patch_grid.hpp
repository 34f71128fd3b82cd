#pragma once

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <span>
#include <string>
#include <vector>

#include "intact/arith/integer_math.hpp"
#include "intact/config/floating_point.hpp"
#include "intact/io/preprocess.hpp"
#include "intact/model/vit_shape.hpp"
#include "intact/quantize/float_model_reader.hpp"
#include "intact/types/image.hpp"

// Rows and columns of patches of an image.

namespace intact {
inline namespace INTACT_UNIT {

/// The patches of an image in rows and columns.
inline image_sides patch_grid(const image_sides& image, const patch_size& patch) {
  return {image.height / patch.height, image.width / patch.width};
}

/// Whether patches fill an image.
inline bool fills(const patch_size& patch, const image_sides& image) {
  return image.height >= patch.height && image.width >= patch.width && image.height % patch.height == 0 &&
         image.width % patch.width == 0;
}

namespace detail {

/// The grid of so many patches of an image that is a square; 0 x 0 if there is none.
inline image_sides square_grid(index_t patches, const patch_size& patch) {
  const std::int64_t pixels = std::int64_t{patches} * patch.height * patch.width;
  const std::int64_t side = static_cast<std::int64_t>(integer_sqrt(static_cast<std::uint64_t>(pixels)));
  if (side * side != pixels || side % patch.height != 0 || side % patch.width != 0) {
    return {};
  }
  return {static_cast<index_t>(side / patch.height), static_cast<index_t>(side / patch.width)};
}

/// Rows and columns of patches, from the number of positions: of patches alone, of all tokens but register tokens, or
/// of all tokens. The first given image of so many patches counts, else square images, else as many rows as columns.
/// Refuses numbers that mean more than one of these.
inline image_sides read_grid(const float_model_reader& reader, const vit_shape& shape,
                             std::span<const image_sides> images) {
  const index_t positions = reader.size("pos_embed", 3, 1);
  const auto patches_after = [&](index_t others) { return std::max<index_t>(positions - others, 0); };
  const index_t all_others[] = {0, shape.class_tokens, shape.prefix_tokens()};
  patch_size counted = shape.patch;
  std::vector<index_t> of_squares;  // numbers of other tokens that leave a square
  const auto find_squares = [&] {
    std::copy_if(std::begin(all_others), std::end(all_others), std::back_inserter(of_squares),
                 [&](index_t others) { return square_grid(patches_after(others), counted) != image_sides(); });
  };
  find_squares();
  if (of_squares.empty()) {
    counted = 1;
    find_squares();
  }
  for (const image_sides& image : images) {
    const image_sides grid = patch_grid(image, shape.patch);
    for (const index_t others : of_squares.empty() ? std::span<const index_t>(all_others) : of_squares) {
      if (fills(shape.patch, image) && size_product(grid.height, grid.width) == patches_after(others)) {
        return grid;
      }
    }
  }
  for (const index_t others : of_squares) {
    const index_t first = patches_after(of_squares.front()), patches = patches_after(others);
    if (patches != first) {
      reader.refuse(reader.quoted("pos_embed") + " has " + std::to_string(positions) + " tokens, which may be " +
                    std::to_string(first) + " patches or " + std::to_string(patches) + " after " +
                    std::to_string(others) + " other tokens");
    }
  }
  if (!of_squares.empty()) {
    return square_grid(patches_after(of_squares.front()), counted);
  }
  if (shape.class_tokens == 0 && square_grid(patches_after(1), counted) != image_sides()) {
    reader.size("cls_token", 3, 1);  // missing
  }
  reader.refuse(reader.quoted("pos_embed") + " has " + std::to_string(positions) +
                " tokens; it must have a square number of patches, or those of a given image size, alone or after " +
                std::to_string(shape.class_tokens) + " class tokens (\"cls_token\", \"dist_token\") and " +
                std::to_string(shape.registers) + " registers (\"reg_token\")");
}

}  // namespace detail

}  // namespace INTACT_UNIT
}  // namespace intact
