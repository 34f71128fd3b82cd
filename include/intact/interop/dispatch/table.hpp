#pragma once

#include <cstdint>
#include <span>

#include "intact/config/floating_point.hpp"
#include "intact/dispatch/table.hpp"
#include "intact/interop/float_output.hpp"
#include "intact/interop/float_rounding.hpp"
#include "intact/interop/quantize_rows.hpp"

// The operations and stages of interop/ that programs may call on the instruction set that is chosen when they run: a
// table beside that of dispatch/table.hpp, whose units have no float instructions and any compiler flags.
// interop_unit.cpp fills a table for each instruction set, interop_select.cpp finds the one of the set that select.cpp
// has chosen.

namespace intact {
inline namespace INTACT_ABI {

namespace dispatched {

struct first_row_not_finite {};
struct quantize_rows {};

}  // namespace dispatched

namespace dispatch_lists {

/// The stages of products with weights: those of interop/ for codes of 8 bits and for real numbers.
using of_float_products = stages<float_output<float>, float_output<bfloat16>, float_rounding<u8>, float_rounding<s8>>;
/// Those for weights that have a zero point, which are s8.
using of_corrected_float_products = stages<row_corrected<float_output<float>>, row_corrected<float_output<bfloat16>>,
                                           row_corrected<float_rounding<u8>>, row_corrected<float_rounding<s8>>>;

template <class A, class Element>
using float_product = of_stages<product<A, Element>::template with, of_float_products>;
template <class A>
using corrected_float_product = of_stages<product<A, s8>::template with, of_corrected_float_products>;
using float_products = dispatch_entries<float_product<u8, s8>, float_product<u8, s4>, float_product<u8, grouped_s4>,
                                        float_product<s8, s8>, float_product<s8, s4>, float_product<s8, grouped_s4>,
                                        corrected_float_product<u8>, corrected_float_product<s8>>;

using float_input = matrix_view<const float>;
template <class Code>
using quantize_rows = dispatch_threaded<dispatched::quantize_rows, float_input, matrix_view<Code>, std::span<float>>;
using row_quantizations = dispatch_entries<dispatch_entry<dispatched::first_row_not_finite, float_input, index_t*>,
                                           quantize_rows<u8>, quantize_rows<s8>>;

}  // namespace dispatch_lists

/// All functions of an instruction set for the operations and stages of interop/.
struct interop_dispatch_table
    : dispatch_entries<dispatch_lists::float_products,
                       dispatch_lists::of_stages<dispatch_lists::depthwise_conv, dispatch_lists::of_float_products>,
                       dispatch_lists::row_quantizations> {
  using dispatch_entries::dispatch_entries;
};

/// The table of an instruction set. Only for processors that offer it.
template <class Isa>
const interop_dispatch_table& interop_dispatch_table_of();

/// The table of a chosen instruction set; null if the program has no interop_unit.cpp for it.
const interop_dispatch_table* find_interop_dispatch_table(const dispatch_choice& choice);

}  // namespace INTACT_ABI
}  // namespace intact
