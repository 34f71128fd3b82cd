#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "rounds.hpp"

namespace intact_bench {

/// The options of the program.
struct options {
  std::string isa;  ///< of ours; that of the peers is limited to it, where they allow
  bool isa_is_native = true;
  int threads = 1;
  std::string shapes = "table";  ///< or "all", or "quick": few, measured briefly
  std::string weights = "int8";
  std::vector<std::string> peers;  ///< those whose names start with one of these; all, if there are none

  bool wants(const std::string& peer) const {
    for (const std::string& start : peers) {
      if (peer.starts_with(start)) {
        return true;
      }
    }
    return peers.empty();
  }
};

/// One comparison.
struct row {
  std::string shape;
  std::string weights;
  std::string output;
  std::string caches = "warm";  ///< or "cold": weights that have left the second-level cache
  std::string peer;
  std::string method;     ///< of the peer, if it offers several
  double operations = 0;  ///< twice the multiplications of bytes; 0 if they do not take most of the time
  rounds measured;

  /// The peer's s32 outputs that are not the exact sums; none if it has no such outputs.
  std::optional<std::int64_t> peer_wrong;
  /// The peer's codes that differ from ours by more than one; none if the outputs are no codes.
  std::optional<std::int64_t> peer_codes_off;
  std::int64_t outputs = 0;  ///< how many were compared
  std::string problem;       ///< why there is no measurement
};

/// Prints each row when it is there, and keeps it.
class report {
 public:
  report(const options& given, double peak_gops) : given_(given), peak_gops_(peak_gops) {}

  void add(const std::string& operation, const row& row);

  /// The parts of an operation of ours, and the seconds that each takes.
  using named_seconds = std::vector<std::pair<std::string, double>>;
  void add_parts(const std::string& operation, const std::string& shape, const std::string& output,
                 const named_seconds& parts);

  /// Ours is wrong: the program will fail.
  void add_failure(const std::string& what);

  /// Writes everything as JSON; throws if that is impossible.
  void write(const std::string& path) const;

  bool failed() const { return !failures_.empty(); }

 private:
  struct entry {
    std::string operation;
    row measured;
  };

  struct divided {
    std::string operation, shape, output;
    named_seconds parts;
  };

  void print(const row& row) const;
  double share_of_peak(const row& row) const;

  const options given_;
  const double peak_gops_;
  std::string printed_operation_;
  std::vector<entry> entries_;
  std::vector<divided> divided_;
  std::vector<std::string> failures_;
};

}  // namespace intact_bench
