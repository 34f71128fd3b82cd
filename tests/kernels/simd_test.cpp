#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <functional>
#include <initializer_list>
#include <limits>
#include <tuple>
#include <type_traits>

#include "activation_tables.hpp"
#include "catch.hpp"
#include "guarded_memory.hpp"
#include "intact/arith/integer_math.hpp"
#include "intact/arith/scale.hpp"
#include "intact/simd/byte_sum.hpp"
#include "intact/simd/byte_table.hpp"
#include "intact/simd/bytes.hpp"
#include "intact/simd/dot4.hpp"
#include "intact/simd/exponent_slices.hpp"
#include "intact/simd/int4.hpp"
#include "intact/simd/inv_sqrt.hpp"
#include "intact/simd/lut12.hpp"
#include "intact/simd/moments.hpp"
#include "intact/simd/moments_unshifted.hpp"
#include "intact/simd/mul_shift.hpp"
#include "intact/simd/narrow.hpp"
#include "intact/simd/octave_search.hpp"
#include "intact/simd/reduce_16_registers.hpp"
#include "intact/simd/s4_dot.hpp"
#include "intact/simd/sum.hpp"
#include "intact/simd/table_sum.hpp"
#include "intact/simd/transpose_bytes.hpp"
#include "intact/simd/weighted_sum.hpp"
#include "tensor.hpp"

// The primitives of kernels, each alone, for the instruction set isa::INTACT_TEST_ISA. This file is compiled once per
// instruction set.

namespace intact_test::simd_test {

/// Every primitive offers its documented interface for an instruction set.
template <class Isa>
constexpr bool has_interfaces() {
  static_assert(simd::dot4_interface<Isa, std::uint8_t> && simd::dot4_interface<Isa, std::int8_t>);
  if constexpr (Isa::adds_s4_in_16_bits) {
    static_assert(simd::s4_dot_interface<Isa, std::uint8_t> && simd::s4_dot_interface<Isa, std::int8_t>);
  } else {
    static_assert(simd::int4_interface<Isa>);
  }
  static_assert(simd::mul_shift_interface<Isa>);
  static_assert(simd::inv_sqrt_interface<Isa>);
  static_assert(simd::byte_sums_interface<Isa>);
  static_assert(simd::recentred_rows_interface<Isa>);
  static_assert(simd::bytes<Isa>::exists == simd::is_vector<Isa>);
  if constexpr (simd::bytes<Isa>::exists) {
    static_assert(simd::packer_interface<Isa>);
    static_assert(simd::bytes_interface<Isa>);
    static_assert(simd::byte_table_interface<Isa>);
    static_assert(simd::exponent_slices_interface<Isa>);
    static_assert(simd::moments_interface<simd::moments<Isa, std::uint8_t>, std::uint8_t>);
    static_assert(simd::moments_interface<simd::moments<Isa, std::int16_t>, std::int16_t>);
    static_assert(simd::moments_interface<simd::moments_unshifted<Isa>, std::int16_t>);
  }
  if constexpr (simd::weighted_sum<Isa>::exists) {
    static_assert(simd::weighted_sum_interface<Isa>);
  }
  if constexpr (simd::table_sum<Isa>::exists) {
    static_assert(simd::table_sum_interface<Isa>);
  }
  if constexpr (simd::octave_search<Isa>::exists) {
    static_assert(simd::octave_search_interface<Isa>);
  }
  if constexpr (simd::lut12<Isa>::exists) {
    static_assert(simd::lut12_interface<Isa>);
  }
  if constexpr (simd::reduce_16_registers<Isa>::exists) {
    static_assert(simd::reduce_16_registers_interface<Isa>);
  }
  return true;
}
static_assert(std::apply([](auto... tags) { return (has_interfaces<decltype(tags)>() && ...); }, isa::compiled{}));

namespace {

using test_isa = isa::INTACT_TEST_ISA;
constexpr index_t lanes = simd::lanes<test_isa>;
constexpr auto lane_count = static_cast<std::size_t>(lanes);

/// dot4 for activations of type A: as many accumulators as make one register of complete sums.
template <class A, class Dot = simd::dot4<test_isa, A>>
struct dot_products {
  using dot = Dot;
  static constexpr index_t columns = dot::columns;
  static constexpr unsigned parts = static_cast<unsigned>(lanes / columns);

  guarded_vector<A> a = guarded_vector<A>(4);
  guarded_vector<std::uint8_t> w = guarded_vector<std::uint8_t>(4 * lane_count);
  guarded_vector<std::int32_t> start = guarded_vector<std::int32_t>(lane_count * parts);
  guarded_vector<std::int32_t> sums = guarded_vector<std::int32_t>(lane_count);

  template <class Load>
  void run(const Load& load) {
    run_with([&](auto sum, auto codes, const std::uint8_t* weights) {
      return dot::multiply_add(sum, codes, load(weights));
    });
  }

  /// With a function of an accumulator, activations and where the weights begin.
  template <class Add>
  void run_with(const Add& add) {
    // In the type that the instructions want: the kernels widen beforehand.
    guarded_vector<typename dot::activation> codes(4);
    std::copy_n(a.data(), 4, codes.data());
    typename dot::accumulator accumulators[parts];
    for (unsigned i = 0; i < parts; ++i) {
      accumulators[i] =
          add(dot::start(start.data() + i * lanes), dot::broadcast(codes.data()), w.data() + 4 * i * columns);
    }
    simd::s32<test_isa> out[1];
    dot::sums(accumulators, out);
    simd::store<test_isa>(out[0], sums.data());
  }

