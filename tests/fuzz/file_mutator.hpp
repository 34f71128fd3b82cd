#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <limits>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "intact/io/safetensors.hpp"
#include "raw_model.hpp"
#include "tensor.hpp"

// Changes of safetensors files that keep most of a file right, so that more than the header is checked: numbers of
// the header and elements of tensors go to the limits of readers and one beyond.

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* bytes, std::size_t size, std::size_t most);

namespace intact_test {

/// A limit of some reader, or of a type of index, or one of its neighbours, of either sign.
inline std::int64_t limit_value(generator& random) {
  constexpr std::int64_t int64_most = std::numeric_limits<std::int64_t>::max();
  constexpr std::int64_t limits[] = {
      0,         1,         2,         3,         4,         8,         15,        16,         30,         31,
      48,        61,        62,        63,        64,        100,       255,       256,        1024,       4096,
      32768,     33025,     65535,     65536,     65793,     82000,     131071,    131586,     262143,     524288,
      1 << 20,   1052688,   8421504,   1 << 24,   1 << 28,   1 << 30,   1LL << 31, 0x7fffffff, 0xffffffff, 1LL << 32,
      1LL << 40, 1LL << 48, 1LL << 57, 1LL << 61, 1LL << 62, int64_most};
  const std::int64_t limit = limits[random.between(0, std::ssize(limits) - 1)];
  const auto beside = static_cast<std::uint64_t>(limit) + static_cast<std::uint64_t>(random.between(-1, 1));
  return static_cast<std::int64_t>(random.between(0, 3) == 0 ? 0 - beside : beside);
}

/// Changes files at random.
class file_mutator {
 public:
  explicit file_mutator(generator& random) : random_(random) {}

  /// A tensor's elements, its shape with them, its type, its name or its place.
  void change(raw_model& file) {
    if (file.tensors.empty()) {
      return;
    }
    const std::string name = any_name(file);
    raw_tensor& tensor = file.tensors.at(name);
    switch (random_.between(0, 11)) {
      case 0:
        file.tensors.erase(name);
        break;
      case 1:
        file.tensors[name + "x"] = raw_tensor(tensor);
        break;
      case 2:
        std::swap(tensor, file.tensors.at(any_name(file)));
        break;
      case 3:
        tensor.type = file.tensors.at(any_name(file)).type;
        break;
      case 4:
      case 5:
        change_shape(tensor);
        break;
      case 6: {
        const std::uint64_t everywhere = any_bits(tensor, 0);
        for (std::size_t i = 0; i < count(tensor); ++i) {
          set(tensor, i, everywhere);
        }
        break;
      }
      default:
        if (count(tensor) != 0) {
          const auto i = static_cast<std::size_t>(random_.between(0, static_cast<std::int64_t>(count(tensor)) - 1));
          set(tensor, i, any_bits(tensor, i));
        }
    }
  }

  /// A number in the text of a header, in metadata too.
  void change_number(std::string& header) {
    std::vector<std::pair<std::size_t, std::size_t>> numbers;
    for (std::size_t i = 0; i < header.size(); ++i) {
      const std::size_t end = std::min(header.find_first_not_of("0123456789", i), header.size());
      if (end != i) {
        numbers.emplace_back(i, end - i);
        i = end;
      }
    }
    if (!numbers.empty()) {
      const auto [begin, length] = numbers[static_cast<std::size_t>(random_.between(0, std::ssize(numbers) - 1))];
      const std::string old = header.substr(begin, std::min<std::size_t>(length, 18));
      const std::int64_t beside = std::stoll(old) + (random_.between(0, 1) == 0 ? -1 : 1);
      const std::int64_t number = random_.between(0, 1) == 0 ? beside : limit_value(random_);
      header.replace(
          begin, length,
          random_.between(0, 7) == 0 ? std::to_string(static_cast<std::uint64_t>(number)) : std::to_string(number));
    }
  }

 private:
  static std::size_t element_size(const raw_tensor& tensor) {
    return std::max<std::size_t>(dtype_bits(tensor.type) / 8, 1);
  }
  static std::size_t count(const raw_tensor& tensor) { return tensor.bytes.size() / element_size(tensor); }

  std::string any_name(const raw_model& file) {
    return std::next(file.tensors.begin(), random_.between(0, std::ssize(file.tensors) - 1))->first;
  }

