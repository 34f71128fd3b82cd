#pragma once

#include <cmath>
#include <cstddef>
#include <cstdio>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "checkpoint_arguments.hpp"
#include "evaluate.hpp"
#include "image_folder.hpp"
#include "models.hpp"

namespace intact_deit {

/// intact-deit classify
class classify_command {
 public:
  explicit classify_command(CLI::App& program) {
    app_ = program.add_subcommand("classify", "the five likeliest classes of images");
    app_->add_option("--model", model_, "integer model")->required();
    app_->add_option("--names", names_, "file of the classes' names, one per line [synset_words.txt beside the model]");
    app_->add_option("images", images_, "PNG or JPEG files")->required();
    add_threads(*app_, running_.threads);
    add_batch(*app_, running_.batch);
    add_prepared(*app_, prepared_);
  }

  bool chosen() const { return app_->parsed(); }

  /// The exit code: 1 if some images could not be read.
  int run() const {
    const stored_model stored = load_model(model_);
    require_head(model_, stored.classes());
    const std::vector<std::string> names = read_names(stored.classes());
    std::vector<labelled_image> images;
    for (const std::string& file : images_) {
      images.push_back({file, 0});
    }
    const predictions found = predict_integer(stored, images, {stored.preprocessing, prepared_}, running_, "images");
    for (std::size_t i = 0; i < images.size(); ++i) {
      const prediction& one = found.images[i];
      if (one.problem.empty()) {
        print(images_[i], one.logits, names);
      } else {
        std::fprintf(stderr, "intact-deit: %s\n", one.problem.c_str());
      }
    }
    return found.failed() == 0 ? 0 : 1;
  }

 private:
  /// Without a file of names, classes are called by their numbers.
  std::vector<std::string> read_names(index_t classes) const {
    const std::filesystem::path beside = std::filesystem::path(model_).parent_path() / "synset_words.txt";
    if (!names_.empty() || std::filesystem::exists(beside)) {
      return read_class_names(names_.empty() ? beside : std::filesystem::path(names_), classes);
    }
    std::vector<std::string> numbers;
    for (index_t i = 0; i < classes; ++i) {
      numbers.push_back("class " + std::to_string(i));
    }
    return numbers;
  }

  static void print(const std::string& file, const logit_row& logits, const std::vector<std::string>& names) {
    const std::vector<double> logs = intact::log_probabilities(std::span(logits));
    std::printf("%s\n", file.c_str());
    for (const index_t i : top_classes(logits, 5)) {
      const std::size_t position = static_cast<std::size_t>(i);
      std::printf("  %5.1f %%  %s\n", 100 * std::exp(logs[position]), names[position].c_str());
    }
  }

  CLI::App* app_;
  std::string model_, names_;
  std::vector<std::string> images_;
  run_options running_;
  bool prepared_ = false;
};

}  // namespace intact_deit
