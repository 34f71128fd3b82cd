#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <span>
#include <tuple>

#include "activation_tables.hpp"
#include "guarded_memory.hpp"
#include "intact/arith/integer_math.hpp"
#include "intact/stage/compat.hpp"
#include "intact/stage/fused.hpp"
#include "intact/stage/output_stage.hpp"
#include "tensor.hpp"

// Every output stage of a matrix product, with parameters to run it on: such that codes fall all over the output's
// range, and such that every number of the formula is at an end of its own.

namespace intact_test {

/// A stage that is not the library's: it has a type of output and a formula of its own.
struct stage_of_a_user {
  using output = std::int64_t;

  constexpr std::int64_t operator()(std::int32_t accumulator, index_t m, index_t n) const {
    return std::int64_t{3} * accumulator + 1000 * m - n;
  }
  void require(const char*, index_t, index_t) const {}
};

using all_stages = std::tuple<
    raw_accumulator, requantize<std::uint8_t>, requantize<std::int8_t>, requantize<std::uint16_t>,
    requantize<std::int16_t>, requantize<std::int32_t>, requantize_u12, requantize<std::uint8_t, channel_scale, 4>,
    requantize<std::uint8_t, tensor_scale>, requantize<std::int8_t, tensor_scale>,
    requantize<std::uint16_t, tensor_scale>, requantize<std::int16_t, tensor_scale>, requantize_lut, add_to_stream,
    requantize_add, requantize_per_row<std::uint8_t>, requantize_per_row<std::int8_t>, round_half_to_even<std::uint8_t>,
    single_rounding<std::int8_t>, double_rounding<std::int8_t>, round_power_of_two<std::uint8_t>, stage_of_a_user>;

/// One of every kind that kernels tell apart. They do so without looking at the operands: these few are run on all
/// kinds of operands, all others on one, which keeps compilers busy for seconds instead of minutes.
using few_stages =
    std::tuple<requantize<std::uint8_t>, add_to_stream, requantize_per_row<std::uint8_t>, stage_of_a_user>;

/// Lengths of codes before clamping: about 9 bits long, about 17, about 9 from accumulators that are shifted left
/// first, or anything that scales can make of them.
enum class scales { bytes, words, prescaled, extreme };
inline constexpr scales all_scales[] = {scales::bytes, scales::words, scales::prescaled, scales::extreme};

inline constexpr std::int64_t largest_multiplier = std::numeric_limits<std::int32_t>::max();
inline constexpr std::int64_t largest_offset = (std::int64_t{1} << 62) - 1;

/// The shifts of a scale for accumulators a with |a| <= bound.
inline tensor_scale random_shifts(scales what, std::int64_t bound, generator& random) {
  const int bits = bit_length(static_cast<std::uint64_t>(bound));
  const int largest_prescale = std::min(30, 31 - bits);
  if (what == scales::extreme) {
    return {0, 0, random.between(0, 1) == 0 ? 0 : 30, random.between(0, 1) == 0 ? 0 : largest_prescale};
  }
  const int left_shift = what == scales::prescaled ? largest_prescale : 0;
  const int code_bits = what == scales::words ? 17 : 9;
  return {0, 0, std::clamp(bits + left_shift - code_bits, 0, 30), left_shift};
}

/// A multiplier and an offset for such shifts.
inline tensor_scale random_scale(scales what, const tensor_scale& shifts, generator& random) {
  tensor_scale scale = shifts;
  if (what == scales::extreme) {
    const std::int64_t multipliers[] = {0, 1, largest_multiplier, random.between(0, largest_multiplier)};
    const std::int64_t offsets[] = {-largest_offset, largest_offset, random.between(-1, 1),
                                    random.between(-largest_offset, largest_offset)};
    scale.multiplier = static_cast<std::int32_t>(multipliers[random.between(0, 3)]);
    scale.offset = offsets[random.between(0, 3)];
  } else {
    const std::int64_t code = std::int64_t{1} << (32 + scale.shift);
    const std::int64_t codes = std::min<std::int64_t>(what == scales::words ? 1 << 15 : 1 << 7, largest_offset / code);
    scale.multiplier = static_cast<std::int32_t>(random.between(0, largest_multiplier));
    scale.offset = random.between(-codes * code, codes * code);
  }
  return scale;
}

/// The memory that stages point to. No array, table or matrix is followed by memory that may be read.
class stage_arrays {
 public:
  /// For accumulators a with |a| <= bound of a product of `rows` x `channels`.
  stage_arrays(index_t rows, index_t channels, const layout& where, scales what, std::int64_t bound, generator& random)
      : addend(rows, channels, where),
        stream(rows, channels, where),
        zero_point_(static_cast<int>(random.between(0, 127))),
        multiplier_(static_cast<std::size_t>(channels)),
        offset_(multiplier_.size()),
        stream_multiplier_(multiplier_.size()),
        branch_multiplier_(multiplier_.size()),
        addition_offset_(multiplier_.size()),
        bias_(multiplier_.size()),
        parity_multiplier_(multiplier_.size()),
        exponent_(multiplier_.size()),
        rows_(static_cast<std::size_t>(rows)) {
    fill(addend.view(), what == scales::extreme ? values::constant_rows : values::random, -32768, 32767, random);
    fill(stream.view(), what == scales::extreme ? values::alternating : values::random, 0, 255, random);
    const tensor_scale shifts = random_shifts(what, bound, random);
    of_tensor_ = random_scale(what, shifts, random);
    for (std::size_t n = 0; n < multiplier_.size(); ++n) {
      const tensor_scale scale = random_scale(what, shifts, random);
      multiplier_[n] = scale.multiplier;
      offset_[n] = scale.offset;
      set_addition(n, random);
      set_parity(n, bound, what == scales::bytes || what == scales::words ? 0 : 30, random);
    }
    for (tensor_scale& scale : rows_) {
      scale = random_scale(what, random_shifts(what, bound, random), random);
    }
  }

