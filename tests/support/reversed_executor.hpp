#pragma once

#include <utility>

#include "intact/types/executor.hpp"

namespace intact_test {

/// Calls tasks from the last to the first, as if it had three threads.
struct reversed_executor {
  static constexpr intact::index_t threads() { return 3; }
  template <class Task>
  void for_each(intact::index_t tasks, Task&& task) const {
    while (tasks > 0) {
      task(--tasks);
    }
  }
};

}  // namespace intact_test
