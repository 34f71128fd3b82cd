// Compiled once, for the oldest processor: chooses among the instruction sets that unit.cpp has been compiled for.
// INTACT_DISPATCH_TAGS lists their tags, such as intact::isa::scalar,intact::isa::avx2, from the oldest to the newest in
// the order of simd/isa.hpp: the last one that the processor offers is used. By default it is all of the processor's
// family.

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <string_view>
#include <tuple>

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

/// An instruction set of the program.
struct candidate {
  const dispatch_choice* choice;
  bool offered;
};

template <class Isa>
constexpr dispatch_choice choice_of = {Isa::name.data(), dispatch_table_of<Isa>};

/// Appends words to a message of limited size, which ends with a 0.
class message_writer {
 public:
  message_writer(char* message, std::size_t bytes) : at_(message), last_(message + bytes - 1) { *at_ = 0; }

  message_writer& operator<<(std::string_view words) {
    at_ = std::copy_n(words.data(), std::min(words.size(), static_cast<std::size_t>(last_ - at_)), at_);
    *at_ = 0;
    return *this;
  }

 private:
  char* at_;
  char* last_;
};

template <std::size_t N>
void list_names(message_writer& message, const std::array<candidate, N>& all, bool offered_only) {
  const char* separator = "";
  for (const candidate& each : all) {
    if (each.offered || !offered_only) {
      message << separator << each.choice->isa;
      separator = ", ";
    }
  }
}

/// The last one that the processor offers, or the one that is wanted. Null with a message if it is refused.
template <class... Isas>
const dispatch_choice* choose(std::tuple<Isas...>*, std::string_view wanted, message_writer message) {
  const simd::processor processor = simd::detect();
  const std::array<candidate, sizeof...(Isas)> all = {candidate{&choice_of<Isas>, processor.offers(Isas())}...};
  const candidate* found = nullptr;
  for (const candidate& each : all) {
    if (wanted.empty() ? each.offered : each.choice->isa == wanted) {
      found = &each;
    }
  }
  if (found == nullptr && wanted.empty()) {
    message << "this processor offers no instruction set of the program, which has ";
    list_names(message, all, false);
    return nullptr;
  }
  if (found == nullptr) {
    message << "INTACT_ISA is \"" << wanted.substr(0, 64) << "\"; it must be one of ";
    list_names(message, all, false);
    return nullptr;
  }
  if (!found->offered) {
    message << "INTACT_ISA is " << found->choice->isa << ", which this processor does not offer; it has ";
    list_names(message, all, true);
    return nullptr;
  }
  return found->choice;
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
                    message_writer(message, message_bytes));
    chosen.store(choice, std::memory_order_release);  // every thread finds the same
  }
  return choice;
}

}  // namespace INTACT_ABI
}  // namespace intact
