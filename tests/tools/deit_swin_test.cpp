#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "catch.hpp"
#include "deit/model_input.hpp"
#include "deit_program.hpp"
#include "intact/build/packed_swin.hpp"
#include "intact/io/model_file.hpp"
#include "intact/quantize/measures.hpp"
#include "intact/reference/model/swin.hpp"
#include "swin_checkpoint.hpp"

// The program intact-deit on a tiny random Swin transformer.

namespace intact_test::deit_swin_test {
namespace {

/// The files of tiny_set with a checkpoint of a Swin transformer.
struct swin_set : tiny_set {
  swin_set() {
    checkpoint = timm_checkpoint(float_swin_builder(tiny_swin, 41).model());
    checkpoint.write(weights);
  }

  program_outcome inspect(const std::filesystem::path& file, const std::string& options = "") const {
    return deit("inspect" + quoted(file) + "--json" + quoted(json) + options);
  }
};

/// The logits of the library's specification, in units of the float model's.
std::vector<double> reference_logits(const intact::packed_swin& model, const rgb_image& image) {
  const index_t classes = model.shape().classes;
  std::vector<std::byte> memory(intact::reference::swin_workspace_bytes(model.shape()));
  std::vector<std::int32_t> logits(static_cast<std::size_t>(classes));
  std::vector<std::uint8_t> logits_u8(logits.size());
  intact::reference::swin(
      image.view(), model.parameters(), model.shape(),
      {intact::matrix_view(logits.data(), 1, classes), intact::matrix_view(logits_u8.data(), 1, classes)},
      intact::workspace(memory.data(), memory.size()));
  std::vector<double> real;
  for (const std::int32_t code : logits) {
    real.push_back(static_cast<double>(static_cast<float>(model.real_logit(code))));
  }
  return real;
}

/// The lines that classify prints of an image.
std::string classification(const std::filesystem::path& image, const std::vector<double>& logits) {
  const std::vector<double> logs = intact::log_probabilities(std::span(logits));
  std::string text = image.string() + '\n';
  for (const index_t i : intact::top_classes(std::span(logits), 5)) {
    char line[64];
    std::snprintf(line, sizeof line, "  %5.1f %%  class %td\n", 100 * std::exp(logs[static_cast<std::size_t>(i)]), i);
    text += line;
  }
  return text;
}

}  // namespace

TEST_CASE("intact-deit: quantizes and evaluates a Swin transformer, and classifies as the specification does") {
  const swin_set set;
  for (const std::string options : {"", "--bits 8/8/8", "--profile paper", "--bits 4/8/4 --weight-group 4",
                                    "--attention weight-codes --stream u8", "--observer omse --images 5"}) {
    CAPTURE(options);
    const program_outcome quantized = set.quantize(options + " --json" + quoted(set.json));
    INFO(quantized.output);
    REQUIRE(quantized.exit_code == 0);
    CHECK(quantized.says("2 stages of 2, 1 blocks of width 8, 12, 24 x 24 pixels, 7 classes"));
    const nlohmann::json report = read_json(set.json);
    CHECK(report.at("logits_sqnr_db") > (options.starts_with("--bits 4") ? 0 : 3));
    CHECK(report.at("parts").empty());
    CHECK(report.at("assumptions").at("method").at("value").get<std::string>().starts_with("observe, "));

    const intact::packed_swin model(intact::load_integer_swin(set.model));
    CHECK(model.shape().of(1) == tiny_swin.of(1));
    std::string expected, files;
    for (const char* const name : {"0.png", "5.png", "10.jpg"}) {
      const std::filesystem::path file = set.images / name;
      const rgb_image image = intact_deit::read_input(file, {{.size = 24}, false});
      expected += classification(file, reference_logits(model, image));
      files += quoted(file);
    }
    for (const std::string running : {"--threads 1", "--threads 2 --batch 2"}) {
      const program_outcome classified = deit("classify --model" + quoted(set.model) + files + running);
      CHECK(classified.exit_code == 0);
      CHECK(classified.output == expected);
    }
  }
  const program_outcome evaluated = set.evaluate("--float" + quoted(set.weights));
  INFO(evaluated.output);
  REQUIRE(evaluated.exit_code == 0);
  const nlohmann::json result = read_json(set.json);
  CHECK(result.at("images") == 11);
  CHECK(result.at("sqnr_db") > 3);
  CHECK(result.at("float_top1") >= 0);
  CHECK(result.at("agreement") >= 0);
  CHECK(deit("evaluate --float" + quoted(set.weights) + "--images" + quoted(set.images)).exit_code == 0);
}

TEST_CASE("intact-deit: takes Swin transformers with the names of Hugging Face and torchvision, and their sizes") {
  const swin_set set;
  const float_swin model = float_swin_builder(tiny_swin, 41).model();
  REQUIRE(set.quantize().exit_code == 0);
  const std::string expected = file_contents(set.model);
  hugging_face_checkpoint(model).write(set.weights);
  REQUIRE(set.quantize().exit_code == 0);
  CHECK(file_contents(set.model) == expected);
  checkpoint_tensors torchvision;
  for (const auto& [name, tensor] : set.checkpoint.all) {
    torchvision.all[torchvision_name(name)] = tensor;
  }
  torchvision.write(set.weights);
  REQUIRE(set.quantize().exit_code == 0);
  CHECK(file_contents(set.model) == expected);

  write_text(set.folder / "config.json",
             R"({"model_type": "swin", "depths": [2, 1], "num_heads": [2, 3], "embed_dim": 8, "hidden_size": 12,
             "window_size": 4, "image_size": 32, "patch_size": 4, "layer_norm_eps": 1e-4, "hidden_act": "relu"})");
  const program_outcome configured = set.quantize();
  INFO(configured.output);
  REQUIRE(configured.exit_code == 0);
  CHECK(configured.says("32 x 32 pixels"));
  CHECK(configured.says("1e-04 (config.json \"layer_norm_eps\")"));
  CHECK(configured.says("relu (config.json \"hidden_act\")"));
  CHECK(set.quantize("--size 20x28").says("20 x 28 (--size)"));
  CHECK(deit("classify --model" + quoted(set.model) + quoted(set.images / "0.png")).exit_code == 0);
  write_text(set.folder / "config.json", R"({"depths": [2, 2]})");
  const program_outcome other = set.quantize();
  CHECK(other.exit_code == 2);
  CHECK(other.says("config.json \"depths\" 1 is 2; the tensors have 1; the option --no-config ignores it"));
  CHECK(set.quantize("--no-config").exit_code == 0);
}

