#include "intact/executors/std_threads.hpp"

#include <thread>

#include "executor_cases.hpp"

namespace intact_test::std_threads_test {
namespace {

static_assert(intact::executor<std_thread_executor>);

TEST_CASE("std_thread_executor: runs each task once [1 to 7 threads]") {
  check_each_task_runs_once<std_thread_executor>();
}

TEST_CASE("std_thread_executor: threads run at the same time") {
  check_threads_run_at_the_same_time<std_thread_executor>();
}

TEST_CASE("std_thread_executor: products have the same bits [1 to 7 threads]") {
  check_same_bits<std_thread_executor>();
}

TEST_CASE("std_thread_executor: has at least one thread") {
  check_bad_thread_counts<std_thread_executor>();
}

TEST_CASE("std_thread_executor: runs each task once [calls from several threads]") {
  const std_thread_executor run(3);
  std::vector<std::atomic<int>> runs(400);
  const auto call = [&](index_t first) {
    for (int round = 0; round < 100; ++round) {
      run.for_each(100, [&](index_t i) { runs[static_cast<std::size_t>(first + i)] += 1; });
    }
  };
  std::vector<std::thread> callers;
  for (const index_t first : {0, 100, 200, 300}) {
    callers.emplace_back(call, first);
  }
  for (std::thread& caller : callers) {
    caller.join();
  }
  int wrong = 0;
  for (const std::atomic<int>& count : runs) {
    wrong += count != 100 ? 1 : 0;
  }
  CHECK(wrong == 0);
}

}  // namespace
}  // namespace intact_test::std_threads_test
