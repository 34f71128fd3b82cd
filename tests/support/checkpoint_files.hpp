#pragma once

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "intact/io/safetensors.hpp"
#include "intact/io/safetensors_write.hpp"
#include "intact/quantize/float_vit.hpp"
#include "quantized_model.hpp"

// Checkpoints of random models under timm's and Hugging Face's names.

namespace intact_test {

/// The tensors of a checkpoint by name.
struct checkpoint_tensors {
  struct tensor {
    std::vector<std::int64_t> shape;
    std::vector<float> values;
  };
  std::map<std::string, tensor> all;
  std::map<std::string, std::string> metadata;

  void add(const std::string& name, const std::vector<std::int64_t>& shape, const float* values) {
    std::size_t size = 1;
    for (const std::int64_t n : shape) {
      size *= static_cast<std::size_t>(n);
    }
    all[name] = {shape, {values, values + size}};
  }
  void add(const std::string& name, const float_row& row) { add(name, {row.size()}, row.data()); }
  void add(const std::string& name, const float_linear& layer) {
    add(name + ".weight", {layer.weight.rows(), layer.weight.cols()}, layer.weight.data());
    add(name + ".bias", layer.bias);
  }
  void add(const std::string& name, const float_layernorm& norm) {
    add(name + ".weight", norm.weight);
    add(name + ".bias", norm.bias);
  }

  void write(const std::filesystem::path& path) const { write_safetensors(path, tensors(), metadata); }

  std::vector<std::byte> bytes() const { return safetensors_bytes("checkpoint", tensors(), metadata); }

  safetensors_file in_memory() const { return safetensors_file::parse(bytes(), "checkpoint"); }

  /// The same with elements of another type, F64, F16, BF16 or I32. Values that F16 lacks become infinite; those of F16
  /// and BF16 are cut off, not rounded.
  safetensors_file in_memory(dtype type) const {
    std::map<std::string, std::vector<std::byte>> bytes;
    std::vector<tensor_to_write> made;
    for (const auto& [name, one] : all) {
      std::vector<std::byte>& stored = bytes[name];
      for (const float value : one.values) {
        const auto append = [&stored](auto element) {
          const auto* const begin = reinterpret_cast<const std::byte*>(&element);
          stored.insert(stored.end(), begin, begin + sizeof element);
        };
        if (type == dtype::f64) {
          append(static_cast<double>(value));
        } else if (type == dtype::i32) {
          append(std::int32_t{1});
        } else if (type == dtype::bf16) {
          append(static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(value) >> 16));
        } else {
          append(f16_of(value));
        }
      }
      made.push_back({name, type, one.shape, stored});
    }
    return safetensors_file::parse(safetensors_bytes("checkpoint", made, metadata), "checkpoint");
  }

 private:
  static std::uint16_t f16_of(float value) {
    const int sign = std::signbit(value) ? 0x8000 : 0;
    const float magnitude = std::fabs(value);
    if (magnitude >= 65536) {
      return static_cast<std::uint16_t>(sign | 0x7c00);
    }
    const int exponent = magnitude < std::ldexp(1.0F, -14) ? -15 : std::ilogb(magnitude);
    const int fraction = static_cast<int>(std::ldexp(magnitude, exponent == -15 ? 24 : 10 - exponent));
    return static_cast<std::uint16_t>(sign | (exponent + 15) << 10 | (fraction & 1023));
  }

  std::vector<tensor_to_write> tensors() const {
    std::vector<tensor_to_write> made;
    for (const auto& [name, one] : all) {
      made.push_back(tensor_from(name, one.shape, one.values));
    }
    return made;
  }
};

inline constexpr vit_shape tiny_vit{.channels = 3,
                                    .height = 12,
                                    .image_width = 12,
                                    .patch = 4,
                                    .width = 12,
                                    .heads = 2,
                                    .hidden = 20,
                                    .depth = 2,
                                    .classes = 7};

/// The same with a distillation token.
inline constexpr vit_shape distilled_vit = [] {
  vit_shape shape = tiny_vit;
  shape.class_tokens = 2;
  return shape;
}();

