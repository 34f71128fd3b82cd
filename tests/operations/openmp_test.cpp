#include "intact/executors/openmp.hpp"

#include "executor_cases.hpp"

// LeakSanitizer asks for this: LLVM's library does not give back what its threads have taken.
extern "C" const char* __lsan_default_suppressions() {
  return "leak:libomp.so";
}

namespace intact_test::openmp_test {
namespace {

static_assert(intact::executor<openmp_executor>);

TEST_CASE("openmp_executor: runs each task once") {
  check_each_task_runs_once<openmp_executor>();
}

TEST_CASE("openmp_executor: its threads run at the same time") {
  check_threads_run_at_the_same_time<openmp_executor>();
}

TEST_CASE("openmp_executor: products have the same bits") {
  check_same_bits<openmp_executor>();
}

TEST_CASE("openmp_executor: has at least one thread") {
  check_bad_thread_counts<openmp_executor>();
}

}  // namespace
}  // namespace intact_test::openmp_test
