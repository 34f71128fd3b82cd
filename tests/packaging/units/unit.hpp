#pragma once

#include <cstdint>

#include "intact/model/vit.hpp"

// Translation units with different compiler flags in one program. Their arguments cross from one to another.

namespace units {

struct arguments {
  const intact::vit_parameters& model;
  const intact::vit_shape& shape;
  intact::image_view image;
  intact::workspace memory;  ///< for vit and reference::vit
};

/// Runs every operation and a model, and the specification; returns a hash of all results.
std::uint64_t run_baseline(const arguments& x);
std::uint64_t run_avx2(const arguments& x);
std::uint64_t run_avx512bw(const arguments& x);
std::uint64_t run_without_exceptions(const arguments& x);

}  // namespace units

namespace intact {
inline namespace INTACT_UNIT {

/// Runs the specification of a model and of the operations that have no kernel; returns a hash of all results.
std::uint64_t run_specification(const units::arguments& x);

}  // namespace INTACT_UNIT
}  // namespace intact
