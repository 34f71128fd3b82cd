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
  index tokens = 0;
  index width = 0;
  index heads = 1;

  INTACT_INLINE constexpr index head_size() const { return heads < 1 ? 0 : width / heads; }
};

/// Parameters of multi-head self-attention. q, k and v share one scale and one zero point.
struct attention_parameters {
  linear_parameters qkv;
  int qkv_zero_point = 0;
  tensor_scale logits;  ///< s_qkv^2 / sqrt(head size) / s_logits
  attention_weighting weighting = {};
  linear_parameters proj;  ///< to the branch's u8 scale or to the s16 stream's
};

}  // namespace INTACT_ABI

inline namespace INTACT_UNIT {

/// Buffers of one call, taken from a workspace.
struct attention_buffers {
  matrix_view<std::uint8_t> qkv;
  matrix_view<std::uint8_t> logits;
  matrix_view<std::uint8_t> codes;  ///< bytes of packed rows for tail::clip
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
inline void require_weighting(const attention_weighting& p, index keys) {
  const bool relative_to_sum = p.kind == attention_kind::log2_of_sum;
  if (!relative_to_sum && !p.normalize) {
    contract_failed("intact::attention: weights relative to the maximum do not sum to 1; they need normalize");
  }
  if (p.kind != attention_kind::weights && p.probabilities == tail::wide && (!relative_to_sum || p.normalize)) {
    contract_failed("intact::attention: 8-bit codes (tail::wide) are relative to the sum and not normalized");
  }
  if (relative_to_sum) {
    require_exp_table("attention", p.exponential, keys);
  } else {
    const bool packed = p.kind == attention_kind::log2_of_max && p.probabilities == tail::clip;
    require_softmax_table("attention", p.table, packed ? u4::max : 255);
  }
  if (p.normalize) {
    require_at_most("attention", "tokens of normalized rows", keys, weighted_matmul_max_keys);
    require_normalization("attention", p.normalization);
  } else {
    require_at_most("attention", "tokens", keys, shift_matmul_max_keys);
    require_scale("attention: context", p.context, keys);
    if (p.probabilities == tail::wide) {
      require_equal("attention", "context.prescale for tail::wide", p.context.prescale, 0);
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
  require_weighting(p.weighting, shape.tokens);
  require_linear("attention: proj", p.proj, shape.width, shape.width);
}

namespace detail {

/// Log2 codes of one head's logits.
template <tail Tail>
void code_attention(matrix_view<const std::uint8_t> logits, const attention_weighting& p,
                    typename attention_codes<Tail>::view codes) {
  if (p.kind == attention_kind::log2_of_max) {
    max_softmax(logits, p.table, codes);
  } else if (p.rounding == log2_rounding::at_one_and_a_half) {
    log_softmax<Tail>(logits, p.exponential, codes);
  } else {
    log_softmax<Tail, std::uint64_t, log2_rounding::at_square_root_of_2>(logits, p.exponential, codes);
  }
}

/// The same with masked keys.
template <tail Tail>
void code_attention(matrix_view<const std::uint8_t> logits, const attention_weighting& p, const key_mask& mask,
                    matrix_view<std::uint8_t> codes) {
  if (p.kind == attention_kind::log2_of_max) {
    max_softmax(logits, p.table, mask, attention_codes<Tail>::zero, codes);
  } else if (p.rounding == log2_rounding::at_one_and_a_half) {
    log_softmax<Tail>(logits, p.exponential, mask, codes);
  } else {
    log_softmax<Tail, std::uint64_t, log2_rounding::at_square_root_of_2>(logits, p.exponential, mask, codes);
  }
}

/// Log2 codes of one head, and their product with V. Packed codes take no mask.
template <tail Tail, class Trace>
void attend_by_codes(matrix_view<const std::uint8_t> logits, const activations& v, const attention_weighting& p,
                     typename attention_codes<Tail>::view codes, matrix_view<std::uint8_t> context,
                     const trace_site& site, Trace& trace, const key_mask* mask) {
  if constexpr (Tail == tail::clip) {
    code_attention<Tail>(logits, p, codes);
  } else {
    mask == nullptr ? code_attention<Tail>(logits, p, codes) : code_attention<Tail>(logits, p, *mask, codes);
  }
  trace(site, typename attention_codes<Tail>::const_view(codes));
  if constexpr (Tail == tail::wide) {
    shift_matmul<Tail>(codes, v, requantize_wide<std::uint8_t>{p.context}, context);
  } else if (p.normalize) {
    shift_matmul<Tail>(codes, v, p.normalization, context);
  } else {
    shift_matmul<Tail>(codes, v, requantize<std::uint8_t, tensor_scale>{p.context}, context);
  }
}

/// Softmax of one head's logits, and its product with V. Without a mask all keys are visible; tail::clip takes none.
template <class Trace>
void attend(matrix_view<const std::uint8_t> logits, const activations& v, const attention_weighting& p,
            matrix_view<std::uint8_t> codes, matrix_view<std::uint8_t> context, const trace_site& site, Trace& trace,
            const key_mask* mask = nullptr) {
  if (p.kind == attention_kind::weights) {
    mask == nullptr ? max_softmax(logits, p.table, codes) : max_softmax(logits, p.table, *mask, 0, codes);
    trace(site, matrix_view<const std::uint8_t>(codes));
    weighted_matmul(codes, v, p.normalization, context);
  } else if (p.probabilities == tail::zero) {
    attend_by_codes<tail::zero>(logits, v, p, codes, context, site, trace, mask);
  } else if (p.probabilities == tail::clip) {
    const packed_view<u4, std::uint8_t> packed(codes.data, codes.rows, codes.columns);
    attend_by_codes<tail::clip>(logits, v, p, packed, context, site, trace, mask);
  } else {
    attend_by_codes<tail::wide>(logits, v, p, codes, context, site, trace, mask);
  }
}

}  // namespace detail

/// Multi-head self-attention of FQ-ViT (section 3.3), with the variants of attention_weighting.
///
/// Shapes:    x tokens x width in u8 codes; y tokens x width: u8, the branch's codes, or s16, the residual stream that
///            the branch is added to.
/// Errors:    sizes that do not match, parameters out of range: before anything is written.
template <class Y, class Trace = no_trace>
void attention(matrix_view<const std::uint8_t> x, const attention_parameters& p, const attention_shape& shape,
               matrix_view<Y> y, workspace memory, index block = -1, Trace&& trace = {}) {
  require_attention(p, shape);
  require_shape("attention", "x", x, shape.tokens, shape.width);
  require_shape("attention", "y", y, shape.tokens, shape.width);
  const attention_buffers buffer = attention_buffers::take(memory, shape);

  linear(x, p.qkv, buffer.qkv);
  trace({"qkv", block}, matrix_view<const std::uint8_t>(buffer.qkv));

  for (index head = 0; head < shape.heads; ++head) {
    const index size = shape.head_size();
    const auto part = [&](index which) {
      return activations{buffer.qkv.column_block(which * shape.width + head * size, size), p.qkv_zero_point};
    };
    const activations q = part(0), k = part(1), v = part(2);

    gemm(q, k, requantize<std::uint8_t, tensor_scale>{p.logits}, buffer.logits);
    trace({"attention_logits", block, head}, matrix_view<const std::uint8_t>(buffer.logits));
    detail::attend(buffer.logits, v, p.weighting, buffer.codes, buffer.context.column_block(head * size, size),
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
