#pragma once

// OpenMP's threads, where the program is compiled with OpenMP; else the calling thread alone.

#ifdef _OPENMP
#include "openmp.hpp"
using threads = openmp_executor;
#else
#include "intact/types/executor.hpp"
using threads = intact::sequential;
#endif
