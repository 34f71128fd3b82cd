#include "intact/io/checkpoint_config.hpp"

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "catch.hpp"
#include "intact/io/safetensors_write.hpp"
#include "refusal.hpp"
#include "scratch_folder.hpp"

namespace intact_test::checkpoint_config_test {
namespace {

using namespace intact;

void write(const std::filesystem::path& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

safetensors_file checkpoint(const std::map<std::string, std::string>& metadata = {}) {
  return safetensors_file::parse(safetensors_bytes("model", {}, metadata), "model");
}

/// The configuration of one file, and the error that it ends with.
struct one_file {
  scratch_folder folder;
  std::string name;

  checkpoint_config read(const std::string& text) const {
    write(folder / name, text);
    return read_checkpoint_config(checkpoint(), folder / "");
  }
  std::string error(const std::string& text) const {
    try {
      read(text);
    } catch (const file_error& problem) {
      const std::string message = problem.what(), file = (folder / name).string() + ": ";
      return message.starts_with(file) ? message.substr(file.size()) : "does not name the file: " + message;
    }
    return {};
  }
};

using numbers = std::vector<double>;

}  // namespace

TEST_CASE("read_checkpoint_config: needs no files") {
  const scratch_folder folder;
  const checkpoint_config config = read_checkpoint_config(checkpoint({{"heads", "3"}}), folder / "");
  CHECK_FALSE(config.heads);
  CHECK(config.sizes.empty());
}

TEST_CASE("read_checkpoint_config: reads config.json of Hugging Face's ViT") {
  const one_file file{{}, "config.json"};
  const checkpoint_config config = file.read(
      R"({"architectures": ["ViTForImageClassification"], "hidden_act": "gelu", "hidden_size": 192, "image_size": 384,
      "id2label": {"0": "ape", "1": "bat"}, "intermediate_size": 768, "layer_norm_eps": 1e-12, "model_type": "vit",
      "num_attention_heads": 3, "num_channels": 3, "num_hidden_layers": 12, "patch_size": 16, "qkv_bias": true})");
  REQUIRE(config.heads);
  CHECK(config.heads->value == 3);
  CHECK(config.heads->source == "config.json \"num_attention_heads\"");
  CHECK(config.epsilon->value == 1e-12);
  CHECK(config.activation->value == "gelu");
  CHECK(config.trained_size->value == image_sides{384, 384});
  CHECK_FALSE(config.image_size);
  CHECK_FALSE(config.mean);
  std::map<std::string, index_t> sizes;
  for (const stated_size& size : config.sizes) {
    CHECK(size.source == "config.json \"" + (size.key == "patch_width" ? "patch_size" : size.key) + '"');
    sizes[size.key] = size.value;
  }
  CHECK(sizes == std::map<std::string, index_t>{{"hidden_size", 192},
                                                {"id2label", 2},
                                                {"intermediate_size", 768},
                                                {"num_channels", 3},
                                                {"num_hidden_layers", 12},
                                                {"patch_size", 16},
                                                {"patch_width", 16}});
  CHECK(file.read(R"({"image_size": [224, 192]})").trained_size->value == image_sides{224, 192});
  CHECK(file.read(R"({"patch_size": [14, 7]})").sizes.at(0).value == 14);
  CHECK(file.read(R"({"patch_size": [14, 7]})").sizes.at(1).value == 7);
}

TEST_CASE("read_checkpoint_config: reads timm's config.json, nested or flat, and pretrained_cfg of the metadata") {
  const std::string pretrained =
      R"({"input_size": [3, 256, 224], "interpolation": "bicubic", "crop_pct": 0.9, "crop_mode": "squash",
      "mean": [0.5, 0.25, 0.125], "std": 0.5, "num_classes": 1000, "pool_size": null})";
  const one_file file{{}, "config.json"};
  const checkpoint_config nested = file.read(
      R"({"architecture": "vit_tiny_patch16_224", "num_classes": 10, "num_features": 192, "global_pool": "avg",
      "model_args": {"num_heads": 6, "act_layer": "gelu", "norm_layer": "RmsNorm"}, "pretrained_cfg": )" +
      pretrained + "}");
  const checkpoint_config flat = file.read(pretrained);
  std::filesystem::remove(file.folder / "config.json");
  const checkpoint_config metadata =
      read_checkpoint_config(checkpoint({{"pretrained_cfg", pretrained}}), file.folder / "");
  for (const checkpoint_config* const config : {&nested, &flat, &metadata}) {
    CHECK(config->image_size->value == image_sides{256, 224});
    CHECK(config->mean->value == numbers{0.5, 0.25, 0.125});
    CHECK(config->standard_deviation->value == numbers{0.5});
    CHECK(config->crop->value == 0.9);
    CHECK(config->interpolation->value == "bicubic");
    CHECK(config->resizing->value == "squash");
  }
  CHECK(nested.crop->source == "config.json \"pretrained_cfg\" \"crop_pct\"");
  CHECK(metadata.crop->source == "metadata \"pretrained_cfg\" \"crop_pct\"");
  CHECK(nested.heads->value == 6);
  CHECK(nested.heads->source == "config.json \"model_args\" \"num_heads\"");
  CHECK(nested.pooling->value == "avg");
  CHECK(nested.norm->value == "RmsNorm");
  CHECK(nested.norm->source == "config.json \"model_args\" \"norm_layer\"");
  CHECK_FALSE(flat.norm);
  REQUIRE(nested.sizes.size() == 2);
  CHECK(nested.sizes[0].value == 192);
  CHECK(nested.sizes[1].value == 10);
  CHECK(file.read(R"({"num_classes": 0})").sizes.empty());  // no head
}

