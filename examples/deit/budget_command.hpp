#pragma once

#include <cstddef>
#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "calibration.hpp"
#include "checkpoint.hpp"
#include "checkpoint_arguments.hpp"
#include "evaluate.hpp"
#include "intact/quantize/simulation.hpp"
#include "recipe_arguments.hpp"
#include "write_json.hpp"

namespace intact_deit {

/// intact-deit budget
class budget_command {
 public:
  explicit budget_command(CLI::App& program) {
    app_ = program.add_subcommand("budget", "how much error each kind of quantized tensor makes by itself");
    app_->add_option("--weights", weights_,
                     "checkpoint, safetensors with the names of timm, Hugging Face or torchvision")
        ->required();
    app_->add_option("--evaluation", images_, "folder of PNG and JPEG files to measure on")->required();
    app_->add_option("--limit", limit_, "only so many of them, the first by name")
        ->capture_default_str()
        ->check(CLI::PositiveNumber);
    app_->add_option("--json", json_, "write the table to this file");
    add_threads(*app_, threads_);
    add_prepared(*app_, prepared_);
    calibration_.add_to(*app_);
    recipe_.add_to(*app_);
    checkpoint_.add_to(*app_);
  }

  bool chosen() const { return app_->parsed(); }

  /// The exit code: 1 if some images could not be read.
  int run() const {
    const intact::quantization_recipe recipe = recipe_.recipe();
    const any_checkpoint any = checkpoint_.load(weights_);
    const auto& loaded = require_vit<intact::loaded_checkpoint>(weights_, any, "budget simulates the layers of a ViT");
    const intact::float_vit& model = loaded.model;
    require_head(weights_, model.shape.classes);
    const input_size input{loaded.preprocessing, prepared_};
    const calibration_images read = calibration_.read(input);
    const intact::calibrated_vit calibrated =
        in_file(weights_, [&] { return calibration_.calibrate(model, read.views(), recipe, threads_).model; });

    std::vector<labelled_image> images;
    for (const std::filesystem::path& file : find_images(images_)) {
      images.push_back({file, 0});
    }
    images.resize(std::min(images.size(), limit_));
    const float_classifier classifier(model);
    const predictions in_float = predict([&] { return one_by_one(classifier); }, images, input, {threads_, 1}, "float");
    const std::size_t failed = report_failures(in_float);

    nlohmann::json json = {
        {"profile", recipe_.description()}, {"images", images.size() - failed}, {"failed", failed}, {"kinds", {}}};
    std::printf("%zu images, %zu failed\n", images.size() - failed, failed);
    std::printf("%-24s %9s %10s %10s\n", "quantized alone", "SQNR", "KL", "agreement");
    for (const auto& [name, kinds] : intact::budget_cases(recipe)) {
      const intact::simulated_vit simulated(model, calibrated, recipe, kinds);
      const intact::closeness close =
          compare(predict([&] { return one_by_one(simulated); }, images, input, {threads_, 1}, name), in_float);
      std::printf("%-24s %6.2f dB %10.5f %8.2f %%\n", name.c_str(), close.sqnr_db, close.kl, close.agreement);
      json["kinds"].push_back(
          {{"kind", name}, {"sqnr_db", close.sqnr_db}, {"kl", close.kl}, {"agreement", close.agreement}});
    }
    if (!json_.empty()) {
      intact_examples::write_json(json_, json);
    }
    return read.failed + failed == 0 ? 0 : 1;
  }

 private:
  CLI::App* app_;
  std::string weights_, images_, json_;
  std::size_t limit_ = 64;
  std::size_t threads_ = default_threads();
  bool prepared_ = false;
  calibration_arguments calibration_;
  recipe_arguments recipe_;
  checkpoint_arguments checkpoint_;
};

}  // namespace intact_deit
