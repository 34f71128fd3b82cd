// Every public operation and model, compiled several times with different compiler flags; see unit_checks.cmake. No
// function but those of intact may exist for the linker to merge: the functions of this file are in an unnamed
// namespace, and it uses no containers. The unnamed namespace is inside the unit's, whose name tells the check of
// instructions the flags. The specification is in reference.cpp: no public operation may need it.

#include "unit.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

#include "intact/intact.hpp"
#include "values.hpp"

namespace intact {
inline namespace INTACT_UNIT {
namespace {

class operations {
 public:
  std::uint64_t run() {
    products();
    stages();
    rows();
    attention();
    images();
    return hash_.value();
  }

 private:
  using u8 = std::uint8_t;
  using s8 = std::int8_t;

  template <class T, class Write>
  void record(index_t rows, index_t columns, const Write& write) {
    matrix<T> y(rows, columns);
    write(y.view());
    hash_.add(y.view());
  }

  template <class Weights>
  void product(const Weights& w) {
    alignas(packed_weights_alignment) std::byte memory[16384];
    const auto packed = pack_weights(w, memory);
    record<std::int32_t>(tokens, outputs, [&](auto y) { gemm(codes_.view(), packed, raw_accumulator{}, y); });
    record<u8>(tokens, outputs, [&](auto y) { gemm(codes_.view(), packed, requantize<u8>{scale_}, y); });
  }

  void products() {
    product(matrix_view<const s8>(weights_.view()));
    const packed_view<s4, const u8> nibbles(codes_.data, outputs, channels);
    product(nibbles);
    matrix<u8> shifts(outputs, channels / 32);
    product(grouped_s4_view(nibbles, shifts.view(), 32));
    record<u8>(tokens, tokens, [&](auto y) {
      gemm(quantized_matrix{codes_.view(), 128}, quantized_matrix{codes_.view(), 100},
           requantize<u8, tensor_scale>{tensor}, y, workspace(scratch_, sizeof scratch_));
    });
  }

  template <class Stage>
  void stage(const packed_weights<s8>& w, const Stage& stage) {
    record<typename Stage::output>(tokens, outputs, [&](auto y) { gemm(codes_.view(), w, stage, y); });
  }

  void stages() {
    alignas(packed_weights_alignment) std::byte memory[16384];
    const packed_weights<s8> w = pack_weights(matrix_view<const s8>(weights_.view()), memory);
    matrix<u8> table = random<u8>(1, 4096);
    matrix<std::int16_t> stream = random<std::int16_t>(tokens, outputs);
    stage(w, requantize<s8>{scale_});
    stage(w, requantize<std::int16_t>{scale_});
    stage(w, requantize_u12{scale_});
    stage(w, requantize_lut{scale_, table.span()});
    stage(w, add_to_stream{scale_, stream.view()});
    stage(w, requantize_add{scale_, addition(outputs), codes_.view().column_block(0, outputs)});
    tensor_scale per_row[tokens] = {};
    for (tensor_scale& each : per_row) {
      each = tensor;
    }
    stage(w, requantize_per_row<u8>{per_row});
    stage(w, requantize_per_row<s8>{per_row});
    stage(w, requantize<std::int32_t>{scale_});
    const matrix<std::int32_t> bias = filled<std::int32_t>(outputs, 5), multiplier = filled(outputs, 1 << 30),
                               exponent = filled(outputs, -8);
    const compat_scale parity{bias.span(), multiplier.span(), exponent.span(), 100};
    stage(w, round_half_to_even<u8>{parity});
    stage(w, single_rounding<u8>{parity});
    stage(w, double_rounding<u8>{parity});
    stage(w, round_power_of_two<u8>{bias.span(), 9, 100});
    const matrix<std::int32_t> correction = filled<std::int32_t>(tokens, -300);
    stage(w, row_corrected<round_half_to_even<u8>>{{parity}, correction.span()});
    record<u8>(outputs, outputs,
               [&](auto y) { gemm(matrix_view<const s8>(weights_.view()), w, requantize<u8>{scale_}, y); });
  }

  add_parameters addition(index_t columns) const {
    const auto first = static_cast<std::size_t>(columns);
    return {halves_.span().first(first), halves_.span().first(first), middles_.span().first(first), 128, 100, 20};
  }

  void rows() {
    const matrix<u8> shift = filled<u8>(channels, 1), none = filled<u8>(channels, 0), table = random<u8>(1, 256),
                     table_12 = random<u8>(1, 4096);
    const matrix<std::int32_t> gain = filled(channels, 40 << 10);
    const matrix<std::int64_t> bias = filled(channels, std::int64_t{257} << 33);
    const layernorm_parameters norm{
        .zero_point = 128, .shift = shift.span(), .gain = gain.span(), .bias = bias.span(), .output_shift = 34};
    record<u8>(tokens, channels, [&](auto y) { layernorm(codes_.view(), norm, y); });
    const layernorm_parameters norm_s16{
        .zero_point = 0, .shift = none.span(), .gain = gain.span(), .bias = bias.span(), .output_shift = 34};
    record<u8>(tokens, channels, [&](auto y) { layernorm(stream_.view(), norm_s16, y); });
    record<u8>(tokens, channels, [&](auto y) { rmsnorm(codes_.view(), norm, y); });
    record<u8>(tokens, channels, [&](auto y) { rmsnorm(stream_.view(), norm_s16, y); });
    const matrix<std::int16_t> angles = random<std::int16_t>(tokens, channels / 2);
    record<u8>(tokens, channels, [&](auto y) { rotate({codes_.view(), 3}, {angles.view(), angles.view()}, y); });
    record<u8>(tokens, channels, [&](auto y) { add(codes_.view(), codes_.view(), addition(channels), y); });
    record<u8>(tokens, channels, [&](auto y) { activation(codes_.view(), table.span(), y); });
    record<u8>(tokens, channels, [&](auto y) {
      matrix<std::uint16_t> codes(tokens, channels);
      for (index_t i = 0; i < tokens * channels; ++i) {
        codes.data[i] = static_cast<std::uint16_t>(codes_.data[i] * 16);
      }
      activation(codes.view(), table_12.span(), y);
    });
    const requantize<u8, tensor_scale> change{{1 << 30, std::int64_t{1} << 31, 0, 2}};
    record<u8>(1, channels, [&](auto y) { average_pool(codes_.view(), requantize<u8, tensor_scale>{tensor}, y); });
    record<std::int16_t>(
        1, channels, [&](auto y) { average_pool(stream_.view(), requantize<std::int16_t, tensor_scale>{tensor}, y); });
    record<u8>(tokens, channels, [&](auto y) { convert_codes(codes_.view(), change, y); });
    record<u8>(tokens, channels, [&](auto y) {
      multiply({codes_.view(), 128}, {codes_.view(), 3}, requantize<u8, tensor_scale>{tensor}, y);
    });
  }

  template <attention_code Format>
  void by_codes(index_t columns, const matrix_view<u8>& bytes) {
    typename attention_codes<Format>::view codes = {};
    if constexpr (Format == attention_code::u4_clipped) {
      codes = {bytes.data, tokens, columns};
    } else {
      codes = bytes;
    }
    log_softmax<isa::native, Format>(codes_.view().column_block(0, columns), exponential_.span(), codes);
    hash_.add(bytes);
    const quantized_matrix v{codes_.view(), 128};
    using stage =
        std::conditional_t<Format == attention_code::u8_full, requantize_s64<u8>, requantize<u8, tensor_scale>>;
    constexpr stage wanted{{1 << 30, std::int64_t{257} << 45, 14, 0}};
    record<u8>(tokens, channels, [&](auto y) {
      shift_matmul<isa::native, Format>(codes, v, wanted, y, workspace(scratch_, sizeof scratch_));
    });
    if constexpr (Format != attention_code::u8_full) {
      record<u8>(tokens, channels, [&](auto y) {
        shift_matmul<isa::native, Format>(codes, v, row_divisor{1 << 27, 128}, y, workspace(scratch_, sizeof scratch_));
      });
    }
  }

  void attention() {
    matrix<u8> bytes(tokens, tokens), table = random<u8>(1, 256);
    by_codes<attention_code::u8_masked>(tokens, bytes.view());
    by_codes<attention_code::u8_full>(tokens, bytes.view());
    by_codes<attention_code::u4_clipped>(tokens, {bytes.data, tokens, tokens / 2});
    const auto logits = codes_.view().column_block(0, tokens);
    matrix<u8> visible = filled<u8>(tokens, 1);
    visible.data[3] = 0;
    const key_mask mask{visible.view()};
    record<u8>(tokens, tokens, [&](auto y) {
      log_softmax<isa::native, attention_code::u8_masked>(logits, exponential_.span(), mask, y);
    });
    record<u8>(tokens, tokens, [&](auto y) { max_softmax(logits, table.span(), y); });
    record<u8>(tokens, tokens, [&](auto y) { max_softmax(logits, table.span(), mask, 255, y); });
    const quantized_matrix v{codes_.view(), 128};
    constexpr row_divisor normalization{1 << 27, 128};
    record<u8>(tokens, channels,
               [&](auto y) { weighted_matmul(logits, v, normalization, y, workspace(scratch_, sizeof scratch_)); });
  }

  void images() {
    const auto x = codes_.view();
    constexpr window_grid grid{6, 6, 4, 2};
    constexpr stencil around{3, 2};
    matrix<u8> windows(grid.padded_tokens(), channels);
    window_partition(x, grid, 7, windows.view());
    hash_.add(windows.view());
    record<u8>(tokens, channels, [&](auto y) { window_reverse(windows.view(), grid, y); });
    record<u8>(16, 16, [&](auto y) { shifted_window_mask(grid, true, false, y); });
    record<u8>(9, 4 * channels, [&](auto y) { patch_merge(x, 6, 6, 7, y); });
    record<std::int16_t>(9, 4 * channels, [&](auto y) { patch_merge(stream_.view(), 6, 6, 7, y); });
    record<std::int16_t>(grid.padded_tokens(), channels, [&](auto y) { window_partition(stream_.view(), grid, 7, y); });
    record<u8>(9, 9 * channels, [&](auto y) { unfold(x, {6, 6}, around, 7, y); });
    record<u8>(tokens, channels, [&](auto y) {
      const matrix<std::int32_t> multiplier = filled(channels, 1 << 30);
      const matrix<std::int64_t> offset = filled(channels, std::int64_t{257} << 37);
      depthwise_conv({x, 128}, {6, 6}, {matrix_view<const s8>(weights_.data, 9, channels), 3},
                     requantize<u8>{{multiplier.span(), offset.span(), 6, 0}}, y);
    });
    record<u8>(9, 12, [&](auto y) { im2col(planar_image(x.data, 3, 6, 6), 2, y); });
  }

  hash hash_;
  matrix<std::uint8_t> codes_ = random<std::uint8_t>(tokens, channels);
  matrix<std::int8_t> weights_ = random<std::int8_t>(outputs, channels);
  matrix<std::int16_t> stream_ = random<std::int16_t>(tokens, channels);
  matrix<std::int32_t> multipliers_ = filled(outputs, 1 << 29), halves_ = filled(channels, 1 << 19),
                       middles_ = filled(channels, 257 << 19);
  matrix<std::int64_t> offsets_ = filled(outputs, std::int64_t{257} << 37);
  matrix<std::uint64_t> exponential_ = [] {
    matrix<std::uint64_t> made(1, 256);
    for (int d = 0; d < 256; ++d) {
      made.data[d] = std::uint64_t{1} << (40 - d / 8);
    }
    return made;
  }();
  channel_scale scale_{multipliers_.span(), offsets_.span(), 6, 0};
  std::byte scratch_[1 << 17];
};

[[gnu::noinline]] std::uint64_t run_all(const units::arguments& x) {
  hash results;
  matrix<std::int32_t> logits(1, x.shape.classes);
  matrix<std::uint8_t> logits_u8(1, x.shape.classes);
  vit(std::span(&x.image, 1), x.model, x.shape, {logits.view(), logits_u8.view()}, x.memory);
  results.add(logits.view());
  results.add(logits_u8.view());
  return results.value() ^ operations().run();
}

}  // namespace

// Their instantiation is enough.
template void row_sums(matrix_view<const std::uint8_t>, std::int32_t, std::span<std::int32_t>);
template void gemm(const quantized_batch&, const quantized_batch&, const requantize<std::uint8_t, tensor_scale>&,
                   const matrix_batch<std::uint8_t>&, workspace, const sequential&);
template prepared_keys_values prepare_keys_values(const quantized_matrix&, const quantized_matrix&, index_t, int,
                                                  workspace, const sequential&);
template void attention(const attention_operands&, const multihead_parameters&, matrix_view<std::uint8_t>, workspace,
                        const sequential&);
template void attention(const prepared_operands&, const multihead_parameters&, matrix_view<std::uint8_t>, workspace,
                        const sequential&);
template void vit_features(std::span<const image_view>, const vit_parameters&, const vit_shape&,
                           matrix_view<std::uint8_t>, workspace, const sequential&);
template void swin(std::span<const image_view>, const swin_parameters&, const swin_shape&, const classifier_outputs&,
                   workspace, const sequential&);
template void swin_features(std::span<const image_view>, const swin_parameters&, const swin_shape&,
                            std::span<const matrix_view<std::int16_t>>, workspace, const sequential&);

}  // namespace INTACT_UNIT
}  // namespace intact

std::uint64_t units::INTACT_TEST_UNIT(const arguments& x) {
  return intact::run_all(x) ^ intact::run_specification(x);
}
