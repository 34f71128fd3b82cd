#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <type_traits>
#include <vector>

#include "intact/build/table.hpp"
#include "intact/log_softmax.hpp"
#include "intact/max_softmax.hpp"
#include "intact/reference/log_softmax.hpp"
#include "intact/reference/max_softmax.hpp"
#include "memory.hpp"
#include "program.hpp"
#include "shapes.hpp"

namespace intact_bench {

/// Which log2 codes a softmax writes: relative to the row's sum, in u8 or packed in u4, or relative to its maximum.
enum class softmax_codes { u8_of_sum, u4_of_sum, u8_of_max };

/// A softmax of u8 logits, a row per query and head, to log2 codes. Of more than 2^24 logits, some rows.
struct log_softmax_task : task {
  static constexpr double scale = 0.1;  ///< of a step of the logits

  log_softmax_task(const token_shape& shape_, softmax_codes wanted_, int threads_)
      : wanted(wanted_),
        rows(std::min(shape_.logit_rows(), (index_t{1} << 24) / shape_.tokens)),
        keys(shape_.tokens),
        logits(random_codes<std::uint8_t>(rows * keys, 0, 255)),
        exponential(widened(intact::exact_exp_table(scale, keys))),
        code_of_distance(intact::max_relative_code_table<intact::attention_code::u8_masked>(scale)) {
    shape = std::to_string(rows) + 'x' + std::to_string(keys);
    output = wanted == softmax_codes::u8_of_sum ? "u8" : wanted == softmax_codes::u4_of_sum ? "u4" : "u8, max";
    threads = threads_;
    aligned_vector<std::uint8_t> codes(logits.size());
    const intact::matrix_view y(codes.data(), rows, keys);
    if (wanted == softmax_codes::u8_of_max) {
      intact::reference::max_softmax(x(), code_of_distance, y);
    } else {
      intact::reference::log_softmax<intact::attention_code::u8_masked, rounding, std::uint64_t>(x(), exponential, y);
    }
    expected = as_numbers(codes);
    if (wanted == softmax_codes::u4_of_sum) {
      std::replace(expected.begin(), expected.end(), 16, 15);
    }
  }

  intact::matrix_view<const std::uint8_t> x() const { return {logits.data(), rows, keys}; }

  static constexpr intact::log2_rounding rounding = intact::log2_rounding::round_log;
  softmax_codes wanted;
  index_t rows;
  index_t keys;
  aligned_vector<std::uint8_t> logits;
  intact::exp_values<std::uint64_t> exponential;
  intact::exp_values<std::uint8_t> code_of_distance;

 private:
  static intact::exp_values<std::uint64_t> widened(const intact::exp_values<std::uint32_t>& narrow) {
    intact::exp_values<std::uint64_t> wide;
    std::copy(narrow.begin(), narrow.end(), wide.begin());
    return wide;
  }
};

template <class Isa>
class intact_log_softmax : public program {
 public:
  explicit intact_log_softmax(const log_softmax_task& task)
      : task_(task), codes_(task.logits.size()), packed_(codes_.data(), task.rows, task.keys) {}

  void run() override {
    with_threads(task_.threads, [&](const auto& executor) {
      const intact::matrix_view y(codes_.data(), task_.rows, task_.keys);
      const std::span<const std::uint64_t> exponential = task_.exponential;
      using intact::attention_code;
      if (task_.wanted == softmax_codes::u8_of_max) {
        intact::max_softmax<Isa>(task_.x(), task_.code_of_distance, y, executor);
      } else if (task_.wanted == softmax_codes::u8_of_sum) {
        intact::log_softmax<Isa, attention_code::u8_masked, log_softmax_task::rounding>(task_.x(), exponential, y,
                                                                                        executor);
      } else {
        intact::log_softmax<Isa, attention_code::u4_clipped, log_softmax_task::rounding>(task_.x(), exponential,
                                                                                         packed_, executor);
      }
    });
  }

  std::vector<std::int32_t> outputs() const override {
    if (task_.wanted != softmax_codes::u4_of_sum) {
      return as_numbers(codes_);
    }
    std::vector<std::int32_t> codes;
    for (index_t i = 0; i < task_.rows; ++i) {
      for (index_t j = 0; j < task_.keys; ++j) {
        codes.push_back(packed_(i, j));
      }
    }
    return codes;
  }

 private:
  const log_softmax_task& task_;
  aligned_vector<std::uint8_t> codes_;
  intact::packed_view<intact::u4, std::uint8_t> packed_;
};

}  // namespace intact_bench
