// Swin transformers and the operations on their windows on one instruction set, isa::INTACT_TEST_ISA, against the
// specification, bit by bit.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "catch.hpp"
#include "intact/build/recipe.hpp"
#include "intact/intact.hpp"
#include "intact/model/swin.hpp"
#include "intact/reference/average_pool.hpp"
#include "intact/reference/convert_codes.hpp"
#include "intact/reference/model/swin.hpp"
#include "intact/reference/model/swin_block.hpp"
#include "intact/reference/patch_merge.hpp"
#include "intact/reference/windows.hpp"
#include "kernel_tests.hpp"
#include "refusal.hpp"
#include "small_swin.hpp"

namespace intact_test::swin_kernel_test {
namespace {

template <class T>
tensor<T> random_tensor(index_t rows, index_t columns, const layout& where, generator& random) {
  tensor<T> made(rows, columns, where);
  fill(made.view(), values::random, std::numeric_limits<T>::min(), std::numeric_limits<T>::max(), random);
  return made;
}

template <class T>
void check_windows(const window_grid& grid, index_t columns, const layout& where, index_t threads) {
  generator random(1);
  const tensor<T> x = random_tensor<T>(grid.tokens(), columns, where, random);
  tensor<T> windows(grid.padded_tokens(), columns, where), expected = windows;
  window_partition<tested_isa>(x.view(), grid, 7, windows.view(), executor_ref(thread_pool{threads}));
  reference::window_partition(x.view(), grid, 7, expected.view());
  CHECK(windows.memory() == expected.memory());

  tensor<T> back(grid.tokens(), columns, where), expected_back = back;
  window_reverse<tested_isa>(windows.view(), grid, back.view(), executor_ref(thread_pool{threads}));
  reference::window_reverse(windows.view(), grid, expected_back.view());
  CHECK(back.memory() == expected_back.memory());
}

TEST_CASE("window_partition, window_reverse, patch_merge: equal the specification", "[swin]") {
  constexpr window_grid grids[] = {{8, 8, 4, 2}, {14, 7, 7, 3}, {5, 9, 4, 3}, {3, 2, 5, 4}, {1, 1, 1, 0}, {0, 4, 2, 1}};
  for (const window_grid& grid : grids) {
    for (const index_t columns : {1, 3, 64}) {
      for (const layout& where : layouts) {
        check_windows<std::uint8_t>(grid, columns, where, 1);
        check_windows<std::int16_t>(grid, columns, where, 3);
        generator random(2);
        const tensor<std::int16_t> x = random_tensor<std::int16_t>(grid.tokens(), columns, where, random);
        tensor<std::int16_t> merged((grid.height + 1) / 2 * ((grid.width + 1) / 2), 4 * columns, where);
        tensor<std::int16_t> expected = merged;
        patch_merge<tested_isa>(x.view(), grid.height, grid.width, 5, merged.view(), executor_ref(thread_pool{2}));
        reference::patch_merge(x.view(), grid.height, grid.width, 5, expected.view());
        CHECK(merged.memory() == expected.memory());
      }
    }
  }
}

TEST_CASE("average_pool, convert_codes: equal the specification", "[swin]") {
  generator random(3);
  for (const index_t tokens : {0, 1, 2, 49, 50}) {
    for (const index_t channels : {0, 1, 3, 17, 64, 96, 131}) {
      for (const layout& where : layouts) {
        const tensor<std::uint8_t> x = random_tensor<std::uint8_t>(tokens, channels, where, random);
        const tensor_scale to_u8 = some_scale(255.0 * static_cast<double>(tokens + 1), 400, -50);
        const requantize<std::uint8_t, tensor_scale> mean{to_u8};
        tensor<std::uint8_t> pooled(1, channels, where), expected = pooled;
        average_pool<tested_isa>(x.view(), mean, pooled.view());
        reference::average_pool(matrix_view<const std::uint8_t>(x.view()), mean, expected.view());
        CHECK(pooled.memory() == expected.memory());

        const tensor<std::int16_t> wide = random_tensor<std::int16_t>(tokens, channels, where, random);
        const requantize<std::int16_t, tensor_scale> wide_mean{
            some_scale(32767.0 * static_cast<double>(tokens + 1), 60000, 0)};
        tensor<std::int16_t> wide_pooled(1, channels, where), wide_expected = wide_pooled;
        average_pool<tested_isa>(wide.view(), wide_mean, wide_pooled.view());
        reference::average_pool(wide.view(), wide_mean, wide_expected.view());
        CHECK(wide_pooled.memory() == wide_expected.memory());

        const requantize<std::int16_t, tensor_scale> wider{some_scale(255, 70000, -35000)};
        tensor<std::int16_t> y(tokens, channels, where), expected_y = y;
        convert_codes<tested_isa>(x.view(), wider, y.view(), executor_ref(thread_pool{2}));
        reference::convert_codes(matrix_view<const std::uint8_t>(x.view()), wider, expected_y.view());
        CHECK(y.memory() == expected_y.memory());
      }
    }
  }
}

template <class Code>
void check_block(const swin_block_shape& shape, const attention_choice& choice, index_t batch, index_t threads) {
  const window_grid& grid = shape.attention.grid;
  INFO("grid " << grid.height << " x " << grid.width << ", window " << grid.window << ", shift " << grid.shift
               << ", batch " << batch << ", threads " << threads);
  INFO("kind " << static_cast<int>(choice.kind) << ", codes " << static_cast<int>(choice.probabilities));
  generator random(static_cast<unsigned>(grid.height * 100 + grid.window));
  parameter_memory memory;
  const auto codes = std::is_same_v<Code, std::int16_t> ? stream_codes::s16 : stream_codes::u8;
  const swin_block_parameters p = random_swin_block(memory, shape, choice, codes, random);

  tensor<Code> stream(batch * grid.tokens(), shape.attention.width);
  const bool wide = codes == stream_codes::s16;
  fill(stream.view(), values::random, wide ? -3000 : 0, wide ? 3000 : 255, random);
  tensor<Code> expected = stream;
  std::vector<std::byte> specification_scratch(reference::swin_block_workspace_bytes<Code>(shape));
  for (index_t image = 0; image < batch; ++image) {
    reference::swin_block(expected.view().row_block(image * grid.tokens(), grid.tokens()), p, shape,
                          workspace(specification_scratch.data(), specification_scratch.size()));
  }
  std::vector<std::byte> scratch(swin_block_workspace_bytes<Code>(shape, batch, threads));
  swin_block<tested_isa>(stream.view(), p, shape, workspace(scratch.data(), scratch.size()),
                         executor_ref(thread_pool{threads}));
  CHECK(first_difference(stream.view(), expected.view()) == "");
}

constexpr swin_block_shape block_of(const window_grid& grid, index_t width, index_t heads, index_t hidden) {
  return {{grid, width, heads}, hidden};
}

TEST_CASE("swin_block: equals the specification [every kind of attention]", "[swin]") {
  for (const attention_choice& choice : all_choices) {
    check_block<std::uint8_t>(block_of({10, 9, 4, 2}, 24, 3, 40), choice, 2, 1);
    check_block<std::int16_t>(block_of({10, 9, 4, 2}, 24, 3, 40), choice, 2, 3);
  }
  check_block<std::uint8_t>(block_of({8, 8, 4, 0}, 16, 2, 20), {.probabilities = attention_code::u4_clipped}, 1, 1);
}

TEST_CASE("swin_block: equals the specification [any shape, batch and number of threads]", "[swin]") {
  check_block<std::uint8_t>(block_of({14, 14, 7, 3}, 96, 3, 384), {}, 1, 2);  // Swin-T, third stage of 112 x 112 pixels
  check_block<std::uint8_t>(block_of({0, 0, 7, 0}, 16, 2, 20), {}, 1, 1);
  check_block<std::uint8_t>(block_of({1, 1, 1, 0}, 3, 1, 2), {}, 3, 4);
  check_block<std::uint8_t>(block_of({5, 3, 2, 1}, 70, 2, 9), {}, 2, 7);
  check_block<std::int16_t>(block_of({13, 13, 12, 6}, 32, 1, 33), {}, 1, 2);  // windows of 144 tokens: two bands
  check_block<std::uint8_t>(block_of({16, 16, 16, 0}, 32, 1, 33), {}, 1, 1);  // of 256
  check_block<std::uint8_t>(block_of({7, 7, 7, 0}, 64, 2, 64), {}, 0, 1);     // no image
}

template <class Code>
void check_model(stream_codes stream) {
  const small_swin model(stream);
  const swin_shape& shape = model.shape;
  generator random(6);
  const tensor<std::uint8_t> pixels = random_tensor<std::uint8_t>(3, 3 * 20 * 28, {}, random);
  std::vector<image_view> images;
  for (index_t i = 0; i < 3; ++i) {
    images.push_back(planar_image(&pixels(i, 0), 3, 20, 28));
  }
  tensor<std::int32_t> logits(3, 5), found(3, 5);
  tensor<std::uint8_t> logits_u8(3, 5), found_u8(3, 5);
  tensor<Code> first(3 * 35, 16), second(3 * 12, 24), found_first(3 * 35, 16), found_second(3 * 12, 24);
  std::vector<std::byte> memory(reference::swin_workspace_bytes(shape));
  const workspace scratch(memory.data(), memory.size());
  for (index_t i = 0; i < 3; ++i) {
    const image_view& image = images[static_cast<std::size_t>(i)];
    reference::swin(image, model.parameters, shape, {logits.view().row_block(i, 1), logits_u8.view().row_block(i, 1)},
                    scratch);
    const std::array<matrix_view<Code>, 2> maps = {first.view().row_block(i * 35, 35),
                                                   second.view().row_block(i * 12, 12)};
    reference::swin_features<Code>(image, model.parameters, shape, maps, scratch);
  }
  for (const index_t threads : {1, 3}) {
    std::vector<std::byte> kernel_memory(swin_workspace_bytes(shape, 3, threads));
    const workspace kernel_scratch(kernel_memory.data(), kernel_memory.size());
    swin<tested_isa>(images, model.parameters, shape, {found.view(), found_u8.view()}, kernel_scratch,
                     executor_ref(thread_pool{threads}));
    CHECK(first_difference(found.view(), logits.view()) == "");
    CHECK(first_difference(found_u8.view(), logits_u8.view()) == "");
    const std::array<matrix_view<Code>, 2> maps = {found_first.view(), found_second.view()};
    std::vector<std::byte> maps_memory(swin_features_workspace_bytes<Code>(shape, 3, threads));
    swin_features<tested_isa>(images, model.parameters, shape, std::span<const matrix_view<Code>>(maps),
                              workspace(maps_memory.data(), maps_memory.size()), executor_ref(thread_pool{threads}));
    CHECK(first_difference(found_first.view(), first.view()) == "");
    CHECK(first_difference(found_second.view(), second.view()) == "");
  }
}

TEST_CASE("swin: equals the specification [u8 and s16 streams]", "[swin]") {
  check_model<std::uint8_t>(stream_codes::u8);
  check_model<std::int16_t>(stream_codes::s16);
}

TEST_CASE("swin: refuses batches that do not fit before anything is written", "[swin]") {
  const small_swin model(stream_codes::u8);
  const tensor<std::uint8_t> pixels(3, 3 * 20 * 28);
  const std::array<image_view, 2> images = {planar_image(&pixels(0, 0), 3, 20, 28),
                                            planar_image(&pixels(1, 0), 3, 20, 28)};
  tensor<std::int32_t> logits(2, 5);
  tensor<std::uint8_t> logits_u8(2, 5);
  std::vector<std::byte> memory(swin_workspace_bytes(model.shape, 2));
  const auto refused = [&](std::span<const image_view> batch, std::size_t bytes) {
    return refusal([&] {
      swin<tested_isa>(batch, model.parameters, model.shape, {logits.view(), logits_u8.view()},
                       workspace(memory.data(), bytes));
    });
  };
  CHECK(mentions(refused(std::span(images).first(1), memory.size()), "logits is 2 x 5; it must be 1 x 5"));
  CHECK(mentions(refused(images, memory.size() - 1), "the workspace has"));
  std::array<image_view, 2> wrong = images;
  wrong[1].height = 24;
  CHECK(mentions(refused(wrong, memory.size()), "image height is 24; it must be equal to 20"));
  wrong[1] = images[1];
  wrong[1].data = nullptr;
  CHECK(mentions(refused(wrong, memory.size()), "image has no data"));
  CHECK(first_difference(logits.view(), tensor<std::int32_t>(2, 5).view()) == "");
  CHECK(refused(images, memory.size()) == "");
}

constexpr swin_shape shape_of_stages(index_t stages) {
  swin_shape shape;
  shape.stages = stages;
  return shape;
}

TEST_CASE("swin_workspace_bytes: gives a size also for a shape that swin refuses", "[swin]") {
  // Constant evaluation refuses accesses outside of arrays.
  static_assert(reference::swin_workspace_bytes(shape_of_stages(0)) ==
                reference::swin_workspace_bytes(shape_of_stages(1)));
  static_assert(reference::swin_workspace_bytes(shape_of_stages(9)) ==
                reference::swin_workspace_bytes(shape_of_stages(8)));
  static_assert(swin_workspace_bytes(shape_of_stages(-1)) == swin_workspace_bytes(shape_of_stages(1)));
  static_assert(swin_workspace_bytes(shape_of_stages(1000)) == swin_workspace_bytes(shape_of_stages(8)));
  static_assert(window_attention_workspace_bytes({.grid = {}, .width = 0, .heads = 0}, 1) < 1000);
  for (const index_t stages : {-1, 0, 9}) {
    CHECK(
        mentions(refusal([&] { require_swin_shape(shape_of_stages(stages)); }), "stages is " + std::to_string(stages)));
  }
  const window_grid beyond{1, 1, index_t{1} << 32, 0};
  CHECK(mentions(refusal([&] { require_window_grid("test", beyond); }), "window is 4294967296"));
}

}  // namespace
}  // namespace intact_test::swin_kernel_test
