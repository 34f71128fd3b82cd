#include <algorithm>
#include <cinttypes>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "hashes.hpp"
#include "intact/adapt/model_file.hpp"
#include "intact/model/swin.hpp"
#include "intact/model/vit.hpp"

// Reads the model files of a folder, runs the models, writes them again, and prints a hash of the logits and of the
// bytes of each file that it has written:
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
  std::vector<std::uint8_t> samples(static_cast<std::size_t>(shape.channels * shape.height * shape.width_pixels));
  std::generate(samples.begin(), samples.end(), [&] { return static_cast<std::uint8_t>(random.between(0, 255)); });
  std::vector<std::byte> scratch(workspace_bytes);
  matrix<std::int32_t> logits(1, shape.classes);
  matrix<std::uint8_t> logits_u8(1, shape.classes);
  run(planar_image(samples.data(), shape.channels, shape.height, shape.width_pixels), logits.view(), logits_u8.view(),
      workspace(scratch.data(), scratch.size()));
  hash all;
  all.add_all(logits.view());
  all.add_all(logits_u8.view());
  return all;
}

hash logits_of(const integer_vit& model) {
  return logits_of(model.shape(), vit_workspace_bytes(model.shape()),
                   [&](const image_view& image, matrix_view<std::int32_t> logits, matrix_view<std::uint8_t> logits_u8,
                       workspace memory) { vit(image, model.parameters(), model.shape(), logits, logits_u8, memory); });
}

hash logits_of(const integer_swin& model) {
  return logits_of(
      model.shape(), swin_workspace_bytes(model.shape()),
      [&](const image_view& image, matrix_view<std::int32_t> logits, matrix_view<std::uint8_t> logits_u8,
          workspace memory) { swin(image, model.parameters(), model.shape(), logits, logits_u8, memory); });
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
    if (file.filename().string().starts_with("vit")) {
      run_file(
          file, written, [](const auto& path) { return load_integer_vit(path); },
          [](const auto& model, const auto& path) { save_integer_vit(model, path); });
    } else {
      run_file(
          file, written, [](const auto& path) { return load_integer_swin(path); },
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
