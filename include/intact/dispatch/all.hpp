#pragma once

// All operations and models on the instruction set that is chosen when the program runs. A program that calls them
// links the units of this folder: docs/embedding.md.

#include "intact/dispatch/models.hpp"
#include "intact/dispatch/operations.hpp"