  void set(raw_tensor& tensor, std::size_t i, std::uint64_t bits) {
    const std::size_t size = element_size(tensor);
    std::memcpy(&tensor.bytes[i * size], &bits, std::min(size, sizeof bits));
  }

  /// A neighbour of the element, a limit, a number that is special in floating point, or any bits.
  std::uint64_t any_bits(const raw_tensor& tensor, std::size_t i) {
    constexpr double special[] = {0.0,   -0.0, 1.0,  -1.0,  0.5,    1e-30,    1e-38,
                                  1e-45, 1e30, 3e38, 1e300, -1e300, INFINITY, NAN};
    const std::size_t size = element_size(tensor);
    const double real = special[random_.between(0, std::ssize(special) - 1)];
    std::uint64_t old = 0;
    if (i < count(tensor)) {
      std::memcpy(&old, &tensor.bytes[i * size], std::min(size, sizeof old));
    }
    switch (random_.between(0, 3)) {
      case 0:
        return old + static_cast<std::uint64_t>(random_.between(-1, 1));
      case 1:
        return tensor.type == dtype::f32   ? std::bit_cast<std::uint32_t>(static_cast<float>(real))
               : tensor.type == dtype::f64 ? std::bit_cast<std::uint64_t>(real)
                                           : static_cast<std::uint64_t>(limit_value(random_));
      case 2:
        return static_cast<std::uint64_t>(limit_value(random_));
      default:
        return static_cast<std::uint64_t>(
            random_.between(std::numeric_limits<std::int64_t>::min(), std::numeric_limits<std::int64_t>::max()));
    }
  }

  /// Another size in one direction, with elements of 0 in place of those that are missing; or another rank.
  void change_shape(raw_tensor& tensor) {
    if (tensor.shape.empty() || random_.between(0, 5) == 0) {
      tensor.shape.insert(tensor.shape.begin(), 1);
      return;
    }
    std::int64_t& size = tensor.shape[static_cast<std::size_t>(random_.between(0, std::ssize(tensor.shape) - 1))];
    const std::int64_t sizes[] = {size - 1, size + 1, 0, 1, 2 * size, random_.between(0, 70), limit_value(random_)};
    size = std::max<std::int64_t>(sizes[random_.between(0, std::ssize(sizes) - 1)], 0);
    std::uint64_t bytes = element_size(tensor);
    for (const std::int64_t each : tensor.shape) {
      bytes =
          std::min<std::uint64_t>(bytes, 1 << 20) * static_cast<std::uint64_t>(std::min<std::int64_t>(each, 1 << 20));
    }
    tensor.bytes.resize(static_cast<std::size_t>(std::min<std::uint64_t>(bytes, 1 << 20)));
  }

  generator& random_;
};

/// For LLVMFuzzerCustomMutator: changes a file, or one that make_file(random) makes if the bytes are none.
template <class MakeFile>
std::size_t mutate_safetensors(std::uint8_t* bytes, std::size_t size, std::size_t most, unsigned seed,
                               const MakeFile& make_file) {
  generator random(seed);
  if (random.between(0, 7) == 0) {
    return LLVMFuzzerMutate(bytes, size, most);
  }
  const auto parse = [](std::vector<std::byte> file) {
    return raw_model(safetensors_file::parse(std::move(file), "fuzz"));
  };
  std::optional<raw_model> file;
  try {
    const auto given = std::as_bytes(std::span(bytes, size));
    file = parse({given.begin(), given.end()});
  } catch (const file_error&) {
  }
  if (!file || random.between(0, 31) == 0) {
    file = parse(make_file(random));
  }
  file_mutator mutator(random);
  for (std::int64_t changes = random.between(0, 3); changes > 0; --changes) {
    mutator.change(*file);
  }
  if (random.between(0, 3) != 0) {
    try {
      file->repair();
    } catch (const std::out_of_range&) {  // it is no model
    }
  }
  std::string header = file->header();
  if (random.between(0, 2) == 0) {
    mutator.change_number(header);
  }
  if (random.between(0, 15) == 0) {
    const std::size_t length = header.size();
    header.resize(length + 64);
    header.resize(LLVMFuzzerMutate(reinterpret_cast<std::uint8_t*>(header.data()), length, header.size()));
  }
  const std::vector<std::byte> changed = file->file(header);
  if (changed.size() > most) {
    return LLVMFuzzerMutate(bytes, size, most);
  }
  std::memcpy(bytes, changed.data(), changed.size());
  return changed.size();
}

}  // namespace intact_test