  /// How many sums differ from those of weights that `weight(column, k)` tells, modulo 2^32.
  template <class Weight>
  int wrong(const Weight& weight) const {
    int count = 0;
    for (std::size_t column = 0; column < lane_count; ++column) {
      std::int64_t sum = 0;
      for (std::size_t part = 0; part < parts; ++part) {
        sum += start[column * parts + part];
      }
      for (std::size_t k = 0; k < 4; ++k) {
        sum += (std::int64_t{a[k]} + dot::offset) * weight(column, k);
      }
      count += sums[column] != static_cast<std::int32_t>(sum) ? 1 : 0;
    }
    return count;
  }
};

int s8_of(std::uint8_t byte) {
  return byte < 128 ? byte : byte - 256;
}
int s4_of(int nibble) {
  return nibble < 8 ? nibble : nibble - 16;
}

constexpr std::array<int, 5> extreme_bytes = {-128, -1, 0, 1, 127};

/// Activations that are extreme or just not, as codes of A.
template <class A>
A extreme_code(std::size_t i) {
  constexpr int low = std::numeric_limits<A>::min();
  constexpr std::array<int, 5> codes = {low, low + 127, low + 128, low + 129, low + 255};
  return static_cast<A>(codes[i]);
}

using activation_types = std::tuple<std::uint8_t, std::int8_t>;

TEMPLATE_LIST_TEST_CASE("dot4: sums of four products are exact [all extremes in all places]", "", activation_types) {
  dot_products<TestType> product;
  using dot = typename dot_products<TestType>::dot;
  const auto digit = [](std::size_t number, std::size_t k) {
    constexpr std::size_t powers[] = {1, 5, 25, 125};
    return number / powers[k] % 5;
  };
  std::int32_t start = std::numeric_limits<std::int32_t>::min();
  int wrong = 0;
  for (std::size_t quantized_matrix = 0; quantized_matrix < 625; ++quantized_matrix) {
    for (std::size_t k = 0; k < 4; ++k) {
      product.a[k] = extreme_code<TestType>(digit(quantized_matrix, k));
    }
    for (std::size_t weights = 0; weights < 625; weights += lane_count) {
      for (std::size_t i = 0; i < product.w.size(); ++i) {
        const std::size_t of_column = (weights + i / 4) % 625;
        product.w[i] = static_cast<std::uint8_t>(extreme_bytes[digit(of_column, i % 4)]);
      }
      for (std::int32_t& lane : product.start) {
        lane = start = simd::multiply<isa::scalar>(start + 12345, 69069) / 4;
      }
      product.run([](const std::uint8_t* w) { return dot::load(w); });
      wrong += product.wrong([&](std::size_t column, std::size_t k) { return s8_of(product.w[4 * column + k]); });
    }
  }
  CHECK(wrong == 0);
}

TEMPLATE_LIST_TEST_CASE("dot4: does not saturate at the ends of int32", "", activation_types) {
  // No sum of a matrix product leaves int32, not on its way either. In registers sums wrap around all the same.
  constexpr std::int32_t reach = lanes == 1 ? 4 * 255 * 128 : 0;  // plain C++ must not overflow
  dot_products<TestType> product;
  using dot = typename dot_products<TestType>::dot;
  int wrong = 0;
  for (const bool upper : {false, true}) {
    for (const int weight : {-128, -1, 1, 127}) {
      for (std::size_t code = 0; code < 5; ++code) {
        std::fill(product.a.begin(), product.a.end(), extreme_code<TestType>(code));
        std::fill(product.w.begin(), product.w.end(), static_cast<std::uint8_t>(weight));
        std::fill(product.start.begin(), product.start.end(), 0);
        for (std::size_t column = 0; column < lane_count; ++column) {
          product.start[column * dot_products<TestType>::parts] =
              upper ? std::numeric_limits<std::int32_t>::max() - reach
                    : std::numeric_limits<std::int32_t>::min() + reach;
        }
        product.run([](const std::uint8_t* w) { return dot::load(w); });
        wrong += product.wrong([&](std::size_t, std::size_t) { return weight; });
      }
    }
  }
  CHECK(wrong == 0);
}

/// Products of s4 weights with activations of type A: with dot4, or in 16 bits.
template <class A, bool In16Bits = test_isa::adds_s4_in_16_bits>
struct s4_products : dot_products<A> {
  using typename dot_products<A>::dot;
  using nibbles = simd::int4<test_isa>;
  static constexpr int most = 1;  ///< products of four that are added at a time

  /// `shifts`: none, or a function of where the weights begin.
  template <class... Shifts>
  void run_low(int, const Shifts&... shifts) {
    this->run([&](const std::uint8_t* at) { return nibbles::low(at, shifts(at)...); });
  }
  template <class... Shifts>
  void run_high(int, const Shifts&... shifts) {
    this->run([&](const std::uint8_t* at) { return nibbles::high(at, shifts(at)...); });
  }
};
template <class A>
struct s4_products<A, true> : dot_products<A, simd::s4_dot<test_isa, A>> {
  using dot = simd::s4_dot<test_isa, A>;
  using nibbles = dot;
  static constexpr int most = 2 * dot::steps;

  template <class... Shifts>
  void run_low(int times, const Shifts&... shifts) {
    this->run_with([&](auto sum, auto codes, const std::uint8_t* at) {
      return add(sum, codes, dot::low(at), times, shifts(at)...);
    });
  }
  template <class... Shifts>
  void run_high(int times, const Shifts&... shifts) {
    this->run_with([&](auto sum, auto codes, const std::uint8_t* at) {
      return add(sum, codes, dot::high(at), times, shifts(at)...);
    });
  }

