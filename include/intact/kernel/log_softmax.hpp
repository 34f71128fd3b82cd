#pragma once

#include <bit>
#include <cstdint>
#include <cstring>

#include "intact/arith/log2_code.hpp"
#include "intact/kernel/byte_row.hpp"
#include "intact/simd/table_sum.hpp"
#include "intact/types/attention_codes.hpp"
#include "intact/types/key_mask.hpp"

// Log-Int-Softmax on bytes. A row's sum settles from which distance to the maximum on each level begins: 16 numbers,
// found in the table. A code is how many of them the distance has passed, found by bisection in registers of bytes.
// The sum is made one number at a time, which is faster than gathering, unless registers can be the table.

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
  explicit prepared_exp_table(const T* table) noexcept : sum_(table) {
    reversed_[0] = 0;
    for (int d = 0; d < 256; ++d) {
      reversed_[256 - d] = table[d];
    }
    index filled = 0;
    const auto fill = [&](index end, int place) {
      if (end > filled) {
        std::memset(place_ + filled, place, static_cast<std::size_t>(end - filled));
        filled = end;
      }
    };
    for (int d = 255; d > 0; --d) {
      fill(bucket_of(table[d]), 255 - d);
    }
    fill(buckets, 255);
  }

  /// The exponential of the distance 0.
  T first() const { return reversed_[256]; }

  /// To be added to a code: the exponential of `largest - code` stands there.
  INTACT_INLINE const T* of_codes(int largest) const { return reversed_ + (256 - largest); }

  /// The largest distance, but for 0, whose exponential is above a limit; 0 if there is none. Those in higher buckets
  /// than the limit's are above it; of those in the same bucket there are seldom more than two.
  INTACT_INLINE int last_above(std::uint64_t limit) const {
    index place = place_[bucket_of(limit)];
    place -= reversed_[place] > limit ? 1 : 0;
    place -= reversed_[place] > limit ? 1 : 0;
    while (reversed_[place] > limit)
      [[unlikely]] {
        --place;
      }
    return static_cast<int>(255 - place);
  }

  /// The sum of the exponentials of `largest - code`, of visible keys alone.
  template <bool Masked>
  INTACT_INLINE T sum(const code_row& row, int largest) const {
    if (!Masked && sum_.covers(row.count)) {
      return static_cast<T>(sum_(row.codes, row.count, largest));
    }
    const T* const exponentials = of_codes(largest);
    constexpr index together = 4;
    T sums[together] = {};
    index j = 0;
    const auto add = [&](index i) {
      const T e = exponentials[row.codes[j + i]];
      sums[i] += !Masked || row.visible[j + i] != 0 ? e : T{0};
    };
    for (; j + together <= row.count; j += together) {
      INTACT_UNROLL
      for (index i = 0; i < together; ++i) {
        add(i);
      }
    }
    for (; j < row.count; ++j) {
      add(0);
    }
    return (sums[0] + sums[1]) + (sums[2] + sums[3]);
  }

 private:
  /// Numbers with the same length and the same leading bits share a bucket; buckets do not decrease.
  static constexpr int leading_bits = 7;
  static constexpr index buckets = index{65} << (leading_bits - 1);
  INTACT_INLINE static index bucket_of(std::uint64_t x) {
    const int zeros = std::countl_zero(x | 1);
    return static_cast<index>((x << zeros) >> (64 - leading_bits)) + (index{63 - zeros} << (leading_bits - 1));
  }

  simd::table_sum<Isa> sum_;
  T reversed_[257];              ///< 0, then table[255] to table[0]
  std::uint8_t place_[buckets];  ///< in reversed_, of the largest of table[1] to table[255] that is in no higher bucket
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
    bounds.last[level] = static_cast<std::uint8_t>(table.last_above(limit) - 128);
  }
  bounds.first_level = static_cast<std::uint8_t>(at_root ? log2_code_at_square_root_of_2(table.first(), sum)
                                                         : log2_code(table.first(), sum));
  return bounds;
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

/// A row without registers of bytes: the levels of all distances in a table.
template <class Isa, tail Tail, log2_rounding Rounding, bool Masked, class T>
INTACT_INLINE void log_softmax_row_plain(const code_row& x, int largest, std::uint64_t sum,
                                         const prepared_exp_table<Isa, T>& table,
                                         const typename attention_codes<Tail>::view& codes, index row) {
  constexpr int zero = attention_codes<Tail>::zero;
  const level_bounds bounds = bounds_of<Isa, Rounding>(table, sum);
  std::uint8_t levels[256];
  int level = bounds.first_level < zero ? bounds.first_level : zero;
  for (int distance = 0; distance < 256; ++distance) {
    while (level < zero && distance > static_cast<std::int8_t>(bounds.last[level + 1]) + 128) {
      ++level;
    }
    levels[distance] = static_cast<std::uint8_t>(level);
  }
  for (index j = 0; j < x.count; ++j) {
    store_code(codes, row, j, Masked && x.visible[j] == 0 ? zero : levels[largest - x.codes[j]]);
  }
}

