#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "intact/build/rounded_product.hpp"
#include "intact/config/floating_point.hpp"
#include "intact/io/rgb_image.hpp"

// Resizing and cropping of an image in memory, to the bit as timm does it with Pillow. The first operations of a vision
// transformer normalize the pixels.

namespace intact {
inline namespace INTACT_UNIT {

/// Weights of the input samples that make one output sample: weight[k] belongs to sample first + k.
struct filter_taps {
  index_t first = 0;           ///< the first input sample
  std::vector<double> weight;  ///< of consecutive samples
};

/// How samples between samples are made: by Keys' cubic of 4 samples or a straight line between 2. Both are
/// antialiased: as wide as the distance of the output's samples where that is larger.
enum class interpolation { bicubic, bilinear };

/// Samples [first, first + count) along one side of an image.
struct sample_range {
  std::int64_t first = 0;  ///< the first sample
  std::int64_t count = 0;  ///< number of samples
};

namespace detail {

/// Keys' bicubic kernel with a = -1/2.
inline double bicubic(double x) {
  const double d = std::fabs(x);
  if (d < 1) {
    const double inner = rounded_product(1.5, d) - 2.5;
    return rounded_product(inner * d, d) + 1;
  }
  const double inner = rounded_product(rounded_product(-0.5, d) + 2.5, d) - 4;
  return d < 2 ? rounded_product(inner, d) + 2 : 0;
}

/// A triangle.
inline double bilinear(double x) {
  return std::max(1 - std::fabs(x), 0.0);
}

inline void require_samples(const char* operation, const char* name, const sample_range& range, std::int64_t size) {
  require_between(operation, name, range.first, 0, size - 1);
  require_between(operation, name, range.count, 1, size - range.first);
}

}  // namespace detail

/// The taps of antialiased interpolation when `from` samples become `to`, for the samples of a range.
///
/// Formula:   with r = from / to, s = max(r, 1) and c = (i + 1/2) r, sample k has the weight B((k + 1/2 - c) / s),
///            divided by the sum of all weights. Bicubic: B is Keys' kernel with a = -1/2, 0 from 2 on; bilinear:
///            B(x) = 1 - |x|, 0 from 1 on.
/// Exactness: double, rounded after every operation, as Pillow computes it.
/// Errors:    from or to below 1, a range that is not part of `to` samples.
/// Source:    Pillow, Image.resize with BICUBIC and BILINEAR; torch.nn.functional.interpolate with antialias=True.
inline std::vector<filter_taps> interpolation_taps(interpolation kind, index_t from, std::int64_t to,
                                                   const sample_range& wanted) {
  require_at_least("interpolation_taps", "from", from, 1);
  require_at_least("interpolation_taps", "to", to, 1);
  detail::require_samples("interpolation_taps", "range", wanted, to);
  const double ratio = static_cast<double>(from) / static_cast<double>(to);
  const double stretch = std::max(ratio, 1.0);
  const double support = (kind == interpolation::bicubic ? 2 : 1) * stretch;
  std::vector<filter_taps> all;
  for (std::int64_t i = wanted.first; i < wanted.first + wanted.count; ++i) {
    const double center = rounded_product(static_cast<double>(i) + 0.5, ratio);
    const index_t first = std::max<index_t>(static_cast<index_t>(center - support + 0.5), 0);
    const index_t last = std::min<index_t>(static_cast<index_t>(center + support + 0.5), from);
    filter_taps taps{first, {}};
    double sum = 0;
    for (index_t k = first; k < last; ++k) {
      const double x = (static_cast<double>(k) - center + 0.5) * (1 / stretch);
      taps.weight.push_back(kind == interpolation::bicubic ? detail::bicubic(x) : detail::bilinear(x));
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

inline std::vector<integer_taps> pillow_taps(interpolation kind, index_t from, std::int64_t to,
                                             const sample_range& wanted) {
  std::vector<integer_taps> all;
  for (const filter_taps& taps : interpolation_taps(kind, from, to, wanted)) {
    integer_taps rounded{taps.first, {}};
    for (const double weight : taps.weight) {
      rounded.weight.push_back(static_cast<std::int64_t>(std::ldexp(weight, tap_bits) + (weight < 0 ? -0.5 : 0.5)));
    }
    all.push_back(rounded);
  }
  return all;
}

/// The weighted sum of samples that are `step` apart, rounded to a byte.
inline std::uint8_t weighted_sum(const std::vector<std::int64_t>& weights, const std::uint8_t* samples, index_t step) {
  std::int64_t sum = std::int64_t{1} << (tap_bits - 1);
  for (const std::int64_t weight : weights) {
    sum += weight * *samples;
    samples += step;
  }
  return static_cast<std::uint8_t>(std::clamp<std::int64_t>(sum >> tap_bits, 0, 255));
}

/// Rows [first, last), resized to the columns of `taps`.
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

/// The rows of an image that begins at row `top` of the whole one, resized to the rows of `taps`.
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
struct image_window {
  sample_range rows;     ///< down
  sample_range columns;  ///< across
};

/// A window of an image that is resized to height x width by antialiased interpolation.
///
/// Formula:   the taps of interpolation_taps() with 22 fraction bits; the rows are resized first, then the columns,
///            both rounded to bytes. Samples that the window does not need are not computed.
/// Exactness: every bit as Pillow's Image.resize((width, height), BICUBIC or BILINEAR).
/// Errors:    an image without pixels, a height or width below 1, a window that is not part of the resized image.
/// Source:    Pillow, Image.resize.
inline rgb_image resize_image(const rgb_image& image, std::int64_t height, std::int64_t width,
                              const image_window& window, interpolation kind = interpolation::bicubic) {
  require_at_least("resize_image", "image height", image.height, 1);
  require_at_least("resize_image", "image width", image.width, 1);
  require_at_least("resize_image", "height", height, 1);
  require_at_least("resize_image", "width", width, 1);
  detail::require_samples("resize_image", "rows of the window", window.rows, height);
  detail::require_samples("resize_image", "columns of the window", window.columns, width);
  const std::vector<detail::integer_taps> down = detail::pillow_taps(kind, image.height, height, window.rows);
  const index_t first = down.front().first, last = down.back().first + std::ssize(down.back().weight);
  const rgb_image rows =
      detail::resize_rows(image, first, last, detail::pillow_taps(kind, image.width, width, window.columns));
  return detail::resize_columns(rows, first, down);
}

/// Sides of images in pixels, or of grids of patches. One number is a square.
struct image_sides {
  index_t height = 0;  ///< pixels
  index_t width = 0;   ///< pixels

  constexpr image_sides() = default;
  /// A square.
  constexpr image_sides(index_t side) : height(side), width(side) {}
  /// Height and width.
  constexpr image_sides(index_t rows, index_t columns) : height(rows), width(columns) {}

  constexpr bool is_square() const { return height == width; }  ///< whether both sides are equal

  friend constexpr bool operator==(const image_sides&, const image_sides&) = default;
};

/// How an image becomes the pixels that a model takes.
struct image_preprocessing {
  image_sides size = 224;                       ///< of the images that the model takes
  double crop = 0.875;                          ///< part of the resized image that remains
  interpolation kind = interpolation::bicubic;  ///< how images are resized
  bool squash = false;                          ///< both sides are resized to size / crop; else the shape remains
};

/// The pixels that a model takes: the image is resized so that it covers size / crop, or, squashed, to size / crop;
/// then the middle is cut out.
///
/// Formula:   with s = max(size, floor(size / crop)) of both sides. Squares: the shorter side becomes s, the longer one
///            keeps the shape, rounded down. Others: both sides are divided by the least ratio of a side to s, rounded
///            to nearest.
/// Shapes:    an image of any size from 1 x 1 -> size.
/// Exactness: every bit as timm's evaluation transform on Pillow images, with crop_mode "center" or "squash".
/// Errors:    an image without pixels, a size below 1, a crop that is not in [0.01, 1].
/// Source:    timm, transforms_imagenet_eval, ResizeKeepRatio; torchvision, Resize and CenterCrop.
inline rgb_image preprocess_image(const rgb_image& image, const image_preprocessing& preprocessing) {
  const image_sides size = preprocessing.size;
  const double crop = preprocessing.crop;
  require_at_least("preprocess_image", "image height", image.height, 1);
  require_at_least("preprocess_image", "image width", image.width, 1);
  require_between("preprocess_image", "size", size.height, 1, 1'000'000);
  require_between("preprocess_image", "size", size.width, 1, 1'000'000);
  if (!(crop >= 0.01 && crop <= 1)) [[unlikely]] {
    contract_failed("intact::preprocess_image: crop is %g; it must be in [0.01, 1]", crop);
  }
  const auto before_crop = [&](index_t side) {
    return std::max(std::int64_t{side}, static_cast<std::int64_t>(static_cast<double>(side) / crop));
  };
  std::int64_t height = before_crop(size.height), width = before_crop(size.width);
  if (!preprocessing.squash && size.is_square()) {
    const std::int64_t shorter = height;
    height = image.height <= image.width ? shorter : shorter * image.height / image.width;
    width = image.width <= image.height ? shorter : shorter * image.width / image.height;
  } else if (!preprocessing.squash) {
    const double rows = static_cast<double>(image.height), columns = static_cast<double>(image.width);
    const double ratio = std::min(rows / static_cast<double>(height), columns / static_cast<double>(width));
    height = std::max(height, static_cast<std::int64_t>(std::nearbyint(rows / ratio)));
    width = std::max(width, static_cast<std::int64_t>(std::nearbyint(columns / ratio)));
  }
  const auto middle = [&](std::int64_t length, index_t side) {
    return sample_range{static_cast<std::int64_t>(std::nearbyint(static_cast<double>(length - side) / 2)), side};
  };
  return resize_image(image, height, width, {.rows = middle(height, size.height), .columns = middle(width, size.width)},
                      preprocessing.kind);
}
/// The same for squares, with bicubic interpolation.
inline rgb_image preprocess_image(const rgb_image& image, index_t size, double crop) {
  return preprocess_image(image, {.size = size, .crop = crop});
}

}  // namespace INTACT_UNIT
}  // namespace intact
