#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <tuple>
#include <type_traits>
#include <utility>

#include "guarded_memory.hpp"
#include "intact/gemm.hpp"
#include "intact/pack.hpp"
#include "tensor.hpp"

// Operands of matrix products: activations and every kind of weights, or two activations. No operand is followed by
// memory that may be read.

namespace intact_test {

struct gemm_shape {
  index_t m;
  index_t n;
  index_t k;
};

struct s8_weights {
  using packed_element = std::int8_t;
  static constexpr std::int64_t low = -128, high = 127;

  s8_weights(index_t n, index_t k, const layout& where, values what, generator& random) : codes(n, k, where) {
    fill(codes.view(), what, low, high, random);
  }
  matrix_view<const std::int8_t> view() { return codes.view(); }

  guarded_tensor<std::int8_t> codes;
};

struct s4_weights {
  using packed_element = s4;
  static constexpr std::int64_t low = s4::min, high = s4::max;

  s4_weights(index_t n, index_t k, const layout& where, values what, generator& random) : codes(n, k, where) {
    fill(codes.view(), what, low, high, random);
  }
  packed_view<s4, const std::uint8_t> view() { return codes.view(); }

  guarded_packed_tensor<s4> codes;
};

/// Groups that are packed in four bits, or others, which become s8; many sizes, in turns.
template <bool Packable>
struct grouped_s4_weights {
  using packed_element = std::conditional_t<Packable, grouped_s4, std::int8_t>;
  static constexpr std::int64_t low = s4::min * 8;

  grouped_s4_weights(index_t n, index_t k, const layout& where, values what, generator& random)
      : group(group_of(n, k)), codes(n, k, where), shifts(n, group_count(k, group), where) {
    fill(codes.view(), what, s4::min, s4::max, random);
    fill(shifts.view(), what == values::random ? values::random : values::largest, 0, 3, random);
  }
  grouped_s4_view view() { return {codes.view(), shifts.view(), group}; }

  /// Groups of one step and of several; one that ends within a step, as it may if there are no others.
  static index_t group_of(index_t n, index_t k) {
    const index_t packable[] = {8, 32, 24, std::max<index_t>(k, 1), 64, 128, k + 5, 16};
    const index_t others[] = {1, 3, 4, 5, 12};
    return Packable ? packable[(n + k) % 8] : others[(n + k) % 5];
  }

  index_t group;
  guarded_packed_tensor<s4> codes;
  guarded_tensor<std::uint8_t> shifts;
};

template <class Weights>
packed_weights<typename Weights::packed_element> pack(Weights& w, std::span<std::byte> memory) {
  if constexpr (std::is_same_v<Weights, grouped_s4_weights<false>>) {
    return pack_weights_as_s8(w.view(), memory);
  } else {
    return pack_weights(w.view(), memory);
  }
}

/// The operands of a product, and the weights once more, packed.
template <class A, class Weights>
class product {
 public:
  using activation = A;
  using weights = Weights;
  using element = typename Weights::packed_element;

  product(const gemm_shape& shape, const layout& where, values a_values, values w_values, generator& random)
      : a_(shape.m, shape.k, where), w_(shape.n, shape.k, where, w_values, random), memory_(packed_bytes()) {
    fill(a_.view(), a_values, std::numeric_limits<A>::min(), std::numeric_limits<A>::max(), random);
    packed_ = pack(w_, memory_.span());
  }

  matrix_view<const A> a() const { return std::as_const(a_).view(); }
  auto w() { return w_.view(); }
  const packed_weights<element>& packed() const { return packed_; }

  /// No accumulator is larger; at least 1.
  std::int64_t bound() const {
    constexpr std::int64_t largest_product = (std::is_signed_v<A> ? 128 : 255) * -Weights::low;
    return std::max<std::int64_t>(1, largest_product * a_.columns());
  }

 private:
  index_t packed_bytes() {
    if constexpr (std::is_same_v<Weights, grouped_s4_weights<true>>) {
      return packed_weights_bytes(w_.view());
    } else {
      return packed_weights_bytes<element>(w_.view().rows, w_.view().columns);
    }
  }

  guarded_tensor<A> a_;
  Weights w_;
  packed_memory memory_;
  packed_weights<element> packed_;
};

using all_products =
    std::tuple<product<std::uint8_t, s8_weights>, product<std::int8_t, s8_weights>, product<std::uint8_t, s4_weights>,
               product<std::int8_t, s4_weights>, product<std::uint8_t, grouped_s4_weights<true>>,
               product<std::int8_t, grouped_s4_weights<true>>, product<std::uint8_t, grouped_s4_weights<false>>>;

/// Two activations in memory that ends with them.
struct activation_pair {
  guarded_tensor<std::uint8_t> a_codes, b_codes;
  int a_zero_point, b_zero_point;

  activation_pair(const gemm_shape& shape, const layout& where, values a_values, values b_values,
                  std::pair<int, int> zero_points, generator& random)
      : a_codes(shape.m, shape.k, where),
        b_codes(shape.n, shape.k, where),
        a_zero_point(zero_points.first),
        b_zero_point(zero_points.second) {
    fill(a_codes.view(), a_values, 0, 255, random);
    fill(b_codes.view(), b_values, 0, 255, random);
  }

  quantized_matrix a() const { return {a_codes.view(), a_zero_point}; }
  quantized_matrix b() const { return {b_codes.view(), b_zero_point}; }

  /// No accumulator is larger; at least 1.
  std::int64_t bound() const { return std::max<std::int64_t>(1, 255 * 255 * a_codes.columns()); }
};

}  // namespace intact_test
