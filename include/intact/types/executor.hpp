#pragma once

#include <concepts>

#include "intact/types/view.hpp"

namespace intact::inline INTACT_ABI {

/// The default executor: the caller's thread does everything.
struct sequential {
  static constexpr index threads() { return 1; }

  template <class Task>
  static constexpr void for_each(index tasks, Task&& task) {
    for (index i = 0; i < tasks; ++i) {
      task(i);
    }
  }
};

/// Whoever runs an operation's tasks: `for_each(n, task)` calls task(0) to task(n - 1), each once, in any order, on
/// any threads, and returns when all are done; `threads()` tells how many can run at a time. Tasks do not throw and
/// write to disjoint memory. The bits of a result do not depend on the executor.
template <class Executor>
concept executor = requires(const Executor& run, void (*task)(index)) {
  { run.threads() } -> std::convertible_to<index>;
  run.for_each(index{1}, task);
};
static_assert(executor<sequential>);

}  // namespace intact::inline INTACT_ABI
