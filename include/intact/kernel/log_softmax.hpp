#pragma once

#include <bit>
#include <cstdint>

#include "intact/arith/log2_code.hpp"
#include "intact/kernel/byte_row.hpp"
#include "intact/types/attention_codes.hpp"

// Log-Int-Softmax on bytes. A row's sum settles from which distance to the maximum on each level begins: 16 numbers,
// found in the table by bisection. A code is then how many of them the distance has passed, found by bisection too, in
// registers of bytes. Wide lanes are needed for nothing; only the sum is made one number at a time.

namespace intact::inline INTACT_ABI::kernel {

/// Levels of 4-bit codes, and the zero level.
inline constexpr int log2_levels = 16;

/// Where a row's levels begin.
struct level_bounds {
  /// The last distance before level k, k in 1..16, but at least 0; as a signed number after subtracting 128.
  alignas(16) std::uint8_t last[2 * log2_levels];
  /// The level of the maximum itself.
  std::uint8_t first_level;
};

/// A table of exponentials, prepared once for all rows.
template <class Isa, class T>
class prepared_exp_table {
 public:
  explicit prepared_exp_table(const T* table) noexcept {
    reversed_[0] = 0;
    for (int d = 0; d < 256; ++d) {
      reversed_[256 - d] = table[d];
    }
    int bucket = buckets;
    for (int d = 1; d <= 256; ++d) {
      const int next = d < 256 ? bucket_of(table[d]) : 0;
      for (; bucket > next; --bucket) {
        above_[bucket - 1] = static_cast<std::uint8_t>(d - 1);
      }
    }
  }

  /// The exponential of the distance 0.
  T first() const { return reversed_[256]; }

  /// To be added to a code: the exponential of `largest - code` stands there.
  INTACT_INLINE const T* of_codes(int largest) const { return reversed_ + (256 - largest); }

  /// How many exponentials, but for that of 0, are above a limit: those in the buckets above the limit's, then one by
  /// one those in the same bucket. There is seldom more than one.
  INTACT_INLINE int count_above(std::uint64_t limit) const {
    int count = above_[bucket_of(limit)];
    count += reversed_[255 - count] > limit ? 1 : 0;
    while (reversed_[255 - count] > limit)
      [[unlikely]] {
        ++count;
      }
    return count;
  }

 private:
  /// Numbers with the same length and the same leading bits share a bucket; buckets do not decrease.
  static constexpr int leading_bits = 6;
  static constexpr int buckets = 65 << (leading_bits - 1);
  INTACT_INLINE static int bucket_of(std::uint64_t x) {
    const int zeros = std::countl_zero(x | 1);
    return ((63 - zeros) << (leading_bits - 1)) + static_cast<int>((x << zeros) >> (64 - leading_bits));
  }

