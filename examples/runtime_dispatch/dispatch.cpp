// Compiled for any processor: what chooses must not itself need what it finds missing.

#include <cstdlib>
#include <stdexcept>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "intact/simd/detect.hpp"
#include "kernels.hpp"

namespace engine {
namespace {

struct candidate {
  std::string_view isa;
  bool offered;
  const kernel_table& (*kernels)();
};

/// All that this program contains, from the least to the most capable.
template <class... Isas>
std::vector<candidate> candidates(std::tuple<Isas...>) {
  const intact::simd::processor processor = intact::simd::detect();
  return {{Isas::name, processor.offers(Isas()), kernels_of<Isas>}...};
}

std::string names(const std::vector<candidate>& all, bool offered_only) {
  std::string list;
  for (const candidate& each : all) {
    if (each.offered || !offered_only) {
      list.append(list.empty() ? "" : ", ").append(each.isa);
    }
  }
  return list;
}

const candidate& choose(const std::vector<candidate>& all, std::string_view wanted) {
  const candidate* found = nullptr;
  for (const candidate& each : all) {
    if (wanted.empty() ? each.offered : each.isa == wanted) {
      found = &each;
    }
  }
  if (found == nullptr) {
    throw std::runtime_error("INTACT_ISA is \"" + std::string(wanted) + "\"; it must be one of " + names(all, false));
  }
  if (!found->offered) {
    throw std::runtime_error("INTACT_ISA is " + std::string(wanted) + ", which this processor does not offer; it has " +
                             names(all, true));
  }
  return *found;
}

}  // namespace

chosen_kernels choose_kernels() {
  const char* const wanted = std::getenv("INTACT_ISA");
  const std::vector<candidate> all = candidates(std::tuple<INTACT_DISPATCH_TAGS>());
  const candidate& best = choose(all, wanted == nullptr ? "" : wanted);
  return {best.isa.data(), best.kernels()};
}

}  // namespace engine
