#include <cstddef>
#include <cstdint>
#include <cstdio>

#include "intact/build/scale.hpp"
#include "intact/gemm.hpp"
#include "intact/pack.hpp"

int main() {
  // Two tokens of three u8 codes with zero point 128, and s8 weights of two output channels.
  const std::uint8_t x[] = {130, 128, 90, 255, 0, 128};
  const std::int8_t w[] = {12, -7, 127, -128, 5, 64};

  // When the model is loaded: y = 0.01 * sum((x - 128) * w) + 100, as integers.
  const intact::scale_spec specs[] = {
      intact::linear_spec<std::uint8_t>({.weights = {w, 3}, .factor = 0.01, .addend = 100, .zero_point = 128}),
      intact::linear_spec<std::uint8_t>({.weights = {w + 3, 3}, .factor = 0.01, .addend = 100, .zero_point = 128})};
  std::int32_t multiplier[2];
  std::int64_t offset[2];
  const intact::channel_scale scale = intact::build_scale(specs, multiplier, offset);
  alignas(intact::packed_weights_alignment) std::byte memory[intact::packed_weights_bytes<std::int8_t>(2, 3)];
  const intact::packed_weights<std::int8_t> packed = intact::pack_weights(intact::matrix_view(w, 2, 3), memory);

  // When it runs: no heap, no float, the same bits everywhere.
  std::uint8_t y[4];
  intact::gemm(intact::matrix_view(x, 2, 3), packed, intact::requantize<std::uint8_t>{scale},
               intact::matrix_view(y, 2, 2));
  std::printf("%d %d\n%d %d\n", y[0], y[1], y[2], y[3]);
}