  T reversed_[257];              ///< 0, then table[255] to table[0]
  std::uint8_t above_[buckets];  ///< how many of table[1] to table[255] are in higher buckets
};

/// The levels of a row whose exponentials add up to `sum`.
template <class Isa, log2_rounding Rounding, class T>
INTACT_INLINE level_bounds bounds_of(const prepared_exp_table<Isa, T>& table, std::uint64_t sum) {
  constexpr bool at_root = Rounding == log2_rounding::at_square_root_of_2;
  const std::uint64_t scaled = at_root ? times_square_root_of_2(sum) : sum;
  level_bounds bounds{};
  INTACT_UNROLL
  for (int level = 1; level <= log2_levels; ++level) {
    const std::uint64_t limit = at_root ? scaled >> level : largest_at_level(level, scaled);
    bounds.last[level] = static_cast<std::uint8_t>(table.count_above(limit) - 128);
  }
  bounds.first_level = static_cast<std::uint8_t>(at_root ? log2_code_at_square_root_of_2(table.first(), sum)
                                                         : log2_code(table.first(), sum));
  return bounds;
}

/// The sum of a row's exponentials. `exponentials`: of_codes.
template <class Isa, class T>
INTACT_INLINE T exp_sum(const T* exponentials, const std::uint8_t* codes, index count) {
  constexpr index together = 4;
  T sums[together] = {};
  index j = 0;
  for (; j + together <= count; j += together) {
    INTACT_UNROLL
    for (index i = 0; i < together; ++i) {
      sums[i] += exponentials[codes[j + i]];
    }
  }
  for (; j < count; ++j) {
    sums[0] += exponentials[codes[j]];
  }
  return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

/// Levels of registers of codes.
template <class Isa, tail Tail>
class level_search {
  using bytes = simd::bytes<Isa>;
  using batch = typename bytes::batch;

 public:
  INTACT_INLINE level_search(const level_bounds& bounds, int largest)
      : maximum_(bytes::broadcast(static_cast<std::uint8_t>(largest - 128))),
        first_level_(bytes::broadcast(bounds.first_level > attention_codes<Tail>::zero ? attention_codes<Tail>::zero
                                                                                       : bounds.first_level)),
        eight_(bytes::broadcast(bounds.last[8])),
        four_(bytes::sixteen(bounds.last + 4)),
        two_(bytes::sixteen(bounds.last + 2)),
        one_(bytes::sixteen(bounds.last + 1)),
        sixteen_(bytes::broadcast(bounds.last[16])) {}

  INTACT_INLINE batch operator()(batch codes) const {
    const batch distance = bytes::subtract(maximum_, codes);
    batch level = bytes::add_where_above(bytes::broadcast(0), distance, eight_, bytes::broadcast(8));
    level = bytes::add_where_above(level, distance, bytes::lookup(four_, level), bytes::broadcast(4));
    level = bytes::add_where_above(level, distance, bytes::lookup(two_, level), bytes::broadcast(2));
    level = bytes::add_where_above(level, distance, bytes::lookup(one_, level), bytes::broadcast(1));
    if constexpr (Tail == tail::zero) {
      level = bytes::add_where_above(level, distance, sixteen_, bytes::broadcast(1));
    }
    return bytes::max(level, first_level_);
  }

 private:
  batch maximum_, first_level_, eight_, four_, two_, one_, sixteen_;
};

/// A row in registers of bytes.
template <class Isa, tail Tail, log2_rounding Rounding, class T>
INTACT_INLINE void log_softmax_row(const std::uint8_t* logits, index count, const prepared_exp_table<Isa, T>& table,
                                   const typename attention_codes<Tail>::view& codes, index row) {
  const int largest = largest_code<Isa>(logits, count);
  const T sum = exp_sum<Isa>(table.of_codes(largest), logits, count);
  const level_search<Isa, Tail> levels(bounds_of<Isa, Rounding>(table, sum), largest);
  transform_row<Isa>(logits, count, levels, codes, row);
}

/// A row without registers of bytes: the levels of all distances in a table.
template <class Isa, tail Tail, log2_rounding Rounding, class T>
INTACT_INLINE void log_softmax_row_plain(const std::uint8_t* logits, index count,
                                         const prepared_exp_table<Isa, T>& table,
                                         const typename attention_codes<Tail>::view& codes, index row) {
  const int largest = largest_code<Isa>(logits, count);
  const level_bounds bounds = bounds_of<Isa, Rounding>(table, exp_sum<Isa>(table.of_codes(largest), logits, count));
  std::uint8_t levels[256];
  int level = bounds.first_level < attention_codes<Tail>::zero ? bounds.first_level : attention_codes<Tail>::zero;
  for (int distance = 0; distance < 256; ++distance) {
    while (level < attention_codes<Tail>::zero && distance > static_cast<std::int8_t>(bounds.last[level + 1]) + 128) {
      ++level;
    }
    levels[distance] = static_cast<std::uint8_t>(level);
  }
  for (index j = 0; j < count; ++j) {
    store_code(codes, row, j, levels[largest - logits[j]]);
  }
}

/// A row of 8-bit codes, which have too many levels for the above.
template <class Isa, log2_rounding Rounding, class T>
INTACT_INLINE void log_softmax_row_wide(const std::uint8_t* logits, index count,
                                        const prepared_exp_table<Isa, T>& table, std::uint8_t* codes) {
  const int largest = largest_code<Isa>(logits, count);
  const T* const exponentials = table.of_codes(largest);
  const std::uint64_t sum = exp_sum<Isa>(exponentials, logits, count);
  for (index j = 0; j < count; ++j) {
    const std::uint64_t e = exponentials[logits[j]];
    const int level = e == 0                                           ? attention_codes<tail::wide>::zero
                      : Rounding == log2_rounding::at_square_root_of_2 ? log2_code_at_square_root_of_2(e, sum)
                                                                       : log2_code(e, sum);
    codes[j] = static_cast<std::uint8_t>(level);
  }
}

/// Rows [begin, end) of at least one key.
template <class Isa, tail Tail, log2_rounding Rounding, class T>
void log_softmax(matrix_view<const std::uint8_t> logits, const T* table,
                 const typename attention_codes<Tail>::view& codes, index begin, index end) noexcept {
  const prepared_exp_table<Isa, T> prepared(table);
  for (index i = begin; i < end; ++i) {
    const std::uint8_t* const row = logits.data + i * logits.stride;
    if constexpr (Tail == tail::wide) {
      log_softmax_row_wide<Isa, Rounding>(row, logits.columns, prepared, codes.data + i * codes.stride);
    } else if constexpr (simd::lanes<Isa> == 1) {
      log_softmax_row_plain<Isa, Tail, Rounding>(row, logits.columns, prepared, codes, i);
    } else {
      log_softmax_row<Isa, Tail, Rounding>(row, logits.columns, prepared, codes, i);
    }
  }
}

}  // namespace intact::inline INTACT_ABI::kernel
