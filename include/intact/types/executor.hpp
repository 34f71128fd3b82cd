#pragma once

#include <concepts>

#include "intact/types/row_range.hpp"
#include "intact/types/view.hpp"

namespace intact {
inline namespace INTACT_ABI {

/// The default executor: the caller's thread does everything.
struct sequential {
  /// The caller's thread alone.
  INTACT_INLINE static constexpr index_t threads() { return 1; }

  /// Calls task(i) for i from 0 to tasks - 1, in this order.
  template <class Task>
  INTACT_INLINE static constexpr void for_each(index_t tasks, Task&& task) {
    for (index_t i = 0; i < tasks; ++i) {
      task(i);
    }
  }
};

/// Runs an operation's tasks: `for_each(n, task)` calls task(0) to task(n - 1), each once, in any order, on
/// any threads, and returns when all are done; `threads()` tells how many can run at a time, and tells the same until
/// the operation returns. Tasks do not throw and write to disjoint memory. The bits of a result do not depend on the
/// executor.
template <class Executor>
concept executor = requires(const Executor& run, void (*task)(index_t)) {
  { run.threads() } -> std::convertible_to<index_t>;
  run.for_each(index_t{1}, task);
};
static_assert(executor<sequential>);

/// Rows of one task, at least, of the operations that work row by row: fewer rows cost more in scheduling and in
/// per-task tables than they save.
inline constexpr index_t rows_per_task = 16;

/// The work units of one of `tasks` tasks that have `units` work units between them. None has two more than another.
INTACT_INLINE constexpr row_range units_of_task(index_t units, index_t task, index_t tasks) {
  const index_t each = units / tasks, rest = units % tasks;
  const index_t begin = task * each + (task < rest ? task : rest);
  return {.begin = begin, .end = begin + each + (task < rest ? 1 : 0)};
}

}  // namespace INTACT_ABI

inline namespace INTACT_UNIT {

/// Splits `rows` rows, in groups of `group_rows`, over an executor's threads: calls task(row_range) for ranges
/// that have all rows between them. More than one range per thread, to even out threads that are not equally fast.
template <executor Executor, class Task>
void for_each_row_range(const Executor& run, index_t rows, index_t group_rows, const Task& task) {
  constexpr index_t ranges_per_thread = 4;
  const index_t groups = group_count(rows, group_rows);
  const index_t threads = run.threads();
  const index_t wanted = threads <= 1 ? 1 : threads * ranges_per_thread;
  const index_t ranges = wanted < groups ? wanted : groups;
  run.for_each(ranges, [&](index_t i) {
    const row_range of = units_of_task(groups, i, ranges);
    const index_t end = of.end * group_rows;
    task(row_range{.begin = of.begin * group_rows, .end = end < rows ? end : rows});
  });
}

}  // namespace INTACT_UNIT
}  // namespace intact
