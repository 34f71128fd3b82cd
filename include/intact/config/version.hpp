#pragma once

#include "intact/config/supported.hpp"

/// The version, major.minor.patch.
#define INTACT_VERSION_MAJOR 0
/// The second number of the version.
#define INTACT_VERSION_MINOR 1
/// The third number of the version.
#define INTACT_VERSION_PATCH 0
