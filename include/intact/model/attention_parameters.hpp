#pragma once

#include <cstdint>
#include <optional>
#include <variant>

#include "intact/kernel/attention.hpp"
#include "intact/layernorm.hpp"
#include "intact/log_softmax.hpp"
#include "intact/max_softmax.hpp"
#include "intact/model/linear.hpp"
#include "intact/shift_matmul.hpp"
#include "intact/types/key_mask.hpp"
#include "intact/types/rotation.hpp"
#include "intact/types/softmax_parameters.hpp"
#include "intact/weighted_matmul.hpp"

// Operands and parameters of attention, and the checks of them.

namespace intact {
inline namespace INTACT_ABI {

/// Sizes of multi-head self-attention.
struct attention_shape {
  index_t tokens = 0;                         ///< of an image
  index_t width = 0;                          ///< channels of all heads
  index_t heads = 1;                          ///< number of heads
  std::optional<normalization> qk_norm = {};  ///< of the norms of queries and keys, if there are any
  std::optional<index_t> rotary_prefix = {};  ///< tokens before those with rotary positions, if any tokens have them

  /// Channels of a head.
  INTACT_INLINE constexpr index_t head_size() const { return heads < 1 ? 0 : width / heads; }
};

/// Attention of several heads between its projections. Head h is columns [h * head size, (h + 1) * head size) of
/// queries, keys and values.
struct multihead_parameters {
  index_t heads = 1;                ///< number of heads
  tensor_scale logits;              ///< s_q * s_k / sqrt(head size) / s_logits
  softmax_parameters softmax = {};  ///< and the product with V
};

/// Queries, keys and values of one image: any numbers of queries and of keys, for cross-attention too.
struct attention_operands {
  /// u8 codes with their zero points.
  quantized_matrix q, k, v;
  key_mask mask = {};  ///< without elements all keys are visible
};

/// Zero points of queries, keys and values.
struct qkv_zero_points {
  /// In u8 codes.
  int q = 0, k = 0, v = 0;
};

/// With norms (QK-norm) the queries of each head are normalized before the products, and so are its keys. All heads
/// have the same parameters, one per column of a head.
struct no_qk_norms {};
/// The norms of queries and of keys.
struct qk_norm_parameters {
  layernorm_parameters q;  ///< of queries
  layernorm_parameters k;  ///< of keys
};
/// Norms, or none.
using qk_norms = std::variant<no_qk_norms, qk_norm_parameters>;

/// With rotary positions the queries and keys of each head are rotated before the products, after their norms if there
/// are any: those of tokens after the prefix of class and register tokens. All heads have the same angles, a row of the
/// tables for each of these tokens.
struct no_qk_rotation {};
/// Angles of queries and keys, or none.
using qk_rotation = std::variant<no_qk_rotation, rotation_parameters>;

/// Parameters of multi-head self-attention. q, k and v have a scale and a zero point each, which may be equal. Those of
/// normalized queries and keys are their norms' outputs'. Rotations keep them.
struct attention_parameters {
  linear_parameters qkv;            ///< to queries, keys and values, in this order
  qkv_zero_points zero_points;      ///< of qkv's codes, or of their norms' outputs
  tensor_scale logits;              ///< s_q * s_k / sqrt(head size) / s_logits
  softmax_parameters softmax = {};  ///< and the product with V
  linear_parameters proj;           ///< to the branch's u8 scale or to the s16 stream's
  qk_norms norms = {};              ///< of queries and keys
  qk_rotation rotation = {};        ///< of queries and keys

  /// The part between the projections, after norms and rotary positions, which it does not compute.
  INTACT_INLINE constexpr multihead_parameters multihead(index_t heads) const {
    return {.heads = heads, .logits = logits, .softmax = softmax};
  }

  /// Queries, keys and values in the columns of one matrix, as the qkv layer, norms and rotary positions make them.
  INTACT_INLINE constexpr attention_operands operands(const matrix_view<const std::uint8_t>& codes) const {
    const index_t width = codes.columns / 3;
    return {.q = {codes.column_block(0, width), zero_points.q},
            .k = {codes.column_block(width, width), zero_points.k},
            .v = {codes.column_block(2 * width, width), zero_points.v}};
  }
};

}  // namespace INTACT_ABI

inline namespace INTACT_UNIT {

/// Checks the softmax and the product with V against the number of keys.
inline void require_softmax(const softmax_parameters& p, index_t keys) {
  const auto* const of_sum = std::get_if<log2_of_sum>(&p.weights);
  const auto* const divisor = std::get_if<row_divisor>(&p.context);
  const bool full = p.codes() == attention_code::u8_full;
  if (of_sum == nullptr && divisor == nullptr) {
    contract_failed(
        "intact::attention: weights relative to the maximum do not sum to 1; their context needs a divisor");
  }
  if (full && (of_sum == nullptr || divisor != nullptr)) {
    contract_failed(
        "intact::attention: 8-bit codes (attention_code::u8_full) are relative to the sum, and their context has a "
        "scale");
  }
  if (of_sum != nullptr) {
    require_exp_table("attention", of_sum->exponential, keys);
  } else if (const auto* const of_max = std::get_if<log2_of_max>(&p.weights)) {
    require_softmax_table("attention", of_max->table, of_max->codes == attention_code::u4_clipped ? u4::max : 255);
  } else if (const auto* const of_codes = std::get_if<weight_codes_of_max>(&p.weights)) {
    require_softmax_table("attention", of_codes->table, u4::max);
    require_equal("attention", "number of weights of codes", std::ssize(of_codes->weights), attention_code_weights);
    require_equal("attention", "weight of code 15", of_codes->weights.back(), 0);
  } else {
    require_softmax_table("attention", std::get_if<weights_of_max>(&p.weights)->table, 255);
  }
  if (divisor != nullptr) {
    require_at_most("attention", "tokens of normalized rows", keys, weighted_matmul_max_keys);
    require_row_divisor("attention", *divisor);
  } else {
    const tensor_scale& context = *std::get_if<tensor_scale>(&p.context);
    require_at_most("attention", "tokens", keys, shift_matmul_max_keys);
    require_scale("attention: context", context, keys);
    if (full) {
      require_equal("attention", "context.left_shift for attention_code::u8_full", context.left_shift, 0);
    }
  }
}

/// Refuses zero points that are no u8 codes.
inline void require_zero_points(const char* operation, const qkv_zero_points& of) {
  require_between(operation, "zero point of q", of.q, 0, 255);
  require_between(operation, "zero point of k", of.k, 0, 255);
  require_between(operation, "zero point of v", of.v, 0, 255);
}

/// Checks a mask, which may have no elements. Packed codes have none for a masked key.
inline void require_attention_mask(const key_mask& mask, const softmax_parameters& p, index_t queries, index_t keys) {
  if (mask.visible.rows != 0) {
    require_mask("attention", mask, queries, keys);
    if (p.codes() == attention_code::u4_clipped) [[unlikely]] {
      contract_failed(
          "intact::attention: there is a mask; packed codes (attention_code::u4_clipped) have no weight 0 for masked "
          "keys");
    }
  }
}

/// Checks the norms of queries and keys against the sizes of attention.
inline void require_qk_norms(const qk_norms& norms, const attention_shape& shape) {
  const auto* const p = std::get_if<qk_norm_parameters>(&norms);
  if ((p != nullptr) != shape.qk_norm.has_value()) [[unlikely]] {
    contract_failed("intact::attention: queries and keys have %s; the shape calls for %s",
                    p != nullptr ? "norms" : "no norms", p != nullptr ? "none" : "them");
  }
  if (p != nullptr) {
    require_layernorm("attention: q_norm", p->q, shape.head_size());
    require_layernorm("attention: k_norm", p->k, shape.head_size());
  }
}

/// Checks the rotary positions of queries and keys against the sizes of attention.
inline void require_qk_rotation(const qk_rotation& rotation, const attention_shape& shape) {
  const auto* const p = std::get_if<rotation_parameters>(&rotation);
  if ((p != nullptr) != shape.rotary_prefix.has_value()) [[unlikely]] {
    contract_failed("intact::attention: queries and keys have %s; the shape calls for %s",
                    p != nullptr ? "rotary positions" : "no rotary positions", p != nullptr ? "none" : "them");
  }
  if (p != nullptr) {
    require_between("attention", "rotary_prefix", *shape.rotary_prefix, 0, shape.tokens);
    require_equal("attention", "head size % 2 with rotary positions", shape.head_size() % 2, 0);
    const index_t rows = shape.tokens - *shape.rotary_prefix, pairs = shape.head_size() / 2;
    require_shape("attention: rotation", "cosine", p->cosine, rows, pairs);
    require_shape("attention: rotation", "sine", p->sine, rows, pairs);
  }
}

/// Checks the parameters of self-attention, projections included, against its sizes.
template <class Kinds = all_weight_kinds>
void require_attention(const attention_parameters& p, const attention_shape& shape) {
  require_at_least("attention", "heads", shape.heads, 1);
  require_equal("attention", "width % heads", shape.width % shape.heads, 0);
  require_at_most("attention", "head size", shape.head_size(), gemm_max_depth_u8_u8);
  require_linear<Kinds>("attention: qkv", p.qkv, size_product(3, shape.width), shape.width);
  require_qk_norms(p.norms, shape);
  require_qk_rotation(p.rotation, shape);
  require_zero_points("attention", p.zero_points);
  require_scale("attention: logits", p.logits, shape.tokens);
  require_softmax(p.softmax, shape.tokens);
  require_linear<Kinds>("attention: proj", p.proj, shape.width, shape.width);
}

/// Checks attention between its projections against its operands.
inline void require_multihead(const attention_operands& x, const multihead_parameters& p,
                              const matrix_view<std::uint8_t>& y) {
  const index_t queries = x.q.codes.rows, keys = x.k.codes.rows;
  require_at_least("attention", "heads", p.heads, 1);
  require_equal("attention", "columns of q modulo heads", x.q.codes.columns % p.heads, 0);
  const index_t size = x.q.codes.columns / p.heads;
  require_at_most("attention", "head size", size, gemm_max_depth_u8_u8);
  require_view("attention", "q", x.q.codes);
  require_shape("attention", "k", x.k.codes, keys, p.heads * size);
  require_shape("attention", "v", x.v.codes, keys, p.heads * size);
  require_shape("attention", "y", y, queries, p.heads * size);
  require_zero_points("attention", {.q = x.q.zero_point, .k = x.k.zero_point, .v = x.v.zero_point});
  require_scale("attention: logits", p.logits, keys);
  require_softmax(p.softmax, keys);
  require_attention_mask(x.mask, p.softmax, queries, keys);
}

}  // namespace INTACT_UNIT
}  // namespace intact