/// A model under timm's names.
inline checkpoint_tensors timm_checkpoint(const float_vit& model) {
  const vit_shape& shape = model.shape;
  checkpoint_tensors made;
  made.add("patch_embed.proj", model.patch);
  made.all["patch_embed.proj.weight"].shape = {shape.width, shape.channels, shape.patch.height, shape.patch.width};
  made.add("cls_token", {1, 1, shape.width}, model.class_token.data());
  if (shape.class_tokens == 2) {
    made.add("dist_token", {1, 1, shape.width}, model.class_token.data() + shape.width);
  }
  made.add("pos_embed", {1, shape.tokens(), shape.width}, model.positions.data());
  for (std::size_t i = 0; i < model.blocks.size(); ++i) {
    const std::string name = "blocks." + std::to_string(i) + '.';
    made.add(name + "norm1", model.blocks[i].norm1);
    made.add(name + "attn.qkv", model.blocks[i].qkv);
    made.add(name + "attn.proj", model.blocks[i].proj);
    made.add(name + "norm2", model.blocks[i].norm2);
    if (shape.qk_norm) {
      made.add(name + "attn.q_norm", model.blocks[i].q_norm);
      made.add(name + "attn.k_norm", model.blocks[i].k_norm);
    }
    float_linear fc1 = model.blocks[i].fc1;
    if (shape.gated) {  // the layer that the gate multiplies is below it
      const index_t hidden = shape.hidden;
      fc1.weight.conservativeResize(2 * hidden, shape.width);
      fc1.weight.bottomRows(hidden) = model.blocks[i].up.weight;
      fc1.bias.conservativeResize(2 * hidden);
      fc1.bias.tail(hidden) = model.blocks[i].up.bias;
    }
    made.add(name + "mlp.fc1", fc1);
    made.add(name + "mlp.fc2", model.blocks[i].fc2);
  }
  made.add("norm", model.norm);
  for (index_t token = 0; token < shape.class_tokens; ++token) {  // the logits are the average of the heads'
    const float_matrix part = model.head.weight.middleCols(token * shape.width, shape.width);
    const float share = static_cast<float>(shape.class_tokens);
    made.add(token == 0 ? "head" : "head_dist", float_linear{part * share, model.head.bias});
  }
  made.metadata = {{"heads", std::to_string(shape.heads)}};
  return made;
}

/// Replacements in names, one after the other.
using name_replacements = std::vector<std::pair<std::string, std::string>>;

/// The name after those replacements that apply, each once.
inline std::string replaced(std::string name, const name_replacements& replacements) {
  for (const auto& [from, to] : replacements) {
    const std::size_t at = name.find(from);
    if (at != std::string::npos) {
      name.replace(at, from.size(), to);
    }
  }
  return name;
}

/// The tensors of timm's names under Hugging Face's. `model` begins their names, "vit."; `attention` those of queries,
/// keys and values in a block.
inline checkpoint_tensors with_hugging_face_names(const checkpoint_tensors& timm, const name_replacements& names,
                                                  const std::string& model, const std::string& attention) {
  checkpoint_tensors made;
  made.metadata = timm.metadata;
  for (const auto& [name, tensor] : timm.all) {
    const std::string theirs = replaced(name.starts_with("norm.") ? model + "layer" + name : name, names);
    const std::size_t qkv = theirs.find("attn.qkv");
    if (qkv == std::string::npos) {
      made.all[theirs] = tensor;
      continue;
    }
    const std::size_t third = tensor.values.size() / 3;
    std::vector<std::int64_t> shape = tensor.shape;
    shape[0] /= 3;
    std::size_t first = 0;
    for (const char* const part : {"query", "key", "value"}) {
      std::string one = theirs;
      made.add(one.replace(qkv, 8, attention + part), shape, tensor.values.data() + first);
      first += third;
    }
  }
  const float unused[] = {0};
  made.add(model + "pooler.dense.weight", {1, 1}, unused);
  made.add(model + "embeddings.mask_token", {1}, unused);
  return made;
}

/// The same model under Hugging Face's names, with tensors without a part in classification.
inline checkpoint_tensors hugging_face_checkpoint(const float_vit& model) {
  const checkpoint_tensors timm = timm_checkpoint(model);
  return with_hugging_face_names(timm,
                                 {{"patch_embed.proj", "vit.embeddings.patch_embeddings.projection"},
                                  {"cls_token", "vit.embeddings.cls_token"},
                                  {"pos_embed", "vit.embeddings.position_embeddings"},
                                  {"blocks.", "vit.encoder.layer."},
                                  {".norm1", ".layernorm_before"},
                                  {".norm2", ".layernorm_after"},
                                  {"attn.proj", "attention.output.dense"},
                                  {"mlp.fc1", "intermediate.dense"},
                                  {"mlp.fc2", "output.dense"},
                                  {"head_dist", "distillation_classifier"},
                                  {"dist_token", "vit.embeddings.distillation_token"},
                                  {"head", timm.all.contains("head_dist.weight") ? "cls_classifier" : "classifier"}},
                                 "vit.", "attention.attention.");
}

}  // namespace intact_test
