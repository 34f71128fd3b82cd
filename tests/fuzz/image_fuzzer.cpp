// PNG and JPEG files, as the example intact-deit reads them.

#include <cstddef>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>

#include <zlib.h>

#include "deit/image_file.hpp"
#include "fuzz_input.hpp"
#include "heap_watch.hpp"

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* bytes, std::size_t size, std::size_t most);

namespace intact_test {
namespace {

namespace formats = intact_deit::detail;

/// A few bytes claim any size: larger images are not decoded, which takes time and as much memory as there is.
constexpr std::uint64_t most_pixels = 1 << 18;

template <class Reader>
bool is_small(std::span<const std::uint8_t> bytes) {
  Reader reader(bytes);
  return !reader.read_header() || reader.width() == 0 || reader.height() <= most_pixels / reader.width();
}

/// Libraries keep rows and, of progressive JPEG files, all coefficients: 8 bytes for each pixel of whole units, of which
/// an image may have 1 x 32 of 32 x 32 pixels.
std::size_t memory_of(std::size_t file_bytes) {
  return 4 * file_bytes + 8 * 32 * most_pixels + (1 << 20);
}

template <class Reader, class Decode>
void check(std::span<const std::uint8_t> bytes, const Decode& decode) {
  if (is_small<Reader>(bytes)) {
    const heap_watch watch(memory_of(bytes.size()));
    const intact::rgb_image image = decode("fuzz", bytes);
    expect(static_cast<std::int64_t>(image.samples.size()) == 3 * image.height * image.width,
           "an image of another size than it has");
  }
}

std::uint32_t big_endian(const std::uint8_t* bytes) {
  return std::uint32_t{bytes[0]} << 24 | std::uint32_t{bytes[1]} << 16 | std::uint32_t{bytes[2]} << 8 | bytes[3];
}

/// Makes the checksums of a PNG file's chunks right.
void repair_checksums(std::span<std::uint8_t> bytes) {
  for (std::size_t chunk = 8; bytes.size() >= chunk + 12;) {
    const std::size_t length = big_endian(&bytes[chunk]);
    if (length > bytes.size() - chunk - 12) {
      return;
    }
    const auto checksum = static_cast<std::uint32_t>(crc32(0, &bytes[chunk + 4], static_cast<uInt>(length + 4)));
    for (std::size_t i = 0; i < 4; ++i) {
      bytes[chunk + 8 + length + i] = static_cast<std::uint8_t>(checksum >> (24 - 8 * i));
    }
    chunk += 12 + length;
  }
}

}  // namespace
}  // namespace intact_test

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* bytes, std::size_t size, std::size_t most, unsigned seed) {
  const std::size_t changed = LLVMFuzzerMutate(bytes, size, most);
  if (seed % 4 != 0) {
    intact_test::repair_checksums({bytes, changed});
  }
  return changed;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace intact_test;
  const std::span<const std::uint8_t> bytes(data, size);
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    if (formats::png_format.is_of(text)) {
      check<formats::png_reader>(bytes, formats::decode_png);
    } else if (formats::jpeg_format.is_of(text)) {
      check<formats::jpeg_reader>(bytes, formats::decode_jpeg);
    }
  } catch (const std::runtime_error& error) {
    expect(std::string(error.what()).starts_with("fuzz: "), error.what());
  }
  return 0;
}
