#pragma once

#include <cstdint>
#include <vector>

#include "intact/build/add.hpp"
#include "intact/reference/add.hpp"
#include "memory.hpp"
#include "program.hpp"
#include "shapes.hpp"

namespace intact_bench {

/// The residual addition of u8 codes. All channels have the same scales, since other libraries offer no others; ours
/// take as long with scales per channel.
struct add_task : task {
  static constexpr double stream_scale = 0.7;  ///< in units of a step of the sum, as the next
  static constexpr double branch_scale = 0.45;
  static constexpr intact::add_zero_points zero_points{.stream = 121, .branch = 128, .output = 125};

  add_task(const token_shape& shape_, int threads_)
      : rows(shape_.rows()),
        channels(shape_.width),
        stream(random_codes<std::uint8_t>(rows * channels, 0, 255, 1)),
        branch(random_codes<std::uint8_t>(rows * channels, 0, 255, 2)) {
    shape = shape_.name();
    output = "u8";
    threads = threads_;
    const intact::add_spec target{stream_scale, branch_scale};
    std::int32_t of_stream = 0, of_branch = 0, offset = 0;
    const intact::add_parameters one =
        intact::build_add({&target, 1}, zero_points, {&of_stream, 1}, {&of_branch, 1}, {&offset, 1});
    const auto count = static_cast<std::size_t>(channels);
    stream_multiplier_.assign(count, of_stream);
    branch_multiplier_.assign(count, of_branch);
    offset_.assign(count, offset);
    shift_ = one.shift;
    aligned_vector<std::uint8_t> y(stream.size());
    intact::reference::add(first(), second(), scale(), intact::matrix_view(y.data(), rows, channels));
    expected = as_numbers(y);
  }

  intact::matrix_view<const std::uint8_t> first() const { return {stream.data(), rows, channels}; }
  intact::matrix_view<const std::uint8_t> second() const { return {branch.data(), rows, channels}; }
  intact::add_parameters scale() const {
    return {.stream_multiplier = stream_multiplier_,
            .branch_multiplier = branch_multiplier_,
            .offset = offset_,
            .stream_zero_point = zero_points.stream,
            .branch_zero_point = zero_points.branch,
            .shift = shift_};
  }

  index_t rows;
  index_t channels;
  aligned_vector<std::uint8_t> stream;
  aligned_vector<std::uint8_t> branch;

 private:
  std::vector<std::int32_t> stream_multiplier_, branch_multiplier_, offset_;
  int shift_ = 0;
};

template <class Isa>
class intact_add : public program {
 public:
  explicit intact_add(const add_task& task) : task_(task), y_(task.stream.size()) {}

  void run() override {
    with_threads(task_.threads, [&](const auto& executor) {
      intact::add<Isa>(task_.first(), task_.second(), task_.scale(),
                       intact::matrix_view(y_.data(), task_.rows, task_.channels), executor);
    });
  }

  std::vector<std::int32_t> outputs() const override { return as_numbers(y_); }

 private:
  const add_task& task_;
  aligned_vector<std::uint8_t> y_;
};

}  // namespace intact_bench
