// Operations that gather tokens or pixels: im2col, unfold, window_partition, window_reverse, patch_merge, and
// depthwise_conv.

#include <cstddef>
#include <cstdint>
#include <limits>

#include "fuzz_input.hpp"
#include "guarded_memory.hpp"
#include "intact/depthwise_conv.hpp"
#include "intact/im2col.hpp"
#include "intact/patch_merge.hpp"
#include "intact/reference/depthwise_conv.hpp"
#include "intact/reference/im2col.hpp"
#include "intact/reference/patch_merge.hpp"
#include "intact/reference/unfold.hpp"
#include "intact/reference/windows.hpp"
#include "intact/unfold.hpp"
#include "intact/windows.hpp"
#include "same_bits.hpp"
#include "stage_cases.hpp"

namespace intact_test {
namespace {

template <class Code>
guarded_tensor<Code> some_tokens(fuzz_input& input, index_t tokens, index_t channels, generator& random) {
  guarded_tensor<Code> x(tokens, channels, input.where());
  fill(x.view(), input.contents(), std::numeric_limits<Code>::min(), std::numeric_limits<Code>::max(), random);
  return x;
}

/// Planar or interleaved, cut out of a larger image, turned round in any direction.
void check_im2col(fuzz_input& input) {
  const patch_size patch(input.between(1, 9), input.between(1, 40));
  const index_t channels = input.between(0, 5), rows = input.between(0, 9) * patch.height,
                columns = input.between(0, 9) * patch.width;
  const index_t gap = input.between(0, 3);
  const bool interleaved = input.flag();
  const index_t pixel = interleaved ? channels + gap : 1, row = columns * pixel + gap,
                channel = interleaved ? 1 : rows * row + gap;
  generator random = input.random();
  index_t last = 0;
  image_view image{nullptr, channels, rows, columns, channel, row, pixel};
  const bool is_empty = channels * rows * columns == 0;
  if (!is_empty) {
    last = (channels - 1) * channel + (rows - 1) * row + (columns - 1) * pixel;
  }
  const guarded_tensor<std::uint8_t> samples = some_tokens<std::uint8_t>(input, 1, is_empty ? 0 : last + 1, random);
  if (!is_empty) {
    image.data = &samples(0, 0);
    const auto turn = [&](index_t& stride, index_t count) {
      if (input.flag()) {
        image.data += (count - 1) * stride;
        stride = -stride;
      }
    };
    turn(image.channel_stride, channels);
    turn(image.row_stride, rows);
    turn(image.pixel_stride, columns);
  }
  expect_same_bits<guarded_tensor<std::uint8_t>>(
      input, rows / patch.height * (columns / patch.width), channels * patch.samples(),
      [&](auto y) { reference::im2col(image, patch, y); },
      [&](auto y, const auto& run) { im2col<tested_isa>(image, patch, y, run); });
}

void check_unfold(fuzz_input& input) {
  const token_grid grid{input.between(0, 12), input.between(0, 12)};
  const stencil around{2 * input.between(0, 4) + 1, input.between(1, 5)};
  const index_t channels = input.size(70);
  generator random = input.random();
  const guarded_tensor<std::uint8_t> x = some_tokens<std::uint8_t>(input, grid.tokens(), channels, random);
  const auto padding = static_cast<std::uint8_t>(input.code());
  expect_same_bits<guarded_tensor<std::uint8_t>>(
      input, around.outputs_of(grid).tokens(), around.size * around.size * channels,
      [&](auto y) { reference::unfold(x.view(), grid, around, padding, y); },
      [&](auto y, const auto& run) { unfold<tested_isa>(x.view(), grid, around, padding, y, run); });
}

template <class Code>
void check_windows(fuzz_input& input) {
  const index_t window = input.between(1, 9);
  const window_grid grid{input.between(0, 20), input.between(0, 20), window, input.between(0, window - 1)};
  const index_t channels = input.size(140);
  generator random = input.random();
  const guarded_tensor<Code> x = some_tokens<Code>(input, grid.tokens(), channels, random),
                             in_windows = some_tokens<Code>(input, grid.padded_tokens(), channels, random);
  const matrix_view<const Code> tokens = x.view(), padded = in_windows.view();
  const auto padding = static_cast<Code>(input.code());
  expect_same_bits<guarded_tensor<Code>>(
      input, grid.padded_tokens(), channels, [&](auto y) { reference::window_partition(tokens, grid, padding, y); },
      [&](auto y, const auto& run) { window_partition<tested_isa>(tokens, grid, padding, y, run); });
  expect_same_bits<guarded_tensor<Code>>(
      input, grid.tokens(), channels, [&](auto y) { reference::window_reverse(padded, grid, y); },
      [&](auto y, const auto& run) { window_reverse<tested_isa>(padded, grid, y, run); });
  expect_same_bits<guarded_tensor<Code>>(
      input, (grid.height + 1) / 2 * ((grid.width + 1) / 2), 4 * channels,
      [&](auto y) { reference::patch_merge(tokens, grid.height, grid.width, padding, y); },
      [&](auto y, const auto& run) { patch_merge<tested_isa>(tokens, grid.height, grid.width, padding, y, run); });
}

template <class Stage>
void check_depthwise_conv(fuzz_input& input) {
  const token_grid grid{input.between(0, 12), input.between(0, 12)};
  const index_t channels = input.size(200), size = 2 * input.between(0, 4) + 1;
  generator random = input.random();
  const guarded_tensor<std::uint8_t> x = some_tokens<std::uint8_t>(input, grid.tokens(), channels, random);
  const guarded_tensor<std::int8_t> taps = some_tokens<std::int8_t>(input, size * size, channels, random);
  const stage_arrays arrays(grid.tokens(), channels, input.where(), input.one_of(all_scales),
                            std::int64_t{255} * 128 * size * size, random);
  const Stage stage = stage_of<Stage>(arrays);
  const quantized_matrix codes{x.view(), input.code()};
  expect_same_bits<guarded_tensor<typename Stage::output>>(
      input, grid.tokens(), channels,
      [&](auto y) {
        reference::depthwise_conv(codes, grid, {taps.view(), size}, stage, y);
      },
      [&](auto y, const auto& run) {
        depthwise_conv<tested_isa>(codes, grid, {taps.view(), size}, stage, y, run);
      });
}

}  // namespace
}  // namespace intact_test

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  using namespace intact_test;
  fuzz_input input(bytes, size);
  input.call_one({check_im2col, check_unfold, check_windows<std::uint8_t>, check_windows<std::int16_t>,
                  check_depthwise_conv<raw_accumulator>, check_depthwise_conv<requantize<std::uint8_t>>,
                  check_depthwise_conv<stage_of_a_user>});
  return 0;
}
