// Compiled once, for the oldest processor: chooses among the instruction sets that unit.cpp has been compiled for.
// INTACT_DISPATCH_TAGS lists their tags, such as intact::isa::scalar,intact::isa::avx2, from the oldest to the newest in
// the order of simd/isa.hpp: the last one that the processor offers is used. By default it is all of the processor's
// family.

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <string_view>
#include <tuple>

#include "intact/dispatch/choose.hpp"
#include "intact/dispatch/table.hpp"
#include "intact/simd/detect.hpp"

namespace intact {
inline namespace INTACT_UNIT {
namespace {

#ifdef INTACT_DISPATCH_TAGS
using compiled_units = std::tuple<INTACT_DISPATCH_TAGS>;
#else
using compiled_units = isa::of_this_family;
#endif

template <class Isa>
constexpr dispatch_choice choice_of = {Isa::name.data(), dispatch_table_of<Isa>};

template <class... Isas>
const dispatch_choice* choose(std::tuple<Isas...>*, std::string_view wanted, dispatch::detail::message_writer message) {
  const simd::processor processor = simd::detect();
  const std::array all = {dispatch::detail::candidate{&choice_of<Isas>, processor.offers(Isas())}...};
  return dispatch::detail::choose(all, wanted, message);
}

}  // namespace
}  // namespace INTACT_UNIT

inline namespace INTACT_ABI {

const dispatch_choice* choose_dispatch(char* message, std::size_t message_bytes) {
  static constinit std::atomic<const dispatch_choice*> chosen = nullptr;
  const dispatch_choice* choice = chosen.load(std::memory_order_acquire);
  if (choice == nullptr) {
    const char* const wanted = std::getenv("INTACT_ISA");
    choice = choose(static_cast<compiled_units*>(nullptr), wanted == nullptr ? "" : wanted,
                    dispatch::detail::message_writer(message, message_bytes));
    chosen.store(choice, std::memory_order_release);  // every thread finds the same
  }
  return choice;
}

}  // namespace INTACT_ABI
}  // namespace intact
