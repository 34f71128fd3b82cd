#pragma once

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <limits>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "intact/config/floating_point.hpp"
#include "intact/io/real_values.hpp"
#include "intact/io/safetensors.hpp"

// The tensors of a checkpoint under other names than the file's.

namespace intact {
inline namespace INTACT_UNIT {

/// The tensors of a file under names of a loader. A tensor is one of the file's or several, one below the other. The
/// file must outlive it; nothing is copied until values are asked for.
class named_tensors {
 public:
  /// No tensors, yet. `prefix`: the common prefix of the file's names.
  explicit named_tensors(const safetensors_file& file, std::string prefix = "")
      : file_(&file), prefix_(std::move(prefix)) {}

  /// All tensors of a file, under its own names.
  static named_tensors all_of(const safetensors_file& file) {
    named_tensors all(file);
    for (const std::string& name : file.names()) {
      all.add(name, {name});
    }
    return all;
  }

  /// Gives a name to a tensor of the file, or to several of one shape, one below the other.
  ///
  /// Errors:    file_error naming the file's tensor: it is missing, has another shape than the first, or has no
  ///            dimension; or the name is given twice.
  void add(const std::string& name, std::vector<std::string> parts) {
    const auto [known, is_new] = parts_.try_emplace(name, parts);
    if (!is_new) {
      throw file_error(file_->name(), "tensors " + in_quotes(known->second.front()) + " and " +
                                          in_quotes(parts.front()) + " are both " + in_quotes(name));
    }
    const std::vector<std::int64_t> first = file_->info(parts.front()).shape;
    for (const std::string& part : std::span(parts).subspan(1)) {
      file_->require_shape(part, first);
      if (first.empty() || first.front() > std::numeric_limits<std::int64_t>::max() / std::ssize(parts)) {
        throw file_error(file_->name(), "tensor " + in_quotes(part) + " has shape " + shape_text(first) +
                                            "; it must have rows, fewer than 2^61");
      }
    }
  }

  /// Records that a tensor of the file is not needed.
  void leave_out(const std::string& original) { unused_.push_back(original); }

  /// The file's name.
  const std::string& file_name() const { return file_->name(); }
  /// The prefix that all names of the model have in the file.
  const std::string& prefix() const { return prefix_; }
  /// The file's metadata.
  const std::map<std::string, std::string>& metadata() const { return file_->metadata(); }

  /// The file's names of the tensors that are not needed.
  const std::vector<std::string>& unused() const { return unused_; }

  /// The names, sorted.
  std::vector<std::string> names() const {
    std::vector<std::string> all;
    for (const auto& [name, parts] : parts_) {
      all.push_back(name);
    }
    return all;
  }

  /// Whether the model has a tensor of this name.
  bool contains(const std::string& name) const { return parts_.contains(name); }

  /// The file's names of a tensor that is there.
  const std::vector<std::string>& originals(const std::string& name) const { return parts_.at(name); }

  /// The shape of a tensor that is there.
  std::vector<std::int64_t> shape(const std::string& name) const {
    const std::vector<std::string>& parts = originals(name);
    std::vector<std::int64_t> shape = file_->info(parts.front()).shape;
    if (parts.size() > 1) {
      shape.front() *= static_cast<std::int64_t>(parts.size());
    }
    return shape;
  }

  /// A tensor of real numbers that is there, as real_values reads them.
  ///
  /// Errors:    file_error naming the file's tensor: another shape or type.
  std::vector<float> real_values(const std::string& name, std::vector<std::int64_t> expected_shape) const {
    const std::vector<std::string>& parts = originals(name);
    if (parts.size() > 1 && !expected_shape.empty()) {
      expected_shape.front() /= static_cast<std::int64_t>(parts.size());
    }
    std::vector<float> values = intact::real_values(*file_, parts.front(), expected_shape);
    for (const std::string& part : std::span(parts).subspan(1)) {
      const std::vector<float> more = intact::real_values(*file_, part, expected_shape);
      values.insert(values.end(), more.begin(), more.end());
    }
    return values;
  }

  /// A tensor of whole numbers, I64, that is there.
  std::vector<std::int64_t> integers(const std::string& name, const std::vector<std::int64_t>& expected_shape) const {
    return file_->values<std::int64_t>(originals(name).front(), expected_shape);
  }

 private:
  const safetensors_file* file_;
  std::string prefix_;
  std::map<std::string, std::vector<std::string>> parts_;
  std::vector<std::string> unused_;
};

}  // namespace INTACT_UNIT
}  // namespace intact
