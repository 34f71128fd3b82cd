#pragma once

#include <cstddef>
#include <cstdio>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "checkpoint.hpp"
#include "checkpoint_arguments.hpp"
#include "intact/build/packed_vit.hpp"
#include "intact/quantize/model_summary.hpp"
#include "models.hpp"
#include "write_json.hpp"

namespace intact_deit {

/// intact-deit inspect
class inspect_command {
 public:
  explicit inspect_command(CLI::App& program) {
    app_ = program.add_subcommand("inspect", "tells what a checkpoint or an integer model is");
    app_->add_option("file", file_, "checkpoint or integer model, safetensors")->required();
    app_->add_option("--json", json_, "write what is printed to this file");
    checkpoint_.add_to(*app_);
    app_->footer("Example:\n  intact-deit inspect model.intact.safetensors --json model.json");
  }

  bool chosen() const { return app_->parsed(); }

  int run() const {
    std::map<std::string, std::string> metadata = intact::safetensors_reader(file_).metadata();
    const std::string format = metadata["format"];
    if (format == intact::swin_file_format) {
      throw error_in(file_, "is an integer Swin transformer; inspect reads checkpoints and integer ViT models");
    }
    const bool integer = format == intact::model_file_format;
    const nlohmann::json json = integer ? inspect_integer(metadata) : inspect_checkpoint();
    if (!json_.empty()) {
      intact_examples::write_json(json_, json);
    }
    return 0;
  }

 private:
  /// Prints the sizes of a model, and returns them.
  static nlohmann::json inspect_shape(const intact::vit_shape& shape) {
    const double products = intact::multiply_adds(shape);
    const bool has_head = shape.classes != 0;
    std::printf("  %td blocks of width %td, %td heads, %td hidden channels, %td %s\n", shape.depth, shape.width,
                shape.heads, shape.hidden, has_head ? shape.classes : shape.head_features(),
                has_head ? "classes" : "features");
    const intact::image_sides patch = {shape.patch.height, shape.patch.width};
    std::printf("  images of %td x %td pixels, patches of %s, %td tokens\n", shape.height, shape.image_width,
                intact::detail::sides_text(patch).c_str(), shape.tokens());
    std::printf("  %.4g million multiply-adds an image\n", products / 1e6);
    return {{"depth", shape.depth},
            {"width", shape.width},
            {"heads", shape.heads},
            {"hidden", shape.hidden},
            {"classes", shape.classes},
            {"class_tokens", shape.class_tokens},
            {"features", shape.head_features()},
            {"height", shape.height},
            {"image_width", shape.image_width},
            {"patch", patch.height},
            {"patch_width", patch.width},
            {"tokens", shape.tokens()},
            {"multiply_adds", products}};
  }

  static std::string attention_text(const intact::owned_softmax& softmax) {
    const char* const kind = softmax.kind == intact::attention_kind::log2_of_sum   ? "log2 of the sum"
                             : softmax.kind == intact::attention_kind::log2_of_max ? "log2 of the maximum"
                             : softmax.kind == intact::attention_kind::weights     ? "u8 weights"
                                                                                   : "4-bit codes of u8 weights";
    return std::string(kind) + (softmax.normalize ? ", normalized rows" : "");
  }

  nlohmann::json inspect_checkpoint() const {
    const intact::loaded_checkpoint loaded = checkpoint_.load(file_);
    std::printf("%s: float vision transformer\n", file_.c_str());
    nlohmann::json json = {{"kind", "checkpoint"}, {"shape", inspect_shape(loaded.model.shape)}};
    const intact::safetensors_reader file(file_);
    std::map<std::string, std::size_t> types;
    for (const std::string& name : file.names()) {
      ++types[std::string(intact::dtype_name(file.info(name).type))];
    }
    for (const auto& [type, count] : types) {
      std::printf("  %zu tensors of %s\n", count, type.c_str());
    }
    json["tensors"] = types;
    for (const assumption& one : assumptions(loaded)) {
      std::printf("  %-13s %s (%s)\n", one.what.c_str(), one.value.c_str(), one.source.c_str());
      json["assumptions"][one.what] = {{"value", one.value}, {"source", one.source}};
    }
    return json;
  }

  nlohmann::json inspect_integer(const std::map<std::string, std::string>& metadata) const {
    const intact::integer_vit model = intact::load_integer_vit(std::filesystem::path(file_));
    std::printf("%s: integer vision transformer\n", file_.c_str());
    nlohmann::json json = {{"kind", "integer"}, {"shape", inspect_shape(model.shape())}, {"notes", metadata}};
    const std::size_t workspace = intact::vit_workspace_bytes(model.shape());
    const bool wide = model.shape().stream == intact::stream_codes::s16;
    std::printf("  residual stream of %s codes; %zu bytes of workspace an image\n", wide ? "s16" : "u8", workspace);
    json["stream"] = wide ? "s16" : "u8";
    json["workspace_bytes"] = workspace;
    if (!model.tensors().blocks.empty()) {
      json["attention"] = attention_text(model.tensors().blocks.front().softmax);
      std::printf("  %-13s %s\n", "attention", json["attention"].get<std::string>().c_str());
    }
    for (std::size_t shown = 0; const auto& [key, text] : metadata) {
      if (shown++ == most_shown) {
        std::printf("  and %zu other notes\n", metadata.size() - most_shown);
        break;
      }
      std::printf("  %-13s %s\n", intact::detail::printable(key).c_str(), intact::detail::printable(text).c_str());
    }
    std::size_t bytes = 0;
    std::printf("  %-6s %-6s %12s %5s %10s  %s\n", "block", "layer", "weights", "bits", "bytes", "scales");
    for (const intact::layer_summary& layer : intact::layer_summaries(model)) {
      const std::string block = layer.block < 0 ? "" : std::to_string(layer.block);
      std::printf("  %-6s %-6s %5td x %-5td %4d %10zu  %.3g to %.3g\n", block.c_str(), layer.name.c_str(), layer.rows,
                  layer.columns, layer.bits, layer.bytes, layer.smallest_scale, layer.largest_scale);
      json["layers"].push_back({{"block", layer.block},
                                {"layer", layer.name},
                                {"rows", layer.rows},
                                {"columns", layer.columns},
                                {"bits", layer.bits},
                                {"bytes", layer.bytes},
                                {"smallest_scale", layer.smallest_scale},
                                {"largest_scale", layer.largest_scale}});
      bytes += layer.bytes;
    }
    std::printf("  %zu bytes of weights\n", bytes);
    json["weight_bytes"] = bytes;
    return json;
  }

  CLI::App* app_;
  std::string file_, json_;
  checkpoint_arguments checkpoint_;
};

}  // namespace intact_deit
