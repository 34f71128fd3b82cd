#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <exception>
#include <limits>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "image_folder.hpp"
#include "intact/quantize/measures.hpp"
#include "model_input.hpp"
#include "models.hpp"
#include "workers.hpp"

// The predictions of a model on labelled images, and their closeness to those of the float model.

namespace intact_deit {

/// The logits of an image, or the reason why the image could not be read.
struct prediction {
  logit_row logits;
  double seconds = 0;  ///< of the inference alone
  std::string problem;
};

/// The predictions of all images.
struct predictions {
  std::vector<prediction> images;
  std::size_t threads = 1;

  std::size_t failed() const {
    return static_cast<std::size_t>(
        std::count_if(images.begin(), images.end(), [](const prediction& one) { return !one.problem.empty(); }));
  }

  /// Of all threads; reading and resizing the images is not counted.
  double images_per_second() const {
    double seconds = 0;
    for (const prediction& one : images) {
      seconds += one.seconds;
    }
    return static_cast<double>(threads * (images.size() - failed())) / seconds;
  }
};

/// The number of images that could not be read; each is named.
inline std::size_t report_failures(const predictions& found) {
  for (const prediction& one : found.images) {
    if (!one.problem.empty()) {
      std::fprintf(stderr, "intact-deit: %s\n", one.problem.c_str());
    }
  }
  if (found.failed() == found.images.size()) {
    throw std::runtime_error("no image could be read");
  }
  return found.failed();
}

/// How many threads run, and how many images each takes at a time.
struct run_options {
  std::size_t threads = 1;
  std::size_t batch = 1;
};

namespace detail {

/// Reads the images of a batch and classifies those that could be read. The time is shared among them.
template <class Classifier>
void predict_batch(Classifier& classifier, std::span<const labelled_image> images, const input_size& input,
                   std::span<prediction> found) {
  std::vector<rgb_image> pixels;
  std::vector<intact::image_view> views;
  std::vector<prediction*> readable;
  for (std::size_t i = 0; i < images.size(); ++i) {
    try {
      pixels.push_back(read_input(images[i].file, input));
      readable.push_back(&found[i]);
    } catch (const std::exception& error) {
      found[i].problem = error.what();
    }
  }
  for (const rgb_image& image : pixels) {
    views.push_back(image.view());
  }
  if (views.empty()) {
    return;
  }
  const auto start = std::chrono::steady_clock::now();
  std::vector<logit_row> logits = classifier(views);
  const std::chrono::duration<double> time = std::chrono::steady_clock::now() - start;
  for (std::size_t i = 0; i < readable.size(); ++i) {
    readable[i]->logits = std::move(logits[i]);
    readable[i]->seconds = time.count() / static_cast<double>(readable.size());
  }
}

}  // namespace detail

/// Runs classifiers of batches, one per thread, on all images. Images that cannot be read are reported and the others
/// go on.
template <class MakeClassifier>
predictions predict(const MakeClassifier& make_classifier, std::span<const labelled_image> images,
                    const input_size& input, const run_options& options, const std::string& what) {
  const std::size_t batches = (images.size() + options.batch - 1) / options.batch;
  predictions all{std::vector<prediction>(images.size()), std::min(options.threads, batches)};
  std::vector<decltype(make_classifier())> classifiers;
  for (std::size_t thread = 0; thread < all.threads; ++thread) {
    classifiers.push_back(make_classifier());
  }
  progress_bar progress(what, images.size());
  for_each_parallel(batches, all.threads, [&](std::size_t i, std::size_t thread) {
    const std::size_t first = i * options.batch, count = std::min(options.batch, images.size() - first);
    detail::predict_batch(classifiers[thread], images.subspan(first, count), input,
                          std::span(all.images).subspan(first, count));
    progress.advance(count);
  });
  return all;
}

/// The same with an integer model.
inline predictions predict_integer(const stored_model& stored, std::span<const labelled_image> images,
                                   const input_size& input, const run_options& options, const std::string& what) {
  return std::visit(
      [&](const auto& model) {
        const auto classifier = [&] { return integer_classifier(model, static_cast<index_t>(options.batch)); };
        return predict(classifier, images, input, options, what);
      },
      stored.model);
}

/// Per cent of the images whose class is the likeliest, or among the five likeliest.
struct accuracy {
  double top1 = 0;
  double top5 = 0;
};

inline std::vector<index_t> top_classes(const logit_row& logits, std::size_t count) {
  return intact::top_classes(std::span(logits), count);
}

inline accuracy accuracy_of(const predictions& found, std::span<const labelled_image> images) {
  std::size_t first = 0, among_five = 0;
  for (std::size_t i = 0; i < images.size(); ++i) {
    const std::vector<index_t> classes = top_classes(found.images[i].logits, 5);
    first += !classes.empty() && classes.front() == images[i].label;
    among_five += std::find(classes.begin(), classes.end(), images[i].label) != classes.end();
  }
  const double count = static_cast<double>(images.size() - found.failed());
  return {100 * static_cast<double>(first) / count, 100 * static_cast<double>(among_five) / count};
}

/// The closeness to the float model's predictions, over the images that could be read.
inline intact::closeness compare(const predictions& found, const predictions& in_float) {
  intact::closeness_meter meter;
  for (std::size_t i = 0; i < found.images.size(); ++i) {
    const logit_row& expected = in_float.images[i].logits;
    const logit_row& logits = found.images[i].logits;
    if (!expected.empty() && !logits.empty()) {
      meter.add(std::span(expected), std::span(logits));
    }
  }
  return meter.result();
}

}  // namespace intact_deit
