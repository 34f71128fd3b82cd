#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "intact/build/weights.hpp"
#include "intact/io/safetensors.hpp"
#include "intact/io/safetensors_write.hpp"
#include "tensor.hpp"

namespace intact_test {

/// The tensors and the metadata of a calibrated model's file (docs/calibrated_models.md).
struct calibrated_tensors {
  struct tensor {
    dtype type;
    std::vector<std::int64_t> shape;
    std::vector<std::byte> bytes;
  };
  std::map<std::string, tensor> all;
  std::map<std::string, std::string> metadata;

  template <class T>
  void set(const std::string& name, std::vector<std::int64_t> shape, const std::vector<T>& values) {
    const auto* const begin = reinterpret_cast<const std::byte*>(values.data());
    all[name] = {dtype_of<T>(), std::move(shape), {begin, begin + values.size() * sizeof(T)}};
  }
  template <class T>
  void set_row(const std::string& name, const std::vector<T>& values) {
    set(name, {std::ssize(values)}, values);
  }
  /// Returns the scale.
  affine_scale set_affine(const std::string& name, const affine_scale& scale) {
    set<float>("activations." + name + ".scale", {}, {scale.scale});
    set<std::int64_t>("activations." + name + ".zero_point", {}, {scale.zero_point});
    return scale;
  }
  ptf_scale set_ptf(const std::string& name, const ptf_scale& scale) {
    set_affine(name, {scale.scale, scale.zero_point});
    set_row("activations." + name + ".shift", scale.shift);
    return scale;
  }

  safetensors_file file() const {
    return safetensors_file::parse(safetensors_bytes("calibrated", tensors(), metadata), "calibrated");
  }
  void write(const std::filesystem::path& path) const { write_safetensors(path, tensors(), metadata); }

 private:
  std::vector<tensor_to_write> tensors() const {
    std::vector<tensor_to_write> made;
    for (const auto& [name, one] : all) {
      made.push_back({name, one.type, one.shape, one.bytes});
    }
    return made;
  }
};

}  // namespace intact_test
