#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "calibrated_tensors.hpp"
#include "checkpoint_files.hpp"
#include "intact/build/scaled_weights.hpp"
#include "intact/build/vit_scales.hpp"
#include "intact/quantize/load_calibrated.hpp"
#include "quantized_model.hpp"

// Files of calibrated models, and the models that they are to be loaded as: with scales that all differ, and with codes
// that are found by double arithmetic.

namespace intact_test {

/// Scales and zero points that all differ.
class scale_maker {
 public:
  affine_scale affine() {
    ++made_;
    return {0.02F + 0.0007F * static_cast<float>(made_), 90 + made_};
  }
  ptf_scale ptf(index_t channels) {
    const affine_scale scale = affine();
    ptf_scale made{scale.scale / 2, scale.zero_point, {}};
    for (index_t c = 0; c < channels; ++c) {
      made.shift.push_back(static_cast<std::uint8_t>((c + made_) % 4));
    }
    return made;
  }

 private:
  int made_ = 0;
};

/// Makes the scales of a block, and puts them into a file.
inline block_scales set_block_scales(calibrated_tensors& file, const std::string& name, scale_maker& make,
                                     index_t width) {
  const auto affine = [&](const char* tensor) { return file.set_affine(name + tensor, make.affine()); };
  const auto ptf = [&](const char* tensor) { return file.set_ptf(name + tensor, make.ptf(width)); };
  block_scales made{.norm1 = affine(".norm1"),
                    .qkv = affine(".qkv"),
                    .attention_logits = affine(".attention_logits"),
                    .context = affine(".context"),
                    .proj = affine(".proj"),
                    .add1 = ptf(".add1"),
                    .norm2 = affine(".norm2"),
                    .fc1 = {},
                    .activation = affine(".activation"),
                    .fc2 = affine(".fc2"),
                    .add2 = ptf(".add2")};
  made.fc1 = {-9, static_cast<float>(256 - made.activation.zero_point) * made.activation.scale + 0.17F};
  return made;
}

/// Weights in codes, found by double arithmetic, in scales that are 1.1037 times those of their range: no weight, a
/// multiple of 1/2000 up to 1/2, lies halfway between two codes.
struct layer_codes {
  std::vector<std::int8_t> codes;
  std::vector<float> scale;

  layer_codes(const float_matrix& weights, int bits) {
    const double largest_code = std::ldexp(1.0, bits - 1) - 1;
    for (index_t n = 0; n < weights.rows(); ++n) {
      scale.push_back(
          static_cast<float>(static_cast<double>(weights.row(n).cwiseAbs().maxCoeff()) * 1.1037 / largest_code));
      for (index_t k = 0; k < weights.cols(); ++k) {
        const double code = std::nearbyint(static_cast<double>(weights(n, k)) / static_cast<double>(scale.back()));
        codes.push_back(static_cast<std::int8_t>(std::clamp(code, -largest_code - 1, largest_code)));
      }
    }
  }

  scaled_weights weights(index_t rows, int bits) const {
    const index_t columns = std::ssize(codes) / rows;
    return {bits == 4 ? owned_weights::pack_s4(codes, rows, columns) : owned_weights(codes, rows, columns), scale};
  }
};

/// A file, and what it is to be loaded as.
template <class Model, class Scales, class Weights>
struct expected_model {
  calibrated_tensors file;
  Model model;
  Scales scales = {};
  Weights weights = {};
  int bits = 8;

  scaled_weights set_weights(const std::string& name, const float_matrix& real) {
    const layer_codes codes(real, bits);
    file.set_row(name + ".weight_scale", codes.scale);
    return codes.weights(real.rows(), bits);
  }
  block_weights set_block(const std::string& name, const float_block& block) {
    return {set_weights(name + ".attn.qkv", block.qkv.weight), set_weights(name + ".attn.proj", block.proj.weight),
            set_weights(name + ".mlp.fc1", block.fc1.weight), set_weights(name + ".mlp.fc2", block.fc2.weight)};
  }
  void set_metadata(const char* format) {
    file.metadata = {{"format", format},       {"version", "1"},        {"weight_bits", std::to_string(bits)},
                     {"activation_bits", "8"}, {"attention_bits", "4"}, {"ln_eps", "1e-6"},
                     {"mean", "0.4"},          {"std", "0.3"}};
  }
  void set_floats(const checkpoint_tensors& floats) {
    for (const auto& [name, tensor] : floats.all) {
      file.set(name, tensor.shape, tensor.values);
    }
  }
};

using expected_vit = expected_model<float_vit, vit_scales, vit_weights>;

inline expected_vit make_calibrated_vit(int bits = 8) {
  expected_vit made{{}, random_float_vit(tiny_vit), {}, {}, bits};
  made.set_metadata(calibrated_vit_format);
  made.file.metadata["heads"] = "2";
  made.set_floats(timm_checkpoint(made.model));
  scale_maker make;
  vit_scales& scales = made.scales;
  scales = {.input = made.file.set_affine("input", make.affine()),
            .patch = made.file.set_affine("patch", make.affine()),
            .embed = made.file.set_affine("embed", make.affine()),
            .positions = made.file.set_affine("positions", make.affine()),
            .tokens = made.file.set_ptf("tokens", make.ptf(tiny_vit.width)),
            .blocks = {},
            .norm = {},
            .logits = {}};
  made.weights.patch = made.set_weights("patch_embed.proj", made.model.patch.weight);
  for (std::size_t n = 0; n < made.model.blocks.size(); ++n) {
    const std::string name = "blocks." + std::to_string(n);
    scales.blocks.push_back(set_block_scales(made.file, name, make, tiny_vit.width));
    made.weights.blocks.push_back(made.set_block(name, made.model.blocks[n]));
  }
  scales.norm = made.file.set_affine("norm", make.affine());
  scales.logits = made.file.set_affine("logits", make.affine());
  made.weights.head = made.set_weights("head", made.model.head.weight);
  return made;
}

}  // namespace intact_test
