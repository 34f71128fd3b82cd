#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>

#include "intact/io/replace_file.hpp"

namespace intact_examples {

/// Writes JSON into a file; numbers that JSON does not have, such as infinity, become null.
inline void write_json(const std::filesystem::path& path, const nlohmann::json& json) {
  intact::write_text_file(path, json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + '\n');
}

}  // namespace intact_examples
