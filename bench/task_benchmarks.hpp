#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "benchmarks.hpp"
#include "intact/simd/isa.hpp"
#include "peak.hpp"
#include "program.hpp"
#include "rounds.hpp"

namespace intact_bench {

/// A task with our program, of this machine's best instructions.
class task_with_program {
 public:
  template <class Program, class Task>
  static std::unique_ptr<task_with_program> make(std::unique_ptr<Task> task) {
    auto made = std::make_unique<task_with_program>();
    made->program_ = std::make_unique<Program>(*task);
    made->task_ = std::move(task);
    return made;
  }

  void run() { program_->run(); }
  double operations() const { return task_->operations; }

  std::int64_t count_wrong() const {
    const std::vector<std::int32_t> outputs = program_->outputs();
    std::int64_t wrong = std::ssize(task_->expected) - std::ssize(outputs);
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      wrong += outputs[i] != task_->expected[i] ? 1 : 0;
    }
    return wrong;
  }

 private:
  std::unique_ptr<const task> task_;
  std::unique_ptr<program> program_;
};

/// Registers a benchmark of one thread; `make_task` is called when it runs. It reports `rows` per second and, of
/// operations that byte products take the time of, their speed and its share of the peak.
template <class Program, class MakeTask>
void add_task_benchmark(const std::string& name, index_t rows, const MakeTask& make_task) {
  const auto measure = [name, rows, make_task](benchmark::State& state) {
    task_with_program* const measured =
        checked<task_with_program>(name, [&] { return task_with_program::make<Program>(make_task()); });
    if (measured == nullptr) {
      state.SkipWithError("wrong outputs");
      return;
    }
    const clock::time_point start = clock::now();
    for ([[maybe_unused]] auto _ : state) {
      measured->run();
      benchmark::ClobberMemory();
    }
    const double seconds_per_call = seconds_since(start) / static_cast<double>(state.iterations());
    state.counters["rows/s"] = static_cast<double>(rows) / seconds_per_call;
    if (measured->operations() != 0) {
      static const double peak = peak_gops<intact::isa::native>();
      const double gops = 1e-9 * measured->operations() / seconds_per_call;
      state.counters["GOPS"] = gops;
      state.counters["peak%"] = 100 * gops / peak;
    }
  };
  benchmark::RegisterBenchmark(name.c_str(), measure)->UseRealTime()->Unit(benchmark::kMicrosecond);
}

}  // namespace intact_bench
