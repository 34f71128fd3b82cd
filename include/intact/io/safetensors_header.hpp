#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "intact/config/compiler.hpp"
#include "intact/config/floating_point.hpp"
#include "intact/io/safetensors_types.hpp"

// The header of a safetensors file, read and checked.

namespace intact {
inline namespace INTACT_UNIT {
namespace detail {

/// Builds the contents of a header from the events of a JSON parser. A header has a fixed structure, three levels deep,
/// so at every place the possible next events are known: anything else is refused before it is stored. Fields of a
/// tensor that are not known are skipped.
class safetensors_header_reader {
 public:
  safetensors_header_reader(const std::string& file, std::uint64_t buffer_size)
      : file_(file), buffer_size_(buffer_size) {}

  /// Without the tensors that end beyond the buffer.
  safetensors_header header;

  /// Bytes of the buffer that the tensors need.
  std::uint64_t needed = 0;

  bool null() {
    if (place_ == place::entry && name_ == metadata_name) {
      place_ = place::header;
      return true;
    }
    return skip_value() || unexpected("null");
  }
  bool boolean(bool value) { return skip_value() || unexpected(value ? "true" : "false"); }
  bool number_integer(std::int64_t value) {
    return skip_value() || unexpected(value == 0 ? "-0" : std::to_string(value));
  }
  bool number_float(double, const std::string& text) { return skip_value() || unexpected(printable_text(text)); }
  bool binary(nlohmann::json::binary_t&) { return unexpected("binary"); }

  bool number_unsigned(std::uint64_t value) {
    if (place_ == place::size && value <= std::uint64_t{std::numeric_limits<std::int64_t>::max()}) {
      if (shape_.size() == safetensors_max_rank) {
        refuse("shape has more than " + std::to_string(safetensors_max_rank) + " sizes");
      }
      shape_.push_back(static_cast<std::int64_t>(value));
      return true;
    }
    if (place_ == place::offset) {
      if (offset_count_ == offsets_.size()) {
        refuse("data_offsets has more than 2 numbers");
      }
      offsets_[offset_count_++] = value;
      return true;
    }
    return skip_value() || unexpected(std::to_string(value));
  }

  bool string(const std::string& text) {
    if (place_ == place::metadata_value) {
      header.metadata.emplace(key_, text);
      place_ = place::metadata;
      return true;
    }
    if (place_ == place::type) {
      type_ = dtype_named(text);
      if (!type_.has_value()) {
        refuse("dtype " + in_quotes(text) + " is unknown; it must be one of " + dtype_names());
      }
      place_ = place::tensor;
      return true;
    }
    return skip_value() || unexpected(in_quotes(text));
  }

  bool start_object(std::size_t) {
    if (place_ == place::start) {
      place_ = place::header;
      return true;
    }
    if (place_ == place::entry) {
      place_ = name_ == metadata_name ? place::metadata : place::tensor;
      return true;
    }
    return skip_begin() || unexpected("an object");
  }

  bool key(const std::string& text) {
    if (place_ == place::header) {
      start_entry(text);
    } else if (place_ == place::metadata) {
      if (header.metadata.contains(text)) {
        refuse("key " + in_quotes(text) + " appears twice");
      }
      key_ = text;
      place_ = place::metadata_value;
    } else if (place_ == place::tensor) {
      start_field(text);
    }
    return true;
  }

  bool end_object() {
    if (place_ == place::skipped) {
      return skip_end();
    }
    if (place_ == place::tensor) {
      finish_tensor();
    }
    place_ = place::header;
    return true;
  }

  bool start_array(std::size_t) {
    if (place_ == place::shape) {
      place_ = place::size;
      return true;
    }
    if (place_ == place::data_offsets) {
      place_ = place::offset;
      return true;
    }
    return skip_begin() || unexpected("an array");
  }

  bool end_array() {
    if (place_ == place::skipped) {
      return skip_end();
    }
    if (place_ == place::offset && offset_count_ != offsets_.size()) {
      refuse("data_offsets has " + std::to_string(offset_count_) + " numbers; it must have 2");
    }
    place_ = place::tensor;
    return true;
  }

  bool parse_error(std::size_t, const std::string&, const nlohmann::json::exception& error) {
    throw file_error(file_, "the header is not valid JSON: " + printable_text(error.what()));
  }

 private:
  /// The value or the part of the header that comes next.
  enum class place {
    start,
    header,
    entry,
    metadata,
    metadata_value,
    tensor,
    type,
    shape,
    size,
    data_offsets,
    offset,
    skipped
  };

  void start_entry(const std::string& name) {
    name_ = name;
    const bool is_metadata = name == metadata_name;
    if (header.tensors.contains(name) || (is_metadata && has_metadata_)) {
      refuse("the name appears twice");
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
      skipped_levels_ = 0;
      place_ = place::skipped;
    }
    if (twice) {
      refuse("field " + in_quotes(field) + " appears twice");
    }
  }

  void finish_tensor() {
    if (!type_.has_value() || !has_shape_ || !has_offsets_) {
      refuse(std::string(!type_.has_value() ? "dtype" : !has_shape_ ? "shape" : "data_offsets") + " is missing");
    }
    const auto [begin, end] = offsets_;
    const std::optional<std::uint64_t> bytes = tensor_bytes(*type_, shape_);
    const auto tensor = [&] { return std::string(dtype_name(*type_)) + " of shape " + shape_text(shape_); };
    if (!bytes.has_value()) {
      refuse(tensor() + " must have " + std::string(tensor_limits));
    }
    if (begin > end || end - begin != *bytes) {
      refuse(tensor() + " has " + std::to_string(*bytes) + " bytes; data_offsets are " + std::to_string(begin) +
             " and " + std::to_string(end));
    }
    needed = std::max(needed, end);
    if (end <= buffer_size_) {
      header.tensors.emplace(name_, tensor_info{.type = *type_,
                                                .shape = shape_,
                                                .begin = static_cast<std::size_t>(begin),
                                                .end = static_cast<std::size_t>(end)});
    }
  }

  /// Whether a value belongs to a field that is not known.
  bool skip_value() {
    if (place_ != place::skipped) {
      return false;
    }
    place_ = skipped_levels_ == 0 ? place::tensor : place::skipped;
    return true;
  }

  /// The same for an array or an object that begins here. The format's reference reader takes JSON of 127 levels.
  bool skip_begin() {
    if (place_ == place::skipped && ++skipped_levels_ > 125) {
      refuse("a field that is not known has more than 125 levels");
    }
    return place_ == place::skipped;
  }

  bool skip_end() {
    --skipped_levels_;
    return skip_value();
  }

  [[noreturn]] void refuse(const std::string& problem) const {
    throw file_error(file_, entry_name(name_) + ": " + problem);
  }

  /// Refuses an event that is not expected. The type is that of the parser's events.
  [[noreturn]] bool unexpected(const std::string& found) const {
    const auto [subject, rule] = expected();
    refuse(subject + " is " + found + "; it must be " + rule);
  }

  /// The next token, and the kinds that it must be of.
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
        return {"one of data_offsets", "an integer from 0 to 18446744073709551615"};
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
  std::array<std::uint64_t, 2> offsets_{};
  std::size_t offset_count_ = 0;
  int skipped_levels_ = 0;
  bool has_metadata_ = false;
  bool has_shape_ = false;
  bool has_offsets_ = false;
};

/// Checks that the tensors cover the buffer, each starting where another ends.
inline void require_covered(const std::string& file, const safetensors_header& header, std::size_t buffer_size) {
  using entry = decltype(header.tensors)::value_type;
  std::vector<const entry*> order;
  order.reserve(header.tensors.size());
  for (const entry& tensor : header.tensors) {
    order.push_back(&tensor);
  }
  std::sort(order.begin(), order.end(), [](const entry* a, const entry* b) {
    return std::pair(a->second.begin, a->second.end) < std::pair(b->second.begin, b->second.end);
  });
  std::size_t covered = 0;
  for (const entry* const tensor : order) {
    const auto& [name, info] = *tensor;
    if (info.begin != covered) {
      throw file_error(file, entry_name(name) + ": data_offsets begin at " + std::to_string(info.begin) + ", which " +
                                 (info.begin < covered ? "overlaps the tensor" : "leaves a hole after the tensor") +
                                 " that ends at " + std::to_string(covered));
    }
    covered = info.end;
  }
  if (covered != buffer_size) {
    throw file_error(file, "the tensors end at byte " + std::to_string(covered) + " of the buffer, which has " +
                               std::to_string(buffer_size));
  }
}

/// A header's text with spaces for the tabs and line breaks between its tokens: the parser's messages show white space,
/// a line break at eight times its length. Other control characters are refused. JSON has none, and the parser would
/// take a zero byte for the end of its input.
inline std::string without_line_breaks(const std::string& file, std::string_view header) {
  std::string text(header);
  bool in_string = false, escaped = false;
  for (char& c : text) {
    if (!in_string && (c == '\t' || c == '\n' || c == '\r')) {
      c = ' ';
    } else if (static_cast<unsigned char>(c) < ' ') {
      throw file_error(file, "byte " + std::to_string(&c - text.data()) + " of the header is " +
                                 std::to_string(int{c}) + ", a control character");
    }
    in_string = in_string != (c == '"' && !escaped);
    escaped = in_string && c == '\\' && !escaped;
  }
  return text;
}

/// Reads a header and checks all of it.
inline safetensors_header read_header(const std::string& file, std::string_view header, std::size_t buffer_size) {
  const std::string text = without_line_breaks(file, header);
  const std::size_t begin = text.find_first_not_of(' ');
  if (begin == std::string::npos || text[begin] != '{') {
    throw file_error(file, "the header must begin with '{'");
  }
  safetensors_header_reader reader(file, buffer_size);
  nlohmann::json::sax_parse(text, &reader);
  if (reader.needed > buffer_size) {
    throw file_error(file, "the file is truncated: its tensors have " + std::to_string(reader.needed) +
                               " bytes; only " + std::to_string(buffer_size) + " follow the header");
  }
  require_covered(file, reader.header, buffer_size);
  return std::move(reader.header);
}

}  // namespace detail
}  // namespace INTACT_UNIT
}  // namespace intact
