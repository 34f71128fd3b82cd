#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "intact/build/packed_swin.hpp"
#include "intact/io/model_file.hpp"
#include "intact/reference/model/swin.hpp"
#include "random_swin.hpp"
#include "raw_model.hpp"
#include "refusal.hpp"
#include "scratch_folder.hpp"
#include "swin_reference.hpp"

// Files of Swin transformers: what is saved is loaded, and every byte of a file is hostile. Properties that files of
// all models have in common is in model_file_hostile_test.

namespace intact_test::swin_file_test {
namespace {

constexpr swin_shape small{.channels = 2,
                           .height = 14,
                           .image_width = 10,
                           .patch = 2,
                           .stages = 2,
                           .stage = {{{6, 2, 9, 2, 3}, {9, 3, 7, 1, 2}}},
                           .classes = 4};

quantization_recipe with_weights(quantization_recipe parts, weight_kind kind) {
  parts.weights = kind;
  parts.weight_group = 4;
  return parts;
}

/// Every kind of field is in one of them.
std::vector<quantization_recipe> all_parts() {
  return {paper_recipe, with_weights(paper_recipe_888, weight_kind::s4),
          with_weights(precise_recipe, weight_kind::grouped_s4), precise_recipe_888, precise_recipe_weight_codes};
}

integer_swin load(const raw_model& file) {
  return load_integer_swin(safetensors_file::parse(file.file(), "model"));
}

/// The logits of an image.
std::vector<std::int32_t> run(const integer_swin& model, const image_view& image) {
  std::vector<std::int32_t> logits(static_cast<std::size_t>(model.shape().classes));
  std::vector<std::uint8_t> logits_u8(logits.size());
  std::vector<std::byte> memory(reference::swin_workspace_bytes(model.shape()));
  reference::swin(
      image, packed_swin(model).parameters(), model.shape(),
      {matrix_view(logits.data(), 1, model.shape().classes), matrix_view(logits_u8.data(), 1, model.shape().classes)},
      workspace(memory.data(), memory.size()));
  return logits;
}

TEST_CASE("save_integer_swin: load_integer_swin gives the saved model [all recipes]", "[swin_file]") {
  std::uint64_t seed = 1;
  for (const quantization_recipe& parts : all_parts()) {
    INFO(recipe_text(parts));
    const integer_swin model = random_swin(small, parts, seed++);
    const scratch_folder folder;
    save_integer_swin(model, folder / "model", {{"made", "today"}});
    const integer_swin loaded = load_integer_swin(folder / "model");
    CHECK((loaded.tensors() == model.tensors()));
    CHECK(loaded.real_logit(1000) == model.real_logit(1000));

    save_integer_swin(loaded, folder / "again", {{"made", "today"}});
    CHECK(file_contents(folder / "again") == file_contents(folder / "model"));
    for (const owned_image& image : make_images(small, 2)) {
      const tensors expected = swin_reference(loaded.tensors()).evaluate(image.view);
      CHECK(compare_image(model, image.view, expected).mismatched == 0);
      CHECK(compare_image(loaded, image.view, expected).mismatched == 0);
    }
  }
}

/// The message with which a file is refused; empty if it is a model.
std::string refused(const raw_model& file) {
  return refusal<file_error>([&] { load(file); });
}

TEST_CASE("load_integer_vit, load_integer_swin: refuse files of the other model", "[swin_file]") {
  const integer_swin model = random_swin(small, paper_recipe, 5);
  const scratch_folder folder;
  save_integer_swin(model, folder / "model");
  try {
    load_integer_vit(folder / "model");
    FAIL("a Swin transformer is no vision transformer");
  } catch (const file_error& error) {
    CHECK(mentions(error.what(), "metadata \"format\" is \"intact-swin\"; it must be \"intact-vit\""));
  }
  raw_model file(model);
  file.metadata["version"] = "3";
  CHECK(mentions(refused(file), "metadata \"version\" is \"3\"; it must be in 1..2"));
}

TEST_CASE("load_integer_swin: needs every tensor and refuses others", "[swin_file]") {
  for (const quantization_recipe& parts : all_parts()) {
    const raw_model good(random_swin(small, parts, 7));
    REQUIRE(refused(good) == "");
    for (const auto& [name, tensor] : good.tensors) {
      raw_model bad = good;
      bad.tensors.erase(name);
      INFO(name);
      CHECK((mentions(refused(bad), '"' + name + '"') || name == "pixel_table"));
    }
    raw_model bad = good;
    bad.tensors["stages.1.merge_norm.epsilon"] = good.tensors.at("stages.0.merge_norm.epsilon");
    CHECK(mentions(refused(bad), "tensor \"stages.1.merge_norm.epsilon\" has no place in this model"));
  }
}

/// A single number that breaks a rule.
struct bad_number {
  const char* name;
  std::int64_t value;
  const char* message;
};

TEST_CASE("load_integer_swin: refuses shapes of no Swin transformer", "[swin_file]") {
  const raw_model good(random_swin(small, paper_recipe, 9));
  const bad_number numbers[] = {
      {"shape.stages", 0, "\"shape.stages\" is 0; it must be in 1..8"},
      {"shape.stages", 9, "\"shape.stages\" is 9; it must be in 1..8"},
      {"shape.stages", 1, "\"norm.shift\""},
      {"shape.stages", 3, "\"shape.stage.2.width\""},
      {"shape.height", 15, "\"shape.height\" is 15; it must be a multiple of shape.patch, which is 2"},
      {"shape.width_pixels", 1 << 21, "\"shape.width_pixels\" is 2097152; it must be in 1..1048576"},
      {"shape.patch", 0, "\"shape.patch\" is 0"},
      {"shape.stream", 2, "\"shape.stream\" is 2; it must be in 0..1"},
      {"shape.stage.0.width", 7, "\"shape.stage.0.width\" is 7; it must be a multiple of shape.stage.0.heads"},
      {"shape.stage.0.width", 1 << 19,
       "\"shape.stage.0.heads\" makes heads of 262144 channels; they must have at most 33025"},
      {"shape.stage.0.heads", 0, "\"shape.stage.0.heads\" is 0"},
      {"shape.stage.0.depth", -1, "\"shape.stage.0.depth\" is -1"},
      {"shape.stage.0.depth", 3, "stages.0.blocks.2"},
      {"shape.stage.0.window", 0, "\"shape.stage.0.window\" is 0"},
      {"shape.stage.0.window", 287, "\"shape.stage.0.window\" makes 82369 tokens; they must be at most 82000"},
      {"shape.stage.0.window", 4, "stages.0.blocks.0.position_bias"},
      {"shape.stage.1.window", 1 << 20, "\"shape.stage.1.window\" makes 1099511627776 tokens"},
      {"stages.0.blocks.1.norm1_zero_point", 256,
       "\"stages.0.blocks.1.norm1_zero_point\" is 256; it must be in 0..255"},
      {"stages.0.blocks.1.add_bias.shift", 16, "\"stages.0.blocks.1.add_bias.shift\" is 16; it must be in 17..24"},
      {"stages.0.merge_norm.zero_point", 256, "\"stages.0.merge_norm.zero_point\" is 256"},
      {"patch_norm.output_shift", 49, "\"patch_norm.output_shift\" is 49; it must be in 1..48"},
      {"pool.shift", 31, "\"pool.shift\" is 31; it must be in 0..30"},
      {"pool.prescale", 30, "\"pool.prescale\" is 30; the accumulators reach 3060"},
  };
  for (const bad_number& number : numbers) {
    INFO(number.name << " = " << number.value);
    raw_model bad = good;
    bad.set(number.name, 0, number.value);
    CHECK(mentions(refused(bad), number.message));
  }
}

TEST_CASE("load_integer_swin: refuses shapes with too many tokens", "[swin_file]") {
  raw_model bad(random_swin(small, paper_recipe, 9));
  bad.set("shape.height", 0, std::int64_t{1 << 14});
  bad.set("shape.width_pixels", 0, std::int64_t{1 << 13});
  bad.set("shape.patch", 0, std::int64_t{1});
  CHECK(mentions(refused(bad),
                 "\"shape.patch\" makes 134217728 tokens, and 33554432 of the last stage; they must be at "
                 "most 16777216 and 8421504"));
}

TEST_CASE("load_integer_swin: refuses stages too wide for their LayerNorms", "[swin_file]") {
  for (const quantization_recipe& parts : {paper_recipe, precise_recipe}) {
    const bool wide = parts.stream == stream_codes::s16;
    raw_model bad(random_swin(small, parts, 9));
    bad.set("shape.stage.0.heads", 0, std::int64_t{1024});
    bad.set("shape.stage.0.width", 0, std::int64_t{1 << 18});
    CHECK(mentions(refused(bad), wide ? "\"shape.stage.0.width\" is 262144; it must be in 1..1024"
                                      : "\"shape.stage.0.width\" is 262144; it must be in 1..131072"));
  }
}

TEST_CASE("load_integer_swin: refuses contents that break their rules", "[swin_file]") {
  const raw_model good(random_swin(small, precise_recipe, 11));
  raw_model bad = good;
  bad.set("stages.0.blocks.0.add_bias.offset", 2, std::int32_t{2147483647});
  CHECK(mentions(refused(bad), "\"stages.0.blocks.0.add_bias.offset\" is 2147483647 at position 2"));
  bad = good;
  bad.set("stages.0.merge_norm.shift", 23, std::uint8_t{4});
  CHECK(mentions(refused(bad), "\"stages.0.merge_norm.shift\" is 4 at position 23; it must be in 0..3"));
  bad = good;
  bad.set("tokens.multiplier", 0, std::int64_t{-1});
  CHECK(mentions(refused(bad), "\"tokens.multiplier\" is -1"));
  bad = good;
  bad.set("tokens.exact.factor", 0, 1.0);
  CHECK(mentions(refused(bad), "\"tokens.exact.factor\" is 1; the integers are exactly"));
  bad = good;
  bad.set("stages.0.merge_norm.zero_point", 0, std::int64_t{1});
  CHECK(mentions(refused(bad), "\"stages.0.merge_norm.zero_point\" is 1; it must be in 0..0"));
  bad = good;
  bad.set("stages.0.blocks.1.block.weighting.probabilities", 0, std::int64_t{1});
  for (std::size_t i = 0; i < 256; ++i) {
    bad.set("stages.0.blocks.1.block.weighting.table", i, std::uint8_t{3});
  }
  CHECK(mentions(refused(bad), "\"stages.0.blocks.1.block.weighting.probabilities\" is that of packed codes"));
}

TEST_CASE("load_integer_swin: models load and run, or are refused [random changes]", "[swin_file]") {
  generator random(13);
  int loaded = 0, refusals = 0;
  for (const quantization_recipe& parts : all_parts()) {
    const raw_model good(random_swin(small, parts, 15));
    std::vector<std::string> names;
    for (const auto& [name, tensor] : good.tensors) {
      names.push_back(name);
    }
    const owned_image image = std::move(make_images(small, 1).back());
    for (int round = 0; round < 100; ++round) {
      raw_model changed = good;
      const auto pick = [&](std::size_t size) {
        return static_cast<std::size_t>(random.between(0, static_cast<std::int64_t>(size) - 1));
      };
      for (std::int64_t changes = random.between(1, 3); changes > 0; --changes) {
        std::vector<std::byte>& bytes = changed.tensors.at(names[pick(names.size())]).bytes;
        bytes[pick(bytes.size())] = static_cast<std::byte>(random.between(0, 255));
      }
      try {
        const integer_swin model = load(changed);
        if (model.shape().height == small.height && model.shape().image_width == small.image_width) {
          run(model, image.view);
        }
        ++loaded;
      } catch (const file_error&) {
        ++refusals;
      }
    }
  }
  CHECK(loaded > 20);
  CHECK(refusals > 100);
}

}  // namespace
}  // namespace intact_test::swin_file_test
