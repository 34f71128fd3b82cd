#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <ranges>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "intact/config/compiler.hpp"
#include "intact/io/replace_file.hpp"
#include "intact/io/safetensors_types.hpp"

// Writing safetensors files, on POSIX systems.

namespace intact {
inline namespace INTACT_UNIT {

/// A tensor for a file: row-major, numbers in the machine's order of bytes. Does not own its bytes.
struct tensor_to_write {
  std::string name;                  ///< in the file
  dtype type = dtype::u8;            ///< of the elements
  std::vector<std::int64_t> shape;   ///< sizes of the dimensions
  std::span<const std::byte> bytes;  ///< the elements
};

/// A tensor of the elements of an array, a vector or a span, which must outlive it.
template <std::ranges::contiguous_range Values>
requires std::ranges::borrowed_range<Values> tensor_to_write tensor_from(std::string name,
                                                                         std::vector<std::int64_t> shape,
                                                                         Values&& values) {
  using element = std::ranges::range_value_t<Values>;
  const std::span<const element> elements(values);
  return {.name = std::move(name),
          .type = dtype_of<element>(),
          .shape = std::move(shape),
          .bytes = std::as_bytes(elements)};
}

namespace detail {

/// Checks one tensor by itself.
inline void require_writable(const std::string& file, const tensor_to_write& tensor) {
  const std::string entry = "tensor " + in_quotes(tensor.name);
  if (tensor.name == metadata_name) {
    throw file_error(file, entry + ": the name must not be " + std::string(metadata_name));
  }
  if (tensor.shape.size() > safetensors_max_rank) {
    throw file_error(file, entry + ": shape has " + std::to_string(tensor.shape.size()) +
                               " sizes; it must have at most " + std::to_string(safetensors_max_rank));
  }
  const std::optional<std::uint64_t> bytes = tensor_bytes(tensor.type, tensor.shape);
  if (!bytes.has_value()) {
    throw file_error(file, entry + ": " + std::string(dtype_name(tensor.type)) + " of shape " +
                               shape_text(tensor.shape) + " must have " + std::string(tensor_limits));
  }
  if (*bytes != tensor.bytes.size()) {
    throw file_error(file, entry + ": " + std::string(dtype_name(tensor.type)) + " of shape " +
                               shape_text(tensor.shape) + " has " + std::to_string(*bytes) + " bytes; " +
                               std::to_string(tensor.bytes.size()) + " are given");
  }
}

/// Checks the tensors and puts them in the order of the file: larger elements first, so that each tensor is aligned
/// for its type, then by name. The file does not depend on the order in which they are given.
inline std::vector<const tensor_to_write*> file_order(const std::string& file,
                                                      std::span<const tensor_to_write> tensors) {
  std::vector<const tensor_to_write*> order;
  for (const tensor_to_write& tensor : tensors) {
    require_writable(file, tensor);
    order.push_back(&tensor);
  }
  std::sort(order.begin(), order.end(),
            [](const tensor_to_write* a, const tensor_to_write* b) { return a->name < b->name; });
  const auto twice =
      std::adjacent_find(order.begin(), order.end(), [](const auto* a, const auto* b) { return a->name == b->name; });
  if (twice != order.end()) {
    throw file_error(file, "tensor " + in_quotes((*twice)->name) + ": the name is given twice");
  }
  std::stable_sort(order.begin(), order.end(), [](const tensor_to_write* a, const tensor_to_write* b) {
    return dtype_bits(a->type) > dtype_bits(b->type);
  });
  return order;
}

/// A text as a JSON string.
inline std::string json_string(const std::string& file, const std::string& text) {
  try {
    return nlohmann::json(text).dump();
  } catch (const nlohmann::json::type_error&) {
    throw file_error(file, in_quotes(text) + " is not valid UTF-8");
  }
}

/// The header, filled with spaces up to a multiple of 8 bytes.
inline std::string write_header(const std::string& file, std::span<const tensor_to_write* const> tensors,
                                const std::map<std::string, std::string>& metadata) {
  std::string header = "{";
  if (!metadata.empty()) {
    header += json_string(file, std::string(metadata_name)) + ":{";
    for (const auto& [key, value] : metadata) {
      header += header.ends_with('{') ? "" : ",";
      header += json_string(file, key) + ':' + json_string(file, value);
    }
    header += '}';
  }
  std::size_t begin = 0;
  for (const tensor_to_write* const tensor : tensors) {
    const std::size_t end = begin + tensor->bytes.size();
    header += header.ends_with('{') ? "" : ",";
    header += json_string(file, tensor->name) + ":{\"dtype\":\"" + std::string(dtype_name(tensor->type)) +
              "\",\"shape\":" + shape_text(tensor->shape) + ",\"data_offsets\":[" + std::to_string(begin) + ',' +
              std::to_string(end) + "]}";
    begin = end;
  }
  header += '}';
  header.resize((header.size() + 7) / 8 * 8, ' ');
  if (header.size() > safetensors_max_header) {
    throw file_error(file, "the header would have " + std::to_string(header.size()) + " bytes; it must have at most " +
                               std::to_string(safetensors_max_header));
  }
  return header;
}

/// Writes numbers of `size` bytes each in the order of files. `file` has write(bytes).
template <class File>
void write_numbers(File& file, std::span<const std::byte> numbers, std::size_t size) {
  if constexpr (std::endian::native == std::endian::little) {
    file.write(numbers);
  } else {
    std::array<std::byte, 4096> piece;
    while (!numbers.empty()) {
      const std::size_t count = std::min(numbers.size(), piece.size());
      std::copy_n(numbers.begin(), count, piece.begin());
      swap_file_order(std::span(piece).first(count), size);
      file.write(std::span<const std::byte>(piece).first(count));
      numbers = numbers.subspan(count);
    }
  }
}

/// The contents of a file, checked.
class safetensors_contents {
 public:
  safetensors_contents(const std::string& file, std::span<const tensor_to_write> tensors,
                       const std::map<std::string, std::string>& metadata)
      : order_(file_order(file, tensors)), header_(write_header(file, order_, metadata)) {}

  template <class File>
  void write_to(File& file) const {
    const std::uint64_t header_length = header_.size();
    write_numbers(file, std::as_bytes(std::span(&header_length, 1)), sizeof header_length);
    file.write(std::as_bytes(std::span(header_)));
    for (const tensor_to_write* const tensor : order_) {
      write_numbers(file, tensor->bytes, number_bytes(tensor->type));
    }
  }

 private:
  std::vector<const tensor_to_write*> order_;
  std::string header_;
};

/// Bytes in memory that are written like a file.
struct memory_to_write {
  std::vector<std::byte> bytes;

  void write(std::span<const std::byte> part) { bytes.insert(bytes.end(), part.begin(), part.end()); }
};

}  // namespace detail

/// The bytes of the file that write_safetensors writes. Errors as of that, without the system's; messages call the file
/// `name`.
inline std::vector<std::byte> safetensors_bytes(const std::string& name, std::span<const tensor_to_write> tensors,
                                                const std::map<std::string, std::string>& metadata = {}) {
  detail::memory_to_write memory;
  detail::safetensors_contents(name, tensors, metadata).write_to(memory);
  return std::move(memory.bytes);
}

/// Writes a file, in place of one that may exist.
///
/// Safety:  everything is checked before the disk is touched. The bytes go to a temporary file in the same folder,
///          which then takes the file's place in one step: an existing file is kept whole if anything fails. The
///          temporary file of a process that was killed is removed by the next that writes into the folder. Symbolic
///          links are followed, also to a file that is not there yet.
/// Rights:  those of the existing file, its owner and group where the system allows it; else those of a new file. Hard
///          links, access control lists and extended attributes of the existing file are not kept.
/// Bytes:   depend on the tensors and the metadata only, not on the order in which the tensors are given.
/// Errors:  file_error for a name given twice or reserved, texts that are not UTF-8, shapes that do not fit the
///          bytes or the limits, a header over safetensors_max_header, and whatever the system refuses.
inline void write_safetensors(const std::filesystem::path& path, std::span<const tensor_to_write> tensors,
                              const std::map<std::string, std::string>& metadata = {}) {
  const detail::safetensors_contents contents(path.string(), tensors, metadata);
  detail::replacement_file replacement(path);
  contents.write_to(replacement);
  replacement.commit();
}

}  // namespace INTACT_UNIT
}  // namespace intact
