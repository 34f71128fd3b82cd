#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <thread>
#include <type_traits>
#include <vector>

// Two programs are measured in turns, so that whatever slows the machine slows both, and only their ratio is trusted.

namespace intact_bench {

/// How long two programs are measured.
struct effort {
  double seconds = 0.4;     ///< of all rounds, unless the least number of rounds takes longer
  std::size_t rounds = 11;  ///< at least; but three suffice where these take ten times as long
  double turn = 100e-6;     ///< a turn of fewer seconds is made of several calls
  double pause = 0;         ///< before each turn: until the other's waiting threads have left the processor
};

/// Whether to go on after so many rounds and seconds.
inline bool goes_on(const effort& limits, std::size_t rounds, double seconds) {
  const bool is_slow = rounds >= 3 && seconds > 10 * limits.seconds;
  return !is_slow && (rounds < limits.rounds || seconds < limits.seconds);
}

/// Seconds per call, one element of each per round.
struct rounds {
  std::vector<double> ours;
  std::vector<double> peer;
};

/// The quantile `part` of the sorted values, interpolated between two of them.
inline double quantile(std::vector<double> values, double part) {
  std::sort(values.begin(), values.end());
  const double position = part * static_cast<double>(values.size() - 1);
  const auto below = static_cast<std::size_t>(position);
  const std::size_t above = std::min(below + 1, values.size() - 1);
  return values[below] + (position - static_cast<double>(below)) * (values[above] - values[below]);
}

inline double median(const std::vector<double>& values) {
  return quantile(values, 0.5);
}

/// How many times faster we are: the ratio of the medians, and the quartiles of the rounds' ratios.
struct speed_ratio {
  double ratio = 0;
  double low = 0;
  double high = 0;
};

inline speed_ratio compare_medians(const rounds& measured) {
  std::vector<double> ratios;
  for (std::size_t i = 0; i < measured.ours.size(); ++i) {
    ratios.push_back(measured.peer[i] / measured.ours[i]);
  }
  return {.ratio = median(measured.peer) / median(measured.ours),
          .low = quantile(ratios, 0.25),
          .high = quantile(ratios, 0.75)};
}

using clock = std::chrono::steady_clock;

inline double seconds_since(clock::time_point start) {
  return std::chrono::duration<double>(clock::now() - start).count();
}

/// Seconds per call. A function that measures itself takes the number of calls and returns the seconds per call.
template <class Call>
double time_calls(const Call& call, std::size_t calls) {
  if constexpr (std::is_invocable_v<Call, std::size_t>) {
    return call(calls);
  } else {
    const clock::time_point start = clock::now();
    for (std::size_t i = 0; i < calls; ++i) {
      call();
    }
    return seconds_since(start) / static_cast<double>(calls);
  }
}

/// One turn: a call that brings the data back into the caches is not timed.
template <class Call>
double take_turn(const Call& call, std::size_t calls, double pause) {
  if (pause > 0) {
    std::this_thread::sleep_for(std::chrono::duration<double>(pause));
  }
  time_calls(call, 1);
  return time_calls(call, calls);
}

/// How many calls make up a turn.
template <class Call>
std::size_t calls_per_turn(const Call& call, double turn) {
  time_calls(call, 1);
  std::size_t calls = 1;
  while (calls < 1'000'000 && time_calls(call, calls) * static_cast<double>(calls) < turn) {
    calls *= 2;
  }
  return calls;
}

/// Ours, peer, ours, peer, ...
template <class Ours, class Peer>
rounds alternate(const Ours& ours, const Peer& peer, const effort& limits) {
  const std::size_t our_calls = calls_per_turn(ours, limits.turn);
  const std::size_t peer_calls = calls_per_turn(peer, limits.turn);
  rounds measured;
  const clock::time_point start = clock::now();
  while (goes_on(limits, measured.ours.size(), seconds_since(start))) {
    measured.ours.push_back(take_turn(ours, our_calls, limits.pause));
    measured.peer.push_back(take_turn(peer, peer_calls, limits.pause));
  }
  return measured;
}

}  // namespace intact_bench
