#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "checkpoint.hpp"
#include "checkpoint_arguments.hpp"
#include "intact/build/packed_vit.hpp"
#include "intact/reference/model/vit.hpp"
#include "model_input.hpp"
#include "models.hpp"
#include "write_json.hpp"

namespace intact_deit {

/// The attention of the class token of one block, head by head: weights of the patches, row by row.
using attention_maps = std::vector<std::vector<double>>;

/// The maps of the float model.
inline attention_maps float_attention_maps(const intact::float_vit& model, const intact::image_view& image,
                                           index_t block) {
  attention_maps maps;
  intact::forward(model, image, [&](const intact::trace_site& site, const intact::float_matrix& weights) {
    if (site.name == "attention" && site.block == block) {
      std::vector<double>& map = maps.emplace_back();
      for (index_t j = model.shape.prefix_tokens(); j < weights.cols(); ++j) {
        map.push_back(static_cast<double>(weights(0, j)));
      }
    }
  });
  return maps;
}

/// The maps of the integer model, and the codes that they are read from.
class integer_attention_maps {
 public:
  integer_attention_maps(const intact::integer_vit& model, const intact::image_view& image, index_t block)
      : model_(model), softmax_(model.tensors().blocks.at(static_cast<std::size_t>(block)).softmax) {
    const index_t features = model.shape().head_features();
    std::vector<std::uint8_t> codes_of_features(static_cast<std::size_t>(features));
    std::vector<std::byte> scratch(intact::reference::vit_workspace_bytes(model.shape()));
    intact::reference::vit_features(image, intact::packed_vit(model).parameters(), model.shape(),
                                    intact::matrix_view(codes_of_features.data(), 1, features),
                                    intact::workspace(scratch.data(), scratch.size()),
                                    [&](const intact::trace_site& site, const auto& view) {
                                      if (site.name == "attention" && site.block == block) {
                                        add(view);
                                      }
                                    });
  }

  attention_maps maps;
  std::vector<std::vector<int>> codes;

 private:
  /// The first row: the class token's.
  template <class View>
  void add(const View& view) {
    if constexpr (!std::is_same_v<typename View::element, const std::int32_t>) {
      const index_t first = model_.shape().prefix_tokens();
      double sum = 0;
      for (index_t j = 0; j < view.columns; ++j) {
        sum += weight(view(0, j));
      }
      maps.emplace_back();
      codes.emplace_back();
      for (index_t j = first; j < view.columns; ++j) {
        codes.back().push_back(static_cast<int>(view(0, j)));
        maps.back().push_back(weight(view(0, j)) / (softmax_.normalize && sum > 0 ? sum : 1));
      }
    }
  }

  /// The weight of a code, before rows are normalized.
  double weight(int code) const {
    if (softmax_.kind == intact::attention_kind::weights) {
      return code;
    }
    if (softmax_.kind == intact::attention_kind::weight_codes) {
      return softmax_.code_weights[static_cast<std::size_t>(code)];
    }
    const bool zero = softmax_.probabilities == intact::attention_code::u8_masked &&
                      code >= intact::attention_codes<intact::attention_code::u8_masked>::last_code;
    return zero ? 0 : std::ldexp(1.0, -code);
  }

  const intact::integer_vit& model_;
  const intact::owned_softmax& softmax_;
};

/// intact-deit attention
class attention_command {
 public:
  explicit attention_command(CLI::App& program) {
    app_ = program.add_subcommand("attention", "what the class token attends to, in float and in codes");
    app_->add_option("--model", model_, "integer model")->required();
    app_->add_option("--float", weights_, "checkpoint of the float model")->required();
    app_->add_option("--image", image_, "PNG or JPEG file")->required();
    app_->add_option("--block", block_, "the block [the last one]")->check(CLI::NonNegativeNumber);
    add_prepared(*app_, prepared_);
    app_->add_option("-o,--output", output_, "JSON, which examples/plot_attention.py draws")->required();
    checkpoint_.add_to(*app_);
  }

  bool chosen() const { return app_->parsed(); }

  int run() const {
    const auto [stored, preprocessing] = read_model(model_);
    const std::string reason = "it has no class token, whose attention is shown";
    const auto& model = require_vit<intact::integer_vit>(model_, stored, reason);
    const intact::vit_shape& shape = model.shape();
    const any_checkpoint loaded = checkpoint_.load(weights_, intact::image_sides(shape.height, shape.image_width));
    const intact::float_vit& in_float = require_vit<intact::loaded_checkpoint>(weights_, loaded, reason).model;
    if (in_float.shape.depth != shape.depth || in_float.shape.heads != shape.heads ||
        in_float.shape.tokens() != shape.tokens()) {
      throw error_in(weights_, "the model has other blocks, heads or tokens than " + model_);
    }
    if (shape.class_tokens == 0) {
      throw error_in(model_, "the model has no class token");
    }
    const index_t block = block_.value_or(shape.depth - 1);
    if (block < 0 || block >= shape.depth) {
      throw std::invalid_argument("--block is " + std::to_string(block) + "; the model has " +
                                  std::to_string(shape.depth) + " blocks");
    }
    const rgb_image image = read_input(image_, {preprocessing, prepared_});
    const integer_attention_maps integer(model, image.view(), block);
    intact_examples::write_json(output_, {{"block", block},
                                          {"columns", shape.image_width / shape.patch.width},
                                          {"float", float_attention_maps(in_float, image.view(), block)},
                                          {"integer", integer.maps},
                                          {"codes", integer.codes}});
    return 0;
  }

 private:
  CLI::App* app_;
  std::string model_, weights_, image_, output_;
  std::optional<index_t> block_;
  bool prepared_ = false;
  checkpoint_arguments checkpoint_;
};

}  // namespace intact_deit
