// Attention and blocks on one instruction set, isa::INTACT_TEST_ISA, against the specification, bit by bit.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "heap_counter.hpp"
#include "intact/build/packed_vit.hpp"
#include "intact/intact.hpp"
#include "intact/reference/model/block.hpp"
#include "kernel_tests.hpp"
#include "random_model.hpp"
#include "small_model.hpp"

namespace intact_test::block_kernel_test {
namespace {

/// Codes of a residual stream.
enum class stream_contents { random, lowest, highest, alternating, constant_rows };
constexpr stream_contents all_contents[] = {stream_contents::random, stream_contents::lowest, stream_contents::highest,
                                            stream_contents::alternating, stream_contents::constant_rows};

template <class Code>
tensor<Code> some_stream(stream_contents contents, index_t rows, index_t columns, generator& random) {
  constexpr int lowest = std::numeric_limits<Code>::min(), highest = std::numeric_limits<Code>::max();
  const int low = std::is_signed_v<Code> ? -3000 : 0, high = std::is_signed_v<Code> ? 3000 : 255;
  tensor<Code> stream(rows, columns);
  for (index_t i = 0; i < rows; ++i) {
    const std::int64_t of_row = random.between(lowest, highest);
    for (index_t j = 0; j < columns; ++j) {
      const std::int64_t code = contents == stream_contents::random          ? random.between(low, high)
                                : contents == stream_contents::lowest        ? lowest
                                : contents == stream_contents::highest       ? highest
                                : contents == stream_contents::constant_rows ? of_row
                                : (i + j) % 2 == 0                           ? lowest
                                                                             : highest;
      stream.view()(i, j) = static_cast<Code>(code);
    }
  }
  return stream;
}

/// A batch through block and, image by image, through the specification.
template <class Code>
void check_block(const block_parameters& p, const block_shape& shape, index_t batch, index_t threads, generator& random,
                 stream_contents contents = stream_contents::random) {
  const index_t tokens = shape.attention.tokens;
  auto stream = some_stream<Code>(contents, batch * tokens, shape.attention.width, random);
  auto expected = stream;
  std::vector<std::byte> specification_scratch(reference::block_workspace_bytes(shape));
  for (index_t image = 0; image < batch; ++image) {
    reference::block(expected.view().row_block(image * tokens, tokens), p, shape,
                     workspace(specification_scratch.data(), specification_scratch.size()));
  }
  std::vector<std::byte> scratch(block_workspace_bytes(shape, batch, threads));
  block<tested_isa>(stream.view(), p, shape, workspace(scratch.data(), scratch.size()),
                    executor_ref(thread_pool{threads}));
  CHECK(first_difference(stream.view(), expected.view()) == "");
}

TEST_CASE("block: equals the specification [every recipe]", "[block]") {
  for (quantization_recipe parts : sensible_attention_recipes()) {
    for (const auto stream : {stream_codes::u8, stream_codes::s16}) {
      parts.stream = stream;
      INFO(recipe_text(parts));
      const model_recipe recipe{.shape = {.channels = 1,
                                          .height = 8,
                                          .image_width = 12,
                                          .patch = 4,
                                          .width = 24,
                                          .heads = 3,
                                          .hidden = 40,
                                          .depth = 2,
                                          .classes = 3},
                                .parts = parts};
      const packed_vit model(integer_vit(model_builder(recipe, 5).model()));
      const vit_shape& shape = model.shape();
      generator random(9);
      for (const block_parameters& p : model.parameters().blocks) {
        if (stream == stream_codes::u8) {
          check_block<std::uint8_t>(p, shape.block(), 2, 1, random);
        } else {
          check_block<std::int16_t>(p, shape.block(), 2, 3, random);
        }
      }
    }
  }
}

TEST_CASE("block: equals the specification [any shape, batch and number of threads]", "[block]") {
  const struct {
    index_t tokens, width, heads, hidden, batch, threads;
  } cases[] = {
      {0, 16, 2, 8, 1, 1},
      {1, 16, 2, 8, 3, 2},
      {2, 3, 3, 5, 1, 7},
      {7, 64, 1, 200, 2, 1},
      {63, 48, 2, 64, 1, 3},
      {65, 130, 2, 70, 1, 2},
      {197, 96, 3, 128, 1, 7},
      {343, 40, 5, 16, 1, 2},
      {49, 256, 2, 64, 3, 1},
      {1030, 32, 2, 32, 1, 3},
      // Heads that are spread over threads whole, and in bands.
      {17, 24, 3, 32, 5, 2},
      {9, 16, 2, 16, 5, 3},
  };
  for (const auto& c : cases) {
    INFO(c.tokens << " tokens, width " << c.width << ", " << c.heads << " heads, batch " << c.batch);
    const block_shape shape{.attention = {c.tokens, c.width, c.heads}, .hidden = c.hidden};
    for (const attention_code probabilities :
         {attention_code::u8_masked, attention_code::u4_clipped, attention_code::u8_full}) {
      generator random(static_cast<unsigned>(c.tokens + c.width));
      parameter_memory memory;
      check_block<std::uint8_t>(random_block(memory, shape, probabilities, random), shape, c.batch, c.threads, random);
    }
  }
}

using qk_norm_kind = std::optional<normalization>;

void check_kinds(quantization_recipe parts, normalization norm, bool gated, const qk_norm_kind& qk_norm = {}) {
  const model_recipe recipe{.shape = {.channels = 1,
                                      .height = 9,
                                      .image_width = 7,
                                      .patch = 1,
                                      .width = 35,
                                      .heads = 5,
                                      .hidden = 41,
                                      .depth = 2,
                                      .classes = 1,
                                      .norm = norm,
                                      .gated = gated,
                                      .qk_norm = qk_norm},
                            .parts = parts};
  const packed_vit model(integer_vit(model_builder(recipe, 6).model()));
  generator random(10);
  for (const block_parameters& p : model.parameters().blocks) {
    for (const stream_contents contents : all_contents) {
      if (parts.stream == stream_codes::u8) {
        check_block<std::uint8_t>(p, model.shape().block(), 2, 3, random, contents);
      } else {
        check_block<std::int16_t>(p, model.shape().block(), 2, 3, random, contents);
      }
    }
  }
}

TEST_CASE("block: equals the specification [RMSNorm, gated perceptrons, norms of queries and keys, all weights]",
          "[block][long]") {
  for (quantization_recipe parts : {paper_recipe, precise_recipe}) {
    for (const weight_kind weights : {weight_kind::s8, weight_kind::s4, weight_kind::grouped_s4}) {
      parts.weights = weights;
      parts.weight_group = 8;
      INFO(recipe_text(parts));
      check_kinds(parts, normalization::rmsnorm, false);
      check_kinds(parts, normalization::layernorm, true);
      check_kinds(parts, normalization::rmsnorm, true);
      check_kinds(parts, normalization::layernorm, false, normalization::layernorm);
      check_kinds(parts, normalization::layernorm, false, normalization::rmsnorm);
    }
  }
}

TEST_CASE("block: equals the specification [gated perceptrons, any shape, batch and number of threads]", "[block]") {
  const struct {
    index_t tokens, width, heads, hidden, batch, threads;
  } cases[] = {{0, 16, 2, 8, 1, 1},   {1, 1, 1, 1, 3, 2},    {2, 3, 3, 5, 1, 7},
               {7, 64, 1, 200, 2, 1}, {65, 24, 2, 70, 1, 3}, {197, 96, 3, 129, 1, 2}};
  for (const auto& c : cases) {
    INFO(c.tokens << " tokens, width " << c.width << ", hidden " << c.hidden << ", batch " << c.batch);
    const block_shape shape{.attention = {c.tokens, c.width, c.heads}, .hidden = c.hidden, .gated = true};
    generator random(static_cast<unsigned>(c.tokens + c.width));
    parameter_memory memory;
    const block_parameters p = random_block(memory, shape, attention_code::u8_masked, random);
    check_block<std::uint8_t>(p, shape, c.batch, c.threads, random);
  }
}

TEST_CASE("block: equals the specification [norms of queries and keys, any shape, batch and number of threads]",
          "[block]") {
  const struct {
    index_t tokens, width, heads, batch, threads;
  } cases[] = {{0, 16, 2, 1, 1}, {1, 1, 1, 3, 2},    {2, 3, 3, 1, 7},  // heads of one channel, whose LayerNorm is beta
               {7, 64, 1, 2, 1}, {65, 130, 2, 1, 3}, {197, 99, 3, 1, 2}, {33, 24, 3, 3, 2}};
  for (const normalization kind : {normalization::layernorm, normalization::rmsnorm}) {
    for (const auto& c : cases) {
      INFO(c.tokens << " tokens, width " << c.width << ", " << c.heads << " heads, batch " << c.batch);
      const block_shape shape{.attention = {c.tokens, c.width, c.heads, kind}, .hidden = 8};
      generator random(static_cast<unsigned>(c.tokens + c.width));
      parameter_memory memory;
      const block_parameters p = random_block(memory, shape, attention_code::u8_masked, random);
      check_block<std::uint8_t>(p, shape, c.batch, c.threads, random);
    }
  }
}

TEST_CASE("block: equals the specification [rotary positions, any shape, prefix, batch and number of threads]",
          "[block]") {
  const struct {
    index_t tokens, width, heads, prefix, batch, threads;
  } cases[] = {{0, 16, 2, 0, 1, 1}, {1, 2, 1, 0, 3, 2},    {2, 4, 2, 2, 1, 7},  // the prefix is all
               {7, 64, 1, 1, 2, 1}, {65, 132, 2, 0, 1, 3}, {197, 96, 3, 5, 1, 2}, {33, 40, 2, 1, 3, 2}};
  for (const bool normed : {false, true}) {
    for (const auto& c : cases) {
      INFO(c.tokens << " tokens, width " << c.width << ", " << c.heads << " heads, batch " << c.batch);
      block_shape shape{
          .attention = {.tokens = c.tokens, .width = c.width, .heads = c.heads, .rotary_prefix = c.prefix},
          .hidden = 8};
      if (normed) {
        shape.attention.qk_norm = normalization::layernorm;
      }
      generator random(static_cast<unsigned>(c.tokens + c.width));
      parameter_memory memory;
      block_parameters p = random_block(memory, shape, attention_code::u8_masked, random);
      p.attention.zero_points = {.q = 100, .k = 131, .v = 128};
      check_block<std::uint8_t>(p, shape, c.batch, c.threads, random);
    }
  }
}

TEST_CASE("block: equals the specification [rotary positions, rows that are processed in bands]", "[block]") {
  const block_shape shape{.attention = {.tokens = 20, .width = 16, .heads = 2, .rotary_prefix = 3}, .hidden = 20'000};
  constexpr index_t batch = 20;
  STATIC_REQUIRE(band_rows(batch * 20, 16, 20'000) % 20 != 0);  // bands begin within images
  generator random(78);
  parameter_memory memory;
  const block_parameters p = random_block(memory, shape, attention_code::u8_masked, random);
  check_block<std::uint8_t>(p, shape, batch, 2, random);
}

TEST_CASE("block: equals the specification [rows that are processed in bands, with a gate and without]", "[block]") {
  const bool gated = GENERATE(false, true);
  const block_shape shape{.attention = {20, 16, 2}, .hidden = gated ? 10'000 : 20'000, .gated = gated};
  constexpr index_t batch = 20;
  STATIC_REQUIRE(band_rows(batch * 20, 16, 20'000) == 210);
  REQUIRE(shape.hidden_codes() == 20'000);
  generator random(77);
  parameter_memory memory;
  const block_parameters p = random_block(memory, shape, attention_code::u8_masked, random);
  check_block<std::uint8_t>(p, shape, batch, 2, random);
}

TEST_CASE("band_rows: bands have all rows, whole tiles and a minimum of rows", "[block]") {
  for (const index_t width : {1, 192, 768, 8192}) {
    for (const index_t rows : {0, 1, 191, 192, 383, 384, 577, 4096, 100'000}) {
      const index_t each = band_rows(rows, width, 4 * width);
      CAPTURE(width, rows, each);
      CHECK(((rows == 0 && each == 0) || each > 0));
      CHECK(each <= rows);
      CHECK((each == rows || each % 30 == 0));
      CHECK((each == rows || each >= band_least_rows));
      CHECK((each <= 2 * band_least_rows || each * 7 * width <= band_bytes * 3 / 2 + 30 * 7 * width));
    }
  }
}

/// A model of one block with side * side patches.
packed_vit model_of_one_block(const quantization_recipe& parts, index_t side) {
  const model_recipe recipe{.shape = {.channels = 1,
                                      .height = side,
                                      .image_width = side,
                                      .patch = 1,
                                      .width = 8,
                                      .heads = 1,
                                      .hidden = 12,
                                      .depth = 1,
                                      .classes = 1},
                            .parts = parts};
  return packed_vit(integer_vit(model_builder(recipe, 3).model()));
}

void check_model(const quantization_recipe& recipe, index_t side, index_t threads, stream_contents contents) {
  INFO(recipe_text(recipe) << ", side " << side << ", contents " << static_cast<int>(contents));
  const packed_vit model = model_of_one_block(recipe, side);
  const vit_parameters& p = model.parameters();
  generator random(4);
  if (recipe.stream == stream_codes::u8) {
    check_block<std::uint8_t>(p.blocks[0], model.shape().block(), 1, threads, random, contents);
  } else {
    check_block<std::int16_t>(p.blocks[0], model.shape().block(), 1, threads, random, contents);
  }
}

TEST_CASE("block: equals the specification [extreme streams, rows of one code]", "[block]") {
  for (const quantization_recipe& recipe :
       {paper_recipe, paper_recipe_888, precise_recipe, precise_recipe_888, precise_recipe_weight_codes}) {
    for (const stream_contents contents : all_contents) {
      check_model(recipe, 8, 2, contents);
    }
  }
}

TEST_CASE("block: equals the specification [4,097 tokens]", "[block][long]") {
  check_model(paper_recipe, 64, 2, stream_contents::random);
  check_model(paper_recipe_888, 64, 3, stream_contents::random);
  check_model(precise_recipe, 64, 7, stream_contents::random);
}

void check_attention(const attention_operands& x, const multihead_parameters& p, index_t threads) {
  const index_t width = x.q.codes.columns, keys = x.k.codes.rows;
  tensor<std::uint8_t> y(x.q.codes.rows, width), expected(x.q.codes.rows, width);
  std::vector<std::byte> reference_scratch(reference::attention_workspace_bytes(x.q.codes.rows, keys));
  reference::attention(x, p, expected.view(), workspace(reference_scratch.data(), reference_scratch.size()));
  // Memory that begins at an odd address.
  std::vector<std::byte> scratch(attention_workspace_bytes(keys, p.heads, width / p.heads, threads) + 1);
  attention<tested_isa>(x, p, y.view(), workspace(scratch.data() + 1, scratch.size() - 1),
                        executor_ref(thread_pool{threads}));
  CHECK(first_difference(y.view(), expected.view()) == "");
}

TEST_CASE("attention: equals the specification [any numbers of queries and keys]", "[block]") {
  const struct {
    index_t queries, keys, heads, size;
  } cases[] = {{8, 4097, 1, 32}, {3, 16384, 2, 16}, {17, 1, 3, 64}, {1, 511, 1, 128},
               {5, 512, 1, 48},  {50, 3, 2, 17},    {1, 0, 1, 16},  {0, 9, 1, 16}};
  for (const auto& c : cases) {
    for (const quantization_recipe& recipe :
         {paper_recipe, paper_recipe_888, precise_recipe, precise_recipe_888, precise_recipe_weight_codes}) {
      INFO(recipe_text(recipe) << ", " << c.queries << " queries, " << c.keys << " keys, size " << c.size);
      const packed_vit model = model_of_one_block(recipe, 8);
      multihead_parameters p = model.parameters().blocks[0].attention.multihead(c.heads);
      p.logits.multiplier /= static_cast<std::int32_t>(std::max<index_t>(1, c.size / 8));  // as in 8 columns
      generator random(6);
      const index_t width = c.heads * c.size;
      auto q = some_stream<std::uint8_t>(stream_contents::random, c.queries, width, random);
      auto k = some_stream<std::uint8_t>(stream_contents::random, c.keys, width, random);
      auto v = some_stream<std::uint8_t>(stream_contents::random, c.keys, width, random);
      check_attention({{q.view(), 120}, {k.view(), 130}, {v.view(), 255}}, p, 1);
    }
  }
}

/// Codes of queries, keys and values, which differ in their zero points.
struct qkv_codes {
  tensor<std::uint8_t> q, k, v;

  qkv_codes(index_t queries, index_t keys, index_t width, generator& random)
      : q(some_stream<std::uint8_t>(stream_contents::random, queries, width, random)),
        k(some_stream<std::uint8_t>(stream_contents::random, keys, width, random)),
        v(some_stream<std::uint8_t>(stream_contents::random, keys, width, random)) {}

  attention_operands operands() { return {{q.view(), 120}, {k.view(), 7}, {v.view(), 255}}; }
};

/// Masks of every kind: causal ones, all lengths of padding, random ones, and queries that see no key.
std::vector<tensor<std::uint8_t>> some_masks(index_t queries, index_t keys, generator& random) {
  std::vector<tensor<std::uint8_t>> masks(5, tensor<std::uint8_t>(queries, keys));
  causal_mask(masks[0].view());
  causal_mask(masks[1].view(), std::max<index_t>(0, keys - queries));
  for (index_t i = 0; i < queries; ++i) {
    for (index_t j = 0; j < keys; ++j) {
      masks[2](i, j) = static_cast<std::uint8_t>(random.between(0, 3) == 0 ? random.between(1, 255) : 0);
      masks[3](i, j) = i % 3 == 0 ? 0 : 1;
      masks[4](i, j) = 1;
    }
  }
  for (const index_t length : {index_t{0}, index_t{1}, keys / 2, keys}) {
    masks.emplace_back(1, keys);
    padding_mask(std::array{length}, masks.back().view());
  }
  return masks;
}

TEST_CASE("attention: masked keys have weight 0, as in the specification [every recipe, kinds of masks]", "[block]") {
  const struct {
    index_t queries, keys, heads, size;
  } cases[] = {{50, 50, 2, 16}, {3, 200, 1, 64}, {17, 5, 2, 8}, {1, 1, 1, 16}, {40, 300, 1, 32}};
  for (const auto& c : cases) {
    for (const quantization_recipe& recipe :
         {paper_recipe, paper_recipe_888, precise_recipe, precise_recipe_888, precise_recipe_weight_codes}) {
      const packed_vit model = model_of_one_block(recipe, 8);
      multihead_parameters p = model.parameters().blocks[0].attention.multihead(c.heads);
      p.logits.multiplier /= static_cast<std::int32_t>(std::max<index_t>(1, c.size / 8));
      generator random(8);
      qkv_codes codes(c.queries, c.keys, c.heads * c.size, random);
      for (const tensor<std::uint8_t>& mask : some_masks(c.queries, c.keys, random)) {
        CAPTURE(recipe_text(recipe), c.queries, c.keys, mask.rows());
        attention_operands x = codes.operands();
        x.mask = {mask.view()};
        check_attention(x, p, 1 + c.queries % 3);
      }
    }
  }
}

TEST_CASE("causal_mask, key_mask: query i sees the keys up to its own, also in a part of the queries", "[block]") {
  tensor<std::uint8_t> visible(3, 5);
  causal_mask(visible.view(), 1);
  const key_mask all{visible.view()}, part = all.queries(1, 2);
  for (index_t i = 0; i < 3; ++i) {
    for (index_t j = 0; j < 5; ++j) {
      CHECK(all(i, j) == (j < i + 2));
      CHECK((i == 2 || part(i, j) == (j < i + 3)));
    }
  }
}

TEST_CASE("attention: a visible key is one for which the mask is not 0, and all are without a mask", "[block]") {
  const packed_vit model = model_of_one_block(paper_recipe, 8);
  const multihead_parameters p = model.parameters().blocks[0].attention.multihead(1);
  generator random(9);
  qkv_codes codes(9, 30, 8, random);
  const auto context = [&](const key_mask& mask, index_t keys) {
    attention_operands x = codes.operands();
    x.k.codes = x.k.codes.row_block(0, keys);
    x.v.codes = x.v.codes.row_block(0, keys);
    x.mask = mask;
    tensor<std::uint8_t> y(9, 8);
    std::vector<std::byte> scratch(attention_workspace_bytes(keys, 1, 8, 1));
    attention<tested_isa>(x, p, y.view(), workspace(scratch.data(), scratch.size()));
    return y.memory();
  };
  tensor<std::uint8_t> all(1, 30), some(1, 30);
  padding_mask(std::array<index_t, 1>{30}, all.view());
  padding_mask(std::array<index_t, 1>{20}, some.view());
  CHECK(context({all.view()}, 30) == context({}, 30));
  CHECK(context({some.view()}, 30) == context({}, 20));
  CHECK(context({some.view()}, 30) != context({}, 30));
}

TEST_CASE("attention: codes of weights average V by the weights [equal logits, up to 16,384 keys, half of them masked]",
          "[block]") {
  constexpr index_t queries = 3, size = 16;
  constexpr double ratio = 0.37;
  const packed_vit model = model_of_one_block(precise_recipe_weight_codes, 8);
  multihead_parameters p = model.parameters().blocks[0].attention.multihead(1);
  std::array<std::uint8_t, 256> table;
  table.fill(15);
  std::array<std::uint8_t, 16> weights{};
  p.softmax.context = build_row_divisor(ratio, 100);
  p.softmax.weights = weight_codes_of_max{table, weights};
  for (const int weight : {1, 255}) {
    table[0] = 14;
    weights[14] = static_cast<std::uint8_t>(weight);
    for (const index_t keys : {1, 2, 197, 16384}) {
      generator random(12);
      qkv_codes codes(queries, keys, size, random);
      attention_operands x = codes.operands();
      fill(codes.q.view(), values::largest, 0, 120, random);  // logits are equal: this is the zero point
      for (const index_t visible : {keys, (keys + 1) / 2}) {
        CAPTURE(weight, keys, visible);
        tensor<std::uint8_t> mask(1, keys), y(queries, size);
        padding_mask(std::array{visible}, mask.view());
        x.mask = visible == keys ? key_mask{} : key_mask{mask.view()};
        check_attention(x, p, 1);
        std::vector<std::byte> scratch(attention_workspace_bytes(keys, 1, size, 1));
        attention<tested_isa>(x, p, y.view(), workspace(scratch.data(), scratch.size()));
        double largest_error = 0;
        for (index_t c = 0; c < size; ++c) {
          double sum = 0;
          for (index_t j = 0; j < visible; ++j) {
            sum += codes.v(j, c) - 255;
          }
          const double exact = std::clamp(sum / static_cast<double>(visible) * ratio + 100, 0.0, 255.0);
          for (index_t i = 0; i < queries; ++i) {
            largest_error = std::max(largest_error, std::abs(y(i, c) - exact));
          }
        }
        CHECK(largest_error < 0.5001);
      }
    }
  }
}

TEST_CASE("prepare_keys_values: many calls of attention have the bits of the call on keys and values", "[block]") {
  for (const quantization_recipe& recipe :
       {paper_recipe, paper_recipe_888, precise_recipe, precise_recipe_888, precise_recipe_weight_codes}) {
    const packed_vit model = model_of_one_block(recipe, 8);
    const index_t keys = 77, heads = 3, size = 16, threads = 2;
    multihead_parameters p = model.parameters().blocks[0].attention.multihead(heads);
    generator random(11);
    qkv_codes codes(1, keys, heads * size, random);
    std::vector<std::byte> prepared_memory(prepared_keys_bytes(keys, heads, size) + 1);
    const attention_operands all = codes.operands();
    const prepared_keys_values prepared = prepare_keys_values<tested_isa>(
        all.k, all.v, heads, all.q.zero_point, workspace(prepared_memory.data() + 1, prepared_memory.size() - 1),
        executor_ref(thread_pool{threads}));
    for (const index_t queries : {0, 1, 5, 64, 130}) {
      for (const bool causal : {false, true}) {
        CAPTURE(recipe_text(recipe), queries, causal);
        qkv_codes more(queries, 0, heads * size, random);
        tensor<std::uint8_t> mask(queries, keys), y(queries, heads * size), expected(queries, heads * size);
        causal_mask(mask.view(), 10);
        attention_operands x = all;
        x.q = {more.q.view(), all.q.zero_point};
        x.mask = causal ? key_mask{mask.view()} : key_mask{};
        std::vector<std::byte> scratch(attention_workspace_bytes(keys, heads, size, threads));
        attention<tested_isa>(x, p, expected.view(), workspace(scratch.data(), scratch.size()));
        std::vector<std::byte> less(attention_workspace_bytes(keys, threads));
        attention<tested_isa>(prepared_operands{x.q, prepared, x.mask}, p, y.view(),
                              workspace(less.data(), less.size()), executor_ref(thread_pool{threads}));
        CHECK(first_difference(y.view(), expected.view()) == "");
      }
    }
  }
}

TEST_CASE("attention: equals the specification [logits for which the offsets of rows have no room]", "[block]") {
  const packed_vit model = model_of_one_block(paper_recipe, 8);
  const struct {
    index_t size;
    int left_shift;  ///< the largest with which 32 bits hold every logit
  } cases[] = {{1, 15}, {8, 12}, {64, 9}, {gemm_max_depth_u8_u8, 0}};
  for (const auto& c : cases) {
    multihead_parameters p = model.parameters().blocks[0].attention.multihead(2);
    p.logits = {800 << 20, std::int64_t{257} << 51, 20, c.left_shift};
    REQUIRE_FALSE(kernel::logits_fit_offsets(p.logits, c.size));
    const index_t most_keys = c.size > 64 ? 3 : 70;
    for (const auto& [queries, keys] : {std::pair<index_t, index_t>{1, 1}, {7, most_keys}}) {
      for (const stream_contents contents : all_contents) {
        generator random(10);
        const auto q = some_stream<std::uint8_t>(contents, queries, 2 * c.size, random);
        const auto k = some_stream<std::uint8_t>(contents, keys, 2 * c.size, random);
        const auto v = some_stream<std::uint8_t>(stream_contents::random, keys, 2 * c.size, random);
        for (const auto& [q_zero_point, k_zero_point] : {std::pair{0, 0}, {0, 255}, {255, 0}, {255, 255}, {120, 130}}) {
          CAPTURE(c.size, queries, keys, static_cast<int>(contents), q_zero_point, k_zero_point);
          check_attention({{q.view(), q_zero_point}, {k.view(), k_zero_point}, {v.view(), 99}}, p, 1 + queries % 3);
        }
      }
    }
  }
}

TEST_CASE("block: equals the specification [logits for which the offsets of rows have no room]", "[block]") {
  for (const quantization_recipe& recipe :
       {paper_recipe, paper_recipe_888, precise_recipe, precise_recipe_888, precise_recipe_weight_codes}) {
    INFO(recipe_text(recipe));
    const packed_vit model = model_of_one_block(recipe, 8);
    block_parameters p = model.parameters().blocks[0];
    p.attention.logits = without_room(p.attention.logits);
    generator random(7);
    if (recipe.stream == stream_codes::u8) {
      check_block<std::uint8_t>(p, model.shape().block(), 2, 2, random);
    } else {
      check_block<std::int16_t>(p, model.shape().block(), 2, 2, random);
    }
  }
}

TEST_CASE("block: equals the specification [logits with a left_shift]", "[block]") {
  const packed_vit model = model_of_one_block(paper_recipe, 8);
  block_parameters p = model.parameters().blocks[0];
  tensor_scale& logits = p.attention.logits;
  logits = {logits.multiplier >> 5, logits.offset, logits.shift, logits.left_shift + 5};
  REQUIRE(kernel::logits_fit_offsets(logits, 8));
  generator random(8);
  check_block<std::uint8_t>(p, model.shape().block(), 2, 2, random);
}

/// A block compiled for some kinds of weights against one compiled for all.
template <class Kinds>
void check_kinds(weight_kind weights) {
  quantization_recipe recipe = paper_recipe;
  recipe.weights = weights;
  recipe.weight_group = 8;
  const packed_vit model = model_of_one_block(recipe, 4);
  const block_parameters& p = model.parameters().blocks[0];
  const block_shape shape = model.shape().block();
  generator random(11);
  auto stream = some_stream<std::uint8_t>(stream_contents::random, 2 * shape.attention.tokens, 8, random);
  auto expected = stream;
  std::vector<std::byte> scratch(block_workspace_bytes(shape, 2));
  block<tested_isa>(expected.view(), p, shape, workspace(scratch.data(), scratch.size()));
  block<tested_isa, Kinds>(stream.view(), p, shape, workspace(scratch.data(), scratch.size()));
  CHECK(first_difference(stream.view(), expected.view()) == "");
}

TEST_CASE("block: one compiled for its kind of weights equals one compiled for all kinds", "[block]") {
  check_kinds<weight_kinds<std::int8_t>>(weight_kind::s8);
  check_kinds<weight_kinds<s4>>(weight_kind::s4);
  check_kinds<weight_kinds<grouped_s4>>(weight_kind::grouped_s4);
  check_kinds<weight_kinds<s4, grouped_s4>>(weight_kind::grouped_s4);
}

TEST_CASE("block: takes no memory from the heap", "[block]") {
  for (const quantization_recipe& recipe :
       {paper_recipe, paper_recipe_888, precise_recipe, precise_recipe_888, precise_recipe_weight_codes}) {
    const packed_vit model = model_of_one_block(recipe, 8);
    const block_parameters& p = model.parameters().blocks[0];
    const block_shape shape = model.shape().block();
    std::vector<std::byte> scratch(block_workspace_bytes(shape));
    const workspace memory(scratch.data(), scratch.size());
    tensor<std::uint8_t> u8(shape.attention.tokens, shape.attention.width);
    tensor<std::int16_t> s16(shape.attention.tokens, shape.attention.width);
    const std::size_t live = live_bytes;
    most_live_bytes = live;
    largest_block = 0;
    if (recipe.stream == stream_codes::u8) {
      block<tested_isa>(u8.view(), p, shape, memory);
    } else {
      block<tested_isa>(s16.view(), p, shape, memory);
    }
    const std::size_t most = most_live_bytes, largest = largest_block;
    CHECK(most == live);
    CHECK(largest == 0);
  }
}

}  // namespace
}  // namespace intact_test::block_kernel_test
