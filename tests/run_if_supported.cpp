#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <iostream>
#include <string>

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

#include "cases.hpp"

// run_if_supported ISA PROGRAM [ARGUMENT]...: becomes the program if this processor has the instruction set, else
// reports it as skipped. It is a program of its own, because one that is compiled for an instruction set may use it
// before its first line runs.

namespace {

bool is_supported(const std::string& isa) {
#if defined(__x86_64__)
  // __builtin_cpu_supports asks whether the operating system saves the registers, too.
  const bool avx512bw = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                        __builtin_cpu_supports("avx512vl");
  // Of AVX-VNNI compilers of this age do not know the name.
  unsigned a = 0, b = 0, c = 0, d = 0;
  const bool avx_vnni = __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a >> 4 & 1) != 0;
  return isa == "scalar" || (isa == "sse4_1" && __builtin_cpu_supports("sse4.1")) ||
         (isa == "avx2" && __builtin_cpu_supports("avx2")) ||
         (isa == "avx2_vnni" && __builtin_cpu_supports("avx2") && avx_vnni) || (isa == "avx512bw" && avx512bw) ||
         (isa == "avx512vnni" && avx512bw && __builtin_cpu_supports("avx512vnni"));
#elif defined(__aarch64__)
  const bool dotprod = (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
  return isa == "scalar" || isa == "neon" || (isa == "neon_dotprod" && dotprod) ||
         (isa == "neon_i8mm" && dotprod && (getauxval(AT_HWCAP2) & HWCAP2_I8MM) != 0);
#else
  return isa == "scalar";
#endif
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    std::cerr << "usage: run_if_supported ISA PROGRAM [ARGUMENT]...\n";
    return 2;
  }
  if (!is_supported(argv[1])) {
    intact_test::report_skipped("this processor does not have " + std::string(argv[1]));
    return 0;
  }
  execv(argv[2], argv + 2);
  std::cerr << argv[2] << ": " << std::strerror(errno) << '\n';
  return 2;
}
