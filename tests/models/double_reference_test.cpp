#include "double_reference.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <iostream>
#include <map>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "intact/build/owned_packed_weights.hpp"
#include "intact/reference/model/attention.hpp"
#include "intact/reference/shift_matmul.hpp"
#include "intact/reference/weighted_matmul.hpp"
#include "random_model.hpp"

namespace intact_test::double_reference_test {
namespace {

/// Compares a random model on several images; returns how many codes were compared.
std::int64_t check_model(const model_recipe& recipe, std::uint64_t seed, int random_images, code_counts& occurred) {
  INFO("seed " << seed << ", recipe: " << recipe_text(recipe.parts));
  const integer_vit model(model_builder(recipe, seed).model());
  const double_reference reference(model.tensors());
  std::int64_t compared = 0;
  for (const owned_image& image : make_images(recipe.shape, random_images)) {
    const tensors expected = reference.evaluate(image.view);
    compared += require_equal(compare_image(model, image.view, expected), expected);
    count_occurrences(expected, occurred);
  }
  REQUIRE(compared > 0);
  return compared;
}

//                     channels, height, width, patch, width, heads, hidden, depth, classes, class tokens
constexpr vit_shape several_patches{1, 8, 8, 2, 16, 4, 32, 2, 10};
constexpr vit_shape colour{3, 8, 8, 2, 24, 2, 33, 2, 7};
constexpr vit_shape shapes[] = {
    several_patches,
    colour,
    {3, 6, 4, 2, 9, 3, 11, 3, 1},     // odd widths, an image that is not square, one class
    {3, 4, 4, 4, 5, 1, 7, 1, 3},      // one patch: two tokens
    {1, 3, 5, 1, 1, 1, 1, 1, 2},      // width 1: LayerNorm sees a variance of 0
    {1, 0, 0, 1, 8, 2, 8, 1, 3},      // no patch: the class token alone
    {1, 2, 2, 1, 6, 2, 9, 0, 4},      // no block
    {3, 12, 12, 2, 7, 1, 5, 1, 12},   // an odd number of tokens, 37, in packed rows
    {3, 8, 6, 2, 12, 3, 20, 2, 6, 2}  // a distillation token
};

constexpr stream_codes u8_stream = stream_codes::u8;  // of these shapes, until a recipe replaces it

/// Other tokens and features.
constexpr vit_shape pooled_shapes[] = {
    {3, 8, 6, 2, 12, 3, 20, 2, 6, 1, u8_stream, 4},                                      // registers
    {3, 8, 6, 2, 12, 3, 20, 2, 6, 2, u8_stream, 3},                                      // and a distillation token
    {3, 8, 6, 2, 12, 3, 20, 2, 6, 0, u8_stream, 0, vit_pooling::mean},                   // patches alone
    {1, 8, 8, 2, 16, 4, 32, 1, 9, 1, u8_stream, 2, vit_pooling::mean},                   // all tokens, none unused
    {3, 8, 6, 2, 12, 3, 20, 2, 6, 1, u8_stream, 2, vit_pooling::class_tokens_and_mean},  // DINOv2's classifier
    {3, 8, 6, 2, 12, 3, 20, 2, 6, 0, u8_stream, 0, vit_pooling::normalized_mean},
    {1, 9, 12, 3, 9, 3, 11, 2, 5, 1, u8_stream, 1, vit_pooling::normalized_mean},
    {1, 2, 2, 2, 6, 2, 9, 0, 4, 0, u8_stream, 0, vit_pooling::normalized_mean},  // one patch, no block
    {1, 0, 0, 1, 8, 2, 8, 1, 3, 1, u8_stream, 0, vit_pooling::mean}};            // no patch

constexpr attention_code tails[] = {attention_code::u8_masked, attention_code::u4_clipped, attention_code::u8_full};

/// The paper's graph with other attention codes.
quantization_recipe paper_with(attention_code probabilities, exponential_kind exponential = exponential_kind::exact) {
  return {.probabilities = probabilities, .exponential = exponential};
}

/// The weights of the n-th model. No group divides the columns of all layers, some are longer than a layer's rows.
quantization_recipe with_weights(quantization_recipe parts, std::size_t n) {
  constexpr index_t groups[] = {5, 16, 1, 7};
  parts.weights = n % 3 == 0 ? weight_kind::s8 : n % 3 == 1 ? weight_kind::grouped_s4 : weight_kind::s4;
  parts.weight_group = groups[n / 3 % 4];
  return parts;
}

void check_spread_inside_blocks(const code_counts& occurred) {
  CHECK(find_narrow_tensor(
            occurred,
            {"input", "norm1", "qkv", "attention_logits", "context", "norm2", "activation", "norm", "logits_u8"}, 200,
            0, 255) == "");
  CHECK(find_narrow_tensor(occurred, {"fc1"}, 3000, 0, 4095) == "");
  CHECK(occurred.at("logits").size() >= 500);
}

TEST_CASE("vit: equals the evaluation in double precision on every tensor [paper recipes]") {
  code_counts occurred;
  std::int64_t compared = 0;
  std::uint64_t seed = 1;
  for (const vit_shape& shape : shapes) {
    for (const attention_code probabilities : tails) {
      for (const exponential_kind exponential : {exponential_kind::exact, exponential_kind::i_exp}) {
        compared += check_model({shape, paper_with(probabilities, exponential)}, seed++, 3, occurred);
      }
    }
  }
  CHECK(seed == 55);
  std::cout << "[intact: compared] random models: " << compared << " codes\n";

  check_spread_inside_blocks(occurred);
  CHECK(find_narrow_tensor(occurred, {"patch", "embed", "tokens", "proj", "add1", "fc2", "add2"}, 200, 0, 255) == "");
  for (int code = 0; code <= 20; ++code) {
    CHECK(occurred["attention"].contains(code));
  }
}

/// Compares models of every choice of attention with every kind of weights in every shape; what a pixel is and the
/// groups of weights take turns. Returns how many models were compared.
int check_recipes(stream_codes stream, code_counts& occurred) {
  std::int64_t compared = 0;
  std::size_t models = 0;
  for (const vit_shape& shape : shapes) {
    for (const quantization_recipe& attention : sensible_attention_recipes()) {
      for (int kind = 0; kind < 3; ++kind) {
        quantization_recipe parts = with_weights(attention, models);
        parts.stream = stream;
        parts.pixel_codes = models / 3 % 2 != 0;
        compared += check_model({shape, parts}, 1000 + models, 1, occurred);
        ++models;
      }
    }
  }
  std::cout << "[intact: compared] " << models << " models of a stream of "
            << (stream == stream_codes::u8 ? "u8" : "s16") << " codes: " << compared << " codes\n";
  return static_cast<int>(models);
}

TEST_CASE("vit: equals the evaluation in double precision on every tensor [all recipes on a u8 stream]") {
  code_counts occurred;
  CHECK(check_recipes(stream_codes::u8, occurred) == 9 * 24 * 3);
  check_spread_inside_blocks(occurred);
  CHECK(find_narrow_tensor(occurred, {"patch", "embed", "tokens", "proj", "add1", "fc2", "add2"}, 200, 0, 255) == "");
  CHECK(find_narrow_tensor(occurred, {"attention"}, 150, 0, 255) == "");
}

TEST_CASE("vit: equals the evaluation in double precision on every tensor [all recipes on an s16 stream]") {
  code_counts occurred;
  CHECK(check_recipes(stream_codes::s16, occurred) == 9 * 24 * 3);
  check_spread_inside_blocks(occurred);
  CHECK(find_narrow_tensor(occurred, {"tokens", "add1", "add2"}, 5000, -32768, 32767) == "");
  for (const char* const name : {"patch", "embed", "proj", "fc2"}) {
    CHECK_FALSE(occurred.contains(name));
  }
  for (const char* const name : {"tokens", "add1", "add2"}) {  // some sums saturate, most do not
    std::int64_t all = 0;
    for (const auto& [code, count] : occurred[name]) {
      all += count;
    }
    const std::int64_t saturated = occurred[name][-32768] + occurred[name][32767];
    INFO(name << ": " << saturated << " of " << all << " codes at an end");
    CHECK(saturated * 1000 > all);
    CHECK(saturated * 10 < all);
  }
}

TEST_CASE("vit: equals the evaluation in double precision on every tensor [registers, means of patch tokens]") {
  code_counts occurred;
  std::uint64_t seed = 3000;
  for (const vit_shape& shape : pooled_shapes) {
    for (quantization_recipe parts :
         {paper_recipe, paper_recipe_888, precise_recipe, precise_recipe_888, precise_recipe_weight_codes}) {
      parts.weights = seed % 3 == 0 ? weight_kind::s4 : weight_kind::s8;
      for (int model = 0; model < 4; ++model) {
        check_model({shape, parts}, seed++, 3, occurred);
      }
    }
  }
  CHECK(find_narrow_tensor(occurred, {"norm", "logits_u8"}, 200, 0, 255) == "");
  CHECK(occurred["pool"].size() >= 1500);
}

TEST_CASE("vit: equals the evaluation in double precision on every tensor [a LayerNorm before the blocks]") {
  code_counts occurred;
  std::uint64_t seed = 4000;
  for (const vit_shape& shape : {several_patches, colour, pooled_shapes[5], pooled_shapes[7]}) {
    for (const quantization_recipe& parts : {paper_recipe, paper_recipe_888, precise_recipe, precise_recipe_888}) {
      for (int model = 0; model < 3; ++model) {
        check_model({.shape = shape, .parts = parts, .norm_pre = true}, seed++, 3, occurred);
      }
    }
  }
  CHECK(find_narrow_tensor(occurred, {"norm_pre"}, 200, 0, 255) == "");
  CHECK(occurred["stream"].size() >= 1500);
}

vit_shape with_rmsnorm(vit_shape shape) {
  shape.norm = normalization::rmsnorm;
  return shape;
}

vit_shape with_gate(vit_shape shape) {
  shape.gated = true;
  return shape;
}

vit_shape with_qk_norm(vit_shape shape, normalization kind) {
  shape.qk_norm = kind;
  return shape;
}

TEST_CASE("vit: equals the evaluation in double precision on every tensor [RMSNorm]") {
  code_counts occurred;
  std::uint64_t seed = 5000;
  for (const vit_shape& shape : {several_patches, colour, shapes[2], shapes[4], shapes[5], shapes[6], pooled_shapes[4],
                                 pooled_shapes[5], pooled_shapes[7]}) {
    for (const quantization_recipe& parts : {paper_recipe, paper_recipe_888, precise_recipe, precise_recipe_888}) {
      for (const bool norm_pre : {false, true}) {
        check_model({.shape = with_rmsnorm(shape), .parts = parts, .norm_pre = norm_pre}, seed++, 3, occurred);
      }
    }
  }
  CHECK(find_narrow_tensor(occurred, {"norm_pre", "norm1", "norm2", "norm"}, 200, 0, 255) == "");
}

TEST_CASE("vit: equals the evaluation in double precision on every tensor [gated perceptrons, RMSNorm]") {
  code_counts occurred;
  std::uint64_t seed = 5200;
  for (const vit_shape& shape : {several_patches, colour, shapes[2], shapes[3], shapes[4], shapes[5], shapes[7]}) {
    for (const quantization_recipe& parts :
         {paper_recipe, paper_recipe_888, precise_recipe, precise_recipe_888, precise_recipe_weight_codes}) {
      for (std::size_t kind = 0; kind < 3; ++kind) {
        check_model({with_gate(shape), with_weights(parts, seed)}, seed, 2, occurred);
        check_model({with_gate(with_rmsnorm(shape)), with_weights(parts, seed)}, seed, 1, occurred);
        ++seed;
      }
    }
  }
  for (const values weights : {values::smallest, values::largest, values::alternating, values::constant_rows}) {
    check_model({with_gate(colour), paper_recipe, weights}, seed, 1, occurred);
    check_model({with_gate(colour), with_weights(precise_recipe, 1), weights}, seed++, 1, occurred);
  }
  CHECK(find_narrow_tensor(occurred, {"activation", "up", "gated"}, 250, 0, 255) == "");
}

TEST_CASE("vit: equals the evaluation in double precision on every tensor [norms of queries and keys]") {
  code_counts occurred;
  std::uint64_t seed = 5500;
  for (const vit_shape& shape : {several_patches, colour, shapes[2], shapes[3], shapes[4], shapes[5], shapes[7]}) {
    for (const quantization_recipe& parts :
         {paper_recipe, paper_recipe_888, precise_recipe, precise_recipe_888, precise_recipe_weight_codes}) {
      for (const normalization kind : {normalization::layernorm, normalization::rmsnorm}) {
        check_model({with_qk_norm(shape, kind), with_weights(parts, seed)}, seed, 2, occurred);
        check_model({with_qk_norm(with_gate(with_rmsnorm(shape)), kind), with_weights(parts, seed)}, seed, 1, occurred);
        ++seed;
      }
    }
  }
  for (const values weights : {values::smallest, values::largest, values::alternating, values::constant_rows}) {
    for (const normalization kind : {normalization::layernorm, normalization::rmsnorm}) {
      check_model({with_qk_norm(colour, kind), paper_recipe, weights}, seed, 1, occurred);
      check_model({with_qk_norm(colour, kind), with_weights(precise_recipe, 1), weights}, seed++, 1, occurred);
    }
  }
  CHECK(find_narrow_tensor(occurred, {"q_norm", "k_norm", "attention_logits"}, 250, 0, 255) == "");
}

TEST_CASE("vit: equals the evaluation in double precision on every tensor [extreme weights]") {
  code_counts occurred;
  std::int64_t compared = 0;
  std::uint64_t seed = 100;
  for (const values weights : {values::smallest, values::largest, values::alternating, values::constant_rows}) {
    for (const attention_code probabilities : tails) {
      const auto exponential = seed % 2 == 0 ? exponential_kind::i_exp : exponential_kind::exact;
      compared += check_model({colour, paper_with(probabilities, exponential), weights}, seed, 1, occurred);
      ++seed;
    }
    for (std::size_t n = 0; n < 3; ++n) {
      compared += check_model({colour, with_weights(precise_recipe, n), weights}, seed, 1, occurred);
      compared += check_model({colour, with_weights(precise_recipe_888, n), weights}, seed, 1, occurred);
      compared += check_model({colour, with_weights(precise_recipe_weight_codes, n), weights}, seed, 1, occurred);
      ++seed;
    }
  }
  std::cout << "[intact: compared] extreme weights: " << compared << " codes\n";
}

TEST_CASE("vit: equals the evaluation in double precision on every tensor [4,097 tokens]") {
  const quantization_recipe normalized{
      .exponential = exponential_kind::exact, .normalize_rows = true, .stream = stream_codes::s16};
  code_counts occurred;
  std::int64_t compared = 0;
  for (const quantization_recipe& parts : {paper_with(attention_code::u8_masked), normalized}) {
    const model_recipe recipe{{1, 64, 64, 1, 4, 1, 4, 1, 3}, parts};
    const integer_vit model(model_builder(recipe, 200).model());
    generator random(201);
    const owned_image image(recipe.shape, values::random, false, random);
    const tensors expected = double_reference(model.tensors()).evaluate(image.view);
    REQUIRE(expected.at({"attention", 0, 0}).rows == 4097);

    compared += require_equal(compare_image(model, image.view, expected), expected);
  }
  std::cout << "[intact: compared] 4097 tokens: " << compared << " codes\n";
}

TEST_CASE("reference::attention: equals the evaluation in double precision [one token]") {
  for (const attention_code probabilities : tails) {
    const model_recipe recipe{colour, paper_with(probabilities)};
    model_builder builder(recipe, 300);
    stream_factors stream = builder.first_stream();
    const owned_block block = builder.block(1, stream);
    const attention_shape shape{1, recipe.shape.width, recipe.shape.heads};
    generator random(301);
    tensor<std::uint8_t> x(1, shape.width), y(1, shape.width);
    fill(x.view(), values::random, 0, 255, random);

    tensors expected;
    const code_matrix& context = evaluate_attention(real::copy_codes(x.view()), block, shape, -1, expected);
    keep(expected, {"proj"}, evaluate_linear(context, block.proj));
    trace_comparison trace(expected);
    std::vector<std::byte> memory(reference::attention_workspace_bytes(shape));
    owned_packed_weights panels;
    owned_block packed = block;
    const block_parameters p = view_block(packed, [&](owned_weights& weights) { return panels.take(weights); });
    reference::attention(matrix_view<const std::uint8_t>(x.view()), p.attention, shape, y.view(),
                         workspace(memory.data(), memory.size()), trace);

    const comparison outcome = trace.result();
    INFO("first mismatch: " << outcome.first_mismatch);
    CHECK(outcome.mismatched == 0);
    CHECK(outcome.compared == count_codes(expected));
    CHECK(expected.at({"attention", -1, 1}).values == std::vector<std::int32_t>{0});
  }
}

/// A table that falls from a value as large as the keys allow to 0, by a random rate.
exp_values<std::uint64_t> random_table(index_t keys, generator& random) {
  exp_values<std::uint64_t> table;
  std::uint64_t e = exp_table_limit<std::uint64_t>(keys) >> random.between(0, 40);
  const std::int64_t divisor = std::int64_t{1} << random.between(1, 12);
  for (std::uint64_t& entry : table) {
    entry = e;
    e -= e / static_cast<std::uint64_t>(divisor) + static_cast<std::uint64_t>(random.between(0, e == 0 ? 0 : 1));
  }
  return table;
}

/// Log-Int-Softmax with every tail.
template <log2_rounding Rounding>
void check_log_softmax(const tensor<std::uint8_t>& logits, const exp_values<std::uint64_t>& table) {
  const code_matrix read = real::copy_codes(logits.view());
  const auto expected = [&](attention_code policy) { return real::log_softmax(read, table, policy, Rounding).values; };
  tensor<std::uint8_t> codes(logits.rows(), logits.columns());
  packed_tensor<u4> packed(logits.rows(), logits.columns());

  log_softmax<isa::native, attention_code::u8_masked, Rounding>(logits.view(), exp_table<std::uint64_t>(table),
                                                                codes.view());
  REQUIRE(real::copy_codes(codes.view()).values == expected(attention_code::u8_masked));
  log_softmax<isa::native, attention_code::u8_full, Rounding>(logits.view(), exp_table<std::uint64_t>(table),
                                                              codes.view());
  REQUIRE(real::copy_codes(codes.view()).values == expected(attention_code::u8_full));
  log_softmax<isa::native, attention_code::u4_clipped, Rounding>(logits.view(), exp_table<std::uint64_t>(table),
                                                                 packed.view());
  REQUIRE(real::copy_codes(packed.view()).values == expected(attention_code::u4_clipped));
}

TEST_CASE("log_softmax: equals the evaluation in double precision [tables as large as 64 bits allow]") {
  generator random(500);
  for (int round = 0; round < 2000; ++round) {
    const index_t keys = random.between(1, 40);
    const exp_values<std::uint64_t> table = random_table(keys, random);
    tensor<std::uint8_t> logits(3, keys);
    const std::int64_t highest = random.between(0, 255);
    fill(logits.view(), values::random, highest / 2, highest, random);
    check_log_softmax<log2_rounding::round_ratio>(logits, table);
    check_log_softmax<log2_rounding::round_log>(logits, table);
  }
}

TEST_CASE("log_softmax: equals the evaluation in double precision [quotients next to powers of sqrt(2)]") {
  // Solutions of s^2 - 2 e^2 = 1, -1, 1, ...: the quotients nearest to sqrt(2) from above and from below.
  std::uint64_t s = 3, e = 2;
  int quotients = 0;
  for (bool above = true; s < exp_table_limit<std::uint64_t>(2); above = !above) {
    const exp_values<std::uint64_t> table{e, s - e};  // one key of each: the row's sum is s
    tensor<std::uint8_t> logits(1, 2);
    logits(0, 0) = 9;
    logits(0, 1) = 8;
    check_log_softmax<log2_rounding::round_log>(logits, table);
    CHECK(real::nearest_logarithm(s, e) == (above ? 1 : 0));
    ++quotients;
    const std::uint64_t sum = s + e;
    s = sum + e;
    e = sum;
  }
  CHECK(quotients == 48);
}

/// All codes from `least` on are in every row, the largest weights in the first rows only.
tensor<std::uint8_t> every_wide_code(index_t least) {
  tensor<std::uint8_t> codes(256, 256);
  for (index_t i = 0; i < 256; ++i) {
    for (index_t j = 0; j < 256; ++j) {
      codes(i, j) = static_cast<std::uint8_t>(std::max(least + i / 8, (i + j) % 256));
    }
  }
  return codes;
}

TEST_CASE("reference::shift_matmul: equals the evaluation in double precision [every 8-bit code]") {
  struct {
    index_t least_code;
    owned_tensor_scale scale;
  } const cases[] = {
      {0, owned_tensor_scale(attention_context_spec(1.7, 120, 256))},
      {0, owned_tensor_scale(attention_context_spec(300, 120, 256))},
      {16, owned_tensor_scale(scale_spec{0.4, 120, 0, {-8191, 8191}})}  // magnifies small weights
  };
  generator random(501);
  tensor<std::uint8_t> v(256, 5), y(256, 5);
  fill(v.view(), values::random, 0, 255, random);
  for (const auto& [least_code, scale] : cases) {
    const tensor<std::uint8_t> codes = every_wide_code(least_code);
    reference::shift_matmul<attention_code::u8_full>(codes.view(), quantized_matrix{v.view(), 131},
                                                     requantize_s64<std::uint8_t>{scale.scale}, y.view());
    const code_matrix expected = real::shift_matmul(real::copy_codes(codes.view()), real::copy_codes(v.view()), 131,
                                                    scale.exact, attention_code::u8_full);
    CHECK(std::set(expected.values.begin(), expected.values.end()).size() > 60);
    CHECK(real::copy_codes(y.view()).values == expected.values);
  }
}

TEST_CASE("layernorm: equals the evaluation in double precision [gains, biases and epsilons up to their limits]") {
  generator random(502);
  for (int round = 0; round < 2000; ++round) {
    const index_t channels = random.between(1, 9);
    std::vector<std::uint8_t> shift;
    std::vector<std::int32_t> gain;
    std::vector<std::int64_t> bias;
    for (index_t c = 0; c < channels; ++c) {
      shift.push_back(static_cast<std::uint8_t>(random.between(0, layernorm_max_shift)));
      gain.push_back(static_cast<std::int32_t>(random.between(-(1 << 30) + 1, (1 << 30) - 1)));
      bias.push_back(random.between(0, std::int64_t{1} << 56));
    }
    const std::uint64_t epsilon = layernorm_max_epsilon >> random.between(0, 61);
    const std::int64_t fraction = random.between(layernorm_min_epsilon_fraction, layernorm_max_epsilon_fraction);
    const layernorm_parameters p{static_cast<int>(random.between(0, 255)), shift, epsilon, gain, bias, 48, fraction};
    tensor<std::uint8_t> x(4, channels), y(4, channels);
    fill(x.view(), round % 2 == 0 ? values::random : values::alternating, 0, 255, random);
    layernorm(x.view(), p, y.view());
    REQUIRE(real::copy_codes(y.view()).values == real::layernorm(real::copy_codes(x.view()), p).values);
  }
}

TEST_CASE("layernorm: equals the evaluation in double precision [s16 codes up to the limits]") {
  generator random(503);
  for (int round = 0; round < 1000; ++round) {
    const index_t channels = round % 100 == 0 ? layernorm_max_channels_s16 : random.between(1, 9);
    std::vector<std::uint8_t> shift;
    std::vector<std::int32_t> gain;
    std::vector<std::int64_t> bias;
    for (index_t c = 0; c < channels; ++c) {
      shift.push_back(static_cast<std::uint8_t>(round == 0 ? 3 : random.between(0, layernorm_max_shift)));
      gain.push_back(static_cast<std::int32_t>(random.between(-(1 << 30) + 1, (1 << 30) - 1)));
      bias.push_back(random.between(0, std::int64_t{1} << 56));
    }
    const std::uint64_t epsilon = layernorm_max_epsilon >> random.between(0, 61);
    const std::int64_t fraction = random.between(layernorm_min_epsilon_fraction, layernorm_max_epsilon_fraction);
    const layernorm_parameters p{0, shift, epsilon, gain, bias, 48, fraction};
    tensor<std::int16_t> x(3, channels);
    tensor<std::uint8_t> y(3, channels);
    fill(x.view(), all_values[round % 5], -32768, 32767, random);
    layernorm(x.view(), p, y.view());
    REQUIRE(real::copy_codes(y.view()).values == real::layernorm(real::copy_codes(x.view()), p).values);
  }
}

/// Any weights with any normalization: as u8 weights, and as log2 codes, of which those above 15 weigh nothing.
void check_normalized(index_t rows, index_t keys, int largest, values what, const row_divisor& normalization,
                      generator& random) {
  tensor<std::uint8_t> codes(rows, keys), v(keys, 3), y(rows, 3);
  packed_tensor<u4> packed(rows, keys);
  fill(codes.view(), what, 0, largest, random);
  fill(packed.view(), what, 0, std::min(largest, 15), random);
  fill(v.view(), all_values[random.between(0, 4)], 0, 255, random);
  const quantized_matrix values_of_keys{v.view(), static_cast<int>(random.between(0, 255))};
  const auto expected = [&](const code_matrix& weights) {
    return real::weighted_average(weights, real::copy_codes(v.view()), values_of_keys.zero_point, normalization).values;
  };
  const code_matrix read = real::copy_codes(codes.view());

  reference::weighted_matmul(codes.view(), values_of_keys, normalization, y.view());
  REQUIRE(real::copy_codes(y.view()).values == expected(read));
  reference::shift_matmul<attention_code::u8_masked>(codes.view(), values_of_keys, normalization, y.view());
  REQUIRE(real::copy_codes(y.view()).values == expected(real::weights_of_codes(read)));
  reference::shift_matmul<attention_code::u4_clipped>(packed.view(), values_of_keys, normalization, y.view());
  REQUIRE(real::copy_codes(y.view()).values == expected(real::weights_of_codes(real::copy_codes(packed.view()))));
}

TEST_CASE("reference::weighted_matmul: equals the evaluation in double precision [rows up to the limits]") {
  constexpr std::int32_t largest_factor = (1 << 30) - 1;
  generator random(504);
  for (int round = 0; round < 1000; ++round) {
    const std::int32_t factor = round % 4 == 0 ? largest_factor >> random.between(0, 29)
                                               : static_cast<std::int32_t>(random.between(1 << 26, largest_factor));
    const row_divisor normalization{factor, static_cast<int>(random.between(0, 255))};
    const int largest = static_cast<int>(random.between(0, 255));
    check_normalized(4, random.between(0, 40), largest, all_values[round % 5], normalization, random);
  }
  for (const values what : {values::smallest, values::largest}) {  // the most keys: weights of 2^15, and of 255
    check_normalized(1, weighted_matmul_max_keys, 255, what, {largest_factor, 255}, random);
  }
}

/// A parameter of the integer model that is changed, and the tensor in which that must show first.
struct mutation {
  const char* what;
  const char* first_tensor;
  void (*apply)(vit_tensors&);
};

/// Half a code, in the units of a scale's offset.
constexpr std::int64_t half_code(int shift) {
  return std::int64_t{1} << (31 + shift);
}

void change_by_one(std::int8_t& weight) {
  weight = static_cast<std::int8_t>(weight == 127 ? 126 : weight + 1);
}

const mutation mutations[] = {
    {"a pixel table entry", "input, (", [](vit_tensors& c) { c.pixel_table[256] ^= 1; }},
    {"a patch weight", "patch, (", [](vit_tensors& c) { change_by_one(c.patch.weights.codes[40]); }},
    {"an embed table entry", "embed, (", [](vit_tensors& c) { c.embed_table[255] ^= 1; }},
    {"a class token code", "embed, (0, 3)", [](vit_tensors& c) { c.class_token[3] ^= 1; }},
    {"a position code", "tokens, (", [](vit_tensors& c) { c.positions[30] ^= 2; }},
    {"an offset of the positions' addition", "tokens, (",
     [](vit_tensors& c) { c.add_positions.offset[5] += 1 << (c.add_positions.shift - 1); }},
    {"a shift of norm1", "norm1, block 1, (", [](vit_tensors& c) { c.blocks[1].norm1.shift[2] ^= 1; }},
    {"a bias of norm1", "norm1, block 0, (",
     [](vit_tensors& c) { c.blocks[0].norm1.bias[1] += std::int64_t{1} << c.blocks[0].norm1.output_shift; }},
    {"a qkv weight", "qkv, block 1, (", [](vit_tensors& c) { change_by_one(c.blocks[1].qkv.weights.codes[77]); }},
    {"qkv's zero point", "attention_logits, block 0, head 0, (",
     [](vit_tensors& c) { c.blocks[0].qkv_zero_point += 1; }},
    {"the logits' offset", "attention_logits, block 1, head 0, (",
     [](vit_tensors& c) {
       c.blocks[1].attention_logits.scale.offset += half_code(c.blocks[1].attention_logits.scale.shift);
     }},
    {"an exponential", "attention, block 1, head ",
     [](vit_tensors& c) { c.blocks[1].softmax.exponential[30] = c.blocks[1].softmax.exponential[29]; }},
    {"the tail", "attention, block 0, head 0, (",
     [](vit_tensors& c) { c.blocks[0].softmax.probabilities = attention_code::u4_clipped; }},
    {"the rounding of the logarithm", "attention, block 1, head ",
     [](vit_tensors& c) { c.blocks[1].softmax.rounding = log2_rounding::round_log; }},
    {"whether rows are normalized", "context, block 0, (",
     [](vit_tensors& c) {
       c.blocks[0].softmax.normalize = true;
       c.blocks[0].softmax.normalization = {1 << 28, 120};
     }},
    {"the context's offset", "context, block 1, (",
     [](vit_tensors& c) {
       tensor_scale& context = c.blocks[1].softmax.context.scale;
       context.offset += half_code(context.shift);
     }},
    {"a proj weight", "proj, block 0, (", [](vit_tensors& c) { change_by_one(c.blocks[0].proj.weights.codes[50]); }},
    {"a zero point of add1", "add1, block 1, (", [](vit_tensors& c) { c.blocks[1].add1.zero_points.stream += 1; }},
    {"a gain of norm2", "norm2, block 0, (",
     [](vit_tensors& c) { c.blocks[0].norm2.gain[4] += c.blocks[0].norm2.gain[4] / 50; }},
    {"the kind of norms", "norm1, block 0, (", [](vit_tensors& c) { c.shape.norm = normalization::rmsnorm; }},
    {"the epsilon of norm2", "norm2, block 1, (", [](vit_tensors& c) { c.blocks[1].norm2.epsilon += 1 << 24; }},
    {"an fc1 weight", "fc1, block 1, (", [](vit_tensors& c) { change_by_one(c.blocks[1].fc1.weights.codes[9]); }},
    {"an activation table entry", "activation, block 0, (", [](vit_tensors& c) { c.blocks[0].activation[4095] ^= 1; }},
    {"the shift of fc2", "fc2, block 1, (", [](vit_tensors& c) { c.blocks[1].fc2.scale.shift ^= 1; }},
    {"a multiplier of add2", "add2, block 1, (",
     [](vit_tensors& c) { c.blocks[1].add2.branch_multiplier[7] += c.blocks[1].add2.branch_multiplier[7] / 50; }},
    {"the output shift of norm", "norm, (", [](vit_tensors& c) { c.norm.output_shift += 1; }},
    {"a head weight", "logits, (", [](vit_tensors& c) { change_by_one(c.head.codes[11]); }},
    {"an offset of logits", "logits, (", [](vit_tensors& c) { c.logits.offset[2] += half_code(c.logits.shift); }},
    {"an offset of logits_u8", "logits_u8, (",
     [](vit_tensors& c) { c.logits_u8.offset[2] += half_code(c.logits_u8.shift); }},
};

/// Attention relative to the maximum, s16 stream, pixels as codes, s4 weights in groups of 10.
const mutation precise_mutations[] = {
    {"a table for pixels", "input, (",
     [](vit_tensors& c) {
       for (int entry = 0; entry < 3 * 256; ++entry) {
         c.pixel_table.push_back(static_cast<std::uint8_t>(entry % 256));
       }
       c.pixel_table[300] ^= 1;
     }},
    {"a pair of patch weights", "tokens, (", [](vit_tensors& c) { c.patch.weights.packed[20] ^= 0x11; }},
    {"a shift of patch weights", "tokens, (", [](vit_tensors& c) { c.patch.weights.shifts[20] ^= 1; }},
    {"an offset of patch", "tokens, (",
     [](vit_tensors& c) { c.patch.scale.offset[5] += half_code(c.patch.scale.shift); }},
    {"the class token", "tokens, (0, 3)", [](vit_tensors& c) { c.token_addend[3] ^= 1; }},
    {"a position", "tokens, (2, 1)", [](vit_tensors& c) { c.token_addend[2 * 24 + 1] ^= 1; }},
    {"a shift of norm1", "norm1, block 1, (", [](vit_tensors& c) { c.blocks[1].norm1.shift[2] ^= 1; }},
    {"the epsilon of norm2", "norm2, block 0, (",
     [](vit_tensors& c) { c.blocks[0].norm2.epsilon += std::uint64_t{1} << 36; }},
    {"a shift of qkv weights", "qkv, block 1, (", [](vit_tensors& c) { c.blocks[1].qkv.weights.shifts[30] ^= 2; }},
    {"the group of qkv weights", "qkv, block 0, (", [](vit_tensors& c) { c.blocks[0].qkv.weights.group = 11; }},
    {"an entry of the softmax table", "attention, block 1, head ",
     [](vit_tensors& c) { c.blocks[1].softmax.table[17] ^= 1; }},
    {"the kind of attention", "context, block 0, (",
     [](vit_tensors& c) { c.blocks[0].softmax.kind = attention_kind::weights; }},
    {"the normalization's factor", "context, block 1, (",
     [](vit_tensors& c) { c.blocks[1].softmax.normalization.factor += 1 << 22; }},
    {"the normalization's zero point", "context, block 0, (",
     [](vit_tensors& c) { c.blocks[0].softmax.normalization.zero_point ^= 1; }},
    {"a pair of proj weights", "add1, block 1, (", [](vit_tensors& c) { c.blocks[1].proj.weights.packed[60] ^= 0x11; }},
    {"an offset of proj", "add1, block 0, (",
     [](vit_tensors& c) { c.blocks[0].proj.scale.offset[2] += half_code(c.blocks[0].proj.scale.shift); }},
    {"a shift of fc1 weights", "fc1, block 0, (", [](vit_tensors& c) { c.blocks[0].fc1.weights.shifts[8] ^= 1; }},
    {"a multiplier of fc2", "add2, block 1, (",
     [](vit_tensors& c) { c.blocks[1].fc2.scale.multiplier[7] += c.blocks[1].fc2.scale.multiplier[7] / 1000; }},
    {"the prescale of fc2", "add2, block 0, (", [](vit_tensors& c) { c.blocks[0].fc2.scale.left_shift -= 1; }},
    {"a shift of head weights", "logits, (", [](vit_tensors& c) { c.head.shifts[11] ^= 1; }},
};

/// u8 attention weights on a u8 stream, s4 weights of layers.
const mutation weight_mutations[] = {
    {"a pair of qkv weights", "qkv, block 0, (", [](vit_tensors& c) { c.blocks[0].qkv.weights.packed[100] ^= 0x11; }},
    {"an entry of the table of weights", "attention, block 0, head ",
     [](vit_tensors& c) { c.blocks[0].softmax.table[9] ^= 1; }},
    {"the kind of attention", "context, block 1, (",
     [](vit_tensors& c) { c.blocks[1].softmax.kind = attention_kind::log2_of_max; }},
    {"the normalization's factor", "context, block 0, (",
     [](vit_tensors& c) { c.blocks[0].softmax.normalization.factor -= 1 << 22; }},
    {"a pair of fc2 weights", "fc2, block 1, (", [](vit_tensors& c) { c.blocks[1].fc2.weights.packed[100] ^= 0x11; }},
};

/// 4-bit codes of attention weights.
const mutation weight_code_mutations[] = {
    {"an entry of the table of codes", "attention, block 0, head ",
     [](vit_tensors& c) { c.blocks[0].softmax.table[9] ^= 1; }},
    {"a weight of a code", "context, block 1, (", [](vit_tensors& c) { c.blocks[1].softmax.code_weights[2] ^= 64; }},
    {"the normalization's factor", "context, block 0, (",
     [](vit_tensors& c) { c.blocks[0].softmax.normalization.factor -= 1 << 22; }},
};

/// Gated perceptrons.
const mutation gate_mutations[] = {
    {"a weight of up", "up, block 1, (", [](vit_tensors& c) { change_by_one(c.blocks[1].gate->up.weights.codes[9]); }},
    {"the zero point of the gate", "gated, block 0, (",
     [](vit_tensors& c) { c.blocks[0].gate->activation_zero_point += 1; }},
    {"the zero point of up", "gated, block 1, (", [](vit_tensors& c) { c.blocks[1].gate->up_zero_point += 1; }},
    {"the offset of the products", "gated, block 0, (",
     [](vit_tensors& c) {
       tensor_scale& product = c.blocks[0].gate->product.scale;
       product.offset += half_code(product.shift);
     }},
    {"the multiplier of the products", "gated, block 1, (",
     [](vit_tensors& c) {
       tensor_scale& product = c.blocks[1].gate->product.scale;
       product.multiplier += product.multiplier / 50;
     }},
    {"an entry of the gate's table", "activation, block 1, (",
     [](vit_tensors& c) { c.blocks[1].activation[4095] ^= 1; }},
};

/// Norms of queries and keys.
const mutation qk_norm_mutations[] = {
    {"a gain of queries", "q_norm, block 1, (", [](vit_tensors& c) { c.blocks[1].qk_norms->q.gain[1] /= 2; }},
    {"a bias of keys", "k_norm, block 0, (",
     [](vit_tensors& c) {
       owned_layernorm& norm = c.blocks[0].qk_norms->k;
       norm.bias[0] += std::int64_t{3} << norm.output_shift;
     }},
    {"the zero point of the norm of keys", "k_norm, block 1, (",
     [](vit_tensors& c) { c.blocks[1].qk_norms->k.zero_point += 9; }},
    {"the zero point of normalized queries", "attention_logits, block 0, head ",
     [](vit_tensors& c) { c.blocks[0].qkv_zero_point += 9; }},
    {"the zero point of values", "context, block 1, (", [](vit_tensors& c) { *c.blocks[1].v_zero_point += 9; }},
    {"the parameters of queries for keys", "k_norm, block 0, (",
     [](vit_tensors& c) { c.blocks[0].qk_norms->k = c.blocks[0].qk_norms->q; }},
    {"the kind of the norms", "q_norm, block 0, (", [](vit_tensors& c) { c.shape.qk_norm = normalization::layernorm; }},
};

/// Changes each parameter in turn.
void check_mutations(const vit_tensors& contents, std::span<const mutation> changes) {
  const double_reference reference(contents);
  const std::vector<owned_image> images = make_images(contents.shape, 4);
  std::vector<tensors> expected;
  for (const owned_image& image : images) {
    expected.push_back(reference.evaluate(image.view));
    REQUIRE(compare_image(integer_vit(contents), image.view, expected.back()).mismatched == 0);
  }
  for (const mutation& change : changes) {
    vit_tensors changed = contents;
    change.apply(changed);
    const integer_vit model(std::move(changed));
    std::string first_mismatch;
    for (std::size_t i = 0; i < images.size() && first_mismatch.empty(); ++i) {
      const comparison outcome = compare_image(model, images[i].view, expected[i]);
      REQUIRE((outcome.mismatched == 0) == outcome.first_mismatch.empty());
      first_mismatch = outcome.first_mismatch;
    }
    INFO(change.what << ": " << first_mismatch);
    CHECK(first_mismatch.starts_with(change.first_tensor));
  }
}

TEST_CASE("evaluate: a changed parameter shows as a mismatch of its operation's tensor [paper recipe]") {
  check_mutations(model_builder({colour, paper_with(attention_code::u8_masked)}, 400).model(), mutations);
}

TEST_CASE("evaluate: a changed parameter shows as a mismatch of its operation's tensor [gated perceptrons]") {
  check_mutations(model_builder({with_gate(colour), paper_recipe}, 404).model(), gate_mutations);
}

TEST_CASE("evaluate: a changed parameter shows as a mismatch of its operation's tensor [norms of queries and keys]") {
  const vit_shape shape = with_qk_norm(colour, normalization::rmsnorm);
  check_mutations(model_builder({shape, paper_recipe}, 405).model(), qk_norm_mutations);
}

TEST_CASE("evaluate: a changed parameter shows as a mismatch of its operation's tensor [precise recipe]") {
  quantization_recipe parts = precise_recipe;
  parts.weights = weight_kind::grouped_s4;
  parts.weight_group = 10;
  check_mutations(model_builder({colour, parts}, 401).model(), precise_mutations);
}

TEST_CASE("evaluate: a changed parameter shows as a mismatch of its operation's tensor [u8 attention weights]") {
  quantization_recipe parts = precise_recipe_888;
  parts.stream = stream_codes::u8;
  parts.weights = weight_kind::s4;
  check_mutations(model_builder({colour, parts}, 402).model(), weight_mutations);
}

TEST_CASE("evaluate: a changed parameter shows as a mismatch of its operation's tensor [codes of attention weights]") {
  check_mutations(model_builder({colour, precise_recipe_weight_codes}, 403).model(), weight_code_mutations);
}

code_matrix codes_of(index_t rows, index_t columns, std::initializer_list<std::int32_t> codes) {
  code_matrix made(rows, columns);
  REQUIRE(made.values.size() == codes.size());
  std::copy(codes.begin(), codes.end(), made.values.begin());
  return made;
}

using codes_list = std::vector<std::int32_t>;

TEST_CASE("trace_comparison: reports different, missing, unexpected and repeated tensors, and other shapes") {
  const tensors expected{{{"norm1", 2}, codes_of(1, 3, {4, 5, 6})}, {{"attention", 2, 1}, codes_of(1, 3, {1, 0, 15})}};
  const std::uint8_t equal[] = {4, 5, 6}, different[] = {4, 7, 8}, packed[] = {0x01, 0x0f};
  const matrix_view<const std::uint8_t> equal_view(equal, 1, 3);
  const packed_view<u4, const std::uint8_t> packed_codes(packed, 1, 3);

  trace_comparison all(expected);
  all({"norm1", 2}, equal_view);
  CHECK(all.result().first_mismatch == "attention, block 2, head 1: never shown");
  all({"attention", 2, 1}, packed_codes);
  CHECK(all.result().compared == 6);
  CHECK(all.result().mismatched == 0);
  CHECK(all.result().first_mismatch.empty());
  all({"norm1", 2}, equal_view);
  CHECK(all.result().first_mismatch == "norm1, block 2: shown twice");
  CHECK(all.result().mismatched == 1);

  trace_comparison some(expected);
  some({"norm1", 2}, matrix_view<const std::uint8_t>(different, 1, 3));
  CHECK(some.result().first_mismatch == "norm1, block 2, (0, 1): expected 5, found 7");
  CHECK(some.result().compared == 3);
  CHECK(some.result().mismatched == 3);  // two codes, and a tensor that is missing

  trace_comparison shapes_differ(expected);
  shapes_differ({"norm1", 2}, matrix_view<const std::uint8_t>(equal, 3, 1));
  CHECK(shapes_differ.result().first_mismatch == "norm1, block 2: expected 1 x 3, found 3 x 1");

  trace_comparison unexpected(expected);
  unexpected({"norm1", 3}, equal_view);
  CHECK(unexpected.result().first_mismatch == "norm1, block 3: not expected");
  CHECK(unexpected.result().mismatched == 3);
}

TEST_CASE("real::gemm: requantizes products with weights per channel") {
  const std::int8_t weights[] = {1, -1, 100, 100};
  const realized_scale scales[] = {{0.25, 100.125}, {1, 0}};
  const code_matrix a = codes_of(2, 2, {1, 2, 3, 255});
  const matrix_view<const std::int8_t> w(weights, 2, 2);
  CHECK(real::gemm(a, w, scales).values == codes_list{100, 255, 37, 255});
  CHECK(real::gemm(a, w, scales, real::u12_codes).values == codes_list{100, 300, 37, 4095});
  CHECK(real::gemm(a, w, scales, real::s32_codes).values == codes_list{100, 300, 37, 25800});
  const realized_scale negative[] = {{0.25, -300}, {1, -26000}};
  CHECK(real::gemm(a, w, negative).values == codes_list{0, 0, 0, 0});
  CHECK(real::gemm(a, w, negative, real::s32_codes).values == codes_list{-300, -25700, -363, -200});
}

TEST_CASE("real::attention_logits: gives products of zero-point-corrected codes") {
  const code_matrix q = codes_of(1, 2, {10, 13}), k = codes_of(2, 2, {12, 9, 10, 10});
  CHECK(real::attention_logits(q, k, {10, 10, 0}, {2.0, 7.25}).values == codes_list{1, 7});
}

TEST_CASE("real::log_softmax: rounds the logarithm of the rounded quotient") {
  exp_values<std::uint64_t> table{8, 4, 1};
  const code_matrix logits = codes_of(1, 5, {10, 9, 8, 7, 10});  // 8 + 4 + 1 + 0 + 8 = 21
  CHECK(real::log_softmax(logits, table, attention_code::u8_masked).values == codes_list{2, 2, 4, 16, 2});
  CHECK(real::log_softmax(logits, table, attention_code::u4_clipped).values == codes_list{2, 2, 4, 15, 2});
  CHECK(real::log_softmax(logits, table, attention_code::u8_full).values == codes_list{2, 2, 4, 255, 2});

  table = {3, 2};  // 5 / 2 is rounded to 2, of which the logarithm is 1
  CHECK(real::log_softmax(codes_of(1, 2, {1, 0}), table, attention_code::u8_masked).values == codes_list{1, 1});
  table = {std::uint64_t{1} << 40, std::uint64_t{1} << 24, 1};
  CHECK(real::log_softmax(codes_of(1, 3, {2, 1, 0}), table, attention_code::u8_masked).values == codes_list{0, 16, 16});
  CHECK(real::log_softmax(codes_of(1, 3, {2, 1, 0}), table, attention_code::u4_clipped).values ==
        codes_list{0, 15, 15});
  CHECK(real::log_softmax(codes_of(1, 3, {2, 1, 0}), table, attention_code::u8_full).values == codes_list{0, 16, 40});
}

TEST_CASE("real::nearest_logarithm: rounds at sqrt(2)") {
  CHECK(real::nearest_logarithm(7, 7) == 0);
  CHECK(real::nearest_logarithm(41, 29) == 0);  // 41^2 = 1681, 2 * 29^2 = 1682
  CHECK(real::nearest_logarithm(99, 70) == 1);  // 99^2 = 9801, 2 * 70^2 = 9800
  CHECK(real::nearest_logarithm(82, 29) == 1);
  CHECK(real::nearest_logarithm(198, 70) == 2);
  CHECK(real::nearest_logarithm((std::uint64_t{1} << 63) - 1, 1) == 63);
  CHECK(real::nearest_logarithm((std::uint64_t{1} << 63) - 1, (std::uint64_t{1} << 62) - 1) == 1);

  const exp_values<std::uint64_t> table{29, 12, 1};
  const code_matrix logits = codes_of(1, 3, {5, 4, 1});  // 29 + 12 + 0
  const auto rounded = log2_rounding::round_log;
  CHECK(real::log_softmax(logits, table, attention_code::u8_masked, rounded).values == codes_list{0, 2, 16});
  CHECK(real::log_softmax(logits, table, attention_code::u4_clipped, rounded).values == codes_list{0, 2, 15});
  CHECK(real::log_softmax(logits, table, attention_code::u8_full, rounded).values == codes_list{0, 2, 255});
}

TEST_CASE("real::max_softmax: looks up the distance from the maximum") {
  const std::uint8_t table[] = {9, 7, 5, 3};
  CHECK(real::max_softmax(codes_of(2, 3, {11, 10, 8, 200, 200, 199}), table).values == codes_list{9, 7, 3, 9, 9, 7});
}

TEST_CASE("real::weighted_average: normalized rows are weighted averages") {
  const code_matrix weights = codes_of(4, 3, {1, 1, 2, 255, 0, 0, 0, 0, 0, 3, 3, 3});
  const code_matrix v = codes_of(3, 2, {130, 255, 120, 0, 255, 10});
  // sums of weights * (v - 128): (248, -237) / 4, (2, 127), nothing, (121, -119) / 3
  CHECK(real::weighted_average(weights, v, 128, {1 << 28, 100}).values ==
        codes_list{162, 41, 102, 227, 100, 100, 140, 60});
  CHECK(real::weighted_average(weights, v, 128, {1 << 29, 100}).values ==
        codes_list{224, 0, 104, 255, 100, 100, 181, 21});
  CHECK(real::weights_of_codes(codes_of(1, 5, {0, 1, 15, 16, 255})).values == codes_list{32768, 16384, 1, 0, 0});
}

TEST_CASE("real::add_gemm: adds products to an s16 stream, whose codes saturate") {
  const code_matrix weights = codes_of(2, 2, {1, -1, 100, 100});
  const realized_scale scales[] = {{0.25, 100.125}, {1, 0}};
  const code_matrix a = codes_of(2, 2, {1, 2, 3, 255}), stream = codes_of(2, 2, {-32768, 7, 32767, 7000});
  CHECK(real::add_gemm(stream, a, weights, scales).values == codes_list{-32668, 307, 32767, 32767});
  const realized_scale large[] = {{0.25, 60000.125}, {1, -40000}};
  CHECK(real::add_gemm(stream, a, weights, large).values == codes_list{27232, -32768, 32767, -7200});
}

TEST_CASE("copy_weights: reads weights from their storage") {
  const std::int8_t codes[] = {1, -8, 7, -1, 0, 3};
  CHECK(copy_weights(owned_weights({codes, codes + 6}, 2, 3)).values == codes_list{1, -8, 7, -1, 0, 3});
  owned_weights packed;
  packed.kind = weight_kind::s4;
  packed.rows = 2;
  packed.columns = 3;
  packed.packed = {0x81, 0x07, 0x0f, 0x03};
  CHECK(copy_weights(packed).values == codes_list{1, -8, 7, -1, 0, 3});
  packed.kind = weight_kind::grouped_s4;
  packed.group = 2;
  packed.shifts = {3, 0, 1, 2};
  CHECK(copy_weights(packed).values == codes_list{8, -64, 7, -2, 0, 12});
}

TEST_CASE("real::shift_matmul: adds v * 2^-code") {
  const code_matrix v = codes_of(3, 1, {130, 120, 255});
  const realized_scale ones{std::ldexp(1.0, -15), 10};
  CHECK(real::shift_matmul(codes_of(2, 3, {0, 1, 16, 16, 16, 2}), v, 128, ones, attention_code::u8_masked).values ==
        codes_list{8, 42});
  CHECK(real::shift_matmul(codes_of(1, 3, {0, 1, 15}), v, 128, ones, attention_code::u4_clipped).values ==
        codes_list{8});
  CHECK(real::shift_matmul(codes_of(2, 3, {0, 1, 255, 255, 255, 2}), v, 128, ones, attention_code::u8_full).values ==
        codes_list{8, 42});
  const realized_scale steps{std::ldexp(1.0, 44 - 15), 10};  // of 2^-44, the smallest probability that counts
  CHECK(real::shift_matmul(codes_of(1, 3, {44, 45, 43}), v, 128, steps, attention_code::u8_full).values ==
        codes_list{255});
  CHECK(real::shift_matmul(codes_of(1, 3, {44, 45, 255}), v, 128, steps, attention_code::u8_full).values ==
        codes_list{12});
}

TEST_CASE("real::layernorm: divides by the deviation") {
  const std::uint8_t shift[] = {0, 1};
  const std::int32_t gain[] = {100 << 16, 100 << 16};
  const std::int64_t bias[] = {(std::int64_t{128} << 40) + (std::int64_t{1} << 39),
                               (std::int64_t{50} << 40) + (std::int64_t{1} << 39)};
  const layernorm_parameters p{7, shift, 1, gain, bias, 40};
  // x = (-2, 2): deviations of 4 / sqrt(17); x = (0, 0); x = (9, 8): 1 / sqrt(2)
  CHECK(real::layernorm(codes_of(3, 2, {5, 8, 7, 7, 16, 11}), p).values == codes_list{31, 147, 128, 50, 199, 0});
}

TEST_CASE("real::activation, real::add, real::cut_patches: give values computed by hand") {
  const std::uint8_t table[] = {9, 8, 7};
  CHECK(real::activation(codes_of(1, 3, {2, 0, 1}), table).values == codes_list{7, 9, 8});

  const realized_add scales[] = {{0.5, 2, 10.25}, {1, 1, 100.25}};
  CHECK(real::add(codes_of(2, 2, {8, 8, 0, 255}), codes_of(2, 2, {3, 3, 0, 255}), scales, 4, 1).values ==
        codes_list{16, 106, 6, 255});

  std::vector<std::uint8_t> samples;
  for (std::uint8_t i = 0; i < 16; ++i) {
    samples.push_back(i);
  }
  CHECK(real::cut_patches(planar_image(samples.data(), 2, 2, 4), 2).values ==
        codes_list{0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15});
}

}  // namespace
}  // namespace intact_test::double_reference_test
