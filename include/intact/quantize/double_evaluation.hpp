#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "intact/build/integer_vit.hpp"
#include "intact/config/floating_point.hpp"
#include "intact/quantize/double_operations.hpp"
#include "intact/quantize/trace_comparison.hpp"

// A vision transformer of any recipe in real arithmetic, from the parameters of an integer one. It shares no arithmetic
// with the integer operations; trace_comparison.hpp compares both.

namespace intact {
inline namespace INTACT_UNIT {

namespace double_precision {

/// The weights of a layer, from their storage: s8; or s4, two per byte, the low nibble first, each row from a new
/// byte; with a power of two per row and group of columns if there are groups.
inline code_matrix copy_weights(const owned_weights& weights) {
  return real::make_codes(weights.rows, weights.columns, [&](index_t n, index_t k) -> std::int32_t {
    if (weights.kind == weight_kind::s8) {
      return weights.codes[static_cast<std::size_t>(n * weights.columns + k)];
    }
    const index_t bytes = (weights.columns + 1) / 2;
    const int byte = weights.packed[static_cast<std::size_t>(n * bytes + k / 2)];
    const int nibble = k % 2 == 0 ? byte % 16 : byte / 16;
    const int code = nibble < 8 ? nibble : nibble - 16;
    if (weights.kind == weight_kind::s4) {
      return code;
    }
    const index_t groups = weights.columns / weights.group + (weights.columns % weights.group != 0 ? 1 : 0);
    return code * (1 << weights.shifts[static_cast<std::size_t>(n * groups + k / weights.group)]);
  });
}

/// A fully connected layer that adds to an s16 stream.
inline code_matrix evaluate_linear(const code_matrix& x, const owned_linear& layer,
                                   const real::code_range& range = real::u8_codes) {
  return real::gemm(x, copy_weights(layer.weights), layer.scale.exact, range);
}

/// A layer whose outputs are added to an s16 stream.
inline code_matrix evaluate_linear_onto(const code_matrix& stream, const code_matrix& x, const owned_linear& layer) {
  return real::add_gemm(stream, x, copy_weights(layer.weights), layer.scale.exact);
}

/// A residual addition.
inline code_matrix evaluate_add(const code_matrix& stream, const code_matrix& branch, const owned_add& p) {
  return real::add(stream, branch, p.exact, p.zero_points.stream, p.zero_points.branch);
}

/// The codes of a gate times those of the layer that it multiplies.
inline code_matrix evaluate_product(const code_matrix& activation, const code_matrix& up, const owned_gate& p) {
  return real::make_codes(up.rows, up.columns, [&](index_t i, index_t c) {
    const double product =
        static_cast<double>(activation(i, c) - p.activation_zero_point) * (up(i, c) - p.up_zero_point);
    return real::nearest_code(product * p.product.exact.factor + p.product.exact.offset, real::u8_codes);
  });
}

/// Log2 codes or weights of one head's logits.
inline code_matrix evaluate_softmax(const code_matrix& logits, const owned_softmax& p) {
  return p.kind == attention_kind::log2_of_sum ? real::log_softmax(logits, p.exponential, p.probabilities, p.rounding)
                                               : real::max_softmax(logits, p.table);
}

/// Their product with V.
inline code_matrix evaluate_average(const code_matrix& codes, const code_matrix& v, int zero_point,
                                    const owned_softmax& p) {
  if (!p.normalize) {
    return real::shift_matmul(codes, v, zero_point, p.context.exact, p.probabilities);
  }
  const code_matrix weights = p.kind == attention_kind::weights        ? codes
                              : p.kind == attention_kind::weight_codes ? real::weights_of_codes(codes, p.code_weights)
                                                                       : real::weights_of_codes(codes);
  return real::weighted_average(weights, v, zero_point, p.normalization);
}

/// The queries (part 0) or keys (part 1) of all heads; with norms normalized, each head of a token by itself.
inline code_matrix queries_or_keys(const code_matrix& qkv, index_t part, const owned_block& p,
                                   const attention_shape& shape, index_t block, tensors& all) {
  code_matrix codes = real::copy_columns(qkv, part * shape.width, shape.width);
  if (p.qk_norms) {
    codes.rows *= shape.heads;
    codes.columns = shape.head_size();
    codes = real::layernorm(codes, (part == 0 ? p.qk_norms->q : p.qk_norms->k).view(), *shape.qk_norm);
    codes.rows = qkv.rows;
    codes.columns = shape.width;
    keep(all, {part == 0 ? "q_norm" : "k_norm", block}, codes);
  }
  return codes;
}

/// Multi-head attention of a block, from norm1 to the context.
inline const code_matrix& evaluate_attention(const code_matrix& x, const owned_block& p, const attention_shape& shape,
                                             index_t block, tensors& all) {
  const index_t size = shape.head_size();
  const code_matrix& qkv = keep(all, {"qkv", block}, evaluate_linear(x, p.qkv));
  const code_matrix q = queries_or_keys(qkv, 0, p, shape, block, all),
                    k = queries_or_keys(qkv, 1, p, shape, block, all);
  code_matrix context(shape.tokens, shape.width);
  for (index_t head = 0; head < shape.heads; ++head) {
    const auto part = [&](const code_matrix& t, index_t at) { return real::copy_columns(t, at + head * size, size); };
    const code_matrix& logits =
        keep(all, {"attention_logits", block, head},
             real::attention_logits(part(q, 0), part(k, 0), p.zero_points(), p.attention_logits.exact));
    const code_matrix& codes = keep(all, {"attention", block, head}, evaluate_softmax(logits, p.softmax));
    const code_matrix averages = evaluate_average(codes, part(qkv, 2 * shape.width), p.zero_points().v, p.softmax);
    for (index_t i = 0; i < averages.rows; ++i) {
      for (index_t c = 0; c < size; ++c) {
        context(i, head * size + c) = averages(i, c);
      }
    }
  }
  return keep(all, {"context", block}, std::move(context));
}

/// A transformer block.
struct block_evaluation {
  const owned_block& p;  ///< its parameters
  block_shape shape;     ///< its sizes
  stream_codes codes;    ///< of the residual stream
  index_t block;         ///< its number
  tensors& all;          ///< receives every tensor

  /// The residual stream that leaves the block.
  const code_matrix& operator()(const code_matrix& stream) const {
    const code_matrix& norm1 = keep(all, {"norm1", block}, real::layernorm(stream, p.norm1.view(), shape.norm));
    const code_matrix& context = evaluate_attention(norm1, p, shape.attention, block, all);
    const code_matrix& add1 = keep(all, {"add1", block}, add_branch(stream, context, p.proj, p.add1, "proj"));

    const code_matrix& norm2 = keep(all, {"norm2", block}, real::layernorm(add1, p.norm2.view(), shape.norm));
    const code_matrix& fc1 = keep(all, {"fc1", block}, evaluate_linear(norm2, p.fc1, real::u12_codes));
    const code_matrix& activation = keep(all, {"activation", block}, real::activation(fc1, p.activation));
    const code_matrix& hidden = p.gate ? multiply_by_gate(norm2, activation, *p.gate) : activation;
    return keep(all, {"add2", block}, add_branch(add1, hidden, p.fc2, p.add2, "fc2"));
  }

  /// The products of a gate with the layer that it multiplies.
  const code_matrix& multiply_by_gate(const code_matrix& x, const code_matrix& activation,
                                      const owned_gate& gate) const {
    const code_matrix& up = keep(all, {"up", block}, evaluate_linear(x, gate.up));
    return keep(all, {"gated", block}, evaluate_product(activation, up, gate));
  }

  /// The layer at the end of a branch, and the addition: in two steps to a u8 stream, in one to an s16 stream.
  code_matrix add_branch(const code_matrix& stream, const code_matrix& x, const owned_linear& layer,
                         const owned_add& addition, const char* name) const {
    if (codes == stream_codes::s16) {
      return evaluate_linear_onto(stream, x, layer);
    }
    return evaluate_add(stream, keep(all, {name, block}, evaluate_linear(x, layer)), addition);
  }
};

/// Evaluates an integer vision transformer in real arithmetic. Each tensor follows from the tensors before it.
///
/// Formula:   docs/numerics.md, with the real scales that the builders report, rounded once to a code of every tensor.
/// Exactness: the codes are those of the integer model, for every tensor of model/trace.hpp and the logits.
/// Errors:    none; the tensors must be those of an integer_vit, and images of its sizes.
/// Source:    docs/numerics.md, section 8.
class vit_evaluation {
 public:
  /// The tensors must outlive the object.
  explicit vit_evaluation(const vit_tensors& model) : tensors_(model) {}
  explicit vit_evaluation(const vit_tensors&&) = delete;

  /// The codes of all tensors for an image.
  tensors evaluate(const image_view& image) const {
    tensors all;
    const vit_shape& shape = tensors_.shape;
    const code_matrix& input = keep(all, {"input"}, quantize(real::cut_patches(image, shape.patch)));
    const bool wide = shape.stream == stream_codes::s16;
    const code_matrix* stream = &keep(all, {"tokens"}, wide ? embed_s16(input) : embed_u8(input, all));
    if (tensors_.norm_pre) {
      stream = &normalize(*stream, *tensors_.norm_pre, all);
    }
    for (std::size_t i = 0; i < tensors_.blocks.size(); ++i) {
      const block_evaluation block{.p = tensors_.blocks[i],
                                   .shape = shape.block(),
                                   .codes = shape.stream,
                                   .block = static_cast<index_t>(i),
                                   .all = all};
      stream = &block(*stream);
    }

    const code_matrix features = pool(*stream, all);
    if (shape.classes == 0) {
      return all;
    }
    const code_matrix head = copy_weights(tensors_.head);
    keep(all, {"logits"}, real::gemm(features, head, tensors_.logits.exact, real::s32_codes));
    keep(all, {"logits_u8"}, real::gemm(features, head, tensors_.logits_u8.exact));
    return all;
  }

 private:
  /// Codes of pixels by the table of their channel; without a table pixels are codes.
  code_matrix quantize(const code_matrix& pixels) const {
    if (tensors_.pixel_table.empty()) {
      return pixels;
    }
    const index_t samples = tensors_.shape.patch.samples();
    return real::make_codes(pixels.rows, pixels.columns, [&](index_t i, index_t j) {
      return tensors_.pixel_table[static_cast<std::size_t>(j / samples * 256 + pixels(i, j))];
    });
  }

  code_matrix normalized(const code_matrix& x, const owned_layernorm& p) const {
    return real::layernorm(x, p.view(), tensors_.shape.norm);
  }

  /// The residual stream that a LayerNorm of the tokens begins.
  const code_matrix& normalize(const code_matrix& tokens, const owned_pre_norm& p, tensors& all) const {
    const code_matrix& norm = keep(all, {"norm_pre"}, normalized(tokens, p.norm));
    if (tensors_.shape.stream == stream_codes::u8) {
      return norm;
    }
    return keep(all, {"stream"}, real::make_codes(norm.rows, norm.columns, [&](index_t i, index_t c) {
                  const realized_scale& scale = p.stream.exact[static_cast<std::size_t>(c)];
                  return real::nearest_code(norm(i, c) * scale.factor + scale.offset, real::s16_codes);
                }));
  }

  /// Some rows of a tensor.
  static code_matrix rows_of(const code_matrix& x, index_t first, index_t count) {
    return real::make_codes(count, x.columns, [&](index_t i, index_t c) { return x(first + i, c); });
  }

  /// The features: one row.
  code_matrix pool(const code_matrix& stream, tensors& all) const {
    const vit_shape& shape = tensors_.shape;
    const code_matrix patches = rows_of(stream, shape.prefix_tokens(), shape.patches());
    if (const auto* const scale = std::get_if<owned_channel_scale>(&tensors_.mean)) {
      const code_matrix& mean = keep(all, {"pool"}, real::pool(patches, scale->exact, real::s16_codes));
      return keep(all, {"norm"}, normalized(mean, tensors_.norm));
    }
    const auto* const scale = std::get_if<owned_tensor_scale>(&tensors_.mean);
    const index_t classes = shape.class_features();
    const bool of_patches = scale != nullptr || shape.pooling == vit_pooling::patch_tokens;
    const code_matrix taken =
        real::make_codes(classes + (of_patches ? patches.rows : 0), shape.width,
                         [&](index_t i, index_t c) { return i < classes ? stream(i, c) : patches(i - classes, c); });
    const code_matrix& norm = keep(all, {"norm"}, normalized(taken, tensors_.norm));
    const index_t class_values = scale == nullptr ? norm.rows * norm.columns : classes * shape.width;
    const code_matrix mean =
        scale == nullptr
            ? code_matrix()
            : keep(all, {"pool"}, real::pool(rows_of(norm, classes, patches.rows), {&scale->exact, 1}, real::u8_codes));
    return real::make_codes(1, class_values + mean.columns, [&](index_t, index_t k) {
      return k < class_values ? norm(k / shape.width, k % shape.width) : mean(0, k - class_values);
    });
  }

  /// The prefix tokens, and the patches in their scale; then the positions.
  code_matrix embed_u8(const code_matrix& input, tensors& all) const {
    const index_t first = tensors_.shape.prefix_tokens();
    const code_matrix& patch = keep(all, {"patch"}, evaluate_linear(input, tensors_.patch));
    const code_matrix& embed =
        keep(all, {"embed"}, real::make_codes(patch.rows + first, patch.columns, [&](index_t i, index_t c) {
               return i < first ? tensors_.class_token[static_cast<std::size_t>(i * patch.columns + c)]
                                : tensors_.embed_table[static_cast<std::size_t>(patch(i - first, c))];
             }));
    const code_matrix positions = real::make_codes(embed.rows, embed.columns, [&](index_t i, index_t c) {
      return tensors_.positions[static_cast<std::size_t>(i * embed.columns + c)];
    });
    return evaluate_add(embed, positions, tensors_.add_positions);
  }

  /// Prefix tokens and positions; then the patches.
  code_matrix embed_s16(const code_matrix& input) const {
    const index_t width = tensors_.shape.width, first = tensors_.shape.prefix_tokens();
    const auto addend = [&](index_t i, index_t c) {
      return tensors_.token_addend[static_cast<std::size_t>(i * width + c)];
    };
    const code_matrix positions =
        real::make_codes(input.rows, width, [&](index_t i, index_t c) { return addend(i + first, c); });
    const code_matrix patches = evaluate_linear_onto(positions, input, tensors_.patch);
    return real::make_codes(input.rows + first, width, [&](index_t i, index_t c) -> std::int32_t {
      return i < first ? addend(i, c) : patches(i - first, c);
    });
  }

  const vit_tensors& tensors_;
};

}  // namespace double_precision

}  // namespace INTACT_UNIT
}  // namespace intact
