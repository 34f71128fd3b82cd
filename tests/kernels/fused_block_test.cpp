// Attention and blocks without tensors between their steps, on one instruction set, against the same step by step.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "catch.hpp"
#include "fused_models.hpp"
#include "heap_counter.hpp"
#include "intact/intact.hpp"
#include "intact/model/block.hpp"
#include "random_model.hpp"
#include "refusal.hpp"
#include "small_model.hpp"

namespace intact_test::fused_block_test {
namespace {

/// What a residual stream holds.
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

/// A batch through fused_block and through block, image by image.
template <class Code>
void check_block(const block_parameters& p, const block_shape& shape, index_t batch, index_t threads, generator& random,
                 stream_contents contents = stream_contents::random) {
  packed_layers layers;
  block_parameters packed = p;
  layers.pack(packed);
  const index_t tokens = shape.attention.tokens;
  auto fused = some_stream<Code>(contents, batch * tokens, shape.attention.width, random);
  auto stepwise = fused;
  std::vector<std::byte> scratch(reference::block_workspace_bytes(shape));
  for (index_t image = 0; image < batch; ++image) {
    reference::block(stepwise.view().row_block(image * tokens, tokens), p, shape,
                     workspace(scratch.data(), scratch.size()));
  }
  std::vector<std::byte> fused_scratch(block_workspace_bytes(shape, batch, threads));
  block<tested_isa>(fused.view(), packed, shape, workspace(fused_scratch.data(), fused_scratch.size()),
                    thread_pool{threads});
  CHECK(first_difference(fused.view(), stepwise.view()) == "");
}

TEST_CASE("fused blocks of every profile give what the steps give", "[fused]") {
  for (quantization_recipe recipe : sensible_attention_profiles()) {
    for (const auto stream : {stream_codes::u8, stream_codes::s16}) {
      recipe.stream = stream;
      INFO(profile_text(recipe));
      const model_recipe model_parts{.shape = {.channels = 1,
                                               .height = 8,
                                               .image_width = 12,
                                               .patch = 4,
                                               .width = 24,
                                               .heads = 3,
                                               .hidden = 40,
                                               .depth = 2,
                                               .classes = 3},
                                     .parts = recipe};
      integer_vit model(model_builder(model_parts, 5).model());
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

TEST_CASE("fused blocks of any shape, batch and number of threads give what the steps give", "[fused]") {
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

TEST_CASE("fused blocks of so many rows that they go in bands give what the steps give", "[fused]") {
  const block_shape shape{.attention = {20, 16, 2}, .hidden = 20'000};
  constexpr index_t batch = 20;
  STATIC_REQUIRE(fused_band_rows(batch * 20, 16, 20'000) == 210);
  generator random(77);
  parameter_memory memory;
  const block_parameters p = random_block(memory, shape, attention_code::u8_masked, random);
  check_block<std::uint8_t>(p, shape, batch, 2, random);
}

TEST_CASE("bands have all rows, whole tiles and not too few rows", "[fused]") {
  for (const index_t width : {1, 192, 768, 8192}) {
    for (const index_t rows : {0, 1, 191, 192, 383, 384, 577, 4096, 100'000}) {
      const index_t each = fused_band_rows(rows, width, 4 * width);
      CAPTURE(width, rows, each);
      CHECK(((rows == 0 && each == 0) || each > 0));
      CHECK(each <= rows);
      CHECK((each == rows || each % 30 == 0));
      CHECK((each == rows || each >= fused_band_least_rows));
      CHECK((each <= 2 * fused_band_least_rows || each * 7 * width <= fused_band_bytes * 3 / 2 + 30 * 7 * width));
    }
  }
}

/// The first block of a model of one block with so many tokens, a number that is a square and 1.
integer_vit model_of_one_block(const quantization_recipe& recipe, index_t side) {
  const model_recipe model_parts{.shape = {.channels = 1,
                                           .height = side,
                                           .image_width = side,
                                           .patch = 1,
                                           .width = 8,
                                           .heads = 1,
                                           .hidden = 12,
                                           .depth = 1,
                                           .classes = 1},
                                 .parts = recipe};
  return integer_vit(model_builder(model_parts, 3).model());
}

void check_model(const quantization_recipe& recipe, index_t side, index_t threads, stream_contents contents) {
  INFO(profile_text(recipe) << ", side " << side << ", contents " << static_cast<int>(contents));
  const integer_vit model = model_of_one_block(recipe, side);
  const vit_parameters p = model.parameters();
  generator random(4);
  if (recipe.stream == stream_codes::u8) {
    check_block<std::uint8_t>(p.blocks[0], model.shape().block(), 1, threads, random, contents);
  } else {
    check_block<std::int16_t>(p.blocks[0], model.shape().block(), 1, threads, random, contents);
  }
}

TEST_CASE("fused blocks give what the steps give for extreme streams and rows of one code", "[fused]") {
  for (const quantization_recipe& recipe : {paper_recipe, paper_recipe_888, precise_recipe, precise_recipe_888}) {
    for (const stream_contents contents : all_contents) {
      check_model(recipe, 8, 2, contents);
    }
  }
}

TEST_CASE("fused blocks give what the steps give for 4,097 tokens", "[fused]") {
  check_model(paper_recipe, 64, 2, stream_contents::random);
  check_model(paper_recipe_888, 64, 3, stream_contents::random);
  check_model(precise_recipe, 64, 7, stream_contents::random);
}

/// Attention over all of its steps, head by head.
void attend_by_steps(const attention_operands& x, index_t heads, const tensor_scale& logits,
                     const softmax_parameters& p, matrix_view<std::uint8_t> y) {
  const index_t size = y.columns / heads;
  tensor<std::uint8_t> band(x.q.codes.rows, x.k.codes.rows), codes(x.q.codes.rows, x.k.codes.rows);
  for (index_t h = 0; h < heads; ++h) {
    const auto part = [&](const quantized_matrix& of) {
      return quantized_matrix{of.codes.column_block(h * size, size), of.zero_point};
    };
    gemm(part(x.q), part(x.k), requantize<std::uint8_t, tensor_scale>{logits}, band.view());
    no_trace trace;
    detail::attend(band.view(), part(x.v), p, codes.view(), y.column_block(h * size, size), {}, trace);
  }
}

TEST_CASE("fused attention takes any numbers of queries and of keys", "[fused]") {
  const struct {
    index_t queries, keys, heads, size;
  } cases[] = {{8, 4097, 1, 32}, {3, 16384, 2, 16}, {17, 1, 3, 64}, {1, 511, 1, 128},
               {5, 512, 1, 48},  {50, 3, 2, 17},    {1, 0, 1, 16},  {0, 9, 1, 16}};
  for (const auto& c : cases) {
    for (const quantization_recipe& recipe : {paper_recipe, paper_recipe_888, precise_recipe, precise_recipe_888}) {
      INFO(profile_text(recipe) << ", " << c.queries << " queries, " << c.keys << " keys, size " << c.size);
      const integer_vit model = model_of_one_block(recipe, 8);
      const attention_parameters p = model.parameters().blocks[0].attention;
      generator random(6);
      const index_t width = c.heads * c.size;
      auto q = some_stream<std::uint8_t>(stream_contents::random, c.queries, width, random);
      auto k = some_stream<std::uint8_t>(stream_contents::random, c.keys, width, random);
      auto v = some_stream<std::uint8_t>(stream_contents::random, c.keys, width, random);
      const attention_operands x{{q.view(), 120}, {k.view(), 130}, {v.view(), 255}};
      tensor_scale logits = p.logits;
      logits.multiplier /= static_cast<std::int32_t>(std::max<index_t>(1, c.size / 8));  // as in 8 columns
      tensor<std::uint8_t> fused(c.queries, width), stepwise(c.queries, width);
      attend_by_steps(x, c.heads, logits, p.softmax, stepwise.view());
      // Memory that begins at an odd address.
      std::vector<std::byte> scratch(attention_workspace_bytes(c.keys, c.heads, c.size, 1) + 1);
      attention<tested_isa>(x, c.heads, logits, p.softmax, fused.view(),
                            workspace(scratch.data() + 1, scratch.size() - 1));
      CHECK(first_difference(fused.view(), stepwise.view()) == "");
    }
  }
}

TEST_CASE("fused blocks give what the steps give where 32 bits may not hold a logit", "[fused]") {
  for (const quantization_recipe& recipe : {paper_recipe, paper_recipe_888, precise_recipe, precise_recipe_888}) {
    INFO(profile_text(recipe));
    const integer_vit model = model_of_one_block(recipe, 8);
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

TEST_CASE("fused blocks give what the steps give where logits are shifted to the left before they are scaled",
          "[fused]") {
  const integer_vit model = model_of_one_block(paper_recipe, 8);
  block_parameters p = model.parameters().blocks[0];
  tensor_scale& logits = p.attention.logits;
  logits = {logits.multiplier >> 5, logits.offset, logits.shift, logits.left_shift + 5};
  REQUIRE(attention_fits_kernels(logits, 8));
  generator random(8);
  check_block<std::uint8_t>(p, model.shape().block(), 2, 2, random);
}

TEST_CASE("fused attention refuses zero points that are no code", "[fused]") {
  const integer_vit model = model_of_one_block(paper_recipe, 4);
  const attention_parameters p = model.parameters().blocks[0].attention;
  tensor<std::uint8_t> x(3, 8), y(3, 8);
  std::vector<std::byte> scratch(attention_workspace_bytes(3, 1, 8, 1));
  const auto refused = [&](int q, int k, int v) {
    return refusal([&] {
      attention<tested_isa>({{x.view(), q}, {x.view(), k}, {x.view(), v}}, 1, p.logits, p.softmax, y.view(),
                            workspace(scratch.data(), scratch.size()));
    });
  };
  CHECK(refused(0, 255, 128) == "");
  CHECK(mentions(refused(256, 0, 0), "zero point of q is 256"));
  CHECK(mentions(refused(0, -1, 0), "zero point of k is -1"));
  CHECK(mentions(refused(0, 0, 1000), "zero point of v is 1000"));
}

TEST_CASE("a fused block takes no memory from the heap", "[fused]") {
  for (const quantization_recipe& recipe : {paper_recipe, paper_recipe_888, precise_recipe, precise_recipe_888}) {
    const integer_vit model = model_of_one_block(recipe, 8);
    packed_layers layers;
    const vit_parameters p = model.parameters();
    block_parameters packed = p.blocks[0];
    layers.pack(packed);
    const block_shape shape = model.shape().block();
    std::vector<std::byte> scratch(block_workspace_bytes(shape));
    const workspace memory(scratch.data(), scratch.size());
    tensor<std::uint8_t> u8(shape.attention.tokens, shape.attention.width);
    tensor<std::int16_t> s16(shape.attention.tokens, shape.attention.width);
    const std::size_t live = live_bytes;
    most_live_bytes = live;
    largest_block = 0;
    if (recipe.stream == stream_codes::u8) {
      block<tested_isa>(u8.view(), packed, shape, memory);
    } else {
      block<tested_isa>(s16.view(), packed, shape, memory);
    }
    const std::size_t most = most_live_bytes, largest = largest_block;
    CHECK(most == live);
    CHECK(largest == 0);
  }
}

}  // namespace
}  // namespace intact_test::fused_block_test
