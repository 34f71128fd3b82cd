#pragma once

#include <cstdint>
#include <iterator>
#include <optional>
#include <span>
#include <utility>
#include <variant>
#include <vector>

#include "intact/build/owned_parameters.hpp"
#include "intact/build/tensor_place.hpp"
#include "intact/config/floating_point.hpp"
#include "intact/model/vit.hpp"

// An integer vision transformer that owns its parameters.

namespace intact {
inline namespace INTACT_UNIT {

/// The scale of the mean of normalized tokens, or of the residual stream's.
using owned_mean = std::variant<no_mean, owned_tensor_scale, owned_channel_scale>;

/// Views of the mean's scales; `mean` must outlive them.
inline mean_parameters view_mean(const owned_mean& mean) {
  if (const auto* const of_normalized = std::get_if<owned_tensor_scale>(&mean)) {
    return mean_of_normalized{of_normalized->scale};
  }
  const auto* const of_stream = std::get_if<owned_channel_scale>(&mean);
  return of_stream != nullptr ? mean_parameters(mean_of_stream{of_stream->view()}) : no_mean{};
}

/// The LayerNorm before the blocks.
struct owned_pre_norm {
  owned_layernorm norm;        ///< of the tokens, with positions
  owned_channel_scale stream;  ///< s16 stream

  friend bool operator==(const owned_pre_norm&, const owned_pre_norm&) = default;
};

/// Views of the LayerNorm before the blocks; the argument must outlive them.
inline pre_norm view_pre_norm(const std::optional<owned_pre_norm>& p) {
  return p ? pre_norm(pre_norm_parameters{p->norm.view(), p->stream.view()}) : no_pre_norm{};
}

/// The tensors of an integer vision transformer.
struct vit_tensors {
  vit_shape shape;                         ///< sizes
  std::vector<std::uint8_t> pixel_table;   ///< channels x 256; empty: pixels are codes
  owned_linear patch;                      ///< the patch embedding
  std::vector<std::uint8_t> embed_table;   ///< u8 stream: 256
  std::vector<std::uint8_t> class_token;   ///< u8 stream: prefix tokens x width
  std::vector<std::uint8_t> positions;     ///< u8 stream: tokens x width
  owned_add add_positions;                 ///< u8 stream
  std::vector<std::int16_t> token_addend;  ///< s16 stream: tokens x width
  std::vector<owned_block> blocks;         ///< from the first to the last
  owned_layernorm norm;                    ///< the final norm
  owned_weights head;                      ///< classes x head features
  owned_channel_scale logits;              ///< int32 codes: 256 steps to one of logits_u8
  owned_channel_scale logits_u8;           ///< u8 codes
  double logits_scale = 1;                 ///< a step of the int32 logits in units of the float model's logits
  double features_scale = 1;    ///< of a model without a head, whose features are (code - zero point) * scale
  int features_zero_point = 0;  ///< likewise
  owned_mean mean = {};         ///< if the head takes a mean of tokens
  std::optional<owned_pre_norm> norm_pre = {};  ///< the LayerNorm before the blocks, if there is one

  friend bool operator==(const vit_tensors&, const vit_tensors&) = default;
};

/// Views of a model, and of its blocks, which are views already. pack: as of view_block.
template <class Tensors, class Pack>
vit_parameters view_vit(Tensors& model, std::span<const block_parameters> blocks, const Pack& pack) {
  const vit_shape& shape = model.shape;
  const index_t tokens = shape.tokens(), width = shape.width;
  const bool wide = shape.stream == stream_codes::s16;
  return {.pixel_table = {model.pixel_table.data(), model.pixel_table.empty() ? 0 : shape.channels, 256},
          .patch = model.patch.view(pack(model.patch.weights)),
          .embedding = {.table = model.embed_table,
                        .class_token = {model.class_token.data(), shape.prefix_tokens(), width},
                        .positions = {model.positions.data(), tokens, width},
                        .add_positions = model.add_positions.view()},
          .token_addend = {model.token_addend.data(), wide ? tokens : 0, width},
          .blocks = blocks,
          .norm = model.norm.view(),
          .head = shape.classes == 0 ? any_packed_weights() : pack(model.head),
          .logits = model.logits.view(),
          .logits_u8 = model.logits_u8.view(),
          .mean = view_mean(model.mean),
          .norm_pre = view_pre_norm(model.norm_pre)};
}

/// A fully-integer vision transformer as it is stored. packed_vit (build/packed_vit.hpp) makes it ready to run.
class integer_vit {
 public:
  /// Errors: tensors whose sizes do not match.
  explicit integer_vit(vit_tensors tensors) : tensors_(std::move(tensors)) {
    require_sizes();
    const auto sizes = [](const owned_weights& weights) { return weights.sizes(); };
    std::vector<block_parameters> blocks;
    for (const owned_block& block : tensors_.blocks) {
      blocks.push_back(view_block(block, sizes));
      at_tensor({"", std::ssize(blocks) - 1}, [&] {
        shape().stream == stream_codes::s16 ? require_block<std::int16_t>(blocks.back(), shape().block())
                                            : require_block(blocks.back(), shape().block());
      });
    }
    require_vit(view_vit(tensors_, blocks, sizes), shape());
  }

  /// The tensors, unpacked.
  const vit_tensors& tensors() const { return tensors_; }
  /// The model's sizes.
  const vit_shape& shape() const { return tensors_.shape; }

  /// The logit of an int32 code of the model, in units of the float model's logits.
  double real_logit(std::int32_t code) const { return code * tensors_.logits_scale; }

  /// The feature of a code of a model without a head.
  double real_feature(int code) const { return (code - tensors_.features_zero_point) * tensors_.features_scale; }

  /// The tensors, for another owner.
  vit_tensors release() && { return std::move(tensors_); }

 private:
  /// The sizes that views are made with and that require_vit therefore cannot see.
  void require_sizes() const {
    const vit_shape& shape = tensors_.shape;
    require_at_least("integer_vit", "patch height", shape.patch.height, 1);
    require_at_least("integer_vit", "patch width", shape.patch.width, 1);
    const auto require_size = [](const char* name, std::size_t size, index_t expected) {
      require_equal("integer_vit", name, static_cast<std::int64_t>(size), expected);
    };
    if (!tensors_.pixel_table.empty()) {
      require_size("size of pixel_table", tensors_.pixel_table.size(), size_product(256, shape.channels));
    }
    if (shape.stream == stream_codes::u8) {
      require_size("size of class_token", tensors_.class_token.size(),
                   size_product(shape.prefix_tokens(), shape.width));
      require_size("size of positions", tensors_.positions.size(), size_product(shape.tokens(), shape.width));
    } else {
      require_size("size of token_addend", tensors_.token_addend.size(), size_product(shape.tokens(), shape.width));
    }
    for (std::size_t position = 0; position < tensors_.blocks.size(); ++position) {
      tensors_.blocks[position].require_sizes(static_cast<index_t>(position));
    }
    at_tensor({"patch"}, [&] { tensors_.patch.weights.require_sizes(); });
    at_tensor({"logits"}, [&] { tensors_.head.require_sizes(); });
  }

  vit_tensors tensors_;
};

}  // namespace INTACT_UNIT
}  // namespace intact
