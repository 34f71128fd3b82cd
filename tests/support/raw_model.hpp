#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "intact/io/model_file.hpp"
#include "scratch_folder.hpp"

// Model files taken apart.

namespace intact_test {

using namespace intact;

struct raw_tensor {
  dtype type = dtype::u8;
  std::vector<std::int64_t> shape;
  std::vector<std::byte> bytes;
};

/// A model file in parts that can be changed at will.
struct raw_model {
  std::map<std::string, raw_tensor> tensors;
  std::map<std::string, std::string> metadata;

  explicit raw_model(const integer_vit& model) : raw_model(model, save_integer_vit) {}
  explicit raw_model(const integer_swin& model) : raw_model(model, save_integer_swin) {}

  explicit raw_model(const safetensors_file& file) : metadata(file.metadata()) {
    for (const std::string& name : file.names()) {
      tensors[name] = {file.info(name).type, file.info(name).shape, file.machine_bytes(name)};
    }
  }

  template <class Model, class Save>
  raw_model(const Model& model, const Save& save) {
    const scratch_folder folder;
    save(model, folder / "model", {});
    *this = raw_model(safetensors_file::read(folder / "model"));
  }

  template <class T>
  std::size_t size(const std::string& name) const {
    return tensors.at(name).bytes.size() / sizeof(T);
  }
  template <class T>
  T get(const std::string& name, std::size_t i = 0) const {
    T value;
    std::memcpy(&value, element<T>(tensors.at(name).bytes, i), sizeof(T));
    return value;
  }
  template <class T>
  void set(const std::string& name, std::size_t i, T value) {
    std::memcpy(element<T>(tensors.at(name).bytes, i), &value, sizeof(T));
  }
  /// A single number of the model.
  void set(const std::string& name, std::int64_t value) { set(name, 0, value); }
  /// A number that ordinary models leave out.
  void add(const std::string& name, std::int64_t value) {
    tensors[name] = tensors.at("shape.depth");
    set(name, value);
  }
  template <class T>
  void fill(const std::string& name, T value) {
    for (std::size_t i = 0; i < size<T>(name); ++i) {
      set(name, i, value);
    }
  }

  /// Makes the real numbers of every scale those of its integers, as far as the integers allow.
  /// Errors: std::out_of_range for tensors of other sizes than a model's.
  void repair();

  std::string header() const {
    std::string text = "{\"__metadata__\":{";
    for (const auto& [key, value] : metadata) {
      text += (text.ends_with('{') ? "" : ",") + quoted(key) + ':' + quoted(value);
    }
    text += '}';
    std::size_t begin = 0;
    for (const auto& [name, tensor] : tensors) {
      const std::size_t end = begin + tensor.bytes.size();
      text += ',' + quoted(name) + ":{\"dtype\":\"" + std::string(dtype_name(tensor.type)) +
              "\",\"shape\":" + shape_text(tensor.shape) + ",\"data_offsets\":[" + std::to_string(begin) + ',' +
              std::to_string(end) + "]}";
      begin = end;
    }
    return text + '}';
  }

  std::vector<std::byte> file(const std::string& header_text) const {
    const std::uint64_t length = header_text.size();
    std::vector<std::byte> bytes(sizeof length + header_text.size());
    std::memcpy(bytes.data(), &length, sizeof length);
    std::memcpy(bytes.data() + sizeof length, header_text.data(), header_text.size());
    for (const auto& [name, tensor] : tensors) {
      bytes.insert(bytes.end(), tensor.bytes.begin(), tensor.bytes.end());
    }
    return bytes;
  }
  std::vector<std::byte> file() const { return file(header()); }

 private:
  /// All of an element is there, or std::out_of_range is thrown.
  template <class T, class Bytes>
  static auto* element(Bytes& bytes, std::size_t i) {
    return &bytes.at((i + 1) * sizeof(T) - 1) - (sizeof(T) - 1);
  }
  static std::string quoted(const std::string& text) { return nlohmann::json(text).dump(); }
  /// A single number, or -1.
  std::int64_t number(const std::string& name) const {
    const auto found = tensors.find(name);
    return found == tensors.end() || !found->second.shape.empty() ? -1 : get<std::int64_t>(name);
  }
};

inline void raw_model::repair() {
  for (const auto& [name, tensor] : std::map(tensors)) {
    const std::size_t dot = name.rfind('.');
    const std::string owner = name.substr(0, dot), last = dot == std::string::npos ? "" : name.substr(dot);
    const std::int64_t shift = number(owner + ".shift");
    if (shift < 0 || shift > 30) {
      continue;
    }
    const auto scaled = [](double x, std::int64_t exponent) { return std::ldexp(x, static_cast<int>(exponent)); };
    if (last == ".stream_multiplier") {
      for (std::size_t c = 0; c < size<std::int32_t>(name); ++c) {
        const auto real = [&](const char* part) { return scaled(get<std::int32_t>(owner + part, c), -shift); };
        set(owner + ".exact", 3 * c, real(".stream_multiplier"));
        set(owner + ".exact", 3 * c + 1, real(".branch_multiplier"));
        set(owner + ".exact", 3 * c + 2, real(".offset") - 0.5);
      }
    }
    const std::int64_t left_shift = number(owner + ".prescale");
    if (last != ".multiplier" || left_shift < 0 || left_shift > 30) {
      continue;
    }
    const auto offset = [&](std::size_t i) {
      return scaled(static_cast<double>(get<std::int64_t>(owner + ".offset", i)), -32 - shift) - 0.5;
    };
    if (tensor.shape.empty()) {
      set(owner + ".exact.factor", 0, scaled(static_cast<double>(get<std::int64_t>(name)), left_shift - 32 - shift));
      set(owner + ".exact.offset", 0, offset(0));
      continue;
    }
    for (std::size_t n = 0; n < size<std::int32_t>(name); ++n) {
      set(owner + ".exact", 2 * n, scaled(get<std::int32_t>(name, n), left_shift - 32 - shift));
      set(owner + ".exact", 2 * n + 1, offset(n));
    }
  }
}

}  // namespace intact_test
