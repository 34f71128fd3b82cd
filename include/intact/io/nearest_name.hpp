#pragma once

#include <algorithm>
#include <cstddef>
#include <map>
#include <numeric>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "intact/config/compiler.hpp"
#include "intact/io/safetensors_types.hpp"

// Names of tensors that a loader does not know, with the known names that are most like them.

namespace intact {
inline namespace INTACT_UNIT {

/// The smallest number of inserted, deleted and replaced bytes that makes one text of another.
///
/// Source:    Levenshtein, Binary codes capable of correcting deletions, insertions and reversals, 1966.
inline std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);  // the distances of a prefix of a from all prefixes of b
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i + 1;
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t replaced = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replaced, row[j] + 1, diagonal + 1});
    }
  }
  return row.back();
}

/// A name whose parts that are numbers are "*", and these numbers: "blocks.3.norm1" is "blocks.*.norm1" of 3.
struct name_pattern {
  std::string text;                  ///< with "*" for numbers
  std::vector<std::string> numbers;  ///< in their order

  /// Takes a name apart.
  explicit name_pattern(std::string_view name) {
    for (std::size_t begin = 0; begin <= name.size();) {
      const std::size_t end = std::min(name.find('.', begin), name.size());
      const std::string_view part = name.substr(begin, end - begin);
      const bool number =
          !part.empty() && std::all_of(part.begin(), part.end(), [](char c) { return c >= '0' && c <= '9'; });
      if (number) {
        numbers.emplace_back(part);
      }
      text += (begin == 0 ? "" : ".") + (number ? "*" : std::string(part));
      begin = end + 1;
    }
  }

  /// Another pattern with the numbers of this one.
  std::string fill(std::string_view other) const {
    std::string filled;
    std::size_t next = 0;
    for (const char c : other) {
      filled += c == '*' && next < numbers.size() ? numbers[next++] : std::string(1, c);
    }
    return filled;
  }
};

/// An unknown name: as a file has it, and as it is compared with known ones.
struct unknown_name {
  std::string shown;     ///< as the file has it
  std::string compared;  ///< as it is compared
};

/// Lists unknown names, each with the nearest of the known patterns by edit distance. Names that differ in numbers
/// alone are one entry, which counts them. At most 20 entries are shown, the others are counted.
inline std::string list_unknown(const std::vector<unknown_name>& names, const std::set<std::string>& known) {
  constexpr std::size_t most = 20, longest = 200;  // a hostile file has many and long names
  struct alike {
    const unknown_name* first;
    std::size_t count = 0;
  };
  std::map<std::string, alike> groups;
  for (const unknown_name& name : names) {
    ++groups.try_emplace(name_pattern(name.compared).text, alike{&name}).first->second.count;
  }
  std::string list;
  std::size_t shown = 0;
  for (const auto& [pattern, group] : groups) {
    if (shown++ == most) {
      return list + ", and " + std::to_string(groups.size() - most) + " other kinds of names";
    }
    list += (list.empty() ? "" : ", ") + in_quotes(group.first->shown);
    if (group.count > 1) {
      list += " and " + std::to_string(group.count - 1) + " alike";
    }
    const std::string text = pattern.substr(0, longest);
    const auto distance = [&](const std::string& other) { return edit_distance(text, other.substr(0, longest)); };
    const auto nearest = std::min_element(known.begin(), known.end(), [&](const std::string& a, const std::string& b) {
      return distance(a) < distance(b);
    });
    if (nearest != known.end()) {
      list += " (nearest known name " + in_quotes(name_pattern(group.first->compared).fill(*nearest)) + ')';
    }
  }
  return list;
}

}  // namespace INTACT_UNIT
}  // namespace intact
