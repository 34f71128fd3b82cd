#pragma once

#include "intact/quantize/exact_layernorm.hpp"

namespace intact_test {

using intact::double_precision::exact_layernorm_code;
using intact::double_precision::exact_layernorm_row;
using intact::double_precision::floor_square_root;

}  // namespace intact_test
