#pragma once

#include <omp.h>

#include "intact/types/executor.hpp"

namespace intact {
inline namespace INTACT_UNIT {

/// Runs tasks on OpenMP's threads: compile and link with -fopenmp.
///
/// Latency depends on the threads' work between two products of a model, some ten microseconds apart. GCC's
/// library lets them spin for a while and then sleep, or sleep almost at once when there are more threads than
/// processors; Clang's lets them spin for 200 ms (KMP_BLOCKTIME). To wake a thread takes about as long as a small
/// product. With processors of one's own, OMP_WAIT_POLICY=active keeps them awake; where processors are shared, passive
/// leaves them to others. Not for use inside a parallel region: there it has one thread.
class openmp_executor {
 public:
  /// Tasks run on that many threads, at least 1.
  explicit openmp_executor(int threads = omp_get_max_threads()) : threads_(threads) {
    require_at_least("openmp_executor", "threads", threads, 1);
  }

  /// The threads that tasks run on.
  index_t threads() const { return threads_; }

  /// Each thread takes the next task as soon as it is free, since threads are not equally fast.
  template <class Task>
  void for_each(index_t tasks, const Task& task) const {
#pragma omp parallel for num_threads(threads_) schedule(dynamic) if (tasks > 1)
    for (index_t i = 0; i < tasks; ++i) {
      task(i);
    }
  }

 private:
  int threads_;
};

}  // namespace INTACT_UNIT
}  // namespace intact
