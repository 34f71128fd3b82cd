#pragma once

#include <cstddef>
#include <cstdio>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "checkpoint.hpp"
#include "checkpoint_arguments.hpp"
#include "evaluate.hpp"
#include "write_json.hpp"

namespace intact_deit {

/// intact-deit evaluate
class evaluate_command {
 public:
  explicit evaluate_command(CLI::App& program) {
    app_ = program.add_subcommand("evaluate", "accuracy on labelled images, and closeness to the float model");
    app_->add_option("--model", model_, "integer model");
    app_->add_option("--float", weights_, "checkpoint of the float model, to compare with or alone");
    app_->add_option("--images", images_, "folder of PNG and JPEG files with labels.tsv: file, tab, class")->required();
    app_->add_option("--limit", limit_, "only so many images, the first")->check(CLI::PositiveNumber);
    app_->add_option("--json", json_, "write the numbers to this file");
    add_threads(*app_, running_.threads);
    add_batch(*app_, running_.batch);
    add_prepared(*app_, prepared_);
    checkpoint_.add_to(*app_);
  }

  bool chosen() const { return app_->parsed(); }

  /// The exit code: 1 if some images could not be read.
  int run() const {
    if (model_.empty() && weights_.empty()) {
      throw std::invalid_argument("evaluate needs --model, --float or both");
    }
    results all = model_.empty() ? results() : run_integer();
    if (!weights_.empty()) {
      run_float(all);
    }
    const predictions& any = all.integer ? *all.integer : *all.in_float;
    const std::size_t failed = report_failures(any);
    print(all, failed);
    if (!json_.empty()) {
      intact_examples::write_json(json_, to_json(all, failed));
    }
    return failed == 0 ? 0 : 1;
  }

 private:
  struct results {
    std::vector<labelled_image> images;
    std::optional<predictions> integer, in_float;
    input_size input;
  };

  std::vector<labelled_image> read_images(index_t classes) const {
    std::vector<labelled_image> images = read_labels(images_, classes);
    images.resize(std::min(images.size(), limit_));
    return images;
  }

  results run_integer() const {
    const stored_model stored = load_model(model_);
    require_head(model_, stored.classes());
    results all{.images = read_images(stored.classes()),
                .integer = {},
                .in_float = {},
                .input = {stored.preprocessing, prepared_}};
    all.integer = predict_integer(stored, all.images, all.input, running_, "integer model");
    return all;
  }

  void run_float(results& all) const {
    const any_checkpoint loaded =
        checkpoint_.load(weights_, all.integer ? std::optional(all.input.preprocessing.size) : std::nullopt);
    std::visit([&](const auto& any) { run_float(any, all); }, loaded);
  }

  template <class Model>
  void run_float(const intact::loaded_model<Model>& loaded, results& all) const {
    const Model& model = loaded.model;
    require_head(weights_, model.shape.classes);
    if (!all.integer) {
      all.images = read_images(model.shape.classes);
      all.input = {loaded.preprocessing, prepared_};
    } else if (model.shape.classes != std::ssize(all.integer->images.front().logits) &&
               all.integer->images.front().problem.empty()) {
      throw error_in(
          weights_, "the model has " + std::to_string(model.shape.classes) + " classes, another number than " + model_);
    }
    const float_classifier in_float(model);
    all.in_float = predict([&] { return one_by_one(in_float); }, all.images, all.input, running_, "float model");
  }

  static void print_row(const char* name, const predictions& found, std::span<const labelled_image> images) {
    const accuracy right = accuracy_of(found, images);
    const double rate = found.images_per_second();
    std::printf("%-14s %7.2f %% %7.2f %% %10.2f %10.2f\n", name, right.top1, right.top5, rate,
                1000 * static_cast<double>(found.threads) / rate);
  }

  static void print(const results& all, std::size_t failed) {
    std::printf("%zu images, %zu failed\n%-14s %9s %9s %10s %10s\n", all.images.size() - failed, failed, "", "top-1",
                "top-5", "images/s", "ms/image");
    if (all.integer) {
      print_row("integer", *all.integer, all.images);
    }
    if (all.in_float) {
      print_row("float (Eigen)", *all.in_float, all.images);
    }
    if (all.integer && all.in_float) {
      const intact::closeness close = compare(*all.integer, *all.in_float);
      std::printf("agreement %.2f %%, SQNR of the logits %.2f dB, KL divergence %.5f nats\n", close.agreement,
                  close.sqnr_db, close.kl);
    }
  }

  /// top1 and the like are the integer model's, if there is one.
  nlohmann::json to_json(const results& all, std::size_t failed) const {
    const predictions& found = all.integer ? *all.integer : *all.in_float;
    const accuracy right = accuracy_of(found, all.images);
    nlohmann::json json = {{"top1", right.top1},
                           {"top5", right.top5},
                           {"images", all.images.size() - failed},
                           {"failed", failed},
                           {"images_per_second", found.images_per_second()},
                           {"threads", found.threads},
                           {"batch", running_.batch}};
    if (all.integer && all.in_float) {
      const accuracy in_float = accuracy_of(*all.in_float, all.images);
      const intact::closeness close = compare(found, *all.in_float);
      json.update({{"float_top1", in_float.top1},
                   {"float_top5", in_float.top5},
                   {"float_images_per_second", all.in_float->images_per_second()},
                   {"agreement", close.agreement},
                   {"sqnr_db", close.sqnr_db},
                   {"kl", close.kl}});
    }
    return json;
  }

  CLI::App* app_;
  std::string model_, weights_, images_, json_;
  std::size_t limit_ = std::numeric_limits<std::size_t>::max();
  run_options running_ = {default_threads(), 1};
  bool prepared_ = false;
  checkpoint_arguments checkpoint_;
};

}  // namespace intact_deit
