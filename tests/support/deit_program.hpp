#pragma once

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "checkpoint_files.hpp"
#include "deit_files.hpp"
#include "made_image.hpp"
#include "program.hpp"
#include "scratch_folder.hpp"

// Runs the program intact-deit, and what it runs on: a tiny random checkpoint and images.

namespace intact_test {

inline program_outcome deit(const std::string& arguments) {
  return run_program(INTACT_DEIT_PROGRAM " " + arguments);
}

inline std::string quoted(const std::filesystem::path& path) {
  return " '" + path.string() + "' ";
}

inline nlohmann::json read_json(const std::filesystem::path& path) {
  std::ifstream file(path);
  return nlohmann::json::parse(file);
}

/// A folder with a tiny checkpoint, and eleven images with labels, one of them in a sub-folder and one a JPEG file.
struct tiny_set {
  scratch_folder folder;
  checkpoint_tensors checkpoint = timm_checkpoint(random_float_vit(tiny_vit));
  std::filesystem::path weights = folder / "model.safetensors", model = folder / "integer.safetensors",
                        images = folder / "images", json = folder / "result.json";

  tiny_set() {
    checkpoint.write(weights);
    std::filesystem::create_directories(images / "more");
    std::string labels;
    for (int i = 0; i < 9; ++i) {
      const std::string name = std::to_string(i) + ".png";
      write_png(images / name, made_image(12 + i, 30 - 2 * i));
      labels += name + '\t' + std::to_string(i % 7) + '\n';
    }
    write_png(images / "more/9.png", made_image(12, 12));
    write_jpeg(images / "10.jpg", made_image(50, 40));
    write_text(images / "labels.tsv", labels + "more/9.png\t3\n10.jpg\t4\n");
  }

  program_outcome quantize(const std::string& options = "") const {
    return deit("quantize --weights" + quoted(weights) + "--calibration" + quoted(images) + "-o" + quoted(model) +
                options);
  }
  program_outcome evaluate(const std::string& options = "") const {
    return deit("evaluate --model" + quoted(model) + "--images" + quoted(images) + "--json" + quoted(json) + options);
  }
};

}  // namespace intact_test
