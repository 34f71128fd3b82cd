#pragma once

#include "intact/types/view.hpp"

namespace intact_bench {

/// An executor on OpenMP's threads; in the caller if there is just one.
class openmp {
 public:
  explicit openmp(int threads) : threads_(threads) {}

  intact::index threads() const { return threads_; }

  template <class Task>
  void for_each(intact::index tasks, const Task& task) const {
#pragma omp parallel for schedule(dynamic) num_threads(threads_) if (threads_ > 1)
    for (intact::index i = 0; i < tasks; ++i) {
      task(i);
    }
  }

 private:
  int threads_;
};

}  // namespace intact_bench
