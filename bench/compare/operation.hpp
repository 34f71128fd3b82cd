#pragma once

#include <string>
#include <vector>

#include "compare/report.hpp"

// The structure of intact-compare. An operation is a source file that defines a constant of the type
// `registered_operation`; it runs its own shapes and peers and hands rows to the report.

namespace intact_bench {

struct operation {
  std::string name;
  void (*compare)(const options&, report&);
};

/// All operations that the program is linked with.
std::vector<operation>& operations();

/// A constant of this type makes an operation known to the program.
struct registered_operation {
  explicit registered_operation(operation operation);
};

}  // namespace intact_bench
