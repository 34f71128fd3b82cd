#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <vector>

#include "image_file.hpp"

// From an image of any size to the square of pixels that a model takes, as timm does it with Pillow: the shorter side
// is resized by antialiased bicubic interpolation, then the centre is cut out.

namespace intact_deit {

/// Weights of the input samples that make one output sample: weight[k] belongs to sample first + k.
struct filter_taps {
  index first = 0;
  std::vector<double> weight;
};

namespace detail {

/// Keys' bicubic kernel with a = -1/2.
inline double bicubic(double x) {
  const double d = std::fabs(x);
  if (d < 1) {
    return (1.5 * d - 2.5) * d * d + 1;
  }
  return d < 2 ? ((-0.5 * d + 2.5) * d - 4) * d + 2 : 0;
}

}  // namespace detail

/// The taps of every sample when `from` samples become `to`: the kernel, stretched when samples become fewer.
inline std::vector<filter_taps> bicubic_taps(index from, index to) {
  const double ratio = static_cast<double>(from) / static_cast<double>(to);
  const double stretch = std::max(ratio, 1.0);
  const double support = 2 * stretch;
  std::vector<filter_taps> all;
  for (index i = 0; i < to; ++i) {
    const double center = (static_cast<double>(i) + 0.5) * ratio;
    const index first = std::max<index>(static_cast<index>(center - support + 0.5), 0);
    const index last = std::min<index>(static_cast<index>(center + support + 0.5), from);
    filter_taps taps{first, {}};
    double sum = 0;
    for (index k = first; k < last; ++k) {
      taps.weight.push_back(detail::bicubic((static_cast<double>(k) - center + 0.5) * (1 / stretch)));
      sum += taps.weight.back();
    }
    for (double& weight : taps.weight) {
      weight /= sum;
    }
    all.push_back(taps);
  }
  return all;
}

namespace detail {

/// Fraction bits of Pillow's integer taps.
inline constexpr int tap_bits = 22;

struct integer_taps {
  index first = 0;
  std::vector<std::int64_t> weight;
};

inline std::vector<integer_taps> pillow_taps(index from, index to) {
  std::vector<integer_taps> all;
  for (const filter_taps& taps : bicubic_taps(from, to)) {
    integer_taps rounded{taps.first, {}};
    for (const double weight : taps.weight) {
      rounded.weight.push_back(static_cast<std::int64_t>(std::ldexp(weight, tap_bits) + (weight < 0 ? -0.5 : 0.5)));
    }
    all.push_back(rounded);
  }
  return all;
}

/// The sum of samples that stand `step` apart, weighted and rounded to a byte.
inline std::uint8_t weighted_sum(const integer_taps& taps, const std::uint8_t* samples, index step) {
  std::int64_t sum = std::int64_t{1} << (tap_bits - 1);
  for (std::size_t k = 0; k < taps.weight.size(); ++k) {
    sum += taps.weight[k] * samples[(taps.first + static_cast<index>(k)) * step];
  }
  return static_cast<std::uint8_t>(std::clamp<std::int64_t>(sum >> tap_bits, 0, 255));
}

inline rgb_image resize_rows(const rgb_image& image, index width) {
  const std::vector<integer_taps> taps = pillow_taps(image.width, width);
  rgb_image resized(image.height, width);
  std::size_t next = 0;
  for (index y = 0; y < image.height; ++y) {
    for (const integer_taps& tap : taps) {
      for (index c = 0; c < 3; ++c) {
        resized.samples[next++] = weighted_sum(tap, image.samples.data() + 3 * image.width * y + c, 3);
      }
    }
  }
  return resized;
}

inline rgb_image resize_columns(const rgb_image& image, index height) {
  const std::vector<integer_taps> taps = pillow_taps(image.height, height);
  rgb_image resized(height, image.width);
  std::size_t next = 0;
  for (const integer_taps& tap : taps) {
    for (index x = 0; x < 3 * image.width; ++x) {
      resized.samples[next++] = weighted_sum(tap, image.samples.data() + x, 3 * image.width);
    }
  }
  return resized;
}

}  // namespace detail

/// Antialiased bicubic resizing, every bit as Pillow's: taps in 22 fraction bits, rows first, bytes in between.
inline rgb_image resize(const rgb_image& image, index height, index width) {
  const rgb_image rows = width == image.width ? image : detail::resize_rows(image, width);
  return height == rows.height ? rows : detail::resize_columns(rows, height);
}

/// The square of `size` pixels in the middle of an image that is at least as large.
inline rgb_image crop_center(const rgb_image& image, index size) {
  const auto middle = [&](index length) {
    return static_cast<index>(std::nearbyint(static_cast<double>(length - size) / 2));
  };
  const index top = middle(image.height), left = middle(image.width);
  rgb_image cropped(size, size);
  for (index y = 0; y < size; ++y) {
    const std::uint8_t* const row = image.samples.data() + 3 * ((top + y) * image.width + left);
    std::copy_n(row, 3 * size, cropped.samples.data() + 3 * size * y);
  }
  return cropped;
}

/// The pixels that a model of `size` x `size` takes: the shorter side becomes size / crop, then the centre is taken.
/// An image that has this size already stays as it is.
inline rgb_image preprocess(const rgb_image& image, index size, double crop) {
  if (image.height == size && image.width == size) {
    return image;
  }
  const index shorter = std::max(size, static_cast<index>(static_cast<double>(size) / crop));
  const auto resized = [&](index length, index other) { return length <= other ? shorter : shorter * length / other; };
  const index height = resized(image.height, image.width), width = resized(image.width, image.height);
  if (height > max_pixels / width) {
    throw std::runtime_error("the image is " + std::to_string(image.width) + " x " + std::to_string(image.height) +
                             "; resized to a shorter side of " + std::to_string(shorter) + " it would have more than " +
                             std::to_string(max_pixels) + " pixels");
  }
  return crop_center(resize(image, height, width), size);
}

/// The pixels that a model takes, from a file. Errors name the file.
inline rgb_image read_input(const std::filesystem::path& file, index size, double crop) {
  const rgb_image image = read_image(file);
  try {
    return preprocess(image, size, crop);
  } catch (const std::exception& error) {
    throw error_in(file, error.what());
  }
}

}  // namespace intact_deit
