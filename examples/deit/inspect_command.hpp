#pragma once

#include <cstddef>
#include <cstdio>
#include <filesystem>
#include <map>
#include <string>
#include <variant>
#include <vector>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "checkpoint.hpp"
#include "checkpoint_arguments.hpp"
#include "intact/build/integer_swin.hpp"
#include "intact/build/integer_vit.hpp"
#include "intact/quantize/model_summary.hpp"
#include "model_texts.hpp"
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
    const intact::safetensors_reader file(file_);
    const std::filesystem::path path = file_;
    const nlohmann::json json =
        has_format(file, intact::model_file_format)  ? inspect_integer(intact::load_integer_vit(path), file.metadata())
        : has_format(file, intact::swin_file_format) ? inspect_integer(intact::load_integer_swin(path), file.metadata())
                                                     : inspect_checkpoint();
    if (!json_.empty()) {
      intact_examples::write_json(json_, json);
    }
    return 0;
  }

 private:
  /// Prints the sizes of a model, and returns them.
  static nlohmann::json inspect_shape(const intact::vit_shape& shape) {
    const double products = intact::multiply_adds(shape);
    std::printf("  %s, %td heads, %td hidden channels, %s\n", blocks_text(shape).c_str(), shape.heads, shape.hidden,
                outputs_text(shape).c_str());
    const intact::image_sides patch = {shape.patch.height, shape.patch.width};
    std::printf("  images of %td x %td pixels, patches of %s, %td tokens\n", shape.height, shape.image_width,
                intact::sides_text(patch).c_str(), shape.tokens());
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

  /// The same of a Swin transformer, whose stages have sizes of their own.
  static nlohmann::json inspect_shape(const intact::swin_shape& shape) {
    const double products = intact::multiply_adds(shape);
    nlohmann::json stages = nlohmann::json::array();
    index_t depth = 0;
    std::printf("  %s, %s\n", blocks_text(shape).c_str(), outputs_text(shape).c_str());
    for (index_t s = 0; s < shape.stages; ++s) {
      const intact::swin_stage_shape& stage = shape.of(s);
      depth += stage.depth;
      std::printf("  stage %td: %td heads, %td hidden channels, windows of %td, %td x %td tokens\n", s, stage.heads,
                  stage.hidden, stage.window, shape.rows_of(s), shape.columns_of(s));
      stages.push_back({{"depth", stage.depth},
                        {"width", stage.width},
                        {"heads", stage.heads},
                        {"hidden", stage.hidden},
                        {"window", stage.window},
                        {"rows", shape.rows_of(s)},
                        {"columns", shape.columns_of(s)}});
    }
    std::printf("  images of %td x %td pixels, patches of %td, %td tokens\n", shape.height, shape.image_width,
                shape.patch, shape.patches());
    std::printf("  %.4g million multiply-adds an image\n", products / 1e6);
    return {{"stages", stages},          {"depth", depth},
            {"classes", shape.classes},  {"features", shape.of(shape.stages - 1).width},
            {"height", shape.height},    {"image_width", shape.image_width},
            {"patch", shape.patch},      {"patch_width", shape.patch},
            {"tokens", shape.patches()}, {"multiply_adds", products}};
  }

  static const char* architecture(const intact::vit_shape&) { return "vision transformer"; }
  static const char* architecture(const intact::swin_shape&) { return "Swin transformer"; }

  /// The attention of the first block, of all blocks in models that are built here; nullptr without a block.
  static const intact::owned_softmax* first_softmax(const intact::integer_vit& model) {
    return model.tensors().blocks.empty() ? nullptr : &model.tensors().blocks.front().softmax;
  }
  static const intact::owned_softmax* first_softmax(const intact::integer_swin& model) {
    for (const intact::owned_swin_stage& stage : model.tensors().stages) {
      if (!stage.blocks.empty()) {
        return &stage.blocks.front().block.softmax;
      }
    }
    return nullptr;
  }

  static std::string attention_text(const intact::owned_softmax& softmax) {
    const char* const kind = softmax.kind == intact::attention_kind::log2_of_sum   ? "log2 of the sum"
                             : softmax.kind == intact::attention_kind::log2_of_max ? "log2 of the maximum"
                             : softmax.kind == intact::attention_kind::weights     ? "u8 weights"
                                                                                   : "4-bit codes of u8 weights";
    return std::string(kind) + (softmax.normalize ? ", normalized rows" : "");
  }

  nlohmann::json inspect_checkpoint() const {
    const any_checkpoint loaded = checkpoint_.load(file_);
    return std::visit([&](const auto& any) { return inspect_checkpoint(any); }, loaded);
  }

  template <class Model>
  nlohmann::json inspect_checkpoint(const intact::loaded_model<Model>& loaded) const {
    std::printf("%s: float %s\n", file_.c_str(), architecture(loaded.model.shape));
    nlohmann::json json = {{"kind", "checkpoint"},
                           {"architecture", architecture(loaded.model.shape)},
                           {"shape", inspect_shape(loaded.model.shape)}};
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

  template <class Integer>
  nlohmann::json inspect_integer(const Integer& model, const std::map<std::string, std::string>& metadata) const {
    std::printf("%s: integer %s\n", file_.c_str(), architecture(model.shape()));
    nlohmann::json json = {{"kind", "integer"},
                           {"architecture", architecture(model.shape())},
                           {"shape", inspect_shape(model.shape())},
                           {"notes", metadata}};
    const std::size_t workspace = workspace_bytes(model.shape(), 1);
    const bool wide = model.shape().stream == intact::stream_codes::s16;
    std::printf("  residual stream of %s codes; %zu bytes of workspace an image\n", wide ? "s16" : "u8", workspace);
    json["stream"] = wide ? "s16" : "u8";
    json["workspace_bytes"] = workspace;
    if (const intact::owned_softmax* const softmax = first_softmax(model)) {
      json["attention"] = attention_text(*softmax);
      std::printf("  %-13s %s\n", "attention", json["attention"].get<std::string>().c_str());
    }
    for (std::size_t shown = 0; const auto& [key, text] : metadata) {
      if (shown++ == most_shown) {
        std::printf("  and %zu other notes\n", metadata.size() - most_shown);
        break;
      }
      std::printf("  %-13s %s\n", intact::printable_text(key).c_str(), intact::printable_text(text).c_str());
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
