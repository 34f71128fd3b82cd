#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "intact/adapt/add.hpp"
#include "intact/adapt/layernorm.hpp"
#include "intact/adapt/scale.hpp"
#include "intact/adapt/table.hpp"
#include "intact/model/vit.hpp"

// Owners of what the parameters of model/ only point to, together with the real numbers that the integers are exactly.

namespace intact::inline INTACT_ABI {

/// A scale per output channel.
struct owned_channel_scale {
  std::vector<std::int32_t> multiplier;
  std::vector<std::int64_t> offset;
  int shift = 0;
  int prescale = 0;
  std::vector<exact_scale> exact;

  owned_channel_scale() = default;
  explicit owned_channel_scale(std::span<const scale_target> targets)
      : multiplier(targets.size()), offset(targets.size()), exact(targets.size()) {
    const channel_scale built = build_scale(targets, multiplier, offset, exact);
    shift = built.shift;
    prescale = built.prescale;
  }

  channel_scale view() const { return {multiplier, offset, shift, prescale}; }
};

/// A scale for a whole tensor.
struct owned_tensor_scale {
  tensor_scale scale;
  exact_scale exact;

  owned_tensor_scale() = default;
  explicit owned_tensor_scale(const scale_target& target) { scale = build_scale(target, exact); }
};

/// s8 weights, one row per output channel.
struct owned_weights {
  std::vector<std::int8_t> codes;
  index rows = 0;
  index columns = 0;

  matrix_view<const std::int8_t> view() const { return {codes.data(), rows, columns}; }
  std::span<const std::int8_t> row(index n) const {
    return {codes.data() + n * columns, static_cast<std::size_t>(columns)};
  }
};

/// A fully connected layer.
struct owned_linear {
  owned_weights weights;
  owned_channel_scale scale;

  linear_parameters view() const { return {weights.view(), scale.view()}; }
};

/// The scales of a residual addition.
struct owned_add {
  std::vector<std::int32_t> stream_multiplier, branch_multiplier, offset;
  add_zero_points zero_points;
  int shift = 0;
  std::vector<exact_add> exact;

  owned_add() = default;
  owned_add(std::span<const add_target> targets, const add_zero_points& points)
      : stream_multiplier(targets.size()),
        branch_multiplier(targets.size()),
        offset(targets.size()),
        zero_points(points),
        exact(targets.size()) {
    shift = build_add_scale(targets, points, stream_multiplier, branch_multiplier, offset, exact).shift;
  }

  add_scale view() const {
    return {stream_multiplier, branch_multiplier, offset, zero_points.stream, zero_points.branch, shift};
  }
};

/// LayerNorm parameters.
struct owned_layernorm {
  int zero_point = 0;
  std::vector<std::uint8_t> shift;
  std::uint64_t epsilon = 1;
  std::vector<std::int32_t> gain;
  std::vector<std::int64_t> bias;
  int output_shift = 1;

  owned_layernorm() = default;
  explicit owned_layernorm(const layernorm_target& target)
      : zero_point(target.input_zero_point),
        shift(target.shift.begin(), target.shift.end()),
        gain(target.gamma.size()),
        bias(target.gamma.size()) {
    const layernorm_parameters built = build_layernorm(target, gain, bias);
    epsilon = built.epsilon;
    output_shift = built.output_shift;
  }

  layernorm_parameters view() const { return {zero_point, shift, epsilon, gain, bias, output_shift}; }
};

/// A transformer block.
struct owned_block {
  owned_layernorm norm1;
  owned_linear qkv;
  int qkv_zero_point = 0;
  owned_tensor_scale attention_logits;
  exp_values<std::uint64_t> exponential{};
  tail probabilities = tail::zero;
  owned_tensor_scale context;
  owned_linear proj;
  owned_add add1;
  owned_layernorm norm2;
  owned_linear fc1;
  std::vector<std::uint8_t> activation;
  owned_linear fc2;
  owned_add add2;

  block_parameters view() const {
    return {
        norm1.view(),
        {qkv.view(), qkv_zero_point, attention_logits.scale, exponential, probabilities, context.scale, proj.view()},
        add1.view(),
        norm2.view(),
        {fc1.view(), activation, fc2.view()},
        add2.view()};
  }
};

/// What an integer vision transformer consists of.
struct vit_contents {
  vit_shape shape;
  std::vector<std::uint8_t> pixel_table;  ///< channels x 256
  owned_linear patch;
  std::vector<std::uint8_t> embed_table;  ///< 256
  std::vector<std::uint8_t> class_token;  ///< width
  std::vector<std::uint8_t> positions;    ///< tokens x width
  owned_add add_positions;
  std::vector<owned_block> blocks;
  owned_layernorm norm;
  owned_weights head;
  owned_channel_scale logits;
  owned_channel_scale logits_u8;
  double logits_scale = 1;  ///< a step of the int32 logits in units of the float model's logits
};

/// A fully-integer vision transformer that owns its parameters. Unchangeable; movable, not copyable, so that the
/// parameters it hands out stay valid while it lives.
class integer_vit {
 public:
  /// Errors: contents whose sizes do not match.
  explicit integer_vit(vit_contents contents) : contents_(std::move(contents)) {
    for (const owned_block& block : contents_.blocks) {
      blocks_.push_back(block.view());
    }
    require_vit(parameters(), shape());
  }
  integer_vit(integer_vit&&) = default;
  integer_vit& operator=(integer_vit&&) = default;

  const vit_contents& contents() const { return contents_; }
  const vit_shape& shape() const { return contents_.shape; }

  vit_parameters parameters() const {
    const vit_contents& c = contents_;
    return {{c.pixel_table.data(), c.shape.channels, 256},
            c.patch.view(),
            c.embed_table,
            {c.class_token.data(), 1, c.shape.width},
            {c.positions.data(), c.shape.tokens(), c.shape.width},
            c.add_positions.view(),
            blocks_,
            c.norm.view(),
            c.head.view(),
            c.logits.view(),
            c.logits_u8.view()};
  }

 private:
  vit_contents contents_;
  std::vector<block_parameters> blocks_;
};

}  // namespace intact::inline INTACT_ABI
