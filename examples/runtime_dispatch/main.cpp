// A program for any processor that uses what the one it finds offers: two quantized layers, the second with 4-bit
// weights. It prints the instruction set, and a fingerprint that is the same on all.

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <span>
#include <vector>

#include "intact/build/scale.hpp"
#include "intact/gemm.hpp"
#include "intact/pack.hpp"
#include "kernels.hpp"

namespace {

constexpr std::size_t tokens = 50, inputs = 70, hidden = 150, outputs = 83;

/// Stands for a model's weights: a fixed sequence of bytes.
std::uint8_t next_byte() {
  static std::uint32_t state = 1;
  state = state * 1664525U + 1013904223U;
  return static_cast<std::uint8_t>(state >> 24);
}

std::vector<std::uint8_t> random_bytes(std::size_t count) {
  std::vector<std::uint8_t> bytes(count);
  for (std::uint8_t& byte : bytes) {
    byte = next_byte();
  }
  return bytes;
}

/// A cache line of packed weights: vectors of it are aligned as packing asks.
struct alignas(intact::packed_weights_alignment) cache_line {
  std::byte bytes[intact::packed_weights_alignment];
};

/// A layer as an engine keeps it: packed once, when the model is loaded.
template <class Element>
struct layer {
  std::vector<cache_line> memory;
  intact::packed_weights<Element> weights;
  std::vector<std::int32_t> multiplier;
  std::vector<std::int64_t> offset;
  engine::requantize stage;

  template <class Weights>
  layer(const Weights& w, double factor)
      : memory(static_cast<std::size_t>(intact::packed_weights_bytes<Element>(w.rows, w.columns)) / sizeof(cache_line) +
               1),
        weights(intact::pack_weights(w, std::as_writable_bytes(std::span(memory)))),
        multiplier(static_cast<std::size_t>(w.rows)),
        offset(multiplier.size()) {
    std::vector<intact::scale_spec> specs;
    std::vector<std::int8_t> row(static_cast<std::size_t>(w.columns));
    for (intact::index_t n = 0; n < w.rows; ++n) {
      for (intact::index_t k = 0; k < w.columns; ++k) {
        row[static_cast<std::size_t>(k)] = static_cast<std::int8_t>(w(n, k));
      }
      specs.push_back(
          intact::linear_spec<std::uint8_t>({.weights = row, .factor = factor, .addend = 128, .zero_point = 128}));
    }
    stage = {intact::build_scale(specs, multiplier, offset)};
  }

  /// Checks here, in a unit for any processor, then leaves it to the kernel of one.
  template <class Operands>
  void run(void (*kernel)(const Operands&, intact::index_t, intact::index_t) noexcept,
           intact::matrix_view<const std::uint8_t> a, intact::matrix_view<std::uint8_t> y) const {
    intact::require_gemm(a, weights, stage, y);
    kernel({a, weights, stage, y}, 0, intact::kernel::gemm_units(a.rows, weights));
  }
};

std::uint64_t run_model(const engine::kernel_table& kernels) {
  const std::vector<std::uint8_t> first = random_bytes(hidden * inputs);
  const std::vector<std::uint8_t> second = random_bytes(outputs * hidden / 2);
  std::vector<std::int8_t> first_weights(first.begin(), first.end());
  const layer<std::int8_t> up(intact::matrix_view<const std::int8_t>(first_weights.data(), hidden, inputs), 0.0007);
  const layer<intact::s4> down(intact::packed_view<intact::s4, const std::uint8_t>(second.data(), outputs, hidden),
                               0.009);

  const std::vector<std::uint8_t> x = random_bytes(tokens * inputs);
  std::vector<std::uint8_t> h(tokens * hidden), y(tokens * outputs);
  const intact::matrix_view h_view(h.data(), tokens, hidden);
  up.run(kernels.linear_s8, intact::matrix_view(x.data(), tokens, inputs), h_view);
  down.run(kernels.linear_s4, h_view, intact::matrix_view(y.data(), tokens, outputs));

  std::uint64_t fingerprint = 14695981039346656037U;  // FNV-1a
  for (const std::uint8_t code : y) {
    fingerprint = (fingerprint ^ code) * 1099511628211U;
  }
  return fingerprint;
}

}  // namespace

int main() try {
  const engine::chosen_kernels chosen = engine::choose_kernels();
  const std::uint64_t fingerprint = run_model(chosen.kernels);
  std::printf("%s\nfingerprint %016llx\n", chosen.isa, static_cast<unsigned long long>(fingerprint));
  return 0;
} catch (const std::exception& e) {
  std::fprintf(stderr, "%s\n", e.what());
  return 1;
}
