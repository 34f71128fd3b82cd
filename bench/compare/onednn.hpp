#pragma once

#include <dnnl.hpp>

#include <cmath>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "compare/peer.hpp"
#include "memory.hpp"

// Helpers shared by all comparisons with oneDNN.

namespace intact_bench {

inline const dnnl::engine& onednn_engine() {
  static const dnnl::engine cpu(dnnl::engine::kind::cpu, 0);
  return cpu;
}

inline std::string onednn_name() {
  const dnnl_version_t* const version = dnnl_version();
  return "oneDNN " + std::to_string(version->major) + '.' + std::to_string(version->minor) + '.' +
         std::to_string(version->patch);
}

/// Primitives with bound arguments, one after the other: a call does nothing but compute.
class onednn_steps {
 public:
  onednn_steps() : stream_(onednn_engine()) {}

  /// Attributes with scratch memory of the caller's.
  static dnnl::primitive_attr attributes() {
    dnnl::primitive_attr made;
    made.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    return made;
  }

  template <class T>
  dnnl::memory over(const dnnl::memory::desc& shape, const aligned_vector<T>& data) {
    return keep({shape, onednn_engine(), const_cast<T*>(data.data())});
  }
  dnnl::memory make(const dnnl::memory::desc& shape) { return keep({shape, onednn_engine()}); }
  /// A part of other memory, or the same in another shape.
  dnnl::memory part(const dnnl::memory::desc& shape, const dnnl::memory& of, std::ptrdiff_t first_byte = 0) {
    return keep({shape, onednn_engine(), static_cast<std::byte*>(of.get_data_handle()) + first_byte});
  }

  /// Adds a step; `described` is its primitive's descriptor.
  template <class Primitive, class Descriptor>
  void add(const Descriptor& described, std::vector<std::pair<int, dnnl::memory>> arguments) {
    arguments.emplace_back(DNNL_ARG_SCRATCHPAD, make(described.scratchpad_desc()));
    std::vector<dnnl_exec_arg_t> bound;
    for (const auto& [which, memory] : arguments) {
      bound.push_back({which, memory.get()});
    }
    steps_.push_back({Primitive(described), std::move(bound)});
    method_ += (method_.empty() ? "" : "; ") + std::string(described.impl_info_str());
  }

  void run() {
    for (const step& each : steps_) {
      const dnnl_status_t status = dnnl_primitive_execute(
          each.primitive.get(), stream_.get(), static_cast<int>(each.arguments.size()), each.arguments.data());
      if (status != dnnl_success) {
        throw unsupported("dnnl_primitive_execute fails with status " + std::to_string(status));
      }
    }
  }

  /// Copies into another format or type, now.
  void reorder(dnnl::memory from, dnnl::memory to) {
    dnnl::reorder(from, to).execute(stream_, from, to);
    stream_.wait();
  }

  /// The implementations that oneDNN has chosen.
  const std::string& method() const { return method_; }

 private:
  struct step {
    dnnl::primitive primitive;
    std::vector<dnnl_exec_arg_t> arguments;
  };

  dnnl::memory keep(dnnl::memory memory) {
    memories_.push_back(memory);
    return memory;
  }

  dnnl::stream stream_;
  std::vector<dnnl::memory> memories_;
  std::vector<step> steps_;
  std::string method_;
};

/// A task in steps of oneDNN.
class onednn_program : public program {
 public:
  explicit onednn_program(std::string what) : what_(std::move(what)) {}

  void run() override { steps_.run(); }
  std::vector<std::int32_t> outputs() const override { return {}; }
  std::string method() const override { return what_ + ": " + steps_.method(); }

 protected:
  onednn_steps steps_;

 private:
  std::string what_;
};

/// Real numbers as the codes that they are rounded to.
inline std::vector<std::int32_t> rounded_codes(const aligned_vector<float>& values, double scale, int zero_point) {
  std::vector<std::int32_t> codes;
  for (const float value : values) {
    const double code = std::rint(static_cast<double>(value) / scale) + zero_point;
    codes.push_back(static_cast<std::int32_t>(std::clamp(code, 0.0, 255.0)));
  }
  return codes;
}

/// A program of those that oneDNN offers: the fastest. `makers` are functions that return one.
template <class... Makers>
std::unique_ptr<program> fastest_of(const Makers&... makers) {
  std::unique_ptr<program> fastest;
  std::string problem;
  const auto compete = [&](const auto& make) {
    try {
      std::unique_ptr<program> next = make();
      next->run();
      if (fastest) {
        const rounds measured = alternate(*fastest, *next, {0.05, 5});
        if (median(measured.ours) <= median(measured.peer)) {
          return;
        }
      }
      fastest = std::move(next);
    } catch (const dnnl::error& error) {
      problem = error.what();
    } catch (const unsupported& error) {
      problem = error.what();
    }
  };
  (compete(makers), ...);
  if (!fastest) {
    throw unsupported(problem);
  }
  return fastest;
}

}  // namespace intact_bench
