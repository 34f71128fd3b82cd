// Compiled once, for the oldest processor: finds the table of interop_unit.cpp for the instruction set that
// dispatch/select.cpp has chosen. INTACT_DISPATCH_TAGS lists the tags of the compiled sets, as it does there.

#include <string_view>
#include <tuple>

#include "intact/interop/dispatch/table.hpp"

namespace intact {
inline namespace INTACT_UNIT {
namespace {

#ifdef INTACT_DISPATCH_TAGS
using compiled_units = std::tuple<INTACT_DISPATCH_TAGS>;
#else
using compiled_units = isa::of_this_family;
#endif

template <class... Isas>
const interop_dispatch_table* find_table(std::tuple<Isas...>*, std::string_view isa) {
  const interop_dispatch_table* found = nullptr;
  ((found = Isas::name == isa ? &interop_dispatch_table_of<Isas>() : found), ...);
  return found;
}

}  // namespace
}  // namespace INTACT_UNIT

inline namespace INTACT_ABI {

const interop_dispatch_table* find_interop_dispatch_table(const dispatch_choice& choice) {
  return find_table(static_cast<compiled_units*>(nullptr), choice.isa);
}

}  // namespace INTACT_ABI
}  // namespace intact
