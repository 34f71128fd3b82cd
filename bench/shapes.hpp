#pragma once

#include <algorithm>
#include <iterator>
#include <string>
#include <vector>

#include "intact/types/view.hpp"

// The shapes of the measurements: activations M x K times weights N x K. They are those of the linear layers of DeiT-T,
// DeiT-S and ViT-B (192, 384 and 768 channels); 197 rows are the tokens of an image of 224 x 224.

namespace intact_bench {

using intact::index;

struct gemm_shape {
  index m = 0;
  index k = 0;
  index n = 0;

  double operations() const { return 2.0 * static_cast<double>(m) * static_cast<double>(k) * static_cast<double>(n); }
  std::string name() const { return std::to_string(m) + 'x' + std::to_string(k) + 'x' + std::to_string(n); }

  friend bool operator==(const gemm_shape&, const gemm_shape&) = default;
};

/// The layers of an encoder block, a cube as others like to report it, and one token.
inline constexpr gemm_shape table_shapes[] = {
    {197, 192, 576},     // DeiT-T: qkv
    {197, 192, 192},     // proj
    {197, 192, 768},     // fc1
    {197, 768, 192},     // fc2
    {197, 384, 1152},    // DeiT-S: qkv
    {197, 384, 1536},    // fc1
    {197, 768, 2304},    // ViT-B: qkv
    {197, 768, 3072},    // fc1
    {197, 3072, 768},    // fc2
    {1024, 1024, 1024},  // the cube
    {1, 768, 3072},      // one token through fc1 of ViT-B: memory is the limit
};

/// Numbers of rows: one token, a few, a window of Swin (49) and that with a class token, images of 224, 384 and 512
/// pixels, and a batch.
inline constexpr index row_counts[] = {1, 4, 16, 49, 50, 197, 577, 1024, 4096};

/// The widest and the deepest layer of each model, K x N.
inline constexpr gemm_shape row_count_layers[] = {{0, 192, 768},  {0, 768, 192},  {0, 384, 1536},
                                                  {0, 1536, 384}, {0, 768, 3072}, {0, 3072, 768}};

/// One small shape with tails in every direction, one layer, one token: enough to see that a program works.
inline constexpr gemm_shape quick_shapes[] = {{7, 67, 19}, {197, 192, 192}, {1, 192, 768}};

/// The table, then the layers above with every number of rows.
inline std::vector<gemm_shape> all_shapes() {
  std::vector<gemm_shape> shapes(std::begin(table_shapes), std::end(table_shapes));
  for (gemm_shape shape : row_count_layers) {
    for (const index m : row_counts) {
      shape.m = m;
      if (std::find(shapes.begin(), shapes.end(), shape) == shapes.end()) {
        shapes.push_back(shape);
      }
    }
  }
  return shapes;
}

/// The shapes of that name: "quick", "table" or "all".
inline std::vector<gemm_shape> shapes_of(const std::string& name) {
  return name == "quick"   ? std::vector(std::begin(quick_shapes), std::end(quick_shapes))
         : name == "table" ? std::vector(std::begin(table_shapes), std::end(table_shapes))
                           : all_shapes();
}

}  // namespace intact_bench
