#pragma once

#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <benchmark/benchmark.h>

#include "program_version.hpp"

// Helpers shared by the programs made with Google Benchmark.

namespace intact_bench {

/// Whether any configuration has been wrong.
inline bool& any_wrong() {
  static bool wrong = false;
  return wrong;
}

/// The measured function, checked: it counts its wrong outputs after a run. None if there are any. Google
/// Benchmark calls a benchmark several times in a row; it is made once, and the one before is forgotten.
template <class Measured>
Measured* checked(const std::string& name, const std::function<std::unique_ptr<Measured>()>& make) {
  static std::string last_name;
  static std::unique_ptr<Measured> last;
  if (name != last_name) {
    last_name = name;
    last.reset();
    last = make();
    last->run();
    if (const std::int64_t wrong = last->count_wrong(); wrong != 0) {
      std::fprintf(stderr, "%s: %lld outputs are wrong\n", name.c_str(), static_cast<long long>(wrong));
      any_wrong() = true;
      last.reset();
    }
  }
  return last.get();
}

/// Runs the benchmarks that `add(quick)` registers. --quick is not for measuring; all other options but
/// --version are Google Benchmark's. The exit code.
template <class Add>
int run_benchmarks(int argc, char** argv, const Add& add) {
  if (intact_examples::print_version(argc, argv)) {
    return 0;
  }
  std::vector<char*> arguments(argv, argv + argc);
  char briefly[] = "--benchmark_min_time=0.0001";
  char normally[] = "--benchmark_min_time=0.1";
  const bool quick = std::erase_if(arguments, [](const char* x) { return std::strcmp(x, "--quick") == 0; }) != 0;
  arguments.insert(arguments.begin() + 1, quick ? briefly : normally);
  add(quick);
  int count = static_cast<int>(arguments.size());
  benchmark::Initialize(&count, arguments.data());
  if (benchmark::ReportUnrecognizedArguments(count, arguments.data())) {
    return 2;
  }
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return any_wrong() ? 1 : 0;
}

}  // namespace intact_bench
