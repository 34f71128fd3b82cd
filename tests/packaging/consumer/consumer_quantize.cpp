// intact::quantize brings its headers, and the packages that they need.

#include <intact/quantize/build_vit.hpp>

#include <Eigen/Core>
#include <nlohmann/json_fwd.hpp>

static_assert(EIGEN_VERSION_AT_LEAST(3, 4, 0) && NLOHMANN_JSON_VERSION_MAJOR >= 3);
