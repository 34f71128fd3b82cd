// Two stages that compile with INTACT_REQUIRE_VECTOR_STAGES: they have vector forms. With INTACT_TEST_SCALAR_STAGE there
// is a third one, which has none, and the file does not compile.

#include "intact/intact.hpp"

namespace {

struct doubled {
  using output = std::int32_t;
  std::int32_t operator()(std::int32_t accumulator, intact::index_t) const { return accumulator / 2; }
  void require(const char*, intact::index_t, intact::index_t) const {}
};

}  // namespace

void product(intact::matrix_view<const std::uint8_t> a, const intact::packed_weights<std::int8_t>& w,
             const intact::requantize<std::uint8_t>& stage, intact::matrix_view<std::uint8_t> y) {
  intact::gemm(a, w, stage, y);
}

void product(intact::matrix_view<const std::uint8_t> a, const intact::packed_weights<std::int8_t>& w,
             const intact::row_corrected<intact::single_rounding<std::int8_t>>& stage,
             intact::matrix_view<std::int8_t> y) {
  intact::gemm(a, w, stage, y);
}

#if defined(INTACT_TEST_SCALAR_STAGE)
void product(intact::matrix_view<const std::uint8_t> a, const intact::packed_weights<std::int8_t>& w,
             intact::matrix_view<std::int32_t> y) {
  intact::gemm(a, w, doubled(), y);
}
#endif
