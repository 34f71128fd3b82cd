#pragma once

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <exception>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "intact/types/executor.hpp"

// Work on many images: spread over threads, with a progress bar.

namespace intact_deit {

/// A bar on stderr, if that is a terminal: how much is done, how fast, and how long it will take. May be shared.
class progress_bar {
 public:
  progress_bar(std::string what, std::size_t total)
      : what_(std::move(what)), total_(total), shown_(total != 0 && ::isatty(STDERR_FILENO) != 0) {}
  progress_bar(const progress_bar&) = delete;
  progress_bar& operator=(const progress_bar&) = delete;
  ~progress_bar() {
    if (shown_) {
      std::fputs("\r\033[K", stderr);
    }
  }

  void advance(std::size_t steps = 1) {
    const std::scoped_lock lock(mutex_);
    done_ += steps;
    const auto now = clock::now();
    if (shown_ && (now - printed_ > std::chrono::milliseconds(100) || done_ == total_)) {
      printed_ = now;
      print(std::chrono::duration<double>(now - start_).count());
    }
  }

 private:
  using clock = std::chrono::steady_clock;

  void print(double seconds) const {
    constexpr std::size_t width = 30;
    const std::size_t filled = width * done_ / total_;
    const double rate = static_cast<double>(done_) / std::max(seconds, 1e-9);
    const std::string bar = std::string(filled, '#') + std::string(width - filled, '.');
    std::fprintf(stderr, "\r%s [%s] %zu/%zu, %.1f/s, %.0f s left\033[K", what_.c_str(), bar.c_str(), done_, total_,
                 rate, static_cast<double>(total_ - done_) / rate);
  }

  std::string what_;
  std::size_t total_;
  bool shown_;
  std::size_t done_ = 0;
  clock::time_point start_ = clock::now(), printed_ = start_;
  std::mutex mutex_;
};

/// Calls work(i, thread) for every i below `count`, on threads with the numbers from 0 to `threads` - 1. The first
/// exception stops the work and is thrown again.
template <class Work>
void for_each_parallel(std::size_t count, std::size_t threads, Work work) {
  std::atomic<std::size_t> next = 0;
  std::exception_ptr failure;
  std::mutex failure_mutex;
  const auto run = [&](std::size_t thread) {
    try {
      for (std::size_t i = next++; i < count; i = next++) {
        work(i, thread);
      }
    } catch (...) {
      const std::scoped_lock lock(failure_mutex);
      failure = std::current_exception();
      next = count;
    }
  };
  {
    std::vector<std::jthread> others;
    for (std::size_t thread = 1; thread < std::min(threads, count); ++thread) {
      others.emplace_back(run, thread);
    }
    run(0);
  }
  if (failure) {
    std::rethrow_exception(failure);
  }
}

/// The threads as an executor of the library.
class thread_executor {
 public:
  explicit thread_executor(std::size_t threads) : threads_(threads) {}

  intact::index_t threads() const { return static_cast<intact::index_t>(threads_); }

  template <class Task>
  void for_each(intact::index_t tasks, const Task& task) const {
    for_each_parallel(static_cast<std::size_t>(tasks), threads_,
                      [&](std::size_t i, std::size_t) { task(static_cast<intact::index_t>(i)); });
  }

 private:
  std::size_t threads_;
};

}  // namespace intact_deit
