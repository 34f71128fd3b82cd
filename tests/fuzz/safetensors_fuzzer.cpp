// Safetensors files, and the recognition of other formats.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "file_mutator.hpp"
#include "fuzz_input.hpp"
#include "heap_watch.hpp"
#include "intact/io/file_kind.hpp"
#include "intact/io/safetensors.hpp"
#include "intact/io/safetensors_write.hpp"

namespace intact_test {
namespace {

/// At once never more than the file's size, 16 times the header's length and 64 KiB.
std::size_t memory_of(std::span<const std::byte> bytes) {
  std::uint64_t header = 0;
  if (bytes.size() >= sizeof header) {
    std::memcpy(&header, bytes.data(), sizeof header);
  }
  return bytes.size() + 16 * std::min<std::size_t>(header, bytes.size()) + 65536;
}

safetensors_file parse(std::span<const std::byte> bytes) {
  const heap_watch watch(memory_of(bytes));
  return safetensors_file::parse({bytes.begin(), bytes.end()}, "fuzz");
}

/// The contents are written to a file that has the same ones.
void check_contents(const safetensors_file& file) {
  std::vector<std::vector<std::byte>> kept;
  std::vector<tensor_to_write> tensors;
  for (const std::string& name : file.names()) {
    const tensor_info& info = file.info(name);
    kept.push_back(file.machine_bytes(name));
    tensors.push_back({.name = name, .type = info.type, .shape = info.shape, .bytes = kept.back()});
    expect(kept.back().size() * 8 == info.elements() * dtype_bits(info.type), name + " does not fit its shape");
    if (info.type == dtype::u8) {
      expect(file.values<std::uint8_t>(name).size() == info.elements(), name + " has other values");
    }
  }
  const safetensors_file again =
      safetensors_file::parse(safetensors_bytes("fuzz", tensors, file.metadata()), "written");
  expect(again.names() == file.names() && again.metadata() == file.metadata(), "other names or metadata");
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const tensor_info& info = again.info(tensors[i].name);
    expect(info.type == tensors[i].type && info.shape == tensors[i].shape, tensors[i].name + " is another tensor");
    expect(again.machine_bytes(tensors[i].name) == kept[i], tensors[i].name + " has other bytes");
  }
}

/// A file with most parts of the format.
std::vector<std::byte> make_file(generator& random) {
  const std::vector<std::uint8_t> bytes(static_cast<std::size_t>(random.between(0, 20)), 7);
  const std::vector<std::int64_t> numbers = {1, -1};
  const std::vector<float> reals = {0.5F};
  const std::vector<tensor_to_write> tensors = {tensor_from("a", {std::ssize(bytes)}, bytes),
                                                tensor_from("numbers", {2, 1}, numbers), tensor_from("r", {}, reals)};
  return safetensors_bytes("fuzz", tensors, {{"key", "value"}, {"", "\xc3\xa9"}});
}

}  // namespace
}  // namespace intact_test

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* bytes, std::size_t size, std::size_t most, unsigned seed) {
  return intact_test::mutate_safetensors(bytes, size, most, seed, intact_test::make_file);
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  using namespace intact_test;
  const std::string kind = detail::file_kind({reinterpret_cast<const char*>(bytes), size});
  expect(kind.size() < 200, "a long kind of file: " + kind);
  std::optional<safetensors_file> file;
  try {
    file = parse(std::as_bytes(std::span(bytes, size)));
  } catch (const file_error& error) {
    const std::string message = error.what();
    expect(message.starts_with("fuzz: ") && message.size() < 1000, message);
  }
  if (file) {
    check_contents(*file);
  }
  return 0;
}