TEST_CASE("read_checkpoint_config: reads config.json of Swin transformers, Hugging Face's and timm's") {
  const one_file file{{}, "config.json"};
  const auto sizes_of = [](const checkpoint_config& config) {
    std::map<std::string, std::vector<index_t>> sizes;
    for (const stated_size& size : config.sizes) {
      sizes[size.key + " of " + size.source].push_back(size.value);
    }
    return sizes;
  };
  const checkpoint_config theirs = file.read(
      R"({"depths": [2, 6], "embed_dim": 96, "hidden_act": "gelu", "hidden_size": 192, "image_size": 224,
      "layer_norm_eps": 1e-05, "mlp_ratio": 4.0, "model_type": "swin", "num_channels": 3, "num_heads": [3, 6],
      "num_layers": 2, "patch_size": 4, "window_size": 7})");
  CHECK_FALSE(theirs.heads);
  CHECK(sizes_of(theirs) ==
        std::map<std::string, std::vector<index_t>>{{"depths 0 of config.json \"depths\" 0", {2}},
                                                    {"depths 1 of config.json \"depths\" 1", {6}},
                                                    {"num_heads 0 of config.json \"num_heads\" 0", {3}},
                                                    {"num_heads 1 of config.json \"num_heads\" 1", {6}},
                                                    {"window_size of config.json \"window_size\"", {7, 7}},
                                                    {"embed_dim of config.json \"embed_dim\"", {96}},
                                                    {"hidden_size of config.json \"hidden_size\"", {192}},
                                                    {"num_layers of config.json \"num_layers\"", {2}},
                                                    {"num_channels of config.json \"num_channels\"", {3}},
                                                    {"patch_size of config.json \"patch_size\"", {4}},
                                                    {"patch_width of config.json \"patch_size\"", {4}}});
  const checkpoint_config timm = file.read(R"({"model_args": {"num_heads": [4], "window_size": [8, 7]}})");
  CHECK_FALSE(timm.heads);
  CHECK(sizes_of(timm) == std::map<std::string, std::vector<index_t>>{
                              {"num_heads 0 of config.json \"model_args\" \"num_heads\" 0", {4}},
                              {"window_size of config.json \"model_args\" \"window_size\"", {8, 7}}});
  CHECK(file.read(R"({"depths": 3, "num_heads": 2, "window_size": 0})").sizes.empty());  // no lists, no windows
  CHECK(mentions(file.error(R"({"depths": [2, 0]})"), "config.json \"depths\" is 0; it must be a whole number in 1.."));
  CHECK(mentions(file.error(R"({"num_heads": [1.5]})"), "config.json \"num_heads\" is 1.5; it must be"));
  CHECK(mentions(file.error(R"({"window_size": "7"})"), "config.json \"window_size\" is \"7\"; it must be"));
  std::string many = "1";
  for (int i = 0; i < 63; ++i) {
    many += ", 1";
  }
  CHECK(file.read("{\"depths\": [" + many + "]}").sizes.size() == 64);
  CHECK(mentions(file.error("{\"depths\": [" + many + ", 1]}"), "it must be at most 64 sizes"));
}

