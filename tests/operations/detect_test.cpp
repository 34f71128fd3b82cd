#include "intact/simd/detect.hpp"

#include <fstream>
#include <string>

#include "catch.hpp"

namespace intact_test::detect_test {
namespace {

/// Whether Linux tells this of the processor; "flags" on x86, "Features" on AArch64.
class told_by_linux {
 public:
  told_by_linux() {
    std::ifstream file("/proc/cpuinfo");
    for (std::string line; words_.empty() && std::getline(file, line);) {
      if (line.starts_with("flags") || line.starts_with("Features")) {
        words_ = line.substr(line.find(':') + 1) + " ";
      }
    }
  }

  bool anything() const { return !words_.empty(); }

  template <class... Words>
  bool all(const Words&... words) const {
    return ((words_.find(" " + std::string(words) + " ") != std::string::npos) && ...);
  }

 private:
  std::string words_;
};

TEST_CASE("detect: finds the instruction sets that Linux reports") {
  const told_by_linux linux_tells;
  if (!linux_tells.anything()) {
    WARN("[intact: skipped] /proc/cpuinfo tells nothing");
    return;
  }
  const intact::simd::processor found = intact::simd::detect();
  const bool avx512 = linux_tells.all("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl");
  CHECK(found.sse2 == linux_tells.all("sse2"));
  CHECK(found.sse4_1 == linux_tells.all("sse4_1"));
  CHECK(found.avx2 == linux_tells.all("avx2"));
  CHECK(found.avx2_vnni == linux_tells.all("avx_vnni"));
  CHECK(found.avx512bw == avx512);
  CHECK(found.avx512vnni == (avx512 && linux_tells.all("avx512_vnni")));
  CHECK(found.avx512vbmi == (avx512 && linux_tells.all("avx512_vnni", "avx512ifma", "avx512vbmi")));
  CHECK(found.neon == linux_tells.all("asimd"));
  CHECK(found.neon_dotprod == linux_tells.all("asimddp"));
  CHECK(found.neon_i8mm == linux_tells.all("i8mm"));
}

TEST_CASE("detect: the processor offers the instruction set of this program") {
  const intact::simd::processor found = intact::simd::detect();
  CHECK(found.offers(intact::isa::scalar()));
  CHECK(found.offers(intact::isa::native()));
  CHECK_FALSE(intact::simd::processor().offers(intact::isa::avx2()));
}

}  // namespace
}  // namespace intact_test::detect_test
