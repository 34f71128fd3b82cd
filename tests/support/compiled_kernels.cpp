#define INTACT_TEST_INSTANTIATE template
#include "compiled_kernels.hpp"
