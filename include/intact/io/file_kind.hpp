#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <string>
#include <string_view>

#include "intact/config/compiler.hpp"

// Files of other formats, known by their first bytes, for the messages of those who expected another one.

namespace intact {
inline namespace INTACT_UNIT {
namespace detail {

/// As many of a file's first bytes as file_kind looks at.
inline constexpr std::size_t file_kind_bytes = 64;

struct file_signature {
  std::string_view bytes;
  std::string_view kind;
};

inline constexpr std::array file_signatures{
    file_signature{"version https://git-lfs.github.com/spec/",
                   "a Git LFS pointer in place of the file, which `git lfs pull` downloads"},
    file_signature{"PK\x03\x04", "a ZIP archive, such as torch.save and numpy.savez write"},
    file_signature{"\x89HDF\r\n\x1a\n", "an HDF5 file"},
    file_signature{"\x93NUMPY", "a NumPy array"},
    file_signature{"GGUF", "a GGUF file"},
    file_signature{"\x1f\x8b", "a gzip archive"},
    file_signature{"{", "a JSON text, such as the index of a checkpoint of several files"},
};

constexpr bool is_white_space(char c) {
  return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/// Whether a file begins like a pickle of protocol 0 or 1. They have no signature: it is a list, a dictionary, the
/// number that torch.save begins with, or "c", a module, "\n", a class, "\n" and one of "pq(".
inline bool begins_like_old_pickle(std::string_view begin) {
  using namespace std::string_view_literals;
  constexpr std::array begins{"(dp"sv, "(lp"sv, "}q\0"sv, "]q\0"sv, "L119547037146038801333356L\n"sv};
  if (std::any_of(begins.begin(), begins.end(), [&](std::string_view text) { return begin.starts_with(text); })) {
    return true;
  }
  const auto remove_name = [&begin] {  // and the line's end
    const std::size_t end = begin.find_first_not_of("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz.");
    if (end == 0 || end == std::string_view::npos || begin[end] != '\n') {
      return false;
    }
    begin.remove_prefix(end + 1);
    return true;
  };
  return begin.starts_with('c') && remove_name() && remove_name() && begin.find_first_of("pq(") == 0;
}

/// The kind of a file that begins so, for messages; empty if it is not known.
inline std::string file_kind(std::string_view begin) {
  begin = begin.substr(0, file_kind_bytes);
  for (const file_signature& signature : file_signatures) {
    if (begin.starts_with(signature.bytes)) {
      return std::string(signature.kind);
    }
  }
  const bool has_protocol = begin.size() >= 2 && begin[0] == '\x80' && begin[1] >= 2 && begin[1] <= 5;
  if (has_protocol || begins_like_old_pickle(begin)) {
    return "a pickle file, such as old versions of torch.save write";
  }
  if (begin.size() >= 5 && begin[0] == '\x08' && begin[2] == '\x12' && begin[4] > ' ') {  // version, producer's name
    return "an ONNX model";
  }
  const bool is_text = !begin.empty() && std::all_of(begin.begin(), begin.end(), [](char c) {
    return is_white_space(c) || (c >= ' ' && c <= '~');
  });
  if (!is_text) {
    return "";
  }
  const std::size_t first = std::min(begin.find_first_not_of(" \t\r\n"), begin.size());
  if (begin.substr(first).starts_with('<')) {
    return "an HTML or XML text, such as the error page of a download";
  }
  std::string line(begin.substr(first));
  line.resize(std::min(line.find_first_of("\t\r\n"), line.size()));
  return "a text that begins with \"" + line + '"';
}

}  // namespace detail
}  // namespace INTACT_UNIT
}  // namespace intact
