#pragma once

#include <algorithm>
#include <iterator>
#include <string>
#include <vector>

#include "intact/types/view.hpp"

// The shapes of the measurements. Products: activations M x K times weights N x K, those of the linear layers of
// DeiT-T, DeiT-S and ViT-B (192, 384 and 768 channels); 197 rows are the tokens of an image of 224 x 224. Everything
// else: the tokens that go through a block.

namespace intact_bench {

using intact::index_t;

struct gemm_shape {
  index_t m = 0;
  index_t k = 0;
  index_t n = 0;

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
inline constexpr index_t row_counts[] = {1, 4, 16, 49, 50, 197, 577, 1024, 4096};

/// The widest and the deepest layer of each model, K x N.
inline constexpr gemm_shape row_count_layers[] = {{0, 192, 768},  {0, 768, 192},  {0, 384, 1536},
                                                  {0, 1536, 384}, {0, 768, 3072}, {0, 3072, 768}};

/// One small shape with tails in every direction, one layer, one token: enough to see that a program works.
inline constexpr gemm_shape quick_shapes[] = {{7, 67, 19}, {197, 192, 192}, {1, 192, 768}};

/// The table, then the layers above with every number of rows.
inline std::vector<gemm_shape> all_shapes() {
  std::vector<gemm_shape> shapes(std::begin(table_shapes), std::end(table_shapes));
  for (gemm_shape shape : row_count_layers) {
    for (const index_t m : row_counts) {
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

/// Tokens of a model: images, or the windows of one, do not see each other.
struct token_shape {
  index_t batch = 1;
  index_t tokens = 0;
  index_t width = 0;
  index_t heads = 1;

  index_t rows() const { return batch * tokens; }
  index_t head_size() const { return width / heads; }
  index_t hidden() const { return 4 * width; }
  /// All heads' rows of logits.
  index_t logit_rows() const { return rows() * heads; }
  std::string name() const {
    return (batch == 1 ? "" : std::to_string(batch) + 'x') + std::to_string(tokens) + 'x' + std::to_string(width);
  }

  friend bool operator==(const token_shape&, const token_shape&) = default;
};

/// Images of 224 x 224 and of 384 x 384 pixels, and the four stages of Swin-T: windows of 49 tokens, heads of 32
/// channels.
inline constexpr token_shape table_token_shapes[] = {
    {1, 197, 192, 3},    // DeiT-T
    {1, 197, 384, 6},    // DeiT-S
    {1, 197, 768, 12},   // ViT-B
    {1, 197, 1024, 16},  // ViT-L
    {1, 577, 192, 3},    // DeiT-T, 384 pixels
    {1, 577, 768, 12},   // ViT-B, 384 pixels
    {64, 49, 96, 3},     // Swin-T, one stage after the other
    {16, 49, 192, 6},   {4, 49, 384, 12}, {1, 49, 768, 24},
};

inline constexpr token_shape quick_token_shapes[] = {{1, 5, 24, 2}, {1, 197, 192, 3}, {3, 49, 96, 3}};

/// How the time grows: with the tokens of an image at the widths of DeiT-T and ViT-B, and with the width, heads of 64
/// channels, at 197 tokens.
inline constexpr index_t token_counts[] = {17, 49, 65, 129, 197, 257, 577, 1025, 2048, 4096};
inline constexpr index_t widths[] = {64, 128, 192, 256, 384, 512, 768, 1024};

inline std::vector<token_shape> all_token_shapes() {
  std::vector<token_shape> shapes(std::begin(table_token_shapes), std::end(table_token_shapes));
  const auto add = [&](const token_shape& shape) {
    if (std::find(shapes.begin(), shapes.end(), shape) == shapes.end()) {
      shapes.push_back(shape);
    }
  };
  for (const index_t tokens : token_counts) {
    add({1, tokens, 192, 3});
    add({1, tokens, 768, 12});
  }
  for (const index_t width : widths) {
    add({1, 197, width, width / 64});
  }
  return shapes;
}

/// The shapes of that name: "quick", "table" or "all".
inline std::vector<token_shape> token_shapes_of(const std::string& name) {
  return name == "quick"   ? std::vector(std::begin(quick_token_shapes), std::end(quick_token_shapes))
         : name == "table" ? std::vector(std::begin(table_token_shapes), std::end(table_token_shapes))
                           : all_token_shapes();
}

}  // namespace intact_bench
