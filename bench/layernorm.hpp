#pragma once

#include <cmath>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "intact/build/owned_parameters.hpp"
#include "intact/layernorm.hpp"
#include "intact/reference/layernorm.hpp"
#include "memory.hpp"
#include "program.hpp"
#include "shapes.hpp"

namespace intact_bench {

/// LayerNorm of a residual stream: u8 codes with a power of two per channel, or s16 codes.
template <class Code>
struct layernorm_task : task {
  static constexpr bool is_wide = std::is_same_v<Code, std::int16_t>;
  static constexpr double input_scale = is_wide ? 1.0 / 1024 : 1.0 / 64;
  static constexpr double output_scale = 1.0 / 40;
  static constexpr int input_zero_point = is_wide ? 0 : 121;
  static constexpr int output_zero_point = 118;
  static constexpr double epsilon = 1e-6;

  explicit layernorm_task(const token_shape& shape_, int threads_)
      : rows(shape_.rows()),
        channels(shape_.width),
        codes(random_codes<Code>(rows * channels, is_wide ? -3000 : 0, is_wide ? 3000 : 255)) {
    shape = shape_.name();
    output = is_wide ? "s16 to u8" : "u8 to u8";
    threads = threads_;
    for (index_t c = 0; c < channels; ++c) {
      gamma.push_back(static_cast<float>(0.6 + 0.05 * static_cast<double>(c % 17)));
      beta.push_back(static_cast<float>(-0.3 + 0.05 * static_cast<double>(c % 13)));
      shift.push_back(static_cast<std::uint8_t>(is_wide ? 0 : c % 4));
    }
    parameters = intact::owned_layernorm(intact::layernorm_spec{.gamma = gamma,
                                                                .beta = beta,
                                                                .epsilon = epsilon,
                                                                .input_scale = input_scale,
                                                                .input_zero_point = input_zero_point,
                                                                .shift = shift,
                                                                .output_scale = output_scale,
                                                                .output_zero_point = output_zero_point});
    aligned_vector<std::uint8_t> y(codes.size());
    intact::reference::layernorm(x(), parameters.view(), intact::matrix_view(y.data(), rows, channels));
    expected = as_numbers(y);
  }

  intact::matrix_view<const Code> x() const { return {codes.data(), rows, channels}; }

  /// The real number of a step of a channel's codes.
  float step(index_t c) const {
    return static_cast<float>(std::ldexp(input_scale, shift[static_cast<std::size_t>(c)]));
  }

  index_t rows;
  index_t channels;
  aligned_vector<Code> codes;
  std::vector<float> gamma, beta;
  std::vector<std::uint8_t> shift;
  intact::owned_layernorm parameters;
};

template <class Isa, class Code>
class intact_layernorm : public program {
 public:
  explicit intact_layernorm(const layernorm_task<Code>& task) : task_(task), y_(task.codes.size()) {}

  void run() override {
    with_threads(task_.threads, [&](const auto& executor) {
      intact::layernorm<Isa>(task_.x(), task_.parameters.view(),
                             intact::matrix_view(y_.data(), task_.rows, task_.channels), executor);
    });
  }

  std::vector<std::int32_t> outputs() const override { return as_numbers(y_); }

 private:
  const layernorm_task<Code>& task_;
  aligned_vector<std::uint8_t> y_;
};

}  // namespace intact_bench
