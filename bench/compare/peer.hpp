#pragma once

#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "compare/report.hpp"
#include "program.hpp"

namespace intact_bench {

/// Thrown by a library that cannot compute a task.
struct unsupported : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// A library that an operation is compared with.
template <class Task, class Program = program>
struct peer {
  std::string name;
  std::function<std::unique_ptr<Program>(const Task&)> make;
  bool obeys_isa = false;        ///< it can be limited to older instructions when the program runs
  bool has_own_threads = false;  ///< which wait actively, on processors that the others' threads need
};

/// All libraries that the program is linked with.
template <class Task, class Program = program>
std::vector<peer<Task, Program>>& peers_of_task() {
  static std::vector<peer<Task, Program>> peers;
  return peers;
}

/// A constant of this type makes a library known to the comparison.
template <class Task, class Program = program>
struct registered_peer {
  explicit registered_peer(peer<Task, Program> peer) { peers_of_task<Task, Program>().push_back(std::move(peer)); }
};

/// The peers that the user selects and that can run with the user's options.
template <class Task, class Program = program>
std::vector<peer<Task, Program>> wanted_peers(const options& given) {
  std::vector<peer<Task, Program>> wanted;
  for (const auto& peer : peers_of_task<Task, Program>()) {
    if (given.wants(peer.name) && (given.isa_is_native || peer.obeys_isa)) {
      wanted.push_back(peer);
    }
  }
  return wanted;
}

/// `waits`: the peer has threads of its own that wait actively for a while after each call.
inline effort effort_for(const options& given, bool waits) {
  effort limits = given.shapes == "quick" ? effort{0.01, 3} : effort();
  if (waits) {
    limits.pause = 20e-3;
    limits.turn = 2e-3;
  }
  return limits;
}

}  // namespace intact_bench
