#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "hashes.hpp"
#include "intact/log_softmax.hpp"
#include "intact/max_softmax.hpp"
#include "intact/reference/log_softmax.hpp"
#include "intact/reference/log_sqrt2_matmul.hpp"
#include "intact/reference/max_softmax.hpp"
#include "intact/reference/shift_matmul.hpp"
#include "intact/reference/weighted_matmul.hpp"
#include "intact/shift_matmul.hpp"
#include "intact/weighted_matmul.hpp"
#include "parameters.hpp"

// Softmax with every tail, and the products of attention and V.

namespace hashes {
namespace {

constexpr index_t queries = 9, keys = 77, channels = 20;

template <attention_code Format>
auto codes_matrix() {
  if constexpr (Format == attention_code::u4_clipped) {
    return nibble_matrix<u4>(queries, keys);
  } else {
    return matrix<std::uint8_t>(queries, keys);
  }
}

std::string name_of(attention_code probabilities) {
  return probabilities == attention_code::u8_masked    ? "zero"
         : probabilities == attention_code::u4_clipped ? "clip"
                                                       : "wide";
}

/// Logits of some rows lie close to each other, and those of others far apart; and a mask.
struct softmax_inputs {
  matrix<std::uint8_t> logits{queries, keys};
  matrix<std::uint8_t> visible{queries, keys};
  key_mask mask;

  explicit softmax_inputs(random_numbers& random) {
    for (index_t i = 0; i < queries; ++i) {
      for (index_t j = 0; j < keys; ++j) {
        logits.view()(i, j) = static_cast<std::uint8_t>(random.between(0, 255 >> i % 5));
        visible.view()(i, j) = static_cast<std::uint8_t>(random.between(0, i));  // a row without any key, too
      }
    }
    mask.visible = visible.view();
  }
  matrix_view<const std::uint8_t> view() const { return logits.view(); }
};

template <attention_code Format, log2_rounding Rounding, class T>
void run_log_softmax(const softmax_inputs& x, const std::string& table_name, exp_table<T> table) {
  const std::string name = name_of(Format) +
                           (Rounding == log2_rounding::round_ratio ? "/one_and_a_half/" : "/square_root_of_2/") +
                           table_name;
  auto expected = codes_matrix<Format>(), found = codes_matrix<Format>();
  reference::log_softmax<Format, Rounding>(x.view(), table, expected.view());
  log_softmax<tested_isa, Format, Rounding>(x.view(), table, found.view());
  report("log_softmax/" + name, found.view(), expected.view());
  if constexpr (Format != attention_code::u4_clipped) {
    reference::log_softmax<Format, Rounding>(x.view(), table, x.mask, expected.view());
    log_softmax<tested_isa, Format, Rounding>(x.view(), table, x.mask, found.view());
    report("log_softmax/masked/" + name, found.view(), expected.view());
  }
}

void run_log_softmaxes(random_memory& memory, const softmax_inputs& x) {
  const std::span<const std::uint64_t> table = exponential_of<std::uint64_t>(memory, 40);
  const std::span<const std::uint32_t> short_table = exponential_of<std::uint32_t>(memory, 24);
  const auto run = [&]<attention_code Format>() {
    run_log_softmax<Format, log2_rounding::round_ratio>(x, "u64", table);
    run_log_softmax<Format, log2_rounding::round_log>(x, "u64", table);
    run_log_softmax<Format, log2_rounding::round_ratio>(x, "u32", short_table);
  };
  run.template operator()<attention_code::u8_masked>();
  run.template operator()<attention_code::u4_clipped>();
  run.template operator()<attention_code::u8_full>();
}

void run_max_softmaxes(random_memory& memory, const softmax_inputs& x) {
  const std::span<const std::uint8_t> nibbles = log2_codes(memory, 15), bytes = weights_by_distance(memory);
  nibble_matrix<u4> expected_nibbles(queries, keys), found_nibbles(queries, keys);
  reference::max_softmax(x.view(), nibbles, expected_nibbles.view());
  max_softmax<tested_isa>(x.view(), nibbles, found_nibbles.view());
  report("max_softmax/packed", found_nibbles.view(), expected_nibbles.view());

  matrix<std::uint8_t> expected(queries, keys), found(queries, keys);
  reference::max_softmax(x.view(), bytes, expected.view());
  max_softmax<tested_isa>(x.view(), bytes, found.view());
  report("max_softmax/bytes", found.view(), expected.view());
  reference::max_softmax(x.view(), bytes, x.mask, 0, expected.view());
  max_softmax<tested_isa>(x.view(), bytes, x.mask, 0, found.view());
  report("max_softmax/masked", found.view(), expected.view());
}

/// V, and what its products are scaled with.
struct value_operands {
  matrix<std::uint8_t> codes;
  row_divisor normalization{300'000'000, 117};

