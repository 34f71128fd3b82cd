#pragma once

#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "intact/config/compiler.hpp"

// What reading and writing safetensors files share: errors, types, tensors, and the header with its checks.

namespace intact {
inline namespace INTACT_UNIT {

/// The longest header in bytes: the format's own limit.
inline constexpr std::uint64_t safetensors_max_header = 100'000'000;

/// The most sizes that a shape may have.
inline constexpr std::size_t safetensors_max_rank = 64;

/// A file that cannot be read or written. The message starts with the file's name.
class file_error : public std::runtime_error {
 public:
  file_error(const std::string& file, const std::string& problem) : std::runtime_error(file + ": " + problem) {}
};

/// Types of elements: all of the format's that fill whole bytes. Packed 4-bit values are stored as u8.
enum class dtype { boolean, u8, i8, f8_e5m2, f8_e4m3, f8_e8m0, i16, u16, f16, bf16, i32, u32, f32, c64, f64, i64, u64 };

namespace detail {

struct dtype_entry {
  dtype type;
  std::string_view name;
  std::size_t size;
};

inline constexpr std::array dtype_entries{
    dtype_entry{dtype::boolean, "BOOL", 1},    dtype_entry{dtype::u8, "U8", 1},
    dtype_entry{dtype::i8, "I8", 1},           dtype_entry{dtype::f8_e5m2, "F8_E5M2", 1},
    dtype_entry{dtype::f8_e4m3, "F8_E4M3", 1}, dtype_entry{dtype::f8_e8m0, "F8_E8M0", 1},
    dtype_entry{dtype::i16, "I16", 2},         dtype_entry{dtype::u16, "U16", 2},
    dtype_entry{dtype::f16, "F16", 2},         dtype_entry{dtype::bf16, "BF16", 2},
    dtype_entry{dtype::i32, "I32", 4},         dtype_entry{dtype::u32, "U32", 4},
    dtype_entry{dtype::f32, "F32", 4},         dtype_entry{dtype::c64, "C64", 8},
    dtype_entry{dtype::f64, "F64", 8},         dtype_entry{dtype::i64, "I64", 8},
    dtype_entry{dtype::u64, "U64", 8},
};

constexpr bool dtype_entries_follow_dtype() {
  for (std::size_t i = 0; i < dtype_entries.size(); ++i) {
    if (dtype_entries[i].type != static_cast<dtype>(i)) {
      return false;
    }
  }
  return true;
}
static_assert(dtype_entries_follow_dtype() && dtype_entries.back().type == dtype::u64);

inline std::optional<dtype> dtype_named(std::string_view name) {
  for (const dtype_entry& entry : dtype_entries) {
    if (entry.name == name) {
      return entry.type;
    }
  }
  return std::nullopt;
}

inline std::string dtype_names() {
  std::string names;
  for (const dtype_entry& entry : dtype_entries) {
    names += (names.empty() ? "" : ", ") + std::string(entry.name);
  }
  return names;
}

}  // namespace detail

/// The format's name of a type, for example "F32".
constexpr std::string_view dtype_name(dtype type) {
  return detail::dtype_entries.at(static_cast<std::size_t>(type)).name;
}

/// Bytes of one element.
constexpr std::size_t dtype_size(dtype type) {
  return detail::dtype_entries.at(static_cast<std::size_t>(type)).size;
}

/// The type that stores elements of T: an integer by its size and sign, float or double.
template <class T>
constexpr dtype dtype_of() {
  static_assert((std::integral<T> && !std::same_as<T, bool> && sizeof(T) <= 8) || std::same_as<T, float> ||
                    std::same_as<T, double>,
                "tensors are read into and written from integers of up to 64 bits, float and double");
  if constexpr (std::floating_point<T>) {
    return sizeof(T) == 4 ? dtype::f32 : dtype::f64;
  } else if constexpr (std::signed_integral<T>) {
    return sizeof(T) == 1 ? dtype::i8 : sizeof(T) == 2 ? dtype::i16 : sizeof(T) == 4 ? dtype::i32 : dtype::i64;
  } else {
    return sizeof(T) == 1 ? dtype::u8 : sizeof(T) == 2 ? dtype::u16 : sizeof(T) == 4 ? dtype::u32 : dtype::u64;
  }
}

/// What a file says of one tensor, which is row-major and stands in bytes [begin, end) of the file's buffer.
struct tensor_info {
  dtype type = dtype::u8;
  std::vector<std::int64_t> shape;
  std::size_t begin = 0;
  std::size_t end = 0;

  /// Number of elements: the product of the shape, 1 for a scalar.
  std::size_t elements() const { return (end - begin) / dtype_size(type); }
};

/// The contents of a header: the tensors and the metadata by their names.
struct safetensors_header {
  std::map<std::string, tensor_info, std::less<>> tensors;
  std::map<std::string, std::string> metadata;
};

namespace detail {

/// A text of a file, fit for a message: at most 200 bytes, all of them printable.
inline std::string printable(std::string_view text) {
  constexpr std::size_t longest = 200;
  std::string shown(text.substr(0, longest));
  for (char& c : shown) {
    c = c < ' ' || c > '~' ? '?' : c;
  }
  return text.size() > longest ? shown + "..." : shown;
}

inline std::string in_quotes(std::string_view text) {
  return '"' + printable(text) + '"';
}

/// The header's name for the metadata; no tensor can have it.
inline constexpr std::string_view metadata_name = "__metadata__";

/// How messages call an entry of the header.
inline std::string entry_name(std::string_view name) {
  return name == metadata_name ? std::string(name) : "tensor " + in_quotes(name);
}

/// A shape, for messages and for the header.
inline std::string printable(std::span<const std::int64_t> shape) {
  std::string shown = "[";
  for (const std::int64_t size : shape) {
    shown += (shown.size() > 1 ? ", " : "") + std::to_string(size);
  }
  return shown + "]";
}

/// Bytes of a tensor; nothing if a size is negative or the product exceeds 2^63 - 1. A size of 0 counts as 1 there, so
/// that products of some of the sizes, such as strides, fit as well.
inline std::optional<std::uint64_t> tensor_bytes(dtype type, std::span<const std::int64_t> shape) {
  constexpr std::uint64_t limit = std::numeric_limits<std::int64_t>::max();
  std::uint64_t bytes = dtype_size(type);
  bool empty = false;
  for (const std::int64_t size : shape) {
    const std::uint64_t factor = static_cast<std::uint64_t>(std::max<std::int64_t>(size, 1));
    if (size < 0 || bytes > limit / factor) {
      return std::nullopt;
    }
    bytes *= factor;
    empty = empty || size == 0;
  }
  return empty ? 0 : bytes;
}

/// Builds the contents of a header from the events of a JSON parser. A header has a fixed structure, three levels deep,
/// so at every place it is known what may come next: anything else is refused before it is stored.
class safetensors_header_reader {
 public:
  safetensors_header_reader(const std::string& file, std::uint64_t buffer_size)
      : file_(file), buffer_size_(buffer_size) {}

  safetensors_header header;

  bool null() { unexpected("null"); }
  bool boolean(bool value) { unexpected(value ? "true" : "false"); }
  bool number_integer(std::int64_t value) { unexpected(value == 0 ? "-0" : std::to_string(value)); }
  bool number_float(double, const std::string& text) { unexpected(printable(text)); }
  bool binary(nlohmann::json::binary_t&) { unexpected("binary"); }

  bool number_unsigned(std::uint64_t value) {
    if (place_ == place::size && value <= std::uint64_t{std::numeric_limits<std::int64_t>::max()}) {
      if (shape_.size() == safetensors_max_rank) {
        refuse("shape has more than " + std::to_string(safetensors_max_rank) + " sizes");
      }
      shape_.push_back(static_cast<std::int64_t>(value));
    } else if (place_ == place::offset && value <= buffer_size_) {
      if (offset_count_ == offsets_.size()) {
        refuse("data_offsets has more than 2 numbers");
      }
      offsets_[offset_count_++] = static_cast<std::size_t>(value);
    } else {
      unexpected(std::to_string(value));
    }
    return true;
  }

  bool string(const std::string& text) {
    if (place_ == place::metadata_value) {
      header.metadata.emplace(key_, text);
      place_ = place::metadata;
    } else if (place_ == place::type) {
      type_ = dtype_named(text);
      if (!type_.has_value()) {
        refuse("dtype " + in_quotes(text) + " is unknown; it must be one of " + dtype_names());
      }
      place_ = place::tensor;
    } else {
      unexpected(in_quotes(text));
    }
    return true;
  }

  bool start_object(std::size_t) {
    if (place_ == place::start) {
      place_ = place::header;
    } else if (place_ == place::entry) {
      place_ = name_ == metadata_name ? place::metadata : place::tensor;
    } else {
      unexpected("an object");
    }
    return true;
  }

  bool key(const std::string& text) {
    if (place_ == place::header) {
      start_entry(text);
    } else if (place_ == place::metadata) {
      if (header.metadata.contains(text)) {
        refuse("key " + in_quotes(text) + " stands there twice");
      }
      key_ = text;
      place_ = place::metadata_value;
    } else {
      start_field(text);
    }
    return true;
  }

  bool end_object() {
    if (place_ == place::tensor) {
      finish_tensor();
    }
    place_ = place::header;
    return true;
  }

  bool start_array(std::size_t) {
    if (place_ == place::shape) {
      place_ = place::size;
    } else if (place_ == place::data_offsets) {
      place_ = place::offset;
    } else {
      unexpected("an array");
    }
    return true;
  }

  bool end_array() {
    if (place_ == place::offset && offset_count_ != offsets_.size()) {
      refuse("data_offsets has " + std::to_string(offset_count_) + " numbers; it must have 2");
    }
    place_ = place::tensor;
    return true;
  }

  bool parse_error(std::size_t, const std::string&, const nlohmann::json::exception& error) {
    throw file_error(file_, "the header is not valid JSON: " + printable(error.what()));
  }

 private:
  /// Where the parser is: the value or the part of the header that comes next.
  enum class place { start, header, entry, metadata, metadata_value, tensor, type, shape, size, data_offsets, offset };

  void start_entry(const std::string& name) {
    name_ = name;
    if (name.empty()) {
      refuse("the name must not be empty");
    }
    const bool is_metadata = name == metadata_name;
    if (header.tensors.contains(name) || (is_metadata && has_metadata_)) {
      refuse("the name stands there twice");
    }
    has_metadata_ = has_metadata_ || is_metadata;
    type_.reset();
    has_shape_ = false;
    shape_.clear();
    has_offsets_ = false;
    offset_count_ = 0;
    place_ = place::entry;
  }

  void start_field(const std::string& field) {
    bool twice = false;
    if (field == "dtype") {
      twice = type_.has_value();
      place_ = place::type;
    } else if (field == "shape") {
      twice = std::exchange(has_shape_, true);
      place_ = place::shape;
    } else if (field == "data_offsets") {
      twice = std::exchange(has_offsets_, true);
      place_ = place::data_offsets;
    } else {
      refuse("field " + in_quotes(field) + " is unknown; it must be dtype, shape or data_offsets");
    }
    if (twice) {
      refuse("field " + in_quotes(field) + " stands there twice");
    }
  }

  void finish_tensor() {
    if (!type_.has_value() || !has_shape_ || !has_offsets_) {
      refuse(std::string(!type_.has_value() ? "dtype" : !has_shape_ ? "shape" : "data_offsets") + " is missing");
    }
    const auto [begin, end] = offsets_;
    const std::optional<std::uint64_t> bytes = tensor_bytes(*type_, shape_);
    if (!bytes.has_value() || begin > end || end - begin != *bytes) {
      refuse(std::string(dtype_name(*type_)) + " of shape " + printable(shape_) + " has " +
             (bytes.has_value() ? std::to_string(*bytes) : "more than 2^63 - 1") + " bytes; data_offsets are " +
             std::to_string(begin) + " and " + std::to_string(end));
    }
    header.tensors.emplace(name_, tensor_info{*type_, shape_, begin, end});
  }

  [[noreturn]] void refuse(const std::string& problem) const {
    throw file_error(file_, entry_name(name_) + ": " + problem);
  }

  [[noreturn]] void unexpected(const std::string& found) const {
    const auto [subject, rule] = expected();
    refuse(subject + " is " + found + "; it must be " + rule);
  }

  /// What comes next, and what it must be.
  std::pair<std::string, std::string> expected() const {
    switch (place_) {
      case place::metadata_value:
        return {"the value of " + in_quotes(key_), "a string"};
      case place::type:
        return {"dtype", "a string"};
      case place::shape:
        return {"shape", "an array of integers"};
      case place::size:
        return {"a size in shape", "an integer from 0 to 9223372036854775807"};
      case place::data_offsets:
        return {"data_offsets", "an array of 2 integers"};
      case place::offset:
        return {"one of data_offsets", "an integer from 0 to " + std::to_string(buffer_size_) + ", the buffer's size"};
      default:
        return {"the value", "an object"};
    }
  }

  const std::string& file_;
  const std::uint64_t buffer_size_;
  place place_ = place::start;
  std::string name_;  ///< the entry's
  std::string key_;   ///< the metadata's
  std::optional<dtype> type_;
  std::vector<std::int64_t> shape_;
  std::array<std::size_t, 2> offsets_{};
  std::size_t offset_count_ = 0;
  bool has_metadata_ = false;
  bool has_shape_ = false;
  bool has_offsets_ = false;
};

}  // namespace detail
}  // namespace INTACT_UNIT
}  // namespace intact
