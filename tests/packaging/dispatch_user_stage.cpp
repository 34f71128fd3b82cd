// An output stage of a user is refused by intact::dispatch in one sentence.

#include <cstdint>

#include "intact/dispatch/operations.hpp"

struct half {
  using output = std::int32_t;

  constexpr std::int32_t operator()(std::int32_t accumulator, intact::index_t) const { return accumulator / 2; }
  void require(const char*, intact::index_t, intact::index_t) const {}
};

void run(intact::matrix_view<const std::uint8_t> x, const intact::packed_weights<std::int8_t>& w,
         intact::matrix_view<std::int32_t> y) {
  intact::dispatch::gemm(x, w, half(), y);
}