TEST_CASE("read_checkpoint_config: reads preprocessor_config.json") {
  const one_file file{{}, "preprocessor_config.json"};
  const checkpoint_config vit = file.read(
      R"({"do_normalize": true, "do_resize": true, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.25],
      "feature_extractor_type": "ViTFeatureExtractor", "resample": 2, "size": 224})");
  CHECK(vit.mean->value == numbers{0.5, 0.5, 0.5});
  CHECK(vit.mean->source == "preprocessor_config.json \"image_mean\"");
  CHECK(vit.standard_deviation->value == numbers{0.5, 0.5, 0.25});
  CHECK(vit.interpolation->value == "bilinear");
  CHECK(vit.image_size->value == image_sides{224, 224});
  CHECK(vit.crop->value == 1);
  CHECK(vit.resizing->value == "squash");
  CHECK_FALSE(vit.pixel_max);

  const checkpoint_config dino = file.read(
      R"({"crop_size": {"height": 224, "width": 224}, "do_center_crop": true, "resample": 3,
      "rescale_factor": 0.00392156862745098, "size": {"shortest_edge": 256}})");
  CHECK(dino.image_size->value == image_sides{224, 224});
  CHECK(dino.crop->value == 0.875);
  CHECK(dino.resizing->value == "center");
  CHECK(dino.interpolation->value == "bicubic");
  CHECK(static_cast<float>(dino.pixel_max->value) == 255);

  CHECK(file.read(R"({"size": 256, "crop_size": 224})").resizing->value == "squash");
  CHECK(file.read(R"({"size": 224, "image_processor_type": "CLIPImageProcessor"})").resizing->value == "center");
  CHECK(file.read(R"({"size": 256, "crop_size": 224, "do_center_crop": false})").image_size->value.height == 256);
  CHECK(file.read(R"({"do_normalize": false})").mean->value == numbers{0});
  CHECK(file.read(R"({"do_normalize": false})").standard_deviation->value == numbers{1});
  CHECK(file.read(R"({"do_rescale": false})").pixel_max->value == 1);
  CHECK(file.read(R"({"size": 224, "image_processor_type": "ViTImageProcessor",
      "feature_extractor_type": "CLIPFeatureExtractor"})")
            .resizing->value == "squash");
  CHECK_FALSE(file.read(R"({"do_resize": false})").image_size);
  CHECK(file.read(R"({"do_resize": false})").resizing->value == "none");
  CHECK(file.read(R"({"do_resize": false})").resizing->source == "preprocessor_config.json \"do_resize\"");
  for (index_t resized = 224; resized <= 1000; ++resized) {  // the crop gives the stated size again
    const double crop = intact::detail::crop_of(224, resized);
    CHECK(static_cast<std::int64_t>(224 / crop) == resized);
  }
}

TEST_CASE("read_checkpoint_config: the metadata comes before preprocessor_config.json, and that before config.json") {
  const scratch_folder folder;
  write(folder / "config.json", R"({"mean": [3], "std": [3], "crop_pct": 0.3, "layer_norm_eps": 0.5})");
  write(folder / "preprocessor_config.json", R"({"image_mean": [2], "image_std": [2]})");
  const checkpoint_config config =
      read_checkpoint_config(checkpoint({{"pretrained_cfg", R"({"mean": [1]})"}}), folder / "");
  CHECK(config.mean->value == numbers{1});
  CHECK(config.standard_deviation->value == numbers{2});
  CHECK(config.crop->value == 0.3);
  CHECK(config.epsilon->value == 0.5);
}

