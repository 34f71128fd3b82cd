#pragma once

#include <algorithm>
#include <bit>
#include <cerrno>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <ios>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "intact/config/compiler.hpp"
#include "intact/io/file_kind.hpp"
#include "intact/io/safetensors_header.hpp"
#include "intact/io/safetensors_types.hpp"

// Reading safetensors files; safetensors_write.hpp writes them.
//
// The format: a header's length N (u64, little-endian), N bytes of JSON, and one buffer. The JSON maps each tensor's
// name to its dtype, its shape and its place [begin, end) in the buffer, and "__metadata__" to an object of strings.
// The tensors cover the buffer without holes or overlaps.
//
// Every byte of a file is taken as hostile: whatever a file holds, reading it ends with an object that keeps all of
// these rules, or with a file_error. docs/model_format.md says where they are stricter than those of the format's
// reference reader.
//
// Memory: at once never more than the file's size, 16 times the header's length and 64 KiB. The worst headers known,
// nothing but short metadata or one endless string, take 12 times their length.

namespace intact {
inline namespace INTACT_UNIT {

namespace detail {

/// Bytes before the header: its length.
inline constexpr std::size_t safetensors_prefix = 8;

/// Where the buffer begins in a file of `size` bytes that begins with `head`: after the prefix and the header, whose
/// length is checked here. `head` has at least file_kind_bytes bytes, or all of the file. A file of another format is
/// refused by its name.
inline std::size_t buffer_begin(const std::string& file, std::span<const std::byte> head, std::size_t size) {
  if (size == 0) {
    throw file_error(file, "the file is empty");
  }
  const std::string_view text(reinterpret_cast<const char*>(head.data()), head.size());
  std::uint64_t length = 0;
  if (size >= safetensors_prefix) {
    std::memcpy(&length, head.data(), sizeof length);
    swap_file_order(std::as_writable_bytes(std::span(&length, 1)), sizeof length);
  }
  const std::string_view header = text.substr(std::min(safetensors_prefix, text.size()));
  const bool begins_well = size >= safetensors_prefix && length <= safetensors_max_header &&
                           (header.empty() || header[0] == '{' || is_white_space(header[0]));
  const std::string kind = begins_well ? "" : file_kind(text);
  if (!kind.empty()) {
    throw file_error(file, "is no safetensors file, but " + kind);
  }
  if (size < safetensors_prefix) {
    throw file_error(file, "the file has " + std::to_string(size) + " bytes; the header's length alone has " +
                               std::to_string(safetensors_prefix));
  }
  if (length > safetensors_max_header) {
    throw file_error(file, "the header has " + std::to_string(length) + " bytes; it must have at most " +
                               std::to_string(safetensors_max_header));
  }
  if (length > size - safetensors_prefix) {
    throw file_error(file, std::string(begins_well ? "the file is truncated: " : "") + "the header has " +
                               std::to_string(length) + " bytes; only " + std::to_string(size - safetensors_prefix) +
                               " follow its length");
  }
  return safetensors_prefix + static_cast<std::size_t>(length);
}

/// The header's text in the bytes of a file.
inline std::string_view header_text(std::span<const std::byte> bytes, std::size_t buffer_begin) {
  return {reinterpret_cast<const char*>(bytes.data()) + safetensors_prefix, buffer_begin - safetensors_prefix};
}

/// The size of a regular file; anything else, such as a folder or a pipe, is refused.
inline std::size_t regular_file_size(const std::filesystem::path& path) {
  std::error_code error;
  const std::filesystem::file_status status = std::filesystem::status(path, error);
  if (status.type() == std::filesystem::file_type::not_found) {
    throw file_error(path.string(), "the file does not exist");
  }
  if (!error && !std::filesystem::is_regular_file(status)) {
    throw file_error(path.string(), std::filesystem::is_directory(status) ? "is a folder" : "is not a regular file");
  }
  const std::uintmax_t size = error ? 0 : std::filesystem::file_size(path, error);
  if (error) {
    throw file_error(path.string(), "the file cannot be examined: " + error.message());
  }
  if (!std::in_range<std::streamsize>(size)) {
    throw file_error(path.string(), "the file has " + std::to_string(size) + " bytes, too many for this machine");
  }
  return static_cast<std::size_t>(size);
}

/// Appends bytes of the stream until `bytes` has `size`.
inline void read_up_to(const std::string& file, std::ifstream& stream, std::vector<std::byte>& bytes,
                       std::size_t size) {
  const std::size_t known = bytes.size();
  bytes.resize(size);
  stream.read(reinterpret_cast<char*>(bytes.data() + known), static_cast<std::streamsize>(size - known));
  if (!stream) {
    throw file_error(file, "reading failed after " + std::to_string(known + static_cast<std::size_t>(stream.gcount())) +
                               " of " + std::to_string(size) + " bytes");
  }
}

/// A file that has been opened, and whose header has been read and checked.
struct opened_safetensors {
  std::string name;
  std::size_t size = 0;
  std::ifstream stream;
  std::vector<std::byte> bytes;  ///< at least up to the end of the header
  std::size_t begin = 0;         ///< of the buffer
  safetensors_header header;

  explicit opened_safetensors(const std::filesystem::path& path) : name(path.string()), size(regular_file_size(path)) {
    stream.open(path, std::ios::binary);
    if (!stream) {
      throw file_error(name, "the file cannot be opened: " + std::generic_category().message(errno));
    }
    read_up_to(name, stream, bytes, std::min(size, file_kind_bytes));
    begin = buffer_begin(name, bytes, size);
    read_up_to(name, stream, bytes, std::max(begin, bytes.size()));
    header = read_header(name, header_text(bytes, begin), size - begin);
  }
};

}  // namespace detail

/// The contents of a safetensors header. References that its functions return live as long as the object. All
/// errors are file_error, except std::bad_alloc if memory runs out.
class safetensors_index {
 public:
  /// The file's name, for messages about its contents.
  const std::string& name() const { return name_; }

  /// The tensors' names, sorted.
  std::vector<std::string> names() const {
    std::vector<std::string> all;
    for (const auto& [name, info] : header_.tensors) {
      all.push_back(name);
    }
    return all;
  }

  /// Whether there is such a tensor.
  bool contains(std::string_view tensor) const { return header_.tensors.contains(tensor); }

  /// Type, shape and place of a tensor. Errors: file_error if there is none of this name.
  const tensor_info& info(std::string_view tensor) const {
    const auto found = header_.tensors.find(tensor);
    if (found == header_.tensors.end()) {
      throw file_error(name_, "tensor " + in_quotes(tensor) + " is missing");
    }
    return found->second;
  }

  /// The metadata, by their keys.
  const std::map<std::string, std::string>& metadata() const { return header_.metadata; }

  /// A value of the metadata. Errors: file_error if there is none of this key.
  const std::string& metadata_value(const std::string& key) const {
    const auto found = header_.metadata.find(key);
    if (found == header_.metadata.end()) {
      throw file_error(name_, "metadata " + in_quotes(key) + " is missing");
    }
    return found->second;
  }

  /// Refuses a tensor of another shape.
  void require_shape(std::string_view tensor, const std::vector<std::int64_t>& expected) const {
    const std::vector<std::int64_t>& shape = info(tensor).shape;
    if (shape != expected) {
      throw file_error(name_, "tensor " + in_quotes(tensor) + " has shape " + shape_text(shape) + "; it must be " +
                                  shape_text(expected));
    }
  }

 protected:
  /// Of a header that has been read; `buffer_begin` is the file's offset of the tensors.
  safetensors_index(std::string name, safetensors_header header, std::size_t buffer_begin)
      : name_(std::move(name)), header_(std::move(header)), buffer_begin_(buffer_begin) {}

  /// Checks that a tensor's dtype is exactly T's; a BOOL tensor may be read as std::uint8_t.
  template <class T>
  void require_type(std::string_view tensor) const {
    const dtype type = info(tensor).type;
    if (type != dtype_of<T>() && !(type == dtype::boolean && std::same_as<T, std::uint8_t>)) {
      throw file_error(name_, "tensor " + in_quotes(tensor) + " has dtype " + std::string(dtype_name(type)) +
                                  "; it must be " + std::string(dtype_name(dtype_of<T>())));
    }
  }

  /// Where a tensor begins in the file.
  std::size_t begin_of(const tensor_info& tensor) const { return buffer_begin_ + tensor.begin; }

 private:
  std::string name_;
  safetensors_header header_;
  std::size_t buffer_begin_ = 0;
};

/// A safetensors file in memory. Const objects may be shared between threads.
class safetensors_file : public safetensors_index {
 public:
  /// Reads a file. Its header is checked in full before memory is taken for the buffer.
  static safetensors_file read(const std::filesystem::path& path) {
    detail::opened_safetensors opened(path);
    opened.bytes.reserve(opened.size);
    detail::read_up_to(opened.name, opened.stream, opened.bytes, opened.size);
    return {std::move(opened.name), std::move(opened.header), std::move(opened.bytes), opened.begin};
  }

  /// Takes the bytes of a file; messages call it `name`.
  static safetensors_file parse(std::vector<std::byte> bytes, std::string name) {
    const std::size_t begin = detail::buffer_begin(name, bytes, bytes.size());
    safetensors_header header = detail::read_header(name, detail::header_text(bytes, begin), bytes.size() - begin);
    return {std::move(name), std::move(header), std::move(bytes), begin};
  }

  /// The bytes of a tensor of any dtype, numbers in the machine's order of bytes, as tensor_to_write takes them.
  std::vector<std::byte> machine_bytes(std::string_view tensor) const {
    const std::span<const std::byte> stored = stored_bytes(tensor);
    std::vector<std::byte> copy(stored.begin(), stored.end());
    detail::swap_file_order(copy, detail::number_bytes(info(tensor).type));
    return copy;
  }

  /// The elements of a tensor whose dtype is exactly T's. A BOOL tensor is read as std::uint8_t, as its bytes are:
  /// nothing makes sure that they are 0 or 1.
  template <class T>
  std::vector<T> values(std::string_view tensor) const {
    require_type<T>(tensor);
    const std::span<const std::byte> stored = stored_bytes(tensor);
    std::vector<T> copy(stored.size() / sizeof(T));
    if (!stored.empty()) {
      std::memcpy(copy.data(), stored.data(), stored.size());
    }
    detail::swap_file_order(std::as_writable_bytes(std::span(copy)), sizeof(T));
    return copy;
  }

  /// The same for a tensor that must have the expected shape.
  template <class T>
  std::vector<T> values(std::string_view tensor, const std::vector<std::int64_t>& expected_shape) const {
    require_shape(tensor, expected_shape);
    return values<T>(tensor);
  }

 private:
  safetensors_file(std::string name, safetensors_header header, std::vector<std::byte> bytes, std::size_t buffer_begin)
      : safetensors_index(std::move(name), std::move(header), buffer_begin), bytes_(std::move(bytes)) {}

  /// In the order of files, at any alignment.
  std::span<const std::byte> stored_bytes(std::string_view tensor) const {
    const tensor_info& place = info(tensor);
    return std::span(bytes_).subspan(begin_of(place), place.end - place.begin);
  }

  std::vector<std::byte> bytes_;
};

/// A safetensors file that stays where it is: each tensor is read when it is asked for, so that no tensor is in memory
/// twice. Not to be shared between threads. A file that becomes shorter meanwhile is an error; one that is changed in
/// place is not noticed.
class safetensors_reader : public safetensors_index {
 public:
  /// Opens a file and checks its header in full.
  explicit safetensors_reader(const std::filesystem::path& path)
      : safetensors_reader(detail::opened_safetensors(path)) {}

  /// The elements of a tensor, as of safetensors_file.
  template <class T>
  std::vector<T> values(std::string_view tensor, const std::vector<std::int64_t>& expected_shape) {
    require_shape(tensor, expected_shape);
    require_type<T>(tensor);
    const tensor_info& place = info(tensor);
    std::vector<T> elements((place.end - place.begin) / sizeof(T));
    if (elements.empty()) {
      return elements;
    }
    stream_.clear();  // another tensor may not have been readable
    stream_.seekg(static_cast<std::streamoff>(begin_of(place)));
    stream_.read(reinterpret_cast<char*>(elements.data()), static_cast<std::streamsize>(place.end - place.begin));
    if (!stream_) {
      throw file_error(name(), "tensor " + in_quotes(tensor) + " cannot be read");
    }
    detail::swap_file_order(std::as_writable_bytes(std::span(elements)), sizeof(T));
    return elements;
  }

 private:
  explicit safetensors_reader(detail::opened_safetensors&& opened)
      : safetensors_index(std::move(opened.name), std::move(opened.header), opened.begin),
        stream_(std::move(opened.stream)) {}

  std::ifstream stream_;
};

}  // namespace INTACT_UNIT
}  // namespace intact
