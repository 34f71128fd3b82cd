// Prints a hash of the outputs of a product, a LayerNorm, a softmax and attention on INTACT_DUMMY_ISA, which must be
// the best instruction set of this unit: operations use it unless told otherwise.

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <type_traits>
#include <vector>

#include "intact/gemm.hpp"
#include "intact/layernorm.hpp"
#include "intact/log_softmax.hpp"
#include "intact/model/attention.hpp"
#include "intact/pack.hpp"
#include "intact/simd/detect.hpp"

namespace {

using namespace intact;

static_assert(std::is_same_v<isa::native, isa::INTACT_DUMMY_ISA>);

constexpr index_t rows = 19, columns = 48;
constexpr tensor_scale to_codes{1 << 29, std::int64_t{257} << 37, 6, 0};

template <class T>
struct random_matrix {
  std::vector<T> data;
  index_t columns;

  random_matrix(index_t height, index_t width) : data(static_cast<std::size_t>(height * width)), columns(width) {
    std::uint32_t state = 1;
    for (T& element : data) {
      state = state * 1664525U + 1013904223U;
      element = static_cast<T>(state >> 24);
    }
  }
  matrix_view<T> view() { return {data.data(), std::ssize(data) / columns, columns}; }
};

/// FNV-1a.
std::uint64_t hash = 14695981039346656037U;

void record(const random_matrix<std::uint8_t>& y) {
  for (const std::uint8_t code : y.data) {
    hash = (hash ^ code) * 1099511628211U;
  }
}

}  // namespace

int main() {
  random_matrix<std::uint8_t> x(rows, columns), y(rows, columns), codes(rows, rows);
  random_matrix<std::int8_t> weights(columns, columns);
  const auto width = static_cast<std::size_t>(columns);

  alignas(packed_weights_alignment) std::byte packed[8192];
  const std::vector<std::int32_t> multipliers(width, 1 << 29);
  const std::vector<std::int64_t> offsets(width, std::int64_t{257} << 37);
  gemm(x.view(), pack_weights(matrix_view<const std::int8_t>(weights.view()), packed),
       requantize<std::uint8_t>{{multipliers, offsets, 6, 0}}, y.view());
  record(y);

  const std::vector<std::uint8_t> shift(width, 1);
  const std::vector<std::int32_t> gain(width, 40 << 10);
  const std::vector<std::int64_t> bias(width, std::int64_t{257} << 33);
  layernorm(x.view(), {.zero_point = 128, .shift = shift, .gain = gain, .bias = bias, .output_shift = 34}, y.view());
  record(y);

  std::vector<std::uint64_t> exponential;
  for (index_t d = 0; d < softmax_distances; ++d) {
    exponential.push_back(std::uint64_t{1} << (40 - d / 8));
  }
  log_softmax(x.view().column_block(0, rows), exp_table<std::uint64_t>(exponential), codes.view());
  record(codes);

  constexpr index_t heads = 3;
  std::vector<std::byte> memory(attention_workspace_bytes(rows, heads, columns / heads, 1));
  const quantized_matrix operand{x.view(), 128};
  const multihead_parameters parameters{.heads = heads,
                                        .logits = to_codes,
                                        .softmax = {.weights = log2_of_sum{exponential},
                                                    .context = tensor_scale{1 << 30, std::int64_t{257} << 45, 14, 0}}};
  attention({operand, operand, operand}, parameters, y.view(), workspace(memory.data(), memory.size()));
  record(y);

  const bool offered = simd::detect().offers(isa::native());
  std::printf("%016llx %s\n", static_cast<unsigned long long>(hash), offered ? "offered" : "not offered");
  return 0;
}
