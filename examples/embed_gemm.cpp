#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <thread>

#include "intact/gemm.hpp"
#include "intact/pack.hpp"
#include "intact/reference/gemm.hpp"

constexpr intact::index_t tokens = 19, inputs = 64, outputs = 96;

/// An executor: two threads take turns. An engine has a pool here, see intact/executors.
struct two_threads {
  static intact::index_t threads() { return 2; }

  template <class Task>
  void for_each(intact::index_t tasks, const Task& task) const {
    std::thread other([&] {
      for (intact::index_t i = 1; i < tasks; i += 2) {
        task(i);
      }
    });
    for (intact::index_t i = 0; i < tasks; i += 2) {
      task(i);
    }
    other.join();
  }
};

int main() {
  std::array<std::uint8_t, tokens * inputs> x;
  std::array<std::int8_t, outputs * inputs> w;
  for (std::size_t i = 0; i < w.size(); ++i) {
    x[i % x.size()] = static_cast<std::uint8_t>(i * i);
    w[i] = static_cast<std::int8_t>(i * 37 + i / 64);
  }
  const intact::matrix_view<const std::uint8_t> x_view(x.data(), tokens, inputs);
  const intact::matrix_view<const std::int8_t> w_view(w.data(), outputs, inputs);

  // When the model is loaded: pack once. `w` is not needed any more.
  alignas(intact::packed_weights_alignment)
      std::array<std::byte, intact::packed_weights_bytes<std::int8_t>(outputs, inputs)>
          memory;
  const intact::packed_weights<std::int8_t> packed = intact::pack_weights(w_view, memory);

  // When it runs.
  std::array<std::int32_t, tokens * outputs> y;
  const intact::raw_accumulator stage;
  intact::gemm(x_view, packed, stage, intact::matrix_view(y.data(), tokens, outputs), two_threads());

  // A smaller network: the first 40 outputs and 50 inputs of the same packed weights.
  std::array<std::int32_t, tokens * 40> slice;
  intact::gemm(x_view.prefix(tokens, 50), packed.prefix(40, 50), stage, intact::matrix_view(slice.data(), tokens, 40));

  // The specification computes the same from weights that are not packed.
  std::array<std::int32_t, tokens * outputs> expected;
  std::array<std::int32_t, tokens * 40> expected_slice;
  intact::reference::gemm(x_view, w_view, stage, intact::matrix_view(expected.data(), tokens, outputs));
  intact::reference::gemm(x_view.prefix(tokens, 50), w_view.prefix(40, 50), stage,
                          intact::matrix_view(expected_slice.data(), tokens, 40));
  const bool equal = std::ranges::equal(y, expected) && std::ranges::equal(slice, expected_slice);
  std::printf("%s\n", equal ? "the same bits" : "different bits");
}
