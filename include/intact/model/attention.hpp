#pragma once

#include <cstdint>
#include <span>
#include <type_traits>

#include "intact/log_softmax.hpp"
#include "intact/max_softmax.hpp"
#include "intact/model/linear.hpp"
#include "intact/model/trace.hpp"
#include "intact/shift_matmul.hpp"
#include "intact/types/softmax_parameters.hpp"
#include "intact/types/workspace.hpp"
#include "intact/weighted_matmul.hpp"

namespace intact {
inline namespace INTACT_ABI {

/// Sizes of multi-head self-attention.
struct attention_shape {
  index_t tokens = 0;
  index_t width = 0;
  index_t heads = 1;

  INTACT_INLINE constexpr index_t head_size() const { return heads < 1 ? 0 : width / heads; }
};

/// Parameters of multi-head self-attention. q, k and v share one scale and one zero point.
struct attention_parameters {
  linear_parameters qkv;
  int qkv_zero_point = 0;
  tensor_scale logits;  ///< s_qkv^2 / sqrt(head size) / s_logits
  softmax_parameters softmax = {};
  linear_parameters proj;  ///< to the branch's u8 scale or to the s16 stream's
};

}  // namespace INTACT_ABI

inline namespace INTACT_UNIT {

/// Buffers of one call, taken from a workspace.
struct attention_buffers {
  matrix_view<std::uint8_t> qkv;
  matrix_view<std::uint8_t> logits;
  matrix_view<std::uint8_t> codes;  ///< bytes of packed rows for attention_code::u4_clipped
  matrix_view<std::uint8_t> context;

  template <class Workspace>
  static constexpr attention_buffers take(Workspace& memory, const attention_shape& shape) {
    return {memory.template matrix<std::uint8_t>(shape.tokens, size_product(3, shape.width)),
            memory.template matrix<std::uint8_t>(shape.tokens, shape.tokens),
            memory.template matrix<std::uint8_t>(shape.tokens, shape.tokens),
            memory.template matrix<std::uint8_t>(shape.tokens, shape.width)};
  }
};

/// Checks the softmax and the product with V against the number of keys.
inline void require_softmax(const softmax_parameters& p, index_t keys) {
  const bool relative_to_sum = p.kind == attention_kind::log2_of_sum;
  if (!relative_to_sum && !p.normalize) {
    contract_failed("intact::attention: weights relative to the maximum do not sum to 1; they need normalize");
  }
  if (p.kind != attention_kind::weights && p.probabilities == attention_code::u8_full &&
      (!relative_to_sum || p.normalize)) {
    contract_failed(
        "intact::attention: 8-bit codes (attention_code::u8_full) are relative to the sum and not normalized");
  }
  if (relative_to_sum) {
    require_exp_table("attention", p.exponential, keys);
  } else {
    const bool packed = p.kind == attention_kind::log2_of_max && p.probabilities == attention_code::u4_clipped;
    require_softmax_table("attention", p.table, packed ? u4::max : 255);
  }
  if (p.normalize) {
    require_at_most("attention", "tokens of normalized rows", keys, weighted_matmul_max_keys);
    require_row_divisor("attention", p.normalization);
  } else {
    require_at_most("attention", "tokens", keys, shift_matmul_max_keys);
    require_scale("attention: context", p.context, keys);
    if (p.probabilities == attention_code::u8_full) {
      require_equal("attention", "context.left_shift for attention_code::u8_full", p.context.left_shift, 0);
    }
  }
}

/// Checks the parameters of attention against its sizes.
inline void require_attention(const attention_parameters& p, const attention_shape& shape) {
  require_at_least("attention", "heads", shape.heads, 1);
  require_equal("attention", "width % heads", shape.width % shape.heads, 0);
  require_at_most("attention", "head size", shape.head_size(), gemm_max_depth_u8_u8);
  require_linear("attention: qkv", p.qkv, size_product(3, shape.width), shape.width);
  require_between("attention", "qkv_zero_point", p.qkv_zero_point, 0, 255);
  require_scale("attention: logits", p.logits, shape.tokens);
  require_softmax(p.softmax, shape.tokens);
  require_linear("attention: proj", p.proj, shape.width, shape.width);
}

namespace detail {

/// Log2 codes of one head's logits.
template <attention_code Format>
void code_attention(matrix_view<const std::uint8_t> logits, const softmax_parameters& p,
                    typename attention_codes<Format>::view codes) {
  if (p.kind == attention_kind::log2_of_max) {
    max_softmax(logits, p.table, codes);
  } else if (p.rounding == log2_rounding::round_ratio) {
    log_softmax<Format>(logits, p.exponential, codes);
  } else {
    log_softmax<Format, std::uint64_t, log2_rounding::round_log>(logits, p.exponential, codes);
  }
}

/// The same with masked keys.
template <attention_code Format>
void code_attention(matrix_view<const std::uint8_t> logits, const softmax_parameters& p, const key_mask& mask,
                    matrix_view<std::uint8_t> codes) {
  if (p.kind == attention_kind::log2_of_max) {
    max_softmax(logits, p.table, mask, attention_codes<Format>::last_code, codes);
  } else if (p.rounding == log2_rounding::round_ratio) {
    log_softmax<Format>(logits, p.exponential, mask, codes);
  } else {
    log_softmax<Format, std::uint64_t, log2_rounding::round_log>(logits, p.exponential, mask, codes);
  }
}

/// Log2 codes of one head, and their product with V. Packed codes take no mask.
template <attention_code Format, class Trace>
void attend_by_codes(matrix_view<const std::uint8_t> logits, const quantized_matrix& v, const softmax_parameters& p,
                     typename attention_codes<Format>::view codes, matrix_view<std::uint8_t> context,
                     const trace_site& site, Trace& trace, const key_mask* mask) {
  if constexpr (Format == attention_code::u4_clipped) {
    code_attention<Format>(logits, p, codes);
  } else {
    mask == nullptr ? code_attention<Format>(logits, p, codes) : code_attention<Format>(logits, p, *mask, codes);
  }
  trace(site, typename attention_codes<Format>::const_view(codes));
  if constexpr (Format == attention_code::u8_full) {
    shift_matmul<Format>(codes, v, requantize_s64<std::uint8_t>{p.context}, context);
  } else if (p.normalize) {
    shift_matmul<Format>(codes, v, p.normalization, context);
  } else {
    shift_matmul<Format>(codes, v, requantize<std::uint8_t, tensor_scale>{p.context}, context);
  }
}

/// Softmax of one head's logits, and its product with V. Without a mask all keys are visible;
/// attention_code::u4_clipped takes none.
template <class Trace>
void attend(matrix_view<const std::uint8_t> logits, const quantized_matrix& v, const softmax_parameters& p,
            matrix_view<std::uint8_t> codes, matrix_view<std::uint8_t> context, const trace_site& site, Trace& trace,
            const key_mask* mask = nullptr) {
  if (p.kind == attention_kind::weights) {
    mask == nullptr ? max_softmax(logits, p.table, codes) : max_softmax(logits, p.table, *mask, 0, codes);
    trace(site, matrix_view<const std::uint8_t>(codes));
    weighted_matmul(codes, v, p.normalization, context);
  } else if (p.probabilities == attention_code::u8_masked) {
    attend_by_codes<attention_code::u8_masked>(logits, v, p, codes, context, site, trace, mask);
  } else if (p.probabilities == attention_code::u4_clipped) {
    const packed_view<u4, std::uint8_t> packed(codes.data, codes.rows, codes.columns);
    attend_by_codes<attention_code::u4_clipped>(logits, v, p, packed, context, site, trace, mask);
  } else {
    attend_by_codes<attention_code::u8_full>(logits, v, p, codes, context, site, trace, mask);
  }
}

}  // namespace detail

/// Multi-head self-attention of FQ-ViT (section 3.3), with the variants of softmax_parameters.
///
/// Shapes:    x tokens x width in u8 codes; y tokens x width: u8, the branch's codes, or s16, the residual stream that
///            the branch is added to.
/// Errors:    sizes that do not match, parameters out of range: before anything is written.
template <class Y, class Trace = no_trace>
void attention(matrix_view<const std::uint8_t> x, const attention_parameters& p, const attention_shape& shape,
               matrix_view<Y> y, workspace memory, index_t block = -1, Trace&& trace = {}) {
  require_attention(p, shape);
  require_shape("attention", "x", x, shape.tokens, shape.width);
  require_shape("attention", "y", y, shape.tokens, shape.width);
  const attention_buffers buffer = attention_buffers::take(memory, shape);

  linear(x, p.qkv, buffer.qkv);
  trace({"qkv", block}, matrix_view<const std::uint8_t>(buffer.qkv));

  for (index_t head = 0; head < shape.heads; ++head) {
    const index_t size = shape.head_size();
    const auto part = [&](index_t which) {
      return quantized_matrix{buffer.qkv.column_block(which * shape.width + head * size, size), p.qkv_zero_point};
    };
    const quantized_matrix q = part(0), k = part(1), v = part(2);

    gemm(q, k, requantize<std::uint8_t, tensor_scale>{p.logits}, buffer.logits);
    trace({"attention_logits", block, head}, matrix_view<const std::uint8_t>(buffer.logits));
    detail::attend(buffer.logits, v, p.softmax, buffer.codes, buffer.context.column_block(head * size, size),
                   {"attention", block, head}, trace);
  }
  trace({"context", block}, matrix_view<const std::uint8_t>(buffer.context));

  linear_branch(buffer.context, p.proj, y);
  if constexpr (std::is_same_v<Y, std::uint8_t>) {
    trace({"proj", block}, matrix_view<const std::uint8_t>(y));
  }
}

}  // namespace INTACT_UNIT
}  // namespace intact