 private:
  template <class Codes, class Weights, class... Shifts>
  static auto add(typename dot::accumulator sum, Codes codes, Weights weights, int times, Shifts... shifts) {
    auto partial = dot::zero();
    for (int i = 0; i < times; ++i) {
      partial = dot::multiply_add(partial, codes, weights);
    }
    return dot::widen_add(sum, partial, shifts...);
  }
};

TEMPLATE_LIST_TEST_CASE("int4: reads both halves of a byte, each with its sign", "", activation_types) {
  using products = s4_products<TestType>;
  products product;
  int wrong = 0;
  for (std::size_t k = 0; k < 4; ++k) {
    for (std::size_t code = 0; code < 5; ++code) {
      std::fill(product.a.begin(), product.a.end(), static_cast<TestType>(-products::dot::offset));
      product.a[k] = extreme_code<TestType>(code);
      for (int byte = 0; byte < 256; ++byte) {
        for (std::size_t i = 0; i < product.w.size(); ++i) {
          product.w[i] = static_cast<std::uint8_t>(byte + 37 * static_cast<int>(i));
        }
        product.run_low(1);
        wrong +=
            product.wrong([&](std::size_t column, std::size_t i) { return s4_of(product.w[4 * column + i] & 15); });
        product.run_high(1);
        wrong +=
            product.wrong([&](std::size_t column, std::size_t i) { return s4_of(product.w[4 * column + i] >> 4); });
      }
    }
  }
  CHECK(wrong == 0);
}

TEMPLATE_LIST_TEST_CASE("int4: the largest products fit where they are added [as many as fit]", "", activation_types) {
  using products = s4_products<TestType>;
  products product;
  int wrong = 0;
  for (std::size_t low = 0; low < 5; ++low) {
    for (std::size_t high = 0; high < 5; ++high) {
      for (std::size_t k = 0; k < 4; ++k) {
        product.a[k] = extreme_code<TestType>(k % 2 == 0 ? low : high);
      }
      for (const int byte : {0x88, 0x77, 0x78, 0x87}) {
        for (std::size_t i = 0; i < product.w.size(); ++i) {
          product.w[i] = static_cast<std::uint8_t>(i % 3 == 0 ? 0x88 : byte);
        }
        product.run_low(products::most);
        wrong += product.wrong(
            [&](std::size_t column, std::size_t i) { return products::most * s4_of(product.w[4 * column + i] & 15); });
        product.run_high(products::most);
        wrong += product.wrong(
            [&](std::size_t column, std::size_t i) { return products::most * s4_of(product.w[4 * column + i] >> 4); });
      }
    }
  }
  CHECK(wrong == 0);
}

TEMPLATE_LIST_TEST_CASE("int4: multiplies weights by the power of two of their channel", "", activation_types) {
  using products = s4_products<TestType>;
  products product;
  guarded_vector<std::uint8_t> shifts(16);
  generator random(7);
  int wrong = 0;
  for (std::size_t round = 0; round < 200; ++round) {
    for (std::size_t k = 0; k < 4; ++k) {
      product.a[k] = extreme_code<TestType>((round + k) % 5);
    }
    for (std::uint8_t& four_channels : shifts) {
      four_channels = static_cast<std::uint8_t>(random.between(0, 255));
    }
    for (index_t column = 0; column < 64; column += lanes) {
      for (std::size_t i = 0; i < product.w.size(); ++i) {
        product.w[i] = static_cast<std::uint8_t>(round % 4 == 0 ? 0x88 : random.between(0, 255));
      }
      const auto factor_of = [&](std::size_t i) {
        const index_t channel = column + static_cast<index_t>(i);
        return products::most * (1 << (shifts[static_cast<std::size_t>(channel % 16)] >> channel / 16 * 2 & 3));
      };
      const auto shifts_at = [&](const std::uint8_t* w) {
        return products::nibbles::load_shifts(shifts.data(), column + (w - product.w.data()) / 4);
      };
      product.run_low(products::most, shifts_at);
      wrong +=
          product.wrong([&](std::size_t i, std::size_t k) { return s4_of(product.w[4 * i + k] & 15) * factor_of(i); });
      product.run_high(products::most, shifts_at);
      wrong +=
          product.wrong([&](std::size_t i, std::size_t k) { return s4_of(product.w[4 * i + k] >> 4) * factor_of(i); });
    }
  }
  CHECK(wrong == 0);
}

TEST_CASE("mul_shift: rescaled accumulators are the upper halves of 64-bit sums [every lane]") {
  using mul_shift = simd::mul_shift<test_isa>;
  constexpr std::int64_t largest = std::numeric_limits<std::int32_t>::max();
  constexpr std::int64_t offset_limit = (std::int64_t{1} << 62) - 1;
  generator random(1);
  guarded_vector<std::int32_t> a(lane_count), multiplier(lane_count), y(lane_count);
  guarded_vector<std::int64_t> offset(lane_count);
  int wrong = 0;
  const auto run = [&](const typename mul_shift::factors& factors, const auto& scale_of_lane) {
    const auto high = mul_shift::mul_high(simd::load<test_isa>(a.data()), factors);
    simd::store<test_isa>(high, y.data());
    for (std::size_t i = 0; i < lane_count; ++i) {
      wrong += y[i] != intact::mul_shift(a[i], scale_of_lane(i)) ? 1 : 0;
    }
  };
  for (int round = 0; round < 5000; ++round) {
    for (std::size_t i = 0; i < lane_count; ++i) {
      const std::int64_t accumulators[] = {-largest - 1, -1, 0, 1, largest, random.between(-largest, largest)};
      const std::int64_t multipliers[] = {0, 1, largest, random.between(0, largest)};
      const std::int64_t offsets[] = {-offset_limit, -1, 0, offset_limit, random.between(-offset_limit, offset_limit)};
      a[i] = static_cast<std::int32_t>(accumulators[random.between(0, 5)]);
      multiplier[i] = static_cast<std::int32_t>(multipliers[random.between(0, 3)]);
      offset[i] = offsets[random.between(0, 4)];
    }
    run(mul_shift::load(multiplier.data(), offset.data()), [&](std::size_t i) {
      return tensor_scale{multiplier[i], offset[i], 0, 0};
    });
    run(mul_shift::broadcast(multiplier[0], offset[0]), [&](std::size_t) {
      return tensor_scale{multiplier[0], offset[0], 0, 0};
    });
  }
  CHECK(wrong == 0);
}

TEST_CASE("mul_shift: products are scaled and rescaled [every count, every lane]") {
  using mul_shift = simd::mul_shift<test_isa>;
  constexpr std::int64_t largest = std::numeric_limits<std::int32_t>::max(), most = std::int64_t{1} << 61;
  generator random(11);
  guarded_vector<std::int32_t> a(lane_count), y(lane_count), gain(lane_count);
  guarded_vector<std::int64_t> offset(lane_count);
  int wrong = 0;
  for (int n = 1; n < 64; ++n) {
    for (int round = 0; round < 200; ++round) {
      for (std::size_t i = 0; i < lane_count; ++i) {
        const std::int64_t values[] = {-largest - 1, -1, 0, 1, largest, random.between(-largest, largest)};
        a[i] = static_cast<std::int32_t>(values[random.between(0, 5)]);
        gain[i] = static_cast<std::int32_t>(random.between(-1 << 30, 1 << 30));
        offset[i] = random.between(-most, most);
      }
      const std::int64_t multipliers[] = {0, 1, largest, random.between(0, largest)};
      const auto multiplier = static_cast<std::int32_t>(multipliers[random.between(0, 3)]);
      const std::int64_t addend = round % 2 == 0 ? std::int64_t{1} << (n - 1) : random.between(-most, most);
      const auto scaling = mul_shift::broadcast_scaling(multiplier, addend, n);
      const auto factors = mul_shift::load(gain.data(), offset.data());
      simd::store<test_isa>(mul_shift::mul_high_of_scaled(simd::load<test_isa>(a.data()), scaling, factors), y.data());
      for (std::size_t i = 0; i < lane_count; ++i) {
        const int128 scaled = floor_divide(int128{a[i]} * multiplier + addend, power_of_two(n));
        const auto low = static_cast<std::int32_t>(static_cast<std::uint32_t>(scaled));
        wrong += y[i] != static_cast<std::int32_t>((std::int64_t{low} * gain[i] + offset[i]) >> 32) ? 1 : 0;
      }
    }
  }
  CHECK(wrong == 0);
}

TEST_CASE("mul_shift: sums of two slices are rescaled as one number") {
  using mul_shift = simd::mul_shift<test_isa>;
  constexpr std::int64_t most_high = std::int64_t{128} * 128 * 65793;
  generator random(15);
  guarded_vector<std::int32_t> high(lane_count), low(lane_count), y(lane_count);
  int wrong = 0;
  for (int round = 0; round < 2000; ++round) {
    for (std::size_t i = 0; i < lane_count; ++i) {
      high[i] = static_cast<std::int32_t>(random.between(-most_high, most_high));
      low[i] = static_cast<std::int32_t>(random.between(-most_high, most_high));
    }
    // |256 * high + low| is below 2^39, and the product shall stay below 2^62.
    const auto multiplier = static_cast<std::int32_t>(random.between(0, (1 << 23) - 1));
    const std::int64_t offset = random.between(-(std::int64_t{1} << 61), std::int64_t{1} << 61);
    const auto factors = mul_shift::broadcast(multiplier, offset);
    simd::store<test_isa>(
        mul_shift::mul_high_of_slices(simd::load<test_isa>(high.data()), simd::load<test_isa>(low.data()), factors),
        y.data());
    for (std::size_t i = 0; i < lane_count; ++i) {
      const std::int64_t sum = 256 * std::int64_t{high[i]} + low[i];
      wrong += y[i] != static_cast<std::int32_t>((sum * multiplier + offset) >> 32) ? 1 : 0;
    }
  }
  CHECK(wrong == 0);
}

TEST_CASE("mul_shift: sums with 29 fraction bits are rescaled, the product of the fraction rounded down") {
  using mul_shift = simd::mul_shift<test_isa>;
  constexpr std::int32_t largest = std::numeric_limits<std::int32_t>::max(), fraction = (1 << 29) - 1;
  generator random(16);
  guarded_vector<std::int32_t> high(lane_count), low(lane_count), y(lane_count);
  int wrong = 0;
  for (int round = 0; round < 2000; ++round) {
    for (std::size_t i = 0; i < lane_count; ++i) {
      const std::int64_t highs[] = {-largest, -1, 0, largest, random.between(-largest, largest)};
      const std::int64_t lows[] = {0, 1, fraction, random.between(0, fraction)};
      high[i] = static_cast<std::int32_t>(highs[random.between(0, 4)]);
      low[i] = static_cast<std::int32_t>(lows[random.between(0, 3)]);
    }
    const std::int64_t multipliers[] = {0, 1, largest, random.between(0, largest)};
    const auto multiplier = static_cast<std::int32_t>(multipliers[random.between(0, 3)]);
    const std::int64_t offset = random.between(-(std::int64_t{1} << 61), std::int64_t{1} << 61);
    const auto factors = mul_shift::broadcast(multiplier, offset);
    simd::store<test_isa>(
        mul_shift::mul_high_with_fraction(simd::load<test_isa>(high.data()), simd::load<test_isa>(low.data()), factors),
        y.data());
    for (std::size_t i = 0; i < lane_count; ++i) {
      const int128 rounded_down = floor_divide(int128{low[i]} * multiplier, power_of_two(29));
      const int128 sum = int128{high[i]} * multiplier + rounded_down + offset;
      wrong += y[i] != static_cast<std::int32_t>(floor_divide(sum, power_of_two(32))) ? 1 : 0;
    }
  }
  CHECK(wrong == 0);
}

template <class moments, class Code>
void check_moments(int zero_point, int most_shift = 3) {
  constexpr index_t most = 4096;
  constexpr int low = std::numeric_limits<Code>::min(), high = std::numeric_limits<Code>::max();
  generator random(13);
  for (const index_t channels : {moments::width, 3 * moments::width, most}) {
    for (int kind = 0; kind < 4; ++kind) {
      guarded_vector<Code> codes(static_cast<std::size_t>(channels));
      guarded_vector<std::uint8_t> shift(static_cast<std::size_t>(channels));
      std::int64_t sum = 0;
      std::uint64_t squares = 0;
      moments sums;
      for (std::size_t i = 0; i < codes.size(); ++i) {
        codes[i] = static_cast<Code>(kind == 0 ? low : kind == 1 ? high : random.between(low, high));
        shift[i] = static_cast<std::uint8_t>(kind < 3 ? most_shift : random.between(0, most_shift));
        const std::int64_t x = (std::int64_t{codes[i]} - zero_point) * (1 << shift[i]);
        sum += x;
        squares += static_cast<std::uint64_t>(x * x);
      }
      for (index_t c = 0; c < channels; c += moments::width) {
        sums.add(codes.data() + c, moments::broadcast_row(zero_point), moments::load_factors(shift.data() + c));
      }
      CHECK(sums.sum() == sum);
      CHECK(sums.squares() == squares);
    }
  }
}

template <class Isa>
void check_moments() {
  if constexpr (simd::is_vector<Isa>) {
    for (const int zero_point : {0, 131, 255}) {
      check_moments<simd::moments<Isa, std::uint8_t>, std::uint8_t>(zero_point);
    }
    check_moments<simd::moments<Isa, std::int16_t>, std::int16_t>(0);
    check_moments<simd::moments_unshifted<Isa>, std::int16_t>(0, 0);
  }
}

TEST_CASE("moments: sums and sums of squares are exact [up to 4,096 extreme values]") {
  check_moments<test_isa>();
}

TEST_CASE("inv_sqrt: quotients by roots are exact") {
  constexpr std::uint64_t low = std::uint64_t{1} << 60, limit = std::uint64_t{1} << 62;
  constexpr auto together = static_cast<std::size_t>(simd::inv_sqrt<test_isa>::width);
  generator random(19);
  guarded_vector<std::uint64_t> n;
  const auto add_around = [&](std::uint64_t x) {
    for (std::uint64_t near = x - 2; near != x + 3; ++near) {
      if (near >= low && near < limit) {
        n.push_back(near);
      }
    }
  };
  for (std::uint64_t t = 16; t <= 64; ++t) {
    add_around(t << 56);  // where a table's entry ends
  }
  for (int i = 0; i < 20000; ++i) {
    const auto root = static_cast<std::uint64_t>(random.between(1 << 30, (std::int64_t{1} << 31) - 1));
    add_around(root * root);
    const std::uint64_t divisor = ((std::uint64_t{1} << 61) - 1) / root;  // whose quotient leaves a small rest
    add_around(divisor * divisor);
    n.push_back(static_cast<std::uint64_t>(random.between(std::int64_t{1} << 60, (std::int64_t{1} << 62) - 1)));
  }
  n.resize(n.size() / together * together, low);
  guarded_vector<std::int32_t> quotients(n.size());
  simd::inv_sqrt_all<test_isa>(n.data(), std::ssize(n), quotients.data());
  int wrong = 0;
  for (std::size_t i = 0; i < n.size(); ++i) {
    wrong += quotients[i] != static_cast<std::int64_t>(((std::uint64_t{1} << 61) - 1) / integer_sqrt(n[i])) ? 1 : 0;
  }
  CHECK(wrong == 0);
}

/// Sixteen rows at a time, in turn with all codes and with the visible ones.
template <class Isa>
void check_sixteen_sums(const simd::table_sum<Isa>& sum_of, const guarded_vector<std::uint8_t>& codes,
                        const guarded_vector<std::uint8_t>& visible, int largest, std::uint64_t sum,
                        std::uint64_t visible_sum) {
  if constexpr (simd::reduce_16_registers<Isa>::exists) {
    guarded_vector<std::uint32_t> sums(16);
    const auto lanes_of_row = [&](index_t i) {
      return sum_of.sum_lanes(codes.data(), i % 2 == 0 ? nullptr : visible.data(), std::ssize(codes),
                              static_cast<std::uint8_t>(largest));
    };
    simd::reduce_16_registers<Isa>::sum_s32(lanes_of_row, sums.data());
    for (std::size_t i = 0; i < 16; ++i) {
      CHECK(sums[i] == (i % 2 == 0 ? sum : visible_sum));
    }
  }
}

template <class Isa>
void check_table_sums() {
  generator random(14);
  for (const int bits : {1, 16, 17, 24, 25, 32, 33, 48, 49, 63}) {
    std::array<std::uint64_t, 256> table;
    for (std::uint64_t& entry : table) {
      entry = static_cast<std::uint64_t>(random.between(0, std::numeric_limits<std::int64_t>::max())) >> (63 - bits);
    }
    table[255] = (std::uint64_t{1} << bits) - 1;
    std::sort(table.begin(), table.end(), std::greater<>());
    const simd::table_sum<Isa> sum_of(table.data());
    CHECK((bits > 24 || sum_of.shift() == 0));
    for (const index_t count : {0, 1, 31, 32, 33, 64, 65, 197, 256, 70'001}) {
      guarded_vector<std::uint8_t> codes(static_cast<std::size_t>(count)), visible(codes.size());
      const int largest = static_cast<int>(random.between(0, 255));
      std::uint64_t sum = 0, visible_sum = 0;
      for (std::size_t j = 0; j < codes.size(); ++j) {
        codes[j] = static_cast<std::uint8_t>(random.between(0, largest));
        visible[j] = static_cast<std::uint8_t>(random.between(0, 2));
        const std::uint64_t entry = table[static_cast<std::size_t>(largest - codes[j])] >> sum_of.shift();
        sum += entry;
        visible_sum += visible[j] != 0 ? entry : 0;
      }
      if (sum_of.covers(count)) {
        CHECK(sum_of(codes.data(), nullptr, count, largest) == sum);
        CHECK(sum_of(codes.data(), visible.data(), count, largest) == visible_sum);
      }
      if (count <= 256) {
        check_sixteen_sums<Isa>(sum_of, codes, visible, largest, sum, visible_sum);
      }
    }
    CHECK(!sum_of.covers(index_t{1} << (std::is_base_of_v<isa::avx512vbmi, Isa> ? 24 : 19)));
  }
}

TEST_CASE("table_sum: adds the leading bits of a table's entries exactly") {
  if constexpr (simd::table_sum<test_isa>::exists) {
    check_table_sums<test_isa>();
  }
}

template <class Isa>
void check_largest_of_sixteen() {
  if constexpr (simd::reduce_16_registers<Isa>::exists) {
    using bytes = simd::bytes<Isa>;
    generator random(15);
    for (index_t place = 0; place < bytes::width; ++place) {
      guarded_vector<std::uint8_t> rows(static_cast<std::size_t>(16 * bytes::width)), largest(16), expected;
      for (std::uint8_t& byte : rows) {
        byte = static_cast<std::uint8_t>(random.between(0, 99));
      }
      for (index_t i = 0; i < 16; ++i) {
        expected.push_back(static_cast<std::uint8_t>(random.between(100, 255)));
        rows[static_cast<std::size_t>(i * bytes::width + (place + 5 * i) % bytes::width)] = expected.back();
      }
      const auto row = [&](index_t i) { return bytes::load(rows.data() + i * bytes::width); };
      simd::reduce_16_registers<Isa>::max_u8(row, largest.data());
      CHECK(largest == expected);
    }
  }
}

TEST_CASE("reduce_16_registers: gives the largest byte of each of sixteen registers") {
  check_largest_of_sixteen<test_isa>();
}

#if INTACT_HAS_AVX512VBMI

using entries_of_12_bits = guarded_vector<std::uint8_t>;

/// Eight entries from `at` on: the first one, and from some places on one more or one less.
void put_eight(entries_of_12_bits& table, std::size_t at, int first, int step,
               std::initializer_list<std::size_t> places) {
  for (std::size_t i = 0; i < 8; ++i) {
    const auto steps = std::count_if(places.begin(), places.end(), [&](std::size_t place) { return i >= place; });
    table[at + i] = static_cast<std::uint8_t>(first + step * static_cast<int>(steps));
  }
}

/// Every eight of one kind: constant, or with one or two steps up or down, anywhere between the smallest and the
/// largest entries.
entries_of_12_bits random_step_table(generator& random) {
  entries_of_12_bits table(4096);
  for (std::size_t at = 0; at < table.size(); at += 8) {
    const int step = random.between(0, 1) == 0 ? 1 : -1;
    const auto steps = static_cast<int>(random.between(0, 2));
    const std::int64_t lowest = step > 0 ? 0 : steps, highest = step > 0 ? 255 - steps : 255;
    const std::int64_t anything[] = {lowest, highest, random.between(lowest, highest)};
    const int first = static_cast<int>(anything[random.between(0, 2)]);
    const auto early = static_cast<std::size_t>(random.between(1, 6));
    const auto late = static_cast<std::size_t>(random.between(static_cast<std::int64_t>(early) + 1, 7));
    put_eight(table, at, first, step, {steps > 0 ? early : 8, steps > 1 ? late : 8});
  }
  return table;
}

TEST_CASE("lut12_step: gives every entry [tables of small steps]") {
  generator random(16);
  guarded_vector<std::uint16_t> codes;
  for (int i = 0; i < 4096; ++i) {
    codes.push_back(static_cast<std::uint16_t>(1237 * i % 4096));  // every code once
  }
  for (int round = 0; round < 100; ++round) {
    const entries_of_12_bits table = random_step_table(random);
    const simd::lut12_step<isa::avx512vbmi> stepped(table.data());
    REQUIRE(stepped.fits);
    int wrong = 0;
    for (std::size_t at = 0; at < codes.size(); at += 128) {
      __m512i found[2];
      stepped.lookup(codes.data() + at, found);
      std::uint8_t entries[128];
      std::memcpy(entries, found, sizeof entries);
      for (std::size_t i = 0; i < 128; ++i) {
        wrong += entries[i] != table[codes[at + i]] ? 1 : 0;
      }
    }
    CHECK(wrong == 0);
  }
}

TEST_CASE("lut12_step: detects tables of other steps") {
  CHECK(!simd::lut12_step<isa::avx512vbmi>(activation_tables()[0].data()).fits);
  CHECK(simd::lut12_step<isa::avx512vbmi>(activation_tables()[1].data()).fits);
  generator random(17);
  const auto fits = [](const entries_of_12_bits& table) {
    return simd::lut12_step<isa::avx512vbmi>(table.data()).fits;
  };
  for (std::size_t at = 0; at < 4096; at += 8) {
    entries_of_12_bits table = random_step_table(random);
    put_eight(table, at, 0, 1, {1, 4, 7});  // three steps
    CHECK(!fits(table));
    put_eight(table, at, 9, -1, {2, 3, 5});
    CHECK(!fits(table));
    put_eight(table, at, 9, 2, {3});  // of two
    CHECK(!fits(table));
    put_eight(table, at, 255, -255, {6});
    CHECK(!fits(table));
    put_eight(table, at, 0, 255, {1});
    CHECK(!fits(table));
    put_eight(table, at, 9, 1, {3});  // up and down
    table[at + 7] = 9;
    CHECK(!fits(table));
    put_eight(table, at, 9, 1, {1, 7});
    CHECK(fits(table));
  }
}

#endif

TEST_CASE("sum: wraps around at the ends of int32") {
  generator random(12);
  guarded_vector<std::int32_t> a(lane_count);
  int wrong = 0;
  for (int round = 0; round < 1000; ++round) {
    std::uint32_t sum = 0;
    for (std::int32_t& x : a) {
      x = static_cast<std::int32_t>(
          random.between(std::numeric_limits<std::int32_t>::min(), std::numeric_limits<std::int32_t>::max()));
      sum += static_cast<std::uint32_t>(x);
    }
    wrong += simd::sum<test_isa>(simd::load<test_isa>(a.data())) != static_cast<std::int32_t>(sum) ? 1 : 0;
  }
  CHECK(wrong == 0);
}

TEST_CASE("mul_shift: shifts equal those of two's complement [every count]") {
  using mul_shift = simd::mul_shift<test_isa>;
  guarded_vector<std::int32_t> y(lane_count);
  int wrong = 0;
  for (const std::int32_t x : {std::numeric_limits<std::int32_t>::min(), -65537, -1, 0, 1, 12345678,
                               std::numeric_limits<std::int32_t>::max()}) {
    for (int n = 0; n < 32; ++n) {
      simd::store<test_isa>(mul_shift::shift_right(simd::broadcast<test_isa>(x), n), y.data());
      for (const std::int32_t lane : y) {
        wrong += lane != static_cast<std::int32_t>(floor_divide(x, power_of_two(n))) ? 1 : 0;
      }
      simd::store<test_isa>(mul_shift::shift_left(simd::broadcast<test_isa>(x), n), y.data());
      for (const std::int32_t lane : y) {
        wrong += lane != static_cast<std::int32_t>(static_cast<std::uint32_t>(int128{x} * power_of_two(n))) ? 1 : 0;
      }
    }
  }
  CHECK(wrong == 0);
}

/// N registers as Out: every count of elements, saturated, and nothing after them.
template <class Out, unsigned N>
int wrong_after_narrow() {
  constexpr std::int64_t low = std::numeric_limits<Out>::min(), high = std::numeric_limits<Out>::max();
  constexpr auto most = static_cast<index_t>(N) * lanes;
  generator random(2);
  tensor<std::int32_t> x(1, most);
  int wrong = 0;
  for (int round = 0; round < 50; ++round) {
    for (index_t i = 0; i < most; ++i) {
      const std::int64_t all[] = {std::numeric_limits<std::int32_t>::min(),
                                  std::numeric_limits<std::int32_t>::max(),
                                  low - 1,
                                  low,
                                  low + 1,
                                  high - 1,
                                  high,
                                  high + 1,
                                  random.between(low, high)};
      x(0, i) = saturate<std::int32_t>(all[random.between(0, 8)]);
    }
    simd::s32<test_isa> registers[N];
    for (unsigned j = 0; j < N; ++j) {
      registers[j] = simd::load<test_isa>(&x(0, j * lanes));
    }
    for (index_t count = 0; count <= most; ++count) {
      guarded_vector<Out> y(static_cast<std::size_t>(count));
      simd::narrow<test_isa>(registers, y.data(), count);
      if (count == most) {
        simd::narrow<test_isa>(registers, y.data());
      }
      for (index_t i = 0; i < count; ++i) {
        wrong += y[static_cast<std::size_t>(i)] != saturate<Out>(x(0, i)) ? 1 : 0;
      }
    }
  }
  return wrong;
}

using narrow_types = std::tuple<std::uint8_t, std::int8_t, std::uint16_t, std::int16_t, std::int32_t>;

TEMPLATE_LIST_TEST_CASE("narrow: keeps the order of registers and saturates", "", narrow_types) {
  CHECK(wrong_after_narrow<TestType, 1>() == 0);
  CHECK(wrong_after_narrow<TestType, 2>() == 0);
  CHECK(wrong_after_narrow<TestType, 3>() == 0);
  CHECK(wrong_after_narrow<TestType, 4>() == 0);
}

using wide_types = std::tuple<std::uint8_t, std::int16_t, std::int32_t>;

TEMPLATE_LIST_TEST_CASE("widen: keeps the sign and reads only its own elements", "", wide_types) {
  generator random(3);
  guarded_vector<TestType> from(lane_count);
  guarded_vector<std::int32_t> to(lane_count);
  int wrong = 0;
  for (int round = 0; round < 500; ++round) {
    for (TestType& x : from) {
      x = static_cast<TestType>(
          random.between(std::numeric_limits<TestType>::min(), std::numeric_limits<TestType>::max()));
    }
    simd::store<test_isa>(simd::widen<test_isa>(from.data()), to.data());
    for (std::size_t i = 0; i < lane_count; ++i) {
      wrong += to[i] != from[i] ? 1 : 0;
    }
  }
  CHECK(wrong == 0);
}

TEST_CASE("add, subtract, multiply: compute modulo 2^32, and comparisons are signed") {
  generator random(4);
  guarded_vector<std::int32_t> x(lane_count), y(lane_count), result(lane_count);
  int wrong = 0;
  const auto check = [&](simd::s32<test_isa> computed, const auto& expected) {
    simd::store<test_isa>(computed, result.data());
    for (std::size_t i = 0; i < lane_count; ++i) {
      const std::int64_t exact = expected(std::int64_t{x[i]}, std::int64_t{y[i]});
      wrong += result[i] != static_cast<std::int32_t>(exact) ? 1 : 0;
    }
  };
  for (int round = 0; round < 1000; ++round) {
    for (std::size_t i = 0; i < lane_count; ++i) {
      constexpr std::int64_t low = std::numeric_limits<std::int32_t>::min();
      constexpr std::int64_t high = std::numeric_limits<std::int32_t>::max();
      const std::int64_t all[] = {low, -1, 0, 1, high, random.between(low, high)};
      x[i] = static_cast<std::int32_t>(all[random.between(0, 5)]);
      y[i] = static_cast<std::int32_t>(all[random.between(0, 5)]);
    }
    const auto a = simd::load<test_isa>(x.data());
    const auto b = simd::load<test_isa>(y.data());
    check(simd::add<test_isa>(a, b), [](std::int64_t p, std::int64_t q) { return p + q; });
    check(simd::subtract<test_isa>(a, b), [](std::int64_t p, std::int64_t q) { return p - q; });
    check(simd::multiply<test_isa>(a, b), [](std::int64_t p, std::int64_t q) { return p * q; });
    check(simd::min<test_isa>(a, b), [](std::int64_t p, std::int64_t q) { return p < q ? p : q; });
    check(simd::max<test_isa>(a, b), [](std::int64_t p, std::int64_t q) { return p > q ? p : q; });
  }
  CHECK(wrong == 0);
}

template <class Isa>
void check_bytes() {
  if constexpr (simd::bytes<Isa>::exists) {
    using bytes = simd::bytes<Isa>;
    constexpr auto width = static_cast<std::size_t>(bytes::width);
    generator random(5);
    guarded_vector<std::uint8_t> entries(256), x(width), y(width), condition(width), result(width), packed(width / 2);
    for (std::uint8_t& entry : entries) {
      entry = static_cast<std::uint8_t>(random.between(0, 255));
    }
    int wrong = 0;
    const auto check = [&](typename bytes::batch computed, const auto& expected) {
      bytes::store(computed, result.data());
      for (std::size_t i = 0; i < width; ++i) {
        wrong += result[i] != static_cast<std::uint8_t>(expected(i)) ? 1 : 0;
      }
    };
    for (int round = 0; round < 500; ++round) {
      for (std::size_t i = 0; i < width; ++i) {
        x[i] = static_cast<std::uint8_t>(random.between(0, 255));
        y[i] = static_cast<std::uint8_t>(random.between(0, 15));
        condition[i] = static_cast<std::uint8_t>(random.between(0, 1) * random.between(0, 255));
      }
      const auto a = bytes::load(x.data()), b = bytes::load(y.data()), where = bytes::load(condition.data());
      check(simd::byte_table<Isa>(entries.data())(a), [&](std::size_t i) { return entries[x[i]]; });
      if constexpr (simd::has_byte_lookup<Isa>) {
        check(bytes::lookup(bytes::lookup_table_16(entries.data()), b), [&](std::size_t i) { return entries[y[i]]; });
      }
      check(bytes::select(where, a, b), [&](std::size_t i) { return condition[i] != 0 ? x[i] : y[i]; });
      check(bytes::max(a, b), [&](std::size_t i) { return std::max(x[i], y[i]); });
      wrong += bytes::reduce_max(a) != *std::max_element(x.begin(), x.end()) ? 1 : 0;
      bytes::store_u4(b, packed.data());
      for (std::size_t i = 0; i < width / 2; ++i) {
        wrong += packed[i] != (y[2 * i] | y[2 * i + 1] << 4) ? 1 : 0;
      }
    }
    CHECK(wrong == 0);
  }
}

TEST_CASE("bytes: lookups, selections, maxima and packed pairs are those of plain bytes") {
  check_bytes<test_isa>();
}

template <class Isa>
void check_exponent_slices() {
  if constexpr (simd::bytes<Isa>::exists) {
    using slices = simd::exponent_slices<Isa>;
    constexpr auto width = static_cast<std::size_t>(simd::bytes<Isa>::width);
    guarded_vector<std::uint8_t> codes(width), slice(width);
    int wrong = 0;
    for (int first = 0; first < 256; ++first) {
      for (const std::uint8_t max_code : {std::uint8_t{0}, std::uint8_t{15}, std::uint8_t{44}, std::uint8_t{255}}) {
        for (std::size_t i = 0; i < width; ++i) {
          codes[i] = static_cast<std::uint8_t>(first + static_cast<int>(i));
        }
        const auto loaded = slices::load(codes.data(), max_code);
        for (unsigned p = 0; p < 6; ++p) {
          slices::select(loaded, p, slice.data());
          for (std::size_t i = 0; i < width; ++i) {
            const unsigned code = std::min(codes[i], max_code);
            wrong += slice[i] != (code / 8 == p && code <= 44 ? 128 >> code % 8 : 0) ? 1 : 0;
          }
        }
      }
    }
    CHECK(wrong == 0);
  }
}

TEST_CASE("exponent_slices: each slice has the weights of its eight codes") {
  check_exponent_slices<test_isa>();
}

}  // namespace
}  // namespace intact_test::simd_test
