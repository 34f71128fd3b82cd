#pragma once

#include <bit>
#include <concepts>
#include <cstdint>

#include "intact/simd/batch.hpp"
#include "intact/simd/byte_table.hpp"
#include "intact/types/attention_codes.hpp"

// Quantizes softmax_distances non-increasing numbers: the level of a number is the number of thresholds that it does
// not exceed. Each threshold is in the octave, [2^n, 2^(n + 1)), below that of the one before, so that each number has
// one threshold to be compared with: that of its own octave. The 16 bits after the leading one are compared. They
// leave a number undecided if it is within the rounding slack above a threshold. See docs/numerics.md.
//
// octave_search<Isa>, where it `exists`, has
//
//   octave_search(numbers, factor)           of the numbers times a factor; the first is not 0
//   find(thresholds, levels, undecided_mask) all levels, in four registers. False if some are undecided: bit i of
//                                            undecided_mask[j] is that of number 64 * j + i
//   find(thresholds, distances, levels)      the levels of the numbers at 64 distances, where reduce_16_registers<Isa>
//                                            exists. False if some are undecided

namespace intact {
inline namespace INTACT_UNIT {
namespace simd {

/// The thresholds of levels 1, 2 and so on: (1 + x) * (1 + y[level]) * 2^(octave + 1 - level), (1 + x) * (1 + y) < 2.
struct octave_thresholds {
  std::uint16_t fraction;   ///< floor(2^16 * x)
  int octave;               ///< of level 1's threshold, from 1 below that of the first number to 31 above it
  const std::uint16_t* y;   ///< floor(2^16 * y), 64 levels from 0 on; all bits where there is no threshold
  const std::uint16_t* y4;  ///< floor(2^18 * y); null if all y are 0
  std::uint8_t last_level;  ///< the last one with a threshold, at most 16; all other levels become this one
  std::uint16_t slack;      ///< thresholds are less than slack + 1 units of 2^-16 above those computed from these
};

template <class Isa>
class octave_search : public octave_search<typename Isa::parent> {
 public:
  using octave_search<typename Isa::parent>::octave_search;
};
template <>
class octave_search<isa::scalar> {
 public:
  static constexpr bool exists = false;
};

/// The interface of octave_search<Isa> where it exists.
template <class Isa, class Search = octave_search<Isa>>
concept octave_search_interface = requires(const Search& numbers, const octave_thresholds& thresholds,
                                           typename bytes<Isa>::batch (&levels)[4],
                                           std::uint64_t (&undecided_mask)[4]) {
  Search(static_cast<const std::uint32_t*>(nullptr), 1u);
  Search(static_cast<const std::uint64_t*>(nullptr), 1u);
  { numbers.find(thresholds, levels, undecided_mask) } -> std::same_as<bool>;
};

#if INTACT_HAS_AVX512BW

template <>
class octave_search<isa::avx512bw> {
 public:
  static constexpr bool exists = true;
  static constexpr int max_level = 16;

  template <class T>
  INTACT_INLINE octave_search(const T* numbers, unsigned factor)
      : first_(63 - std::countl_zero(std::uint64_t{numbers[0]} * factor)) {
    const int zeros = 63 - first_;
    for (index_t d = 0; d < softmax_distances; ++d) {
      const std::uint64_t x = std::uint64_t{numbers[d]} * factor;
      const int below = std::countl_zero(x | 1) - zeros;  // octaves below the first number's
      const int octave = below > 31 || x == 0 ? 31 : below;
      octave_[d] = static_cast<std::uint8_t>(octave);
      octave16_[d] = static_cast<std::uint16_t>(octave);
      fraction_[d] = static_cast<std::uint16_t>((x << std::countl_zero(x | 1) << 1) >> 48);
    }
    comparable_ = softmax_distances;
    while (octave_[comparable_ - 1] > max_level) {
      --comparable_;
    }
  }

  INTACT_INLINE bool find(const octave_thresholds& thresholds, __m512i (&levels)[4],
                          std::uint64_t (&undecided_mask)[4]) const {
    const int above = thresholds.octave - first_ + 1;  // the level of the first number's octave
    const __m512i slack = _mm512_set1_epi16(static_cast<std::int16_t>(thresholds.slack));
    const __m512i all = threshold_fractions(thresholds, above, slack);
    const __m512i last = _mm512_set1_epi8(static_cast<char>(thresholds.last_level));
    __m512i nearest = _mm512_set1_epi16(-1);
    const auto exceed = [&](index_t d) {
      const __m512i threshold = _mm512_permutexvar_epi16(_mm512_load_si512(octave16_ + d), all);
      const __m512i number = _mm512_load_si512(fraction_ + d);
      nearest = _mm512_min_epu16(nearest, _mm512_sub_epi16(number, threshold));
      return _mm512_cmpgt_epu16_mask(number, threshold);
    };
    INTACT_UNROLL
    for (index_t d = 0; d < softmax_distances; d += 64) {
      if (d >= comparable_) {
        levels[d / 64] = last;
        continue;
      }
      const __mmask64 lower = _mm512_kunpackd(exceed(d + 32), exceed(d));
      const __m512i octave =
          _mm512_add_epi8(_mm512_load_si512(octave_ + d), _mm512_set1_epi8(static_cast<char>(above)));
      const __m512i level = _mm512_min_epu8(octave, last);
      levels[d / 64] = _mm512_mask_sub_epi8(level, lower, level, _mm512_set1_epi8(1));
    }
    const bool decided = _mm512_cmple_epu16_mask(nearest, slack) == 0;
    if (!decided) [[unlikely]] {
      find_undecided(all, slack, undecided_mask);
    }
    return decided;
  }

 protected:
  /// The 16 bits after the leading one of the thresholds of level `above` and of the 31 levels after it. Where there is
  /// no threshold, the number that no fraction exceeds and that leaves the fewest fractions undecided.
  INTACT_INLINE static __m512i threshold_fractions(const octave_thresholds& thresholds, int above, __m512i slack) {
    const __m512i fraction = _mm512_set1_epi16(static_cast<std::int16_t>(thresholds.fraction));
    __m512i all = _mm512_adds_epu16(fraction, _mm512_loadu_si512(thresholds.y + above));
    if (thresholds.y4 != nullptr) {
      const __m512i product = _mm512_mulhi_epu16(fraction, _mm512_loadu_si512(thresholds.y4 + above));
      all = _mm512_adds_epu16(all, _mm512_srli_epi16(product, 2));
    }
    return _mm512_min_epu16(all, _mm512_sub_epi16(_mm512_set1_epi16(-1), slack));
  }

  [[gnu::noinline]] void find_undecided(__m512i thresholds, __m512i slack, std::uint64_t (&undecided_mask)[4]) const {
    const auto close = [&](index_t d) {
      const __m512i threshold = _mm512_permutexvar_epi16(_mm512_load_si512(octave16_ + d), thresholds);
      return _mm512_cmple_epu16_mask(_mm512_sub_epi16(_mm512_load_si512(fraction_ + d), threshold), slack);
    };
    for (index_t d = 0; d < softmax_distances; d += 64) {
      undecided_mask[d / 64] = d < comparable_ ? _mm512_kunpackd(close(d + 32), close(d)) : 0;
    }
  }

  alignas(64) std::uint8_t octave_[softmax_distances];     ///< octaves below the first number's, at most 31; of 0: 31
  alignas(64) std::uint16_t octave16_[softmax_distances];  ///< the same
  alignas(64) std::uint16_t fraction_[softmax_distances];  ///< the 16 bits after the leading one
  int first_;                                              ///< the first number's octave
  index_t comparable_;  ///< numbers from this distance on are more octaves below the first one than any threshold
};

#endif
#if INTACT_HAS_AVX512VBMI

template <>
class octave_search<isa::avx512vbmi> : public octave_search<isa::avx512bw> {
  using base = octave_search<isa::avx512bw>;

 public:
  template <class T>
  INTACT_INLINE octave_search(const T* numbers, unsigned factor)
      : base(numbers, factor), octaves_(octave_), low_(bytes_of_fractions(0)), high_(bytes_of_fractions(8)) {}

  using base::find;

  INTACT_INLINE bool find(const octave_thresholds& thresholds, __m512i distances, __m512i& levels) const {
    const __m512i slack = _mm512_set1_epi16(static_cast<std::int16_t>(thresholds.slack));
    const __m512i by_level = threshold_fractions(thresholds, 0, slack);
    const __mmask64 upper = _mm512_movepi8_mask(distances);
    const __m512i octave = octaves_(distances, upper), low = low_(distances, upper), high = high_(distances, upper);
    const auto above = static_cast<char>(thresholds.octave - first_ + 1);  // the level of the first number's octave
    const __m512i level =
        _mm512_min_epu8(_mm512_add_epi8(octave, _mm512_set1_epi8(above)), _mm512_set1_epi8(max_level + 1));
    const __m512i zero = _mm512_setzero_si512();
    __m512i excess[2];
    const auto lower = [&](__m512i level16, __m512i fraction, __m512i& above_threshold) {
      const __m512i threshold = _mm512_permutexvar_epi16(level16, by_level);
      above_threshold = _mm512_sub_epi16(fraction, threshold);
      return _mm512_mask_sub_epi16(level16, _mm512_cmpgt_epu16_mask(fraction, threshold), level16,
                                   _mm512_set1_epi16(1));
    };
    const __m512i even = lower(_mm512_unpacklo_epi8(level, zero), _mm512_unpacklo_epi8(low, high), excess[0]);
    const __m512i odd = lower(_mm512_unpackhi_epi8(level, zero), _mm512_unpackhi_epi8(low, high), excess[1]);
    levels =
        _mm512_min_epu8(_mm512_packus_epi16(even, odd), _mm512_set1_epi8(static_cast<char>(thresholds.last_level)));
    return _mm512_cmple_epu16_mask(_mm512_min_epu16(excess[0], excess[1]), slack) == 0;
  }

 private:
  INTACT_INLINE byte_table<isa::avx512vbmi> bytes_of_fractions(int shift) const {
    std::uint8_t entries[softmax_distances];
    for (index_t d = 0; d < softmax_distances; ++d) {
      entries[d] = static_cast<std::uint8_t>(fraction_[d] >> shift);
    }
    return byte_table<isa::avx512vbmi>(entries);
  }

  byte_table<isa::avx512vbmi> octaves_, low_, high_;
};

#endif

}  // namespace simd
}  // namespace INTACT_UNIT
}  // namespace intact
