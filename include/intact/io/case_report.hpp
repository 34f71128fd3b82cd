#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "intact/config/compiler.hpp"
#include "intact/config/floating_point.hpp"

// Reports of comparisons with recorded tensors: the counts, the first differences, and the claims that hold.

namespace intact {
inline namespace INTACT_UNIT {

namespace recorded {

/// The claim of a comparison.
///
///   exact       every code is equal
///   bounded     at most 3 of 100,000 differ, summed over a function's bounded comparisons; by one code; each explained
///   explained   any number may differ, each with a reason that has been checked
///   within_one  any number may differ by one code
///   reported    nothing
enum class claim { exact, bounded, explained, within_one, reported };

/// Codes of 100,000 that may differ under a bounded claim.
inline constexpr std::int64_t bounded_per_100000 = 3;

/// The claim's name in reports.
inline const char* name_of(claim c) {
  constexpr const char* names[] = {"exact", "bounded", "explained", "within 1", "reported"};
  return names[static_cast<std::size_t>(c)];
}

/// One value that differs. The reason is empty where none is known.
struct difference {
  std::vector<std::int64_t> position;  ///< index in the recorded tensor
  /// The recorded value, and the library's.
  std::string expected, found;
  std::string reason;  ///< why it may differ
};

/// "[1, 4, 7]"
inline std::string printable(const std::vector<std::int64_t>& position) {
  std::string text;
  for (const std::int64_t i : position) {
    text += (text.empty() ? "" : ", ") + std::to_string(i);
  }
  return '[' + text + ']';
}

/// Counts of comparisons, of one tensor or of many.
struct counts {
  std::int64_t compared = 0;     ///< values
  std::int64_t mismatched = 0;   ///< that differ
  std::int64_t unexplained = 0;  ///< of these, without a reason
  double largest = 0;            ///< difference

  /// Adds the counts of another comparison.
  void add(const counts& other) {
    compared += other.compared;
    mismatched += other.mismatched;
    unexplained += other.unexplained;
    largest = std::max(largest, other.largest);
  }

  /// Whether a claim holds, but for the rate of `bounded`, which is one of a whole function.
  bool hold(claim c) const {
    switch (c) {
      case claim::exact:
        return mismatched == 0;
      case claim::bounded:
        return largest <= 1 && unexplained == 0;
      case claim::explained:
        return unexplained == 0;
      case claim::within_one:
        return largest <= 1;
      case claim::reported:
        return true;
    }
    return false;
  }
  /// Whether a bounded claim's rate holds.
  bool within_bound() const { return mismatched * 100000 <= bounded_per_100000 * compared; }
};

/// The comparison of one recorded tensor with the library's.
struct tensor_comparison {
  static constexpr std::size_t most_kept = 5;  ///< differences that are kept for reports

  std::string tensor;               ///< the recorded name
  std::string operation;            ///< what made it
  claim must = claim::exact;        ///< what must hold
  std::vector<std::int64_t> shape;  ///< of the recorded tensor
  counts count;                     ///< of its values
  std::vector<difference> refused;  ///< the first of those that break the claim
  std::vector<difference> allowed;  ///< the first of the others

  /// Compares the value at a position of the recorded tensor, counted in its memory. `reason` is called if it differs.
  template <class T, class Reason>
  void compare(std::size_t at, T found, T expected, Reason reason) {
    counts one{.compared = 1};
    if (found != expected) {
      const double distance = std::fabs(static_cast<double>(found) - static_cast<double>(expected));
      const std::string why = reason();
      one.mismatched = 1;
      one.largest = std::isnan(distance) ? INFINITY : distance;
      one.unexplained = why.empty() ? 1 : 0;
      std::vector<difference>& kept = one.hold(must) ? allowed : refused;
      if (kept.size() < most_kept) {
        kept.push_back({position(at), std::to_string(expected), std::to_string(found), why});
      }
    }
    count.add(one);
  }
  /// Compares one value, at its position in row-major order.
  template <class T>
  void compare(std::size_t at, T found, T expected) {
    compare(at, found, expected, [] { return std::string(); });
  }

 private:
  std::vector<std::int64_t> position(std::size_t at) const {
    std::vector<std::int64_t> result(shape.size());
    auto rest = static_cast<std::int64_t>(at);
    for (std::size_t dimension = shape.size(); dimension-- > 0;) {
      result[dimension] = rest % shape[dimension];
      rest /= shape[dimension];
    }
    return result;
  }
};

/// The comparisons of one recorded case.
struct case_report {
  /// Whether the case was compared.
  enum class outcome { verified, unsupported, unreadable };

  std::string name;                        ///< of the file
  std::string function;                    ///< as the file says
  std::string group;                       ///< of the summary
  outcome result = outcome::verified;      ///< whether it was compared
  std::string problem;                     ///< why it is unsupported or unreadable
  std::vector<tensor_comparison> tensors;  ///< in the order of comparison

  /// Adds the comparison of a tensor.
  void add(tensor_comparison tensor) { tensors.push_back(std::move(tensor)); }
  /// Whether any of the recorded tensors has values. A layer of 0 rows has none.
  bool has_values() const {
    return std::any_of(tensors.begin(), tensors.end(), [](const tensor_comparison& tensor) {
      return std::find(tensor.shape.begin(), tensor.shape.end(), 0) == tensor.shape.end();
    });
  }
  /// Whether all claims hold.
  bool holds() const {
    return std::all_of(tensors.begin(), tensors.end(),
                       [](const tensor_comparison& tensor) { return tensor.count.hold(tensor.must); });
  }
};

/// The sum of all comparisons of one operation in the cases of one function.
struct summary_row {
  std::string group;          ///< of functions
  std::string operation;      ///< what made the tensors
  claim must = claim::exact;  ///< what must hold
  std::int64_t cases = 0;     ///< that have such tensors
  std::int64_t tensors = 0;   ///< that were compared
  counts count;               ///< of all values
};

/// The bounded comparisons of one function.
struct bounded_total {
  std::string group;  ///< of functions
  counts count;       ///< of all values of bounded claims
};

/// The sums over all cases.
struct summary {
  std::vector<summary_row> rows;       ///< one per operation and claim
  std::vector<bounded_total> bounded;  ///< one per group
  /// Cases of each outcome.
  std::int64_t verified = 0, unsupported = 0, unreadable = 0;

  /// Whether all claims hold.
  bool holds() const {
    return std::all_of(rows.begin(), rows.end(), [](const summary_row& row) { return row.count.hold(row.must); }) &&
           std::all_of(bounded.begin(), bounded.end(),
                       [](const bounded_total& total) { return total.count.within_bound(); });
  }
};

/// The element with this key, added at the end if there is none.
template <class Element, class Same>
Element& find_or_add(std::vector<Element>& elements, Element added, Same same) {
  const auto found = std::find_if(elements.begin(), elements.end(), same);
  return found != elements.end() ? *found : elements.emplace_back(std::move(added));
}

/// Adds a case to the sums.
inline void sum_up(const case_report& report, summary& all) {
  for (const tensor_comparison& tensor : report.tensors) {
    summary_row& row =
        find_or_add(all.rows, {.group = report.group, .operation = tensor.operation, .must = tensor.must, .count = {}},
                    [&](const summary_row& r) {
                      return r.group == report.group && r.operation == tensor.operation && r.must == tensor.must;
                    });
    row.count.add(tensor.count);
    ++row.tensors;
    if (tensor.must == claim::bounded) {
      find_or_add(all.bounded, {report.group, {}}, [&](const bounded_total& t) {
        return t.group == report.group;
      }).count.add(tensor.count);
    }
  }
  for (summary_row& row : all.rows) {
    row.cases +=
        std::any_of(report.tensors.begin(), report.tensors.end(),
                    [&](const tensor_comparison& tensor) {
                      return row.group == report.group && row.operation == tensor.operation && row.must == tensor.must;
                    })
            ? 1
            : 0;
  }
}

/// The sums over all reports, a row for each group, operation and claim.
inline summary sum_up(const std::vector<case_report>& reports) {
  summary all;
  for (const case_report& report : reports) {
    all.verified += report.result == case_report::outcome::verified ? 1 : 0;
    all.unsupported += report.result == case_report::outcome::unsupported ? 1 : 0;
    all.unreadable += report.result == case_report::outcome::unreadable ? 1 : 0;
    sum_up(report, all);
  }
  std::stable_sort(all.rows.begin(), all.rows.end(),
                   [](const summary_row& a, const summary_row& b) { return a.group < b.group; });
  return all;
}

}  // namespace recorded

}  // namespace INTACT_UNIT
}  // namespace intact
