#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <thread>
#include <vector>

#include "catch.hpp"
#include "intact/gemm.hpp"
#include "intact/pack.hpp"
#include "intact/reference/gemm.hpp"
#include "tensor.hpp"

// Requirements of every executor, whatever threads it runs on.

namespace intact_test {

inline constexpr int thread_counts[] = {1, 2, 3, 7};

/// Each task runs once, none else does, and all have when for_each returns.
template <class Executor>
void check_each_task_runs_once() {
  for (const int threads : thread_counts) {
    const Executor run(threads);
    CHECK(run.threads() == threads);
    for (const index_t tasks : {0, 1, 2, 3, 28, 1000}) {
      std::vector<std::atomic<int>> runs(static_cast<std::size_t>(tasks));
      run.for_each(tasks, [&](index_t task) { runs[static_cast<std::size_t>(task)] += 1; });
      int wrong = 0;
      for (const std::atomic<int>& count : runs) {
        wrong += count != 1 ? 1 : 0;
      }
      CAPTURE(threads, tasks);
      CHECK(wrong == 0);
    }
  }
}

/// Two tasks that wait for each other both come to an end: with two threads, not with one.
template <class Executor>
bool runs_two_at_a_time(int threads, std::chrono::milliseconds patience) {
  std::atomic<int> arrived = 0;
  std::atomic<int> met = 0;
  Executor(threads).for_each(2, [&](index_t) {
    arrived += 1;
    const auto deadline = std::chrono::steady_clock::now() + patience;
    while (arrived < 2 && std::chrono::steady_clock::now() < deadline) {
      std::this_thread::yield();
    }
    met += arrived == 2 ? 1 : 0;
  });
  return met == 2;
}

template <class Executor>
void check_threads_run_at_the_same_time() {
  CHECK(runs_two_at_a_time<Executor>(2, std::chrono::seconds(30)));
  CHECK_FALSE(runs_two_at_a_time<Executor>(1, std::chrono::milliseconds(1)));
}

struct alignas(packed_weights_alignment) cache_line {
  std::byte bytes[packed_weights_alignment];
};

template <class Executor>
void check_same_bits(index_t m, index_t n, index_t k) {
  generator random(11);
  tensor<std::uint8_t> a(m, k);
  tensor<std::int8_t> w(n, k);
  fill(a.view(), values::random, 0, 255, random);
  fill(w.view(), values::random, -128, 127, random);
  std::vector<cache_line> memory(static_cast<std::size_t>(packed_weights_bytes<std::int8_t>(n, k)) / 64 + 1);
  const auto packed = pack_weights(w.view(), std::as_writable_bytes(std::span(memory)));
  const requantize<std::uint8_t, tensor_scale> stage{{1 << 24, std::int64_t{128} << 35, 3, 0}};
  tensor<std::uint8_t> expected(m, n);
  reference::gemm(a.view(), w.view(), stage, expected.view());
  for (const int threads : thread_counts) {
    tensor<std::uint8_t> y(m, n);
    gemm(a.view(), packed, stage, y.view(), Executor(threads));
    CAPTURE(m, n, k, threads);
    CHECK(first_difference(y.view(), expected.view()) == "");
    CHECK(y.surroundings_untouched());
  }
}

template <class Executor>
void check_same_bits() {
  check_same_bits<Executor>(0, 0, 0);
  check_same_bits<Executor>(0, 5, 4);
  check_same_bits<Executor>(5, 0, 4);
  check_same_bits<Executor>(5, 7, 0);
  check_same_bits<Executor>(13, 65, 33);     // not worth a second thread
  check_same_bits<Executor>(7, 64, 8192);    // worth three, but of two units
  check_same_bits<Executor>(1, 4100, 1024);  // one token: panels only
  check_same_bits<Executor>(197, 320, 250);  // more than all threads take at first
}

template <class Executor>
void check_bad_thread_counts() {
  CHECK_THROWS_AS(Executor(0), std::invalid_argument);
  CHECK_THROWS_AS(Executor(-1), std::invalid_argument);
}

}  // namespace intact_test
