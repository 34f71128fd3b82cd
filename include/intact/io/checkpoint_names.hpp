#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "intact/config/floating_point.hpp"
#include "intact/io/named_tensors.hpp"
#include "intact/io/nearest_name.hpp"
#include "intact/io/safetensors.hpp"

// The names of tensors in checkpoints of vision transformers (ViT, DeiT, DINOv2, Swin): those of Hugging Face's
// transformers and of torchvision, and timm's, which quantize/ reads.

namespace intact {
inline namespace INTACT_UNIT {

namespace detail {

/// A name of theirs, and timm's. "*" is a number, the same in both.
using name_pair = std::pair<std::string_view, std::string_view>;

/// The begin of the names in a block: Hugging Face's ViT, the same since version 5, Hugging Face's Swin, torchvision's
/// ViT, and DINOv2's own code, most of whose names are timm's.
inline constexpr name_pair block_begins[] = {{"encoder.layer.*.", "blocks.*."},
                                             {"layers.*.", "blocks.*."},
                                             {"encoder.layers.*.blocks.*.", "layers.*.blocks.*."},
                                             {"encoder.layers.encoder_layer_*.", "blocks.*."},
                                             {"blocks.*.", "blocks.*."}};

/// Parts of a block: Hugging Face's (ViT and DeiT, the same since version 5, DINOv2, Swin), then torchvision's.
inline constexpr name_pair block_names[] = {
    {"layernorm_before", "norm1"},
    {"norm1", "norm1"},
    {"attention.output.dense", "attn.proj"},
    {"attention.o_proj", "attn.proj"},
    {"attention.self.relative_position_bias_table", "attn.relative_position_bias_table"},
    {"attention.self.relative_position_index", "attn.relative_position_index"},
    {"layer_scale1.lambda1", "ls1.gamma"},
    {"layernorm_after", "norm2"},
    {"norm2", "norm2"},
    {"intermediate.dense", "mlp.fc1"},
    {"mlp.fc1", "mlp.fc1"},
    {"output.dense", "mlp.fc2"},
    {"mlp.fc2", "mlp.fc2"},
    {"mlp.weights_in", "mlp.fc1"},  // DINOv2's with a gate
    {"mlp.weights_out", "mlp.fc2"},
    {"mlp.w12", "mlp.fc1"},  // the same in DINOv2's own code
    {"mlp.w3", "mlp.fc2"},
    {"layer_scale2.lambda1", "ls2.gamma"},
    {"ln_1", "norm1"},
    {"self_attention.in_proj_weight", "attn.qkv.weight"},
    {"self_attention.in_proj_bias", "attn.qkv.bias"},
    {"self_attention.out_proj", "attn.proj"},
    {"ln_2", "norm2"},
    {"mlp.0", "mlp.fc1"},
    {"mlp.linear_1", "mlp.fc1"},
    {"mlp.3", "mlp.fc2"},
    {"mlp.linear_2", "mlp.fc2"}};

/// A block's queries, keys and values, which Hugging Face stores one by one.
inline constexpr std::array<std::string_view, 3> qkv_names[] = {
    {"attention.attention.query", "attention.attention.key", "attention.attention.value"},
    {"attention.q_proj", "attention.k_proj", "attention.v_proj"},
    {"attention.self.query", "attention.self.key", "attention.self.value"}};

/// Names outside the blocks, Hugging Face's.
inline constexpr name_pair hugging_face_names[] = {
    {"embeddings.cls_token", "cls_token"},
    {"embeddings.distillation_token", "dist_token"},
    {"embeddings.register_tokens", "reg_token"},
    {"register_tokens", "reg_token"},  // of DINOv2's own code
    {"embeddings.position_embeddings", "pos_embed"},
    {"embeddings.patch_embeddings.projection", "patch_embed.proj"},
    {"embeddings.norm", "patch_embed.norm"},
    {"encoder.layers.*.downsample.norm", "layers.*.downsample.norm"},
    {"encoder.layers.*.downsample.reduction", "layers.*.downsample.reduction"},
    {"layernorm", "norm"},
    {"classifier", "head"},
    {"cls_classifier", "head"},
    {"distillation_classifier", "head_dist"}};

/// The same of torchvision's ViT. Its Swin transformers have numbers, see timm_name.
inline constexpr name_pair torchvision_names[] = {{"class_token", "cls_token"},
                                                  {"encoder.pos_embedding", "pos_embed"},
                                                  {"conv_proj", "patch_embed.proj"},
                                                  {"encoder.ln", "norm"},
                                                  {"heads.head", "head"}};

/// The first layer, which every vision transformer has: timm's name, Hugging Face's, and torchvision's of ViT and Swin.
inline constexpr std::string_view first_layers[] = {"patch_embed.proj.weight",
                                                    "embeddings.patch_embeddings.projection.weight", "conv_proj.weight",
                                                    "features.0.0.weight"};

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
  const std::size_t common = static_cast<std::size_t>(
      std::mismatch(name.begin(), name.end(), prefix.begin(), prefix.end()).first - name.begin());
  const std::size_t dot = name.substr(0, common).rfind('.');
  return std::string(name.substr(dot == std::string_view::npos ? 0 : dot + 1));
}

/// If a name begins with a pattern: the same begin of timm's, and the rest of the name.
inline std::optional<std::pair<std::string, std::string_view>> match_begin(const name_pair& pair,
                                                                           std::string_view name) {
  std::vector<std::string_view> numbers;
  for (const char c : pair.first) {
    if (c == '*') {
      const std::size_t digits = std::min(name.find_first_not_of("0123456789"), name.size());
      if (digits == 0) {
        return std::nullopt;
      }
      numbers.push_back(name.substr(0, digits));
      name.remove_prefix(digits);
    } else if (name.starts_with(c)) {
      name.remove_prefix(1);
    } else {
      return std::nullopt;
    }
  }
  std::string timms;
  std::size_t next = 0;
  for (const char c : pair.second) {
    timms += c == '*' ? std::string(numbers[next++]) : std::string(1, c);
  }
  return std::pair(timms, name);
}

/// A name of a parameter as that of its module, and ".weight", ".bias" or nothing.
inline std::pair<std::string_view, std::string_view> split_kind(std::string_view name) {
  const bool parameter = name.ends_with(".weight") || name.ends_with(".bias");
  const std::size_t end = parameter ? name.rfind('.') : name.size();
  return {name.substr(0, end), name.substr(end)};
}

/// timm's name of a part of a block.
inline std::optional<std::string> block_part_name(std::string_view part) {
  const auto [module, kind] = split_kind(part);
  for (const auto& [theirs, timms] : block_names) {
    if (module == theirs) {
      return std::string(timms) + std::string(kind);
    }
  }
  return std::nullopt;
}

/// timm's name of a tensor of torchvision's Swin transformers: features 0 are the patches, odd features the Swin
/// stages, even ones the merging after them.
inline std::optional<std::string> swin_feature_name(std::string_view name) {
  const auto match = match_begin({"features.*.", "*"}, name);
  if (!match || match->first.size() > 3) {
    return std::nullopt;
  }
  const int feature = std::stoi(match->first);
  if (feature == 0) {
    const auto [module, kind] = split_kind(match->second);
    return module == "0"   ? std::optional("patch_embed.proj" + std::string(kind))
           : module == "2" ? std::optional("patch_embed.norm" + std::string(kind))
                           : std::nullopt;
  }
  const std::string stage = "layers." + std::to_string((feature - 1) / 2) + '.';
  if (feature % 2 == 0) {
    return stage + "downsample." + std::string(match->second);
  }
  const auto block = match_begin({"*.", "*."}, match->second);
  if (!block) {
    return std::nullopt;
  }
  return stage + "blocks." + block->first + block_part_name(block->second).value_or(std::string(block->second));
}

/// A tensor of queries, keys or values alone.
struct qkv_part {
  std::string timms;                  ///< timm's name of all three
  std::size_t part = 0;               ///< which of the three it is
  std::array<std::string, 3> theirs;  ///< without a prefix

  /// No value if the name is another tensor's.
  static std::optional<qkv_part> parse(std::string_view name) {
    for (const name_pair& begin : block_begins) {
      const auto match = match_begin(begin, name);
      if (!match) {
        continue;
      }
      const auto [module, kind] = split_kind(match->second);
      for (const std::array<std::string_view, 3>& names : qkv_names) {
        const auto found = std::find(names.begin(), names.end(), module);
        if (found == names.end()) {
          continue;
        }
        qkv_part one{
            match->first + "attn.qkv" + std::string(kind), static_cast<std::size_t>(found - names.begin()), {}};
        for (std::size_t part = 0; part < names.size(); ++part) {
          one.theirs[part] = std::string(name.substr(0, name.size() - match->second.size())) +
                             std::string(names[part]) + std::string(kind);
        }
        return one;
      }
    }
    return std::nullopt;
  }
};

/// Tensors without a part in classification.
inline bool is_unused(std::string_view name) {
  return name.find("pooler.") != std::string_view::npos || name == "mask_token" || name == "embeddings.mask_token";
}

}  // namespace detail

/// timm's name of the tensor that has a name of Hugging Face's transformers or of torchvision, without a prefix. Other
/// names are returned unchanged.
inline std::string timm_name(std::string_view name) {
  for (const detail::name_pair& begin : detail::block_begins) {
    if (const auto match = detail::match_begin(begin, name)) {
      if (const std::optional<std::string> part = detail::block_part_name(match->second)) {
        return match->first + *part;
      }
    }
  }
  if (const std::optional<std::string> feature = detail::swin_feature_name(name)) {
    return *feature;
  }
  const auto [module, kind] = detail::split_kind(name);
  const auto named_in = [&, module = module](const auto& names) -> std::optional<std::string> {
    for (const detail::name_pair& pair : names) {
      const auto match = detail::match_begin(pair, module);
      if (match && match->second.empty()) {
        return match->first;
      }
    }
    return std::nullopt;
  };
  std::optional<std::string> timms = named_in(detail::hugging_face_names);
  timms = timms ? timms : named_in(detail::torchvision_names);
  return timms ? *timms + std::string(kind) : std::string(name);
}

/// Whether the tensors of a checkpoint have the names of Hugging Face's transformers.
inline bool has_hugging_face_names(const safetensors_index& file) {
  const std::vector<std::string> names = file.names();
  return std::any_of(names.begin(), names.end(), [](const std::string& name) {
    return name.find("embeddings.patch_embeddings.projection.") != std::string::npos;
  });
}

/// The tensors of a checkpoint under timm's names. The file must outlive them.
///
/// Names:     those of timm, FQ-ViT, Hugging Face's transformers and torchvision. A common prefix is found, not listed:
///            wrappers of models and training scripts add theirs ("module.", "_orig_mod.", "model.vit."). Names that
///            are not known remain, without the prefix.
/// Tensors:   queries, keys and values of a block that are stored one by one become one tensor; those without a part
///            in classification (pooler, mask token) are left out, see named_tensors::unused.
/// Errors:    file_error, naming the tensor: missing keys or values, keys or values of another shape than the queries,
///            two tensors with one name.
inline named_tensors with_timm_names(const safetensors_file& file) {
  named_tensors renamed(file, detail::common_prefix(file));
  for (const std::string& name : file.names()) {
    const std::string own = detail::without_prefix(name, renamed.prefix());
    const std::string begin = name.substr(0, name.size() - own.size());
    if (const std::optional<detail::qkv_part> qkv = detail::qkv_part::parse(own)) {
      if (qkv->part == 0) {
        renamed.add(qkv->timms, {name, begin + qkv->theirs[1], begin + qkv->theirs[2]});
      } else {
        file.info(begin + qkv->theirs[0]);  // without queries the others would be lost
      }
    } else if (detail::is_unused(own)) {
      renamed.leave_out(name);
    } else {
      renamed.add(timm_name(own), {name});
    }
  }
  return renamed;
}

namespace detail {

/// Their name of a module outside the blocks that timm calls so.
template <class Names>
std::optional<std::string> name_of_theirs(const Names& names, std::string_view timms) {
  for (const name_pair& pair : names) {
    if (pair.second == timms) {
      return std::string(pair.first);
    }
  }
  return std::nullopt;
}

}  // namespace detail

/// The name that a missing tensor would have in a file: as its weight or bias is called, or the same tensor of another
/// block; else, outside the blocks, as the file's naming calls it. A name in a block that no other tensor tells is
/// timm's, after the file's prefix.
inline std::string expected_tensor_name(const named_tensors& tensors, const std::string& timms) {
  const auto [module, kind] = detail::split_kind(timms);
  const std::string other = std::string(module) + (kind == ".bias" ? ".weight" : ".bias");
  if (!kind.empty() && tensors.contains(other)) {
    return std::string(detail::split_kind(tensors.originals(other).front()).first) + std::string(kind);
  }
  const name_pattern pattern(timms);
  for (const std::string& known : tensors.names()) {
    const name_pattern alike(known);
    if (alike.text != pattern.text || alike.numbers.size() != 1) {
      continue;
    }
    const std::string& original = tensors.originals(known).front();
    const std::size_t number = original.find(alike.numbers.front() + '.', tensors.prefix().size());
    if (number != std::string::npos) {
      return std::string(original).replace(number, alike.numbers.front().size(), pattern.numbers.front());
    }
  }
  const std::string first = "patch_embed.proj.weight";
  const std::string original = tensors.contains(first) ? tensors.originals(first).front() : first;
  const std::optional<std::string> theirs =
      original.ends_with(detail::first_layers[1])   ? detail::name_of_theirs(detail::hugging_face_names, module)
      : original.ends_with(detail::first_layers[2]) ? detail::name_of_theirs(detail::torchvision_names, module)
                                                    : std::nullopt;
  if (!theirs) {
    return tensors.prefix() + timms;
  }
  std::string begin = tensors.prefix();
  if (timms.starts_with("head") && !begin.empty()) {  // heads are outside the wrapped model
    begin.pop_back();
    begin.resize(begin.find_last_of('.') + 1);  // 0 if there is none
  }
  return begin + *theirs + std::string(kind);
}

/// Patterns of timm's names that some vision transformer has, for list_unknown().
inline std::set<std::string> known_name_patterns() {
  std::set<std::string> known = {"reg_token",    "mask_token",      "fc_norm.weight",
                                 "fc_norm.bias", "norm_pre.weight", "norm_pre.bias"};
  const auto add = [&](const std::string& begin, std::string_view module) {
    const bool parameter = module.ends_with("_token") || module.ends_with("_embed") || module.ends_with(".gamma") ||
                           module.ends_with(".weight") || module.ends_with(".bias") ||
                           module.find("relative_position") != std::string_view::npos;
    for (const char* const kind : {".weight", ".bias"}) {
      known.insert(begin + std::string(module) + (parameter ? "" : kind));
    }
  };
  for (const auto& [theirs, timms] : detail::hugging_face_names) {
    add("", timms);
  }
  add("blocks.*.", "attn.q_norm");
  add("blocks.*.", "attn.k_norm");
  for (const std::string begin : {"blocks.*.", "layers.*.blocks.*."}) {
    for (const auto& [theirs, timms] : detail::block_names) {
      add(begin, timms);
    }
  }
  return known;
}

}  // namespace INTACT_UNIT
}  // namespace intact
