// intact::io reads model files without Eigen.

#include <intact/io/model_file.hpp>

#include <nlohmann/json_fwd.hpp>

static_assert(NLOHMANN_JSON_VERSION_MAJOR >= 3);