TEST_CASE("read_checkpoint_config: refuses values of another type or out of range, naming file, key and limit") {
  const one_file file{{}, "config.json"};
  for (const std::string value : {"0", "-1", "1048577", "1e3", "\"3\"", "[3]", "18446744073709551616", "true", "{}"}) {
    const std::string message = file.error("{\"num_attention_heads\": " + value + "}");
    CAPTURE(value);
    CHECK(message.starts_with("config.json \"num_attention_heads\" is "));
    CHECK(message.ends_with("; it must be a whole number in 1..1048576"));
  }
  CHECK(file.error(R"({"num_attention_heads": null, "unknown": [1, {"a": "b"}]})").empty());
  CHECK(file.error(R"({"num_attention_heads": 1048576})").empty());
  CHECK(file.error(R"({"layer_norm_eps": -1e-5})") ==
        "config.json \"layer_norm_eps\" is -1e-05; it must be a number from 0.0 to 1.0");
  CHECK(mentions(file.error(R"({"layer_norm_eps": "1e-5"})"), "it must be a number"));
  CHECK(mentions(file.error(R"({"crop_pct": 1.5})"), "\"crop_pct\" is 1.5; it must be a number from 0.1 to 1.0"));
  CHECK(mentions(file.error(R"({"hidden_act": 1})"), "\"hidden_act\" is 1; it must be a text"));
  CHECK(mentions(file.error(R"({"std": [0.5, 0]})"), "\"std\" is 0; it must be a number from 1e-30 to 1e+30"));
  CHECK(mentions(file.error(R"({"mean": []})"), "\"mean\" is []; it must be 1 to 1024 numbers"));
  CHECK(mentions(file.error(R"({"mean": [1e300]})"), "it must be a number from"));
  CHECK(mentions(file.error(R"({"image_size": [1, 2, 3, 4]})"), "\"image_size\" is [1,2,3,4]"));
  CHECK(mentions(file.error(R"({"image_size": {"height": 3}})"), "\"image_size\" is {\"height\":3}"));
  CHECK(mentions(file.error(R"({"num_classes": "ten"})"), "\"num_classes\" is \"ten\""));

  const one_file preprocessor{{}, "preprocessor_config.json"};
  CHECK(mentions(preprocessor.error(R"({"resample": 6})"), "\"resample\" is 6; it must be a whole number in 0..5"));
  CHECK(mentions(preprocessor.error(R"({"do_resize": 1})"), "\"do_resize\" is 1; it must be true or false"));
  CHECK(mentions(preprocessor.error(R"({"rescale_factor": 0})"), "\"rescale_factor\" is 0; it must be a number"));
  CHECK(mentions(preprocessor.error(R"({"size": 224, "crop_size": 256})"),
                 "\"crop_size\" is 256; it must be 0.1 to 1 times \"size\", 224"));
  CHECK(preprocessor.error(R"({"size": {"height": 256, "width": 240}, "crop_size": 224})") ==
        "preprocessor_config.json \"size\" is {\"height\":256,\"width\":240}; it must be a square");
}

TEST_CASE("read_checkpoint_config: refuses what is no configuration [syntax, depth, size]") {
  const one_file file{{}, "config.json"};
  CHECK(mentions(file.error(""), "is not JSON: "));
  CHECK(mentions(file.error("{\"a\": NaN}"), "is not JSON: "));
  CHECK(mentions(file.error("{\"a\": \"\xff\"}"), "is not JSON: "));
  CHECK(file.error("[1]") == "is JSON, but no object");
  CHECK(file.error("3") == "is JSON, but no object");
  CHECK(mentions(file.error("{\"a\": " + std::string(1'000'000, '[')), "more than 32 nested arrays and objects"));
  CHECK(file.error(R"({"id2label": )" + std::string(20, '[') + std::string(20, ']') + "}").empty());
  write(file.folder / "config.json", "");
  std::filesystem::resize_file(file.folder / "config.json", std::uintmax_t{1} << 30);  // a sparse file
  try {
    read_checkpoint_config(checkpoint(), file.folder / "");
    CHECK(false);
  } catch (const file_error& error) {
    CHECK(mentions(error.what(), "config.json: has 1073741824 bytes; a configuration has at most 16777216"));
  }
  std::filesystem::remove(file.folder / "config.json");
  std::filesystem::create_directory(file.folder / "config.json");
  CHECK_THROWS_AS(read_checkpoint_config(checkpoint(), file.folder / ""), file_error);
  std::filesystem::remove(file.folder / "config.json");
  try {
    read_checkpoint_config(checkpoint({{"pretrained_cfg", "{"}}), file.folder / "");
    CHECK(false);
  } catch (const file_error& error) {
    CHECK(mentions(error.what(), "model: metadata \"pretrained_cfg\": is not JSON: "));
  }
}

}  // namespace intact_test::checkpoint_config_test
