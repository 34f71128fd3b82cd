// Handwritten digits in integers: loads a small float vision transformer, calibrates it on a part of the training
// images, quantizes it, classifies the test images (every fifth) in float and in integers, and compares every integer
// of every tensor with an evaluation of the same graph in double precision. Times are of one image at a time on one
// thread: float32 by Eigen, the integers by kernels. Exit code 1 when a claim does not hold.

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "intact/build/packed_vit.hpp"
#include "intact/io/safetensors.hpp"
#include "intact/quantize/calibrate.hpp"
#include "intact/quantize/double_evaluation.hpp"
#include "intact/quantize/measures.hpp"
#include "intact/reference/model/vit.hpp"
#include "program_pages.hpp"
#include "write_json.hpp"

namespace {

using intact::index_t;

/// Images with their classes.
struct data_set {
  std::vector<intact::image_view> images;
  std::vector<int> labels;
};

/// Every fifth image is a test image; the others are for training.
struct digits {
  std::vector<std::uint8_t> pixels;
  data_set training, test;

  digits(const std::filesystem::path& file, const intact::vit_shape& shape) {
    const auto data = intact::safetensors_file::read(file);
    const std::vector<std::int64_t> sizes = data.info("images").shape;
    if (sizes.size() != 4 || sizes[1] != shape.channels || sizes[2] != shape.height || sizes[3] != shape.image_width) {
      throw std::invalid_argument(file.string() + ": images are not those that the model takes");
    }
    pixels = data.values<std::uint8_t>("images");
    const auto labels = data.values<std::uint8_t>("labels", {sizes[0]});
    const index_t size = shape.channels * shape.height * shape.image_width;
    for (std::size_t n = 0; n < labels.size(); ++n) {
      if (labels[n] >= shape.classes) {
        throw std::invalid_argument(file.string() + ": label " + std::to_string(labels[n]) + " is no class");
      }
      data_set& part = n % 5 == 0 ? test : training;
      part.images.push_back(intact::planar_image(pixels.data() + static_cast<index_t>(n) * size, shape.channels,
                                                 shape.height, shape.image_width));
      part.labels.push_back(labels[n]);
    }
  }
};

/// Logits of every test image, row by row, in the float model's units.
struct predictions {
  std::vector<double> logits;
  std::vector<int> classes;
  double microseconds_per_image = 0;

  void add(std::span<const double> row) {
    logits.insert(logits.end(), row.begin(), row.end());
    classes.push_back(static_cast<int>(std::max_element(row.begin(), row.end()) - row.begin()));
  }
};

/// Runs `classify` on every image; the time of an image is the median over all.
template <class Classify>
predictions predict(const data_set& data, Classify classify) {
  predictions all;
  std::vector<double> times;
  for (const intact::image_view& image : data.images) {
    const auto start = std::chrono::steady_clock::now();
    const std::vector<double> logits = classify(image);
    const std::chrono::duration<double, std::micro> time = std::chrono::steady_clock::now() - start;
    times.push_back(time.count());
    all.add(logits);
  }
  const auto middle = times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2);
  std::nth_element(times.begin(), middle, times.end());
  all.microseconds_per_image = *middle;
  return all;
}

predictions predict_float(const intact::float_vit& model, const data_set& data) {
  return predict(data, [&](const intact::image_view& image) {
    const std::vector<float> logits = intact::forward(model, image);
    return std::vector<double>(logits.begin(), logits.end());
  });
}

/// The logits of an image in codes.
struct logit_codes {
  std::vector<std::int32_t> logits;
  std::vector<std::uint8_t> logits_u8;

  explicit logit_codes(index_t classes) : logits(static_cast<std::size_t>(classes)), logits_u8(logits.size()) {}

  intact::classifier_outputs view() {
    const index_t classes = std::ssize(logits);
    return {intact::matrix_view(logits.data(), 1, classes), intact::matrix_view(logits_u8.data(), 1, classes)};
  }
  friend bool operator==(const logit_codes&, const logit_codes&) = default;
};

/// An integer model on kernels, with the memory that it runs in.
class integer_program {
 public:
  explicit integer_program(const intact::packed_vit& model)
      : model_(model), scratch_(intact::vit_workspace_bytes(model.shape())), codes_(model.shape().classes) {}

  const logit_codes& codes(const intact::image_view& image) {
    intact::vit({&image, 1}, model_.parameters(), model_.shape(), codes_.view(),
                intact::workspace(scratch_.data(), scratch_.size()));
    return codes_;
  }

  std::vector<double> operator()(const intact::image_view& image) {
    std::vector<double> logits;
    for (const std::int32_t code : codes(image).logits) {
      logits.push_back(model_.real_logit(code));
    }
    return logits;
  }