/// A row of 8-bit codes, which have too many levels for the above.
template <class Isa, log2_rounding Rounding, bool Masked, class T>
INTACT_INLINE void log_softmax_row_wide(const code_row& x, int largest, std::uint64_t sum,
                                        const prepared_exp_table<Isa, T>& table, std::uint8_t* codes) {
  const T* const exponentials = table.of_codes(largest);
  for (index j = 0; j < x.count; ++j) {
    const std::uint64_t e = Masked && x.visible[j] == 0 ? 0 : exponentials[x.codes[j]];
    int level = attention_codes<tail::wide>::zero;
    if (e != 0) {
      level =
          Rounding == log2_rounding::at_square_root_of_2 ? log2_code_at_square_root_of_2(e, sum) : log2_code(e, sum);
    }
    codes[j] = static_cast<std::uint8_t>(level);
  }
}

/// Rows of logits, some of whose keys may be masked.
template <bool Masked>
struct logit_rows {
  matrix_view<const std::uint8_t> logits;
  key_mask mask;

  INTACT_INLINE code_row operator()(index i) const {
    return {logits.data + i * logits.stride, logits.columns, Masked ? mask.row(i) : nullptr};
  }
};

/// Rows [begin, end), one after the other.
template <class Isa, tail Tail, log2_rounding Rounding, bool Masked, class T>
INTACT_INLINE void log_softmax_one_by_one(const logit_rows<Masked>& rows, const prepared_exp_table<Isa, T>& table,
                                          const typename attention_codes<Tail>::view& codes, index begin, index end) {
  for (index i = begin; i < end; ++i) {
    const code_row x = rows(i);
    const int largest = largest_code<Isa, Masked>(x);
    const T sum = table.template sum<Masked>(x, largest);
    if (Masked && sum == 0) {  // no key is visible
      for (index j = 0; j < x.count; ++j) {
        store_code(codes, i, j, attention_codes<Tail>::zero);
      }
    } else if constexpr (Tail == tail::wide) {
      log_softmax_row_wide<Isa, Rounding, Masked>(x, largest, sum, table, codes.data + i * codes.stride);
    } else {
      log_softmax_row_plain<Isa, Tail, Rounding, Masked>(x, largest, sum, table, codes, i);
    }
  }
}

/// Rows [begin, end) in registers of bytes, in blocks: first what is settled number by number, then the codes. So no
/// row waits until its bounds, just written, can be loaded into registers.
template <class Isa, tail Tail, log2_rounding Rounding, bool Masked, class T>
INTACT_INLINE void log_softmax_in_blocks(const logit_rows<Masked>& rows, const prepared_exp_table<Isa, T>& table,
                                         const typename attention_codes<Tail>::view& codes, index begin, index end) {
  constexpr index block = 8;
  level_bounds bounds[block] = {};
  int largest[block];
  for (; begin < end; begin += block) {
    const index count = end - begin < block ? end - begin : block;
    for (index i = 0; i < count; ++i) {
      const code_row x = rows(begin + i);
      largest[i] = largest_code<Isa, Masked>(x);
      const T sum = table.template sum<Masked>(x, largest[i]);
      if (!Masked || sum != 0) {  // else no key is visible, and no level is looked at
        bounds[i] = bounds_of<Isa, Rounding>(table, sum);
      }
    }
    for (index i = 0; i < count; ++i) {
      const level_search<Isa, Tail> levels(bounds[i], largest[i]);
      transform_row<Isa, Masked>(rows(begin + i), levels, codes, begin + i, attention_codes<Tail>::zero);
    }
  }
}

/// Rows [begin, end) of at least one key.
template <class Isa, tail Tail, log2_rounding Rounding, bool Masked, class T>
INTACT_INLINE void log_softmax_rows(const logit_rows<Masked>& rows, const prepared_exp_table<Isa, T>& table,
                                    const typename attention_codes<Tail>::view& codes, index begin, index end) {
  if constexpr (Tail == tail::wide || simd::lanes<Isa> == 1) {
    log_softmax_one_by_one<Isa, Tail, Rounding>(rows, table, codes, begin, end);
  } else {
    log_softmax_in_blocks<Isa, Tail, Rounding>(rows, table, codes, begin, end);
  }
}

template <class Isa, tail Tail, log2_rounding Rounding, class T>
void log_softmax(matrix_view<const std::uint8_t> logits, const T* table,
                 const typename attention_codes<Tail>::view& codes, index begin, index end) noexcept {
  const prepared_exp_table<Isa, T> prepared(table);
  log_softmax_rows<Isa, Tail, Rounding>(logit_rows<false>{logits, {}}, prepared, codes, begin, end);
}

template <class Isa, tail Tail, log2_rounding Rounding, class T>
void log_softmax(matrix_view<const std::uint8_t> logits, const T* table, const key_mask& mask,
                 const matrix_view<std::uint8_t>& codes, index begin, index end) noexcept {
  const prepared_exp_table<Isa, T> prepared(table);
  log_softmax_rows<Isa, Tail, Rounding>(logit_rows<true>{logits, mask}, prepared, codes, begin, end);
}

}  // namespace intact::inline INTACT_ABI::kernel
