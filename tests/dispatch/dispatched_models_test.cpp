// Attention, blocks and models of intact::dispatch, on the instruction set that INTACT_ISA names, against the
// specification or header-only calls for isa::INTACT_TEST_ISA, bit by bit.

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "intact/build/packed_vit.hpp"
#include "intact/dispatch/all.hpp"
#include "intact/reference/model/vit.hpp"
#include "kernel_tests.hpp"
#include "random_model.hpp"
#include "refusal.hpp"
#include "small_swin.hpp"

namespace intact_test::dispatched_models_test {
namespace {

constexpr vit_shape shape_of_vit{.channels = 2,
                                 .height = 12,
                                 .image_width = 16,
                                 .patch = 4,
                                 .width = 24,
                                 .heads = 3,
                                 .hidden = 40,
                                 .depth = 2,
                                 .classes = 5};

/// A batch through dispatch::vit and, image by image, through the specification.
void check_vit(const quantization_recipe& parts) {
  vit_shape shape = shape_of_vit;
  shape.stream = parts.stream;
  const packed_vit model(integer_vit(model_builder({.shape = shape, .parts = parts}, 5).model()));
  const std::vector<owned_image> owned = make_images(shape, 2);
  std::vector<image_view> images;
  for (const owned_image& image : owned) {
    images.push_back(image.view);
  }
  const index_t batch = std::ssize(images);
  tensor<std::int32_t> logits(batch, 5), expected(batch, 5);
  tensor<std::uint8_t> logits_u8(batch, 5), expected_u8(batch, 5);
  std::vector<std::byte> scratch(reference::vit_workspace_bytes(shape));
  for (index_t i = 0; i < batch; ++i) {
    reference::vit(images[static_cast<std::size_t>(i)], model.parameters(), model.shape(),
                   {expected.view().row_block(i, 1), expected_u8.view().row_block(i, 1)},
                   workspace(scratch.data(), scratch.size()));
  }
  std::vector<std::byte> memory(vit_workspace_bytes(shape, batch, 3));
  dispatch::vit(images, model.parameters(), model.shape(), {logits.view(), logits_u8.view()},
                workspace(memory.data(), memory.size()), thread_pool{3});
  CHECK(first_difference(logits.view(), expected.view()) == "");
  CHECK(first_difference(logits_u8.view(), expected_u8.view()) == "");

  tensor<std::uint8_t> features(batch, 24), expected_features(batch, 24);
  for (index_t i = 0; i < batch; ++i) {
    reference::vit_features(images[static_cast<std::size_t>(i)], model.parameters(), model.shape(),
                            expected_features.view().row_block(i, 1), workspace(scratch.data(), scratch.size()));
  }
  dispatch::vit_features(images, model.parameters(), model.shape(), features.view(),
                         workspace(memory.data(), memory.size()), thread_pool{3});
  CHECK(first_difference(features.view(), expected_features.view()) == "");
}

TEST_CASE("dispatch::vit: equals the specification [every attention, all weights]", "[dispatch]") {
  for (quantization_recipe parts : sensible_attention_recipes()) {
    INFO(recipe_text(parts));
    check_vit(parts);
    parts.stream = stream_codes::s16;
    check_vit(parts);
  }
  for (const weight_kind weights : {weight_kind::s4, weight_kind::grouped_s4}) {
    quantization_recipe parts = paper_recipe;
    parts.weights = weights;
    parts.weight_group = 8;
    INFO(recipe_text(parts));
    check_vit(parts);
  }
}

template <class T>
tensor<T> random_tensor(index_t rows, index_t columns, std::int64_t low, std::int64_t high) {
  generator random(1);
  tensor<T> made(rows, columns);
  fill(made.view(), values::random, low, high, random);
  return made;
}

/// A function of a stream, in place, through the table and by a header-only call.
template <class Code, class Dispatched, class HeaderOnly>
void check_in_place(index_t rows, index_t columns, std::size_t bytes, const Dispatched& dispatched,
                    const HeaderOnly& header_only) {
  constexpr bool wide = sizeof(Code) == 2;
  auto stream = random_tensor<Code>(rows, columns, wide ? -3000 : 0, wide ? 3000 : 255);
  auto expected = stream;
  std::vector<std::byte> memory(bytes);
  dispatched(stream.view(), workspace(memory.data(), bytes), thread_pool{3});
  header_only(expected.view(), workspace(memory.data(), bytes), thread_pool{3});
  CHECK(first_difference(stream.view(), expected.view()) == "");
}

TEST_CASE(
    "dispatch::block: equals header-only calls [u8, s16, LayerNorm, RMSNorm with a gate, norms of queries and keys and "
    "rotary positions]",
    "[dispatch]") {
  const auto norm = GENERATE(normalization::layernorm, normalization::rmsnorm);
  block_shape shape{.attention = {65, 48, 3}, .hidden = 64, .norm = norm, .gated = norm == normalization::rmsnorm};
  if (norm == normalization::rmsnorm) {
    shape.attention.qk_norm = normalization::layernorm;
    shape.attention.rotary_prefix = 1;
  }
  const std::size_t bytes = block_workspace_bytes(shape, 2, 3);
  generator random(5);
  parameter_memory memory;
  block_parameters p = random_block(memory, shape, attention_code::u8_masked, random);
  check_in_place<std::uint8_t>(
      130, 48, bytes, [&](auto x, auto space, const auto& run) { dispatch::block(x, p, shape, space, run); },
      [&](auto x, auto space, const auto& run) { block<tested_isa>(x, p, shape, space, run); });
  p.norm1.zero_point = p.norm2.zero_point = 0;
  check_in_place<std::int16_t>(
      130, 48, bytes, [&](auto x, auto space, const auto& run) { dispatch::block(x, p, shape, space, run); },
      [&](auto x, auto space, const auto& run) { block<tested_isa>(x, p, shape, space, run); });
}

template <class Code>
void check_swin_blocks() {
  const swin_block_shape shape{{{10, 9, 4, 2}, 24, 3}, 40};
  const auto codes = sizeof(Code) == 2 ? stream_codes::s16 : stream_codes::u8;
  for (const attention_choice& choice : all_choices) {
    generator random(7);
    parameter_memory memory;
    const swin_block_parameters p = random_swin_block(memory, shape, choice, codes, random);
    check_in_place<Code>(
        180, 24, swin_block_workspace_bytes<Code>(shape, 2, 3),
        [&](auto x, auto space, const auto& run) { dispatch::swin_block(x, p, shape, space, run); },
        [&](auto x, auto space, const auto& run) { swin_block<tested_isa>(x, p, shape, space, run); });
  }
}

TEST_CASE("dispatch::swin_block: equals header-only calls [every attention]", "[dispatch]") {
  check_swin_blocks<std::uint8_t>();
  check_swin_blocks<std::int16_t>();
}

TEST_CASE("dispatch::attention: equals header-only calls [windows, too]", "[dispatch]") {
  const swin_block_shape shape{{{8, 8, 4, 2}, 24, 3}, 40};
  generator random(7);
  parameter_memory memory;
  const swin_block_parameters p = random_swin_block(memory, shape, {}, stream_codes::u8, random);
  const tensor<std::uint8_t> qkv = random_tensor<std::uint8_t>(64, 72, 0, 255);
  tensor<std::uint8_t> y(64, 24), expected(64, 24);
  std::vector<std::byte> scratch(1 << 20);
  const workspace space(scratch.data(), scratch.size());
  dispatch::window_attention(qkv.view(), p.attention(), shape.attention, y.view(), space, thread_pool{3});
  window_attention<tested_isa>(qkv.view(), p.attention(), shape.attention, expected.view(), space);
  CHECK(first_difference(y.view(), expected.view()) == "");

  const attention_operands operands = p.block.attention.operands(qkv.view());
  const multihead_parameters heads = p.block.attention.multihead(3);
  dispatch::attention(operands, heads, y.view(), space, thread_pool{3});
  attention<tested_isa>(operands, heads, expected.view(), space);
  CHECK(first_difference(y.view(), expected.view()) == "");

  std::vector<std::byte> of_keys(prepared_keys_bytes(64, 3, 8));
  const prepared_keys_values prepared = dispatch::prepare_keys_values(
      operands.k, operands.v, 3, operands.q.zero_point, workspace(of_keys.data(), of_keys.size()), thread_pool{3});
  tensor<std::uint8_t> of_prepared(64, 24);
  dispatch::attention(prepared_operands{operands.q, prepared}, heads, of_prepared.view(), space, thread_pool{3});
  CHECK(first_difference(of_prepared.view(), expected.view()) == "");
}

template <class Code>
void check_swin(stream_codes stream) {
  const small_swin model(stream);
  const tensor<std::uint8_t> pixels = random_tensor<std::uint8_t>(2, 3 * 20 * 28, 0, 255);
  const std::array<image_view, 2> images = {planar_image(&pixels(0, 0), 3, 20, 28),
                                            planar_image(&pixels(1, 0), 3, 20, 28)};
  tensor<std::int32_t> logits(2, 5), expected(2, 5);
  tensor<std::uint8_t> logits_u8(2, 5), expected_u8(2, 5);
  std::vector<std::byte> memory(swin_workspace_bytes(model.shape, 2, 3));
  const workspace space(memory.data(), memory.size());
  dispatch::swin(images, model.parameters, model.shape, {logits.view(), logits_u8.view()}, space, thread_pool{3});
  swin<tested_isa>(images, model.parameters, model.shape, {expected.view(), expected_u8.view()}, space);
  CHECK(first_difference(logits.view(), expected.view()) == "");
  CHECK(first_difference(logits_u8.view(), expected_u8.view()) == "");

  tensor<Code> first(2 * 35, 16), second(2 * 12, 24), expected_first = first, expected_second = second;
  const std::array<matrix_view<Code>, 2> maps = {first.view(), second.view()};
  const std::array<matrix_view<Code>, 2> expected_maps = {expected_first.view(), expected_second.view()};
  dispatch::swin_features(images, model.parameters, model.shape, std::span<const matrix_view<Code>>(maps), space,
                          thread_pool{3});
  swin_features<tested_isa>(images, model.parameters, model.shape, std::span<const matrix_view<Code>>(expected_maps),
                            space);
  CHECK(first_difference(first.view(), expected_first.view()) == "");
  CHECK(first_difference(second.view(), expected_second.view()) == "");
}

TEST_CASE("dispatch::swin: equals header-only calls [logits, features]", "[dispatch]") {
  check_swin<std::uint8_t>(stream_codes::u8);
  check_swin<std::int16_t>(stream_codes::s16);
}

TEST_CASE("dispatch: chooses the same for threads that begin at the same time", "[dispatch]") {
  std::vector<std::thread> threads;
  std::array<const char*, 8> names = {};
  for (const char*& name : names) {
    threads.emplace_back([&name] { name = dispatch::isa_name(); });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  for (const char* const name : names) {
    CHECK(std::string(name) == dispatch::isa_name());
  }
}

TEST_CASE("dispatch: refuses what header-only calls refuse, before anything is written [models]", "[dispatch]") {
  const block_shape shape{.attention = {5, 8, 2}, .hidden = 8};
  generator random(5);
  parameter_memory memory;
  block_parameters p = random_block(memory, shape, attention_code::u8_masked, random);
  p.norm2.output_shift = 0;
  tensor<std::uint8_t> stream(5, 8);
  const tensor<std::uint8_t> before = stream;
  std::vector<std::byte> scratch(block_workspace_bytes(shape));
  const std::string message =
      refusal([&] { dispatch::block(stream.view(), p, shape, workspace(scratch.data(), scratch.size())); });
  CHECK(mentions(message, "block: norm2: output_shift is 0"));
  p.norm2.output_shift = 48;
  CHECK(mentions(refusal([&] { dispatch::block(stream.view(), p, shape, workspace(scratch.data(), 10)); }),
                 "block: the workspace has 10 bytes left"));
  CHECK(stream.memory() == before.memory());
}

}  // namespace
}  // namespace intact_test::dispatched_models_test
