#include "intact/quantize/load_swin_checkpoint.hpp"

#include <map>
#include <string>
#include <vector>

#include "catch.hpp"
#include "made_image.hpp"
#include "refusal.hpp"
#include "swin_checkpoint.hpp"

namespace intact_test::load_swin_checkpoint_test {
namespace {

using intact::checkpoint_config;
using intact::checkpoint_options;
using intact::image_sides;
using intact::read_swin_checkpoint;
using intact::value_origin;

const float_swin& model() {
  static const float_swin made = float_swin_builder(tiny_swin, 31).model();
  return made;
}

const checkpoint_tensors& timm() {
  static const checkpoint_tensors made = timm_checkpoint(model());
  return made;
}

/// Values that do not depend on ImageNet's numbers: those of the random model.
const checkpoint_options exact_options{.model = {.mean = {0.45F}, .standard_deviation = {0.25F}}};

/// "value|source" of every value by name.
std::map<std::string, std::string> values_of(const intact::loaded_swin_checkpoint& loaded) {
  std::map<std::string, std::string> all;
  for (const intact::checkpoint_value& one : loaded.values) {
    all[one.name] += one.value + "|" + (one.origin == value_origin::option ? "option" : one.source);
  }
  return all;
}

/// The refusal of a checkpoint.
std::string error_of(const checkpoint_options& options, const checkpoint_tensors& tensors = timm()) {
  return refusal<file_error>([&] { read_swin_checkpoint(tensors.in_memory(), options); });
}

/// The refusal of a configuration with one size.
std::string error_of_size(const std::string& key, index_t value) {
  checkpoint_config config;
  config.sizes = {{key, value, "config"}};
  return error_of({.config = config});
}

}  // namespace

TEST_CASE("has_stages: tells checkpoints of Swin transformers from those of ViT") {
  const auto of = [](const checkpoint_tensors& tensors) {
    const safetensors_file file = tensors.in_memory();
    return intact::has_stages(intact::with_timm_names(file));
  };
  CHECK(of(timm()));
  CHECK(of(hugging_face_checkpoint(model())));
  CHECK_FALSE(of(timm_checkpoint(random_float_vit(tiny_vit))));
  CHECK_FALSE(of(hugging_face_checkpoint(random_float_vit(tiny_vit))));
}

TEST_CASE("read_swin_checkpoint: names of timm, Hugging Face and torchvision give the same model") {
  const rgb_image image = made_image(24, 24);
  const std::vector<float> expected = intact::forward(model(), image.view());
  checkpoint_tensors torchvision, wrapped;
  for (const auto& [name, tensor] : timm().all) {
    torchvision.all[torchvision_name(name)] = tensor;
    wrapped.all["module.model." + name] = tensor;
  }
  for (const checkpoint_tensors& tensors :
       {timm(), timm_checkpoint(model(), true), hugging_face_checkpoint(model()), torchvision, wrapped}) {
    CAPTURE(tensors.all.begin()->first);
    const safetensors_file file = tensors.in_memory();
    const auto loaded = read_swin_checkpoint(file, exact_options);
    CHECK(loaded.model.shape == tiny_swin);
    CHECK(intact::forward(loaded.model, image.view()) == expected);
    CHECK(loaded.unused.size() == (intact::has_hugging_face_names(file) ? 2U : 0U));
  }
}

TEST_CASE("read_swin_checkpoint: assumes values of published models, and tells where each comes from") {
  const auto loaded = read_swin_checkpoint(timm().in_memory());
  CHECK(loaded.model.epsilon == 1e-5F);
  const std::map<std::string, std::string> expected = {
      {"mean", "0.485 0.456 0.406|that of ImageNet"},
      {"std", "0.229 0.224 0.225|that of ImageNet"},
      {"epsilon", "1e-05|that of Swin transformers"},
      {"activation", "gelu|that of most models"},
      {"size", "24|with it the last stage is one window"},
      {"crop", "0.875|default"},
      {"interpolation", "bicubic|default"},
      {"resize", "center|default"},
      {"windows", "of 4 padded, then shifted in stage 0, 6 x 6 tokens|as in torchvision; timm shifts first"}};
  CHECK(values_of(loaded) == expected);
  CHECK(loaded.preprocessing.size == image_sides(24));

  // Windows of 7 and 12 in four stages, as published.
  for (const auto& [window, side] : {std::pair<index_t, index_t>{7, 224}, {12, 384}}) {
    swin_shape shape{.patch = 4, .stages = 4};
    shape.stage[3].window = window;
    CHECK(intact::detail::assumed_sides(shape) == image_sides(side));
  }

  checkpoint_config config;
  config.epsilon = {1e-3, "config"};
  config.activation = {"relu", "config"};
  config.crop = {0.9, "config"};
  auto values = values_of(read_swin_checkpoint(timm().in_memory(), {.config = config}));
  CHECK(values.at("epsilon") == "0.001|config");
  CHECK(values.at("activation") == "relu|config");
  CHECK(values.at("crop") == "0.9|config");
  const auto given = read_swin_checkpoint(
      timm().in_memory(),
      {.model = {.epsilon = 0.5F, .activation = intact::activation_function::silu}, .config = config});
  CHECK(values_of(given).at("epsilon") == "0.5|option");
  CHECK(given.model.stages[0].blocks[1].block.activation == intact::activation_function::silu);
}

TEST_CASE("read_swin_checkpoint: images of one channel have the average of ImageNet's channels") {
  swin_shape gray = tiny_swin;
  gray.channels = 1;
  const auto loaded = read_swin_checkpoint(timm_checkpoint(float_swin_builder(gray, 32).model()).in_memory());
  CHECK(loaded.model.mean ==
        std::vector<float>{static_cast<float>((double{0.485F} + double{0.456F} + double{0.406F}) / 3)});
  CHECK(mentions(values_of(loaded).at("std"), "|the average of ImageNet's channels"));
}

TEST_CASE("read_swin_checkpoint: the image size is the option's, the metadata's, the configuration's or assumed") {
  checkpoint_config config;
  checkpoint_tensors stated = timm();
  const auto size_of = [&](const checkpoint_options& options) {
    const auto loaded = read_swin_checkpoint(stated.in_memory(), options);
    CHECK(loaded.preprocessing.size == image_sides(loaded.model.shape.height, loaded.model.shape.image_width));
    return values_of(loaded).at("size");
  };
  config.trained_size = {{32, 48}, "trained"};
  CHECK(size_of({.config = config}) == "32 x 48|trained");
  config.image_size = {{40}, "prepared"};
  CHECK(size_of({.config = config}) == "40|prepared");
  stated.metadata["img_size"] = "28";
  CHECK(size_of({.config = config}) == "28|metadata \"img_size\"");
  CHECK(size_of({.image_size = image_sides(32, 16), .config = config}) == "32 x 16|option");

  CHECK(error_of({.image_size = image_sides(24, 26)}) ==
        "checkpoint: the image size is 24 x 26; its sides must be multiples of that of a patch, 4");
  config.image_size = {{22, 24}, "prepared"};
  CHECK(mentions(error_of({.config = config}), "prepared is 22 x 24; its sides must be multiples"));
  CHECK(mentions(error_of({.image_size = image_sides(65536)}), "images of 65536 x 65536 pixels make 268435456 tokens"));
}

TEST_CASE("read_swin_checkpoint: tells where implementations treat windows differently") {
  const auto windows = [](index_t height, index_t width) {
    auto values = values_of(read_swin_checkpoint(timm().in_memory(), {.image_size = image_sides(height, width)}));
    return values["windows"];
  };
  CHECK(windows(32, 48).empty());  // the second stage of one block never shifts
  CHECK(windows(24, 32) == "of 4 padded, then shifted in stage 0, 6 x 8 tokens|as in torchvision; timm shifts first");
  CHECK(windows(32, 24) == "of 4 padded, then shifted in stage 0, 8 x 6 tokens|as in torchvision; timm shifts first");
  CHECK(windows(16, 24).starts_with("of 4 not shifted in stage 0, 4 x 6 tokens|as in the original"));
  CHECK(windows(16, 16) == "of 3 padded in stage 1, 2 x 2 tokens|as in torchvision; timm makes windows smaller");
  CHECK(windows(24, 8).starts_with("of 4 padded in stage 0, 6 x 2 tokens|as in torchvision; timm"));
}

TEST_CASE("read_swin_checkpoint: refuses configurations that contradict the tensors, naming the key") {
  for (const auto& [key, right] : {std::pair<const char*, index_t>{"embed_dim", 8},
                                   {"hidden_size", 12},
                                   {"num_features", 12},
                                   {"num_layers", 2},
                                   {"patch_size", 4},
                                   {"patch_width", 4},
                                   {"num_channels", 3},
                                   {"num_labels", 7},
                                   {"window_size", 4},
                                   {"depths 0", 2},
                                   {"depths 1", 1},
                                   {"num_heads 0", 2},
                                   {"num_heads 1", 3}}) {
    CAPTURE(key);
    CHECK(error_of_size(key, right).empty());
    CHECK(error_of_size(key, 9) == "checkpoint: config is 9; the tensors have " + std::to_string(right));
  }
  CHECK(mentions(error_of_size("depths 2", 2), "the tensors have 2 stages"));
  checkpoint_config config;
  config.pooling = {"token", "config"};
  CHECK(mentions(error_of({.config = config}), "config is \"token\"; it must be \"avg\""));
  config.pooling = {"avg", "config"};
  CHECK(error_of({.config = config}).empty());
  config.mean = {{1, 2}, "config"};
  CHECK(mentions(error_of({.config = config}), "config is of 2 numbers; it must have 1 or, one per channel, 3"));
}

TEST_CASE("read_swin_checkpoint: refuses options without a choice, and other models") {
  for (const auto& options :
       {checkpoint_options{.model = {.heads = 2}}, checkpoint_options{.model = {.without_head = true}},
        checkpoint_options{.model = {.pooling = intact::vit_pooling::mean}}}) {
    CHECK(mentions(error_of(options), "those of a Swin transformer follow from its tensors"));
  }
  checkpoint_tensors other = timm();
  other.metadata["global_pool"] = "token";
  CHECK(mentions(error_of({}, other), "metadata \"global_pool\" is \"token\"; it must be \"avg\""));
  CHECK(mentions(error_of({.model = {.norm = intact::normalization::rmsnorm}}),
                 "the kind of norms is \"rmsnorm\"; the norms of a Swin transformer are LayerNorms"));
  other = timm();
  other.metadata["norm"] = "rmsnorm";
  CHECK(mentions(error_of({}, other), "metadata \"norm\" is \"rmsnorm\"; it must be \"layernorm\""));
  other = timm();
  other.add("layers.0.blocks.0.attn.logit_scale", {2, 1, 1}, timm().all.at("norm.bias").values.data());
  CHECK(mentions(error_of({}, other), "\"layers.0.blocks.0.attn.logit_scale\" has no place"));
  other = timm();
  other.all.erase("head.weight");
  CHECK(mentions(error_of({}, other), "tensor \"head.weight\" is missing"));
}

}  // namespace intact_test::load_swin_checkpoint_test
