#include <cstdlib>
#include <filesystem>
#include <set>
#include <string>

#include "cases.hpp"
#include "catch.hpp"
#include "intact/quantize/load_checkpoint.hpp"
#include "refusal.hpp"

// Checkpoints as people have them, made of DeiT-Tiny, where their folder is at hand: which load, and with which words
// the others are refused.

namespace intact_test::checkpoint_table_test {
namespace {

struct expectation {
  const char* file;
  const char* words;  ///< of the refusal; empty: it loads
};

constexpr expectation expectations[] = {
    {"all_zero", ""},
    {"beit_relpos",
     "\"blocks.0.attn.relative_position_index\" has no place in a vision transformer of this architecture"},
    {"bf16", ""},
    {"clip_norm_pre", ""},
    {"dead_block0", ""},
    {"deit3_timm", ""},
    {"dinov2_reg_timm", ""},
    {"f16", ""},
    {"f16_norms_only", ""},
    {"f64", ""},
    {"gap_no_cls", ""},
    {"head_channel_zero", ""},
    {"head_fc", ""},
    {"head_zero", ""},
    {"hf_bare", ""},
    {"hf_deit", ""},
    {"hf_deit_distilled", ""},
    {"hf_deit_imgcls", ""},
    {"hf_dinov2", ""},
    {"hf_module", ""},
    {"hf_no_qkv_bias", ""},
    {"hf_pooler", ""},
    {"hf_v5", ""},
    {"hf_vit", ""},
    {"hf_vit_f16", ""},
    {"layerscale_timm", ""},
    {"mae_fc_norm", ""},
    {"mask_token", ""},
    {"nan_weight", "\"blocks.3.mlp.fc1.weight\" has the value nan at row 5, column 6; it must be finite"},
    {"no_embed_class", ""},
    {"no_head", ""},
    {"no_heads_meta", ""},
    {"no_qkv_bias", ""},
    {"one_channel", ""},
    {"one_class", ""},
    {"patch_nonsquare", ""},
    {"prefix_model", ""},
    {"prefix_module", ""},
    {"prefix_orig_mod", ""},
    {"qk_norm", ""},
    {"st_bom", "the header must begin with '{'"},
    {"st_extra_field", ""},
    {"st_f4", "\"extra\" has no place in a vision transformer of this architecture"},
    {"st_git_lfs_pointer", "is no safetensors file, but a Git LFS pointer"},
    {"st_leading_space", ""},
    {"st_meta_absent", ""},
    {"st_meta_empty", ""},
    {"st_meta_nested", "__metadata__"},
    {"st_meta_null", ""},
    {"st_meta_number", "__metadata__"},
    {"st_meta_only_466", "the header is not valid JSON"},
    {"st_nul_padded", "of the header is 0, a control character"},
    {"st_pretty", ""},
    {"st_tabs", ""},
    {"st_trailing_buffer", "the tensors end at byte 22869664 of the buffer, which has 22869672"},
    {"st_trailing_newline", ""},
    {"st_trailing_spaces", ""},
    {"st_zero_size", "\"extra\" has no place in a vision transformer of this architecture"},
    {"torch_pth_renamed", "is no safetensors file, but a ZIP archive"},
    {"two_class", ""},
};

/// The refusal of a checkpoint; empty if it loads.
std::string refusal_of(const std::filesystem::path& path) {
  try {
    const auto file = intact::safetensors_file::read(path);
    intact::load_checkpoint(file, {.config = intact::read_checkpoint_config(file, path.parent_path())});
  } catch (const intact::file_error& error) {
    return error.what();
  }
  return {};
}

}  // namespace

TEST_CASE("load_checkpoint: checkpoints as people have them load, or are refused with the expected words", "[data]") {
  const char* const folder = std::getenv("INTACT_CHECKPOINTS_DIR");
  if (folder == nullptr) {
    report_skipped("INTACT_CHECKPOINTS_DIR names no folder of checkpoints");
    return;
  }
  std::set<std::string> found;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    found.insert(entry.path().stem().string());
  }
  for (const auto& [name, words] : expectations) {
    const std::filesystem::path path = std::filesystem::path(folder) / (std::string(name) + ".safetensors");
    const std::string refused = refusal_of(path);
    INFO(refused);
    CAPTURE(name);
    if (std::string(words).empty()) {
      CHECK(refused.empty());
    } else {
      CHECK(mentions(refused, path.string() + ": "));
      CHECK(mentions(refused, words));
    }
    found.erase(name);
  }
  CHECK(found.empty());  // each file has a line in the table
}

}  // namespace intact_test::checkpoint_table_test
