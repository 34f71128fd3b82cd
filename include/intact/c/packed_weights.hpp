#pragma once

#include <cstdint>

#include "intact/c/intact.h"
#include "intact/c/matrices.hpp"
#include "intact/c/status.hpp"
#include "intact/config/floating_point.hpp"
#include "intact/model/linear.hpp"
#include "intact/types/grouped_s4.hpp"
#include "intact/types/int4.hpp"

/// Defined at the beginning of the memory that the caller gives.
struct intact_packed_weights {
  intact::any_packed_weights weights;
};

namespace intact {
inline namespace INTACT_UNIT {
namespace c {

/// Calls visit(view) with weights as they are stored: a matrix_view of s8, a packed_view of s4, a grouped_s4_view.
template <class Visit>
void visit_weights(const char* function, const intact_weights& weights, const Visit& visit) {
  const intact_const_matrix& codes = weights.codes;
  if (weights.group < 0 || (weights.group != 0 && codes.type != INTACT_S4)) [[unlikely]] {
    contract_failed("%s: group of weights is %td; it must be 0, or of INTACT_S4 at least 0", function, weights.group);
  }
  if (codes.type == INTACT_S8) {
    visit(matrix_of<std::int8_t>({function, "weights"}, codes));
    return;
  }
  if (codes.type != INTACT_S4) [[unlikely]] {
    refuse_type<std::int8_t, s4>({function, "weights"}, codes.type);
  }
  const packed_view<s4, const std::uint8_t> view(static_cast<const std::uint8_t*>(codes.data), codes.rows,
                                                 codes.columns, codes.stride);
  if (weights.group == 0) {
    visit(view);
  } else {
    visit(grouped_s4_view(view, matrix_of<std::uint8_t>({function, "shifts"}, weights.shifts), weights.group));
  }
}

}  // namespace c
}  // namespace INTACT_UNIT
}  // namespace intact
