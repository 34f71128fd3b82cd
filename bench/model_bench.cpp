// Times whole vision transformers in integers, in turns with one of their blocks and with the float model on Eigen. The
// logits are compared with the specification's first.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <map>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <Eigen/Core>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "intact/build/packed_vit.hpp"
#include "intact/executors/openmp.hpp"
#include "intact/io/replace_file.hpp"
#include "intact/quantize/build_vit.hpp"
#include "intact/quantize/calibrate.hpp"
#include "intact/reference/model/vit.hpp"
#include "program_pages.hpp"
#include "rounds.hpp"

namespace intact_bench {
namespace {

using intact::index_t;

/// DeiT-T, DeiT-S and ViT-B on images of 224 x 224, and something to see that the program works.
constexpr intact::vit_shape deit(index_t width) {
  return {.channels = 3,
          .height = 224,
          .image_width = 224,
          .patch = 16,
          .width = width,
          .heads = width / 64,
          .hidden = 4 * width,
          .depth = 12,
          .classes = 1000};
}

const std::map<std::string, intact::vit_shape> models = {{"deit_t", deit(192)},
                                                         {"deit_s", deit(384)},
                                                         {"vit_b", deit(768)},
                                                         {"tiny",
                                                          {.channels = 3,
                                                           .height = 16,
                                                           .image_width = 24,
                                                           .patch = 8,
                                                           .width = 24,
                                                           .heads = 2,
                                                           .hidden = 40,
                                                           .depth = 2,
                                                           .classes = 7}}};

/// A float model of random weights that keep the magnitude of their inputs.
class random_model {
 public:
  intact::float_vit operator()(const intact::vit_shape& shape) {
    intact::float_vit model;
    model.shape = shape;
    model.mean.assign(static_cast<std::size_t>(shape.channels), 0.45F);
    model.standard_deviation.assign(static_cast<std::size_t>(shape.channels), 0.23F);
    model.patch = linear(shape.width, shape.patch_values());
    model.class_token = matrix(1, shape.width, 1);
    model.positions = matrix(shape.tokens(), shape.width, 0.3F);
    for (index_t i = 0; i < shape.depth; ++i) {
      model.blocks.push_back({.norm1 = norm(shape.width),
                              .qkv = linear(3 * shape.width, shape.width),
                              .proj = linear(shape.width, shape.width),
                              .norm2 = norm(shape.width),
                              .fc1 = linear(shape.hidden, shape.width),
                              .fc2 = linear(shape.width, shape.hidden)});
    }
    model.norm = norm(shape.width);
    model.head = linear(shape.classes, shape.width);
    return model;
  }

  std::vector<std::uint8_t> pixels(index_t count) {
    std::vector<std::uint8_t> samples(static_cast<std::size_t>(count));
    std::generate(samples.begin(), samples.end(), [&] { return static_cast<std::uint8_t>(engine_()); });
    return samples;
  }

 private:
  intact::float_matrix matrix(index_t rows, index_t columns, float largest) {
    std::uniform_real_distribution<float> number(-largest, largest);
    return intact::float_matrix::NullaryExpr(rows, columns, [&] { return number(engine_); });
  }
  intact::float_linear linear(index_t outputs, index_t inputs) {
    return {matrix(outputs, inputs, 1.7F / std::sqrt(static_cast<float>(inputs))), matrix(1, outputs, 0.1F)};
  }
  intact::float_layernorm norm(index_t width) {
    return {intact::float_row::Ones(width), intact::float_row::Zero(width)};
  }

  std::mt19937 engine_{1};
};

/// A batch through a model, as often as one likes.
class model_run {
 public:
  model_run(const intact::packed_vit& model, std::span<const intact::image_view> images, int threads)
      : model_(model),
        images_(images),
        run_(threads),
        scratch_(intact::vit_workspace_bytes(model.shape(), std::ssize(images), threads)),
        logits_(images.size() * static_cast<std::size_t>(model.shape().classes)),
        logits_u8_(logits_.size()) {}

  void operator()() {
    const index_t batch = std::ssize(images_), classes = model_.shape().classes;
    intact::vit(
        images_, model_.parameters(), model_.shape(),
        {intact::matrix_view(logits_.data(), batch, classes), intact::matrix_view(logits_u8_.data(), batch, classes)},
        intact::workspace(scratch_.data(), scratch_.size()), run_);
  }

  const std::vector<std::int32_t>& logits() const { return logits_; }

 private:
  const intact::packed_vit& model_;
  std::span<const intact::image_view> images_;
  intact::openmp_executor run_;
  std::vector<std::byte> scratch_;
  std::vector<std::int32_t> logits_;
  std::vector<std::uint8_t> logits_u8_;
};

/// A block on residual streams of a batch.
class block_run {
 public:
  block_run(const intact::packed_vit& model, index_t batch, int threads)
      : model_(model),
        run_(threads),
        scratch_(intact::block_workspace_bytes(model.shape().block(), batch, threads)),
        stream_(static_cast<std::size_t>(batch * model.shape().tokens() * model.shape().width), 100),
        view_(stream_.data(), batch * model.shape().tokens(), model.shape().width) {}

