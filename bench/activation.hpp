#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <type_traits>
#include <vector>

#include "intact/activation.hpp"
#include "intact/build/table.hpp"
#include "intact/reference/activation.hpp"
#include "memory.hpp"
#include "program.hpp"
#include "shapes.hpp"

namespace intact_bench {

/// GELU of a block's hidden codes: 8 bits in u8, or 12 bits in u16.
template <class Code>
struct activation_task : task {
  static constexpr bool is_wide = std::is_same_v<Code, std::uint16_t>;
  static constexpr int entries = is_wide ? 4096 : 256;
  static constexpr double input_scale = 8.0 / (entries - 1);
  static constexpr int input_zero_point = entries / 2;
  static constexpr double output_scale = 4.2 / 255;
  static constexpr int output_zero_point = 11;

  activation_task(const token_shape& shape_, int threads_)
      : rows(shape_.rows()), channels(shape_.hidden()), codes(random_codes<Code>(rows * channels, 0, entries - 1)) {
    shape = std::to_string(rows) + 'x' + std::to_string(channels);
    output = is_wide ? "u12 to u8" : "u8 to u8";
    threads = threads_;
    for (int code = 0; code < entries; ++code) {
      const double y = std::rint(intact::gelu(input_scale * (code - input_zero_point)) / output_scale);
      table.push_back(static_cast<std::uint8_t>(std::clamp(y + output_zero_point, 0.0, 255.0)));
    }
    aligned_vector<std::uint8_t> y(codes.size());
    intact::reference::activation(x(), table, intact::matrix_view(y.data(), rows, channels));
    expected = as_numbers(y);
  }

  intact::matrix_view<const Code> x() const { return {codes.data(), rows, channels}; }

  index_t rows;
  index_t channels;
  aligned_vector<Code> codes;
  std::vector<std::uint8_t> table;
};

template <class Isa, class Code>
class intact_activation : public program {
 public:
  explicit intact_activation(const activation_task<Code>& task) : task_(task), y_(task.codes.size()) {}

  void run() override {
    with_threads(task_.threads, [&](const auto& executor) {
      intact::activation<Isa>(task_.x(), task_.table, intact::matrix_view(y_.data(), task_.rows, task_.channels),
                              executor);
    });
  }

  std::vector<std::int32_t> outputs() const override { return as_numbers(y_); }

 private:
  const activation_task<Code>& task_;
  aligned_vector<std::uint8_t> y_;
};

}  // namespace intact_bench
