#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "cases.hpp"
#include "catch.hpp"
#include "deit/model_input.hpp"
#include "deit_files.hpp"
#include "jpeg_writer.hpp"
#include "scratch_folder.hpp"

// Image files of every kind: the pixels are those of Pillow, before and after resizing and cropping, and the files that
// Pillow refuses are refused.

namespace intact_test::deit_image_test {
namespace {

using intact_deit::input_size;
using intact_deit::read_image;
using intact_deit::read_input;

/// A Python that has Pillow, the system's first, which has the libjpeg of this test; nothing if there is none.
std::string python_with_pillow() {
  for (const char* const python : {"/usr/bin/python3", "python3"}) {
    if (std::system((std::string(python) + " -c 'import PIL.Image' 2> /dev/null").c_str()) == 0) {
      return python;
    }
  }
  return {};
}

std::string quoted(const std::filesystem::path& path) {
  return " '" + path.string() + "'";
}

std::vector<std::uint8_t> bytes_of(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

/// An image of the script's answers.
rgb_image read_ppm(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::string magic;
  index_t width = 0, height = 0, largest = 0;
  file >> magic >> width >> height >> largest;
  file.get();
  REQUIRE(magic == "P6");
  rgb_image image(height, width);
  file.read(reinterpret_cast<char*>(image.samples.data()), static_cast<std::streamsize>(image.samples.size()));
  REQUIRE(file);
  return image;
}

/// Files, and Pillow's answers.
struct pillow_case {
  std::string python = python_with_pillow();
  scratch_folder folder;
  std::filesystem::path answers = folder / "answers";
  std::size_t equal = 0, refused = 0;

  /// Runs the script, for new answers.
  void run(const std::string& arguments) const {
    std::filesystem::remove_all(answers);
    std::filesystem::create_directory(answers);
    REQUIRE(std::system((python + quoted(INTACT_PILLOW_IMAGES) + ' ' + arguments).c_str()) == 0);
  }

  /// Compares what `read` makes of each file with the answers.
  template <class Read>
  void compare(const std::filesystem::path& files, const Read& read) {
    for (const auto& entry : std::filesystem::directory_iterator(files)) {
      const std::string name = entry.path().filename().string();
      CAPTURE(name);
      const std::filesystem::path pixels = answers / (name + ".ppm");
      const bool readable = std::filesystem::exists(pixels);
      if (!readable && !std::filesystem::exists(answers / (name + ".refused"))) {
        continue;  // too large for the script
      }
      rgb_image found;
      std::string error;
      try {
        found = read(entry.path());
      } catch (const std::runtime_error& problem) {
        error = problem.what();
        CHECK(error.starts_with(entry.path().string() + ": "));
      }
      CAPTURE(error);
      // Pillow takes files that end within the last checksums, and fills rows that are missing with black.
      if (readable && (error.empty() || !name.starts_with("cut_"))) {
        CHECK(found == read_ppm(pixels));
        ++equal;
      } else {
        CHECK_FALSE(error.empty());
        ++refused;
      }
    }
  }
};

/// Files of kinds that Pillow does not write.
void write_jpeg_kinds(const std::filesystem::path& folder) {
  const index_t height = 37, width = 53;
  const auto samples = [&](index_t components) {
    std::vector<std::uint8_t> all;
    for (index_t i = 0; i < height * width * components; ++i) {
      const index_t x = i / components % width, y = i / components / width, c = i % components;
      all.push_back(static_cast<std::uint8_t>((5 * x + 3 * y * (c + 1) + 40 * c + x * y / 9) % 256));
    }
    return all;
  };
  int number = 0;
  const auto write = [&](const jpeg_options& options) {
    const index_t components = options.given == JCS_GRAYSCALE ? 1 : options.given == JCS_CMYK ? 4 : 3;
    write_jpeg(folder / ("kind" + std::to_string(number++) + ".jpg"), samples(components), height, width, options);
  };
  for (const bool arithmetic : {false, true}) {
    for (const bool progressive : {false, true}) {
      for (const unsigned restart_interval : {0U, 1U, 5U}) {
        write({.across = 2,
               .down = 2,
               .progressive = progressive,
               .arithmetic = arithmetic,
               .restart_interval = restart_interval});
        write({.given = JCS_GRAYSCALE,
               .stored = JCS_GRAYSCALE,
               .progressive = progressive,
               .arithmetic = arithmetic,
               .restart_interval = restart_interval});
      }
    }
  }
  for (const int across : {1, 2, 4}) {
    for (const int down : {1, 2, 4}) {
      if (across * down <= 8) {
        write({.across = across, .down = down});
        write({.across = across, .down = down, .one_scan_each = true});
      }
    }
  }
  write({.given = JCS_GRAYSCALE, .stored = JCS_GRAYSCALE, .across = 2, .down = 2});
  for (const bool marked : {false, true}) {
    for (const bool progressive : {false, true}) {
      write({.progressive = progressive, .jfif = marked});
      write({.stored = JCS_RGB, .progressive = progressive, .adobe = marked});
      write({.given = JCS_CMYK, .stored = JCS_CMYK, .progressive = progressive, .adobe = marked});
      write(
          {.given = JCS_CMYK, .stored = JCS_YCCK, .across = 2, .down = 2, .progressive = progressive, .adobe = marked});
    }
  }
}

}  // namespace

TEST_CASE("read_image: gives Pillow's pixels, or refuses files that Pillow refuses [every kind of file]") {
  pillow_case test;
  if (test.python.empty()) {
    report_skipped("there is no python3 with Pillow");
    return;
  }
  const std::filesystem::path files = test.folder / "files";
  std::filesystem::create_directory(files);
  write_jpeg_kinds(files);
  test.run("make" + quoted(files));
  test.run("decode" + quoted(files) + quoted(test.answers));
  test.compare(files, [](const std::filesystem::path& file) { return read_image(file); });
  std::cout << "[intact: compared] " << test.equal << " images, " << test.refused << " refused files\n";
  CHECK(test.equal > 300);
  CHECK(test.refused > 100);
}

TEST_CASE("read_input: resizes and crops images as timm with Pillow") {
  pillow_case test;
  if (test.python.empty()) {
    report_skipped("there is no python3 with Pillow");
    return;
  }
  const std::filesystem::path files = test.folder / "files";
  std::filesystem::create_directory(files);
  for (const auto& [height, width] : {std::pair{224, 224},
                                      {225, 224},
                                      {224, 256},
                                      {256, 256},
                                      {1, 1},
                                      {2, 90},
                                      {90, 2},
                                      {223, 511},
                                      {640, 479},
                                      {701, 1500},
                                      {32, 32},
                                      {48, 33}}) {
    write_png(files / (std::to_string(width) + 'x' + std::to_string(height) + ".png"), made_image(height, width));
  }
  for (const input_size& input : std::vector<input_size>{{{224, 0.875}},
                                                         {{224, 0.9}},
                                                         {{224, 1.0}},
                                                         {{32, 0.95}},
                                                         {{384, 1.0}},
                                                         {{16, 0.1}},
                                                         {{{48, 32}, 0.9}},
                                                         {{{96, 224}, 1.0}}}) {
    const intact::image_sides size = input.preprocessing.size;
    CAPTURE(size.height, size.width, input.preprocessing.crop);
    test.run("prepare" + quoted(files) + quoted(test.answers) + ' ' + std::to_string(size.height) + 'x' +
             std::to_string(size.width) + ' ' + std::to_string(input.preprocessing.crop));
    test.compare(files, [&](const std::filesystem::path& file) { return read_input(file, input); });
  }
  CHECK(test.equal == 12 * 8);
}

TEST_CASE("read_image: gives Pillow's pixels [INTACT_IMAGES_DIR]", "[data]") {
  const char* const files = std::getenv("INTACT_IMAGES_DIR");
  pillow_case test;
  if (files == nullptr || test.python.empty()) {
    report_skipped("INTACT_IMAGES_DIR names no folder of image files, or there is no python3 with Pillow");
    return;
  }
  test.run("decode" + quoted(files) + quoted(test.answers));
  test.compare(files, [](const std::filesystem::path& file) { return read_image(file); });
  test.run("prepare" + quoted(files) + quoted(test.answers) + " 224x224 0.875");
  test.compare(files, [](const std::filesystem::path& file) { return read_input(file, {{224, 0.875}}); });
  std::cout << "[intact: compared] " << test.equal << " images, " << test.refused << " refused files\n";
  CHECK(test.equal > 0);
}

TEST_CASE("read_image: refuses files of other formats, naming the format") {
  const scratch_folder folder;
  const auto error = [&](std::string_view bytes) {
    write_text(folder / "file.png", std::string(bytes));
    const std::string file = (folder / "file.png").string() + ": ";
    try {
      read_image(folder / "file.png");
    } catch (const std::runtime_error& problem) {
      const std::string message = problem.what();
      return message.starts_with(file) ? message.substr(file.size()) : "does not name the file: " + message;
    }
    return std::string("no error");
  };
  using namespace std::string_view_literals;
  CHECK(error("GIF89a\1\0\1\0"sv) == "is a GIF file; it must be a PNG or JPEG file");
  CHECK(error("RIFF\0\0\0\0WEBPVP8 "sv) == "is a WebP file; it must be a PNG or JPEG file");
  CHECK(error("BM\1\2\3\4"sv) == "is a BMP file; it must be a PNG or JPEG file");
  CHECK(error("II*\0\x08\0\0\0"sv) == "is a TIFF file; it must be a PNG or JPEG file");
  CHECK(error("MM\0*\0\0\0\x08"sv) == "is a TIFF file; it must be a PNG or JPEG file");
  CHECK(error("\0\0\0\x1c"
              "ftypavif"sv) == "is an AVIF file; it must be a PNG or JPEG file");
  CHECK(error("\0\0\0\x18"
              "ftypheic"sv) == "is a HEIF file; it must be a PNG or JPEG file");
  CHECK(error("version https://git-lfs.github.com/spec/v1\n"sv) ==
        "is a Git LFS pointer; it must be a PNG or JPEG file");
  CHECK(error("\x89PNG\r\n"sv) == "is neither a PNG nor a JPEG file");
  CHECK(error("\xff\xd8"sv) == "is neither a PNG nor a JPEG file");
  CHECK(error("GIF"sv) == "is neither a PNG nor a JPEG file");
}

TEST_CASE("read_image: refuses a JPEG file of very many scans") {
  const scratch_folder folder;
  write_jpeg(folder / "few.jpg", std::vector<std::uint8_t>(64 * 64, 100), 64, 64,
             {.given = JCS_GRAYSCALE, .stored = JCS_GRAYSCALE, .progressive = true});
  const std::vector<std::uint8_t> few = bytes_of(folder / "few.jpg");
  // The last scan, with the tables before it, again and again.
  const std::string text(few.begin(), few.end());
  const std::size_t last = text.rfind("\xff\xda"), end = text.size() - 2;
  const auto with_scans = [&](int count) {
    std::string many = text.substr(0, end);
    for (int i = 0; i < count; ++i) {
      many += text.substr(last, end - last);
    }
    write_text(folder / "many.jpg", many + text.substr(end));
    return folder / "many.jpg";
  };
  CHECK(read_image(with_scans(400)).height == 64);
  CHECK_THROWS_WITH(read_image(with_scans(600)),
                    (folder / "many.jpg").string() + ": libjpeg: the image has more than 500 scans");
}

TEST_CASE("read_input: takes prepared images unchanged, and refuses those of another size") {
  const scratch_folder folder;
  write_png(folder / "image.png", made_image(12, 16));
  write_png(folder / "square.png", made_image(12, 12));
  CHECK(read_input(folder / "square.png", {{12, 0.875}, true}) == made_image(12, 12));
  CHECK_FALSE(read_input(folder / "square.png", {{12, 0.875}}) == made_image(12, 12));
  CHECK(read_input(folder / "square.png", {{12, 1}}) == made_image(12, 12));
  CHECK_THROWS_WITH(
      read_input(folder / "image.png", {{12, 0.875}, true}),
      (folder / "image.png").string() + ": the image is 16 x 12; prepared images must have the model's size, 12 x 12");
}

}  // namespace intact_test::deit_image_test