  explicit value_operands(random_numbers& random) : codes(keys, channels, 0, 255, random) {}
  quantized_matrix v() const { return {codes.view(), 130}; }
};

template <attention_code Format>
auto random_codes(int largest, random_numbers& random) {
  auto codes = codes_matrix<Format>();
  for (index_t i = 0; i < queries; ++i) {
    for (index_t j = 0; j < keys; ++j) {
      store_code(codes.view(), i, j, static_cast<int>(random.between(i % 4 * largest / 8, largest)));
    }
  }
  return codes;
}

template <attention_code Format, class Scale>
void run_shift_matmul(const std::string& name, typename attention_codes<Format>::const_view codes,
                      const value_operands& values, const Scale& scale) {
  matrix<std::uint8_t> expected(queries, channels), found(queries, channels);
  std::vector<std::byte> scratch(shift_matmul_workspace_bytes(keys, channels));
  reference::shift_matmul<Format>(codes, values.v(), scale, expected.view());
  shift_matmul<tested_isa, Format>(codes, values.v(), scale, found.view(), workspace(scratch.data(), scratch.size()));
  report("shift_matmul/" + name_of(Format) + "/" + name, found.view(), expected.view());
}

void run_shift_matmuls(random_numbers& random, const value_operands& values) {
  using to_u8 = requantize<std::uint8_t, tensor_scale>;
  const tensor_scale scale = scale_of(std::int64_t{1} << 21, {117, 70});
  auto zero = random_codes<attention_code::u8_masked>(16, random);
  run_shift_matmul<attention_code::u8_masked>("scaled", zero.view(), values, to_u8{scale});
  run_shift_matmul<attention_code::u8_masked>("normalized", zero.view(), values, values.normalization);
  auto clip = random_codes<attention_code::u4_clipped>(15, random);
  run_shift_matmul<attention_code::u4_clipped>("scaled", clip.view(), values, to_u8{scale});
  run_shift_matmul<attention_code::u4_clipped>("normalized", clip.view(), values, values.normalization);
  auto wide = random_codes<attention_code::u8_full>(30, random),
       widest = random_codes<attention_code::u8_full>(255, random);
  run_shift_matmul<attention_code::u8_full>("to_23", wide.view(), values, requantize_s64<std::uint8_t>{scale});
  run_shift_matmul<attention_code::u8_full>("to_255", widest.view(), values, requantize_s64<std::uint8_t>{scale});
}

void run_weighted_matmul(random_numbers& random, const value_operands& values) {
  const matrix<std::uint8_t> weights(queries, keys, 0, 255, random);
  matrix<std::uint8_t> expected(queries, channels), found(queries, channels);
  std::vector<std::byte> scratch(weighted_matmul_workspace_bytes(keys, channels));
  reference::weighted_matmul(weights.view(), values.v(), values.normalization, expected.view());
  weighted_matmul<tested_isa>(weights.view(), values.v(), values.normalization, found.view(),
                              workspace(scratch.data(), scratch.size()));
  report("weighted_matmul", found.view(), expected.view());
}

/// It has no kernel of its own.
void run_log_sqrt2_matmul(random_numbers& random, const value_operands& values) {
  const log_sqrt2_scale scale{700'000'000, 494'974'747, 235 * (std::int64_t{1} << 47), 16};
  const auto run = [&](const std::string& name, auto codes) {
    matrix<std::uint8_t> y(queries, channels);
    reference::log_sqrt2_matmul(codes, values.v(), scale, y.view());
    report("log_sqrt2_matmul/" + name + "/scaled", y.view());
    reference::log_sqrt2_matmul(codes, values.v(), values.normalization, y.view());
    report("log_sqrt2_matmul/" + name + "/normalized", y.view());
  };
  matrix<std::uint8_t> bytes(queries, keys, 0, 31, random);
  nibble_matrix<u4> nibbles(queries, keys, random);
  run("bytes", bytes.view());
  run("packed", nibbles.view());
}

}  // namespace

void run_attention() {
  random_memory memory(3);
  const softmax_inputs x(memory.random);
  run_log_softmaxes(memory, x);
  run_max_softmaxes(memory, x);
  const value_operands values(memory.random);
  run_shift_matmuls(memory.random, values);
  run_weighted_matmul(memory.random, values);
  run_log_sqrt2_matmul(memory.random, values);
}

}  // namespace hashes
