// A shared object that exports one function of its own.

#include "intact/dispatch/call.hpp"

extern "C" [[gnu::visibility("default")]] const char* engine_isa() {
  return intact::dispatch::isa_name();
}
