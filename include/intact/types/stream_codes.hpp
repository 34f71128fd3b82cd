#pragma once

#include "intact/config/compiler.hpp"

namespace intact {
inline namespace INTACT_ABI {

/// The codes of a residual stream: u8 with a zero point and a power of two per channel, or s16 in one scale
/// for the whole network.
enum class stream_codes { u8, s16 };

}  // namespace INTACT_ABI
}  // namespace intact
