#include "intact/executors/tbb.hpp"

#include <oneapi/tbb/global_control.h>

#include "executor_cases.hpp"

namespace intact_test::tbb_test {
namespace {

static_assert(intact::executor<tbb_executor>);

/// As many threads as the cases ask for, on machines with fewer processors, too.
struct enough_workers {
  tbb::global_control control{tbb::global_control::max_allowed_parallelism, 8};
};

TEST_CASE_METHOD(enough_workers, "tbb_executor: runs each task once") {
  check_each_task_runs_once<tbb_executor>();
}

TEST_CASE_METHOD(enough_workers, "tbb_executor: its threads run at the same time") {
  check_threads_run_at_the_same_time<tbb_executor>();
}

TEST_CASE_METHOD(enough_workers, "tbb_executor: products have the same bits") {
  check_same_bits<tbb_executor>();
}

TEST_CASE_METHOD(enough_workers, "tbb_executor: has at least one thread") {
  check_bad_thread_counts<tbb_executor>();
}

}  // namespace
}  // namespace intact_test::tbb_test
