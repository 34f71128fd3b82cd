#pragma once

#include <cstdint>
#include <type_traits>
#include <variant>

#include "intact/model/attention.hpp"
#include "intact/reference/layernorm.hpp"
#include "intact/reference/log_softmax.hpp"
#include "intact/reference/max_softmax.hpp"
#include "intact/reference/model/linear.hpp"
#include "intact/reference/model/trace.hpp"
#include "intact/reference/rmsnorm.hpp"
#include "intact/reference/rotate.hpp"
#include "intact/reference/shift_matmul.hpp"
#include "intact/reference/weighted_matmul.hpp"

namespace intact {
inline namespace INTACT_UNIT {
namespace reference {

/// Buffers of one head, taken from a workspace.
struct attention_head_buffers {
  matrix_view<std::uint8_t> logits;  ///< queries x keys
  matrix_view<std::uint8_t> codes;   ///< bytes of packed rows for attention_code::u4_clipped

  /// Takes the buffers from a workspace; of a workspace_size, counts their bytes.
  template <class Workspace>
  static constexpr attention_head_buffers take(Workspace& memory, index_t queries, index_t keys) {
    return {.logits = memory.template matrix<std::uint8_t>(queries, keys),
            .codes = memory.template matrix<std::uint8_t>(queries, keys)};
  }
};

/// Buffers of self-attention with its projections.
struct attention_buffers {
  matrix_view<std::uint8_t> qkv;      ///< tokens x 3 width
  attention_head_buffers head;        ///< of one head at a time
  matrix_view<std::uint8_t> context;  ///< tokens x width

  /// Takes the buffers from a workspace; of a workspace_size, counts their bytes.
  template <class Workspace>
  static constexpr attention_buffers take(Workspace& memory, const attention_shape& shape) {
    return {.qkv = memory.template matrix<std::uint8_t>(shape.tokens, size_product(3, shape.width)),
            .head = attention_head_buffers::take(memory, shape.tokens, shape.tokens),
            .context = memory.template matrix<std::uint8_t>(shape.tokens, shape.width)};
  }
};

/// Bytes of workspace for attention between its projections, for memory of any alignment.
constexpr std::size_t attention_workspace_bytes(index_t queries, index_t keys) {
  workspace_size memory;
  attention_head_buffers::take(memory, queries, keys);
  return memory.bytes();
}

/// Bytes of workspace that attention of this shape needs, for memory of any alignment.
constexpr std::size_t attention_workspace_bytes(const attention_shape& shape) {
  workspace_size memory;
  attention_buffers::take(memory, shape);
  return memory.bytes();
}

namespace detail {

/// LayerNorm or RMSNorm.
template <class Code>
void normalize(normalization kind, matrix_view<Code> x, const layernorm_parameters& p, matrix_view<std::uint8_t> y) {
  if (kind == normalization::rmsnorm) {
    reference::rmsnorm(x, p, y);
  } else {
    reference::layernorm(x, p, y);
  }
}

/// The queries or the keys of all heads, head by head, in place.
inline void normalize_heads(normalization kind, const layernorm_parameters& p, index_t heads,
                            matrix_view<std::uint8_t> x) {
  const index_t size = x.columns / heads;
  for (index_t head = 0; head < heads; ++head) {
    const matrix_view<std::uint8_t> codes = x.column_block(head * size, size);
    normalize(kind, codes, p, codes);
  }
}

/// The queries or the keys of all heads, in place: those of tokens after the prefix.
inline void rotate_heads(const quantized_matrix& x, const rotation_parameters& p, index_t prefix,
                         matrix_view<std::uint8_t> y) {
  const index_t rotated = y.rows - prefix;
  reference::rotate({x.codes.row_block(prefix, rotated), x.zero_point}, p, y.row_block(prefix, rotated));
}

/// One head after its logits.
struct head_operands {
  matrix_view<const std::uint8_t> logits;
  quantized_matrix v;
  matrix_view<std::uint8_t>
      codes;  ///< memory for codes or weights; bytes of packed rows for attention_code::u4_clipped
  matrix_view<std::uint8_t> context;
  const key_mask* mask = nullptr;  ///< without one all keys are visible; attention_code::u4_clipped takes none
};

/// Log2 codes of one head's logits.
template <attention_code Format>
void code_attention(matrix_view<const std::uint8_t> logits, const softmax_parameters& p,
                    typename attention_codes<Format>::view codes) {
  const auto* const of_sum = std::get_if<log2_of_sum>(&p.weights);
  if (of_sum == nullptr) {
    reference::max_softmax(logits, std::get_if<log2_of_max>(&p.weights)->table, codes);
  } else if (of_sum->rounding == log2_rounding::round_ratio) {
    reference::log_softmax<Format>(logits, of_sum->exponential, codes);
  } else {
    reference::log_softmax<Format, log2_rounding::round_log>(logits, of_sum->exponential, codes);
  }
}

/// The same with masked keys.
template <attention_code Format>
void code_attention(matrix_view<const std::uint8_t> logits, const softmax_parameters& p, const key_mask& mask,
                    matrix_view<std::uint8_t> codes) {
  const auto* const of_sum = std::get_if<log2_of_sum>(&p.weights);
  if (of_sum == nullptr) {
    const log2_of_max& of_max = *std::get_if<log2_of_max>(&p.weights);
    reference::max_softmax(logits, of_max.table, mask, attention_codes<Format>::last_code, codes);
  } else if (of_sum->rounding == log2_rounding::round_ratio) {
    reference::log_softmax<Format>(logits, of_sum->exponential, mask, codes);
  } else {
    reference::log_softmax<Format, log2_rounding::round_log>(logits, of_sum->exponential, mask, codes);
  }
}

/// Log2 codes of one head, and their product with V. `codes`: the memory for codes, as a view of the format's.
template <attention_code Format, class Trace>
void attend_by_codes(const head_operands& x, typename attention_codes<Format>::view codes, const softmax_parameters& p,
                     const trace_site& site, Trace& trace) {
  if constexpr (Format == attention_code::u4_clipped) {
    code_attention<Format>(x.logits, p, codes);
  } else {
    x.mask == nullptr ? code_attention<Format>(x.logits, p, codes)
                      : code_attention<Format>(x.logits, p, *x.mask, codes);
  }
  trace(site, typename attention_codes<Format>::const_view(codes));
  if constexpr (Format == attention_code::u8_full) {
    reference::shift_matmul<Format>(codes, x.v, requantize_s64<std::uint8_t>{*std::get_if<tensor_scale>(&p.context)},
                                    x.context);
  } else if (const auto* const divisor = std::get_if<row_divisor>(&p.context)) {
    reference::shift_matmul<Format>(codes, x.v, *divisor, x.context);
  } else {
    const requantize<std::uint8_t, tensor_scale> stage{*std::get_if<tensor_scale>(&p.context)};
    reference::shift_matmul<Format>(codes, x.v, stage, x.context);
  }
}

/// 4-bit codes of one head's logits, traced and replaced by their weights, and the product of these with V.
template <class Trace>
void attend_by_weight_codes(const head_operands& x, const weight_codes_of_max& of, const row_divisor& divisor,
                            const trace_site& site, Trace& trace) {
  x.mask == nullptr ? reference::max_softmax(x.logits, of.table, x.codes)
                    : reference::max_softmax(x.logits, of.table, *x.mask, u4::max, x.codes);
  trace(site, matrix_view<const std::uint8_t>(x.codes));
  for (index_t i = 0; i < x.codes.rows; ++i) {
    for (index_t j = 0; j < x.codes.columns; ++j) {
      x.codes(i, j) = of.weights[x.codes(i, j)];
    }
  }
  reference::weighted_matmul(x.codes, x.v, divisor, x.context);
}

/// Softmax of one head's logits, and its product with V.
template <class Trace>
void attend(const head_operands& x, const softmax_parameters& p, const trace_site& site, Trace& trace) {
  if (const auto* const bytes = std::get_if<weights_of_max>(&p.weights)) {
    x.mask == nullptr ? reference::max_softmax(x.logits, bytes->table, x.codes)
                      : reference::max_softmax(x.logits, bytes->table, *x.mask, 0, x.codes);
    trace(site, matrix_view<const std::uint8_t>(x.codes));
    reference::weighted_matmul(x.codes, x.v, *std::get_if<row_divisor>(&p.context), x.context);
  } else if (const auto* const of_codes = std::get_if<weight_codes_of_max>(&p.weights)) {
    attend_by_weight_codes(x, *of_codes, *std::get_if<row_divisor>(&p.context), site, trace);
  } else if (p.codes() == attention_code::u8_masked) {
    attend_by_codes<attention_code::u8_masked>(x, x.codes, p, site, trace);
  } else if (p.codes() == attention_code::u4_clipped) {
    const packed_view<u4, std::uint8_t> packed(x.codes.data, x.codes.rows, x.codes.columns);
    attend_by_codes<attention_code::u4_clipped>(x, packed, p, site, trace);
  } else {
    attend_by_codes<attention_code::u8_full>(x, x.codes, p, site, trace);
  }
}

/// All heads, from q, k and v to the context.
template <class Trace>
void attend_heads(const attention_operands& x, const multihead_parameters& p, const attention_head_buffers& buffer,
                  const matrix_view<std::uint8_t>& y, Trace& trace) {
  const index_t size = x.q.codes.columns / p.heads;
  for (index_t head = 0; head < p.heads; ++head) {
    const auto of_head = [&](const quantized_matrix& all) {
      return quantized_matrix{all.codes.column_block(head * size, size), all.zero_point};
    };
    const quantized_matrix q = of_head(x.q), k = of_head(x.k), v = of_head(x.v);
    reference::gemm(q, k, requantize<std::uint8_t, tensor_scale>{p.logits}, buffer.logits);
    trace(trace_site{.name = "attention_logits", .head = head}, matrix_view<const std::uint8_t>(buffer.logits));
    const bool masked = x.mask.visible.rows != 0;
    attend(head_operands{.logits = buffer.logits,
                         .v = v,
                         .codes = buffer.codes,
                         .context = y.column_block(head * size, size),
                         .mask = masked ? &x.mask : nullptr},
           p.softmax, trace_site{.name = "attention", .head = head}, trace);
  }
}

}  // namespace detail

/// Multi-head attention between its projections.
///
/// Shapes:    q Tq x (heads * size), k and v Tk x (heads * size), y Tq x (heads * size); a mask Tq x Tk or 1 x Tk, or
///            none.
/// Memory:    at least attention_workspace_bytes(Tq, Tk) bytes.
/// Errors:    as intact::attention.
template <class Trace = no_trace>
void attention(const attention_operands& x, const multihead_parameters& p, matrix_view<std::uint8_t> y,
               workspace memory, Trace&& trace = {}) {
  require_multihead(x, p, y);
  detail::attend_heads(x, p, attention_head_buffers::take(memory, x.q.codes.rows, x.k.codes.rows), y, trace);
}

/// Multi-head self-attention of FQ-ViT (section 3.3), with the variants of softmax_parameters, and norms and rotary
/// positions of queries and keys if the shape calls for them.
///
/// Shapes:    x tokens x width in u8 codes; y tokens x width: u8, the branch's codes, or s16, the residual stream that
///            the branch is added to.
/// Errors:    sizes that do not match, parameters out of range: before anything is written.
template <class Y, class Trace = no_trace>
void attention(matrix_view<const std::uint8_t> x, const attention_parameters& p, const attention_shape& shape,
               matrix_view<Y> y, workspace memory, Trace&& trace = {}) {
  require_attention(p, shape);
  require_shape("attention", "x", x, shape.tokens, shape.width);
  require_shape("attention", "y", y, shape.tokens, shape.width);
  const attention_buffers buffer = attention_buffers::take(memory, shape);

  reference::linear(x, p.qkv, buffer.qkv);
  trace(trace_site{"qkv"}, matrix_view<const std::uint8_t>(buffer.qkv));
  const matrix_view<std::uint8_t> q = buffer.qkv.column_block(0, shape.width),
                                  k = buffer.qkv.column_block(shape.width, shape.width);
  if (const auto* const norms = std::get_if<qk_norm_parameters>(&p.norms)) {
    detail::normalize_heads(*shape.qk_norm, norms->q, shape.heads, q);
    trace(trace_site{"q_norm"}, matrix_view<const std::uint8_t>(q));
    detail::normalize_heads(*shape.qk_norm, norms->k, shape.heads, k);
    trace(trace_site{"k_norm"}, matrix_view<const std::uint8_t>(k));
  }
  if (const auto* const angles = std::get_if<rotation_parameters>(&p.rotation)) {
    detail::rotate_heads({q, p.zero_points.q}, *angles, *shape.rotary_prefix, q);
    trace(trace_site{"q_rotated"}, matrix_view<const std::uint8_t>(q));
    detail::rotate_heads({k, p.zero_points.k}, *angles, *shape.rotary_prefix, k);
    trace(trace_site{"k_rotated"}, matrix_view<const std::uint8_t>(k));
  }

  detail::attend_heads(p.operands(buffer.qkv), p.multihead(shape.heads), buffer.head, buffer.context, trace);
  trace(trace_site{"context"}, matrix_view<const std::uint8_t>(buffer.context));

  reference::linear_branch(buffer.context, p.proj, y);
  if constexpr (std::is_same_v<Y, std::uint8_t>) {
    trace(trace_site{"proj"}, matrix_view<const std::uint8_t>(y));
  }
}

}  // namespace reference
}  // namespace INTACT_UNIT
}  // namespace intact
