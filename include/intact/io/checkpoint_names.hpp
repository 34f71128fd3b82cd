#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "intact/config/floating_point.hpp"
#include "intact/io/real_values.hpp"
#include "intact/io/safetensors.hpp"
#include "intact/io/safetensors_write.hpp"

// The names of tensors in checkpoints of vision transformers (ViT, DeiT): Hugging Face's, and timm's, which
// quantize/float_vit.hpp reads.

namespace intact {
inline namespace INTACT_UNIT {

namespace detail {

/// Hugging Face's names of parts of a block (ViT and DeiT, the same since version 5, DINOv2), and timm's.
inline constexpr std::pair<std::string_view, std::string_view> block_names[] = {{"layernorm_before", "norm1"},
                                                                                {"norm1", "norm1"},
                                                                                {"attention.output.dense", "attn.proj"},
                                                                                {"attention.o_proj", "attn.proj"},
                                                                                {"layer_scale1.lambda1", "ls1.gamma"},
                                                                                {"layernorm_after", "norm2"},
                                                                                {"norm2", "norm2"},
                                                                                {"intermediate.dense", "mlp.fc1"},
                                                                                {"mlp.fc1", "mlp.fc1"},
                                                                                {"output.dense", "mlp.fc2"},
                                                                                {"mlp.fc2", "mlp.fc2"},
                                                                                {"layer_scale2.lambda1", "ls2.gamma"}};

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

/// Names of a block's queries, keys and values: before and after the block's number.
struct qkv_names {
  std::string_view layers;
  std::string_view parts[3];
};
inline constexpr qkv_names all_qkv_names[] = {
    {"encoder.layer.", {".attention.attention.query", ".attention.attention.key", ".attention.attention.value"}},
    {"layers.", {".attention.q_proj", ".attention.k_proj", ".attention.v_proj"}}};

/// The parts of a name of queries, keys or values: everything before the tensor's own name, the number of the block,
/// which of the three it is, and the last part.
struct qkv_name {
  const qkv_names* names;
  std::string stem, number, kind;
  std::size_t part;

  /// No value if the name is another tensor's.
  static std::optional<qkv_name> parse(const std::string& name) {
    for (const qkv_names& names : all_qkv_names) {
      const std::size_t before = name.find(names.layers), number = before + names.layers.size();
      for (std::size_t part = 0; part < 3 && before != std::string::npos; ++part) {
        const std::size_t end = name.find(names.parts[part], number);
        if (end != std::string::npos) {
          return qkv_name{&names, name.substr(0, end), name.substr(number, end - number),
                          name.substr(end + names.parts[part].size()), part};
        }
      }
    }
    return std::nullopt;
  }

  /// The name of one of the three.
  std::string of(std::size_t which) const { return stem + std::string(names->parts[which]) + kind; }
};

/// The tensors of a checkpoint under other names.
class renamed_tensors {
 public:
  void add(std::string name, std::vector<std::int64_t> shape, const std::vector<float>& values) {
    const std::span<const std::byte> bytes = std::as_bytes(std::span(values));
    tensors_.push_back({std::move(name), dtype::f32, std::move(shape), {bytes.begin(), bytes.end()}});
  }

  /// A tensor of a file as it is.
  void add(std::string name, const safetensors_file& file, const std::string& original) {
    const tensor_info& info = file.info(original);
    tensors_.push_back({std::move(name), info.type, info.shape, file.machine_bytes(original)});
  }

  /// As a file in memory, with the name of the original.
  safetensors_file file(const std::string& name, const std::map<std::string, std::string>& metadata) const {
    std::vector<tensor_to_write> tensors;
    for (const tensor& one : tensors_) {
      tensors.push_back({one.name, one.type, one.shape, one.bytes});
    }
    return safetensors_file::parse(safetensors_bytes(name, tensors, metadata), name);
  }

 private:
  struct tensor {
    std::string name;
    dtype type;
    std::vector<std::int64_t> shape;
    std::vector<std::byte> bytes;
  };

  std::vector<tensor> tensors_;
};

/// Tensors that every vision transformer has, under timm's and Hugging Face's names.
inline constexpr std::string_view first_layers[] = {"patch_embed.proj.weight",
                                                    "embeddings.patch_embeddings.projection.weight"};

/// The common prefix of a checkpoint's names, such as "module." or "model.vit.": it is in front of the first layer's.
inline std::string common_prefix(const safetensors_index& file) {
  for (const std::string& name : file.names()) {
    for (const std::string_view layer : first_layers) {
      const std::size_t length = name.size() - std::min(name.size(), layer.size());
      if (name.ends_with(layer) && (length == 0 || name[length - 1] == '.')) {
        return name.substr(0, length);
      }
    }
  }
  return {};
}

/// A name without the prefix, or without as many of its first parts as the name has: heads have fewer of them.
inline std::string without_prefix(std::string_view name, std::string_view prefix) {
  for (; !prefix.empty(); prefix = prefix.substr(0, prefix.size() - 1)) {
    if (prefix.back() == '.' && name.starts_with(prefix)) {
      return std::string(name.substr(prefix.size()));
    }
  }
  return std::string(name);
}

/// Adds queries, keys and values of a block, which Hugging Face stores one by one, as one tensor. Biases may be
/// missing: they are 0.
inline void add_qkv(const safetensors_file& file, const qkv_name& name, renamed_tensors& renamed) {
  const std::vector<std::int64_t>& shape = file.info(name.of(0)).shape;
  std::vector<float> values;
  for (std::size_t part = 0; part < 3; ++part) {
    const std::vector<float> one = real_values(file, name.of(part), shape);
    values.insert(values.end(), one.begin(), one.end());
  }
  if (!shape.empty()) {
    std::vector<std::int64_t> whole = shape;
    whole.front() *= 3;
    renamed.add("blocks." + name.number + ".attn.qkv" + name.kind, std::move(whole), values);
  }
}

/// Tensors without a part in classification.
inline bool is_unused(const std::string& name) {
  return name.find("pooler.") != std::string::npos || name.ends_with("embeddings.mask_token");
}

}  // namespace detail

/// A checkpoint without the common prefix of its names, which is found, not listed: wrappers of models and training
/// scripts add theirs ("module.", "_orig_mod.", "model.vit."). As it is if there is none; else its name says so.
///
/// Errors:    file_error naming the tensor: two tensors with one name.
inline safetensors_file without_common_prefix(const safetensors_file& file) {
  const std::string prefix = detail::common_prefix(file);
  if (prefix.empty()) {
    return file;
  }
  detail::renamed_tensors renamed;
  for (const std::string& name : file.names()) {
    renamed.add(detail::without_prefix(name, prefix), file, name);
  }
  return renamed.file(file.name() + " (names without \"" + prefix + "\")", file.metadata());
}

/// timm's name of the tensor that has a name of Hugging Face's transformers, without a prefix. Other names are
/// returned unchanged.
inline std::string timm_name(std::string_view name) {
  const std::string_view unchanged = name;
  const std::size_t dot = name.rfind('.');
  const bool parameter = name.ends_with(".weight") || name.ends_with(".bias");
  std::string_view module = name.substr(0, parameter ? dot : name.size());
  const std::string kind(name.substr(module.size()));
  for (const detail::qkv_names& names : detail::all_qkv_names) {
    if (!module.starts_with(names.layers)) {
      continue;
    }
    module.remove_prefix(names.layers.size());
    const std::string_view number = module.substr(0, module.find('.'));
    module.remove_prefix(std::min(number.size() + 1, module.size()));
    for (const auto& [hugging_face, timm] : detail::block_names) {
      if (module == hugging_face) {
        return "blocks." + std::string(number) + '.' + std::string(timm) + kind;
      }
    }
  }
  for (const auto& [hugging_face, timm] : detail::model_names) {
    if (module == hugging_face) {
      return std::string(timm) + kind;
    }
  }
  return std::string(unchanged);
}

/// Whether the tensors of a checkpoint have the names of Hugging Face's transformers.
inline bool has_hugging_face_names(const safetensors_index& file) {
  const std::vector<std::string> names = file.names();
  return std::any_of(names.begin(), names.end(), [](const std::string& name) {
    return name.find("embeddings.patch_embeddings.projection.") != std::string::npos;
  });
}

/// A checkpoint under Hugging Face's names as one under timm's.
///
/// Tensors:   queries, keys and values of a block become one tensor; tensors without a part in classification (pooler,
///            mask token) are left out; names that are not Hugging Face's remain.
/// Metadata:  that of the file, with "ln_eps" 1e-12, Hugging Face's default, if the file has none.
/// Errors:    file_error, naming the tensor: another type than F32, F16, BF16 and F64, missing keys or values, keys or
///            values of another shape than the queries, two tensors with one name.
inline safetensors_file with_timm_names(const safetensors_file& file) {
  const std::string prefix = detail::common_prefix(file);
  detail::renamed_tensors renamed;
  for (const std::string& name : file.names()) {
    if (const std::optional<detail::qkv_name> qkv = detail::qkv_name::parse(name)) {
      if (qkv->part == 0) {
        detail::add_qkv(file, *qkv, renamed);
      } else {
        file.info(qkv->of(0));  // without queries the others would be lost
      }
    } else if (!detail::is_unused(name)) {
      renamed.add(timm_name(detail::without_prefix(name, prefix)), file, name);
    }
  }
  std::map<std::string, std::string> metadata = file.metadata();
  metadata.emplace("ln_eps", "1e-12");
  return renamed.file(file.name(), metadata);
}

}  // namespace INTACT_UNIT
}  // namespace intact
