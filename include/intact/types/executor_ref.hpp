#pragma once

#include <concepts>

#include "intact/types/executor.hpp"

namespace intact {
inline namespace INTACT_UNIT {

/// A task of any type, as executor_ref passes it.
template <class Task>
void call_task(const void* task, index_t i) {
  (*static_cast<const Task*>(task))(i);
}

/// Runs such tasks on an executor of any type.
template <class Executor>
void run_tasks(const void* run, index_t tasks, void (*call)(const void*, index_t), const void* task) {
  static_cast<const Executor*>(run)->for_each(tasks, [call, task](index_t i) { call(task, i); });
}

}  // namespace INTACT_UNIT

inline namespace INTACT_ABI {

/// An executor of another type, by reference: it crosses translation units, and functions that take it are compiled
/// once for all executors. The executor outlives it; threads() is asked once.
class executor_ref {
 public:
  /// Refers to an executor, which must outlive this object.
  template <class Executor>
  requires(!std::same_as<Executor, executor_ref> && executor<Executor>) INTACT_INLINE
      explicit executor_ref(const Executor& run)
      : run_(&run), run_tasks_(run_tasks<Executor>), threads_(static_cast<index_t>(run.threads())) {}

  /// The threads of the executor.
  INTACT_INLINE index_t threads() const { return threads_; }

  /// Runs the tasks on the executor.
  template <class Task>
  INTACT_INLINE void for_each(index_t tasks, const Task& task) const {
    run_tasks_(run_, tasks, call_task<Task>, &task);
  }

 private:
  const void* run_;
  void (*run_tasks_)(const void* run, index_t tasks, void (*call)(const void*, index_t), const void* task);
  index_t threads_;
};
static_assert(executor<executor_ref>);

}  // namespace INTACT_ABI
}  // namespace intact
