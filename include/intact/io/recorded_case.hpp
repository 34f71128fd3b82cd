#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "intact/build/weights.hpp"
#include "intact/config/floating_point.hpp"
#include "intact/io/case_report.hpp"
#include "intact/io/json_text.hpp"
#include "intact/io/safetensors.hpp"

// Recorded cases: safetensors files with the inputs and outputs of a function, for example of a PyTorch model. The
// metadata has the name of the function and its parameters. docs/verify.md has the format.

namespace intact {
inline namespace INTACT_UNIT {

namespace recorded {

/// A matrix that owns its elements.
template <class T>
struct matrix {
  index_t rows = 0;       ///< number of rows
  index_t columns = 0;    ///< number of columns
  std::vector<T> values;  ///< row-major, without gaps

  /// A matrix of zeros.
  matrix(index_t row_count, index_t column_count)
      : rows(row_count), columns(column_count), values(static_cast<std::size_t>(row_count * column_count)) {}

  /// Element (i, j).
  T& operator()(index_t i, index_t j) { return values[static_cast<std::size_t>(i * columns + j)]; }
  /// Element (i, j).
  const T& operator()(index_t i, index_t j) const { return values[static_cast<std::size_t>(i * columns + j)]; }
  /// A view, valid as long as the matrix lives.
  matrix_view<T> view() { return {values.data(), rows, columns}; }
  /// A view, valid as long as the matrix lives.
  matrix_view<const T> view() const { return {values.data(), rows, columns}; }
};

/// The recorded scale and zero point of a quantized tensor: one scale, or one per channel.
struct quantizer {
  std::vector<float> scale;  ///< one, or one per channel
  int zero_point = 0;        ///< the code of 0

  /// The scale of a channel.
  float channel(index_t c) const { return scale.size() == 1 ? scale[0] : scale.at(static_cast<std::size_t>(c)); }
};

/// A recorded case. Errors of all functions: file_error, naming the file and the tensor or the parameter.
class recorded_case {
 public:
  /// Reads the metadata.
  explicit recorded_case(safetensors_file file) : file_(std::move(file)) {
    require_small_empty_tensors();
    const auto found = file_.metadata().find("params");
    if (found != file_.metadata().end()) {
      parameters_ = detail::parse_json_object(file_.name() + ": metadata \"params\"", found->second);
    }
  }

  /// The recorded function.
  const std::string& function() const { return file_.metadata_value("function"); }
  /// Names of all tensors.
  std::vector<std::string> names() const { return file_.names(); }
  /// Whether there is such a tensor.
  bool has(const std::string& tensor) const { return file_.contains(tensor); }
  /// The shape of a tensor.
  const std::vector<std::int64_t>& shape(const std::string& tensor) const { return file_.info(tensor).shape; }

  /// A size of a tensor that must have so many dimensions.
  index_t size(const std::string& tensor, std::size_t dimension, std::size_t rank) const {
    if (shape(tensor).size() != rank) {
      fail(tensor + " has shape " + printable(shape(tensor)) + "; it must have " + std::to_string(rank) +
           " dimensions");
    }
    return shape(tensor)[dimension];
  }

  /// The names of tensors that end so, without their ends.
  std::vector<std::string> names_ending(const std::string& end) const {
    std::vector<std::string> found;
    for (const std::string& name : names()) {
      if (name.ends_with(end)) {
        found.push_back(name.substr(0, name.size() - end.size()));
      }
    }
    return found;
  }

  /// Ends with file_error about this file.
  [[noreturn]] void fail(const std::string& problem) const { throw file_error(file_.name(), problem); }

  /// Whether there is a parameter of this name.
  bool has_parameter(const std::string& name) const { return parameters_.contains(name); }

  /// A parameter that must be a string.
  std::string text(const std::string& name) const {
    const nlohmann::json& value = parameter(name);
    if (!value.is_string()) {
      fail_parameter(name, value, "a text");
    }
    return value.get<std::string>();
  }

  /// A parameter that must be a finite number.
  double number(const std::string& name) const {
    const nlohmann::json& value = parameter(name);
    if (!value.is_number() || !std::isfinite(value.get<double>())) {
      fail_parameter(name, value, "a finite number");
    }
    return value.get<double>();
  }

  /// A parameter that must be a whole number of a range. 8.0 is one.
  std::int64_t whole_number(const std::string& name, std::int64_t low, std::int64_t high) const {
    return whole_number_of(name, parameter(name), low, high);
  }

  /// The same for an array of them.
  std::vector<std::int64_t> whole_numbers(const std::string& name, std::int64_t low, std::int64_t high) const {
    const nlohmann::json& values = parameter(name);
    if (!values.is_array()) {
      fail_parameter(name, values, "an array");
    }
    std::vector<std::int64_t> numbers;
    for (const nlohmann::json& value : values) {
      numbers.push_back(whole_number_of(name, value, low, high));
    }
    return numbers;
  }

  /// Finite numbers.
  std::vector<float> floats(const std::string& tensor) const {
    std::vector<float> values = file_.values<float>(tensor);
    for (std::size_t at = 0; at < values.size(); ++at) {
      if (!std::isfinite(values[at])) {
        fail(tensor + " has the value " + std::to_string(values[at]) + " at " + std::to_string(at) +
             " of its memory; it must be finite");
      }
    }
    return values;
  }

  /// A tensor of float64.
  std::vector<double> doubles(const std::string& tensor) const { return file_.values<double>(tensor); }

  /// Integers of any width.
  std::vector<std::int64_t> integers(const std::string& tensor) const {
    const auto widened = [](const auto& values) { return std::vector<std::int64_t>(values.begin(), values.end()); };
    switch (file_.info(tensor).type) {
      case dtype::i8:
        return widened(file_.values<std::int8_t>(tensor));
      case dtype::boolean:
      case dtype::u8:
        return widened(file_.values<std::uint8_t>(tensor));
      case dtype::i32:
        return widened(file_.values<std::int32_t>(tensor));
      default:
        return file_.values<std::int64_t>(tensor);
    }
  }
  /// A tensor of integers, of `count` elements.
  std::vector<std::int64_t> integers(const std::string& tensor, std::size_t count) const {
    std::vector<std::int64_t> values = integers(tensor);
    require_count(tensor, values.size(), count);
    return values;
  }
  /// A tensor of float32, of `count` elements.
  std::vector<float> floats(const std::string& tensor, std::size_t count) const {
    std::vector<float> values = floats(tensor);
    require_count(tensor, values.size(), count);
    return values;
  }

  /// Codes that a type must hold, as a matrix; all but the last dimension become the rows.
  template <class T>
  matrix<T> codes(const std::string& tensor) const {
    const std::vector<std::int64_t>& sizes = shape(tensor);
    const std::vector<std::int64_t> values = integers(tensor);
    const index_t columns = sizes.empty() ? 1 : sizes.back();
    matrix<T> result(columns == 0 ? 0 : std::ssize(values) / columns, columns);
    for (std::size_t at = 0; at < values.size(); ++at) {
      if (values[at] < std::numeric_limits<T>::min() || values[at] > std::numeric_limits<T>::max()) {
        fail(tensor + " has the code " + std::to_string(values[at]) + " at " + std::to_string(at) +
             " of its memory; it must be in " + std::to_string(std::numeric_limits<T>::min()) + ".." +
             std::to_string(std::numeric_limits<T>::max()));
      }
      result.values[at] = static_cast<T>(values[at]);
    }
    return result;
  }

  /// Whether a tensor has s8 codes: its codes are stored as I8, or one of them or the zero point is negative.
  bool is_signed(const std::string& tensor) const {
    const std::vector<std::int64_t> codes = integers(tensor + "__codes"), zero_point = integers(tensor + "__zp", 1);
    return file_.info(tensor + "__codes").type == dtype::i8 || zero_point[0] < 0 ||
           std::any_of(codes.begin(), codes.end(), [](std::int64_t code) { return code < 0; });
  }

  /// The quantizer of a tensor's codes, which are of a type; a scale per channel needs as many channels.
  template <class Code = std::uint8_t>
  quantizer quantizer_of(const std::string& tensor) const {
    const std::int64_t zero_point = integers(tensor + "__zp", 1)[0];
    if (zero_point < std::numeric_limits<Code>::min() || zero_point > std::numeric_limits<Code>::max()) {
      fail(tensor + "__zp is " + std::to_string(zero_point) + "; it must be in " +
           std::to_string(std::numeric_limits<Code>::min()) + ".." + std::to_string(std::numeric_limits<Code>::max()));
    }
    quantizer result{floats(tensor + "__scale"), static_cast<int>(zero_point)};
    const std::vector<std::int64_t>& sizes = shape(tensor + "__codes");
    if (result.scale.size() != 1 &&
        (result.scale.empty() || sizes.empty() || std::ssize(result.scale) != sizes.back())) {
      fail(tensor + "__scale has " + std::to_string(result.scale.size()) +
           " scales; it must have 1 or one per channel");
    }
    for (const float scale : result.scale) {
      if (!(scale > 0) || !std::isfinite(scale)) {
        fail(tensor + "__scale has the value " + std::to_string(scale) + "; it must be above 0 and finite");
      }
    }
    return result;
  }

  /// The scale of a tensor of u8 codes that must have just one.
  double tensor_scale(const std::string& tensor) const { return only_scale(tensor, quantizer_of(tensor)); }

  /// The only scale of a quantizer; it is an error if there are several.
  double only_scale(const std::string& tensor, const quantizer& q) const {
    require_count(tensor + "__scale", q.scale.size(), 1);
    return static_cast<double>(q.scale[0]);
  }

  /// A comparison with a recorded tensor, which must have so many values.
  tensor_comparison compare(const std::string& tensor, const std::string& operation, claim must,
                            std::size_t count) const {
    require_count(tensor, file_.info(tensor).elements(), count);
    return {.tensor = tensor,
            .operation = operation,
            .must = must,
            .shape = shape(tensor),
            .count = {},
            .refused = {},
            .allowed = {}};
  }

  /// Refuses a tensor of another number of elements.
  void require_count(const std::string& tensor, std::size_t found, std::size_t expected) const {
    if (found != expected) {
      fail(tensor + " has " + std::to_string(found) + " values; it must have " + std::to_string(expected));
    }
  }

 private:
  /// Refuses tensors without elements whose other sizes are large: loops over these, and what they size, are not
  /// bounded by the file's size.
  void require_small_empty_tensors() const {
    constexpr index_t largest = 65536;
    for (const std::string& name : names()) {
      index_t others = 1;
      for (const std::int64_t size : shape(name)) {
        others = size_product(others, static_cast<index_t>(std::max<std::int64_t>(size, 1)));
      }
      if (file_.info(name).elements() == 0 && others > largest) {
        fail(name + " has shape " + printable(shape(name)) +
             "; the sizes of a tensor without elements, but for 0, must " + "have a product of at most " +
             std::to_string(largest));
      }
    }
  }

  const nlohmann::json& parameter(const std::string& name) const {
    const auto found = parameters_.find(name);
    if (found == parameters_.end()) {
      fail("the parameter " + name + " is missing");
    }
    return *found;
  }

  [[noreturn]] void fail_parameter(const std::string& name, const nlohmann::json& value,
                                   const std::string& rule) const {
    fail("the parameter " + name + " is " + detail::printable_json(value) + "; it must be " + rule);
  }

  std::int64_t whole_number_of(const std::string& name, const nlohmann::json& value, std::int64_t low,
                               std::int64_t high) const {
    const double number = value.is_number() ? value.get<double>() : NAN;
    if (!(number >= static_cast<double>(low) && number <= static_cast<double>(high)) || number != std::rint(number)) {
      fail_parameter(name, value, "a whole number in " + std::to_string(low) + ".." + std::to_string(high));
    }
    return static_cast<std::int64_t>(number);
  }

  safetensors_file file_;
  nlohmann::json parameters_ = nlohmann::json::object();
};

/// Per channel the power of two by which a scale exceeds the smallest; refuses scales that are not 1, 2, 4 or 8 times
/// that.
inline std::vector<std::uint8_t> shifts_of(const recorded_case& file, const quantizer& q, index_t channels) {
  const float smallest = *std::min_element(q.scale.begin(), q.scale.end());
  std::vector<std::uint8_t> shift;
  for (index_t c = 0; c < channels; ++c) {
    const float factor = q.channel(c) / smallest;
    if (factor != 1 && factor != 2 && factor != 4 && factor != 8) {
      file.fail("channel " + std::to_string(c) + " has a scale " + std::to_string(factor) +
                " times the smallest; it must be 1, 2, 4 or 8 times");
    }
    shift.push_back(static_cast<std::uint8_t>(std::ilogb(factor)));
  }
  return shift;
}

/// The reason why two codes may differ by one: the distance of the exact value from the tie between them is at most
/// `tolerance`, in codes, so that a rounding error of that size exchanges the codes. Empty if the distance is larger.
inline std::string near_tie(long double exact, std::int64_t found, std::int64_t expected, long double tolerance) {
  const long double tie = static_cast<long double>(std::min(found, expected)) + 0.5L;
  const long double distance = std::fabs(exact - tie);
  const auto [low, high] = std::minmax(found, expected);
  if (low == high || high - 1 != low || !(distance <= tolerance)) {
    return "";
  }
  char text[160];
  std::snprintf(text, sizeof text, "the exact value %.9Lf is %.1Le from a tie; rounding may move it by %.1Le", exact,
                distance, tolerance);
  return text;
}

/// The relative error of one rounding to float32.
inline constexpr long double float32_rounding = 0x1p-24L;

}  // namespace recorded

}  // namespace INTACT_UNIT
}  // namespace intact
