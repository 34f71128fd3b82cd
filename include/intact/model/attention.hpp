#pragma once

#include <cstdint>

#include "intact/log_softmax.hpp"
#include "intact/model/linear.hpp"
#include "intact/model/trace.hpp"
#include "intact/shift_matmul.hpp"
#include "intact/types/workspace.hpp"

namespace intact::inline INTACT_ABI {

/// Sizes of multi-head self-attention.
struct attention_shape {
  index tokens = 0;
  index width = 0;
  index heads = 0;

  constexpr index head_size() const { return width / heads; }
};

/// Parameters of multi-head self-attention. q, k and v share one scale and one zero point.
struct attention_parameters {
  linear_parameters qkv;
  int qkv_zero_point = 0;
  tensor_scale logits;                   ///< s_qkv^2 / sqrt(head size) / s_logits
  exp_table<std::uint64_t> exponential;  ///< of the logits' scale
  tail probabilities = tail::zero;       ///< which log2 codes
  tensor_scale context;                  ///< s_qkv / s_context * 2^-15
  linear_parameters proj;
};

/// Buffers of one call, taken from a workspace.
struct attention_buffers {
  matrix_view<std::uint8_t> qkv;
  matrix_view<std::uint8_t> logits;
  matrix_view<std::uint8_t> codes;  ///< bytes of packed rows for tail::clip
  matrix_view<std::uint8_t> context;

  template <class Workspace>
  static constexpr attention_buffers take(Workspace& memory, const attention_shape& shape) {
    return {memory.template matrix<std::uint8_t>(shape.tokens, 3 * shape.width),
            memory.template matrix<std::uint8_t>(shape.tokens, shape.tokens),
            memory.template matrix<std::uint8_t>(shape.tokens, shape.tokens),
            memory.template matrix<std::uint8_t>(shape.tokens, shape.width)};
  }
};

/// Checks the parameters of attention against its sizes.
inline void require_attention(const attention_parameters& p, const attention_shape& shape) {
  require_at_least("attention", "heads", shape.heads, 1);
  require_equal("attention", "width % heads", shape.width % shape.heads, 0);
  require_at_most("attention", "tokens", shape.tokens, shift_matmul_max_keys);
  require_at_most("attention", "head size", shape.head_size(), gemm_max_depth_u8_u8);
  require_linear("attention: qkv", p.qkv, 3 * shape.width, shape.width);
  require_between("attention", "qkv_zero_point", p.qkv_zero_point, 0, 255);
  require_scale("attention: logits", p.logits, shape.tokens);
  require_exp_table("attention", p.exponential, shape.tokens);
  require_scale("attention: context", p.context, shape.width);
  if (p.probabilities == tail::wide) {
    require_equal("attention", "context.prescale for tail::wide", p.context.prescale, 0);
  }
  require_linear("attention: proj", p.proj, shape.width, shape.width);
}

namespace detail {

/// Log-Int-Softmax and attention times V for one head, with log2 codes of the given kind.
template <tail Tail, class Trace>
void attend(matrix_view<const std::uint8_t> logits, const activations& v, const attention_parameters& p,
            typename attention_codes<Tail>::view codes, matrix_view<std::uint8_t> context, const trace_site& site,
            Trace& trace) {
  log_softmax<Tail>(logits, p.exponential, codes);
  trace(site, typename attention_codes<Tail>::const_view(codes));
  if constexpr (Tail == tail::wide) {
    shift_matmul<Tail>(codes, v, requantize_wide<std::uint8_t>{p.context}, context);
  } else {
    shift_matmul<Tail>(codes, v, requantize<std::uint8_t, tensor_scale>{p.context}, context);
  }
}

}  // namespace detail

/// Multi-head self-attention of FQ-ViT (section 3.3): codes in, codes of proj's output scale out.
template <class Trace = no_trace>
void attention(matrix_view<const std::uint8_t> x, const attention_parameters& p, const attention_shape& shape,
               matrix_view<std::uint8_t> y, workspace memory, index block = -1, Trace&& trace = {}) {
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
    const matrix_view<std::uint8_t> context = buffer.context.column_block(head * size, size);
    const trace_site site{"attention", block, head};

    gemm(q, k, requantize<std::uint8_t, tensor_scale>{p.logits}, buffer.logits);
    trace({"attention_logits", block, head}, matrix_view<const std::uint8_t>(buffer.logits));
    switch (p.probabilities) {
      case tail::zero:
        detail::attend<tail::zero>(buffer.logits, v, p, buffer.codes, context, site, trace);
        break;
      case tail::clip: {
        const packed_view<u4, std::uint8_t> packed(buffer.codes.data, shape.tokens, shape.tokens);
        detail::attend<tail::clip>(buffer.logits, v, p, packed, context, site, trace);
        break;
      }
      case tail::wide:
        detail::attend<tail::wide>(buffer.logits, v, p, buffer.codes, context, site, trace);
        break;
    }
  }
  trace({"context", block}, matrix_view<const std::uint8_t>(buffer.context));

  linear(matrix_view<const std::uint8_t>(buffer.context), p.proj, y);
  trace({"proj", block}, matrix_view<const std::uint8_t>(y));
}

}  // namespace intact::inline INTACT_ABI
