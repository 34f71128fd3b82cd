#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <map>
#include <random>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "heap_counter.hpp"
#include "intact/build/packed_vit.hpp"
#include "intact/io/model_file.hpp"
#include "quantized_model.hpp"
#include "raw_model.hpp"

namespace intact_test::model_file_hostile_test {
namespace {

vit_shape hostile_shape() {
  vit_shape shape = small_vit;
  shape.depth = 1;
  return shape;
}

/// The good files that bad ones are made from, by the names of their recipes.
const std::map<std::string, raw_model>& good_models() {
  static const std::map<std::string, raw_model> all = [] {
    std::map<std::string, raw_model> made;
    for (const named_recipe& each : named_recipes()) {
      made.emplace(each.name, raw_model(quantized_vit(hostile_shape(), each.recipe)));
    }
    return made;
  }();
  return all;
}

/// Runs a model on images of all kinds, under the sanitizers, on the specification and on the kernels.
void run_all(integer_vit&& model) {
  const image_set images(model.shape(), 1);
  const std::vector<classification> expected = classify_all(model, images);
  const packed_vit packed(std::move(model));
  const std::vector<image_view> views = images.views();
  const intact::index_t batch = std::ssize(views), classes = packed.shape().classes;
  std::vector<std::int32_t> logits(static_cast<std::size_t>(batch * classes));
  std::vector<std::uint8_t> logits_u8(logits.size());
  std::vector<std::byte> scratch(vit_workspace_bytes(packed.shape(), batch));
  vit(views, packed.parameters(), packed.shape(),
      {matrix_view(logits.data(), batch, classes), matrix_view(logits_u8.data(), batch, classes)},
      workspace(scratch.data(), scratch.size()));
  for (std::size_t i = 0; i < views.size(); ++i) {
    const auto first = static_cast<std::ptrdiff_t>(i) * classes;
    REQUIRE(std::equal(expected[i].logits.begin(), expected[i].logits.end(), logits.begin() + first));
    REQUIRE(std::equal(expected[i].logits_u8.begin(), expected[i].logits_u8.end(), logits_u8.begin() + first));
  }
}

/// The message with which a file is refused; empty if it is a model. A model must run, too. Anything but a model or a
/// file_error fails the test.
std::string outcome(std::vector<std::byte> bytes, bool run = true) {
  try {
    integer_vit model = load_integer_vit(safetensors_file::parse(std::move(bytes), "hostile.safetensors"));
    if (run) {
      run_all(std::move(model));
    }
  } catch (const file_error& error) {
    return error.what();
  }
  return "";
}

using change = std::function<void(raw_model&)>;

struct bad_model {
  change made;
  std::string problem;
  std::string recipe = "paper";
};

/// Checks that each file is refused, with its error.
void require_refused(const std::vector<bad_model>& all) {
  for (const bad_model& bad : all) {
    raw_model model = good_models().at(bad.recipe);
    bad.made(model);
    CAPTURE(bad.recipe, bad.problem);
    const std::string message = outcome(model.file());
    REQUIRE(message.starts_with("hostile.safetensors: "));
    CAPTURE(message);
    REQUIRE(message.find(bad.problem) != std::string::npos);
  }
}

/// A single number that is out of its limits.
bad_model bad_number(const std::string& name, std::int64_t value, const std::string& limits,
                     const std::string& recipe = "paper") {
  return {[=](raw_model& m) { m.set(name, value); },
          "tensor \"" + name + "\" is " + std::to_string(value) + "; it must be in " + limits, recipe};
}

/// An element of an array that is out of its limits.
template <class T>
bad_model bad_element(const std::string& name, std::size_t i, T value, const std::string& limits,
                      const std::string& recipe = "paper") {
  return {[=](raw_model& m) { m.set(name, i, value); },
          "tensor \"" + name + "\" is " + std::to_string(value) + " at position " + std::to_string(i) +
              "; it must be in " + limits,
          recipe};
}

constexpr std::int64_t least_s64 = std::numeric_limits<std::int64_t>::min();
constexpr std::int64_t most_s64 = std::numeric_limits<std::int64_t>::max();
constexpr std::int32_t least_s32 = std::numeric_limits<std::int32_t>::min();
constexpr std::int32_t most_s32 = std::numeric_limits<std::int32_t>::max();

}  // namespace

TEST_CASE("load_integer_vit: loads the good files of these tests", "[model_file][hostile]") {
  for (const auto& [name, model] : good_models()) {
    CAPTURE(name);
    REQUIRE(outcome(model.file()).empty());
    raw_model repaired = model;
    repaired.repair();
    REQUIRE(repaired.file() == model.file());  // so repair makes the real numbers that the builders make
  }
}

TEST_CASE("load_integer_vit: refuses other formats and versions", "[model_file][hostile]") {
  require_refused({
      {[](raw_model& m) { m.metadata.clear(); }, "metadata \"format\" is missing"},
      {[](raw_model& m) { m.metadata.erase("version"); }, "metadata \"version\" is missing"},
      {[](raw_model& m) { m.metadata["format"] = "pt"; }, "metadata \"format\" is \"pt\"; it must be \"intact-vit\""},
      {[](raw_model& m) { m.metadata["format"] = "intact-vit "; }, "metadata \"format\" is \"intact-vit \""},
      {[](raw_model& m) { m.metadata["version"] = "0"; }, "metadata \"version\" is \"0\"; it must be in 1..2"},
      {[](raw_model& m) { m.metadata["version"] = "3"; }, "metadata \"version\" is \"3\"; it must be in 1..2"},
      {[](raw_model& m) { m.metadata["version"] = "02"; }, "metadata \"version\" is \"02\"; it must be in 1..2"},
      {[](raw_model& m) { m.metadata["version"] = "1.0"; }, "metadata \"version\" is \"1.0\"; it must be in 1..2"},
      {[](raw_model& m) { m.metadata["version"] = ""; }, "metadata \"version\" is \"\"; it must be in 1..2"},
  });
}

TEST_CASE("load_integer_vit: refuses shapes of no model", "[model_file][hostile]") {
  const std::string size = "1..1048576";
  std::vector<bad_model> all{
      bad_number("shape.depth", -1, "0..1048576"),
      bad_number("shape.depth", most_s64, "0..1048576"),
      bad_number("shape.stream", 2, "0..1"),
      bad_number("shape.stream", -1, "0..1"),
      bad_number("shape.stream", std::int64_t{1} << 32, "0..1"),
      {[](raw_model& m) { m.add("shape.class_tokens", -1); },
       "tensor \"shape.class_tokens\" is -1; it must be in 0..1048576"},
      {[](raw_model& m) { m.add("shape.class_tokens", 0); },
       "\"shape.class_tokens\" is 0; the features that shape.pooling names are those of class tokens"},
      {[](raw_model& m) { m.add("shape.registers", 0); }, "\"shape.registers\" is 0; it must be in 1..1048576"},
      {[](raw_model& m) { m.add("shape.registers", 1); }, "it must be [30]"},
      {[](raw_model& m) { m.add("shape.registers", 1 << 20); }, "tokens; they must be at most 82000"},
      {[](raw_model& m) { m.add("shape.class_tokens", 1); }, "\"shape.class_tokens\" is 1, which is left out"},
      {[](raw_model& m) { m.add("shape.pooling", 0); }, "\"shape.pooling\" is 0; it must be in 1..4"},
      {[](raw_model& m) { m.add("shape.pooling", 5); }, "\"shape.pooling\" is 5; it must be in 1..4"},
      {[](raw_model& m) {
         m.add("shape.pooling", 3);
         m.set("shape.height", 768);
         m.set("shape.width_pixels", 768);
       },
       "\"shape.pooling\" is that of a mean of s16 codes, of at most 65535 patches; the shape makes 65536"},
      {[](raw_model& m) { m.add("shape.pooling", 1); }, "tensor \"pool.multiplier\" is missing"},
      {[](raw_model& m) { m.add("shape.pooling", 3); }, "tensor \"pool.multiplier\" is missing"},
      {[](raw_model& m) { m.add("shape.class_tokens", 2); }, "it must be [30]"},
      {[](raw_model& m) { m.add("shape.class_tokens", 1 << 20); }, "tokens; they must be at most 82000"},
      {[](raw_model& m) { m.set("shape.height", 7); },
       "tensor \"shape.height\" is 7; it must be a multiple of shape.patch, which is 3"},
      {[](raw_model& m) { m.set("shape.width_pixels", 1); },
       "tensor \"shape.width_pixels\" is 1; it must be a multiple of shape.patch, which is 3"},
      {[](raw_model& m) { m.add("shape.norm", 0); }, "\"shape.norm\" is 0; it must be in 1..1"},
      {[](raw_model& m) { m.add("shape.norm", 2); }, "\"shape.norm\" is 2; it must be in 1..1"},
      {[](raw_model& m) { m.add("shape.gated", 0); }, "\"shape.gated\" is 0; it must be in 1..1"},
      {[](raw_model& m) { m.add("shape.gated", 1); }, "tensor \"blocks.0.gate.up.weights.kind\" is missing"},
      {[](raw_model& m) { m.add("shape.qk_norm", 0); }, "\"shape.qk_norm\" is 0; it must be in 1..2"},
      {[](raw_model& m) { m.add("shape.qk_norm", 3); }, "\"shape.qk_norm\" is 3; it must be in 1..2"},
      {[](raw_model& m) { m.add("shape.qk_norm", 2); }, "tensor \"blocks.0.q_norm.zero_point\" is missing"},
      {[](raw_model& m) { m.add("shape.patch_width", 3); }, "\"shape.patch_width\" is shape.patch, which is left out"},
      {[](raw_model& m) { m.add("shape.patch_width", 5); },
       "tensor \"shape.width_pixels\" is 12; it must be a multiple of shape.patch_width, which is 5"},
      {[](raw_model& m) { m.set("shape.classes", 0); }, "tensor \"features.zero_point\" is missing"},
      {[](raw_model& m) { m.set("shape.heads", 4); },
       "tensor \"shape.width\" is 15; it must be a multiple of shape.heads, which is 4"},
      {[](raw_model& m) {
         m.set("shape.height", 1048575);
         m.set("shape.width_pixels", 1048575);
       },
       "tensor \"shape.patch\" makes 122167725626 tokens; they must be at most 82000"},
      {[](raw_model& m) { m.set("shape.height", 61500); },
       "tensor \"shape.patch\" makes 82001 tokens; they must be at most 82000"},
      {[](raw_model& m) { m.set("shape.width", 1048575); },
       "tensor \"shape.width\" is 1048575; it must be in 1..524288"},
      {[](raw_model& m) { m.set("shape.width", 4098); }, "tensor \"shape.width\" is 4098; it must be in 1..4096",
       "precise"},
      {[](raw_model& m) {
         m.set("shape.width", 33026);
         m.set("shape.heads", 1);
       },
       "tensor \"shape.heads\" makes heads of 33026 channels; they must have at most 33025"},
  };
  for (const char* const name : {"shape.channels", "shape.height", "shape.width_pixels", "shape.patch", "shape.width",
                                 "shape.heads", "shape.hidden"}) {
    for (const std::int64_t value :
         {std::int64_t{0}, std::int64_t{-1}, std::int64_t{1048577}, std::int64_t{1} << 40, most_s64, least_s64}) {
      all.push_back(bad_number(name, value, size));
    }
  }
  for (const std::int64_t value : {std::int64_t{-1}, std::int64_t{1048577}, most_s64, least_s64}) {
    all.push_back(bad_number("shape.classes", value, "0..1048576"));
  }
  require_refused(all);
}

TEST_CASE("load_integer_vit: refuses tensors that do not fit the shape", "[model_file][hostile]") {
  const auto type = [](const std::string& name, dtype given) {
    return [=](raw_model& m) { m.tensors.at(name).type = given; };
  };
  const auto shape = [](const std::string& name, const std::vector<std::int64_t>& given) {
    return [=](raw_model& m) { m.tensors.at(name).shape = given; };
  };
  const auto number = [](const std::string& name, std::int64_t value) {
    return [=](raw_model& m) { m.set(name, value); };
  };
  require_refused({
      {type("patch.weights.codes", dtype::u8), "tensor \"patch.weights.codes\" has dtype U8; it must be I8"},
      {type("patch.scale.multiplier", dtype::f32), "tensor \"patch.scale.multiplier\" has dtype F32; it must be I32"},
      {type("patch.scale.exact", dtype::i64), "tensor \"patch.scale.exact\" has dtype I64; it must be F64"},
      {type("blocks.0.weighting.exponential", dtype::i64), "has dtype I64; it must be U64"},
      {type("shape.width", dtype::u64), "tensor \"shape.width\" has dtype U64; it must be I64"},
      {type("logits_scale", dtype::i64), "tensor \"logits_scale\" has dtype I64; it must be F64"},
      {shape("shape.width", {1}), "tensor \"shape.width\" has shape [1]; it must be []"},
      {shape("patch.weights.codes", {18, 15}),
       "tensor \"patch.weights.codes\" has shape [18, 15]; it must be [15, 18]"},
      {shape("patch.weights.codes", {270}), "tensor \"patch.weights.codes\" has shape [270]; it must be [15, 18]"},
      {shape("patch.scale.exact", {30}), "tensor \"patch.scale.exact\" has shape [30]; it must be [15, 2]"},
      {shape("blocks.0.activation", {64, 64}), "\"blocks.0.activation\" has shape [64, 64]; it must be [4096]"},
      {number("shape.width", 18), "has shape [15, 18]; it must be [18, 18]"},
      {number("shape.width", 99075), "has shape [15, 18]; it must be [99075, 18]"},
      {number("shape.hidden", 1048576),
       "tensor \"blocks.0.fc1.weights.codes\" has shape [17, 15]; it must be [1048576"},
      {number("shape.classes", 1048576), "tensor \"head.codes\" has shape [7, 15]; it must be [1048576, 15]"},
      {number("shape.channels", 3), "tensor \"pixel_table\" has shape [2, 256]; it must be [3, 256]"},
      {number("shape.height", 3), "tensor \"positions\" has shape [9, 15]; it must be [5, 15]"},
      {number("shape.patch", 1), "tensor \"patch.weights.codes\" has shape [15, 18]; it must be [15, 2]"},
      {number("shape.channels", 1048576),
       "tensor \"patch.weights.kind\" is that of weights with at most 65793 columns; "
       "the shape calls for 9437184",
       "precise"},
      {number("shape.channels", 14621), "is that of weights with at most 131586 columns; the shape calls for 131589",
       "precise, grouped s4"},
      {number("shape.depth", 2), "tensor \"blocks.1.norm1.zero_point\" is missing"},
      {number("shape.depth", 1048576), "tensor \"blocks.1.norm1.zero_point\" is missing"},
      {number("shape.depth", 0), "tensor \"blocks.0.activation\" has no place in this model"},
      {number("shape.stream", 1), "tensor \"token_addend\" is missing"},
  });
}

TEST_CASE("load_integer_vit: needs every tensor and refuses others", "[model_file][hostile]") {
  for (const auto& [recipe, good] : good_models()) {
    for (const auto& [name, tensor] : good.tensors) {
      if (name == "pixel_table") {
        continue;  // without one, pixels are codes
      }
      raw_model model = good;
      model.tensors.erase(name);
      REQUIRE(outcome(model.file()) == "hostile.safetensors: tensor \"" + name + "\" is missing");
    }
  }
  const auto extra = [](const std::string& name) {
    return bad_model{[=](raw_model& m) { m.tensors[name] = m.tensors.at("shape.width"); },
                     "tensor \"" + name + "\" has no place in this model"};
  };
  require_refused({extra("a"), extra("shape"), extra("shape.tokens"), extra("Shape.width"),
                   extra("blocks.1.norm1.gain"), extra("blocks.00.norm1.gain"), extra("patch.weights.packed"),
                   extra("token_addend"), extra("blocks.0.weighting.table"),
                   extra("blocks.0.weighting.normalization.factor")});
}

TEST_CASE("load_integer_vit: refuses weights that break their rules", "[model_file][hostile]") {
  const auto kind = [](std::int64_t value) { return [=](raw_model& m) { m.set("patch.weights.kind", value); }; };
  require_refused({
      bad_number("patch.weights.kind", 3, "0..2"),
      bad_number("head.kind", -1, "0..2"),
      {kind(1), "tensor \"patch.weights.packed\" is missing"},
      {kind(2), "tensor \"patch.weights.packed\" is missing"},
      {kind(0), "tensor \"patch.weights.codes\" is missing", "s4"},
      {kind(2), "tensor \"patch.weights.group\" is missing", "s4"},
      {kind(1), "tensor \"patch.weights.group\" has no place in this model", "grouped s4"},
      bad_number("patch.weights.group", 0, "1..1048576", "grouped s4"),
      bad_number("patch.weights.group", -1, "1..1048576", "grouped s4"),
      bad_number("head.group", most_s64, "1..1048576", "grouped s4"),
      {[](raw_model& m) { m.set("head.group", 5); }, "tensor \"head.shifts\" has shape [7, 4]; it must be [7, 3]",
       "grouped s4"},
      bad_element<std::uint8_t>("head.shifts", 27, 4, "0..3", "grouped s4"),
      bad_element<std::uint8_t>("blocks.0.fc1.weights.shifts", 0, 255, "0..3", "precise, grouped s4"),
      {[](raw_model& m) { m.set<std::uint8_t>("head.packed", 7, 0x1f); },
       "tensor \"head.packed\" has the padding 1 at the end of row 0; it must be 0", "s4"},
      {[](raw_model& m) { m.set<std::uint8_t>("head.packed", 55, 0xf0); },
       "tensor \"head.packed\" has the padding 15 at the end of row 6; it must be 0", "grouped s4"},
  });
}

TEST_CASE("load_integer_vit: refuses scales that break their rules", "[model_file][hostile]") {
  const std::string multiplier = "0..2147483647", shift = "0..30", offset = "-4611686018427387903..4611686018427387903";
  const std::int64_t two_to_62 = std::int64_t{1} << 62;
  const auto repaired = [](const std::string& name, std::int64_t value) {
    return [=](raw_model& m) {
      m.set(name, value);
      m.repair();
    };
  };
  const std::string logits = "blocks.0.attention_logits", context = "blocks.0.weighting.context";
  require_refused({
      bad_element<std::int32_t>("patch.scale.multiplier", 0, -1, multiplier),
      bad_element<std::int32_t>("logits.multiplier", 6, least_s32, multiplier),
      bad_element<std::int64_t>("blocks.0.qkv.scale.offset", 44, two_to_62, offset),
      bad_element<std::int64_t>("blocks.0.fc2.scale.offset", 0, -two_to_62, offset),
      bad_element<std::int64_t>("logits_u8.offset", 0, least_s64, offset),
      bad_number("blocks.0.proj.scale.shift", 31, shift),
      bad_number("blocks.0.proj.scale.shift", -1, shift),
      bad_number("blocks.0.fc1.scale.prescale", 31, shift),
      bad_number("blocks.0.fc1.scale.prescale", least_s64, shift),
      bad_number(logits + ".multiplier", -1, multiplier),
      bad_number(logits + ".multiplier", std::int64_t{1} << 31, multiplier),
      bad_number(logits + ".offset", two_to_62, offset),
      bad_number(context + ".shift", 31, shift),
      bad_number(context + ".prescale", -1, shift),
      {repaired("patch.scale.prescale", 30),
       "tensor \"patch.scale.prescale\" is 30; the accumulators of channel 0 reach "},
      {repaired(logits + ".prescale", 13),
       "is 13; the accumulators reach 325125, and times 2^13 they must be below 2^31"},
      {repaired(context + ".prescale", 7), "is 7; the accumulators reach 18802935, and times 2^7"},
      bad_number("blocks.0.weighting.context.prescale", 1, "0..0", "888"),
      {repaired(logits + ".offset", (std::int64_t{1} << 60) + 1), "is 1152921504606846977; minus 2^"},
      {[](raw_model& m) { m.set("patch.scale.offset", 3, (std::int64_t{1} << 60) + 1); }, "it must be exact in double"},
      {[](raw_model& m) { m.set("patch.scale.multiplier", 2, std::int32_t{5}); },
       "tensor \"patch.scale.exact\" has of channel 2 the factor "},
      {[](raw_model& m) { m.set("patch.scale.exact", 1, std::nan("")); },
       "tensor \"patch.scale.exact\" has of channel 0 the offset nan; the integers are exactly "},
      {[](raw_model& m) { m.set("logits.exact", 12, std::nextafter(m.get<double>("logits.exact", 12), 1)); },
       "tensor \"logits.exact\" has of channel 6 the factor "},
      {[](raw_model& m) { m.set("blocks.0.qkv.scale.exact", 0, -m.get<double>("blocks.0.qkv.scale.exact", 0)); },
       "tensor \"blocks.0.qkv.scale.exact\" has of channel 0 the factor -"},
      {[=](raw_model& m) { m.set(logits + ".exact.factor", 0, 0.25); },
       "tensor \"blocks.0.attention_logits.exact.factor\" is 0.25; the integers are exactly "},
      {[=](raw_model& m) { m.set(context + ".exact.offset", 0, std::numeric_limits<double>::infinity()); },
       "tensor \"blocks.0.weighting.context.exact.offset\" is inf; the integers are exactly "},
      {[](raw_model& m) { m.set("logits_scale", 0, 0.0); },
       "tensor \"logits_scale\" is 0; it must be above 0 and finite"},
      {[](raw_model& m) { m.set("logits_scale", 0, -1.0); }, "tensor \"logits_scale\" is -1; it must be above 0"},
      {[](raw_model& m) { m.set("logits_scale", 0, std::nan("")); }, "tensor \"logits_scale\" is nan"},
      {[](raw_model& m) { m.set("logits_scale", 0, HUGE_VAL); }, "tensor \"logits_scale\" is inf"},
  });
}

TEST_CASE("load_integer_vit: refuses additions that break their rules", "[model_file][hostile]") {
  const std::string name = "blocks.0.add1", multiplier = "0..2147483647";
  require_refused({
      bad_element<std::int32_t>(name + ".stream_multiplier", 14, -1, multiplier),
      bad_element<std::int32_t>(name + ".branch_multiplier", 0, least_s32, multiplier),
      bad_element<std::int32_t>(name + ".offset", 0, least_s32, "-2147483647..2147483647"),
      bad_number(name + ".shift", 16, "17..24"),
      bad_number(name + ".shift", 25, "17..24"),
      bad_number(name + ".zero_points.stream", 256, "0..255"),
      bad_number(name + ".zero_points.branch", -1, "0..255"),
      bad_number("add_positions.zero_points.output", 256, "0..255"),
      {[=](raw_model& m) {
         m.set(name + ".stream_multiplier", 0, std::int32_t{8421504});  // 255 * 8421504 = 2^31 - 128
         m.set(name + ".branch_multiplier", 0, std::int32_t{0});
         m.set(name + ".offset", 0, std::int32_t{-128});
         m.repair();
       },
       "tensor \"blocks.0.add1.offset\" is -128 at position 0; with its multipliers the sums reach 2147483648"},
      {[=](raw_model& m) { m.fill(name + ".branch_multiplier", most_s32); }, "with its multipliers the sums reach "},
      {[=](raw_model& m) { m.set(name + ".exact", 3, 0.125); }, "has in channel 1 the stream's factor 0.125; the "},
      {[=](raw_model& m) { m.set(name + ".exact", 4, std::nan("")); }, "has in channel 1 the branch's factor nan"},
      {[=](raw_model& m) { m.set(name + ".exact", 44, 0.0); }, "has in channel 14 the offset 0; the integers"},
  });
}

TEST_CASE("load_integer_vit: refuses LayerNorms that break their rules", "[model_file][hostile]") {
  const auto with_bias = [](std::int32_t gain, std::int64_t bias) {
    return [=](raw_model& m) {
      m.set("norm.gain", 2, gain);
      m.set("norm.bias", 2, bias);
    };
  };
  const std::string gain = "-1073741823..1073741823", epsilon = "1..2305843009213693952";
  const std::string fraction = "-1073741824..536870912";
  require_refused({
      bad_number("norm.zero_point", 256, "0..255"),
      bad_number("norm.zero_point", -1, "0..255"),
      bad_number("norm.zero_point", 1, "0..0", "precise"),
      bad_element<std::uint8_t>("blocks.0.norm1.shift", 14, 4, "0..3"),
      bad_number("blocks.0.norm2.epsilon", 0, epsilon),
      bad_number("blocks.0.norm2.epsilon", -1, epsilon),
      bad_number("blocks.0.norm2.epsilon", (std::int64_t{1} << 61) + 1, epsilon),
      bad_number("blocks.0.norm1.epsilon_fraction", -(1 << 30) - 1, fraction),
      bad_number("blocks.0.norm2.epsilon_fraction", (1 << 29) + 1, fraction),
      bad_number("norm.epsilon_fraction", most_s64, fraction),
      bad_element<std::int32_t>("norm.gain", 0, 1 << 30, gain),
      bad_element<std::int32_t>("norm.gain", 0, -(1 << 30), gain),
      bad_element<std::int32_t>("norm.gain", 14, least_s32, gain),
      bad_number("norm.output_shift", 0, "1..48"),
      bad_number("norm.output_shift", 49, "1..48"),
      {with_bias(0, least_s64), "is -9223372036854775808 at position 2; with the gain 0 its sums must be below 2^63"},
      {with_bias(1, most_s64), "is 9223372036854775807 at position 2; with the gain 1 its sums must be below 2^63"},
      // z reaches sqrt(15) * 2^24, just below 2^26, and times this gain 0.97 * 2^56 out of the 2^57 that are left
      {with_bias((1 << 30) - 1, most_s64 - (std::int64_t{1} << 55)), "with the gain 1073741823 its sums must be below"},
      {with_bias(1 - (1 << 30), least_s64 + (std::int64_t{1} << 55)),
       "with the gain -1073741823 its sums must be below"},
  });
}

TEST_CASE("load_integer_vit: refuses attention that breaks its rules", "[model_file][hostile]") {
  const std::string name = "blocks.0.weighting";
  const auto number = [=](const std::string& field, std::int64_t value) {
    return [=](raw_model& m) { m.set(name + field, value); };
  };
  const auto exponential = [=](std::size_t d, std::uint64_t value) {
    return [=](raw_model& m) { m.set(name + ".exponential", d, value); };
  };
  require_refused({
      bad_number("blocks.0.qkv_zero_point", 256, "0..255"),
      bad_number("blocks.0.qkv_zero_point", -1, "0..255"),
      {[](raw_model& m) { m.add("blocks.0.k_zero_point", 256); },
       "tensor \"blocks.0.k_zero_point\" is 256; it must be in 0..255"},
      {[](raw_model& m) { m.add("blocks.0.v_zero_point", -1); },
       "tensor \"blocks.0.v_zero_point\" is -1; it must be in 0..255"},
      bad_number(name + ".kind", 4, "0..3"),
      bad_number(name + ".probabilities", 3, "0..2"),
      bad_number(name + ".rounding", 2, "0..1"),
      bad_number(name + ".normalize", 2, "0..1"),
      bad_number(name + ".normalize", -1, "0..1"),
      {number(".kind", 1), "tensor \"" + name + ".normalize\" is 0; weights relative to the maximum"},
      {number(".kind", 2), "tensor \"" + name + ".normalize\" is 0; weights relative to the maximum"},
      {number(".kind", 3), "tensor \"" + name + ".normalize\" is 0; weights relative to the maximum"},
      {number(".kind", 3), "tensor \"" + name + ".code_weights\" is missing", "precise, clip"},
      {number(".kind", 2), "tensor \"" + name + ".code_weights\" has no place in this model", "precise, weight codes"},
      {number(".normalize", 0), "tensor \"" + name + ".normalize\" is 0; weights relative to the maximum", "precise"},
      {number(".kind", 2), "tensor \"" + name + ".table\" is missing", "normalized rows"},
      {number(".kind", 0), "tensor \"" + name + ".exponential\" is missing", "precise"},
      {number(".probabilities", 2), "tensor \"" + name + ".probabilities\" is that of 8-bit codes", "precise"},
      {number(".probabilities", 2), "tensor \"" + name + ".probabilities\" is that of 8-bit codes", "precise 888"},
      {number(".probabilities", 2), "tensor \"" + name + ".probabilities\" is that of 8-bit codes", "normalized rows"},
      {number(".normalize", 1), "tensor \"" + name + ".normalization.factor\" is missing"},
      {exponential(0, 0), "is 0 at position 0; for 9 tokens it must be in 1..970881267037344821"},
      {exponential(0, 970881267037344822), "is 970881267037344822 at position 0; for 9 tokens it must be in 1.."},
      {exponential(0, ~std::uint64_t{0}), "is 18446744073709551615 at position 0; for 9 tokens it must be in 1.."},
      {exponential(255, ~std::uint64_t{0}), "is 18446744073709551615 at position 255, after "},
      {[=](raw_model& m) {
         m.fill(name + ".exponential", std::uint64_t{7});
         m.set(name + ".exponential", 1, std::uint64_t{8});
       },
       "is 8 at position 1, after 7; it must not increase"},
      bad_element<std::uint8_t>(name + ".table", 255, 16, "0..15", "precise, clip"),
      bad_element<std::uint8_t>(name + ".table", 0, 17, "0..16", "precise"),
      bad_element<std::uint8_t>(name + ".table", 7, 16, "0..15", "precise, weight codes"),
      {[=](raw_model& m) { m.set(name + ".code_weights", 15, std::uint8_t{1}); },
       "tensor \"" + name + ".code_weights\" is 1 at position 15; it must be 0", "precise, weight codes"},
      bad_number(name + ".normalization.factor", 0, "1..1073741823", "precise"),
      bad_number(name + ".normalization.factor", 1 << 30, "1..1073741823", "normalized rows"),
      bad_number(name + ".normalization.factor", -1, "1..1073741823", "precise 888"),
      bad_number(name + ".normalization.zero_point", 256, "0..255", "precise"),
  });
}

namespace {

/// A precise model of one channel with so many tokens.
raw_model model_of_tokens(std::int64_t tokens) {
  raw_model model(quantized_vit(smallest_vit, precise_recipe));
  model.set("shape.height", tokens - 1);
  model.tensors["token_addend"] = {
      dtype::i16, {tokens, 1}, std::vector<std::byte>(2 * static_cast<std::size_t>(tokens))};
  return model;
}

}  // namespace

TEST_CASE("load_integer_vit: refuses rows that are too long to normalize", "[model_file][hostile]") {
  REQUIRE(outcome(model_of_tokens(65535).file(), false).empty());
  REQUIRE(outcome(model_of_tokens(65536).file(), false) ==
          "hostile.safetensors: tensor \"blocks.0.weighting.normalize\" is 1; rows of at most 65535 keys can be "
          "normalized, and these have 65536");
}

TEST_CASE("load_integer_vit: refuses a left_shift exactly if the accumulators leave no room for it",
          "[model_file][hostile]") {
  const raw_model& good = good_models().at("paper");
  std::int64_t largest = 0;
  for (std::size_t n = 0; n < 17; ++n) {
    std::array<std::int64_t, 2> sums{};
    for (std::size_t k = 0; k < 15; ++k) {
      const int w = good.get<std::int8_t>("blocks.0.fc1.weights.codes", 15 * n + k);
      sums[w < 0 ? 0 : 1] += 255 * std::abs(w);
    }
    largest = std::max({largest, sums[0], sums[1]});
  }
  int accepted = 0;
  for (int left_shift = 0; left_shift <= 30; ++left_shift) {
    raw_model model = good;
    model.set("blocks.0.fc1.scale.prescale", left_shift);
    model.repair();
    const std::string message = outcome(model.file());
    CAPTURE(left_shift, largest, message);
    const bool fits = (largest << left_shift) < (std::int64_t{1} << 31);
    REQUIRE(message.empty() == fits);
    REQUIRE((fits || message.find("\"blocks.0.fc1.scale.prescale\"") != std::string::npos));
    accepted += fits ? 1 : 0;
  }
  REQUIRE(accepted > 1);
  REQUIRE(accepted < 30);
}

TEST_CASE("load_integer_vit: models at their limits load and run", "[model_file][hostile]") {
  struct extreme_model {
    change made;
    std::string recipe = "paper";
  };
  const auto bound_scale = [](const std::string& name, bool largest) {
    return [=](raw_model& m) {
      m.fill(name + ".multiplier", most_s32);
      // minus 2^31, the half at shift 0, these are exact in double
      m.fill(name + ".offset", (largest ? 1 : -1) * ((std::int64_t{1} << 62) - (std::int64_t{1} << 31)));
      m.set(name + ".shift", 0);
      m.set(name + ".prescale", 0);
      m.repair();
    };
  };
  const auto bound_tensor_scale = [](const std::string& name, bool largest) {
    return [=](raw_model& m) {
      m.set(name + ".multiplier", most_s32);
      m.set(name + ".offset", (largest ? 1 : -1) * ((std::int64_t{1} << 62) - (std::int64_t{1} << 31)));
      m.set(name + ".shift", 0);
      m.set(name + ".prescale", 0);
      m.repair();
    };
  };
  const auto bound_norm = [](const std::string& name, std::int32_t gain, std::int64_t bias, std::int64_t epsilon) {
    return [=](raw_model& m) {
      m.fill(name + ".gain", gain);
      m.fill(name + ".bias", bias);
      m.fill(name + ".shift", std::uint8_t{3});
      m.set(name + ".epsilon", epsilon);
      m.set(name + ".output_shift", 1);
    };
  };
  const std::int64_t bias = most_s64 - (std::int64_t{1} << 57);
  const std::string attention = "blocks.0.weighting";
  std::vector<extreme_model> all;
  for (const char* const name : {"patch.scale", "blocks.0.qkv.scale", "blocks.0.proj.scale", "blocks.0.fc1.scale",
                                 "blocks.0.fc2.scale", "logits", "logits_u8"}) {
    for (const char* const recipe : {"paper", "precise", "grouped s4"}) {
      all.push_back({bound_scale(name, true), recipe});
      all.push_back({bound_scale(name, false), recipe});
    }
  }
  for (const char* const name : {"blocks.0.norm1", "blocks.0.norm2", "norm"}) {
    for (const char* const recipe : {"paper", "precise"}) {
      all.push_back({bound_norm(name, (1 << 30) - 1, bias, 1), recipe});
      all.push_back({bound_norm(name, 1 - (1 << 30), -bias, std::int64_t{1} << 61), recipe});
    }
  }
  for (const char* const recipe : {"paper", "888", "clip", "exact exponential"}) {
    all.push_back({bound_tensor_scale(attention + ".context", true), recipe});
    all.push_back(
        {[=](raw_model& m) { m.fill(attention + ".exponential", std::uint64_t{970881267037344821}); }, recipe});
    all.push_back({[=](raw_model& m) { m.fill(attention + ".exponential", std::uint64_t{1}); }, recipe});
    all.push_back({[=](raw_model& m) {
                     m.fill(attention + ".exponential", std::uint64_t{0});
                     m.set(attention + ".exponential", 0, std::uint64_t{1});
                   },
                   recipe});
  }
  for (const char* const recipe : {"precise", "precise 888", "precise, clip", "precise, weight codes"}) {
    const auto bound = [=](std::uint8_t entry, std::int64_t factor, std::int64_t zero_point) {
      return [=](raw_model& m) {
        m.fill(attention + ".table", entry);
        m.set(attention + ".normalization.factor", factor);
        m.set(attention + ".normalization.zero_point", zero_point);
      };
    };
    all.push_back({bound(0, (1 << 30) - 1, 255), recipe});
    all.push_back({bound(0, 1, 0), recipe});
    all.push_back({bound(15, (1 << 30) - 1, 255), recipe});
  }
  all.push_back({bound_tensor_scale("blocks.0.attention_logits", false)});
  all.push_back({[](raw_model& m) {
    m.fill("blocks.0.add1.stream_multiplier", std::int32_t{8421504});
    m.fill("blocks.0.add1.branch_multiplier", std::int32_t{0});
    m.fill("blocks.0.add1.offset", std::int32_t{-127});
    m.repair();
  }});
  all.push_back({[](raw_model& m) { m.tensors.erase("pixel_table"); }});
  for (const extreme_model& extreme : all) {
    raw_model model = good_models().at(extreme.recipe);
    extreme.made(model);
    CAPTURE(extreme.recipe);
    REQUIRE(model.file() != good_models().at(extreme.recipe).file());
    REQUIRE(outcome(model.file()) == "");
  }
}

// ---- headers ----

TEST_CASE("load_integer_vit: refuses headers that contradict the file", "[model_file][hostile]") {
  const raw_model& model = good_models().at("paper");
  const std::string header = model.header();
  const auto replaced = [&](const std::string& text, const std::string& by) {
    std::string changed = header;
    changed.replace(changed.find(text), text.size(), by);
    return outcome(model.file(changed));
  };
  const auto contains = [](const std::string& message, const std::string& problem) {
    CAPTURE(message);
    REQUIRE(message.find(problem) != std::string::npos);
  };
  const std::string first =
      "\"add_positions.branch_multiplier\":{\"dtype\":\"I32\",\"shape\":[15],\"data_offsets\":[0,60]}";
  const auto as = [&](const std::string& fields) { return "\"add_positions.branch_multiplier\":{" + fields + "}"; };
  contains(replaced(first, first + ",\"a\":{\"dtype\":\"I32\",\"shape\":[14],\"data_offsets\":[4,60]}"),
           "which overlaps the tensor that ends at 60");
  contains(replaced(first, as("\"dtype\":\"I32\",\"shape\":[14],\"data_offsets\":[0,56]")), "leaves a hole");
  contains(replaced(first, as("\"dtype\":\"I32\",\"shape\":[15],\"data_offsets\":[0,64]")),
           "has 60 bytes; data_offsets");
  contains(replaced(first, as("\"dtype\":\"I32\",\"shape\":[15],\"data_offsets\":[0,99999999]")),
           "has 60 bytes; data_offsets are 0 and 99999999");
  contains(replaced(first, as("\"dtype\":\"I32\",\"shape\":[15],\"data_offsets\":[99999939,99999999]")),
           "the file is truncated: its tensors have 99999999 bytes");
  contains(replaced(first, as("\"dtype\":\"I32\",\"shape\":[4611686018427387904,4],\"data_offsets\":[0,60]")),
           "must have at most 2^63 - 1 elements");
  contains(replaced(first, as("\"dtype\":\"I32\",\"shape\":[-15],\"data_offsets\":[0,60]")), "a size in shape is -15");
  contains(replaced(first, first + "," + first), "the name appears twice");
  contains(replaced(first, "\"a\":{\"shape\":" + std::string(100'000, '[')), "a size in shape is an array");
  contains(replaced("{\"__metadata__\"", "{\"__metadata__\":{},\"__metadata__\""), "the name appears twice");
  contains(replaced("\"version\":\"2\"", "\"version\":2"), "the value of \"version\" is 2; it must be a string");
  std::vector<std::byte> file = model.file();
  file[7] = std::byte{0x7f};
  contains(outcome(file), "it must have at most 100000000");
  file = model.file();
  file.push_back(std::byte{0});
  contains(outcome(file), "the tensors end at byte ");
}

TEST_CASE("load_integer_vit: refuses truncated files [every length of the header, and others]",
          "[model_file][hostile]") {
  const std::vector<std::byte> file = good_models().at("precise, grouped s4").file();
  std::size_t cuts = 0;
  for (std::size_t length = 0; length < file.size(); length += length < 64 || length + 64 > file.size() ? 1U : 61U) {
    CAPTURE(length);
    REQUIRE_FALSE(outcome({file.begin(), file.begin() + static_cast<std::ptrdiff_t>(length)}).empty());
    ++cuts;
  }
  REQUIRE(cuts > 200);
}

// ---- memory ----

namespace {

struct memory_use {
  std::size_t most = 0;     ///< live at once, beside the memory before
  std::size_t largest = 0;  ///< block
};

/// The memory that loading takes beside the file, whether it succeeds or not.
memory_use memory_of_loading(const safetensors_file& file) {
  const std::size_t before = live_bytes;
  most_live_bytes = before;
  largest_block = 0;
  try {
    load_integer_vit(file);
  } catch (const file_error&) {
  }
  return {most_live_bytes - before, largest_block};
}

}  // namespace

TEST_CASE("load_integer_vit: takes no more memory than is stated [any file]", "[model_file][hostile]") {
  constexpr std::size_t constant = 65536;
  const auto require_bounded = [&](const std::vector<std::byte>& bytes) {
    const memory_use use = memory_of_loading(safetensors_file::parse(bytes, "hostile"));
    CAPTURE(bytes.size());
    REQUIRE(use.most <= 2 * bytes.size() + constant);
    REQUIRE(use.largest <= bytes.size() + constant);
    return use.most;
  };
  for (const auto& [recipe, good] : good_models()) {
    CAPTURE(recipe);
    REQUIRE(require_bounded(good.file()) > 8192);  // it does count
    for (const auto& [name, tensor] : good.tensors) {
      if (tensor.type == dtype::i64 && tensor.shape.empty()) {
        for (const std::int64_t value : {std::int64_t{1} << 20, std::int64_t{1} << 40, std::int64_t{1} << 62}) {
          raw_model model = good;
          model.set(name, value);
          require_bounded(model.file());
        }
      }
    }
  }
  require_bounded(model_of_tokens(65535).file());
  vit_shape deep = small_vit;
  deep.depth = 33;  // just over a power of two, where a vector of blocks has most room to spare
  require_bounded(raw_model(quantized_vit(deep, precise_recipe)).file());
}

// ---- mutations ----

namespace {

/// Changes model files at random, the same way every time.
class mutator {
 public:
  explicit mutator(std::uint64_t seed) : random_(seed) {}

  std::size_t below(std::size_t limit) { return random_() % limit; }

  /// A model with up to three tensors changed; often its real numbers are made to fit again, so that a test
  /// reaches its integers.
  raw_model mutated(const raw_model& good) {
    raw_model model = good;
    for (std::size_t changes = 1 + below(3); changes > 0; --changes) {
      change_tensor(model);
    }
    if (below(4) != 0) {
      model.repair();
    }
    if (below(16) == 0) {
      change_place(model, any_name(model));
    }
    return model;
  }

 private:
  std::string any_name(const raw_model& model) {
    return std::next(model.tensors.begin(), static_cast<std::ptrdiff_t>(below(model.tensors.size())))->first;
  }

  void change_tensor(raw_model& model) {
    const std::string name = any_name(model);
    raw_tensor& tensor = model.tensors.at(name);
    const std::size_t size = dtype_bits(tensor.type) / 8, count = tensor.bytes.size() / size;
    switch (below(7)) {
      case 0:  // one bit
        tensor.bytes[below(tensor.bytes.size())] ^= static_cast<std::byte>(1U << below(8));
        break;
      case 1: {  // everything
        const std::uint64_t value = any_value(size);
        for (std::size_t i = 0; i < count; ++i) {
          std::memcpy(&tensor.bytes[i * size], &value, size);
        }
        break;
      }
      case 2:  // every byte
        for (std::byte& each : tensor.bytes) {
          each = static_cast<std::byte>(random_());
        }
        break;
      case 3: {  // the bytes of another tensor
        const std::vector<std::byte> other = model.tensors.at(any_name(model)).bytes;
        std::copy_n(other.begin(), std::min(other.size(), tensor.bytes.size()), tensor.bytes.begin());
        break;
      }
      default: {  // one element
        const std::uint64_t value = any_value(size);
        std::memcpy(&tensor.bytes[below(count) * size], &value, size);
      }
    }
  }

  /// Another place in the file, or none.
  void change_place(raw_model& model, const std::string& name) {
    raw_tensor& tensor = model.tensors.at(name);
    switch (below(4)) {
      case 0:
        model.tensors.erase(name);
        break;
      case 1:
        tensor.shape.push_back(1);
        break;
      case 2:
        model.tensors[name + "x"] = raw_tensor(tensor);
        break;
      default:
        std::swap(tensor, model.tensors.at(any_name(model)));
    }
  }

  /// Small numbers, powers of two and their neighbours, of either sign, and any bits.
  std::uint64_t any_value(std::size_t size) {
    const std::uint64_t power = std::uint64_t{1} << below(8 * size);
    switch (below(6)) {
      case 0:
        return below(32);
      case 1:
        return 0 - below(32);
      case 2:
        return power;
      case 3:
        return power - 1 + 2 * below(2);
      case 4:
        return 0 - power + below(2);
      default:
        return random_();
    }
  }

  std::mt19937_64 random_;
};

}  // namespace

TEST_CASE("load_integer_vit: models load and run, or are refused [random changes]", "[model_file][hostile]") {
  mutator mutate(20211124);
  std::size_t ran = 0, refused = 0;
  for (int round = 0; round < 400; ++round) {
    for (const auto& [recipe, good] : good_models()) {
      const std::string message = outcome(mutate.mutated(good).file());
      ++(message.empty() ? ran : refused);
      REQUIRE(message.size() < 1000);
    }
  }
  REQUIRE(ran > 500);
  REQUIRE(refused > 500);
}

TEST_CASE("load_integer_vit: models load and run, or are refused [random changes of the header]",
          "[model_file][hostile]") {
  const std::vector<std::string> pieces{"{",      "}",       "[",        "]",        ",",        "\"",   "0",
                                        "1",      "9",       "-1",       "I64",      "U8",       "F64",  "\"shape\":[]",
                                        "[0,60]", "[15,18]", "blocks.0", "blocks.1", ".weights", "kind", "norm"};
  const raw_model& good = good_models().at("precise 888");
  const std::string header = good.header();
  mutator mutate(20211125);
  std::size_t refused = 0;
  for (int round = 0; round < 2000; ++round) {
    std::string changed = header;
    const std::size_t place = mutate.below(changed.size());
    const std::size_t length = std::min(mutate.below(6), changed.size() - place);
    changed.replace(place, length, mutate.below(3) == 0 ? "" : pieces[mutate.below(pieces.size())]);
    refused += outcome(good.file(changed)).empty() ? 0U : 1U;
  }
  REQUIRE(refused > 1000);
}

}  // namespace intact_test::model_file_hostile_test
