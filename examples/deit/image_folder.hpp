#pragma once

#include <charconv>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <istream>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "image_file.hpp"

// Folders of images, their labels, and the names of classes.

namespace intact_deit {

struct labelled_image {
  std::filesystem::path file;
  index_t label = 0;
};

namespace detail {

/// The lines of a text file, without the carriage returns of other systems.
inline std::vector<std::string> read_lines(const std::filesystem::path& file) {
  if (!std::filesystem::is_regular_file(file)) {
    throw error_in(file, std::filesystem::exists(file) ? "is not a regular file" : "the file does not exist");
  }
  std::ifstream stream(file);
  std::vector<std::string> lines;
  for (std::string line; std::getline(stream, line);) {
    if (line.ends_with('\r')) {
      line.pop_back();
    }
    lines.push_back(line);
  }
  if (!stream.eof()) {
    throw error_in(file, "the file cannot be read");
  }
  return lines;
}

/// Whether the name ends like that of a PNG or JPEG file.
inline bool is_image_name(const std::filesystem::path& file) {
  std::string ending = file.extension().string();
  for (char& c : ending) {
    c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  }
  return ending == ".png" || ending == ".jpg" || ending == ".jpeg";
}

}  // namespace detail

/// The images of a folder and of its sub-folders, sorted by name.
inline std::vector<std::filesystem::path> find_images(const std::filesystem::path& folder) {
  if (!std::filesystem::is_directory(folder)) {
    throw error_in(folder, std::filesystem::exists(folder) ? "is not a folder" : "the folder does not exist");
  }
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    if (detail::is_image_name(entry.path())) {
      files.push_back(entry.path());
    }
  }
  if (files.empty()) {
    throw error_in(folder, "the folder has no PNG or JPEG file");
  }
  std::sort(files.begin(), files.end());
  return files;
}

/// The lines of <folder>/labels.tsv: a file of the folder, a tab, the number of its class.
/// Errors: std::runtime_error, naming the file and the line.
inline std::vector<labelled_image> read_labels(const std::filesystem::path& folder, index_t classes) {
  const std::filesystem::path file = folder / "labels.tsv";
  std::vector<labelled_image> images;
  std::size_t number = 0;
  for (const std::string& line : detail::read_lines(file)) {
    ++number;
    const auto refuse = [&](const std::string& problem) {
      throw error_in(file, "line " + std::to_string(number) + ' ' + problem);
    };
    if (line.empty()) {
      continue;
    }
    const std::size_t tab = line.find('\t');
    if (tab == 0 || tab == std::string::npos) {
      refuse("must be a file, a tab and the number of a class");
    }
    const std::string_view text = std::string_view(line).substr(tab + 1);
    index_t label = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), label);
    if (error != std::errc() || end != text.data() + text.size() || label < 0 || label >= classes) {
      refuse("has the class \"" + std::string(text) + "\"; it must be a number from 0 to " +
             std::to_string(classes - 1));
    }
    images.push_back({folder / line.substr(0, tab), label});
  }
  if (images.empty()) {
    throw error_in(file, "there is no image in it");
  }
  return images;
}

/// Names of classes, one per line, in order; a WordNet number in front of a name is left out.
inline std::vector<std::string> read_class_names(const std::filesystem::path& file, index_t classes) {
  std::vector<std::string> names = detail::read_lines(file);
  if (std::ssize(names) != classes) {
    throw error_in(file, "there are " + std::to_string(names.size()) + " names; the model has " +
                             std::to_string(classes) + " classes");
  }
  for (std::string& name : names) {
    constexpr std::size_t digits = 8;
    const bool numbered = name.size() > digits + 2 && name[0] == 'n' && name[digits + 1] == ' ' &&
                          name.find_first_not_of("0123456789", 1) == digits + 1;
    name.erase(0, numbered ? digits + 2 : 0);
  }
  return names;
}

}  // namespace intact_deit
