#include <cstdint>
#include <limits>
#include <type_traits>
#include <vector>

#include "catch.hpp"
#include "intact/types/executor_ref.hpp"
#include "reversed_executor.hpp"

namespace intact_test::executor_ref_test {
namespace {

using intact::executor_ref;
using intact::index_t;

static_assert(std::is_trivially_copyable_v<executor_ref>);

TEST_CASE("executor_ref: runs tasks on the executor, in its order", "[executor]") {
  const reversed_executor run;
  const executor_ref reference(run);
  const executor_ref copy = reference;
  CHECK(copy.threads() == 3);
  std::vector<index_t> order;
  copy.for_each(4, [&](index_t i) { order.push_back(i); });
  CHECK(order == std::vector<index_t>{3, 2, 1, 0});
  copy.for_each(0, [&](index_t i) { order.push_back(i); });
  CHECK(order.size() == 4);
}

TEST_CASE("executor_ref: runs tasks in tasks", "[executor]") {
  const intact::sequential run;
  const executor_ref reference(run);
  CHECK(reference.threads() == 1);
  index_t sum = 0;
  reference.for_each(3, [&](index_t i) { reference.for_each(2, [&](index_t j) { sum += 10 * i + j; }); });
  CHECK(sum == 2 * 30 + 3 * 1);
}

TEST_CASE("units_of_task: tasks have all units between them, in order, and none has two more than another",
          "[executor]") {
  constexpr index_t most = std::numeric_limits<index_t>::max();
  for (const index_t units : {index_t{0}, index_t{1}, index_t{6}, index_t{7}, index_t{64}, most - 1, most}) {
    for (const index_t tasks : {1, 2, 7, 64}) {
      index_t end = 0;
      for (index_t task = 0; task < tasks; ++task) {
        const intact::row_range mine = intact::units_of_task(units, task, tasks);
        CHECK(mine.begin == end);
        CHECK((mine.size() == units / tasks || mine.size() == units / tasks + 1));
        end = mine.end;
      }
      CHECK(end == units);
    }
  }
}

}  // namespace
}  // namespace intact_test::executor_ref_test
