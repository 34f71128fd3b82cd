#pragma once

#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "image_file.hpp"

namespace intact_deit {

/// Writes JSON into a file; numbers that JSON does not have, such as infinity, become null.
inline void write_json(const std::string& path, const nlohmann::json& json) {
  std::ofstream file(path);
  file << json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) << '\n';
  file.flush();
  if (!file) {
    throw error_in(path, "the file cannot be written");
  }
}

}  // namespace intact_deit