  guarded_tensor<std::int16_t> addend;
  guarded_tensor<std::uint8_t> stream;

  void give(raw_accumulator&) const {}
  void give(stage_of_a_user&) const {}
  template <class Out, int Bits>
  void give(requantize<Out, channel_scale, Bits>& stage) const {
    stage = {channels()};
  }
  template <class Out>
  void give(requantize<Out, tensor_scale>& stage) const {
    stage = {of_tensor_};
  }
  void give(requantize_lut& stage) const { stage = {channels(), some_table()}; }
  void give(add_to_stream& stage) const { stage = {channels(), addend.view()}; }
  void give(requantize_add& stage) const {
    const add_parameters addition{stream_multiplier_, branch_multiplier_, addition_offset_,
                                  255 - zero_point_,  zero_point_,        23};
    stage = {channels(), addition, stream.view()};
  }
  template <class Out>
  void give(requantize_per_row<Out>& stage) const {
    stage = {rows_};
  }
  template <class Out>
  void give(round_half_to_even<Out>& stage) const {
    stage = {parity()};
  }
  template <class Out>
  void give(single_rounding<Out>& stage) const {
    stage = {parity()};
  }
  template <class Out>
  void give(double_rounding<Out>& stage) const {
    stage = {parity()};
  }
  template <class Out>
  void give(round_power_of_two<Out>& stage) const {
    stage = {bias_, 1 + zero_point_ % 31, zero_point_};
  }

 private:
  channel_scale channels() const { return {multiplier_, offset_, of_tensor_.shift, of_tensor_.left_shift}; }
  compat_scale parity() const { return {bias_, parity_multiplier_, exponent_, zero_point_}; }

  std::span<const std::uint8_t> some_table() const {
    static const auto tables = activation_tables();
    return tables[static_cast<std::size_t>(zero_point_ % 2)];
  }

  /// 255 * (|stream multiplier| + |branch multiplier|) + |offset| < 2^31, in some channels just so.
  void set_addition(std::size_t n, generator& random) {
    constexpr std::int64_t largest = largest_multiplier / 255;
    const std::int64_t stream_share = random.between(0, largest);
    const std::int64_t branch_share = random.between(0, 1) == 0 ? largest - stream_share : 0;
    const std::int64_t rest = largest_multiplier - 255 * (stream_share + branch_share);
    const auto with_sign = [&](std::int64_t x) {
      return static_cast<std::int32_t>(random.between(0, 3) == 0 ? -x : x);
    };
    stream_multiplier_[n] = with_sign(stream_share);
    branch_multiplier_[n] = with_sign(branch_share);
    addition_offset_[n] = static_cast<std::int32_t>(random.between(-rest, rest));
  }

  /// Factors from far below those that give codes in range to 2^largest_exponent.
  void set_parity(std::size_t n, std::int64_t bound, int largest_exponent, generator& random) {
    const std::int64_t rest = largest_multiplier - bound;
    bias_[n] = static_cast<std::int32_t>(random.between(-rest, rest));
    parity_multiplier_[n] =
        random.between(0, 9) == 0 ? 0 : static_cast<std::int32_t>(random.between(1 << 30, largest_multiplier));
    exponent_[n] = static_cast<std::int32_t>(random.between(-31, largest_exponent));
  }

  int zero_point_;
  tensor_scale of_tensor_;
  guarded_vector<std::int32_t> multiplier_;
  guarded_vector<std::int64_t> offset_;
  guarded_vector<std::int32_t> stream_multiplier_;
  guarded_vector<std::int32_t> branch_multiplier_;
  guarded_vector<std::int32_t> addition_offset_;
  guarded_vector<std::int32_t> bias_;
  guarded_vector<std::int32_t> parity_multiplier_;
  guarded_vector<std::int32_t> exponent_;
  guarded_vector<tensor_scale> rows_;
};

template <class Stage>
Stage stage_of(const stage_arrays& arrays) {
  Stage stage;
  arrays.give(stage);
  return stage;
}

}  // namespace intact_test
