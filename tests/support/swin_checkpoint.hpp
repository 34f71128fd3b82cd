#pragma once

#include <cstddef>
#include <string>

#include "checkpoint_files.hpp"
#include "intact/quantize/float_swin.hpp"
#include "random_swin.hpp"

// Checkpoints of random Swin transformers under the names of timm, Hugging Face's transformers and torchvision.

namespace intact_test {

/// 6 x 6 tokens in windows of 4, which are shifted and padded, then 3 x 3 in windows of 3.
inline constexpr swin_shape tiny_swin{.channels = 3,
                                      .height = 24,
                                      .image_width = 24,
                                      .patch = 4,
                                      .stages = 2,
                                      .stage = {{{8, 2, 20, 2, 4}, {12, 3, 28, 1, 3}}},
                                      .classes = 7};

/// A model under timm's names, old or new.
inline checkpoint_tensors timm_checkpoint(const float_swin& model, bool new_names = false) {
  const index_t width = model.shape.of(0).width, patch = model.shape.patch;
  checkpoint_tensors made;
  made.add("patch_embed.proj", model.patch);
  made.all["patch_embed.proj.weight"].shape = {width, model.shape.channels, patch, patch};
  made.add("patch_embed.norm", model.patch_norm);
  const auto add_matrix = [&](const std::string& name, const float_matrix& matrix) {
    made.add(name, {matrix.rows(), matrix.cols()}, matrix.data());
  };
  for (std::size_t s = 0; s < model.stages.size(); ++s) {
    const std::string layer = "layers." + std::to_string(s);
    for (std::size_t b = 0; b < model.stages[s].blocks.size(); ++b) {
      const float_swin_block& block = model.stages[s].blocks[b];
      const std::string name = layer + ".blocks." + std::to_string(b);
      made.add(name + ".norm1", block.block.norm1);
      made.add(name + ".attn.qkv", block.block.qkv);
      made.add(name + ".attn.proj", block.block.proj);
      add_matrix(name + ".attn.relative_position_bias_table", block.position_bias);
      made.add(name + ".norm2", block.block.norm2);
      made.add(name + ".mlp.fc1", block.block.fc1);
      made.add(name + ".mlp.fc2", block.block.fc2);
    }
    if (s + 1 < model.stages.size()) {
      const std::string merging = "layers." + std::to_string(s + (new_names ? 1 : 0)) + ".downsample";
      made.add(merging + ".norm", model.stages[s].merge_norm);
      add_matrix(merging + ".reduction.weight", model.stages[s].reduction);
    }
  }
  made.add("norm", model.norm);
  made.add(new_names ? "head.fc" : "head", model.head);
  return made;
}

/// The same model under Hugging Face's names.
inline checkpoint_tensors hugging_face_checkpoint(const float_swin& model) {
  return with_hugging_face_names(timm_checkpoint(model),
                                 {{"patch_embed.proj", "swin.embeddings.patch_embeddings.projection"},
                                  {"patch_embed.norm", "swin.embeddings.norm"},
                                  {"layers.", "swin.encoder.layers."},
                                  {".norm1", ".layernorm_before"},
                                  {".norm2", ".layernorm_after"},
                                  {"attn.proj", "attention.output.dense"},
                                  {"attn.relative", "attention.self.relative"},
                                  {"mlp.fc1", "intermediate.dense"},
                                  {"mlp.fc2", "output.dense"},
                                  {"head", "classifier"}},
                                 "swin.", "attention.self.");
}

/// torchvision's name of a tensor of a Swin transformer of two stages, from timm's old name.
inline std::string torchvision_name(const std::string& timm) {
  return replaced(timm, {{"patch_embed.proj", "features.0.0"},
                         {"patch_embed.norm", "features.0.2"},
                         {"layers.0.blocks", "features.1"},
                         {"layers.0.downsample", "features.2"},
                         {"layers.1.blocks", "features.3"},
                         {"mlp.fc1", "mlp.0"},
                         {"mlp.fc2", "mlp.3"}});
}

}  // namespace intact_test
