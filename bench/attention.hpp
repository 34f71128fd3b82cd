#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "intact/build/block_builder.hpp"
#include "intact/build/owned_parameters.hpp"
#include "intact/build/recipe.hpp"
#include "intact/model/attention.hpp"
#include "intact/reference/model/attention.hpp"
#include "memory.hpp"
#include "program.hpp"
#include "shapes.hpp"

namespace intact_bench {

/// The recipes that are measured, by the names that the results have.
struct named_recipe {
  const char* name;
  intact::quantization_recipe parts;
};
inline constexpr named_recipe paper{"paper", intact::paper_recipe};
inline constexpr named_recipe precise{"precise", intact::precise_recipe};
inline constexpr named_recipe precise_weights{"weights", intact::precise_recipe_888};
inline constexpr named_recipe precise_weight_codes{"weight_codes", intact::precise_recipe_weight_codes};

/// The softmax of a recipe for logits of a scale, and its product with V: `ratio` is s_v / s_context.
inline intact::owned_softmax make_softmax(const intact::quantization_recipe& recipe, float logits_scale, index_t keys,
                                          float ratio, int context_zero_point) {
  intact::owned_softmax made = intact::build_softmax({logits_scale, 0}, intact::geometric_code_weights, keys, recipe);
  const double real_ratio = static_cast<double>(ratio);
  if (made.normalize) {
    made.normalization = intact::build_row_divisor(real_ratio, context_zero_point);
  } else {
    made.context = intact::owned_tensor_scale(intact::attention_context_spec(real_ratio, context_zero_point, keys));
  }
  return made;
}

/// Operations of q * k^T and attention times V on byte products: log2 codes take two of them, one per slice.
inline double attention_operations(const token_shape& shape, const intact::quantization_recipe& parts) {
  const double product = 2.0 * static_cast<double>(shape.rows() * shape.tokens * shape.width);
  const bool weights =
      parts.attention == intact::attention_kind::weights || parts.attention == intact::attention_kind::weight_codes;
  return product * (weights ? 2 : 3);
}

/// Attention of all heads, from codes of q, k and v to codes of the context. Some queries are checked, evenly spaced.
struct attention_task : task {
  static constexpr int zero_point = 125;  ///< of q, k and v
  static constexpr int logits_zero_point = 130;
  static constexpr int context_zero_point = 121;
  static constexpr double code_deviation = 74;  ///< of uniform bytes
  static constexpr double logits_deviation = 30;
  static constexpr float logits_scale = 0.1F;
  static constexpr float context_ratio = 3;  ///< s_v / s_context, below 4

  attention_task(const token_shape& of_, const named_recipe& recipe, int threads_)
      : of(of_),
        logits_factor(logits_deviation /
                      (code_deviation * code_deviation * std::sqrt(static_cast<double>(of.head_size())))),
        qkv(random_codes<std::uint8_t>(of.rows() * 3 * of.width, 0, 255)),
        logits(intact::attention_logits_spec(logits_factor, logits_zero_point, of.head_size())),
        softmax(make_softmax(recipe.parts, logits_scale, of.tokens, context_ratio, context_zero_point)) {
    shape = std::to_string(of.heads) + 'x' + std::to_string(of.tokens) + 'x' + std::to_string(of.head_size());
    shape = (of.batch == 1 ? "" : std::to_string(of.batch) + 'x') + shape;
    output = recipe.name;
    threads = threads_;
    operations = attention_operations(of, recipe.parts);
    constexpr index_t multiplications = 50'000'000;
    const index_t per_query = std::max<index_t>(1, of.batch * of.width * of.tokens);
    const index_t count = std::min(of.tokens, std::max<index_t>(2, multiplications / per_query));
    for (index_t i = 0; i < count; ++i) {
      checked.push_back(count == 1 ? 0 : i * (of.tokens - 1) / (count - 1));
    }
    compute_expected();
  }

  /// q (0), k (1) or v (2) of all heads of an image.
  intact::quantized_matrix part(index_t image, index_t which) const {
    const intact::matrix_view<const std::uint8_t> all(qkv.data(), of.rows(), 3 * of.width);
    return {all.row_block(image * of.tokens, of.tokens).column_block(which * of.width, of.width), zero_point};
  }

  /// The checked queries' codes.
  std::vector<std::int32_t> checked_codes(const aligned_vector<std::uint8_t>& context) const {
    std::vector<std::int32_t> codes;
    for (index_t image = 0; image < of.batch; ++image) {
      for (const index_t query : checked) {
        const std::uint8_t* const row = context.data() + (image * of.tokens + query) * of.width;
        codes.insert(codes.end(), row, row + of.width);
      }
    }
    return codes;
  }

  const token_shape of;
  const double logits_factor;
  const aligned_vector<std::uint8_t> qkv;
  const intact::owned_tensor_scale logits;
  const intact::owned_softmax softmax;
  std::vector<index_t> checked;

 private:
  /// By the specification, the checked queries alone.
  void compute_expected() {
    aligned_vector<std::uint8_t> context(static_cast<std::size_t>(of.rows() * of.width));
    const intact::matrix_view all(context.data(), of.rows(), of.width);
    std::vector<std::byte> memory(intact::reference::attention_workspace_bytes(1, of.tokens));
    for (index_t image = 0; image < of.batch; ++image) {
      for (const index_t query : checked) {
        const intact::quantized_matrix q{part(image, 0).codes.row_block(query, 1), zero_point};
        intact::reference::attention({.q = q, .k = part(image, 1), .v = part(image, 2)},
                                     {.heads = of.heads, .logits = logits.scale, .softmax = softmax.view()},
                                     all.row_block(image * of.tokens + query, 1),
                                     intact::workspace(memory.data(), memory.size()));
      }
    }
    expected = checked_codes(context);
  }
};

template <class Isa>
class intact_attention : public program {
 public:
  explicit intact_attention(const attention_task& task)
      : task_(task),
        context_(static_cast<std::size_t>(task.of.rows() * task.of.width)),
        memory_(static_cast<std::size_t>(
            intact::attention_workspace_bytes(task.of.tokens, task.of.heads, task.of.head_size(), task.threads))) {}

  void run() override {
    const token_shape& of = task_.of;
    with_threads(task_.threads, [&](const auto& executor) {
      for (index_t image = 0; image < of.batch; ++image) {
        const intact::matrix_view y(context_.data() + image * of.tokens * of.width, of.tokens, of.width);
        intact::attention<Isa>({.q = task_.part(image, 0), .k = task_.part(image, 1), .v = task_.part(image, 2)},
                               {.heads = of.heads, .logits = task_.logits.scale, .softmax = task_.softmax.view()}, y,
                               intact::workspace(memory_.data(), memory_.size()), executor);
      }
    });
  }

  std::vector<std::int32_t> outputs() const override { return task_.checked_codes(context_); }

 private:
  const attention_task& task_;
  aligned_vector<std::uint8_t> context_;
  aligned_vector<std::byte> memory_;
};

}  // namespace intact_bench
