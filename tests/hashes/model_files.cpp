#include <algorithm>
#include <cinttypes>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "hashes.hpp"
#include "intact/build/packed_swin.hpp"
#include "intact/build/packed_vit.hpp"
#include "intact/io/model_file.hpp"
#include "intact/io/safetensors_write.hpp"
#include "intact/model/swin.hpp"
#include "intact/model/vit.hpp"
#include "intact/reference/model/swin.hpp"
#include "intact/reference/model/vit.hpp"

// Reads the model files of a folder, runs the models, writes them again, and prints a hash of the logits and of the
// bytes of each file that it has written. Then it changes the files' sizes, and prints a hash of which are refused. Of
// the first model of version 2 it makes one of so many tokens that 32 bits do not count what attention needs:
//
//     model_files FOLDER SCRATCH_FOLDER
//
// The lines are the same on machines of every word size and order of bytes.

namespace hashes {

void print_line(const std::string& name, const hash& of_tensor) {
  std::printf("%s %016" PRIx64 "\n", name.c_str(), of_tensor.value());
}

namespace {

std::vector<char> bytes_of(const std::filesystem::path& file) {
  std::ifstream stream(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
}

template <class Shape>
hash logits_of(const Shape& shape, std::size_t workspace_bytes, const auto& run) {
  random_numbers random(1);
  std::vector<std::uint8_t> samples(static_cast<std::size_t>(shape.channels * shape.height * shape.image_width));
  std::generate(samples.begin(), samples.end(), [&] { return static_cast<std::uint8_t>(random.between(0, 255)); });
  std::vector<std::byte> scratch(workspace_bytes);
  matrix<std::int32_t> logits(1, shape.classes);
  matrix<std::uint8_t> logits_u8(1, shape.classes);
  run(planar_image(samples.data(), shape.channels, shape.height, shape.image_width), logits.view(), logits_u8.view(),
      workspace(scratch.data(), scratch.size()));
  hash all;
  all.add_all(logits.view());
  all.add_all(logits_u8.view());
  return all;
}

hash logits_of(const integer_vit& model) {
  return logits_of(model.shape(), reference::vit_workspace_bytes(model.shape()),
                   [&](const image_view& image, matrix_view<std::int32_t> logits, matrix_view<std::uint8_t> logits_u8,
                       workspace memory) {
                     reference::vit(image, packed_vit(model).parameters(), model.shape(), {logits, logits_u8}, memory);
                   });
}

hash logits_of(const integer_swin& model) {
  return logits_of(
      model.shape(), reference::swin_workspace_bytes(model.shape()),
      [&](const image_view& image, matrix_view<std::int32_t> logits, matrix_view<std::uint8_t> logits_u8,
          workspace memory) {
        reference::swin(image, packed_swin(model).parameters(), model.shape(), {logits, logits_u8}, memory);
      });
}

/// `load` and `save` are those of the kind of model.
void run_file(const std::filesystem::path& file, const std::filesystem::path& written, const auto& load,
              const auto& save) {
  const auto model = load(file);
  const std::string name = "model_file/" + file.stem().string();
  print_line(name + "/logits", logits_of(model));
  save(model, written);
  hash bytes;
  for (const char byte : bytes_of(written)) {
    bytes.add(byte, 1);
  }
  print_line(name + "/written", bytes);
  print_line(name + "/written/logits", logits_of(load(written)));
}

/// Sizes at the limits of a file, and of integers of 32 and 64 bits.
constexpr std::int64_t extreme_sizes[] = {1 << 20, 65'537, std::int64_t{1} << 31, (std::int64_t{1} << 32) + 1,
                                          std::numeric_limits<std::int64_t>::max()};

/// The place of a tensor's number in a file, high bytes last.
std::size_t place_of(const std::vector<std::byte>& file, const safetensors_file& parsed, const std::string& tensor) {
  std::uint64_t header = 0;
  for (std::size_t i = 8; i-- > 0;) {
    header = header << 8 | std::to_integer<std::uint64_t>(file[i]);
  }
  return static_cast<std::size_t>(8 + header) + parsed.info(tensor).begin;
}

/// A file whose sizes are extreme, one and two at a time, is refused with a sentence that names the tensor.
void run_extreme_sizes(const std::filesystem::path& file, const auto& load) {
  const std::vector<char> stored = bytes_of(file);
  std::vector<std::byte> bytes(stored.size());
  std::transform(stored.begin(), stored.end(), bytes.begin(), [](char byte) { return static_cast<std::byte>(byte); });
  const safetensors_file parsed = safetensors_file::parse(bytes, "original");
  std::vector<std::string> sizes = parsed.names();
  std::erase_if(sizes, [](const std::string& name) { return !name.starts_with("shape."); });
  hash refused;
  const auto store = [&](std::vector<std::byte>& into, const std::string& name, std::int64_t size) {
    for (std::size_t i = 0; i < 8; ++i) {
      into[place_of(bytes, parsed, name) + i] =
          static_cast<std::byte>(static_cast<std::uint64_t>(size) >> (8 * i) & 255);
    }
  };
  for (const std::string& first : sizes) {
    for (const std::string& second : sizes) {
      if (second < first) {
        continue;
      }
      for (const std::int64_t size : extreme_sizes) {
        std::vector<std::byte> changed = bytes;
        store(changed, first, size);
        store(changed, second, size);
        bool loads = true;
        try {
          load(safetensors_file::parse(std::move(changed), "changed"));
        } catch (const file_error&) {
          loads = false;
        }
        refused.add(loads ? 1 : 0, 1);
      }
    }
  }
  print_line("model_file/" + file.stem().string() + "/extreme_sizes", refused);
}

/// The file of a ViT, with images and positions of 65,537 tokens, whose square has more than 32 bits.
std::vector<std::byte> with_many_tokens(const safetensors_file& file) {
  constexpr std::int64_t side = 512, tokens = 65'537;  // patches of 2 x 2 pixels, and the class token
  const std::vector<std::uint8_t> positions(static_cast<std::size_t>(tokens * file.info("positions").shape.back()));
  std::vector<tensor_to_write> tensors;
  std::vector<std::vector<std::byte>> bytes;
  for (const std::string& name : file.names()) {
    bytes.push_back(file.machine_bytes(name));
    tensors.push_back({name, file.info(name).type, file.info(name).shape, {}});
  }
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    tensors[i].bytes = bytes[i];
    if (tensors[i].name == "shape.height" || tensors[i].name == "shape.width_pixels") {
      tensors[i].bytes = std::as_bytes(std::span(&side, 1));
    } else if (tensors[i].name == "positions") {
      tensors[i] = tensor_from("positions", {tokens, file.info("positions").shape.back()}, positions);
    }
  }
  return safetensors_bytes("many tokens", tensors, file.metadata());
}

/// The model loads. Its scratch memory has a size where sizes have 64 bits, and the largest number with 32, which no
/// memory has.
void run_many_tokens(const std::filesystem::path& file) {
  const integer_vit model =
      load_integer_vit(safetensors_file::parse(with_many_tokens(safetensors_file::read(file)), "many tokens"));
  const bool countable = reference::vit_workspace_bytes(model.shape()) != std::numeric_limits<std::size_t>::max();
  hash right;
  right.add(countable == (sizeof(std::size_t) > 4) ? 1 : 0, 1);
  print_line("model_file/" + file.stem().string() + "/many_tokens", right);
}

void run(const std::filesystem::path& folder, const std::filesystem::path& scratch) {
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() == ".safetensors") {
      files.push_back(entry.path());
    }
  }
  std::sort(files.begin(), files.end());
  for (const std::filesystem::path& file : files) {
    const std::filesystem::path written = scratch / "written.safetensors";
    const auto run_model = [&](const auto& load, const auto& save) {
      run_file(file, written, load, save);
      run_extreme_sizes(file, load);
    };
    if (file.filename().string().starts_with("vit")) {
      run_model([](const auto& from) { return load_integer_vit(from); },
                [](const auto& model, const auto& path) { save_integer_vit(model, path); });
      if (file.stem() == "vit_version_2") {
        run_many_tokens(file);
      }
    } else {
      run_model([](const auto& from) { return load_integer_swin(from); },
                [](const auto& model, const auto& path) { save_integer_swin(model, path); });
    }
  }
}

}  // namespace
}  // namespace hashes

int main(int count, char** arguments) {
  if (count != 3) {
    std::fputs("model_files FOLDER SCRATCH_FOLDER\n", stderr);
    return 2;
  }
  try {
    hashes::run(arguments[1], arguments[2]);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
