// Calls every unit that the processor can run: all must compute the same.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <span>
#include <vector>

#include "intact/build/packed_vit.hpp"
#include "intact/intact.hpp"
#include "intact/interop/dispatch/operations.hpp"
#include "intact/interop/reference/quantize_rows.hpp"
#include "intact/reference/model/vit.hpp"
#include "intact/simd/detect.hpp"
#include "random_model.hpp"
#include "unit.hpp"

/// The program of examples/runtime_dispatch.
int runtime_dispatch_main();

namespace {

using namespace intact;

constexpr vit_shape shape{.channels = 2,
                          .height = 9,
                          .image_width = 12,
                          .patch = 3,
                          .width = 21,
                          .heads = 3,
                          .hidden = 35,
                          .depth = 2,
                          .classes = 5};

/// Whether intact::dispatch quantizes rows as the specification does. The call links the units of interop/.
bool interop_is_equal() {
  float numbers[3 * 40], scale[3], expected_scale[3];
  std::int8_t codes[3 * 40], expected[3 * 40];
  for (int i = 0; i < 3 * 40; ++i) {
    numbers[i] = static_cast<float>(i * i % 101 - 50) / 7;
  }
  const matrix_view<const float> x(numbers, 3, 40);
  dispatch::quantize_rows(x, matrix_view(codes, 3, 40), std::span(scale));
  reference::quantize_rows(x, matrix_view(expected, 3, 40), std::span(expected_scale));
  return std::ranges::equal(codes, expected) && std::ranges::equal(scale, expected_scale);
}

}  // namespace

int main() {
  const packed_vit model(integer_vit(intact_test::model_builder({.shape = shape, .parts = paper_recipe}, 5).model()));
  const std::vector<intact_test::owned_image> images = intact_test::make_images(shape, 1);
  std::vector<std::byte> memory(std::max(reference::vit_workspace_bytes(shape), vit_workspace_bytes(shape)));
  const units::arguments x{model.parameters(), model.shape(), images[0].view, workspace(memory.data(), memory.size())};

  struct unit {
    const char* name;
    std::uint64_t (*run)(const units::arguments&);
    bool offered;
  };
  const simd::processor processor = simd::detect();
  const unit all[] = {
    {"baseline", units::run_baseline, true},
#if INTACT_X86
    {"avx2", units::run_avx2, processor.offers(isa::avx2())},
    {"avx512bw", units::run_avx512bw, processor.offers(isa::avx512bw())},
#endif
    {"without exceptions", units::run_without_exceptions, true}
  };
  std::uint64_t expected = 0;
  bool equal = interop_is_equal();
  for (const unit& each : all) {
    if (each.offered) {
      const std::uint64_t found = each.run(x);
      std::printf("%016llx %s\n", static_cast<unsigned long long>(found), each.name);
      expected = &each == all ? found : expected;
      equal = equal && found == expected;
    }
  }
  std::printf("%s\n", equal ? "equal" : "different");
  return runtime_dispatch_main();
}
