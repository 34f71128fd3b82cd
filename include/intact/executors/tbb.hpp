#pragma once

#include <oneapi/tbb/info.h>
#include <oneapi/tbb/parallel_for.h>
#include <oneapi/tbb/partitioner.h>
#include <oneapi/tbb/task_arena.h>

#include "intact/types/executor.hpp"

namespace intact {
inline namespace INTACT_UNIT {

/// Runs tasks on oneTBB's threads, in an arena of its own, beside the other tasks of the program. May be
/// used from several threads at a time, also from inside of oneTBB's tasks.
///
/// Latency: oneTBB's workers look for work for a short time and then sleep, and nothing keeps them
/// awake; the first products after a pause wait for them to wake. The whole program has at most as many workers as
/// processors, unless tbb::global_control says otherwise: an arena of more threads does not have more.
class tbb_executor {
 public:
  /// Tasks run on that many threads, at least 1.
  explicit tbb_executor(int threads = tbb::info::default_concurrency()) : threads_(threads), arena_(checked(threads)) {}

  /// The threads that tasks run on.
  index_t threads() const { return threads_; }

  /// Tasks are of the right size already: they are neither joined nor divided.
  template <class Task>
  void for_each(index_t tasks, const Task& task) const {
    if (tasks > 1) {
      arena_.execute([&] { tbb::parallel_for(index_t{0}, tasks, task, tbb::simple_partitioner()); });
    } else if (tasks == 1) {
      task(0);
    }
  }

 private:
  static int checked(int threads) {
    require_at_least("tbb_executor", "threads", threads, 1);
    return threads;
  }

  int threads_;
  mutable tbb::task_arena arena_;
};

}  // namespace INTACT_UNIT
}  // namespace intact
