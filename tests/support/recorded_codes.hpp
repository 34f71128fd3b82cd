#pragma once

#include <string>

#include "intact/build/weights.hpp"
#include "intact/io/safetensors.hpp"

namespace intact_test {

/// The recorded case's parameters contain this word as a value.
inline bool says(const intact::safetensors_file& file, const std::string& word) {
  return file.metadata_value("params").find('"' + word + '"') != std::string::npos;
}

/// The codes that the recorded case quantizes to.
inline intact::code_range recorded_codes(const intact::safetensors_file& file) {
  return says(file, "uint8")   ? intact::u8_codes
         : says(file, "uint4") ? intact::u4_codes
         : says(file, "int8")  ? intact::s8_codes
                               : intact::s4_codes;
}

}  // namespace intact_test
