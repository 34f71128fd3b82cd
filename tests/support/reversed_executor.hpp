#pragma once

#include "intact/types/executor.hpp"

namespace intact_test {

/// Calls tasks from the last to the first on one thread, and counts them. It says that it has `at_a_time` threads.
struct reversed_executor {
  intact::index_t at_a_time = 3;
  intact::index_t* tasks_run = nullptr;

  intact::index_t threads() const { return at_a_time; }
  template <class Task>
  void for_each(intact::index_t tasks, Task&& task) const {
    for (intact::index_t i = tasks; i-- > 0;) {
      task(i);
    }
    if (tasks_run != nullptr) {
      *tasks_run += tasks;
    }
  }
};
static_assert(intact::executor<reversed_executor>);

}  // namespace intact_test
