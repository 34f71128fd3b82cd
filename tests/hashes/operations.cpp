#include <cstdint>
#include <span>
#include <string>
#include <type_traits>
#include <utility>

#include "hashes.hpp"
#include "intact/activation.hpp"
#include "intact/add.hpp"
#include "intact/average_pool.hpp"
#include "intact/convert_codes.hpp"
#include "intact/im2col.hpp"
#include "intact/layernorm.hpp"
#include "intact/multiply.hpp"
#include "intact/patch_merge.hpp"
#include "intact/reference/activation.hpp"
#include "intact/reference/add.hpp"
#include "intact/reference/average_pool.hpp"
#include "intact/reference/convert_codes.hpp"
#include "intact/reference/fq_vit_layernorm.hpp"
#include "intact/reference/im2col.hpp"
#include "intact/reference/layernorm.hpp"
#include "intact/reference/multiply.hpp"
#include "intact/reference/patch_merge.hpp"
#include "intact/reference/rmsnorm.hpp"
#include "intact/reference/rotate.hpp"
#include "intact/reference/unfold.hpp"
#include "intact/reference/windows.hpp"
#include "intact/rmsnorm.hpp"
#include "intact/rotate.hpp"
#include "intact/unfold.hpp"
#include "intact/windows.hpp"
#include "parameters.hpp"

// Operations on the codes of tokens.