TEST_CASE("intact-deit: inspect tells what a Swin transformer is, in float and in integers") {
  const swin_set set;
  const program_outcome in_float = set.inspect(set.weights);
  INFO(in_float.output);
  REQUIRE(in_float.exit_code == 0);
  CHECK(in_float.says("float Swin transformer"));
  CHECK(in_float.says("stage 1: 3 heads, 28 hidden channels, windows of 3, 3 x 3 tokens"));
  const nlohmann::json checkpoint = read_json(set.json);
  CHECK(checkpoint.at("kind") == "checkpoint");
  CHECK(checkpoint.at("architecture") == "Swin transformer");
  CHECK(checkpoint.at("tensors").at("F32") == set.checkpoint.all.size());
  CHECK(checkpoint.at("assumptions").at("epsilon").at("value") == "1e-05");
  const nlohmann::json shape = checkpoint.at("shape");
  CHECK(shape.at("depth") == 3);
  CHECK(shape.at("stages").size() == 2);
  CHECK(shape.at("stages")[0] ==
        nlohmann::json(
            {{"depth", 2}, {"width", 8}, {"heads", 2}, {"hidden", 20}, {"window", 4}, {"rows", 6}, {"columns", 6}}));
  CHECK(shape.at("tokens") == 36);

  REQUIRE(set.quantize("--bits 4/8/4 --weight-group 0").exit_code == 0);
  const program_outcome integer = set.inspect(set.model);
  INFO(integer.output);
  REQUIRE(integer.exit_code == 0);
  CHECK(integer.says("integer Swin transformer"));
  CHECK(integer.says("attention     log2 of the maximum, normalized rows"));
  const nlohmann::json model = read_json(set.json);
  CHECK(model.at("kind") == "integer");
  CHECK(model.at("shape") == shape);
  CHECK(model.at("stream") == "s16");
  CHECK(model.at("notes").at("calibration") == "observe, minmax, 11 images");
  CHECK(model.at("workspace_bytes") == intact::swin_workspace_bytes(intact::load_integer_swin(set.model).shape()));
  REQUIRE(model.at("layers").size() == 15);  // patch, four layers of three blocks, merging, head
  CHECK(model.at("layers")[9].at("layer") == "merge");
  CHECK(model.at("layers")[9].at("bytes") == 12 * 16);
  CHECK(set.inspect(set.weights, " --heads 2").exit_code == 2);
}

