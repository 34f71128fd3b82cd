#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <string>
#include <vector>

#include "catch.hpp"
#include "deit/evaluate.hpp"
#include "deit/image_folder.hpp"
#include "deit_files.hpp"
#include "refusal.hpp"
#include "scratch_folder.hpp"

// The parts of intact-deit: images, folders, labels, predictions.

namespace intact_test::deit_test {
namespace {

using namespace intact_deit;

}  // namespace

TEST_CASE("read_image: decodes images under any name") {
  const scratch_folder folder;
  const rgb_image image = made_image(9, 14);
  write_png(folder / "image.jpg", image);
  CHECK(read_image(folder / "image.jpg") == image);

  std::vector<std::uint8_t> rgba, gray;
  rgb_image gray_as_rgb(9, 14);
  for (std::size_t pixel = 0; pixel < 9 * 14; ++pixel) {
    rgba.insert(rgba.end(), &image.samples[3 * pixel], &image.samples[3 * pixel] + 3);
    rgba.push_back(static_cast<std::uint8_t>(pixel));
    gray.push_back(image.samples[pixel]);
    std::fill_n(&gray_as_rgb.samples[3 * pixel], 3, image.samples[pixel]);
  }
  write_png(folder / "rgba.png", rgba.data(), 9, 14, PNG_FORMAT_RGBA);
  CHECK(read_image(folder / "rgba.png") == image);  // transparency is ignored
  write_png(folder / "gray.png", gray.data(), 9, 14, PNG_FORMAT_GRAY);
  CHECK(read_image(folder / "gray.png") == gray_as_rgb);

  rgb_image plain(16, 24);
  std::fill(plain.samples.begin(), plain.samples.end(), std::uint8_t{77});
  write_jpeg(folder / "plain.png", plain.samples, 16, 24, {.across = 2, .down = 2});
  CHECK(read_image(folder / "plain.png") == plain);
}

TEST_CASE("read_image: refuses files of no image, naming them") {
  const scratch_folder folder;
  write_png(folder / "good.png", made_image(20, 30));
  write_jpeg(folder / "good.jpg", made_image(20, 30));
  const auto error = [&](const std::string& name) {
    return refusal<std::exception>([&] { read_image(folder / name); });
  };
  for (const std::string name : {"good.png", "good.jpg"}) {
    const std::string bytes = file_contents(folder / name);
    for (std::size_t size = 0; size + 12 < bytes.size(); size += 5) {  // the last 12 bytes of a PNG say only "end"
      write_text(folder / "cut", bytes.substr(0, size));
      CAPTURE(name, size, bytes.size());
      CHECK(error("cut").starts_with((folder / "cut").string() + ": "));
    }
  }
  write_text(folder / "text.png", "this is no image\n");
  CHECK(error("text.png") == (folder / "text.png").string() + ": is neither a PNG nor a JPEG file");
  write_text(folder / "empty.png", "");
  CHECK(mentions(error("empty.png"), "neither a PNG nor a JPEG"));
  CHECK(mentions(error("missing.png"), "the file does not exist"));
  std::filesystem::create_directory(folder / "folder.png");
  CHECK(mentions(error("folder.png"), "is not a regular file"));

  // A header that claims 2^31 - 1 x 2^31 - 1 pixels, with the checksum that belongs to it.
  const std::string huge("\x89PNG\r\n\x1a\n\0\0\0\rIHDR\x7f\xff\xff\xff\x7f\xff\xff\xff\x08\x02\0\0\0", 29);
  write_text(folder / "huge.png", huge + file_contents(folder / "good.png").substr(29));
  CHECK(error("huge.png").starts_with((folder / "huge.png").string() + ": "));
}

TEST_CASE("read_labels: reads files and classes, and refuses bad lines") {
  const scratch_folder folder;
  const auto labels = [&](const std::string& text) {
    write_text(folder / "labels.tsv", text);
    return read_labels(folder / "", 10);
  };
  const auto error = [&](const std::string& text) {
    const std::string message = refusal<std::exception>([&] { labels(text); });
    const std::string file = (folder / "labels.tsv").string() + ": ";
    return message.starts_with(file) ? message.substr(file.size()) : "does not name the file: " + message;
  };
  const std::vector<labelled_image> read = labels("a.png\t0\r\n\nsub/b c.jpg\t9\n");
  REQUIRE(read.size() == 2);
  CHECK(read[0].file == folder / "a.png");
  CHECK(read[0].label == 0);
  CHECK(read[1].file == folder / "sub/b c.jpg");
  CHECK(read[1].label == 9);
  CHECK(error("a.png\t10\n") == "line 1 has the class \"10\"; it must be a number from 0 to 9");
  CHECK(error("a.png\t1\nb.png\t-1\n") == "line 2 has the class \"-1\"; it must be a number from 0 to 9");
  CHECK(error("a.png\t1x\n") == "line 1 has the class \"1x\"; it must be a number from 0 to 9");
  CHECK(error("a.png\t99999999999999999999\n").starts_with("line 1 has the class"));
  CHECK(error("a.png 1\n") == "line 1 must be a file, a tab and the number of a class");
  CHECK(error("\t1\n") == "line 1 must be a file, a tab and the number of a class");
  CHECK(error("\n\n") == "there is no image in it");
  std::filesystem::remove(folder / "labels.tsv");
  CHECK(
      mentions(refusal<std::exception>([&] { read_labels(folder / "", 10); }), "labels.tsv: the file does not exist"));
}

TEST_CASE("find_images, read_class_names: read a folder of images and a file of names") {
  const scratch_folder folder;
  CHECK(mentions(refusal<std::exception>([&] { find_images(folder / ""); }), "the folder has no PNG or JPEG file"));
  CHECK(mentions(refusal<std::exception>([&] { find_images(folder / "none"); }), "the folder does not exist"));
  std::filesystem::create_directory(folder / "b");
  for (const char* const name : {"b/2.JPEG", "c.png", "a.JPG", "notes.txt"}) {
    write_text(folder / name, "");
  }
  CHECK(find_images(folder / "") ==
        std::vector<std::filesystem::path>{folder / "a.JPG", folder / "b/2.JPEG", folder / "c.png"});
  CHECK(mentions(refusal<std::exception>([&] { find_images(folder / "c.png"); }), "is not a folder"));

  write_text(folder / "names", "n01440764 tench, Tinca tinca\nnet\r\nn0144076 x\n");
  CHECK(read_class_names(folder / "names", 3) == std::vector<std::string>{"tench, Tinca tinca", "net", "n0144076 x"});
  CHECK(mentions(refusal<std::exception>([&] { read_class_names(folder / "names", 4); }),
                 "there are 3 names; the model has 4 classes"));
}

TEST_CASE("accuracy_of, compare: give accuracy and closeness of predictions") {
  predictions found, in_float;
  found.images = {{{0, 4}, 0.5, ""}, {{3, 0}, 0.5, ""}, {{}, 0, "cannot be read"}};
  in_float.images = {{{0, 5}, 1, ""}, {{0, 5}, 1, ""}, {{}, 0, "cannot be read"}};
  const std::vector<labelled_image> images = {{"a", 1}, {"b", 1}, {"c", 0}};
  CHECK(found.failed() == 1);
  CHECK(found.images_per_second() == 2);
  CHECK(accuracy_of(found, images).top1 == 50);
  CHECK(accuracy_of(found, images).top5 == 100);
  const intact::closeness close = compare(found, in_float);
  CHECK(close.agreement == 50);
  CHECK(std::fabs(close.sqnr_db - 10 * std::log10(50.0 / 35)) < 1e-12);  // 25 + 25 over 1 + 9 + 25
  const auto divergence = [](double p, double q) {                       // of two classes with logits 0, p and 0, q
    const auto sigmoid = [](double x) { return 1 / (1 + std::exp(-x)); };
    return sigmoid(p) * std::log(sigmoid(p) / sigmoid(q)) + sigmoid(-p) * std::log(sigmoid(-p) / sigmoid(-q));
  };
  CHECK(std::fabs(close.kl - (divergence(5, 4) + divergence(5, -3)) / 2) < 1e-12);
  CHECK(compare(in_float, in_float).kl == 0);
  CHECK(std::isinf(compare(in_float, in_float).sqnr_db));
}

}  // namespace intact_test::deit_test
