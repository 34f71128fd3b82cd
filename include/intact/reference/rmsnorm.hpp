#pragma once

#include <cstdint>
#include <type_traits>

#include "intact/reference/layernorm.hpp"
#include "intact/rmsnorm.hpp"
#include "intact/types/layernorm.hpp"
#include "intact/types/view.hpp"

namespace intact {
inline namespace INTACT_UNIT {
namespace reference {

/// The specification of intact::rmsnorm().
template <class X>
void rmsnorm(matrix_view<X> x, const layernorm_parameters& p, matrix_view<std::uint8_t> y) {
  require_rmsnorm<std::remove_const_t<X>>(x, p, y);
  for (index_t row = 0; row < x.rows; ++row) {
    layernorm_row<normalization::rmsnorm>(x.row_block(row, 1).data, x.columns, p, y.row_block(row, 1).data);
  }
}

}  // namespace reference
}  // namespace INTACT_UNIT
}  // namespace intact
