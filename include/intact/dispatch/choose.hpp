#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <string_view>

#include "intact/dispatch/table.hpp"

// The choice among the instruction sets of a program, for select.cpp.

namespace intact {
inline namespace INTACT_UNIT {
namespace dispatch {
namespace detail {

/// An instruction set of the program.
struct candidate {
  const dispatch_choice* choice;
  bool offered;
};

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

inline void list_names(message_writer& message, std::span<const candidate> all, bool offered_only) {
  const char* separator = "";
  for (const candidate& each : all) {
    if (each.offered || !offered_only) {
      message << separator << each.choice->isa;
      separator = ", ";
    }
  }
}

/// The last one that the processor offers, or the one that is wanted. Null with a message if it is refused.
inline const dispatch_choice* choose(std::span<const candidate> all, std::string_view wanted, message_writer message) {
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

}  // namespace detail
}  // namespace dispatch
}  // namespace INTACT_UNIT
}  // namespace intact
