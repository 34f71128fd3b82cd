#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <new>
#include <string>
#include <vector>

#include "image_file.hpp"

// From an image of any size to the square of pixels that a model takes, as timm does it with Pillow: the shorter side
// is resized by antialiased bicubic interpolation, then the centre is cut out.

namespace intact_deit {

/// Weights of the input samples that make one output sample: weight[k] belongs to sample first + k.
struct filter_taps {
  index_t first = 0;
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

/// Some of the samples along one side of an image. The whole of a resized image may be too large for memory.
struct sample_range {
  std::int64_t first = 0;
  std::int64_t count = 0;
};

/// The taps of samples when `from` samples become `to`: the kernel, stretched when samples become fewer.
inline std::vector<filter_taps> bicubic_taps(index_t from, std::int64_t to, const sample_range& wanted) {
  const double ratio = static_cast<double>(from) / static_cast<double>(to);
  const double stretch = std::max(ratio, 1.0);
  const double support = 2 * stretch;
  std::vector<filter_taps> all;
  for (std::int64_t i = wanted.first; i < wanted.first + wanted.count; ++i) {
    const double center = (static_cast<double>(i) + 0.5) * ratio;
    const index_t first = std::max<index_t>(static_cast<index_t>(center - support + 0.5), 0);
    const index_t last = std::min<index_t>(static_cast<index_t>(center + support + 0.5), from);
    filter_taps taps{first, {}};
    double sum = 0;
    for (index_t k = first; k < last; ++k) {
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
  index_t first = 0;
  std::vector<std::int64_t> weight;
};

inline std::vector<integer_taps> pillow_taps(index_t from, std::int64_t to, const sample_range& wanted) {
  std::vector<integer_taps> all;
  for (const filter_taps& taps : bicubic_taps(from, to, wanted)) {
    integer_taps rounded{taps.first, {}};
    for (const double weight : taps.weight) {
      rounded.weight.push_back(static_cast<std::int64_t>(std::ldexp(weight, tap_bits) + (weight < 0 ? -0.5 : 0.5)));
    }
    all.push_back(rounded);
  }
  return all;
}

/// The sum of samples that are `step` apart, weighted and rounded to a byte.
inline std::uint8_t weighted_sum(const std::vector<std::int64_t>& weights, const std::uint8_t* samples, index_t step) {
  std::int64_t sum = std::int64_t{1} << (tap_bits - 1);
  for (const std::int64_t weight : weights) {
    sum += weight * *samples;
    samples += step;
  }
  return static_cast<std::uint8_t>(std::clamp<std::int64_t>(sum >> tap_bits, 0, 255));
}

/// Rows from `first` to below `last`, resized to the columns of `taps`.
inline rgb_image resize_rows(const rgb_image& image, index_t first, index_t last,
                             const std::vector<integer_taps>& taps) {
  rgb_image resized(last - first, std::ssize(taps));
  std::uint8_t* next = resized.samples.data();
  for (index_t y = first; y < last; ++y) {
    for (const integer_taps& tap : taps) {
      for (index_t c = 0; c < 3; ++c) {
        *next++ = weighted_sum(tap.weight, image.row(y) + 3 * tap.first + c, 3);
      }
    }
  }
  return resized;
}

/// Rows of an image that begins at row `top` of the whole one, resized to the rows of `taps`.
inline rgb_image resize_columns(const rgb_image& image, index_t top, const std::vector<integer_taps>& taps) {
  rgb_image resized(std::ssize(taps), image.width);
  std::uint8_t* next = resized.samples.data();
  for (const integer_taps& tap : taps) {
    for (index_t x = 0; x < 3 * image.width; ++x) {
      *next++ = weighted_sum(tap.weight, image.row(tap.first - top) + x, 3 * image.width);
    }
  }
  return resized;
}

}  // namespace detail

/// Rows and columns of an image.
struct window {
  sample_range rows;
  sample_range columns;
};

/// A window of the image resized to height x width by antialiased bicubic interpolation, every bit as Pillow's: taps in
/// 22 fraction bits, rows first, bytes in between. What the window does not need is not computed.
inline rgb_image resize(const rgb_image& image, std::int64_t height, std::int64_t width, const window& wanted) {
  const std::vector<detail::integer_taps> down = detail::pillow_taps(image.height, height, wanted.rows);
  const index_t first = down.front().first, last = down.back().first + std::ssize(down.back().weight);
  const rgb_image rows =
      detail::resize_rows(image, first, last, detail::pillow_taps(image.width, width, wanted.columns));
  return detail::resize_columns(rows, first, down);
}

/// The pixels that a model takes: the shorter side becomes size / crop, then the square in the middle is taken.
inline rgb_image preprocess(const rgb_image& image, index_t size, double crop) {
  const std::int64_t shorter =
      std::max(std::int64_t{size}, static_cast<std::int64_t>(static_cast<double>(size) / crop));
  const auto resized = [&](index_t length, index_t other) {
    return length <= other ? shorter : shorter * length / other;
  };
  const std::int64_t height = resized(image.height, image.width), width = resized(image.width, image.height);
  const auto middle = [&](std::int64_t length) {
    return sample_range{static_cast<std::int64_t>(std::nearbyint(static_cast<double>(length - size) / 2)), size};
  };
  return resize(image, height, width, {middle(height), middle(width)});
}

/// How the images of files become those that a model takes.
struct input_size {
  index_t size = 0;       ///< side of the model's images
  double crop = 1;        ///< part of the resized shorter side that remains
  bool prepared = false;  ///< images have the model's size already, and are taken as they are
};

/// The pixels that a model takes, from a file.
/// Errors: std::runtime_error, naming the file, as read_image; prepared images of another size; too little memory.
inline rgb_image read_input(const std::filesystem::path& file, const input_size& input) {
  try {
    rgb_image image = read_image(file);
    if (!input.prepared) {
      return preprocess(image, input.size, input.crop);
    }
    if (image.height != input.size || image.width != input.size) {
      const std::string side = std::to_string(input.size);
      throw error_in(file, "the image is " + std::to_string(image.width) + " x " + std::to_string(image.height) +
                               "; prepared images must have the model's size, " + side + " x " + side);
    }
    return image;
  } catch (const std::bad_alloc&) {
    throw error_in(file, "there is not enough memory for the image");
  }
}

}  // namespace intact_deit
