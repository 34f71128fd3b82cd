#include <intact/build/table.hpp>
#include <intact/intact.hpp>

#include "consumer_kernels.hpp"
#if defined(CONSUMER_MODEL_FILE)
#include "consumer_model.hpp"
#endif

/// Whether every unit was compiled for the instruction set that it names. The unit for plain C++ has the flags of the
/// target's oldest processor, which allow SSE2 or NEON.
template <class... Isas>
bool units_are_right(std::tuple<Isas...>) {
  return ((compiled_for<Isas>() == Isas::name || Isas::name == "scalar") && ...);
}

int main() {
#if defined(CONSUMER_MODEL_FILE)
  if (!model_is_right()) {
    return 1;
  }
#endif
  std::uint8_t codes[2] = {3, 4};
  std::uint8_t table[256] = {};
  table[3] = 5;
  table[4] = 7;
  intact::activation(intact::matrix_view(codes, 1, 2), table, intact::matrix_view(codes, 1, 2));
  return codes[0] == 5 && codes[1] == 7 && units_are_right(std::tuple<INTACT_DISPATCH_TAGS>()) ? 0 : 1;
}