 private:
  const intact::packed_vit& model_;
  std::vector<std::byte> scratch_;
  logit_codes codes_;
};

/// Compares every tensor of every image with the evaluation in double precision, and the logits of the kernels with
/// those of the specification.
intact::double_precision::comparison verify(const intact::integer_vit& model, const intact::packed_vit& packed,
                                            const data_set& data) {
  const intact::double_precision::vit_evaluation reference(model.tensors());
  integer_program program(packed);
  logit_codes specified(model.shape().classes);
  std::vector<std::byte> scratch(intact::reference::vit_workspace_bytes(model.shape()));
  intact::double_precision::comparison all;
  for (const intact::image_view& image : data.images) {
    const intact::double_precision::tensors expected = reference.evaluate(image);
    intact::double_precision::trace_comparison trace(expected);
    intact::reference::vit(image, packed.parameters(), packed.shape(), specified.view(),
                           intact::workspace(scratch.data(), scratch.size()), trace);
    intact::double_precision::comparison one = trace.result();
    if (program.codes(image) != specified) {
      ++one.mismatched;
      one.first_mismatch = "the logits of the kernels";
    }
    if (all.mismatched == 0) {
      all.first_mismatch = one.first_mismatch;
    }
    all.compared += one.compared;
    all.mismatched += one.mismatched;
  }
  return all;
}

/// One line of the table.
struct result {
  std::string name;
  double accuracy = 0;                              ///< per cent
  double agreement = 100;                           ///< with the float model's classes, per cent
  double sqnr_db = 0;                               ///< of the logits against the float model's
  intact::double_precision::comparison comparison;  ///< with double precision
  double microseconds_per_image = 0;
  bool is_float = false;
};

double per_cent_equal(const std::vector<int>& a, const std::vector<int>& b) {
  std::size_t equal = 0;
  for (std::size_t n = 0; n < a.size(); ++n) {
    equal += a[n] == b[n] ? 1U : 0U;
  }
  return 100.0 * static_cast<double>(equal) / static_cast<double>(a.size());
}

/// Signal to quantization noise ratio in decibels.
double sqnr(const std::vector<double>& signal, const std::vector<double>& quantized) {
  intact::squared_error error;
  for (std::size_t n = 0; n < signal.size(); ++n) {
    error.signal += signal[n] * signal[n];
    error.noise += (signal[n] - quantized[n]) * (signal[n] - quantized[n]);
  }
  return error.sqnr_db();
}

result summarize(const std::string& name, const predictions& found, const predictions& in_float, const data_set& data) {
  return {.name = name,
          .accuracy = per_cent_equal(found.classes, data.labels),
          .agreement = per_cent_equal(found.classes, in_float.classes),
          .sqnr_db = sqnr(in_float.logits, found.logits),
          .comparison = {},
          .microseconds_per_image = found.microseconds_per_image};
}

/// Bits of weights, activations and attention, and how each is made.
std::vector<std::pair<std::string, intact::quantization_recipe>> recipes() {
  intact::quantization_recipe s4 = intact::precise_recipe;
  s4.weights = intact::weight_kind::s4;
  intact::quantization_recipe grouped_s4 = s4;
  grouped_s4.weights = intact::weight_kind::grouped_s4;
  return {{"paper 8/8/8", intact::paper_recipe_888},
          {"paper 8/8/4", intact::paper_recipe},
          {"precise 8/8/8", intact::precise_recipe_888},
          {"precise 8/8/4", intact::precise_recipe},
          {"precise 4/8/4", s4},
          {"precise 4/8/4 grouped", grouped_s4}};
}

/// Something that must hold for exit code 0.
struct claim {
  std::string text;
  bool holds;
};

std::vector<claim> check(const std::vector<result>& results) {
  const auto named = [&](const std::string& name) {
    return *std::find_if(results.begin(), results.end(), [&](const result& r) { return r.name == name; });
  };
  const double in_float = results.front().accuracy;
  std::vector<claim> claims = {
      {"float accuracy is at least 97 %", in_float >= 97},
      {"paper 8/8/4 is within 1 point of float", std::fabs(named("paper 8/8/4").accuracy - in_float) <= 1},
      {"precise 8/8/4 has a higher SQNR than paper 8/8/8",
       named("precise 8/8/4").sqnr_db > named("paper 8/8/8").sqnr_db},
      {"4-bit weights have a higher SQNR with group factors than without",
       named("precise 4/8/4 grouped").sqnr_db > named("precise 4/8/4").sqnr_db}};
  for (std::size_t n = 1; n < results.size(); ++n) {
    const intact::double_precision::comparison& comparison = results[n].comparison;
    claims.push_back({results[n].name + " equals double precision in every code",
                      comparison.compared > 0 && comparison.mismatched == 0});
  }
  return claims;
}

