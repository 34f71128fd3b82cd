#include "intact/build/recipe.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <iostream>
#include <set>
#include <string>
#include <vector>

#include "catch.hpp"
#include "double_reference.hpp"
#include "intact/quantize/build_vit.hpp"
#include "intact/quantize/calibrate.hpp"
#include "intact/quantize/float_vit.hpp"
#include "random_float_layers.hpp"
#include "random_model.hpp"
#include "refusal.hpp"

// Every combination of the parts of a recipe: a float model becomes an integer model that equals the evaluation in
// double precision on every tensor, or the combination is refused in a sentence.

namespace intact_test::recipe_test {
namespace {

// Sizes that all differ. No layer's columns, 18, 10 or 19, are a multiple of 4, and 16 ends in the middle of some.
constexpr vit_shape shape{.channels = 2,
                          .height = 6,
                          .image_width = 9,
                          .patch = 3,
                          .width = 10,
                          .heads = 2,
                          .hidden = 19,
                          .depth = 2,
                          .classes = 5};

struct weight_choice {
  weight_kind kind;
  index_t group;
};
constexpr weight_choice weight_choices[] = {
    {weight_kind::s8, 0},          {weight_kind::s4, -1},          {weight_kind::grouped_s4, -1},
    {weight_kind::grouped_s4, 0},  {weight_kind::grouped_s4, 1},   {weight_kind::grouped_s4, 4},
    {weight_kind::grouped_s4, 16}, {weight_kind::grouped_s4, 1000}};  // the group matters to grouped_s4 only

/// Every combination, whether or not its parts exclude each other.
std::vector<quantization_recipe> all_recipes() {
  std::vector<quantization_recipe> all;
  for (quantization_recipe p : all_attention_recipes()) {
    for (const stream_codes stream : {stream_codes::u8, stream_codes::s16}) {
      for (const bool pixel_codes : {false, true}) {
        for (const weight_choice& weights : weight_choices) {
          p.stream = stream;
          p.pixel_codes = pixel_codes;
          p.weights = weights.kind;
          p.weight_group = weights.group;
          all.push_back(p);
        }
      }
    }
  }
  return all;
}

std::vector<quantization_recipe> sensible_recipes() {
  std::vector<quantization_recipe> sensible = all_recipes();
  std::erase_if(sensible, [](const quantization_recipe& p) { return !reasons_to_refuse(p).empty(); });
  return sensible;
}

/// Draws the float model's parameters.
class float_model_builder : random_float_layers {
 public:
  using random_float_layers::random_float_layers;

  float_vit model() {
    float_vit made;
    made.shape = shape;
    made.mean = {0.4f, 0.5f};
    made.standard_deviation = {0.2f, 0.3f};
    made.patch = linear(shape.width, shape.patch_values());
    made.class_token = matrix(1, shape.width, 1);
    made.positions = matrix(shape.tokens(), shape.width, 0.5f);
    for (index_t i = 0; i < shape.depth; ++i) {
      made.blocks.push_back({.norm1 = layernorm(shape.width),
                             .qkv = linear(3 * shape.width, shape.width, 2),  // probabilities below 2^-16 too
                             .proj = linear(shape.width, shape.width),
                             .norm2 = layernorm(shape.width),
                             .fc1 = linear(shape.hidden, shape.width),
                             .fc2 = linear(shape.width, shape.hidden)});
    }
    made.norm = layernorm(shape.width);
    made.head = linear(shape.classes, shape.width);
    return made;
  }
};

/// A float model, the images that it is calibrated with, and its scales.
struct calibrated_model {
  float_vit model;
  std::vector<owned_image> images;
  vit_scales scales;

