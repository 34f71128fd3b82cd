#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <iterator>
#include <map>
#include <optional>
#include <span>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "intact/io/safetensors.hpp"
#include "intact/io/safetensors_write.hpp"
#include "intact/quantize/float_vit.hpp"
#include "preprocess.hpp"

// Float models from checkpoints: under timm's names or Hugging Face's, for images of their own size or another.

namespace intact_deit {

/// What a checkpoint need not say, as for intact::load_float_vit; ImageNet's mean and deviation are the default.
struct checkpoint_options {
  intact::float_vit_options model = {};
  std::optional<index_t> image_size = {};  ///< else the size that the model was trained for
};

namespace detail {

/// The tensors of a safetensors file in the making, in memory.
class memory_file {
 public:
  void add(std::string name, std::vector<std::int64_t> shape, std::vector<float> values) {
    tensors_.push_back({std::move(name), std::move(shape), std::move(values)});
  }

  intact::safetensors_file parse(const std::map<std::string, std::string>& metadata, const std::string& name) const {
    std::vector<intact::tensor_to_write> all;
    for (const tensor& one : tensors_) {
      all.push_back(intact::tensor_from(one.name, one.shape, one.values));
    }
    return intact::safetensors_file::parse(intact::safetensors_bytes(name, all, metadata), name);
  }

 private:
  struct tensor {
    std::string name;
    std::vector<std::int64_t> shape;
    std::vector<float> values;
  };
  std::vector<tensor> tensors_;
};

/// Hugging Face's names of parts of a block, and timm's.
inline constexpr std::pair<std::string_view, std::string_view> block_names[] = {{"layernorm_before", "norm1"},
                                                                                {"attention.output.dense", "attn.proj"},
                                                                                {"layernorm_after", "norm2"},
                                                                                {"intermediate.dense", "mlp.fc1"},
                                                                                {"output.dense", "mlp.fc2"}};

/// The same outside the blocks.
inline constexpr std::pair<std::string_view, std::string_view> model_names[] = {
    {"embeddings.cls_token", "cls_token"},
    {"embeddings.distillation_token", "dist_token"},
    {"embeddings.position_embeddings", "pos_embed"},
    {"embeddings.patch_embeddings.projection", "patch_embed.proj"},
    {"layernorm", "norm"},
    {"classifier", "head"},
    {"cls_classifier", "head"},
    {"distillation_classifier", "head_dist"}};

/// timm's name of a tensor under Hugging Face's; a name that is neither's stays as it is.
inline std::string timm_name(std::string_view name) {
  const std::string_view unchanged = name;
  for (const std::string_view prefix : {"vit.", "deit."}) {
    name.remove_prefix(name.starts_with(prefix) ? prefix.size() : 0);
  }
  const std::size_t dot = name.rfind('.');
  const bool parameter = name.ends_with(".weight") || name.ends_with(".bias");
  std::string_view module = name.substr(0, parameter ? dot : name.size());
  const std::string kind(name.substr(module.size()));
  constexpr std::string_view layers = "encoder.layer.";
  if (module.starts_with(layers)) {
    module.remove_prefix(layers.size());
    const std::string_view number = module.substr(0, module.find('.'));
    module.remove_prefix(std::min(number.size() + 1, module.size()));
    for (const auto& [theirs, ours] : block_names) {
      if (module == theirs) {
        return "blocks." + std::string(number) + '.' + std::string(ours) + kind;
      }
    }
  }
  for (const auto& [theirs, ours] : model_names) {
    if (module == theirs) {
      return std::string(ours) + kind;
    }
  }
  return std::string(unchanged);
}

/// Where the name of a block's queries has the number of the block, and what follows it.
struct query_name {
  std::string stem, number, kind;