void print(const std::vector<result>& results, const std::vector<claim>& claims) {
  std::printf("%-24s %9s %10s %9s %14s %11s %9s\n", "weights/activations/attn", "accuracy", "agreement", "SQNR",
              "codes compared", "mismatched", "us/image");
  for (const result& r : results) {
    if (r.is_float) {
      std::printf("%-24s %7.2f %% %10s %9s %14s %11s %9.0f\n", r.name.c_str(), r.accuracy, "-", "-", "-", "-",
                  r.microseconds_per_image);
    } else {
      std::printf("%-24s %7.2f %% %8.2f %% %6.2f dB %14lld %11lld %9.0f\n", r.name.c_str(), r.accuracy, r.agreement,
                  r.sqnr_db, static_cast<long long>(r.comparison.compared),
                  static_cast<long long>(r.comparison.mismatched), r.microseconds_per_image);
    }
  }
  for (const claim& c : claims) {
    std::printf("%s: %s\n", c.holds ? "holds" : "DOES NOT HOLD", c.text.c_str());
  }
  for (const result& r : results) {
    if (r.comparison.mismatched != 0) {
      std::printf("first mismatch of %s: %s\n", r.name.c_str(), r.comparison.first_mismatch.c_str());
    }
  }
}

nlohmann::json to_json(const std::vector<result>& results, const std::vector<claim>& claims) {
  nlohmann::json json = {{"results", nlohmann::json::array()}, {"claims", nlohmann::json::array()}};
  for (const result& r : results) {
    nlohmann::json row = {
        {"name", r.name}, {"accuracy", r.accuracy}, {"microseconds_per_image", r.microseconds_per_image}};
    if (!r.is_float) {
      row.update({{"agreement", r.agreement},
                  {"sqnr_db", r.sqnr_db},
                  {"codes_compared", r.comparison.compared},
                  {"codes_mismatched", r.comparison.mismatched}});
    }
    json["results"].push_back(row);
  }
  for (const claim& c : claims) {
    json["claims"].push_back({{"text", c.text}, {"holds", c.holds}});
  }
  return json;
}

struct options {
  std::string images = INTACT_DIGITS_DATA_DIR "/digits.safetensors";
  std::string weights = INTACT_DIGITS_DATA_DIR "/digits_vit.safetensors";
  std::size_t calibration = 256;
  std::string json;
};

/// Returns whether every claim holds.
bool run(const options& arguments) {
  const intact::float_vit model = intact::load_float_vit(intact::safetensors_file::read(arguments.weights));
  const digits data(arguments.images, model.shape);
  if (arguments.calibration > data.training.images.size()) {
    throw std::invalid_argument("--calibration is " + std::to_string(arguments.calibration) + "; there are " +
                                std::to_string(data.training.images.size()) + " training images");
  }
  const auto calibration_images = std::span(data.training.images).first(arguments.calibration);
  std::printf("%zu test images, calibrated on %zu training images\n\n", data.test.images.size(),
              calibration_images.size());

  const predictions in_float = predict_float(model, data.test);
  std::vector<result> results = {summarize("float32 (Eigen)", in_float, in_float, data.test)};
  results.front().is_float = true;

  const intact::vit_scales scales = intact::calibrate(model, calibration_images);
  for (const auto& [name, recipe] : recipes()) {
    const intact::integer_vit quantized = intact::build_vit(model, scales, recipe);
    const intact::packed_vit packed(quantized);
    const predictions found = predict(data.test, integer_program(packed));
    results.push_back(summarize(name, found, in_float, data.test));
    results.back().comparison = verify(quantized, packed, data.test);
  }

  const std::vector<claim> claims = check(results);
  print(results, claims);
  if (!arguments.json.empty()) {
    intact_examples::write_json(arguments.json, to_json(results, claims));
  }
  return std::all_of(claims.begin(), claims.end(), [](const claim& c) { return c.holds; });
}

}  // namespace

int main(int argc, char** argv) {
  options arguments;
  CLI::App app("Classifies handwritten digits with a fully-integer vision transformer and verifies every integer.",
               "intact-digits");
  intact_examples::add_version_and_pages(app);
  app.add_option("--images", arguments.images, "safetensors file with images and labels")->capture_default_str();
  app.add_option("--weights", arguments.weights, "safetensors file with a float ViT, timm names")
      ->capture_default_str();
  app.add_option("--calibration", arguments.calibration, "training images to calibrate on")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  app.add_option("--json", arguments.json, "write the table to this file");
  CLI11_PARSE(app, argc, argv);
  try {
    return run(arguments) ? 0 : 1;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 2;
  }
}
