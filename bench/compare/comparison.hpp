#pragma once

#include <cstdlib>
#include <exception>
#include <memory>
#include <string>

#include "compare/peer.hpp"
#include "compare/report.hpp"
#include "program.hpp"

// The comparison of any operation but gemm, whose large outputs are checked in part and whose weights may be cold.

namespace intact_bench {

/// How many codes differ by more than `tolerance`; a program that has no codes differs nowhere.
inline std::int64_t count_differences(const program& one, const task& of, int tolerance) {
  const std::vector<std::int32_t> codes = one.outputs();
  std::int64_t differences = 0;
  for (std::size_t i = 0; i < codes.size(); ++i) {
    differences += std::abs(codes[i] - of.expected[i]) > tolerance ? 1 : 0;
  }
  return differences;
}

/// Whether our codes are those of the specification; tells the report if not.
inline bool is_right(program& ours, const task& of, const std::string& operation, report& to) {
  ours.run();
  const bool complete = ours.outputs().size() == of.expected.size();
  const std::int64_t wrong = complete ? count_differences(ours, of, 0) : std::ssize(of.expected);
  if (wrong != 0) {
    to.add_failure(operation + ' ' + of.shape + ' ' + of.output + ": " + std::to_string(wrong) +
                   " of our outputs are wrong");
  }
  return wrong == 0;
}

/// Ours against one peer.
inline void measure(program& ours, program& theirs, const task& of, const effort& limits, row& result) {
  theirs.run();
  result.method = theirs.method();
  if (!theirs.outputs().empty()) {
    result.outputs = std::ssize(of.expected);
    result.peer_codes_off = count_differences(theirs, of, 1);
  }
  result.measured = alternate(ours, theirs, limits);
}

/// Ours alone.
inline void measure(program& ours, const effort& limits, row& result) {
  const auto call = [&](std::size_t calls) { return ours.time(calls); };
  const std::size_t calls = calls_per_turn(call, limits.turn);
  const clock::time_point start = clock::now();
  while (goes_on(limits, result.measured.ours.size(), seconds_since(start))) {
    result.measured.ours.push_back(take_turn(call, calls, limits.pause));
  }
}

/// Checks ours, then measures it against all peers that the user wants, and those in `more`; alone, if there are none.
template <class Task>
void compare_with_peers(const std::string& operation, const Task& of, program& ours, const options& given, report& to,
                        std::vector<peer<Task>> more = {}) {
  if (!is_right(ours, of, operation, to)) {
    return;
  }
  const std::vector<peer<Task>> wanted = wanted_peers<Task>(given);
  more.insert(more.end(), wanted.begin(), wanted.end());
  row alike;
  alike.shape = of.shape;
  alike.output = of.output;
  alike.operations = of.operations;
  if (more.empty()) {
    measure(ours, effort_for(given, false), alike);
    to.add(operation, alike);
  }
  for (const peer<Task>& peer : more) {
    row result = alike;
    result.peer = peer.name;
    try {
      const std::unique_ptr<program> theirs = peer.make(of);
      measure(ours, *theirs, of, effort_for(given, peer.has_own_threads && of.threads > 1), result);
    } catch (const std::exception& error) {
      result.problem = error.what();
    }
    to.add(operation, result);
  }
}

}  // namespace intact_bench
