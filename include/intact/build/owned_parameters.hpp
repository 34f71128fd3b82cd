#pragma once

#include <cstdint>
#include <iterator>
#include <optional>
#include <span>
#include <utility>
#include <variant>
#include <vector>

#include "intact/build/add.hpp"
#include "intact/build/layernorm.hpp"
#include "intact/build/recipe.hpp"
#include "intact/build/scale.hpp"
#include "intact/build/tensor_place.hpp"
#include "intact/config/floating_point.hpp"
#include "intact/model/block.hpp"
#include "intact/types/grouped_s4.hpp"

// Owners of the arrays that the parameters of layers and blocks refer to, and the real numbers that the integers are
// exactly.

namespace intact {
inline namespace INTACT_UNIT {

/// A scale per output channel.
struct owned_channel_scale {
  std::vector<std::int32_t> multiplier;  ///< one per channel
  std::vector<std::int64_t> offset;      ///< one per channel
  int shift = 0;                         ///< of all channels
  int left_shift = 0;                    ///< of all channels
  std::vector<realized_scale> exact;     ///< the realized functions, one per channel

  owned_channel_scale() = default;
  /// Builds the scale: build_scale().
  explicit owned_channel_scale(std::span<const scale_spec> specs)
      : multiplier(specs.size()), offset(specs.size()), exact(specs.size()) {
    const channel_scale built = build_scale(specs, multiplier, offset, exact);
    shift = built.shift;
    left_shift = built.left_shift;
  }

  /// A view, valid as long as this object is not changed.
  channel_scale view() const {
    return {.multiplier = multiplier, .offset = offset, .shift = shift, .left_shift = left_shift};
  }

  friend bool operator==(const owned_channel_scale&, const owned_channel_scale&) = default;
};

/// A scale for a whole tensor.
struct owned_tensor_scale {
  tensor_scale scale;    ///< the integers
  realized_scale exact;  ///< the realized function

  owned_tensor_scale() = default;
  /// Builds the scale: build_scale().
  explicit owned_tensor_scale(const scale_spec& target) { scale = build_scale(target, exact); }

  friend bool operator==(const owned_tensor_scale&, const owned_tensor_scale&) = default;
};

/// Weights as they are stored, one row per output channel.
using unpacked_weights =
    std::variant<matrix_view<const std::int8_t>, packed_view<s4, const std::uint8_t>, grouped_s4_view>;

/// Weights as they are stored, one row per output channel.
struct owned_weights {
  std::vector<std::int8_t> codes;      ///< s8: rows x columns
  std::vector<std::uint8_t> packed;    ///< s4: rows of two codes per byte
  std::vector<std::uint8_t> shifts;    ///< grouped s4: rows x ceil(columns / group)
  index_t rows = 0;                    ///< output channels
  index_t columns = 0;                 ///< the inner dimension
  index_t group = 1;                   ///< columns of grouped s4 that share a shift
  weight_kind kind = weight_kind::s8;  ///< which of the members above has the codes

  owned_weights() = default;
  /// s8 weights, row-major.
  owned_weights(std::vector<std::int8_t> row_major, index_t row_count, index_t column_count)
      : codes(std::move(row_major)), rows(row_count), columns(column_count) {}

  /// s4 weights, given one per byte.
  static owned_weights pack_s4(std::span<const std::int8_t> nibbles, index_t rows, index_t columns) {
    owned_weights weights;
    weights.packed.resize(static_cast<std::size_t>(rows * packed_bytes(columns)));
    weights.rows = rows;
    weights.columns = columns;
    weights.kind = weight_kind::s4;
    const packed_view<s4, std::uint8_t> view(weights.packed.data(), rows, columns);
    for (index_t n = 0; n < rows; ++n) {
      for (index_t k = 0; k < columns; ++k) {
        view.set(n, k, nibbles[static_cast<std::size_t>(n * columns + k)]);
      }
    }
    return weights;
  }

  /// s4 weights, given one per byte, with a shift per row and group of columns.
  static owned_weights pack_grouped_s4(std::span<const std::int8_t> nibbles, index_t rows, index_t columns,
                                       std::vector<std::uint8_t> group_shifts, index_t group) {
    owned_weights weights = pack_s4(nibbles, rows, columns);
    weights.shifts = std::move(group_shifts);
    weights.group = group;
    weights.kind = weight_kind::grouped_s4;
    return weights;
  }

  /// A view, valid as long as this object is not changed.
  unpacked_weights view() const {
    const packed_view<s4, const std::uint8_t> in_nibbles(packed.data(), rows, columns);
    switch (kind) {
      case weight_kind::s4:
        return in_nibbles;
      case weight_kind::grouped_s4:
        return grouped_s4_view(in_nibbles, {shifts.data(), rows, group_count(columns, group)}, group);
      default:
        return matrix_view<const std::int8_t>(codes.data(), rows, columns);
    }
  }

  /// The weights of an output channel, shifts applied.
  std::vector<std::int8_t> row(index_t n) const {
    std::vector<std::int8_t> weights;
    std::visit(
        [&](const auto& matrix) {
          for (index_t k = 0; k < columns; ++k) {
            weights.push_back(static_cast<std::int8_t>(matrix(n, k)));
          }
        },
        view());
    return weights;
  }

  /// Packed weights of these sizes without memory, to be checked.
  any_packed_weights sizes() const {
    switch (kind) {
      case weight_kind::s4:
        return sizes_of<s4>();
      case weight_kind::grouped_s4:
        return sizes_of<grouped_s4>();
      default:
        return sizes_of<std::int8_t>();
    }
  }

  /// Checks that the storage has the size of rows and columns.
  void require_sizes() const {
    const bool s8 = kind == weight_kind::s8;
    require_at_least("owned_weights", "group", group, 1);
    require_equal("owned_weights", "size of codes", std::ssize(codes), s8 ? size_product(rows, columns) : 0);
    require_equal("owned_weights", "size of packed", std::ssize(packed),
                  s8 ? 0 : size_product(rows, packed_bytes(columns)));
    require_equal("owned_weights", "size of shifts", std::ssize(shifts),
                  kind == weight_kind::grouped_s4 ? size_product(rows, group_count(columns, group)) : 0);
  }
  friend bool operator==(const owned_weights&, const owned_weights&) = default;

 private:
  template <class Element>
  packed_weights<Element> sizes_of() const {
    packed_weights<Element> weights = {};
    weights.rows = weights.packed_rows = rows;
    weights.columns = weights.packed_columns = columns;
    return weights;
  }
};

/// A fully connected layer.
struct owned_linear {
  owned_weights weights;      ///< codes
  owned_channel_scale scale;  ///< of the accumulators

  /// Views of the parameters with the weights as packed.
  linear_parameters view(const any_packed_weights& packed) const { return {packed, scale.view()}; }

  friend bool operator==(const owned_linear&, const owned_linear&) = default;
};

/// The scales of a residual addition.
struct owned_add {
  /// One per channel.
  std::vector<std::int32_t> stream_multiplier, branch_multiplier, offset;
  add_zero_points zero_points;      ///< of stream, branch and sum
  int shift = 0;                    ///< of all channels
  std::vector<realized_add> exact;  ///< the realized functions, one per channel

  owned_add() = default;
  /// Builds the scales: build_add().
  owned_add(std::span<const add_spec> specs, const add_zero_points& points)
      : stream_multiplier(specs.size()),
        branch_multiplier(specs.size()),
        offset(specs.size()),
        zero_points(points),
        exact(specs.size()) {
    shift = build_add(specs, points, stream_multiplier, branch_multiplier, offset, exact).shift;
  }

  /// Views of the parameters, valid as long as this object is not changed.
  add_parameters view() const {
    return {.stream_multiplier = stream_multiplier,
            .branch_multiplier = branch_multiplier,
            .offset = offset,
            .stream_zero_point = zero_points.stream,
            .branch_zero_point = zero_points.branch,
            .shift = shift};
  }

  friend bool operator==(const owned_add&, const owned_add&) = default;
};

/// Parameters of LayerNorm or RMSNorm.
struct owned_layernorm {
  int zero_point = 0;                 ///< of the input's codes
  std::vector<std::uint8_t> shift;    ///< power of two of each input channel
  std::uint64_t epsilon = 1;          ///< at least 1
  std::vector<std::int32_t> gain;     ///< one per channel
  std::vector<std::int64_t> bias;     ///< one per channel
  int output_shift = 1;               ///< of z * gain + bias
  std::int64_t epsilon_fraction = 0;  ///< of epsilon, with 30 fraction bits

  owned_layernorm() = default;
  /// Builds the integers: build_layernorm() or build_rmsnorm().
  explicit owned_layernorm(const layernorm_spec& target, normalization kind = normalization::layernorm)
      : zero_point(target.input_zero_point),
        shift(target.shift.begin(), target.shift.end()),
        gain(target.gamma.size()),
        bias(target.gamma.size()) {
    const layernorm_parameters built =
        kind == normalization::rmsnorm ? build_rmsnorm(target, gain, bias) : build_layernorm(target, gain, bias);
    epsilon = built.epsilon;
    output_shift = built.output_shift;
    epsilon_fraction = built.epsilon_fraction;
  }

  /// Views of the parameters, valid as long as this object is not changed.
  layernorm_parameters view() const {
    return {.zero_point = zero_point,
            .shift = shift,
            .epsilon = epsilon,
            .gain = gain,
            .bias = bias,
            .output_shift = output_shift,
            .epsilon_fraction = epsilon_fraction};
  }

  friend bool operator==(const owned_layernorm&, const owned_layernorm&) = default;
};

/// The softmax of attention and its product with V.
struct owned_softmax {
  attention_kind kind = attention_kind::log2_of_sum;         ///< the kind of attention weights
  attention_code probabilities = attention_code::u8_masked;  ///< of log2 codes
  log2_rounding rounding = log2_rounding::round_ratio;       ///< of log2_of_sum
  std::vector<std::uint64_t> exponential;                    ///< log2_of_sum: 256
  std::vector<std::uint8_t> table;                           ///< the others: 256
  std::vector<std::uint8_t> code_weights;                    ///< weight_codes: 16
  bool normalize = false;                                    ///< whether rows are divided by their sums
  owned_tensor_scale context;                                ///< not normalized
  row_divisor normalization;                                 ///< normalized

  /// Views of the parameters, valid as long as this object is not changed.
  softmax_parameters view() const {
    softmax_parameters p;
    if (kind == attention_kind::log2_of_sum) {
      p.weights = log2_of_sum{.exponential = exponential, .codes = probabilities, .rounding = rounding};
    } else if (kind == attention_kind::log2_of_max) {
      p.weights = log2_of_max{table, probabilities};
    } else if (kind == attention_kind::weights) {
      p.weights = weights_of_max{table};
    } else {
      p.weights = weight_codes_of_max{table, code_weights};
    }
    if (normalize) {
      p.context = normalization;
    } else {
      p.context = context.scale;
    }
    return p;
  }

  friend bool operator==(const owned_softmax&, const owned_softmax&) = default;
};

/// The norms of queries and keys, one parameter per column of a head.
struct owned_qk_norms {
  owned_layernorm q;  ///< of queries
  owned_layernorm k;  ///< of keys

  friend bool operator==(const owned_qk_norms&, const owned_qk_norms&) = default;
};

/// The layer that a gate multiplies, and the scale of the products.
struct owned_gate {
  owned_linear up;                ///< of the same inputs as fc1
  int activation_zero_point = 0;  ///< of the gate's codes
  int up_zero_point = 0;          ///< of up's codes
  owned_tensor_scale product;     ///< to the u8 codes that fc2 takes

  friend bool operator==(const owned_gate&, const owned_gate&) = default;
};

/// A transformer block.
struct owned_block {
  owned_layernorm norm1;   ///< before attention
  owned_linear qkv;        ///< to queries, keys and values
  int qkv_zero_point = 0;  ///< of q, and of k and v without zero points of their own; after the norms, if there are any
  /// Only those that differ from q's.
  std::optional<int> k_zero_point, v_zero_point;
  owned_tensor_scale attention_logits;          ///< s_q * s_k / sqrt(head size) / s_logits
  owned_softmax softmax;                        ///< and its product with V
  owned_linear proj;                            ///< after attention
  owned_add add1;                               ///< empty for an s16 stream, as add2
  owned_layernorm norm2;                        ///< before the perceptron
  owned_linear fc1;                             ///< to 12-bit codes
  std::vector<std::uint8_t> activation;         ///< 4096
  std::optional<owned_gate> gate = {};          ///< only if the perceptron has one
  owned_linear fc2;                             ///< to the branch's codes or to the s16 stream
  owned_add add2;                               ///< after the perceptron
  std::optional<owned_qk_norms> qk_norms = {};  ///< only if queries and keys have norms

  /// Zero points of queries, keys and values.
  qkv_zero_points zero_points() const {
    return {
        .q = qkv_zero_point, .k = k_zero_point.value_or(qkv_zero_point), .v = v_zero_point.value_or(qkv_zero_point)};
  }

  /// Refuses weights that have not the sizes they name, naming the tensor and the block's position.
  void require_sizes(index_t position) const {
    const auto require = [&](const char* tensor, const owned_linear& layer) {
      at_tensor({tensor, position}, [&] { layer.weights.require_sizes(); });
    };
    require("qkv", qkv);
    require("proj", proj);
    require("fc1", fc1);
    if (gate) {
      require("up", gate->up);
    }
    require("fc2", fc2);
  }

  friend bool operator==(const owned_block&, const owned_block&) = default;
};

/// A view of the norms of queries and keys, if there are any.
inline qk_norms view_norms(const std::optional<owned_qk_norms>& norms) {
  if (!norms) {
    return no_qk_norms{};
  }
  return qk_norm_parameters{.q = norms->q.view(), .k = norms->k.view()};
}

/// A view of a gate, if there is one. pack: as of view_block.
template <class Gate, class Pack>
mlp_gate view_gate(Gate& gate, const Pack& pack) {
  if (!gate) {
    return no_gate{};
  }
  return gate_parameters{.up = gate->up.view(pack(gate->up.weights)),
                         .activation_zero_point = gate->activation_zero_point,
                         .up_zero_point = gate->up_zero_point,
                         .product = gate->product.scale};
}

/// Views of a block. pack(weights) returns the packed weights of a layer; it may free the unpacked ones.
template <class Block, class Pack>
block_parameters view_block(Block& block, const Pack& pack) {
  return {.norm1 = block.norm1.view(),
          .attention = {.qkv = block.qkv.view(pack(block.qkv.weights)),
                        .zero_points = block.zero_points(),
                        .logits = block.attention_logits.scale,
                        .softmax = block.softmax.view(),
                        .proj = block.proj.view(pack(block.proj.weights)),
                        .norms = view_norms(block.qk_norms)},
          .add1 = block.add1.view(),
          .norm2 = block.norm2.view(),
          .mlp = {.fc1 = block.fc1.view(pack(block.fc1.weights)),
                  .table = block.activation,
                  .fc2 = block.fc2.view(pack(block.fc2.weights)),
                  .gate = view_gate(block.gate, pack)},
          .add2 = block.add2.view()};
}

}  // namespace INTACT_UNIT
}  // namespace intact
