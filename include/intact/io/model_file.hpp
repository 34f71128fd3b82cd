#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <filesystem>
#include <map>
#include <set>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "intact/build/integer_vit.hpp"
#include "intact/config/floating_point.hpp"
#include "intact/io/model_file_checks.hpp"
#include "intact/io/model_file_fields.hpp"
#include "intact/io/model_file_swin_fields.hpp"
#include "intact/io/safetensors.hpp"
#include "intact/io/safetensors_write.hpp"

// Integer models as safetensors files. docs/model_format.md describes the format; the fields are in
// model_file_fields.hpp and model_file_swin_fields.hpp.

namespace intact {
inline namespace INTACT_UNIT {

/// The metadata "format" of model files, and the newest "version", which is written. All versions are read.
inline constexpr const char* model_file_format = "intact-vit";
/// The same of Swin transformers.
inline constexpr const char* swin_file_format = "intact-swin";
/// The newest version.
inline constexpr int model_file_version = 2;

namespace detail {

using tensor_shape = std::vector<std::int64_t>;

/// The real numbers of a struct: a row of a tensor.
template <class T>
constexpr std::int64_t reals_in() {
  static_assert(std::is_trivially_copyable_v<T> && alignof(T) == alignof(double) && sizeof(T) % sizeof(double) == 0);
  return static_cast<std::int64_t>(sizeof(T) / sizeof(double));
}

/// Collects the fields of a model, which must outlive it.
class model_writer : public model_archive {
 public:
  static constexpr bool writes = true;

  explicit model_writer(std::string file) : model_archive(std::move(file), model_file_version) {}

  /// Whether a field that may be left out is there: the model decides.
  bool has(const std::string&, bool of_model) const { return of_model; }

  /// A single integer, truth value or enumeration is stored as I64.
  template <class T>
  void number(const std::string& name, T value, const limits& allowed) {
    numbers_.push_back(static_cast<std::int64_t>(value));
    require(name, numbers_.back(), allowed);
    add(name, dtype::i64, {}, std::as_bytes(std::span(&numbers_.back(), 1)));
  }

  void real(const std::string& name, const double& value) {
    add(name, dtype::f64, {}, std::as_bytes(std::span(&value, 1)));
  }

  template <class T>
  void array(const std::string& name, const std::vector<T>& values, const tensor_shape& shape) {
    add(name, dtype_of<T>(), shape, std::as_bytes(std::span(values)));
  }

  template <class T>
  void array(const std::string& name, const std::vector<T>& values, const tensor_shape& shape, const limits& allowed) {
    array(name, values, shape);
    require_all(name, values, allowed);
  }

  template <class T>
  void reals(const std::string& name, const std::vector<T>& rows, index_t count) {
    add(name, dtype::f64, {count, reals_in<T>()}, std::as_bytes(std::span(rows)));
  }

  std::span<const tensor_to_write> tensors() const { return tensors_; }

 private:
  void add(const std::string& name, dtype type, const tensor_shape& shape, std::span<const std::byte> bytes) {
    tensors_.push_back({.name = name, .type = type, .shape = shape, .bytes = bytes});
    require_writable(file(), tensors_.back());
  }

  std::deque<std::int64_t> numbers_;  // a deque, because its elements stay where they are
  std::vector<tensor_to_write> tensors_;
};

/// Fills in the fields of a model, and remembers which tensors it has read. File is const safetensors_file or
/// safetensors_reader.
template <class File>
class model_reader : public model_archive {
 public:
  static constexpr bool writes = false;

  model_reader(File& file, int version) : model_archive(file.name(), version), stored_(file) {}

  /// Whether a field that may be left out is there: the file decides.
  bool has(const std::string& name, bool) const { return stored_.contains(name); }

  template <class T>
  void number(const std::string& name, T& value, const limits& allowed) {
    const std::int64_t number = read<std::int64_t>(name, {}).front();
    require(name, number, allowed);
    value = static_cast<T>(number);
  }

  void real(const std::string& name, double& value) { value = read<double>(name, {}).front(); }

  template <class T>
  void array(const std::string& name, std::vector<T>& values, const tensor_shape& shape) {
    values = read<T>(name, shape);
  }

  template <class T>
  void array(const std::string& name, std::vector<T>& values, const tensor_shape& shape, const limits& allowed) {
    array(name, values, shape);
    require_all(name, values, allowed);
  }

  template <class T>
  void reals(const std::string& name, std::vector<T>& rows, index_t count) {
    const std::vector<double> numbers = read<double>(name, {count, reals_in<T>()});
    rows.resize(static_cast<std::size_t>(count));
    std::memcpy(static_cast<void*>(rows.data()), numbers.data(), numbers.size() * sizeof(double));
  }

  /// Refuses tensors that have not been read: a model that has more parts computes something else.
  void require_all_read() const {
    for (const std::string& name : stored_.names()) {
      if (!read_.contains(name)) {
        refuse(name, "has no place in this model");
      }
    }
  }

 private:
  template <class T>
  std::vector<T> read(const std::string& name, const tensor_shape& shape) {
    std::vector<T> values = stored_.template values<T>(name, shape);
    read_.insert(name);
    return values;
  }

  File& stored_;
  std::set<std::string> read_;
};

[[noreturn]] inline void refuse_metadata(const safetensors_index& file, const char* key, const std::string& expected) {
  throw file_error(file.name(), "metadata " + in_quotes(key) + " is " + in_quotes(file.metadata_value(key)) +
                                    "; it must be " + expected);
}

/// The version of a file of this format.
inline int require_format(const safetensors_index& file, const char* format) {
  if (file.metadata_value("format") != format) {
    refuse_metadata(file, "format", in_quotes(format));
  }
  for (int version = 1; version <= model_file_version; ++version) {
    if (file.metadata_value("version") == std::to_string(version)) {
      return version;
    }
  }
  refuse_metadata(file, "version", "in 1.." + std::to_string(model_file_version));
}

/// The contents that a file of this format holds; `describe` reads their fields.
template <class Contents, class File, class Describe>
Contents read_model(File& file, const char* format, const Describe& describe) {
  model_reader<File> reader(file, require_format(file, format));
  Contents tensors;
  describe(reader, tensors);
  reader.require_all_read();
  return tensors;
}

/// Writes the tensors that the writer has collected.
inline void write_model(const model_writer& writer, const std::filesystem::path& path, const char* format,
                        const std::map<std::string, std::string>& notes) {
  std::map<std::string, std::string> metadata = {{"format", format}, {"version", std::to_string(model_file_version)}};
  for (const auto& [key, text] : notes) {
    if (!metadata.emplace(key, text).second) {
      throw file_error(path.string(), "a note is named " + in_quotes(key) + ", which the format uses");
    }
  }
  write_safetensors(path, writer.tensors(), metadata);
}

template <class File>
integer_vit load_integer_vit(File& file) {
  const auto describe = [](auto& reader, vit_tensors& tensors) { describe_vit(reader, tensors); };
  return integer_vit(read_model<vit_tensors>(file, model_file_format, describe));
}

template <class File>
integer_swin load_integer_swin(File& file) {
  const auto describe = [](auto& reader, swin_tensors& tensors) { describe_swin(reader, tensors); };
  return integer_swin(read_model<swin_tensors>(file, swin_file_format, describe));
}

}  // namespace detail

/// Writes a model into a file, in place of one that may exist.
///
/// Notes:   become metadata of the file, beside "format" and "version"; texts in UTF-8.
/// Safety:  as of write_safetensors: a file is replaced as a whole or not at all.
/// Bytes:   depend on the model and the notes only. The version is the newest, whichever file the model is from.
/// Errors:  file_error for a model that load_integer_vit would refuse, for a note named "format" or "version", and for
///          whatever write_safetensors refuses: an existing file is kept then.
inline void save_integer_vit(const integer_vit& model, const std::filesystem::path& path,
                             const std::map<std::string, std::string>& notes = {}) {
  detail::model_writer writer(path.string());
  detail::describe_vit(writer, model.tensors());
  detail::write_model(writer, path, model_file_format, notes);
}
/// The same of a Swin transformer.
inline void save_integer_swin(const integer_swin& model, const std::filesystem::path& path,
                              const std::map<std::string, std::string>& notes = {}) {
  detail::model_writer writer(path.string());
  detail::describe_swin(writer, model.tensors());
  detail::write_model(writer, path, swin_file_format, notes);
}

/// Makes the model that a file holds: the same bits as the one that was saved.
///
/// Safety:  every byte is taken as hostile. A model is safe to run on any image: no operation can overflow or reach
///          beyond its data. The function that it computes is not judged.
/// Memory:  at most twice the file's size and 64 KiB, and no block of more than its size and 64 KiB, beside the
///          argument, which holds all of the file, or its header. Of an honest file it is the model and little more.
///          The workspace that a model needs is not bounded by its file: vit_workspace_bytes and swin_workspace_bytes
///          tell its size.
/// Errors:  file_error, naming the tensor or the metadata, the value and the limit.
inline integer_vit load_integer_vit(const safetensors_file& file) {
  return detail::load_integer_vit(file);
}
/// The same, tensor by tensor, so that the file is not in memory as a whole.
inline integer_vit load_integer_vit(safetensors_reader& file) {
  return detail::load_integer_vit(file);
}
/// The same from a file.
inline integer_vit load_integer_vit(const std::filesystem::path& path) {
  safetensors_reader file(path);
  return load_integer_vit(file);
}
/// A Swin transformer of a file.
inline integer_swin load_integer_swin(const safetensors_file& file) {
  return detail::load_integer_swin(file);
}
/// The same, tensor by tensor, so that the file is not in memory as a whole.
inline integer_swin load_integer_swin(safetensors_reader& file) {
  return detail::load_integer_swin(file);
}
/// The same from a file.
inline integer_swin load_integer_swin(const std::filesystem::path& path) {
  safetensors_reader file(path);
  return load_integer_swin(file);
}

}  // namespace INTACT_UNIT
}  // namespace intact