  calibrated_model() : model(float_model_builder(1).model()), images(make_images(shape, 4)) {
    std::vector<image_view> views;
    for (const owned_image& image : images) {
      views.push_back(image.view);
    }
    scales = calibrate(model, views);
  }
};

TEST_CASE("require_recipe: refuses parts that exclude each other, in build_vit before anything else is read") {
  vit_scales wrong_scales;
  wrong_scales.blocks.resize(3);
  REQUIRE(refusal([&] { build_vit(float_vit{}, wrong_scales); }) ==
          "intact::fit_scales: number of blocks of the scales is 3; it must be equal to 0");

  std::set<std::string> named;
  int accepted = 0, refused = 0;
  for (const quantization_recipe& p : all_recipes()) {
    INFO(recipe_text(p));
    const std::vector<std::string> reasons = reasons_to_refuse(p);
    const std::string message = refusal([&] { require_recipe(p); });
    REQUIRE(message.empty() == reasons.empty());
    if (message.empty()) {
      ++accepted;
      continue;
    }
    ++refused;
    INFO(message);
    REQUIRE(message.starts_with("intact::recipe: "));
    const auto found = std::find_if(reasons.begin(), reasons.end(), [&](const std::string& reason) {
      return message.find(reason) != std::string::npos;
    });
    REQUIRE(found != reasons.end());
    named.insert(*found);
    REQUIRE(refusal([&] { build_vit(float_vit{}, wrong_scales, p); }) == message);
  }
  CHECK(accepted == 24 * 2 * 2 * 6);
  CHECK(refused == (96 * 8 - 24 * 6) * 2 * 2);
  CHECK(named.size() == 7);  // no refusal hides another one always
}

TEST_CASE("require_recipe: names choices as a program does") {
  const recipe_choice_names names{.normalized = "<1>",
                                  .not_normalized = "<2>",
                                  .exact = "<3>",
                                  .round_log = "<4>",
                                  .log2_of_sum = "<5>",
                                  .u8_full = "<6>",
                                  .u8_masked = "<7>"};
  std::set<std::string> choices;
  for (const quantization_recipe& p : all_recipes()) {
    const std::string message = refusal([&] { require_recipe(p, names); });
    REQUIRE(message.empty() == refusal([&] { require_recipe(p); }).empty());
    REQUIRE_FALSE(mentions(message, "normalize_rows"));
    const std::size_t choice = message.find("; choose ");
    if (choice != std::string::npos) {
      choices.insert(message.substr(choice + 9));
      REQUIRE_FALSE(mentions(message.substr(std::string("intact::").size()), "::"));
    }
  }
  CHECK(choices == std::set<std::string>{"<1>", "<2>", "<3>", "<4>", "<5>", "<7>"});
  CHECK(refusal([&] { require_recipe({.probabilities = attention_code::u8_full, .normalize_rows = true}, names); }) ==
        "intact::recipe: 8-bit log2 codes (<6>) are not normalized, as their sum does not fit 32 bits; choose <2>");
}

TEST_CASE("require_recipe: accepts the named recipes, whose parts are the documented ones") {
  for (const quantization_recipe& p :
       {paper_recipe, paper_recipe_888, precise_recipe, precise_recipe_888, precise_recipe_weight_codes}) {
    CHECK(refusal([&] { require_recipe(p); }) == "");
  }
  const std::string paper = "attention 0 probabilities 0 exponential 0 rounding 0 normalize_rows 0 stream 0 ";
  const std::string rest = "weights 0 weight_group 32 ";
  CHECK(recipe_text(paper_recipe) == paper + "pixel_codes 0 " + rest);
  CHECK(recipe_text({}) == recipe_text(paper_recipe));
  CHECK(paper_recipe_888.probabilities == attention_code::u8_full);
  CHECK(recipe_text(precise_recipe) ==
        "attention 1 probabilities 0 exponential 1 rounding 1 normalize_rows 1 stream 1 pixel_codes 1 " + rest);
  CHECK(recipe_text(precise_recipe_888) ==
        "attention 2 probabilities 0 exponential 1 rounding 1 normalize_rows 1 stream 1 pixel_codes 1 " + rest);
  CHECK(recipe_text(precise_recipe_weight_codes) ==
        "attention 3 probabilities 0 exponential 1 rounding 1 normalize_rows 1 stream 1 pixel_codes 1 " + rest);
}

/// Softmax relative to the maximum at a distance d, from its definition.
int softmax_entry(int d, double scale, const quantization_recipe& p) {
  if (p.attention == attention_kind::weights) {
    return static_cast<int>(std::nearbyint(255 / std::exp(d * scale)));
  }
  if (p.attention == attention_kind::weight_codes) {
    int nearest = 0;
    for (int code = 1; code < 16; ++code) {
      const auto miss = [&](int of) {
        return std::abs(geometric_code_weights[static_cast<std::size_t>(of)] - 255 / std::exp(d * scale));
      };
      nearest = miss(code) < miss(nearest) ? code : nearest;
    }
    return nearest;
  }
  const int code = static_cast<int>(std::nearbyint(std::log2(std::exp(d * scale))));
  return code <= 15 ? code : p.probabilities == attention_code::u4_clipped ? 15 : 16;
}

void check_weights(const owned_weights& weights, const quantization_recipe& p) {
  REQUIRE(weights.kind == p.weights);
  REQUIRE(weights.codes.empty() == (p.weights != weight_kind::s8));
  REQUIRE(weights.packed.empty() == (p.weights == weight_kind::s8));
  REQUIRE(weights.shifts.empty() == (p.weights != weight_kind::grouped_s4));
  if (p.weights == weight_kind::grouped_s4) {
    REQUIRE(weights.group == p.weight_group);
  }
}

void check_softmax(const owned_softmax& softmax, const block_scales& scales, const quantization_recipe& p) {
  REQUIRE(softmax.kind == p.attention);
  REQUIRE(softmax.normalize == p.normalize_rows);
  REQUIRE(softmax.table.empty() == (p.attention == attention_kind::log2_of_sum));
  for (int d = 0; d < static_cast<int>(softmax.table.size()); ++d) {
    const int expected = softmax_entry(d, static_cast<double>(scales.attention_logits.scale), p);
    REQUIRE(softmax.table[static_cast<std::size_t>(d)] == expected);
  }
  if (p.attention != attention_kind::weights) {
    REQUIRE(softmax.probabilities == p.probabilities);
  }
  const bool has_codes = p.attention == attention_kind::weight_codes;
  REQUIRE(softmax.code_weights.size() == (has_codes ? 16U : 0U));
  REQUIRE(std::equal(softmax.code_weights.begin(), softmax.code_weights.end(), scales.attention_weights.begin()));
  if (p.attention == attention_kind::log2_of_sum) {
    REQUIRE(softmax.rounding == p.rounding);
    const bool exact = softmax.exponential[0] == std::uint64_t{1} << 28;  // 31 - bit_length(7 tokens)
    REQUIRE(exact == (p.exponential == exponential_kind::exact));
  }
}

/// Whether the model has the parts that its recipe asks for.
void check_parts(const vit_tensors& contents, const vit_scales& scales, const quantization_recipe& p) {
  const bool wide = p.stream == stream_codes::s16;
  REQUIRE(contents.shape.stream == p.stream);
  REQUIRE(contents.pixel_table.empty() == p.pixel_codes);
  REQUIRE(contents.embed_table.empty() == wide);
  REQUIRE(contents.add_positions.exact.empty() == wide);
  REQUIRE(contents.token_addend.empty() == !wide);
  check_weights(contents.patch.weights, p);
  check_weights(contents.head, p);
  for (std::size_t i = 0; i < contents.blocks.size(); ++i) {
    const owned_block& block = contents.blocks[i];
    for (const owned_linear* layer : {&block.qkv, &block.proj, &block.fc1, &block.fc2}) {
      check_weights(layer->weights, p);
    }
    check_softmax(block.softmax, scales.blocks[i], p);
    REQUIRE(block.add1.exact.empty() == wide);
    REQUIRE(block.add2.exact.empty() == wide);
  }
}

/// Squares of real numbers, and of their codes' errors.
struct squared_error {
  double signal = 0;
  double noise = 0;