  /// Nothing if the name is not that of queries.
  static std::optional<query_name> parse(const std::string& name) {
    constexpr std::string_view layers = "encoder.layer.", query = ".attention.attention.query";
    const std::size_t before = name.find(layers), end = name.find(query);
    if (before == std::string::npos || end == std::string::npos || before + layers.size() > end) {
      return std::nullopt;
    }
    const std::size_t number = before + layers.size();
    return query_name{name.substr(0, end), name.substr(number, end - number), name.substr(end + query.size())};
  }
};

/// Queries, keys and values of a block, which Hugging Face stores one by one, as one tensor.
inline void add_qkv(const intact::safetensors_file& file, const query_name& name, memory_file& renamed) {
  std::vector<std::int64_t> shape;
  std::vector<float> values;
  for (const char* const part : {"query", "key", "value"}) {
    const std::string tensor = name.stem + ".attention.attention." + part + name.kind;
    shape = values.empty() ? file.info(tensor).shape : shape;
    const std::vector<float> one = file.values<float>(tensor, shape);
    values.insert(values.end(), one.begin(), one.end());
  }
  if (!shape.empty()) {
    shape.front() *= 3;
    renamed.add("blocks." + name.number + ".attn.qkv" + name.kind, std::move(shape), std::move(values));
  }
}

/// Tensors that play no part in classification.
inline bool is_unused(const std::string& name) {
  return name.find("pooler.") != std::string::npos || name.ends_with("embeddings.mask_token");
}

/// The same weights under timm's names.
inline intact::safetensors_file with_timm_names(const intact::safetensors_file& file) {
  memory_file renamed;
  for (const std::string& name : file.names()) {
    if (const std::optional<query_name> query = query_name::parse(name)) {
      add_qkv(file, *query, renamed);
    } else if (!is_unused(name) && name.find(".attention.attention.") == std::string::npos) {
      renamed.add(timm_name(name), file.info(name).shape, file.values<float>(name));
    }
  }
  std::map<std::string, std::string> metadata = file.metadata();
  metadata.emplace("ln_eps", "1e-12");  // what Hugging Face's models take
  return renamed.parse(metadata, file.name());
}

inline bool has_hugging_face_names(const intact::safetensors_index& file) {
  const std::vector<std::string> names = file.names();
  return std::any_of(names.begin(), names.end(), [](const std::string& name) {
    return name.find("embeddings.patch_embeddings.projection.") != std::string::npos;
  });
}

/// Interpolates the positions of a square of patches for another square, as timm does: bicubic, antialiased.
inline intact::float_matrix resize_positions(const intact::float_matrix& positions, index_t from, index_t to) {
  const auto matrix_of = [&](index_t rows, index_t columns) {
    intact::float_matrix taps = intact::float_matrix::Zero(rows, columns);
    const std::vector<filter_taps> all = bicubic_taps(columns, rows, {0, rows});
    for (index_t i = 0; i < rows; ++i) {
      const filter_taps& tap = all[static_cast<std::size_t>(i)];
      for (std::size_t k = 0; k < tap.weight.size(); ++k) {
        taps(i, tap.first + static_cast<index_t>(k)) = static_cast<float>(tap.weight[k]);
      }
    }
    return taps;
  };
  const intact::float_matrix taps = matrix_of(to, from);
  const index_t width = positions.cols(), others = positions.rows() - from * from;
  intact::float_matrix resized(others + to * to, width);
  resized.topRows(others) = positions.topRows(others);
  for (index_t c = 0; c < width; ++c) {
    intact::float_matrix plane(from, from);
    for (index_t i = 0; i < from * from; ++i) {
      plane(i / from, i % from) = positions(others + i, c);
    }
    plane = (taps * plane * taps.transpose()).eval();
    for (index_t i = 0; i < to * to; ++i) {
      resized(others + i, c) = plane(i / to, i % to);
    }
  }
  return resized;
}

inline void resize_model(intact::float_vit& model, index_t size, const std::string& file) {
  const index_t patch = model.shape.patch;
  if (size < patch || size % patch != 0) {
    throw error_in(file, "the image size is " + std::to_string(size) + "; it must be a multiple of the patch size, " +
                             std::to_string(patch));
  }
  if (size != model.shape.height) {
    model.positions = resize_positions(model.positions, model.shape.height / patch, size / patch);
    model.shape.height = model.shape.image_width = size;
  }
}

/// Loads a model; a refusal of something that an option can say names the option.
inline intact::float_vit load_naming_options(const intact::safetensors_file& file,
                                             const intact::float_vit_options& options) {
  try {
    return intact::load_float_vit(file, options);
  } catch (const intact::file_error& error) {
    const std::string problem = error.what();
    for (const auto& [words, option] : {std::pair("heads is ", "--heads"),
                                        {"\"heads\"", "--heads"},
                                        {"ln_eps", "--epsilon"},
                                        {"mean is ", "--mean"},
                                        {"\"mean\"", "--mean"},
                                        {"std is ", "--std"},
                                        {"\"std\"", "--std"}}) {
      if (problem.find(words) != std::string::npos) {
        throw std::runtime_error(problem + "; the option " + option + " takes the place of the file's");
      }
    }
    throw;
  }
}

}  // namespace detail

/// Loads a vision transformer. Its sizes follow from its tensors.
/// Errors: intact::file_error, naming the file and the tensor.
inline intact::float_vit load_checkpoint(const std::filesystem::path& path, const checkpoint_options& options) {
  const intact::safetensors_file file = intact::safetensors_file::read(path);
  intact::float_vit_options model_options = options.model;
  const auto set_default = [&](const char* key, std::vector<float>& values, std::vector<float> standard) {
    if (values.empty() && !file.metadata().contains(key)) {
      values = std::move(standard);
    }
  };
  set_default("mean", model_options.mean, {0.485F, 0.456F, 0.406F});
  set_default("std", model_options.standard_deviation, {0.229F, 0.224F, 0.225F});
  intact::float_vit model = detail::load_naming_options(
      detail::has_hugging_face_names(file) ? detail::with_timm_names(file) : file, model_options);
  if (model.shape.channels != 3) {
    throw error_in(path, "the model takes " + std::to_string(model.shape.channels) + " channels; images have 3");
  }
  detail::resize_model(model, options.image_size.value_or(model.shape.height), path.string());
  return model;
}

/// Something that a checkpoint need not say, and what it was taken to be.
struct assumption {
  std::string what, value;
  std::string source;  ///< an option, the file, or why the value is the default
};

/// The values of things that a checkpoint need not say, and their sources. `model` was loaded with these options.
inline std::vector<assumption> assumptions(const std::filesystem::path& path, const checkpoint_options& options,
                                           const intact::float_vit& model) {
  const intact::safetensors_reader file(path);
  const bool hugging_face = detail::has_hugging_face_names(file);
  const auto source = [&](bool given, const char* option, const char* key, const char* standard) -> std::string {
    return given                           ? option
           : file.metadata().contains(key) ? std::string("metadata \"") + key + '"'
                                           : std::string(standard) + "; " + option + " names another";
  };
  const auto numbers = [](const std::vector<float>& values) {
    std::ostringstream text;
    for (std::size_t i = 0; i < values.size(); ++i) {
      text << (i == 0 ? "" : " ") << values[i];
    }
    return text.str();
  };
  const intact::float_vit_options& given = options.model;
  return {
      {"heads", std::to_string(model.shape.heads), source(given.heads.has_value(), "--heads", "heads", "width / 64")},
      {"mean", numbers(model.mean), source(!given.mean.empty(), "--mean", "mean", "that of ImageNet")},
      {"std", numbers(model.standard_deviation),
       source(!given.standard_deviation.empty(), "--std", "std", "that of ImageNet")},
      {"epsilon", numbers({model.epsilon}),
       source(given.epsilon.has_value(), "--epsilon", "ln_eps",
              hugging_face ? "that of Hugging Face's models" : "that of timm's models")},
      {"size", std::to_string(model.shape.height),
       options.image_size ? "--size" : "that of the positions; --size names another"}};
}

}  // namespace intact_deit
