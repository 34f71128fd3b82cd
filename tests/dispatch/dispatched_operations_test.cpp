// Every function of the table of intact::dispatch beside models, on the instruction set that INTACT_ISA names, against
// the specification or header-only calls for isa::INTACT_TEST_ISA, bit by bit.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "catch.hpp"
#include "dispatched.hpp"
#include "intact/dispatch/all.hpp"
#include "intact/reference/gemm.hpp"
#include "refusal.hpp"
#include "small_model.hpp"
#include "stage_cases.hpp"

namespace intact_test::dispatched_operations_test {
namespace {

using u8 = std::uint8_t;
using s8 = std::int8_t;
using s16 = std::int16_t;

constexpr index_t tokens = 36, channels = 70, outputs = 83;

/// Arguments that most operations share.
struct operands {
  tensor<u8> x = random_tensor<u8>(tokens, channels, 0, 255);
  tensor<s16> stream = random_tensor<s16>(tokens, channels, -3000, 3000);
  generator random{3};
  parameter_memory memory;
  std::vector<std::byte> scratch = std::vector<std::byte>(1 << 20);

  workspace space() { return {scratch.data(), scratch.size()}; }
};

/// Products with weights and every stage of the table.
template <class A, class Weights>
void check_products(const Weights& w, std::int64_t largest_weight) {
  parameter_memory memory;
  const auto packed = memory.packed(w);
  const tensor<A> a =
      random_tensor<A>(tokens, channels, std::is_signed_v<A> ? -128 : 0, std::is_signed_v<A> ? 127 : 255);
  for (const scales kind : {scales::bytes, scales::extreme}) {
    generator random(7);
    const stage_arrays arrays(tokens, outputs, layouts[1], kind, channels * 255 * largest_weight, random);
    for_each_stage(dispatch_lists::of_products{}, [&]<class Stage>(std::type_identity<Stage>) {
      const auto stage = stage_of<Stage>(arrays);
      check_dispatched<typename Stage::output>(
          tokens, outputs, [&](auto y, const auto& run) { dispatch::gemm(a.view(), packed, stage, y, run); },
          [&](auto y) { reference::gemm(a.view(), w, stage, y); });
    });
    if constexpr (std::is_same_v<Weights, matrix_view<const s8>>) {
      std::vector<std::int32_t> correction(tokens);
      dispatch::row_sums(a.view(), -3, correction);
      std::vector<std::int32_t> expected_correction(tokens);
      row_sums<tested_isa>(a.view(), -3, std::span<std::int32_t>(expected_correction));
      CHECK(correction == expected_correction);
      for_each_stage(dispatch_lists::of_s8_products{}, [&]<class Stage>(std::type_identity<Stage>) {
        Stage stage;
        if constexpr (requires { stage.correction; }) {
          stage = {stage_of<decltype(stage.stage)>(arrays), correction};
        } else {
          stage = stage_of<Stage>(arrays);
        }
        check_dispatched<typename Stage::output>(
            tokens, outputs, [&](auto y, const auto& run) { dispatch::gemm(a.view(), packed, stage, y, run); },
            [&](auto y) { reference::gemm(a.view(), w, stage, y); });
      });
    }
  }
}

TEST_CASE("dispatch::gemm: equals the specification [all weights and stages]", "[dispatch]") {
  const tensor<s8> bytes = random_tensor<s8>(outputs, channels, -128, 127);
  const matrix_view<const s8> dense = bytes.view();
  check_products<u8>(dense, 128);
  check_products<s8>(dense, 128);

  tensor<u8> nibbles = random_tensor<u8>(outputs, channels / 2, 0, 255);
  const packed_view<s4, const u8> half(nibbles.view().data, outputs, channels, 2 * nibbles.view().stride);
  check_products<u8>(half, 8);
  check_products<s8>(half, 8);

  const tensor<u8> shifts = random_tensor<u8>(outputs, group_count(channels, 8), 0, 3);
  const grouped_s4_view grouped(half, shifts.view(), 8);
  check_products<u8>(grouped, 64);
  check_products<s8>(grouped, 64);
}

TEST_CASE("dispatch::gemm: equals header-only calls [two activations, all stages]", "[dispatch]") {
  operands o;
  const tensor<u8> b = random_tensor<u8>(outputs, channels, 0, 255, 5);
  const stage_arrays arrays(tokens, outputs, layouts[1], scales::bytes, channels * 255 * 255, o.random);
  for_each_stage(dispatch_lists::of_tensors{}, [&]<class Stage>(std::type_identity<Stage>) {
    const auto stage = stage_of<Stage>(arrays);
    const quantized_matrix first{o.x.view(), 100}, second{b.view(), 130};
    check_dispatched<typename Stage::output>(
        tokens, outputs, [&](auto y, const auto& run) { dispatch::gemm(first, second, stage, y, o.space(), run); },
        [&](auto y) { gemm<tested_isa>(first, second, stage, y, o.space()); });
  });
}

TEST_CASE("dispatch: equals header-only calls [operations on rows]", "[dispatch]") {
  operands o;
  const layernorm_parameters norm = random_layernorm(o.memory, channels, o.random);
  check_dispatched<u8>(
      tokens, channels, [&](auto y, const auto& run) { dispatch::layernorm(o.x.view(), norm, y, run); },
      [&](auto y) { layernorm<tested_isa>(o.x.view(), norm, y); });
  layernorm_parameters norm_s16 = norm;
  norm_s16.zero_point = 0;
  check_dispatched<u8>(
      tokens, channels, [&](auto y, const auto& run) { dispatch::layernorm(o.stream.view(), norm_s16, y, run); },
      [&](auto y) { layernorm<tested_isa>(o.stream.view(), norm_s16, y); });
  check_dispatched<u8>(
      tokens, channels, [&](auto y, const auto& run) { dispatch::rmsnorm(o.x.view(), norm, y, run); },
      [&](auto y) { rmsnorm<tested_isa>(o.x.view(), norm, y); });
  check_dispatched<u8>(
      tokens, channels, [&](auto y, const auto& run) { dispatch::rmsnorm(o.stream.view(), norm_s16, y, run); },
      [&](auto y) { rmsnorm<tested_isa>(o.stream.view(), norm_s16, y); });
  const tensor<u8> queries = random_tensor<u8>(tokens, 48, 0, 255);
  const tensor<s16> cosine = random_tensor<s16>(tokens, 12, -16384, 16384),
                    sine = random_tensor<s16>(tokens, 12, -16384, 16384, 4);
  const rotation_parameters angles{cosine.view(), sine.view()};
  check_dispatched<u8>(
      tokens, 48,
      [&](auto y, const auto& run) {
        dispatch::rotate({queries.view(), 100}, angles, y, run);
      },
      [&](auto y) {
        rotate<tested_isa>({queries.view(), 100}, angles, y);
      });

  const stage_arrays arrays(tokens, channels, layouts[1], scales::bytes, 255 * tokens, o.random);
  const add_parameters addition = stage_of<requantize_add>(arrays).addition;
  check_dispatched<u8>(
      tokens, channels, [&](auto y, const auto& run) { dispatch::add(o.x.view(), o.x.view(), addition, y, run); },
      [&](auto y) { add<tested_isa>(o.x.view(), o.x.view(), addition, y); });

  const auto table = o.memory.array<u8>(4096, [&](index_t) { return o.random.between(0, 255); });
  const auto table_of_bytes = std::span<const u8>(table).first(256);
  check_dispatched<u8>(
      tokens, channels, [&](auto y, const auto& run) { dispatch::activation(o.x.view(), table_of_bytes, y, run); },
      [&](auto y) { activation<tested_isa>(o.x.view(), table_of_bytes, y); });
  const tensor<std::uint16_t> words = random_tensor<std::uint16_t>(tokens, channels, 0, 4095);
  check_dispatched<u8>(
      tokens, channels, [&](auto y, const auto& run) { dispatch::activation(words.view(), table, y, run); },
      [&](auto y) { activation<tested_isa>(words.view(), std::span<const u8>(table), y); });

  const stage_arrays of_products(tokens, channels, layouts[1], scales::bytes, 255 * 255, o.random);
  const tensor<u8> other = random_tensor<u8>(tokens, channels, 0, 255, 6);
  for_each_stage(dispatch_lists::of_tensors{}, [&]<class Stage>(std::type_identity<Stage>) {
    const auto stage = stage_of<Stage>(arrays);
    check_dispatched<typename Stage::output>(
        1, channels, [&](auto y, const auto&) { dispatch::average_pool(o.x.view(), stage, y); },
        [&](auto y) { average_pool<tested_isa>(o.x.view(), stage, y); });
    check_dispatched<typename Stage::output>(
        1, channels, [&](auto y, const auto&) { dispatch::average_pool(o.stream.view(), stage, y); },
        [&](auto y) { average_pool<tested_isa>(o.stream.view(), stage, y); });
    check_dispatched<typename Stage::output>(
        tokens, channels, [&](auto y, const auto& run) { dispatch::convert_codes(o.x.view(), stage, y, run); },
        [&](auto y) { convert_codes<tested_isa>(o.x.view(), stage, y); });
    const quantized_matrix a{o.x.view(), 200}, b{other.view(), 3};
    check_dispatched<typename Stage::output>(
        tokens, channels,
        [&](auto y, const auto& run) { dispatch::multiply(a, b, stage_of<Stage>(of_products), y, run); },
        [&](auto y) { multiply<tested_isa>(a, b, stage_of<Stage>(of_products), y); });
  });
}

template <attention_code Format, log2_rounding Rounding, class T>
void check_log_softmax(operands& o, const key_mask& mask) {
  const auto table = o.memory.array<T>(softmax_distances, [](index_t d) { return T{1} << (20 - d / 13); });
  const exp_table<T> exponential(table);
  if constexpr (Format == attention_code::u4_clipped) {
    check_dispatched<u8>(
        tokens, channels / 2,
        [&](auto y, const auto& run) {
          const packed_view<u4, u8> codes(y.data, tokens, channels, 2 * y.stride);
          dispatch::log_softmax<Format, Rounding>(o.x.view(), exponential, codes, run);
        },
        [&](auto y) {
          const packed_view<u4, u8> codes(y.data, tokens, channels, 2 * y.stride);
          log_softmax<tested_isa, Format, Rounding>(o.x.view(), exponential, codes);
        });
  } else {
    check_dispatched<u8>(
        tokens, channels,
        [&](auto y, const auto& run) { dispatch::log_softmax<Format, Rounding>(o.x.view(), exponential, y, run); },
        [&](auto y) { log_softmax<tested_isa, Format, Rounding>(o.x.view(), exponential, y); });
    check_dispatched<u8>(
        tokens, channels,
        [&](auto y, const auto& run) {
          dispatch::log_softmax<Format, Rounding>(o.x.view(), exponential, mask, y, run);
        },
        [&](auto y) { log_softmax<tested_isa, Format, Rounding>(o.x.view(), exponential, mask, y); });
  }
}

template <attention_code Format>
void check_log_softmaxes(operands& o, const key_mask& mask) {
  check_log_softmax<Format, log2_rounding::round_ratio, std::uint32_t>(o, mask);
  check_log_softmax<Format, log2_rounding::round_ratio, std::uint64_t>(o, mask);
  check_log_softmax<Format, log2_rounding::round_log, std::uint32_t>(o, mask);
  check_log_softmax<Format, log2_rounding::round_log, std::uint64_t>(o, mask);
}

TEST_CASE("dispatch: equals header-only calls [softmaxes]", "[dispatch]") {
  operands o;
  const tensor<u8> visible = random_tensor<u8>(tokens, channels, 0, 1);
  const key_mask mask{visible.view()};
  check_log_softmaxes<attention_code::u8_masked>(o, mask);
  check_log_softmaxes<attention_code::u4_clipped>(o, mask);
  check_log_softmaxes<attention_code::u8_full>(o, mask);
  const auto table = o.memory.array<u8>(softmax_distances, [](index_t d) { return d % 16; });
  check_dispatched<u8>(
      tokens, channels, [&](auto y, const auto& run) { dispatch::max_softmax(o.x.view(), table, y, run); },
      [&](auto y) { max_softmax<tested_isa>(o.x.view(), table, y); });
  check_dispatched<u8>(
      tokens, channels, [&](auto y, const auto& run) { dispatch::max_softmax(o.x.view(), table, mask, 16, y, run); },
      [&](auto y) { max_softmax<tested_isa>(o.x.view(), table, mask, 16, y); });
  check_dispatched<u8>(
      tokens, channels / 2,
      [&](auto y, const auto& run) {
        dispatch::max_softmax(o.x.view(), table, packed_view<u4, u8>(y.data, tokens, channels, 2 * y.stride), run);
      },
      [&](auto y) {
        max_softmax<tested_isa>(o.x.view(), table, packed_view<u4, u8>(y.data, tokens, channels, 2 * y.stride));
      });
}

template <attention_code Format, class List>
void check_shift_matmul(operands& o, typename attention_codes<Format>::const_view codes, List stages) {
  const tensor<u8> values = random_tensor<u8>(channels, outputs, 0, 255, 8);
  const quantized_matrix v{values.view(), 120};
  const stage_arrays arrays(tokens, outputs, layouts[1], scales::bytes, std::int64_t{1} << 24, o.random);
  for_each_stage(stages, [&]<class Stage>(std::type_identity<Stage>) {
    Stage stage = {};
    if constexpr (Format == attention_code::u8_full) {
      stage.scale = {1 << 30, std::int64_t{257} << 45, 14, 0};
    } else {
      arrays.give(stage);
    }
    check_dispatched<typename Stage::output>(
        tokens, outputs,
        [&](auto y, const auto& run) { dispatch::shift_matmul<Format>(codes, v, stage, y, o.space(), run); },
        [&](auto y) { shift_matmul<tested_isa, Format>(codes, v, stage, y, o.space()); });
  });
  if constexpr (Format != attention_code::u8_full) {
    const row_divisor normalization{1 << 27, 128};
    check_dispatched<u8>(
        tokens, outputs,
        [&](auto y, const auto& run) { dispatch::shift_matmul<Format>(codes, v, normalization, y, o.space(), run); },
        [&](auto y) { shift_matmul<tested_isa, Format>(codes, v, normalization, y, o.space()); });
  }
}

TEST_CASE("dispatch: equals header-only calls [products with values]", "[dispatch]") {
  operands o;
  const tensor<u8> codes = random_tensor<u8>(tokens, channels, 6, 16);
  check_shift_matmul<attention_code::u8_masked>(o, codes.view(), dispatch_lists::of_tensors{});
  check_shift_matmul<attention_code::u4_clipped>(
      o, packed_view<u4, const u8>(codes.view().data, tokens, channels, 2 * codes.view().stride),
      dispatch_lists::of_tensors{});
  check_shift_matmul<attention_code::u8_full>(o, codes.view(),
                                              dispatch_lists::stages<requantize_s64<u8>, requantize_s64<s8>>{});
  const tensor<u8> values = random_tensor<u8>(channels, outputs, 0, 255, 8);
  const quantized_matrix v{values.view(), 120};
  const row_divisor normalization{1 << 27, 128};
  check_dispatched<u8>(
      tokens, outputs,
      [&](auto y, const auto& run) { dispatch::weighted_matmul(o.x.view(), v, normalization, y, o.space(), run); },
      [&](auto y) { weighted_matmul<tested_isa>(o.x.view(), v, normalization, y, o.space()); });
}

template <class T>
void check_moves(const matrix_view<const T>& x) {
  const window_grid grid{6, 6, 4, 2};
  check_dispatched<T>(
      grid.padded_tokens(), channels, [&](auto y, const auto& run) { dispatch::window_partition(x, grid, 7, y, run); },
      [&](auto y) { window_partition<tested_isa>(x, grid, 7, y); });
  const tensor<T> windows = random_tensor<T>(grid.padded_tokens(), channels, 0, 100);
  check_dispatched<T>(
      tokens, channels, [&](auto y, const auto& run) { dispatch::window_reverse(windows.view(), grid, y, run); },
      [&](auto y) { window_reverse<tested_isa>(windows.view(), grid, y); });
  check_dispatched<T>(
      9, 4 * channels, [&](auto y, const auto& run) { dispatch::patch_merge(x, 6, 6, 7, y, run); },
      [&](auto y) { patch_merge<tested_isa>(x, 6, 6, 7, y); });
}

TEST_CASE("dispatch: equals header-only calls [operations on grids]", "[dispatch]") {
  operands o;
  check_moves<u8>(o.x.view());
  check_moves<s16>(o.stream.view());
  const token_grid grid{6, 6};
  check_dispatched<u8>(
      9, 9 * channels,
      [&](auto y, const auto& run) {
        dispatch::unfold(o.x.view(), grid, {3, 2}, 7, y, run);
      },
      [&](auto y) {
        unfold<tested_isa>(o.x.view(), grid, {3, 2}, 7, y);
      });
  const tensor<u8> samples = random_tensor<u8>(1, 3 * 6 * 6, 0, 255);
  const image_view image = planar_image(samples.view().data, 3, 6, 6);
  check_dispatched<u8>(
      9, 12, [&](auto y, const auto& run) { dispatch::im2col(image, 2, y, run); },
      [&](auto y) { im2col<tested_isa>(image, 2, y); });
  const tensor<s8> taps = random_tensor<s8>(9, channels, -128, 127);
  const depthwise_weights w{taps.view(), 3};
  const quantized_matrix x{o.x.view(), 120};
  const stage_arrays arrays(tokens, channels, layouts[1], scales::bytes, 9 * 255 * 128, o.random);
  for_each_stage(dispatch_lists::of_products{}, [&]<class Stage>(std::type_identity<Stage>) {
    const auto stage = stage_of<Stage>(arrays);
    check_dispatched<typename Stage::output>(
        tokens, channels, [&](auto y, const auto& run) { dispatch::depthwise_conv(x, grid, w, stage, y, run); },
        [&](auto y) { depthwise_conv<tested_isa>(x, grid, w, stage, y); });
  });
}

TEST_CASE("dispatch::isa_name: is the one that INTACT_ISA names", "[dispatch]") {
  const char* const wanted = std::getenv("INTACT_ISA");
  if (wanted != nullptr && *wanted != '\0') {
    CHECK(std::string(dispatch::isa_name()) == wanted);
  }
}

TEST_CASE("dispatch: refuses what header-only calls refuse, before anything is written [operations]", "[dispatch]") {
  operands o;
  tensor<u8> y(tokens, channels + 1);
  const tensor<u8> before = y;
  const std::string message = refusal([&] { dispatch::add(o.x.view(), o.x.view(), {}, y.view()); });
  CHECK(message == refusal([&] { add(o.x.view(), o.x.view(), {}, y.view()); }));
  CHECK(message == "intact::add: y is 36 x 71; it must be 36 x 70");
  const raw_accumulator stage;
  tensor<std::int32_t> sums(tokens, tokens);
  CHECK(mentions(refusal([&] {
                   dispatch::gemm(quantized_matrix{o.x.view(), 0}, quantized_matrix{o.x.view(), 0}, stage, sums.view(),
                                  workspace(nullptr, 0));
                 }),
                 "intact::gemm: the workspace has 0 bytes left"));
  CHECK(y.memory() == before.memory());
}

}  // namespace
}  // namespace intact_test::dispatched_operations_test
