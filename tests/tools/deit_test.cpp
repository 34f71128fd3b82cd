#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <iterator>
#include <limits>
#include <string>
#include <vector>

#include "catch.hpp"
#include "deit/block_errors.hpp"
#include "deit/checkpoint.hpp"
#include "deit/equalization.hpp"
#include "deit/evaluate.hpp"
#include "deit/image_folder.hpp"
#include "deit/reconstruction.hpp"
#include "deit_files.hpp"
#include "refusal.hpp"
#include "scratch_folder.hpp"

// The parts of intact-deit: images, folders, checkpoints, measures, calibration.

namespace intact_test::deit_test {
namespace {

using namespace intact_deit;

std::uint64_t fnv1a(const std::vector<std::uint8_t>& bytes) {
  std::uint64_t hash = 14695981039346656037U;
  for (const std::uint8_t byte : bytes) {
    hash = (hash ^ byte) * 1099511628211U;
  }
  return hash;
}

/// The whole image, resized.
rgb_image resized(const rgb_image& image, index_t height, index_t width) {
  return resize(image, height, width, {{0, height}, {0, width}});
}

template <class Action>
std::string error_of(Action action) {
  try {
    action();
  } catch (const std::exception& error) {
    return error.what();
  }
  return "no error";
}

std::string contents(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace

TEST_CASE("images are resized to the bit as Pillow does it") {
  // Computed with Pillow 9.4: Image.resize(..., Image.BICUBIC).
  CHECK(resized(made_image(5, 7), 3, 4).samples ==
        std::vector<std::uint8_t>{86,  75,  159, 117, 97, 131, 90,  70,  92,  169, 47,  149,
                                  100, 114, 122, 118, 99, 121, 143, 102, 72,  123, 123, 86,
                                  69,  105, 169, 99,  77, 138, 62,  116, 132, 148, 119, 117});
  CHECK(resized(made_image(3, 2), 5, 3).samples ==
        std::vector<std::uint8_t>{0,   40, 114, 107, 56,  168, 238, 72,  222, 40,  78, 102, 93,  67,  124,
                                  154, 55, 146, 110, 137, 79,  76,  83,  62,  41,  29, 45,  93,  146, 61,
                                  104, 83, 92,  113, 21,  123, 73,  145, 51,  124, 82, 119, 174, 18,  187});
  CHECK(fnv1a(resized(made_image(300, 200), 384, 256).samples) == 0x25071581ff4c204c);
  CHECK(fnv1a(resized(made_image(91, 640), 256, 1800).samples) == 0x2d797f651b0dc3a);
  CHECK(fnv1a(resized(made_image(480, 333), 36, 25).samples) == 0xf8ecc02e3b64fd1d);
  CHECK(fnv1a(resized(made_image(33, 40), 33, 7).samples) == 0xb5c654c9cc8d8fc3);
  CHECK(fnv1a(resized(made_image(33, 40), 100, 40).samples) == 0xa2ccb667ec63a753);
  CHECK(resized(made_image(6, 9), 6, 9) == made_image(6, 9));
  CHECK(resized(made_image(1, 1), 3, 2).samples.size() == 18);
}

TEST_CASE("preprocessing resizes the shorter side to 256 and cuts out the centre") {
  // Computed with Pillow 9.4 and the roundings of torchvision.
  CHECK(fnv1a(preprocess(made_image(300, 201), 224, 0.875).samples) == 0x21e224ebbebaf227);
  CHECK(fnv1a(preprocess(made_image(201, 300), 224, 0.875).samples) == 0x955540b34fe02b7f);
  CHECK(fnv1a(preprocess(made_image(224, 225), 224, 0.875).samples) == 0x75c1952d3872f961);
  CHECK(fnv1a(preprocess(made_image(100, 100), 224, 0.875).samples) == 0xf33eed12cf046999);
  CHECK(preprocess(made_image(224, 224), 224, 1) == made_image(224, 224));
  CHECK(preprocess(made_image(1, 1), 8, 1).samples.size() == 3 * 64);
  // The whole of this one, resized, would take 200 GB.
  CHECK(preprocess(rgb_image(1, 1 << 20), 224, 0.875) == rgb_image(224, 224));
}

TEST_CASE("positions are interpolated as torch does it") {
  // torch.nn.functional.interpolate(..., mode="bicubic", antialias=True) of a 3 x 3 plane.
  float_matrix positions(10, 1);
  positions(0, 0) = 99;  // the class token's
  for (index_t i = 0; i < 9; ++i) {
    const float x = static_cast<float>(i);
    positions(i + 1, 0) = x * x * 0.37F + std::sin(x) * 3;
  }
  const std::vector<float> two = {1.43402F, 3.63501F, 11.0452F, 17.99027F};
  const std::vector<float> five = {-0.5188F,  0.75725F,  2.83742F,  3.76083F,  4.13557F,  0.81267F,  1.37743F,
                                   2.42266F,  3.55244F,  4.18308F,  3.76119F,  3.59501F,  3.64959F,  5.41328F,
                                   6.57878F,  9.2279F,   11.02765F, 14.36452F, 17.99942F, 20.03138F, 12.52148F,
                                   15.71127F, 21.34257F, 26.14792F, 28.69415F};
  for (const auto& [side, expected] : {std::pair{2, two}, std::pair{5, five}}) {
    const float_matrix resized = intact_deit::detail::resize_positions(positions, 3, side);
    REQUIRE(resized.rows() == 1 + side * side);
    CHECK(resized(0, 0) == 99);
    for (index_t i = 0; i < side * side; ++i) {
      CAPTURE(side, i);
      CHECK(std::fabs(resized(i + 1, 0) - expected[static_cast<std::size_t>(i)]) < 2e-5F);
    }
  }
}

TEST_CASE("images are decoded, whatever their names say") {
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

TEST_CASE("files that are no images are named") {
  const scratch_folder folder;
  write_png(folder / "good.png", made_image(20, 30));
  write_jpeg(folder / "good.jpg", made_image(20, 30));
  const auto error = [&](const std::string& name) { return error_of([&] { read_image(folder / name); }); };
  for (const std::string name : {"good.png", "good.jpg"}) {
    const std::string bytes = contents(folder / name);
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
  write_text(folder / "huge.png", huge + contents(folder / "good.png").substr(29));
  CHECK(error("huge.png").starts_with((folder / "huge.png").string() + ": "));
}

TEST_CASE("label files") {
  const scratch_folder folder;
  const auto labels = [&](const std::string& text) {
    write_text(folder / "labels.tsv", text);
    return read_labels(folder / "", 10);
  };
  const auto error = [&](const std::string& text) {
    const std::string message = error_of([&] { labels(text); });
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
  CHECK(mentions(error_of([&] { read_labels(folder / "", 10); }), "labels.tsv: the file does not exist"));
}

TEST_CASE("images of a folder and names of classes") {
  const scratch_folder folder;
  CHECK(mentions(error_of([&] { find_images(folder / ""); }), "the folder has no PNG or JPEG file"));
  CHECK(mentions(error_of([&] { find_images(folder / "none"); }), "the folder does not exist"));
  std::filesystem::create_directory(folder / "b");
  for (const char* const name : {"b/2.JPEG", "c.png", "a.JPG", "notes.txt"}) {
    write_text(folder / name, "");
  }
  CHECK(find_images(folder / "") ==
        std::vector<std::filesystem::path>{folder / "a.JPG", folder / "b/2.JPEG", folder / "c.png"});
  CHECK(mentions(error_of([&] { find_images(folder / "c.png"); }), "is not a folder"));

  write_text(folder / "names", "n01440764 tench, Tinca tinca\nnet\r\nn0144076 x\n");
  CHECK(read_class_names(folder / "names", 3) == std::vector<std::string>{"tench, Tinca tinca", "net", "n0144076 x"});
  CHECK(
      mentions(error_of([&] { read_class_names(folder / "names", 4); }), "there are 3 names; the model has 4 classes"));
}

TEST_CASE("measures of predictions") {
  CHECK(likeliest({1, 5, 5, -2}, 5) == std::vector<index_t>{1, 2, 0, 3});
  CHECK(likeliest({1, 5, 5, -2}, 1) == std::vector<index_t>{1});
  predictions found, in_float;
  found.images = {{{0, 4}, 0.5, ""}, {{3, 0}, 0.5, ""}, {{}, 0, "cannot be read"}};
  in_float.images = {{{0, 5}, 1, ""}, {{0, 5}, 1, ""}, {{}, 0, "cannot be read"}};
  const std::vector<labelled_image> images = {{"a", 1}, {"b", 1}, {"c", 0}};
  CHECK(found.failed() == 1);
  CHECK(found.images_per_second() == 2);
  CHECK(accuracy_of(found, images).top1 == 50);
  CHECK(accuracy_of(found, images).top5 == 100);
  const closeness close = compare(found, in_float);
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

TEST_CASE("the median of an even number of parts is the mean of the middle two") {
  const auto median = [](const std::vector<double>& values) {
    std::vector<part_error> parts = {{"mlp", 0, -50}, {"mlp", 1, 90}};
    for (const double value : values) {
      parts.push_back({"attention", std::ssize(parts), value});
    }
    return median_sqnr_db(parts, "attention");
  };
  CHECK(median({}) == 0);
  CHECK(median({7}) == 7);
  CHECK(median({30, 10}) == 20);
  CHECK(median({50, 10, 30}) == 30);
  CHECK(median({50, 10, 30, 20}) == 25);
}

TEST_CASE("checkpoints under Hugging Face's names are the same models") {
  const scratch_folder folder;
  for (const vit_shape& shape : {tiny_vit, distilled_vit}) {
    const float_vit model = random_float_vit(shape);
    timm_checkpoint(model).write(folder / "timm.safetensors");
    checkpoint_tensors theirs = hugging_face_checkpoint(model);
    theirs.write(folder / "theirs.safetensors");
    const checkpoint_options options{.model = {.epsilon = 1e-6F}};
    const float_vit a = load_checkpoint(folder / "timm.safetensors", options);
    const float_vit b = load_checkpoint(folder / "theirs.safetensors", options);
    CHECK(a.shape.class_tokens == shape.class_tokens);
    CHECK(b.shape.class_tokens == shape.class_tokens);
    CHECK(a.head.weight == model.head.weight);
    CHECK(a.class_token == model.class_token);
    CHECK(b.epsilon == 1e-6F);
    CHECK(a.mean == std::vector<float>{0.485F, 0.456F, 0.406F});
    const rgb_image image = made_image(12, 12);
    CHECK(intact::forward(a, image.view()) == intact::forward(b, image.view()));
    CHECK(load_checkpoint(folder / "theirs.safetensors", {}).epsilon == 1e-12F);
    CHECK(load_checkpoint(folder / "timm.safetensors", {}).epsilon == 1e-6F);

    theirs.all.erase("vit.encoder.layer.1.attention.attention.key.bias");
    theirs.write(folder / "theirs.safetensors");
    CHECK(mentions(error_of([&] { load_checkpoint(folder / "theirs.safetensors", {}); }),
                   "tensor \"vit.encoder.layer.1.attention.attention.key.bias\" is missing"));
  }
}

TEST_CASE("models take images of other sizes, by interpolated positions") {
  const scratch_folder folder;
  for (const vit_shape& shape : {tiny_vit, distilled_vit}) {
    const float_vit model = random_float_vit(shape);
    timm_checkpoint(model).write(folder / "model.safetensors");
    const float_vit larger = load_checkpoint(folder / "model.safetensors", {.image_size = 20});
    CHECK(larger.shape.height == 20);
    CHECK(larger.positions.rows() == 25 + shape.class_tokens);
    CHECK(larger.positions.topRows(shape.class_tokens) == model.positions.topRows(shape.class_tokens));
    CHECK(intact::forward(larger, made_image(20, 20).view()).size() == 7);
  }
  CHECK(mentions(error_of([&] { load_checkpoint(folder / "model.safetensors", {.image_size = 18}); }),
                 "the image size is 18; it must be a multiple of the patch size, 4"));
}

TEST_CASE("rounding that compensates makes less error of outputs than rounding to nearest") {
  random_parameters random(3);
  const float_matrix weight = random.matrix(11, 24), mixing = random.matrix(24, 24);
  const double_matrix inputs = (random.matrix(60, 24) * mixing).cast<double>();  // correlated
  const double_matrix moments = inputs.transpose() * inputs;
  for (const intact::weight_kind kind :
       {intact::weight_kind::s8, intact::weight_kind::s4, intact::weight_kind::grouped_s4}) {
    const quantization_recipe recipe{.weights = kind, .weight_group = 5};
    const auto error = [&](const intact::scaled_weights& packed) {
      const double_matrix wrong = (weight - intact_deit::detail::real_weights(packed)).cast<double>();
      return (wrong * moments).cwiseProduct(wrong).sum();
    };
    const double plain = error(intact::quantize_layer(intact::view_of(weight), recipe));
    const double nearest = error(pack(round_weights(weight, moments, recipe, false), kind));
    const double compensated = error(pack(round_weights(weight, moments, recipe, true), kind));
    CAPTURE(static_cast<int>(kind), plain, nearest, compensated);
    CHECK(nearest <= plain);
    CHECK(compensated < 0.8 * nearest);
  }
  // Weights of 0 have no range, and a single weight nothing to compensate with.
  const quantization_recipe s8;
  const rounded_weights zero = round_weights(float_matrix::Zero(2, 3), double_matrix::Identity(3, 3), s8, true);
  CHECK(zero.codes == code_matrix::Zero(2, 3));
  const rounded_weights one = round_weights(float_matrix::Constant(1, 1, -2), double_matrix::Identity(1, 1), s8, true);
  CHECK(std::fabs(static_cast<float>(one.codes(0, 0)) * one.steps.scale[0] + 2) < 0.01F);
}

TEST_CASE("an equalized model computes the same") {
  const float_vit model = random_float_vit(tiny_vit);
  const std::vector<rgb_image> images = {made_image(12, 12), rgb_image(12, 12)};
  const float_vit equal = equalized(model, images);
  CHECK(equal.blocks[1].norm2.weight != model.blocks[1].norm2.weight);
  const std::vector<float> expected = intact::forward(model, images[0].view());
  const std::vector<float> found = intact::forward(equal, images[0].view());
  for (std::size_t i = 0; i < expected.size(); ++i) {
    CHECK(std::fabs(found[i] - expected[i]) < 1e-4F);
  }
}

TEST_CASE("the simulation with everything rounded is close to the integer model") {
  const vit_shape shape = GENERATE(tiny_vit, distilled_vit);
  const float_vit model = random_float_vit(shape);
  std::vector<rgb_image> images = {made_image(12, 12), rgb_image(12, 12)};
  images.push_back(resized(made_image(40, 30), 12, 12));
  std::vector<intact::image_view> views;
  for (const rgb_image& image : images) {
    views.push_back(image.view());
  }
  const vit_scales scales = intact::calibrate(model, views);
  for (const named_profile& named : all_profiles()) {
    for (const bool search : {false, true}) {
      CAPTURE(named.name, search);
      const calibrated_model calibrated =
          search ? reconstruction(model, scales, named.recipe, {.compensate = true, .threads = 2})(images)
                 : round_weights(model, scales, named.recipe);
      const intact::packed_vit integer(
          intact::build_vit(calibrated.model, calibrated.scales, calibrated.weights, named.recipe));
      kind_set kinds;
      for (std::size_t kind = 0; kind < kind_count; ++kind) {
        kinds.set(kind, has_kind(static_cast<tensor_kind>(kind), named.recipe));
      }
      const simulated_vit simulated(model, calibrated, named.recipe, kinds);
      integer_classifier classify(integer);
      double signal = 0, noise = 0;
      for (const rgb_image& image : images) {
        const intact::image_view view = image.view();
        const logit_row expected = simulated(view), found = classify({&view, 1}).front();
        for (std::size_t i = 0; i < found.size(); ++i) {
          signal += std::pow(static_cast<double>(expected[i]), 2);
          noise += std::pow(static_cast<double>(found[i] - expected[i]), 2);
        }
      }
      CHECK(10 * std::log10(signal / noise) > 25);
    }
  }
}

}  // namespace intact_test::deit_test
