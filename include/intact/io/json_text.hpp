#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "intact/config/floating_point.hpp"
#include "intact/io/safetensors_types.hpp"

// JSON texts of files, which may be hostile. The JSON library parses any depth without recursion, but copies and prints
// values by recursion: a text of many nested arrays would overflow the stack.

namespace intact {
inline namespace INTACT_UNIT {
namespace detail {

/// The most nested arrays and objects.
inline constexpr int json_max_depth = 32;

/// The object that a text is.
///
/// Arguments: place is how messages name the text: a file, or its file and its key in the metadata.
/// Errors:    file_error naming the place: no JSON, no object, more than json_max_depth levels.
inline nlohmann::json parse_json_object(const std::string& place, const std::string& text) {
  using event = nlohmann::json::parse_event_t;
  const auto limit_depth = [&](int enclosing, event at, nlohmann::json&) {
    if (enclosing >= json_max_depth && (at == event::array_start || at == event::object_start)) {
      throw file_error(place, "has more than " + std::to_string(json_max_depth) + " nested arrays and objects");
    }
    return true;
  };
  nlohmann::json parsed;
  try {
    parsed = nlohmann::json::parse(text, limit_depth);
  } catch (const nlohmann::json::exception& error) {
    throw file_error(place, "is not JSON: " + printable_text(error.what()));
  }
  if (!parsed.is_object()) {
    throw file_error(place, "is JSON, but no object");
  }
  return parsed;
}

/// A value of parse_json_object, fit for a message.
inline std::string printable_json(const nlohmann::json& value) {
  return printable_text(value.dump());
}

}  // namespace detail
}  // namespace INTACT_UNIT
}  // namespace intact
