#pragma once

#include "intact/quantize/wide_integer.hpp"

namespace intact_test {

using intact::double_precision::clamp_to;
using intact::double_precision::floor_divide;
using intact::double_precision::int128;
using intact::double_precision::power_of_two;
using intact::double_precision::uint128;
using intact::double_precision::wide_integer;

}  // namespace intact_test
