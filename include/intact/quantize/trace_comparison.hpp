#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>

#include "intact/config/floating_point.hpp"
#include "intact/quantize/double_operations.hpp"
#include "intact/reference/model/trace.hpp"

// The tensors of an evaluation in real arithmetic, by name, and their comparison with those of a trace.

namespace intact {
inline namespace INTACT_UNIT {

namespace double_precision {

using real::code_matrix;

/// Which tensor of a model; see model/trace.hpp.
struct tensor_name {
  std::string name;     ///< as in model/trace.hpp
  index_t block = -1;   ///< -1: outside the blocks
  index_t head = -1;    ///< -1: all heads
  index_t window = -1;  ///< -1: all windows

  /// By name, block, head and window.
  auto operator<=>(const tensor_name&) const = default;

  /// The name for people.
  std::string text() const {
    return name + (block < 0 ? "" : ", block " + std::to_string(block)) +
           (head < 0 ? "" : ", head " + std::to_string(head)) +
           (window < 0 ? "" : ", window " + std::to_string(window));
  }
};

/// All tensors of one evaluation.
using tensors = std::map<tensor_name, code_matrix>;

/// Keeps a tensor, and refers to it.
inline const code_matrix& keep(tensors& all, const tensor_name& name, code_matrix codes) {
  return all.insert_or_assign(name, std::move(codes)).first->second;
}

/// Outcome of a comparison. A tensor that is missing, unexpected, repeated or of another shape counts as one mismatch.
struct comparison {
  std::int64_t compared = 0;    ///< values
  std::int64_t mismatched = 0;  ///< that differ
  std::string first_mismatch;   ///< "qkv, block 0, (3, 5): expected 7, found 8"; empty if there is none
};

/// A trace that compares every tensor it is shown with the expected one. The expected tensors must outlive it.
class trace_comparison {
 public:
  /// Compares with these tensors.
  explicit trace_comparison(const tensors& expected) : expected_(expected) {}
  explicit trace_comparison(const tensors&&) = delete;

  /// Compares one tensor.
  template <class View>
  void operator()(const trace_site& site, const View& found) {
    const tensor_name name{std::string(site.name), site.block, site.head, site.window};
    const auto entry = expected_.find(name);
    if (entry == expected_.end()) {
      report(seen_, name.text() + ": not expected");
    } else if (!shown_.insert(name).second) {
      report(seen_, name.text() + ": shown twice");
    } else if (found.rows != entry->second.rows || found.columns != entry->second.columns) {
      report(seen_, name.text() + ": expected " + size_text(entry->second) + ", found " + size_text(found));
    } else {
      compare(name, entry->second, found);
    }
  }

  /// The mismatches so far, and one for every tensor that was not shown.
  comparison result() const {
    comparison outcome = seen_;
    for (const auto& [name, codes] : expected_) {
      if (!shown_.contains(name)) {
        report(outcome, name.text() + ": never shown");
      }
    }
    return outcome;
  }

 private:
  static void report(comparison& outcome, const std::string& mismatch) {
    if (outcome.mismatched == 0) {
      outcome.first_mismatch = mismatch;
    }
    ++outcome.mismatched;
  }

  template <class Matrix>
  static std::string size_text(const Matrix& matrix) {
    return std::to_string(matrix.rows) + " x " + std::to_string(matrix.columns);
  }

  template <class View>
  void compare(const tensor_name& name, const code_matrix& expected, const View& found) {
    for (index_t i = 0; i < expected.rows; ++i) {
      for (index_t j = 0; j < expected.columns; ++j) {
        const std::int64_t code = found(i, j);
        if (code == expected(i, j)) {
          continue;
        }
        if (seen_.mismatched == 0) {
          seen_.first_mismatch = name.text() + ", (" + std::to_string(i) + ", " + std::to_string(j) + "): expected " +
                                 std::to_string(expected(i, j)) + ", found " + std::to_string(code);
        }
        ++seen_.mismatched;
      }
    }
    seen_.compared += expected.rows * expected.columns;
  }

  const tensors& expected_;
  std::set<tensor_name> shown_;
  comparison seen_;
};

}  // namespace double_precision

}  // namespace INTACT_UNIT
}  // namespace intact