namespace hashes {
namespace {

/// Channels that fill registers of every width, and some that do not.
constexpr index_t tokens = 50, channels = 83;

template <class Code>
void run_activation(random_memory& memory, const std::string& name, index_t entries) {
  const matrix<Code> x(tokens, channels, 0, entries - 1, memory.random);
  const std::span<const std::uint8_t> table = memory.random_array<std::uint8_t>(entries, 0, 255);
  matrix<std::uint8_t> expected(tokens, channels), found(tokens, channels);
  reference::activation(x.view(), table, expected.view());
  activation<tested_isa>(x.view(), table, found.view());
  report("activation/" + name, found.view(), expected.view());
}

void run_add(random_memory& memory) {
  const matrix<std::uint8_t> stream(tokens, channels, 0, 255, memory.random);
  const matrix<std::uint8_t> branch(tokens, channels, 0, 255, memory.random);
  const add_parameters scale = add_of(memory, channels);
  matrix<std::uint8_t> expected(tokens, channels), found(tokens, channels);
  reference::add(stream.view(), branch.view(), scale, expected.view());
  add<tested_isa>(stream.view(), branch.view(), scale, found.view());
  report("add", found.view(), expected.view());
}

template <class Stage>
void pool(const std::string& name, const matrix<std::uint8_t>& x, const Stage& stage) {
  const matrix_view<const std::uint8_t> codes = x.view();
  matrix<typename Stage::output> expected(1, codes.columns), found(1, codes.columns);
  reference::average_pool(codes, stage, expected.view());
  average_pool<tested_isa>(codes, stage, found.view());
  report("average_pool/" + name, found.view(), expected.view());
}

void run_pooling(random_memory& memory) {
  const matrix<std::uint8_t> x(tokens, channels, 0, 255, memory.random);
  const matrix<std::uint8_t> few(16, 64, 0, 255, memory.random);
  const tensor_scale mean{std::int32_t{1} << 30, std::int64_t{1} << 33, 4, 0};
  pool("keep_accumulator", x, raw_accumulator{});
  pool("16_tokens/keep_accumulator", few, raw_accumulator{});
  pool("requantize/u8", x, requantize<std::uint8_t, tensor_scale>{mean});
  pool("requantize/s16", x, requantize<std::int16_t, tensor_scale>{mean});
}

void run_requantization(random_memory& memory) {
  const matrix<std::uint8_t> x(tokens, channels, 0, 255, memory.random);
  const auto run = [&](const std::string& name, const auto& stage) {
    using output = typename std::remove_cvref_t<decltype(stage)>::output;
    matrix<output> expected(tokens, channels), found(tokens, channels);
    reference::convert_codes(x.view(), stage, expected.view());
    convert_codes<tested_isa>(x.view(), stage, found.view());
    report("requantize_codes/" + name, found.view(), expected.view());
  };
  run("u8", requantize<std::uint8_t, tensor_scale>{{1'700'000'000, -(std::int64_t{60} << 31), 0, 2}});
  run("s16", requantize<std::int16_t, tensor_scale>{{1'700'000'000, -(std::int64_t{45'000} << 31), 0, 9}});
}

template <class Code>
void run_layernorm(random_memory& memory, const std::string& name, std::int64_t low, std::int64_t high,
                   int zero_point) {
  matrix<Code> x(tokens, channels, low, high, memory.random);
  for (index_t c = 0; c < channels; ++c) {  // a row whose variance is small
    x.view()(1, c) = static_cast<Code>(zero_point + (c == 0 ? 1 : 0));
  }
  const layernorm_parameters p = layernorm_of(memory, channels, zero_point);
  matrix<std::uint8_t> expected(tokens, channels), found(tokens, channels);
  reference::layernorm(matrix_view<const Code>(x.view()), p, expected.view());
  layernorm<tested_isa>(matrix_view<const Code>(x.view()), p, found.view());
  report("layernorm/" + name, found.view(), expected.view());
}

/// Rows of four channels whose codes differ little: their variances are below 2^20, where epsilon has a fraction. Its
/// own random numbers leave those of the other operations as they were.
template <class Code>
void run_layernorm_of_small_variance(const std::string& name, int zero_point) {
  constexpr index_t few = 4;
  random_memory memory(4);
  const matrix<Code> x(tokens, few, zero_point, zero_point + 3, memory.random);
  layernorm_parameters p = layernorm_of(memory, few, zero_point);
  p.epsilon = 1;
  matrix<std::uint8_t> expected(tokens, few), found(tokens, few);
  for (const auto& [sign, fraction] : {std::pair("above", std::int64_t{1} << 28), {"below", -1'030'792'151}}) {
    p.epsilon_fraction = fraction;
    reference::layernorm(x.view(), p, expected.view());
    layernorm<tested_isa>(x.view(), p, found.view());
    report("layernorm/" + name + "/epsilon_" + sign + "_1", found.view(), expected.view());
  }
}

/// Two codes beside the zero point are a row of a small mean square.
template <class Code>
void run_rmsnorm(const std::string& name, std::int64_t low, std::int64_t high, int zero_point) {
  random_memory memory(6);
  matrix<Code> x(tokens, channels, low, high, memory.random);
  for (index_t c = 0; c < channels; ++c) {
    x.view()(1, c) = static_cast<Code>(zero_point + (c < 2 ? 1 : 0));
  }
  layernorm_parameters p = layernorm_of(memory, channels, zero_point);
  p.epsilon = 1;
  p.epsilon_fraction = 1 << 28;
  matrix<std::uint8_t> expected(tokens, channels), found(tokens, channels);
  reference::rmsnorm(matrix_view<const Code>(x.view()), p, expected.view());
  rmsnorm<tested_isa>(matrix_view<const Code>(x.view()), p, found.view());
  report("rmsnorm/" + name, found.view(), expected.view());
}

/// Its own random numbers leave those of the other operations as they were.
void run_multiply() {
  random_memory memory(5);
  const matrix<std::uint8_t> a(tokens, channels, 0, 255, memory.random), b(tokens, channels, 0, 255, memory.random);
  const auto run = [&](const std::string& name, const auto& stage) {
    using output = typename std::remove_cvref_t<decltype(stage)>::output;
    matrix<output> expected(tokens, channels), found(tokens, channels);
    reference::multiply({a.view(), 17}, {b.view(), 130}, stage, expected.view());
    multiply<tested_isa>({a.view(), 17}, {b.view(), 130}, stage, found.view());
    report("multiply/" + name, found.view(), expected.view());
  };
  run("keep_accumulator", raw_accumulator{});
  run("u8", requantize<std::uint8_t, tensor_scale>{{1'400'000'000, std::int64_t{201} << 38, 7, 0}});
  run("s16", requantize<std::int16_t, tensor_scale>{{1'400'000'000, std::int64_t{1} << 31, 0, 1}});
}

/// Three heads of 38 channels, whose pairs are no whole registers.
void run_rotate() {
  constexpr index_t heads = 3, half = 19, columns = heads * 2 * half;
  random_memory memory(7);
  const matrix<std::uint8_t> x(tokens, columns, 0, 255, memory.random);
  const matrix<std::int16_t> cosine(tokens, half, -16384, 16384, memory.random),
      sine(tokens, half, -16384, 16384, memory.random);
  matrix<std::uint8_t> expected(tokens, columns), found(tokens, columns);
  reference::rotate({x.view(), 121}, {cosine.view(), sine.view()}, expected.view());
  rotate<tested_isa>({x.view(), 121}, {cosine.view(), sine.view()}, found.view());
  report("rotate", found.view(), expected.view());
}

void run_compatibility_layernorm(random_memory& memory) {
  const matrix<std::uint8_t> x(tokens, channels, 0, 255, memory.random);
  const fq_vit_layernorm_parameters p{
      .zero_point = 121,
      .shift = memory.random_array<std::uint8_t>(channels, 0, 3),
      .gain = memory.random_array<std::int32_t>(channels, -(1 << 29), 1 << 29),
      .gain_shift = memory.random_array<std::uint8_t>(channels, 20, 26),
      .bias = memory.array<std::int64_t>(channels, [&](index_t) { return memory.random.between(-99, 99) << 38; })};
  matrix<std::int32_t> y(tokens, channels);
  reference::fq_vit_layernorm(x.view(), p, y.view());
  report("compatibility_layernorm", y.view());
}

void run_images(random_memory& memory) {
  constexpr index_t height = 8, width = 12, planes = 3, patch = 4, patches = 6;
  const std::span<const std::uint8_t> samples = memory.random_array<std::uint8_t>(planes * height * width, 0, 255);
  for (const bool planar : {true, false}) {
    const image_view image = planar ? planar_image(samples.data(), planes, height, width)
                                    : interleaved_image(samples.data(), planes, height, width);
    matrix<std::uint8_t> expected(patches, planes * patch * patch), found(patches, planes * patch * patch);
    reference::im2col(image, patch, expected.view());
    im2col<tested_isa>(image, patch, found.view());
    report(planar ? "im2col/planar" : "im2col/interleaved", found.view(), expected.view());
  }
}

void run_unfolding(random_memory& memory) {
  constexpr token_grid grid{7, 5};
  constexpr stencil around{.size = 3, .stride = 2};
  constexpr index_t outputs = around.outputs_of(grid).tokens();
  const matrix<std::uint8_t> x(grid.tokens(), 19, 0, 255, memory.random);
  matrix<std::uint8_t> expected(outputs, 9 * 19), found(outputs, 9 * 19);
  reference::unfold(x.view(), grid, around, 77, expected.view());
  unfold<tested_isa>(x.view(), grid, around, 77, found.view());
  report("unfold", found.view(), expected.view());
}

template <class T>
void run_windows(random_memory& memory, const std::string& name) {
  constexpr window_grid grid{5, 9, 4, 2};
  const matrix<T> x(grid.tokens(), channels, 0, 255, memory.random);
  matrix<T> expected(grid.padded_tokens(), channels), found(grid.padded_tokens(), channels);
  reference::window_partition(x.view(), grid, 7, expected.view());
  window_partition<tested_isa>(x.view(), grid, 7, found.view());
  report("window_partition/" + name, found.view(), expected.view());

  matrix<T> expected_back(grid.tokens(), channels), back(grid.tokens(), channels);
  reference::window_reverse(expected.view(), grid, expected_back.view());
  window_reverse<tested_isa>(found.view(), grid, back.view());
  report("window_reverse/" + name, back.view(), expected_back.view());

  matrix<T> expected_merged(15, 4 * channels), merged(15, 4 * channels);
  reference::patch_merge(x.view(), grid.height, grid.width, 9, expected_merged.view());
  patch_merge<tested_isa>(x.view(), grid.height, grid.width, 9, merged.view());
  report("merge_patches/" + name, merged.view(), expected_merged.view());
}

void run_window_masks() {
  constexpr window_grid grid{8, 8, 4, 2};
  for (int place = 0; place < 4; ++place) {
    matrix<std::uint8_t> visible(grid.tokens_per_window(), grid.tokens_per_window());
    shifted_window_mask(grid, place % 2 != 0, place / 2 != 0, visible.view());
    report("shifted_window_mask/" + std::to_string(place), visible.view());
  }
}

}  // namespace

void run_operations() {
  random_memory memory(2);
  run_activation<std::uint8_t>(memory, "u8", activation_table_size_8);
  run_activation<std::uint16_t>(memory, "12_bits", activation_table_size_12);
  run_add(memory);
  run_pooling(memory);
  run_requantization(memory);
  run_layernorm<std::uint8_t>(memory, "u8", 0, 255, 120);
  run_layernorm<std::int16_t>(memory, "s16", -32768, 32767, 0);
  run_layernorm_of_small_variance<std::uint8_t>("u8", 120);
  run_layernorm_of_small_variance<std::int16_t>("s16", 0);
  run_rmsnorm<std::uint8_t>("u8", 0, 255, 120);
  run_rmsnorm<std::int16_t>("s16", -32768, 32767, 0);
  run_multiply();
  run_rotate();
  run_compatibility_layernorm(memory);
  run_images(memory);
  run_unfolding(memory);
  run_windows<std::uint8_t>(memory, "u8");
  run_windows<std::int16_t>(memory, "s16");
  run_window_masks();
}

}  // namespace hashes
