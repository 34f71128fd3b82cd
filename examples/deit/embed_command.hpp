#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <iterator>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "checkpoint_arguments.hpp"
#include "evaluate.hpp"
#include "intact/io/replace_file.hpp"
#include "intact/io/safetensors_write.hpp"
#include "models.hpp"

namespace intact_deit {

/// The contents of a NumPy file of float32 numbers, row-major.
inline std::string npy_text(const std::vector<std::int64_t>& shape, const std::vector<float>& values) {
  std::string sizes;
  for (const std::int64_t size : shape) {
    sizes += std::to_string(size) + ", ";
  }
  std::string header = "{'descr': '<f4', 'fortran_order': False, 'shape': (" + sizes + "), }";
  constexpr std::size_t prefix = 10, alignment = 64;  // the prefix, the header and its line break fill whole blocks
  header.resize((prefix + header.size() + alignment) / alignment * alignment - prefix - 1, ' ');
  header += '\n';
  std::string text("\x93NUMPY\x01\x00", 8);
  text += static_cast<char>(header.size() % 256);
  text += static_cast<char>(header.size() / 256);
  text += header;
  return text.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
}

/// An integer model without a head, with the memory that it runs in. The model must outlive it; not to be shared
/// between threads.
class feature_extractor {
 public:
  /// `batch`: the most images of a call.
  feature_extractor(const intact::packed_vit& model, index_t batch)
      : model_(&model),
        scratch_(intact::vit_workspace_bytes(model.shape(), batch)),
        codes_(static_cast<std::size_t>(batch * model.shape().head_features())) {}

  std::vector<logit_row> operator()(std::span<const intact::image_view> images) {
    const index_t features = model_->shape().head_features();
    intact::vit_features(images, model_->parameters(), model_->shape(),
                         intact::matrix_view(codes_.data(), std::ssize(images), features),
                         intact::workspace(scratch_.data(), scratch_.size()));
    std::vector<logit_row> all(images.size());
    for (std::size_t i = 0; i < images.size() * static_cast<std::size_t>(features); ++i) {
      all[i / static_cast<std::size_t>(features)].push_back(static_cast<float>(model_->real_feature(codes_[i])));
    }
    return all;
  }

 private:
  const intact::packed_vit* model_;
  std::vector<std::byte> scratch_;
  std::vector<std::uint8_t> codes_;
};

/// intact-deit embed
class embed_command {
 public:
  explicit embed_command(CLI::App& program) {
    app_ = program.add_subcommand("embed", "writes the features of images, by a model without a head");
    app_->add_option("--model", model_, "integer model, of quantize --features or of a checkpoint without a head")
        ->required();
    app_->add_option("images", images_, "PNG or JPEG files")->required();
    app_->add_option("-o,--output", output_, "file.npy or file.safetensors: a row per image, NaN if it cannot be read")
        ->required()
        ->check([](const std::string& file) {
          return file.ends_with(".npy") || file.ends_with(".safetensors") ? ""
                                                                          : "ends in neither .npy nor .safetensors";
        });
    add_threads(*app_, running_.threads);
    add_batch(*app_, running_.batch);
    add_prepared(*app_, prepared_);
    app_->footer("Example:\n  intact-deit embed --model model.intact.safetensors cat.jpg dog.jpg -o features.npy");
  }

  bool chosen() const { return app_->parsed(); }

  /// The exit code: 1 if some images could not be read.
  int run() const {
    const stored_model stored = load_model(model_);
    const auto& model = require_vit<intact::packed_vit>(model_, stored.model, "its integer models have a head");
    const intact::vit_shape& shape = model.shape();
    if (shape.classes != 0) {
      throw error_in(model_, "the model has a head; quantize --features makes a model without one");
    }
    std::vector<labelled_image> images;
    for (const std::string& file : images_) {
      images.push_back({file, 0});
    }
    const auto extractor = [&] { return feature_extractor(model, static_cast<index_t>(running_.batch)); };
    const predictions found = predict(extractor, images, {stored.preprocessing, prepared_}, running_, "images");
    const std::size_t failed = report_failures(found);
    std::vector<float> values;
    for (const prediction& one : found.images) {
      values.insert(values.end(), one.logits.begin(), one.logits.end());
      if (!one.problem.empty()) {
        values.resize(values.size() + static_cast<std::size_t>(shape.head_features()),
                      std::numeric_limits<float>::quiet_NaN());
      }
    }
    std::vector<std::int64_t> sizes = {std::ssize(images), shape.head_features()};
    if (shape.pooling == intact::vit_pooling::patch_tokens) {
      sizes = {std::ssize(images), shape.patches(), shape.width};
    }
    write(sizes, values);
    std::printf("%s: %zu images, %zu failed, %td features each\n", output_.c_str(), images.size() - failed, failed,
                shape.head_features());
    return failed == 0 ? 0 : 1;
  }

 private:
  void write(const std::vector<std::int64_t>& sizes, const std::vector<float>& values) const {
    if (output_.ends_with(".npy")) {
      intact::write_text_file(output_, npy_text(sizes, values));
      return;
    }
    const intact::tensor_to_write tensors[] = {intact::tensor_from("features", sizes, values)};
    intact::write_safetensors(output_, tensors);
  }

  CLI::App* app_;
  std::string model_, output_;
  std::vector<std::string> images_;
  run_options running_;
  bool prepared_ = false;
};

}  // namespace intact_deit