  void add(double exact, double quantized) {
    signal += exact * exact;
    noise += (quantized - exact) * (quantized - exact);
  }
  double decibels() const { return 10 * std::log10(signal / noise); }
};

/// The error of the integer model in the float model's tokens and logits.
struct model_error {
  squared_error tokens, logits;

  void add(const calibrated_model& calibrated, const vit_tensors& contents, const image_view& image,
           const tensors& codes) {
    const bool wide = contents.shape.stream == stream_codes::s16;
    const ptf_scale& u8 = calibrated.scales.tokens;
    const auto token_value = [&](index_t i, index_t c) {
      const int code = codes.at({"tokens"})(i, c);
      const double step = static_cast<double>(wide ? calibrated.scales.stream : u8.channel(c).scale);
      return (wide ? code : code - u8.zero_point) * step;
    };
    const auto logit_value = [&](index_t i, index_t c) { return codes.at({"logits"})(i, c) * contents.logits_scale; };
    const auto add_all = [](squared_error& error, const float_matrix& exact, auto value) {
      for (index_t i = 0; i < exact.rows(); ++i) {
        for (index_t c = 0; c < exact.cols(); ++c) {
          error.add(static_cast<double>(exact(i, c)), value(i, c));
        }
      }
    };
    forward(calibrated.model, image, [&](const trace_site& site, const float_matrix& exact) {
      if (site.name == "tokens") {
        add_all(tokens, exact, token_value);
      } else if (site.name == "logits") {
        add_all(logits, exact, logit_value);
      }
    });
  }
};

/// A part that is built for something else than it computes loses most of the float model's numbers.
void check_error(const model_error& error, const quantization_recipe& p) {
  const bool s8 = p.weights == weight_kind::s8;
  CHECK(error.tokens.decibels() > (s8 ? 33 : 18));
  CHECK(error.logits.decibels() > (s8 && p.attention != attention_kind::log2_of_sum ? 25 : 10));
}

/// Builds the integer model and compares it on every image; returns how many codes were compared.
std::int64_t check_recipe(const calibrated_model& calibrated, const quantization_recipe& p, code_counts& occurred) {
  const integer_vit model = build_vit(calibrated.model, calibrated.scales, p);
  check_parts(model.tensors(), calibrated.scales, p);
  const double_reference reference(model.tensors());
  std::int64_t compared = 0;
  model_error error;
  for (const owned_image& image : calibrated.images) {
    const tensors expected = reference.evaluate(image.view);
    compared += require_equal(compare_image(model, image.view, expected), expected);
    count_occurrences(expected, occurred);
    error.add(calibrated, model.tensors(), image.view, expected);
  }
  check_error(error, p);
  return compared;
}

TEST_CASE("build_vit: equals the evaluation in double precision on every tensor [all recipes]") {
  const calibrated_model calibrated;
  code_counts u8_stream, s16_stream;
  std::int64_t compared = 0;
  int models = 0;
  for (const quantization_recipe& p : sensible_recipes()) {
    INFO(recipe_text(p));
    compared += check_recipe(calibrated, p, p.stream == stream_codes::s16 ? s16_stream : u8_stream);
    ++models;
  }
  std::cout << "[intact: compared] " << models << " models of a float model: " << compared << " codes\n";
  CHECK(models == 24 * 2 * 2 * 6);

  for (code_counts* const occurred : {&u8_stream, &s16_stream}) {
    CHECK(find_narrow_tensor(*occurred,
                             {"input", "norm1", "qkv", "attention_logits", "context", "norm2", "activation", "norm"},
                             200, 0, 255) == "");
    CHECK(find_narrow_tensor(*occurred, {"fc1"}, 2000, 0, 4095) == "");
    for (int code = 0; code <= 20; ++code) {
      CHECK((*occurred)["attention"].contains(code));
    }
  }
  CHECK(find_narrow_tensor(u8_stream, {"patch", "embed", "tokens", "proj", "add1", "fc2", "add2"}, 150, 0, 255) == "");
  CHECK(s16_stream["add2"].size() > 10000);
  CHECK(s16_stream["add2"].begin()->first < -30000);
  CHECK(s16_stream["add2"].rbegin()->first > 30000);
}

}  // namespace
}  // namespace intact_test::recipe_test
