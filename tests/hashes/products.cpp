#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <type_traits>

#include "hashes.hpp"
#include "intact/depthwise_conv.hpp"
#include "intact/gemm.hpp"
#include "intact/pack.hpp"
#include "intact/reference/depthwise_conv.hpp"
#include "intact/reference/gemm.hpp"
#include "intact/stage/compat.hpp"
#include "intact/stage/fused.hpp"
#include "intact/stage/row_corrected.hpp"
#include "parameters.hpp"

// Matrix products: every output stage, every kind of weights, as they are and packed, and depthwise convolution.

namespace hashes {
namespace {

/// More rows than a tile has, more channels than a panel, and an inner dimension that ends within a step.
constexpr index_t rows = 7, channels = 83, depth = 70;

template <class A, class Weights, class Stage>
matrix<typename Stage::output> specified_product(const matrix<A>& a, const Weights& w, const Stage& stage) {
  matrix<typename Stage::output> y(rows, channels);
  reference::gemm(a.view(), w, stage, y.view());
  return y;
}

template <class A, class Weights, class Packed, class Stage>
void product(const std::string& name, const matrix<A>& a, const Weights& w, const Packed& in_panels,
             const Stage& stage) {
  matrix<typename Stage::output> expected = specified_product(a, w, stage), found(rows, channels);
  gemm<tested_isa>(a.view(), in_panels, stage, found.view());
  report("gemm/" + name, found.view(), expected.view());
}

/// The panels and the sums of weights in packed form.
template <class Element>
void report_packed(const std::string& name, const packed_weights<Element>& w) {
  report("pack/" + name + "/panels",
         matrix_view<const std::uint8_t>(w.data, 1, packed_panel_bytes<Element>(w.rows, w.columns, w.group)));
  report("pack/" + name + "/sums", matrix_view<const std::int32_t>(w.sums, 1, w.rows));
}

/// The scales of stages, for accumulators of u8 codes and s8 weights. Every third factor of parity stages is a power of
/// two: some accumulators are halves then.
struct stage_scales {
  channel_scale bytes, signed_bytes, nibbles, words, unsigned_words, quantized_matrix;
  tensor_scale tensor, prescaled;
  compat_scale parity;
  add_parameters addition;
  std::span<const tensor_scale> rows;

