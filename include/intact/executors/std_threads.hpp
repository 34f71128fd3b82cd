#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

#include "intact/types/executor.hpp"

namespace intact {
inline namespace INTACT_UNIT {

/// Runs tasks on the caller's thread and on threads of its own, which it starts once: link with -pthread.
///
/// Latency: the threads sleep between two products of a model, and to wake one takes some microseconds, as long as a
/// small product. Calls from several threads at a time wait for each other. Not for use inside of its own tasks.
class std_thread_executor {
 public:
  /// Tasks run on that many threads, at least 1, of which one is the caller's.
  explicit std_thread_executor(int threads = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()))) {
    require_at_least("std_thread_executor", "threads", threads, 1);
    workers_.reserve(static_cast<std::size_t>(threads - 1));
    for (int i = 1; i < threads; ++i) {
      workers_.emplace_back([this] { work(); });
    }
  }
  std_thread_executor(const std_thread_executor&) = delete;
  std_thread_executor& operator=(const std_thread_executor&) = delete;
  ~std_thread_executor() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    begin_.notify_all();
    for (std::thread& worker : workers_) {
      worker.join();
    }
  }

  /// The threads that tasks run on, the caller's included.
  index_t threads() const { return static_cast<index_t>(workers_.size()) + 1; }

  /// Each thread takes the next task as soon as it is free, since threads are not equally fast.
  template <class Task>
  void for_each(index_t tasks, const Task& task) const {
    if (tasks <= 1 || workers_.empty()) {
      for (index_t i = 0; i < tasks; ++i) {
        task(i);
      }
      return;
    }
    const std::lock_guard one_call(calls_);
    {
      const std::lock_guard lock(mutex_);
      task_ = &task;
      run_task_ = [](const void* of_call, index_t i) { (*static_cast<const Task*>(of_call))(i); };
      tasks_ = tasks;
      next_ = 0;
      working_ = workers_.size();
      ++call_;
    }
    begin_.notify_all();
    run_tasks();
    std::unique_lock lock(mutex_);
    end_.wait(lock, [this] { return working_ == 0; });
  }

 private:
  void run_tasks() const {
    for (index_t i = next_++; i < tasks_; i = next_++) {
      run_task_(task_, i);
    }
  }

  void work() const {
    std::unique_lock lock(mutex_);
    for (std::uint64_t seen = 0;;) {
      begin_.wait(lock, [&] { return call_ != seen || stopping_; });
      if (stopping_) {
        return;
      }
      seen = call_;
      lock.unlock();
      run_tasks();
      lock.lock();
      if (--working_ == 0) {
        end_.notify_one();
      }
    }
  }

  mutable std::mutex calls_, mutex_;
  mutable std::condition_variable begin_, end_;
  mutable const void* task_ = nullptr;
  mutable void (*run_task_)(const void*, index_t) = nullptr;
  mutable index_t tasks_ = 0;
  mutable std::atomic<index_t> next_ = 0;
  mutable std::size_t working_ = 0;  ///< threads that have not finished the call
  mutable std::uint64_t call_ = 0;
  bool stopping_ = false;
  std::vector<std::thread> workers_;
};

}  // namespace INTACT_UNIT
}  // namespace intact
