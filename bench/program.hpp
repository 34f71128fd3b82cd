#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "intact/executors/openmp.hpp"
#include "intact/types/executor.hpp"
#include "rounds.hpp"

namespace intact_bench {

/// The task of an operation on given operands, for ours and for peers. Operations derive their tasks from it.
struct task {
  std::string shape;
  std::string output;
  double operations = 0;  ///< twice the multiplications of bytes; 0 if they do not take most of the time
  int threads = 1;
  std::vector<std::int32_t> expected;  ///< the outputs' codes, from the specification
};

/// A way to compute a task. Everything that can be prepared is done when it is constructed.
class program {
 public:
  program() = default;
  program(const program&) = delete;
  virtual ~program() = default;

  virtual void run() = 0;

  /// Seconds per call.
  virtual double time(std::size_t calls) {
    return time_calls([this] { run(); }, calls);
  }

  /// The codes of the last run, those that the task expects; none if they mean something else.
  virtual std::vector<std::int32_t> outputs() const = 0;

  /// Which of a library's functions it is, if there is a choice.
  virtual std::string method() const { return ""; }
};

/// Ours, peer, ours, peer, ...
inline rounds alternate(program& ours, program& peer, const effort& limits) {
  return alternate([&](std::size_t calls) { return ours.time(calls); },
                   [&](std::size_t calls) { return peer.time(calls); }, limits);
}

/// Calls f with an executor of that many threads.
template <class F>
void with_threads(int threads, const F& f) {
  if (threads == 1) {
    f(intact::sequential());
  } else {
    f(intact::openmp_executor(threads));
  }
}

}  // namespace intact_bench