  stage_scales(random_memory& memory, matrix_view<const std::int8_t> w)
      : bytes(channel_scale_of(memory, w, u8_s8_deviation, {})),
        signed_bytes(channel_scale_of(memory, w, u8_s8_deviation, {0, 60})),
        nibbles(channel_scale_of(memory, w, u8_s8_deviation, {8, 6})),
        words(channel_scale_of(memory, w, u8_s8_deviation, {0, 20'000})),
        unsigned_words(channel_scale_of(memory, w, u8_s8_deviation, {30'000, 20'000})),
        quantized_matrix(channel_scale_of(memory, w, u8_s8_deviation, {2048, 900})),
        tensor(scale_of(deviation_of_sum(2 * u8_s8_deviation, depth), {100, 70})),
        prescaled(scale_of(deviation_of_sum(2 * u8_s8_deviation, depth) << 9, {100, 70})),
        parity{
            memory.random_array<std::int32_t>(channels, -100'000, 100'000),
            memory.array<std::int32_t>(
                channels, [&](index_t n) { return (1 << 30) + (n % 3 == 0 ? 0 : memory.random.between(0, 1 << 29)); }),
            memory.random_array<std::int32_t>(channels, -10, -4), 7},
        addition(add_of(memory, channels)) {
    prescaled.left_shift = 9;
    rows = memory.array<tensor_scale>(hashes::rows, [&](index_t) {
      tensor_scale scale = tensor;
      scale.multiplier -= static_cast<std::int32_t>(memory.random.between(0, 1 << 28));
      return scale;
    });
  }
};

void run_stages(random_memory& memory) {
  const matrix<std::uint8_t> a(rows, depth, 0, 255, memory.random);
  const matrix_view<const std::int8_t> w = memory.random_matrix<std::int8_t>(channels, depth, -128, 127);
  const packed_weights<std::int8_t> in_panels = memory.packed(w);
  report_packed("s8", in_panels);
  const stage_scales scales(memory, w);
  const std::span<const std::uint8_t> table = memory.random_array<std::uint8_t>(4096, 0, 255);
  const matrix<std::int16_t> addend(rows, channels, -32768, 32767, memory.random);
  const matrix<std::uint8_t> stream(rows, channels, 0, 255, memory.random);
  // Kernels tell few stages apart. The others are not run on them, because each takes half a second to compile.
  const auto run = [&](const std::string& name, const auto& stage) { product(name, a, w, in_panels, stage); };
  const auto specify = [&](const std::string& name, const auto& stage) {
    report("gemm/" + name, specified_product(a, w, stage).view());
  };

  run("keep_accumulator", raw_accumulator{});
  run("requantize/u8", requantize<std::uint8_t>{scales.bytes});
  specify("requantize/s8", requantize<std::int8_t>{scales.signed_bytes});
  specify("requantize/u16", requantize<std::uint16_t>{scales.unsigned_words});
  run("requantize/s16", requantize<std::int16_t>{scales.words});
  run("requantize/s32", requantize<std::int32_t>{scales.words});
  run("requantize/12_bits", requantize_u12{scales.quantized_matrix});
  specify("requantize/4_bits", requantize<std::uint8_t, channel_scale, 4>{scales.nibbles});
  run("requantize/u8/tensor", requantize<std::uint8_t, tensor_scale>{scales.tensor});
  specify("requantize/s16/tensor", requantize<std::int16_t, tensor_scale>{scales.tensor});
  specify("requantize/u8/prescale", requantize<std::uint8_t, tensor_scale>{scales.prescaled});
  run("activate", requantize_lut{scales.quantized_matrix, table});
  run("add_to_stream", add_to_stream{scales.words, addend.view()});
  run("requantize_and_add", requantize_add{scales.bytes, scales.addition, stream.view()});
  run("requantize_rows/u8", requantize_per_row<std::uint8_t>{scales.rows});
  specify("round_half_to_even/u8", round_half_to_even<std::uint8_t>{scales.parity});
  run("round_half_to_even/s16", round_half_to_even<std::int16_t>{scales.parity});
  run("round_once/s8", single_rounding<std::int8_t>{scales.parity});
  specify("round_once/s16", single_rounding<std::int16_t>{scales.parity});
  run("round_twice/s8", double_rounding<std::int8_t>{scales.parity});
  specify("round_twice/s16", double_rounding<std::int16_t>{scales.parity});
  run("round_once/s8/relu6", single_rounding<std::int8_t>{scales.parity, 7, 60});
  specify("row_corrected/round_once/s8",
          row_corrected<single_rounding<std::int8_t>>{{scales.parity}, scales.parity.bias.first(rows)});
  specify("round_power_of_two/u8", round_power_of_two<std::uint8_t>{scales.parity.bias, 10, 128});
}

/// Weights of one kind: the sums, and for u8 codes an output stage.
template <class A, class Weights, class Packed>
void run_kind(random_memory& memory, const std::string& name, const Weights& w, const Packed& in_panels,
              std::int64_t deviation) {
  const matrix<A> a(rows, depth, std::numeric_limits<A>::min(), std::numeric_limits<A>::max(), memory.random);
  product(name + "/keep_accumulator", a, w, in_panels, raw_accumulator{});
  if constexpr (std::is_unsigned_v<A>) {
    product(name + "/requantize", a, w, in_panels,
            requantize<std::uint8_t>{channel_scale_of(memory, w, deviation, {})});
  }
}

void run_kinds(random_memory& memory) {
  const matrix_view<const std::int8_t> bytes = memory.random_matrix<std::int8_t>(channels, depth, -128, 127);
  run_kind<std::int8_t>(memory, "s8_s8", bytes, memory.packed(bytes), u8_s8_deviation);

  const packed_view<s4, const std::uint8_t> nibbles = memory.random_s4(channels, depth);
  const packed_weights<s4> nibble_panels = memory.packed(nibbles);
  report_packed("s4", nibble_panels);
  run_kind<std::uint8_t>(memory, "u8_s4", nibbles, nibble_panels, u8_s4_deviation);
  run_kind<std::int8_t>(memory, "s8_s4", nibbles, nibble_panels, u8_s4_deviation);

  const grouped_s4_view grouped = memory.random_grouped_s4(channels, depth, 16);
  const packed_weights<grouped_s4> grouped_panels = memory.packed(grouped);
  report_packed("grouped_s4", grouped_panels);
  run_kind<std::uint8_t>(memory, "u8_grouped_s4", grouped, grouped_panels, 4 * u8_s4_deviation);
  run_kind<std::int8_t>(memory, "s8_grouped_s4", grouped, grouped_panels, 4 * u8_s4_deviation);

  const grouped_s4_view fives = memory.random_grouped_s4(channels, depth, 5);
  const packed_weights<std::int8_t> as_s8 =
      pack_weights_as_s8(fives, memory.lines(packed_weights_bytes<std::int8_t>(channels, depth)));
  report_packed("grouped_s4_as_s8", as_s8);
  run_kind<std::uint8_t>(memory, "u8_grouped_s4_as_s8", fives, as_s8, 4 * u8_s4_deviation);
}

/// The product of two activations.
void run_two_activations(random_memory& memory) {
  const matrix<std::uint8_t> a(rows, depth, 0, 255, memory.random), b(channels, depth, 0, 255, memory.random);
  const tensor_scale scale = scale_of(deviation_of_sum(u8_u8_deviation, depth), {});
  const quantized_matrix first{a.view(), 120}, second{b.view(), 131};
  const requantize<std::uint8_t, tensor_scale> stage{scale};
  matrix<std::uint8_t> expected(rows, channels), found(rows, channels);
  std::vector<std::byte> scratch(gemm_workspace_bytes(rows, channels, depth));
  reference::gemm(first, second, stage, expected.view());
  gemm<tested_isa>(first, second, stage, found.view(), workspace(scratch.data(), scratch.size()));
  report("gemm/activations", found.view(), expected.view());
}

template <class Stage>
void convolve(const std::string& name, const quantized_matrix& x, const token_grid& grid, const depthwise_weights& w,
              const Stage& stage) {
  matrix<typename Stage::output> expected(x.codes.rows, x.codes.columns), found(x.codes.rows, x.codes.columns);
  reference::depthwise_conv(x, grid, w, stage, expected.view());
  depthwise_conv<tested_isa>(x, grid, w, stage, found.view());
  report("depthwise_conv/" + name, found.view(), expected.view());
}

void run_depthwise(random_memory& memory) {
  constexpr token_grid grid{5, 6};
  const matrix<std::uint8_t> x(grid.tokens(), channels, 0, 255, memory.random);
  const depthwise_weights w{memory.random_matrix<std::int8_t>(9, channels, -128, 127), 3};
  const matrix<std::int8_t> by_channel(channels, 9, 0, 0, memory.random);
  const channel_scale bytes = channel_scale_of(memory, by_channel.view(), u8_s8_deviation, {128, 30});
  const matrix<std::int16_t> addend(grid.tokens(), channels, -32768, 32767, memory.random);
  convolve("keep_accumulator", {x.view(), 128}, grid, w, raw_accumulator{});
  convolve("requantize", {x.view(), 128}, grid, w, requantize<std::uint8_t>{bytes});
  convolve("add_to_stream", {x.view(), 128}, grid, w, add_to_stream{bytes, addend.view()});
}

}  // namespace

void run_products() {
  random_memory memory(1);
  run_stages(memory);
  run_kinds(memory);
  run_two_activations(memory);
  run_depthwise(memory);
}

}  // namespace hashes
