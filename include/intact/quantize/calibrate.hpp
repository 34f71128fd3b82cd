#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "intact/build/block_ranges.hpp"
#include "intact/build/tensor_place.hpp"
#include "intact/config/floating_point.hpp"
#include "intact/quantize/build_vit.hpp"
#include "intact/quantize/float_vit.hpp"
#include "intact/quantize/observe.hpp"

// From a float model and images to the scales of its tensors.

namespace intact {
inline namespace INTACT_UNIT {

/// How the scales of tensors without power-of-two factors are chosen: by a range, or by least squared error.
enum class observer { minmax, ema, percentile, omse };

/// How a model is calibrated.
struct calibration_options {
  intact::observer observer = intact::observer::minmax;  ///< how scales are chosen
  index_t batch = 10;  ///< images whose tensors are observed, and held in memory, at a time
};

namespace detail {

/// Refuses a range whose length float does not hold.
inline void require_length(const tensor_place& place, const value_range& range) {
  if (!std::isfinite(range.high - range.low)) [[unlikely]] {
    contract_failed("intact::calibrate: %s has the range %g to %g; its length must be finite in float",
                    place.text().c_str(), static_cast<double>(range.low), static_cast<double>(range.high));
  }
}

/// The tensors of the present batch at a place, of all heads and images, and the range over all batches so far.
struct observation {
  std::vector<float_matrix> batch;
  range_observer range;

  std::vector<matrix_view<const float>> views() const {
    std::vector<matrix_view<const float>> views;
    std::transform(batch.begin(), batch.end(), std::back_inserter(views),
                   [](const float_matrix& matrix) { return view_of(matrix); });
    return views;
  }
};

/// Observes every tensor of a float model over batches of images.
class calibrator {
 public:
  explicit calibrator(const calibration_options& options) : options_(options) {}

  template <class Model>
  void observe(const Model& model, std::span<const image_view> images) {
    for (auto& [site, seen] : observations_) {
      seen.batch.clear();
    }
    for (const image_view& image : images) {
      forward(model, image, [&](const trace_site& site, const float_matrix& tensor) { add(site, tensor); });
    }
    if constexpr (requires { model.positions; }) {
      add({"positions"}, model.positions);
    }
    for (auto& [site, seen] : observations_) {
      seen.range.update(seen.views());
    }
  }

  value_range range(traced_tensor name, index_t block = -1) const {
    const value_range seen = find(name, block).range.range();
    require_length(place_of(name, block), seen);
    return seen;
  }

  affine_scale affine(traced_tensor name, index_t block = -1) const {
    return options_.observer == observer::omse
               ? build_omse_scale(range_with_zero(range(name, block)), u8_codes, find(name, block).views())
               : build_affine_scale(range_with_zero(range(name, block)), u8_codes);
  }

  ptf_scale ptf(traced_tensor name, index_t block = -1) const {
    return build_ptf_scale(range_with_zero(range(name, block)), u8_codes, find(name, block).views());
  }

  /// The scale of an s16 residual stream of so many blocks, which begins with values of a range.
  float s16_scale(const value_range& begin, index_t first_block, index_t blocks) const {
    std::vector<value_range> ranges = {begin};
    for (index_t block = first_block; block < first_block + blocks; ++block) {
      ranges.push_back(range("add1", block));
      ranges.push_back(range("add2", block));
    }
    return build_s16_scale(ranges);
  }

 private:
  void add(const trace_site& site, const float_matrix& tensor) {
    const tensor_place place = place_of(site.name, site.block);
    require_finite("calibrate", place.text().c_str(), view_of(tensor));
    const auto [seen, fresh] = observations_.try_emplace(place, observation{{}, range_observer(rule_at(site.name))});
    seen->second.batch.push_back(tensor);
  }

  /// Tensors with power-of-two factors, and fc1, whose range only bounds a table, always keep their whole range.
  range_rule rule_at(traced_tensor name) const {
    const bool whole =
        name == "tokens" || name == "norm_pre" || name == "add1" || name == "add2" || name == "merge" || name == "fc1";
    return whole                                       ? range_rule::minmax
           : options_.observer == observer::ema        ? range_rule::ema
           : options_.observer == observer::percentile ? range_rule::percentile
                                                       : range_rule::minmax;
  }

  static tensor_place place_of(traced_tensor name, index_t block) {
    return {std::string(std::string_view(name)), block};
  }

  const observation& find(traced_tensor name, index_t block) const { return observations_.at(place_of(name, block)); }

  calibration_options options_;
  std::map<tensor_place, observation> observations_;
};

/// Observes a float model on all images, batch by batch.
template <class Model>
calibrator observe_images(const Model& model, std::span<const image_view> images, const calibration_options& options) {
  require_at_least("calibrate", "number of images", std::ssize(images), 1);
  require_at_least("calibrate", "batch", options.batch, 1);
  calibrator seen(options);
  const std::size_t batch = static_cast<std::size_t>(options.batch);
  for (std::size_t first = 0; first < images.size(); first += batch) {
    seen.observe(model, images.subspan(first, std::min(batch, images.size() - first)));
  }
  return seen;
}

inline block_scales calibrated_block(const calibrator& seen, index_t block, const block_shape& shape = {}) {
  const auto affine_if = [&](bool exists, traced_tensor name) {
    return exists ? seen.affine(name, block) : affine_scale();
  };
  const bool normed = shape.attention.qk_norm.has_value();
  return {.norm1 = seen.affine("norm1", block),
          .qkv = seen.affine("qkv", block),
          .attention_logits = seen.affine("attention_logits", block),
          .context = seen.affine("context", block),
          .proj = seen.affine("proj", block),
          .add1 = seen.ptf("add1", block),
          .norm2 = seen.affine("norm2", block),
          .fc1 = seen.range("fc1", block),
          .activation = seen.affine("activation", block),
          .fc2 = seen.affine("fc2", block),
          .add2 = seen.ptf("add2", block),
          .up = affine_if(shape.gated, "up"),
          .gated = affine_if(shape.gated, "gated"),
          .q_norm = affine_if(normed, "q_norm"),
          .k_norm = affine_if(normed, "k_norm")};
}

}  // namespace detail

/// Runs the float model on images and chooses the scales of all of its tensors.
///
/// Formula:   the observers of observe.hpp, on u8 codes. Power-of-two factors and omse are scored on the last batch.
///            Ranges of tensors with zero points are widened to contain 0.
/// Errors:    no images, a batch below 1, images that the model does not take, tensors or ranges that are not finite in
///            float, naming tensor and block.
/// Source:    docs/numerics.md, section 1.
inline vit_scales calibrate(const float_vit& model, std::span<const image_view> images,
                            const calibration_options& options = {}) {
  const detail::calibrator seen = detail::observe_images(model, images, options);
  vit_scales scales;
  scales.input = seen.affine("input");
  scales.patch = seen.affine("patch");
  scales.embed = seen.affine("embed");
  scales.positions = seen.affine("positions");
  scales.tokens = seen.ptf("tokens");
  for (index_t block = 0; block < model.shape.depth; ++block) {
    scales.blocks.push_back(detail::calibrated_block(seen, block, model.shape.block()));
  }
  const value_range begin = model.norm_pre ? seen.range("norm_pre") : seen.range("tokens");
  scales.stream = seen.s16_scale(begin, 0, model.shape.depth);
  if (model.norm_pre) {
    scales.norm_pre = seen.ptf("norm_pre");
    scales.s16_tokens = seen.s16_scale(seen.range("tokens"), 0, 0);
  }
  scales.norm = seen.affine("norm");
  if (model.shape.pooling == vit_pooling::mean) {
    scales.pool = seen.affine("pool");
  } else if (model.shape.pooling == vit_pooling::normalized_mean) {
    const value_range mean[] = {seen.range("pool")};
    scales.pool = {build_s16_scale(mean), 0};
  }
  if (model.shape.classes != 0) {
    scales.logits = seen.affine("logits");
  }
  return scales;
}

}  // namespace INTACT_UNIT
}  // namespace intact
