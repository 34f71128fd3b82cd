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
#include <vector>

#include "image_folder.hpp"
#include "models.hpp"
#include "preprocess.hpp"
#include "workers.hpp"

// What a model makes of labelled images, and how that compares with what the float model makes of them.

namespace intact_deit {

/// What a model says about an image, or why the image could not be read.
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

  /// Of all threads together; reading and resizing the images is not counted.
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

/// Per cent of the images whose class is the likeliest, or among the five likeliest.
struct accuracy {
  double top1 = 0;
  double top5 = 0;
};

/// Classes in the order of their logits, the largest first; of equal ones, the first.
inline std::vector<index_t> likeliest(const logit_row& logits, std::size_t count) {
  std::vector<index_t> classes(logits.size());
  for (std::size_t i = 0; i < classes.size(); ++i) {
    classes[i] = static_cast<index_t>(i);
  }
  const auto logit = [&](index_t i) { return logits[static_cast<std::size_t>(i)]; };
  const auto middle = classes.begin() + static_cast<std::ptrdiff_t>(std::min(count, classes.size()));
  std::partial_sort(classes.begin(), middle, classes.end(),
                    [&](index_t a, index_t b) { return logit(a) > logit(b) || (logit(a) == logit(b) && a < b); });
  classes.erase(middle, classes.end());
  return classes;
}

inline accuracy accuracy_of(const predictions& found, std::span<const labelled_image> images) {
  std::size_t first = 0, among_five = 0;
  for (std::size_t i = 0; i < images.size(); ++i) {
    const std::vector<index_t> classes = likeliest(found.images[i].logits, 5);
    first += !classes.empty() && classes.front() == images[i].label;
    among_five += std::find(classes.begin(), classes.end(), images[i].label) != classes.end();
  }
  const double count = static_cast<double>(images.size() - found.failed());
  return {100 * static_cast<double>(first) / count, 100 * static_cast<double>(among_five) / count};
}

/// Natural logarithms of the softmax.
inline std::vector<double> log_probabilities(const logit_row& logits) {
  const double largest = static_cast<double>(*std::max_element(logits.begin(), logits.end()));
  double sum = 0;
  for (const float logit : logits) {
    sum += std::exp(static_cast<double>(logit) - largest);
  }
  std::vector<double> logs;
  for (const float logit : logits) {
    logs.push_back(static_cast<double>(logit) - largest - std::log(sum));
  }
  return logs;
}

/// How close a model's predictions are to those of the float model.
struct closeness {
  double agreement = 0;  ///< per cent of the images with the same likeliest class
  double sqnr_db = 0;    ///< signal to quantization noise of all logits, in decibels
  double kl = 0;         ///< mean of sum p * log(p / q), p the float model's probabilities, in nats
};

inline closeness compare(const predictions& found, const predictions& in_float) {
  double signal = 0, noise = 0, divergence = 0;
  std::size_t count = 0, equal = 0;
  for (std::size_t i = 0; i < found.images.size(); ++i) {
    const logit_row& p = in_float.images[i].logits;
    const logit_row& q = found.images[i].logits;
    if (p.empty() || q.empty()) {
      continue;
    }
    const std::vector<double> log_p = log_probabilities(p), log_q = log_probabilities(q);
    for (std::size_t k = 0; k < p.size(); ++k) {
      const double expected = static_cast<double>(p[k]), difference = static_cast<double>(q[k]) - expected;
      signal += expected * expected;
      noise += difference * difference;
      divergence += std::exp(log_p[k]) * (log_p[k] - log_q[k]);
    }
    equal += likeliest(p, 1) == likeliest(q, 1);
    ++count;
  }
  const double images = static_cast<double>(count);
  return {100 * static_cast<double>(equal) / images, 10 * std::log10(signal / noise), divergence / images};
}

}  // namespace intact_deit