  void operator()() {
    intact::block(view_, model_.parameters().blocks.front(), model_.shape().block(),
                  intact::workspace(scratch_.data(), scratch_.size()), run_);
  }

 private:
  const intact::packed_vit& model_;
  intact::openmp_executor run_;
  std::vector<std::byte> scratch_;
  std::vector<std::int16_t> stream_;
  intact::matrix_view<std::int16_t> view_;
};

/// Logits of an image by the specification.
std::vector<std::int32_t> specified_logits(const intact::packed_vit& model, const intact::image_view& image) {
  std::vector<std::int32_t> logits(static_cast<std::size_t>(model.shape().classes));
  std::vector<std::uint8_t> logits_u8(logits.size());
  std::vector<std::byte> scratch(intact::reference::vit_workspace_bytes(model.shape()));
  intact::reference::vit(image, model.parameters(), model.shape(),
                         {intact::matrix_view(logits.data(), 1, model.shape().classes),
                          intact::matrix_view(logits_u8.data(), 1, model.shape().classes)},
                         intact::workspace(scratch.data(), scratch.size()));
  return logits;
}

struct options {
  std::string model = "deit_t", json;
  int threads = 1;
  index_t batch = 1;
  bool quick = false;
};

double fastest(const std::vector<double>& seconds) {
  return *std::min_element(seconds.begin(), seconds.end());
}

/// Prints what was measured in turns with the model. The fastest turns are those that no other program interrupted.
nlohmann::json show(const char* other, const rounds& measured) {
  const auto one = [](double model, double peer) -> nlohmann::json {
    return {{"model_us", 1e6 * model}, {"other_us", 1e6 * peer}, {"ratio", model / peer}};
  };
  const nlohmann::json medians = one(median(measured.ours), median(measured.peer));
  const nlohmann::json best = one(fastest(measured.ours), fastest(measured.peer));
  for (const auto& [name, row] : {std::pair{"median", medians}, std::pair{"fastest", best}}) {
    std::printf("%-8s model %10.1f us    %-14s %10.1f us    ratio %.3f\n", name, row.at("model_us").get<double>(),
                other, row.at("other_us").get<double>(), row.at("ratio").get<double>());
  }
  return {{"other", other}, {"median", medians}, {"fastest", best}};
}

/// The exit code.
int run(const options& given) {
  const intact::vit_shape& shape = models.at(given.model);
  Eigen::setNbThreads(given.threads);
  random_model random;
  const intact::float_vit in_float = random(shape);
  std::vector<std::vector<std::uint8_t>> pixels;
  std::vector<intact::image_view> images;
  for (index_t i = 0; i < given.batch; ++i) {
    pixels.push_back(random.pixels(shape.channels * shape.height * shape.image_width));
    images.push_back(intact::interleaved_image(pixels.back().data(), shape.channels, shape.height, shape.image_width));
  }
  intact::vit_scales scales = intact::calibrate(in_float, {images.data(), 1});
  for (intact::block_scales& block : scales.blocks) {
    block.context = block.qkv;  // averages of random values are too small for a scale of their own
  }
  intact::integer_vit integer = intact::build_vit(in_float, scales, intact::precise_recipe);
  const intact::packed_vit packed(std::move(integer));
  const std::vector<std::int32_t> expected = specified_logits(packed, images.front());

  model_run model(packed, images, given.threads);
  model();
  if (!std::equal(expected.begin(), expected.end(), model.logits().begin())) {
    std::fprintf(stderr, "model_bench: the logits are wrong\n");
    return 1;
  }
  block_run block(packed, given.batch, given.threads);
  const effort limits = given.quick ? effort{0, 1, 0} : effort{.seconds = 3};
  std::printf("%s, batch %td, %d threads\n", given.model.c_str(), given.batch, given.threads);
  const nlohmann::json json = {show("block", alternate([&] { model(); }, [&] { block(); }, limits)),
                               show("float (Eigen)", alternate([&] { model(); },
                                                               [&] {
                                                                 for (const intact::image_view& image : images) {
                                                                   intact::forward(in_float, image);
                                                                 }
                                                               },
                                                               limits))};
  if (!given.json.empty()) {
    intact::write_text_file(given.json, json.dump(2) + '\n');
  }
  return 0;
}

}  // namespace
}  // namespace intact_bench

int main(int argc, char** argv) {
  using namespace intact_bench;
  options given;
  CLI::App app("Times whole vision transformers in integers beside one of their blocks and the float model.",
               "model_bench");
  intact_examples::add_version_and_pages(app);
  app.add_option("--model", given.model, "deit_t, deit_s, vit_b or tiny")
      ->capture_default_str()
      ->check(CLI::IsMember(models));
  app.add_option("--threads", given.threads, "of all three")->capture_default_str()->check(CLI::Range(1, 1024));
  app.add_option("--batch", given.batch, "images at a time")->capture_default_str()->check(CLI::Range(1, 1024));
  app.add_flag("--quick", given.quick, "measure briefly: does everything work?");
  app.add_option("--json", given.json, "write the results to this file");
  CLI11_PARSE(app, argc, argv);
  try {
    return run(given);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "model_bench: %s\n", error.what());
    return 2;
  }
}