TEST_CASE("intact-deit: refuses options and commands that Swin transformers do not take, before any work") {
  const swin_set set;
  std::filesystem::create_directory(set.folder / "none");
  const auto refused = [&](const std::string& options, const std::string& message) {
    const program_outcome result = deit("quantize --weights" + quoted(set.weights) + "--calibration" +
                                        quoted(set.folder / "none") + "-o" + quoted(set.model) + options);
    INFO(result.output);
    CHECK(result.exit_code == 2);
    CHECK(result.says("model.safetensors: is a Swin transformer, which takes no " + message));
    CHECK_FALSE(std::filesystem::exists(set.model));
  };
  refused("--method search", "--method search: ");
  refused("--method compensate", "--method compensate: ");
  refused("--equalize", "--equalize: ");
  refused("--heads 2", "--heads: they are the columns of its tables of relative positions");
  refused("--features mean", "--features: its integer model has a head");
  refused("--tail clip", "--tail clip: shifted windows mask keys");
  CHECK(set.quantize("--size 26").says("the image size is 26 x 26; its sides must be multiples of that of a patch, 4"));

  REQUIRE(set.quantize("--method observe").exit_code == 0);
  const auto other_command = [&](const std::string& arguments, const std::string& file) {
    const program_outcome result = deit(arguments);
    INFO(result.output);
    CHECK(result.exit_code == 2);
    CHECK(result.says(file + ": is a Swin transformer; "));
  };
  const std::string image = quoted(set.images / "0.png"), model = quoted(set.model), weights = quoted(set.weights);
  other_command("embed --model" + model + image + "-o" + quoted(set.folder / "x.npy"), "integer.safetensors");
  other_command("attention --model" + model + "--float" + weights + "--image" + image + "-o" + quoted(set.json),
                "integer.safetensors");
  other_command(
      "budget --weights" + weights + "--calibration" + quoted(set.images) + "--evaluation" + quoted(set.images),
      "model.safetensors");
}

TEST_CASE("intact-deit: refuses damaged Swin transformers, naming file and tensor") {
  swin_set set;
  set.checkpoint.all.at("layers.1.blocks.0.mlp.fc1.weight").values[5] = INFINITY;
  set.checkpoint.write(set.weights);
  const program_outcome infinite = set.quantize();
  CHECK(infinite.exit_code == 2);
  CHECK(infinite.says("model.safetensors: tensor \"layers.1.blocks.0.mlp.fc1.weight\" has the value inf at row 0"));

  // Finite weights whose layer is not: the refusal names tensor and block.
  for (float& weight : set.checkpoint.all.at("layers.1.blocks.0.mlp.fc1.weight").values) {
    weight = 3e38F;
  }
  set.checkpoint.write(set.weights);
  const program_outcome overflow = set.quantize();
  INFO(overflow.output);
  CHECK(overflow.exit_code == 2);
  CHECK(overflow.says("model.safetensors: intact::calibrate: tensor fc1 of block 2"));
  CHECK_FALSE(std::filesystem::exists(set.model));
}

}  // namespace intact_test::deit_swin_test
