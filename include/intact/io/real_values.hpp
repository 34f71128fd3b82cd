#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "intact/config/bits_as.hpp"
#include "intact/config/floating_point.hpp"
#include "intact/io/safetensors.hpp"

// Tensors of real numbers in any of the types that checkpoints have, as floats.

namespace intact {
inline namespace INTACT_UNIT {

/// The float of 16 bits of BF16: the upper half of a float.
inline float float_of_bf16(std::uint16_t bits) {
  return bits_as<float>(std::uint32_t{bits} << 16);
}

/// The float of 16 bits of IEEE's binary16: a sign, 5 bits of exponent, 10 bits of fraction.
inline float float_of_f16(std::uint16_t bits) {
  const std::uint32_t sign = std::uint32_t{bits} >> 15 << 31, exponent = bits >> 10 & 31U, fraction = bits & 1023U;
  if (exponent == 31) {  // infinity or NaN
    return bits_as<float>(sign | 0x7f800000U | fraction << 13);
  }
  if (exponent == 0) {  // subnormal: fraction * 2^-24
    const float magnitude = std::ldexp(static_cast<float>(fraction), -24);
    return sign == 0 ? magnitude : -magnitude;
  }
  return bits_as<float>(sign | (exponent + 112) << 23 | fraction << 13);
}

/// A tensor of F32, F16, BF16 or F64 as floats. Those of 64 bits are rounded to nearest; beyond the range of float they
/// become infinite.
///
/// Errors:    file_error naming the tensor: another type, or no such tensor.
inline std::vector<float> real_values(const safetensors_file& file, std::string_view tensor) {
  const auto converted = [&]<class T>(T, auto convert) {
    const std::vector<std::byte> bytes = file.machine_bytes(tensor);
    std::vector<float> values(bytes.size() / sizeof(T));
    for (std::size_t i = 0; i < values.size(); ++i) {
      T stored;
      std::memcpy(&stored, bytes.data() + i * sizeof(T), sizeof(T));
      values[i] = convert(stored);
    }
    return values;
  };
  switch (const dtype type = file.info(tensor).type) {
    case dtype::f32:
      return file.values<float>(tensor);
    case dtype::f64:
      return converted(double{}, [](double value) { return static_cast<float>(value); });
    case dtype::f16:
      return converted(std::uint16_t{}, float_of_f16);
    case dtype::bf16:
      return converted(std::uint16_t{}, float_of_bf16);
    default:
      throw file_error(file.name(), "tensor " + in_quotes(tensor) + " has dtype " + std::string(dtype_name(type)) +
                                        "; it must be F32, F16, BF16 or F64");
  }
}

/// The same for a tensor that must have the expected shape.
inline std::vector<float> real_values(const safetensors_file& file, std::string_view tensor,
                                      const std::vector<std::int64_t>& expected_shape) {
  file.require_shape(tensor, expected_shape);
  return real_values(file, tensor);
}

}  // namespace INTACT_UNIT
}  // namespace intact
