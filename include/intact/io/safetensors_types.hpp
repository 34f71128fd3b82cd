#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "intact/config/compiler.hpp"
#include "intact/config/floating_point.hpp"

// Reading and writing safetensors files share these: errors, types of elements, tensors, and texts for messages.

namespace intact {
inline namespace INTACT_UNIT {

/// The longest header in bytes: the format's own limit.
inline constexpr std::uint64_t safetensors_max_header = 100'000'000;

/// The most sizes that a shape may have.
inline constexpr std::size_t safetensors_max_rank = 64;

/// A file that cannot be read or written. The message starts with the file's name.
class file_error : public std::runtime_error {
 public:
  /// The message is "file: problem".
  file_error(const std::string& file, const std::string& problem) : std::runtime_error(file + ": " + problem) {}
};

/// Types of elements: all of the format's. Packed 4-bit integers are stored as u8.
enum class dtype {
  boolean,
  f4,
  f6_e2m3,
  f6_e3m2,
  u8,
  i8,
  f8_e5m2,
  f8_e4m3,
  f8_e8m0,
  f8_e4m3fnuz,
  f8_e5m2fnuz,
  i16,
  u16,
  f16,
  bf16,
  i32,
  u32,
  f32,
  c64,
  f64,
  i64,
  u64
};

namespace detail {

struct dtype_entry {
  dtype type;
  std::string_view name;
  std::size_t bits;
};

inline constexpr std::array dtype_entries{
    dtype_entry{dtype::boolean, "BOOL", 8},
    dtype_entry{dtype::f4, "F4", 4},
    dtype_entry{dtype::f6_e2m3, "F6_E2M3", 6},
    dtype_entry{dtype::f6_e3m2, "F6_E3M2", 6},
    dtype_entry{dtype::u8, "U8", 8},
    dtype_entry{dtype::i8, "I8", 8},
    dtype_entry{dtype::f8_e5m2, "F8_E5M2", 8},
    dtype_entry{dtype::f8_e4m3, "F8_E4M3", 8},
    dtype_entry{dtype::f8_e8m0, "F8_E8M0", 8},
    dtype_entry{dtype::f8_e4m3fnuz, "F8_E4M3FNUZ", 8},
    dtype_entry{dtype::f8_e5m2fnuz, "F8_E5M2FNUZ", 8},
    dtype_entry{dtype::i16, "I16", 16},
    dtype_entry{dtype::u16, "U16", 16},
    dtype_entry{dtype::f16, "F16", 16},
    dtype_entry{dtype::bf16, "BF16", 16},
    dtype_entry{dtype::i32, "I32", 32},
    dtype_entry{dtype::u32, "U32", 32},
    dtype_entry{dtype::f32, "F32", 32},
    dtype_entry{dtype::c64, "C64", 64},
    dtype_entry{dtype::f64, "F64", 64},
    dtype_entry{dtype::i64, "I64", 64},
    dtype_entry{dtype::u64, "U64", 64},
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

/// Bits of one element: a multiple of 8 but for F4 and the two of F6, whose tensors have whole bytes all the same.
constexpr std::size_t dtype_bits(dtype type) {
  return detail::dtype_entries.at(static_cast<std::size_t>(type)).bits;
}

namespace detail {

static_assert(std::endian::native == std::endian::little || std::endian::native == std::endian::big,
              "files hold the low byte of a number first, and machines hold it first or last");

/// Bytes of the numbers that elements are made of: a complex number is made of two.
inline std::size_t number_bytes(dtype type) {
  return type == dtype::c64 ? 4 : std::max<std::size_t>(dtype_bits(type) / 8, 1);
}

/// Turns numbers of `size` bytes each from the order of files, the low byte first, into the machine's, or back.
inline void swap_file_order(std::span<std::byte> numbers, std::size_t size) {
  if constexpr (std::endian::native == std::endian::big) {
    for (; !numbers.empty(); numbers = numbers.subspan(size)) {
      std::reverse(numbers.begin(), numbers.begin() + static_cast<std::ptrdiff_t>(size));
    }
  }
}

}  // namespace detail

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

/// The description of one tensor, which is row-major and fills bytes [begin, end) of the file's buffer.
struct tensor_info {
  dtype type = dtype::u8;           ///< of the elements
  std::vector<std::int64_t> shape;  ///< sizes of the dimensions
  std::size_t begin = 0;            ///< first byte in the buffer
  std::size_t end = 0;              ///< one after the last byte

  /// Number of elements: the product of the shape, 1 for a scalar.
  std::size_t elements() const { return static_cast<std::size_t>(std::uint64_t{end - begin} * 8 / dtype_bits(type)); }
};

/// The contents of a header: the tensors and the metadata by their names.
struct safetensors_header {
  /// By their names.
  std::map<std::string, tensor_info, std::less<>> tensors;
  std::map<std::string, std::string> metadata;  ///< by their keys
};

/// A text of a file, fit for a message: at most 200 bytes, all of them printable.
inline std::string printable_text(std::string_view text) {
  constexpr std::size_t longest = 200;
  std::string shown(text.substr(0, longest));
  for (char& c : shown) {
    c = c < ' ' || c > '~' ? '?' : c;
  }
  return text.size() > longest ? shown + "..." : shown;
}

/// The same in quotation marks.
inline std::string in_quotes(std::string_view text) {
  return '"' + printable_text(text) + '"';
}

/// A shape, for messages and for the header of a file: "[1, 3, 224, 224]".
inline std::string shape_text(std::span<const std::int64_t> shape) {
  std::string shown = "[";
  for (const std::int64_t size : shape) {
    shown += (shown.size() > 1 ? ", " : "") + std::to_string(size);
  }
  return shown + "]";
}

namespace detail {

/// The header's name for the metadata; no tensor can have it.
inline constexpr std::string_view metadata_name = "__metadata__";

/// How messages call an entry of the header.
inline std::string entry_name(std::string_view name) {
  return name == metadata_name ? std::string(name) : "tensor " + in_quotes(name);
}

/// The limits of tensor_bytes, for messages.
inline constexpr std::string_view tensor_limits =
    "at most 2^63 - 1 elements, sizes of 0 counted as 1, and a whole number of bytes below 2^61";

/// Bytes of a tensor; nothing if a size is negative or a limit above is exceeded. Sizes of 0 count as 1 there, so that
/// products of some of the sizes, such as strides, fit as well.
inline std::optional<std::uint64_t> tensor_bytes(dtype type, std::span<const std::int64_t> shape) {
  constexpr std::uint64_t limit = std::numeric_limits<std::int64_t>::max();
  std::uint64_t elements = 1;
  bool empty = false;
  for (const std::int64_t size : shape) {
    const std::uint64_t factor = static_cast<std::uint64_t>(std::max<std::int64_t>(size, 1));
    if (size < 0 || elements > limit / factor) {
      return std::nullopt;
    }
    elements *= factor;
    empty = empty || size == 0;
  }
  const std::uint64_t bits = dtype_bits(type);
  if (empty) {
    return 0;
  }
  if (elements > std::numeric_limits<std::uint64_t>::max() / bits || elements * bits % 8 != 0) {
    return std::nullopt;
  }
  return elements * bits / 8;
}

}  // namespace detail
}  // namespace INTACT_UNIT
}  // namespace intact
