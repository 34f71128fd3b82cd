#include <sys/wait.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "calibrated_models.hpp"
#include "cases.hpp"
#include "catch.hpp"
#include "deit/model_input.hpp"
#include "deit_files.hpp"
#include "deit_program.hpp"
#include "intact/io/safetensors.hpp"
#include "intact/io/safetensors_write.hpp"
#include "scratch_folder.hpp"

// The program intact-deit, on a tiny random model and synthetic images; and on DeiT-Tiny where it is at hand.

namespace intact_test::deit_program_test {

TEST_CASE("intact-deit: prints its help") {
  const program_outcome help = deit("--help");
  CHECK(help.exit_code == 0);
  CHECK(help.says("Examples:"));
  for (const char* const command : {"quantize", "convert", "classify", "evaluate", "budget", "attention", "inspect"}) {
    CHECK(deit(std::string(command) + " --help").exit_code == 0);
    CHECK(deit(command).exit_code == 2);
  }
  CHECK(deit("").exit_code == 2);
}

TEST_CASE("intact-deit: converts a calibrated model and classifies an image") {
  const tiny_set set;
  calibrated_tensors calibrated = make_calibrated_vit().file;
  calibrated.write(set.weights);
  const std::string convert = "convert" + quoted(set.weights) + "-o" + quoted(set.model);
  const program_outcome converted = deit(convert + "--crop 0.9");
  INFO(converted.output);
  REQUIRE(converted.exit_code == 0);
  CHECK(converted.says(set.model.string() + ": 2 blocks"));
  CHECK(safetensors_file::read(set.model).metadata_value("crop") == "0.9");
  CHECK(deit("classify --model" + quoted(set.model) + quoted(set.images / "0.png")).exit_code == 0);

  set.checkpoint.write(set.weights);
  const program_outcome of_checkpoint = deit(convert);
  CHECK(of_checkpoint.exit_code == 2);
  CHECK(of_checkpoint.says("intact-deit quantize takes float checkpoints"));

  calibrated.set<float>("activations.norm.scale", {}, {0.0F});
  calibrated.write(set.weights);
  const std::string before = file_contents(set.model);
  const program_outcome refused = deit(convert);
  CHECK(refused.exit_code == 2);
  CHECK(refused.says(set.weights.string() + ": tensor \"activations.norm.scale\" has the value 0"));
  CHECK(file_contents(set.model) == before);
}

TEST_CASE("intact-deit: converts what the exporter of FQ-ViT's models writes") {
  const tiny_set set;
  const std::filesystem::path swin = set.folder / "swin.safetensors";
  const std::string script =
      std::string(" " INTACT_FQVIT_MODEL " " INTACT_EXAMPLES) + quoted(set.weights) + quoted(swin);
  int status = -1;
  for (const char* const python : {"python3", "/usr/bin/python3"}) {
    if (status != 0) {
      status = std::system((python + script).c_str());
    }
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
    report_skipped("there is no python3 with NumPy");
    return;
  }
  REQUIRE(status == 0);
  const program_outcome converted = deit("convert" + quoted(set.weights) + "-o" + quoted(set.model));
  INFO(converted.output);
  REQUIRE(converted.exit_code == 0);
  CHECK(converted.says(set.model.string() + ": 2 blocks"));
  CHECK(deit("classify --model" + quoted(set.model) + quoted(set.images / "0.png")).exit_code == 0);
  const program_outcome converted_swin = deit("convert" + quoted(swin) + "-o" + quoted(set.model));
  INFO(converted_swin.output);
  REQUIRE(converted_swin.exit_code == 0);
  CHECK(converted_swin.says(set.model.string() + ": 2 stages"));
  CHECK(deit("classify --model" + quoted(set.model) + quoted(set.images / "0.png")).exit_code == 0);
}

TEST_CASE("intact-deit: quantizes a model, evaluates it and classifies images") {
  const tiny_set set;
  const program_outcome quantized = set.quantize();
  INFO(quantized.output);
  REQUIRE(quantized.exit_code == 0);
  CHECK(quantized.says("2 blocks of width 12, 12 x 12 pixels, 7 classes"));

  const program_outcome evaluated = set.evaluate("--float" + quoted(set.weights));
  INFO(evaluated.output);
  REQUIRE(evaluated.exit_code == 0);
  CHECK(evaluated.says("11 images, 0 failed"));
  const nlohmann::json result = read_json(set.json);
  for (const char* const key : {"top1", "top5", "agreement", "float_top1", "float_top5"}) {
    CAPTURE(key);
    CHECK(result.at(key) >= 0);
    CHECK(result.at(key) <= 100);
  }
  CHECK(result.at("images") == 11);
  CHECK(result.at("failed") == 0);
  CHECK(result.at("images_per_second") > 0);
  CHECK(result.at("float_images_per_second") > 0);
  CHECK(result.at("sqnr_db") > 10);
  CHECK(result.at("kl") >= 0);
  CHECK(result.at("kl") < 0.1);

  // The numbers do not depend on threads and batches, and the first images are the first lines.
  for (const std::string options : {"--threads 3", "--batch 4", "--threads 2 --batch 3", "--batch 100"}) {
    CAPTURE(options);
    REQUIRE(set.evaluate(options + " --float" + quoted(set.weights)).exit_code == 0);
    const nlohmann::json again = read_json(set.json);
    for (const char* const key : {"top1", "top5", "agreement", "sqnr_db", "kl"}) {
      CHECK(again.at(key) == result.at(key));
    }
  }
  REQUIRE(set.evaluate("--limit 4").exit_code == 0);
  CHECK(read_json(set.json).at("images") == 4);
  CHECK_FALSE(read_json(set.json).contains("agreement"));

  const program_outcome classified = deit("classify --model" + quoted(set.model) + quoted(set.images / "0.png"));
  INFO(classified.output);
  CHECK(classified.exit_code == 0);
  CHECK(std::count(classified.output.begin(), classified.output.end(), '%') == 5);
  CHECK(classified.says("class "));
  write_text(set.folder / "synset_words.txt", "ape\nbat\ncat\ndog\neel\nfox\ngnu\n");
  CHECK_FALSE(deit("classify --model" + quoted(set.model) + quoted(set.images / "0.png")).says("class "));
  const program_outcome wrong_names = deit("classify --model" + quoted(set.model) + "--names" +
                                           quoted(set.images / "labels.tsv") + quoted(set.images / "0.png"));
  CHECK(wrong_names.exit_code == 2);
  CHECK(wrong_names.says("there are 11 names; the model has 7 classes"));
}

TEST_CASE("intact-deit: quantizes and evaluates a distilled model with both heads [any size of images]") {
  const tiny_set set;
  timm_checkpoint(random_float_vit(distilled_vit)).write(set.weights);
  for (const std::string options : {"", "--profile paper --method observe", "--size 20"}) {
    CAPTURE(options);
    REQUIRE(set.quantize(options).exit_code == 0);
    const program_outcome evaluated = set.evaluate("--float" + quoted(set.weights));
    INFO(evaluated.output);
    CHECK(evaluated.exit_code == 0);
    CHECK(read_json(set.json).at("sqnr_db") > 10);
  }
}

TEST_CASE("intact-deit: writes the features of images") {
  const tiny_set set;
  for (const auto& [features, columns] : {std::pair("class", 12), {"mean", 12}, {"patches", 108}}) {
    const program_outcome quantized = set.quantize("--method observe --images 3 --features " + std::string(features));
    INFO(quantized.output);
    REQUIRE(quantized.exit_code == 0);
    CHECK(quantized.says(std::to_string(columns) + " features"));
    const auto embed = [&](const std::string& images, const std::string& file) {
      return deit("embed --model" + quoted(set.model) + images + " -o" + quoted(set.folder / file));
    };
    const std::string two = quoted(set.images / "0.png") + quoted(set.images / "1.png");
    CHECK(embed(two, "features.npy").exit_code == 0);
    CHECK(embed(two, "features.safetensors").exit_code == 0);
    const auto file = intact::safetensors_file::read(set.folder / "features.safetensors");
    const std::vector<std::int64_t> shape =
        columns == 108 ? std::vector<std::int64_t>{2, 9, 12} : std::vector<std::int64_t>{2, columns};
    CHECK(file.info("features").shape == shape);
    const std::vector<float> values = file.values<float>("features");
    std::ifstream stream(set.folder / "features.npy", std::ios::binary);
    const std::string npy{std::istreambuf_iterator<char>(stream), {}};
    CHECK(npy.starts_with("\x93NUMPY\x01"));
    CHECK(npy.size() % 64 == values.size() * 4 % 64);
    CHECK(npy.find(columns == 108 ? "'shape': (2, 9, 12, )" : "'shape': (2, 12, )") != std::string::npos);
    CHECK(std::memcmp(npy.data() + npy.size() - 4 * values.size(), values.data(), 4 * values.size()) == 0);

    const program_outcome partly =
        embed(quoted(set.folder / "none.png") + quoted(set.images / "1.png"), "partly.safetensors");
    CHECK(partly.exit_code == 1);
    const auto rows = intact::safetensors_file::read(set.folder / "partly.safetensors").values<float>("features");
    REQUIRE(rows.size() == values.size());
    CHECK(std::isnan(rows.front()));
    CHECK(rows.back() == values.back());
    CHECK(deit("classify --model" + quoted(set.model) + two).says("the model has no head; embed writes its features"));
  }
  CHECK(set.quantize("--method observe --images 3").exit_code == 0);
  const program_outcome with_head =
      deit("embed --model" + quoted(set.model) + quoted(set.images / "0.png") + " -o x.npy");
  CHECK(with_head.exit_code == 2);
  CHECK(with_head.says("the model has a head; quantize --features makes a model without one"));
  CHECK(deit("embed --model" + quoted(set.model) + quoted(set.images / "0.png") + " -o x.txt").exit_code == 2);
}

TEST_CASE("intact-deit: takes images that are no squares") {
  const tiny_set set;
  const program_outcome quantized = set.quantize("--method observe --images 3 --size 8x20");
  INFO(quantized.output);
  REQUIRE(quantized.exit_code == 0);
  CHECK(quantized.says("8 x 20 (--size)"));
  CHECK(quantized.says("3 to 2 x 5 on a side"));
  CHECK(deit("classify --model" + quoted(set.model) + quoted(set.images / "0.png")).exit_code == 0);
  CHECK(set.quantize("--size 8x").says("8x is neither a side nor HEIGHTxWIDTH of 1 to 65536 pixels"));
}

TEST_CASE("intact-deit: inspect tells what a checkpoint and an integer model are") {
  const tiny_set set;
  const auto inspect = [&](const std::filesystem::path& file) {
    return deit("inspect" + quoted(file) + "--json" + quoted(set.json));
  };
  const program_outcome in_float = inspect(set.weights);
  INFO(in_float.output);
  REQUIRE(in_float.exit_code == 0);
  CHECK(in_float.says("2 blocks of width 12, 2 heads, 20 hidden channels, 7 classes"));
  CHECK(in_float.says("2 (metadata \"heads\")"));
  const nlohmann::json checkpoint = read_json(set.json);
  CHECK(checkpoint.at("kind") == "checkpoint");
  CHECK(checkpoint.at("shape").at("tokens") == 10);
  CHECK(checkpoint.at("tensors").at("F32") == set.checkpoint.all.size());

  REQUIRE(set.quantize("--method observe --bits 4/8/4 --weight-group 0").exit_code == 0);
  const program_outcome integer = inspect(set.model);
  INFO(integer.output);
  REQUIRE(integer.exit_code == 0);
  CHECK(integer.says("attention     log2 of the maximum, normalized rows"));
  const nlohmann::json model = read_json(set.json);
  CHECK(model.at("kind") == "integer");
  CHECK(model.at("stream") == "s16");
  CHECK(model.at("shape") == checkpoint.at("shape"));
  CHECK(model.at("notes").at("profile") == "precise 4/8/4");
  const nlohmann::json layers = model.at("layers");
  REQUIRE(layers.size() == 10);  // patch, four layers of two blocks, head
  CHECK(layers[1].at("layer") == "qkv");
  CHECK(layers[1].at("block") == 0);
  CHECK(layers[1].at("rows") == 36);
  CHECK(layers[1].at("columns") == 12);
  CHECK(layers[1].at("bits") == 4);
  CHECK(layers[1].at("bytes") == 36 * 6);
  for (const nlohmann::json& layer : layers) {
    CHECK(layer.at("smallest_scale") > 0);
    CHECK(layer.at("largest_scale") >= layer.at("smallest_scale"));
  }
  CHECK(inspect(set.images / "0.png").exit_code == 2);
  CHECK(inspect(set.folder / "none").exit_code == 2);
}

TEST_CASE("intact-deit: shows names and notes of a file as printable text, and not more than a few") {
  const tiny_set set;
  checkpoint_tensors many = set.checkpoint;
  for (int n = 0; n < 25; ++n) {
    many.all["pooler.\x1b[31m" + std::to_string(n) + std::string(300, 'x')] = {{1}, {1}};
  }
  many.write(set.weights);
  const program_outcome checkpoint = deit("inspect" + quoted(set.weights));
  INFO(checkpoint.output);
  REQUIRE(checkpoint.exit_code == 0);
  CHECK_FALSE(checkpoint.says("\x1b"));
  CHECK(checkpoint.says("pooler.?[31m0xxx"));
  CHECK(checkpoint.says("... and 5 others (tensors without a part in classification)"));

  REQUIRE(set.quantize("--method observe --images 3").exit_code == 0);
  const auto model = intact::safetensors_file::read(set.model);
  std::map<std::string, std::string> notes = model.metadata();
  for (int n = 0; n < 30; ++n) {
    notes["a\x1b[31m" + std::to_string(n)] = std::string(300, '\x1b');
  }
  std::vector<std::vector<std::byte>> bytes;
  std::vector<intact::tensor_to_write> tensors;
  for (const std::string& name : model.names()) {
    bytes.push_back(model.machine_bytes(name));
    tensors.push_back({name, model.info(name).type, model.info(name).shape, bytes.back()});
  }
  intact::write_safetensors(set.model, tensors, notes);
  const program_outcome integer = deit("inspect" + quoted(set.model));
  INFO(integer.output);
  REQUIRE(integer.exit_code == 0);
  CHECK_FALSE(integer.says("\x1b"));
  CHECK(integer.says("a?[31m0 "));
  CHECK(integer.says("and " + std::to_string(notes.size() - 20) + " other notes"));
}

TEST_CASE("intact-deit: evaluates the float model without an integer model") {
  const tiny_set set;
  const program_outcome in_float = deit("evaluate --float" + quoted(set.weights) + "--images" + quoted(set.images));
  CHECK(in_float.exit_code == 0);
  CHECK(in_float.says("float (Eigen)"));
  CHECK_FALSE(in_float.says("integer"));
  CHECK(deit("evaluate --images" + quoted(set.images)).says("evaluate needs --model, --float or both"));
}

TEST_CASE("intact-deit: accepts every part of a recipe") {
  const tiny_set set;
  for (const std::string options :
       {"--profile paper", "--profile paper --bits 8/8/8", "--bits 8/8/8", "--bits 4/8/4",
        "--bits 4/8/8 --weight-group 0", "--bits 4/8/4 --weight-group 3",
        "--profile paper --tail clip --observer percentile",
        "--profile paper --exponential exact --rounding sqrt2 --observer omse",
        "--profile paper --normalize-rows yes --observer ema", "--stream u8 --pixel-codes no --method search",
        "--profile paper --stream s16 --pixel-codes yes --batch 3 --images 5", "--attention weights --equalize",
        "--attention weight-codes", "--attention weight-codes --stream u8 --method observe",
        "--profile paper --bits 4/8/8 --method observe", "--size 20",
        "--crop 1 --mean 0.5 --std 0.5 0.4 0.3 --epsilon 1e-5 --heads 3"}) {
    CAPTURE(options);
    const program_outcome quantized = set.quantize(options);
    INFO(quantized.output);
    CHECK(quantized.exit_code == 0);
    CHECK(set.evaluate("--limit 2").exit_code == 0);
  }
}

TEST_CASE("intact-deit: refuses options whose values are invalid or contradict each other") {
  const tiny_set set;
  const auto refused = [&](const std::string& options, const std::string& message) {
    const program_outcome result = set.quantize(options);
    INFO(result.output);
    CHECK(result.exit_code == 2);
    CHECK(result.says(message));
    CHECK_FALSE(std::filesystem::exists(set.model));
  };
  refused("--bits 8/4/8", "--bits is \"8/4/8\"; it must be 8/8/8, 8/8/4, 4/8/8 or 4/8/4");
  refused("--profile exact", "--profile");
  refused("--normalize-rows no", "attention relative to the maximum does not sum to 1; choose --normalize-rows yes\n");
  refused("--exponential i-exp", "is a table of true exponentials; choose --exponential exact\n");
  refused("--rounding 1.5", "attention relative to the maximum rounds to nearest; choose --rounding sqrt2\n");
  refused("--profile paper --attention weights", "choose --normalize-rows yes\n");
  refused("--attention weights --tail clip", "u8 attention weights have no tail; choose --tail zero\n");
  refused("--attention weight-codes --tail clip", "codes of attention weights have no tail; choose --tail zero\n");
  refused("--tail wide", "are relative to the sum; choose --attention log2-of-sum\n");
  refused(
      "--profile paper --bits 8/8/8 --normalize-rows yes",
      "8-bit log2 codes (--tail wide, or --profile paper with 8 bits of attention) are not normalized, as their sum "
      "does not fit 32 bits; choose --normalize-rows no\n");
  refused("--observer none", "--observer");
  refused("--crop 0", "--crop");
  refused("--crop NaN", "--crop");
  refused("--size 9000000000000000000", "--size");
  refused("--size 13", "the image size is 13 x 13; its sides must be multiples of those of a patch, 4 x 4");
}

TEST_CASE("intact-deit: counts images that cannot be read, and evaluates the others") {
  const tiny_set set;
  REQUIRE(set.quantize().exit_code == 0);
  write_text(set.images / "1.png", "a text");
  std::filesystem::resize_file(set.images / "10.jpg", 500);
  std::filesystem::remove(set.images / "3.png");
  for (const std::string options : {"", "--batch 2", "--batch 20"}) {
    const program_outcome evaluated = set.evaluate(options);
    INFO(evaluated.output);
    CHECK(evaluated.exit_code == 1);
    CHECK(evaluated.says("8 images, 3 failed"));
    CHECK(evaluated.says("1.png: is neither a PNG nor a JPEG file"));
    CHECK(evaluated.says("10.jpg: libjpeg: the file is truncated"));
    CHECK(evaluated.says("3.png: the file does not exist"));
    CHECK(read_json(set.json).at("failed") == 3);
    CHECK(read_json(set.json).at("images") == 8);
  }

  const program_outcome classified =
      deit("classify --model" + quoted(set.model) + quoted(set.images / "1.png") + quoted(set.images / "2.png"));
  CHECK(classified.exit_code == 1);
  CHECK(classified.says("1.png: is neither a PNG nor a JPEG file"));
  CHECK(classified.says("2.png\n"));

  write_text(set.images / "labels.tsv", "1.png\t0\n");
  const program_outcome none = set.evaluate();
  CHECK(none.exit_code == 2);
  CHECK(none.says("no image could be read"));
  write_text(set.images / "labels.tsv", "0.png\t7\n");
  const program_outcome label = set.evaluate();
  CHECK(label.exit_code == 2);
  CHECK(label.says("labels.tsv: line 1 has the class \"7\"; it must be a number from 0 to 6"));
}

TEST_CASE("intact-deit: calibrates without the images that cannot be read") {
  const tiny_set set;
  std::filesystem::remove(set.images / "1.png");
  std::filesystem::remove(set.images / "10.jpg");
  REQUIRE(set.quantize().exit_code == 0);
  const std::string expected = file_contents(set.model);
  write_text(set.images / "1.png", "a text");
  write_text(set.images / "10.jpg", "GIF89a");
  std::filesystem::create_directory(set.images / "folder.png");
  const program_outcome quantized = set.quantize();
  INFO(quantized.output);
  CHECK(quantized.exit_code == 1);
  CHECK(quantized.says((set.images / "1.png").string() + ": is neither a PNG nor a JPEG file"));
  CHECK(quantized.says((set.images / "10.jpg").string() + ": is a GIF file; it must be a PNG or JPEG file"));
  CHECK(quantized.says((set.images / "folder.png").string() + ": is not a regular file"));
  CHECK(quantized.says("3 of 12 calibration images could not be read"));
  CHECK(file_contents(set.model) == expected);

  std::filesystem::remove(set.images / "folder.png");
  const program_outcome budget =
      deit("budget --method observe --weights" + quoted(set.weights) + "--calibration" + quoted(set.images) +
           "--evaluation" + quoted(set.images) + "--json" + quoted(set.json));
  INFO(budget.output);
  CHECK(budget.exit_code == 1);
  CHECK(budget.says("2 of 11 calibration images could not be read"));
  CHECK(budget.says("9 images, 2 failed"));
  CHECK(read_json(set.json).at("images") == 9);
  CHECK(read_json(set.json).at("failed") == 2);

  std::filesystem::remove(set.model);
  for (const auto& entry : std::filesystem::recursive_directory_iterator(set.images)) {
    if (entry.is_regular_file()) {
      write_text(entry.path(), "a text");
    }
  }
  const program_outcome none = set.quantize();
  INFO(none.output);
  CHECK(none.exit_code == 2);
  CHECK(none.says(set.images.string() + ": none of the 11 calibration images could be read"));
  CHECK_FALSE(std::filesystem::exists(set.model));
}

TEST_CASE("intact-deit: does not resize prepared images, and names those of another size") {
  const tiny_set set;
  const program_outcome mixed = set.quantize("--prepared");
  INFO(mixed.output);
  CHECK(mixed.exit_code == 1);
  CHECK(mixed.says("10 of 11 calibration images could not be read"));
  CHECK(mixed.says((set.images / "0.png").string() +
                   ": the image is 30 x 12; prepared images must have the model's size, 12 x 12"));
  CHECK_FALSE(mixed.says("9.png"));

  // --prepared takes an image of the model's size, resized and cropped, as it is.
  const std::filesystem::path square = set.images / "more/9.png", done = set.folder / "done.png";
  write_png(done, intact::preprocess_image(made_image(12, 12), 12, 0.875));
  const auto classified = [&](const std::filesystem::path& image, const std::string& options) {
    const program_outcome result = deit("classify --model" + quoted(set.model) + options + quoted(image));
    CHECK(result.exit_code == 0);
    return result.output.substr(result.output.find('\n'));
  };
  CHECK(classified(square, "") == classified(done, "--prepared"));
  CHECK(classified(square, "") != classified(square, "--prepared"));
  CHECK(deit("classify --prepared --model" + quoted(set.model) + quoted(set.images / "0.png")).exit_code == 1);

  const program_outcome evaluated = set.evaluate("--prepared");
  CHECK(evaluated.exit_code == 1);
  CHECK(evaluated.says("1 images, 10 failed"));
  const std::string shown = "attention --model" + quoted(set.model) + "--float" + quoted(set.weights) + "-o" +
                            quoted(set.json) + "--prepared --image";
  CHECK(deit(shown + quoted(square)).exit_code == 0);
  CHECK(deit(shown + quoted(set.images / "0.png")).exit_code == 2);
}

TEST_CASE("intact-deit: refuses checkpoints of no vision transformer, naming file and tensor") {
  const tiny_set set;
  const auto refused = [&](const checkpoint_tensors& bad, const std::string& message) {
    bad.write(set.weights);
    const program_outcome result = set.quantize();
    INFO(result.output);
    CHECK(result.exit_code == 2);
    CHECK(result.says("model.safetensors: "));
    CHECK(result.says(message));
    CHECK_FALSE(std::filesystem::exists(set.model));
  };
  checkpoint_tensors bad = set.checkpoint;
  bad.all.erase("blocks.1.mlp.fc1.bias");
  refused(bad, "tensor \"blocks.1.mlp.fc1.bias\" is missing");
  bad = set.checkpoint;
  bad.all["blocks.0.attn.qkv.weight"].values[13] = std::numeric_limits<float>::quiet_NaN();
  refused(bad, "tensor \"blocks.0.attn.qkv.weight\" has the value nan at row 1, column 1; it must be finite");
  bad = set.checkpoint;
  bad.all["blocks.0.ls3.gamma"] = {{1}, {1}};
  refused(bad, "\"blocks.0.ls3.gamma\" has no place in a vision transformer of this architecture");
  checkpoint_tensors other;
  other.all["conv1.weight"] = {{1, 1}, {1}};
  refused(other, "\"patch_embed.proj.weight\" is missing");

  write_text(set.weights, "no safetensors");
  CHECK(set.quantize().exit_code == 2);
  CHECK(deit("classify --model" + quoted(set.weights) + quoted(set.images / "0.png")).exit_code == 2);
  set.checkpoint.write(set.weights);  // a float model is no integer model
  const program_outcome confused = deit("classify --model" + quoted(set.weights) + quoted(set.images / "0.png"));
  CHECK(confused.exit_code == 2);
  CHECK(confused.says("model.safetensors: metadata \"format\" is missing"));
}

TEST_CASE("intact-deit: quantize prints its assumptions, their source and the error of every part") {
  const tiny_set set;
  const program_outcome quantized =
      set.quantize("--epsilon 1e-5 --method observe --profile paper --json" + quoted(set.json));
  INFO(quantized.output);
  REQUIRE(quantized.exit_code == 0);
  CHECK(quantized.says("2 (metadata \"heads\")"));
  CHECK(quantized.says("0.485 0.456 0.406 (that of ImageNet; --mean names another)"));
  CHECK(quantized.says("1e-05 (--epsilon)"));
  CHECK(quantized.says("paper 8/8/4 (--profile)"));
  CHECK(quantized.says("observe, minmax, 11 images (--method)"));
  CHECK(quantized.says("SQNR of each part by itself: embedding "));
  const nlohmann::json json = read_json(set.json);
  CHECK(json.at("assumptions").at("epsilon").at("source") == "--epsilon");
  CHECK(json.at("raised_scales").empty());
  REQUIRE(json.at("parts").size() == 6);  // embedding, two halves of two blocks, head
  CHECK(json.at("parts")[3].at("part") == "attention");
  CHECK(json.at("parts")[3].at("block") == 1);
  for (const nlohmann::json& part : json.at("parts")) {
    CHECK(part.at("sqnr_db") > 5);
    CHECK(part.at("sqnr_db") < 80);
  }
}

TEST_CASE("intact-deit: takes values of config.json and preprocessor_config.json, and keeps how images are prepared") {
  const tiny_set set;
  write_text(set.folder / "config.json", R"({"layer_norm_eps": 1e-5, "hidden_size": 12, "hidden_act": "quick_gelu"})");
  write_text(set.folder / "preprocessor_config.json",
             R"({"image_mean": [0.5, 0.5, 0.5], "resample": 2, "size": {"height": 12, "width": 12}})");
  const program_outcome quantized = set.quantize("--method observe --images 3");
  INFO(quantized.output);
  REQUIRE(quantized.exit_code == 0);
  CHECK(quantized.says("1e-05 (config.json \"layer_norm_eps\")"));
  CHECK(quantized.says("quick_gelu (config.json \"hidden_act\")"));
  CHECK(quantized.says("0.5 0.5 0.5 (preprocessor_config.json \"image_mean\")"));
  CHECK(quantized.says("bilinear (preprocessor_config.json \"resample\")"));
  CHECK(quantized.says("squash (preprocessor_config.json \"size\")"));
  const auto file = intact::safetensors_file::read(set.model);
  CHECK(file.metadata_value("crop") == "1");
  CHECK(file.metadata_value("interpolation") == "bilinear");
  CHECK(file.metadata_value("resize") == "squash");
  CHECK(deit("classify --model" + quoted(set.model) + quoted(set.images / "0.png")).exit_code == 0);
  const program_outcome given = set.quantize(
      "--method observe --images 3 --epsilon 1e-4 --interpolation bicubic --resize center --activation silu");
  CHECK(given.says("1e-04 (--epsilon)"));
  CHECK(given.says("bicubic (--interpolation)"));
  CHECK(given.says("center (--resize)"));
  CHECK(given.says("silu (--activation)"));
  CHECK(set.quantize("--activation mish").says("mish is none of gelu, gelu_tanh, quick_gelu, silu, relu, hard_swish"));

  std::filesystem::remove(set.model);
  write_text(set.folder / "config.json", R"({"hidden_size": 768})");
  const program_outcome other = set.quantize("--method observe --images 3");
  CHECK(other.exit_code == 2);
  CHECK(other.says(
      "model.safetensors: config.json \"hidden_size\" is 768; the tensors have 12; the option --no-config ignores it"));
  CHECK_FALSE(std::filesystem::exists(set.model));
  CHECK(set.quantize("--method observe --images 3 --no-config").exit_code == 0);

  std::filesystem::remove(set.folder / "config.json");
  write_text(set.folder / "preprocessor_config.json", R"({"do_resize": false})");
  const program_outcome unresized = set.quantize("--method observe --images 3");
  CHECK(unresized.exit_code == 2);
  CHECK(
      unresized.says("preprocessor_config.json \"do_resize\" is false; images are always resized, and an option must "
                     "say how; the option --resize takes the place of the file's"));
  CHECK(set.quantize("--method observe --images 3 --resize center").exit_code == 0);
}

TEST_CASE("intact-deit: quantize prints that a recipe and a method are the defaults") {
  const tiny_set set;
  const program_outcome quantized = set.quantize("--json" + quoted(set.json));
  INFO(quantized.output);
  REQUIRE(quantized.exit_code == 0);
  CHECK(quantized.says("precise 8/8/4 (default; --profile names another)"));
  CHECK(quantized.says("compensate, minmax, 11 images (default; --method names another)"));
  const nlohmann::json assumptions = read_json(set.json).at("assumptions");
  for (const char* const what : {"crop", "recipe", "method"}) {
    CHECK(assumptions.at(what).at("source").get<std::string>().starts_with("default; --"));
  }
  const program_outcome chosen = set.quantize("--crop 0.875 --stream u8 --observer ema --json" + quoted(set.json));
  INFO(chosen.output);
  REQUIRE(chosen.exit_code == 0);
  const nlohmann::json given = read_json(set.json).at("assumptions");
  CHECK(given.at("crop").at("source") == "--crop");
  CHECK(given.at("recipe").at("source") == "--stream");
  CHECK(given.at("method").at("source") == "--observer");
}

TEST_CASE("intact-deit: replaces a method that is not possible, and names the used one in the model's note") {
  // The sum of fc1's first row is within float, that of its rounded weights is not: 126.51 becomes 127.
  tiny_set set;
  std::map<std::string, checkpoint_tensors::tensor>& all = set.checkpoint.all;
  const auto fill = [&](const std::string& name, float value) {
    std::fill(all.at(name).values.begin(), all.at(name).values.end(), value);
  };
  fill("blocks.1.norm2.weight", 0);
  fill("blocks.1.norm2.bias", 1);
  fill("blocks.1.mlp.fc1.bias", 0);
  fill("blocks.1.mlp.fc2.weight", 0);
  std::vector<float>& fc1 = all.at("blocks.1.mlp.fc1.weight").values;
  fc1[0] = 2.85e37F;
  std::fill_n(fc1.begin() + 1, 11, 2.85e37F * (126.51F / 127.5F));
  set.checkpoint.write(set.weights);
  for (const std::string method : {"search", "compensate"}) {
    const program_outcome quantized = set.quantize("--method " + method + " --json" + quoted(set.json));
    INFO(quantized.output);
    REQUIRE(quantized.exit_code == 0);
    CHECK(quantized.says("--method " + method + " is not possible, observe takes its place: block 1: intact::"));
    CHECK(quantized.says("observe, minmax, 11 images (--method; observe in place of " + method));
    const auto file = intact::safetensors_file::read(set.model);
    CHECK(file.metadata_value("calibration") == "observe, minmax, 11 images");
    CHECK(read_json(set.json).at("assumptions").at("method").at("value") == "observe, minmax, 11 images");
  }
}

TEST_CASE("intact-deit: quantizes models with parts that are zero, and names raised scales [every method]") {
  struct part {
    const char* name;
    std::size_t first, rows;  ///< of the layer of queries, keys and values
  };
  for (const part& zero : {part{"queries and keys", 0, 24}, part{"values", 24, 12}}) {
    tiny_set set;
    for (const auto& [tensor, columns] : {std::pair("weight", std::size_t{12}), {"bias", std::size_t{1}}}) {
      std::vector<float>& all = set.checkpoint.all["blocks.1.attn.qkv." + std::string(tensor)].values;
      std::fill_n(all.begin() + static_cast<std::ptrdiff_t>(zero.first * columns), zero.rows * columns, 0.0F);
    }
    set.checkpoint.write(set.weights);
    for (const char* const method : {"observe", "search", "compensate"}) {
      for (const char* const recipe : {"paper", "precise"}) {
        const program_outcome quantized = set.quantize("--method " + std::string(method) + " --profile " + recipe +
                                                       " --images 1" + " --json" + quoted(set.json));
        CAPTURE(zero.name, method, recipe, quantized.output);
        REQUIRE(quantized.exit_code == 0);
        const nlohmann::json raised = read_json(set.json).at("raised_scales");
        for (const nlohmann::json& change : raised) {
          CHECK(change.at("raised") > change.at("observed"));
          CHECK(quantized.says("the scale of " + change.at("tensor").get<std::string>()));
        }
        // Only the precise recipe divides rows by their sums, and zero values have the scale of the queries.
        const bool normalizes = recipe == std::string("precise") && zero.first != 0;
        CHECK(std::any_of(raised.begin(), raised.end(), [](const nlohmann::json& change) {
                return change.at("tensor") == "context" && change.at("block") == 1;
              }) == normalizes);
      }
    }
  }
}

TEST_CASE("intact-deit: names a part with much error, and an option that helps") {
  // queries and keys are 64 times as large as values, for the same attention and the same output
  tiny_set set;
  for (const char* const kind : {"weight", "bias"}) {
    const std::string block = "blocks.1.attn.";
    std::vector<float>& qkv = set.checkpoint.all[block + "qkv." + kind].values;
    const std::size_t third = qkv.size() / 3;
    for (std::size_t i = 0; i < qkv.size(); ++i) {
      qkv[i] *= i < 2 * third ? 1.0F : 1.0F / 64;
    }
  }
  for (float& weight : set.checkpoint.all["blocks.1.attn.proj.weight"].values) {
    weight *= 64;
  }
  set.checkpoint.write(set.weights);
  const program_outcome quantized = set.quantize("--method observe --profile paper --json" + quoted(set.json));
  INFO(quantized.output);
  REQUIRE(quantized.exit_code == 0);
  CHECK(quantized.says("warning: " + set.weights.string() + ": attention of block 1 has much error"));
  CHECK(quantized.says("where the error is largest, --equalize gives "));
  CHECK(quantized.says(" dB, measured with --method observe"));
  const nlohmann::json json = read_json(set.json);
  REQUIRE(json.at("warnings").size() == 1);
  const nlohmann::json better = json.at("better_options");
  REQUIRE_FALSE(better.empty());
  CHECK(better[0].at("method") == "observe");
  CHECK(better[0].at("sqnr_db") > json.at("warnings")[0].at("sqnr_db").get<double>() + 3);
  const program_outcome equalized =
      set.quantize("--equalize --method observe --profile paper --json" + quoted(set.json));
  INFO(equalized.output);
  CHECK(read_json(set.json).at("warnings").empty());
}

TEST_CASE("intact-deit: refusals of a model name file, tensor, block and option") {
  const auto refusal_after = [&](auto change, const std::string& options) {
    tiny_set other;
    change(other.checkpoint);
    other.checkpoint.write(other.weights);
    const program_outcome refused = other.quantize(options);
    const program_outcome budget = deit("budget --weights" + quoted(other.weights) + "--calibration" +
                                        quoted(other.images) + "--evaluation" + quoted(other.images) + options);
    for (const program_outcome& each : {refused, budget}) {
      CHECK(each.exit_code == 2);
      CHECK(each.says(other.weights.string()));
    }
    return refused;
  };
  const program_outcome infinite = refusal_after(
      [](checkpoint_tensors& made) {
        std::vector<float>& fc1 = made.all["blocks.1.mlp.fc1.weight"].values;
        std::fill(fc1.begin(), fc1.end(), 3e38F);
      },
      "");
  INFO(infinite.output);
  CHECK(infinite.says("tensor fc1 of block 1 has the value"));
  const program_outcome heads = refusal_after([](checkpoint_tensors&) {}, "--heads 5");
  INFO(heads.output);
  CHECK(heads.says("heads is 5"));
  CHECK(heads.says("--heads"));
  const program_outcome deviation = refusal_after([](checkpoint_tensors& made) { made.metadata["std"] = "0"; }, "");
  INFO(deviation.output);
  CHECK(deviation.says("the option --std"));
}

TEST_CASE("intact-deit: budget prints every kind of tensor") {
  const tiny_set set;
  const auto kinds_of = [&](const std::string& options) {
    const program_outcome budget =
        deit("budget --weights" + quoted(set.weights) + "--calibration" + quoted(set.images) + "--evaluation" +
             quoted(set.images) + "--json" + quoted(set.json) + options);
    INFO(budget.output);
    REQUIRE(budget.exit_code == 0);
    return read_json(set.json).at("kinds");
  };
  const nlohmann::json paper = kinds_of("--profile paper"), precise = kinds_of("--profile precise --limit 3");
  CHECK(paper.size() == 12);
  CHECK(precise.size() == 9);  // no codes of pixels, embeddings and branches
  CHECK(paper.back().at("kind") == "everything");
  for (const nlohmann::json& row : paper) {
    CAPTURE(row.dump());
    CHECK(row.at("sqnr_db") >= paper.back().at("sqnr_db").get<double>() - 1);
    CHECK(row.at("kl") >= 0);
    CHECK(row.at("agreement") <= 100);
  }
}

TEST_CASE("intact-deit: attention maps have every head and patch, and follow the float model's") {
  const tiny_set set;
  for (const std::string options :
       {"", "--bits 8/8/8", "--tail clip", "--profile paper", "--profile paper --bits 8/8/8"}) {
    REQUIRE(set.quantize(options).exit_code == 0);
    const program_outcome shown = deit("attention --model" + quoted(set.model) + "--float" + quoted(set.weights) +
                                       "--image" + quoted(set.images / "0.png") + "--block 0 -o" + quoted(set.json));
    CAPTURE(options);
    INFO(shown.output);
    REQUIRE(shown.exit_code == 0);
    const nlohmann::json maps = read_json(set.json);
    CHECK(maps.at("columns") == 3);
    for (const char* const key : {"float", "integer", "codes"}) {
      REQUIRE(maps.at(key).size() == 2);
      CHECK(maps.at(key).at(1).size() == 9);
    }
    for (std::size_t head = 0; head < 2; ++head) {
      for (std::size_t patch = 0; patch < 9; ++patch) {
        const double in_float = maps.at("float").at(head).at(patch), found = maps.at("integer").at(head).at(patch);
        CHECK(found <= 2 * in_float + 0.02);
        CHECK(found >= in_float / 2 - 0.02);
      }
    }
  }
  const auto refused = [&](const std::string& options) {
    return deit("attention --model" + quoted(set.model) + "--float" + quoted(set.weights) + "--image" +
                quoted(set.images / "0.png") + "-o" + quoted(set.json) + options);
  };
  CHECK(refused("--block 2").says("--block is 2; the model has 2 blocks"));
  CHECK(refused("--heads 3").says("the model has other blocks, heads or tokens than"));
}

TEST_CASE("intact-deit: integers are close to the float model [DeiT-Tiny]", "[data]") {
  const char* const data = std::getenv("INTACT_DATA_DIR");
  if (data == nullptr) {
    report_skipped("INTACT_DATA_DIR names no folder of models and images");
    return;
  }
  const scratch_folder folder;
  const std::filesystem::path model = folder / "model.safetensors", json = folder / "result.json",
                              weights = std::filesystem::path(data) / "deit_tiny/model.safetensors",
                              images = std::filesystem::path(data) / "imagenet_like";
  const program_outcome quantized = deit("quantize --weights" + quoted(weights) + "--calibration" +
                                         quoted(images / "calibration") + "--prepared --images 4 -o" + quoted(model));
  INFO(quantized.output);
  REQUIRE(quantized.exit_code == 0);
  const program_outcome evaluated = deit("evaluate --model" + quoted(model) + "--float" + quoted(weights) + "--images" +
                                         quoted(images / "evaluation") + "--prepared --limit 5 --json" + quoted(json));
  INFO(evaluated.output);
  REQUIRE(evaluated.exit_code == 0);
  const nlohmann::json result = read_json(json);
  CHECK(result.at("float_top1") >= 80);
  CHECK(result.at("agreement") >= 80);
  CHECK(result.at("sqnr_db") > 14);
  CHECK(result.at("kl") < 0.05);
}

}  // namespace intact_test::deit_program_test
