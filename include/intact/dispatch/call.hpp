#pragma once

#include <type_traits>

#include "intact/dispatch/table.hpp"

namespace intact {
inline namespace INTACT_UNIT {
namespace INTACT_HIDDEN dispatch {

/// The instruction set that all functions of intact::dispatch use. Chooses at the first call, from any thread.
/// Errors: as of isa_name().
inline const dispatch_choice& chosen_dispatch() {
  char message[512];
  const dispatch_choice* const chosen = choose_dispatch(message, sizeof message);
  if (chosen == nullptr) [[unlikely]] {
    contract_failed("intact::dispatch: %s", message);
  }
  return *chosen;
}

/// The table that has an entry. intact/interop/dispatch/operations.hpp adds another one.
template <class Entry>
struct dispatch_table_with {
  using type = dispatch_table;
  static const type& chosen() { return chosen_dispatch().table(); }
};

/// Calls a table's function for an operation and the types of its arguments, which have been checked.
template <class Operation, class... Arguments>
void dispatch_call(const Arguments&... arguments) {
  using entry = dispatch_entry<Operation, Arguments...>;
  using table = dispatch_table_with<entry>;
  constexpr bool listed = std::is_base_of_v<entry, typename table::type>;
  static_assert(
      listed,
      "intact::dispatch has only the output stages, weights and codes that intact/dispatch/table.hpp lists for "
      "this operation and, if intact/interop/dispatch/operations.hpp is included, those of "
      "intact/interop/dispatch/table.hpp; a stage of your own runs in the header-only call");
  if constexpr (listed) {
    static_cast<const entry&>(table::chosen()).run(arguments...);
  }
}

/// The name of the instruction set that all functions of intact::dispatch use: the best that the program has been
/// compiled for and the processor offers, or the one that the environment variable INTACT_ISA names. It is chosen at
/// the first call of any of them.
///
/// Errors: INTACT_ISA names no instruction set of the program, or one that the processor does not offer.
inline const char* isa_name() {
  return chosen_dispatch().isa;
}

}  // namespace dispatch
}  // namespace INTACT_UNIT
}  // namespace intact
