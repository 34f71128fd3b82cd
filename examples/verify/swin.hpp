#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "attention.hpp"
#include "intact/average_pool.hpp"
#include "intact/build/scale.hpp"
#include "intact/io/recorded_case.hpp"
#include "intact/patch_merge.hpp"
#include "intact/quantize/float_swin.hpp"
#include "intact/windows.hpp"
#include "layers.hpp"
#include "norms.hpp"
#include "softmax.hpp"
#include "streams.hpp"

// Swin transformers: windows, position biases, masks, patch merging and pooling. Layers, norms and additions are
// compared as those of other models.

namespace intact_verify {

using namespace intact::recorded;
using intact::index_t;

inline constexpr std::array<layer_names, 7> swin_layers = {
    {{"patch_embed_proj", "qact_input", "patch_embed_qact_before_norm"},
     {"attn_qkv", "qact1", "attn_qact1"},
     {"attn_proj", "attn_qact3", "attn_qact4"},
     {"mlp_fc1", "qact3", through_gelu},
     {"mlp_fc2", "mlp_qact1", "mlp_qact2"},
     {"downsample_reduction", "downsample_qact1", "downsample_qact2"},
     {"head", "qact3", "act_out"}}};

/// A recorded block: names are "layers_0_blocks_0_" and so on.
struct recorded_swin_block {
  std::string name, stream;
  intact::window_grid grid;
  index_t images = 0;

  recorded_swin_block(const recorded_case& file, std::string block, std::string stream_name,
                      const intact::window_grid& windows)
      : name(std::move(block)), stream(std::move(stream_name)), grid(windows) {
    const index_t rows = file.codes<std::uint8_t>(name + "qact1__codes").rows;
    if (rows == 0 || grid.tokens() == 0 || rows % grid.tokens() != 0 || grid.padded_tokens() != grid.tokens()) {
      file.fail(name + "qact1__codes has " + std::to_string(rows) + " rows; it must have " +
                std::to_string(grid.tokens()) + " per image, in windows of " + std::to_string(grid.window) +
                " tokens on a side");
    }
    images = rows / grid.tokens();
  }

  matrix<std::uint8_t> to_windows(const recorded_case& file, const matrix<std::uint8_t>& tokens) const {
    require_rows(file, tokens);
    matrix<std::uint8_t> windows(tokens.rows, tokens.columns);
    for (index_t image = 0; image < images; ++image) {
      intact::window_partition(tokens.view().row_block(image * grid.tokens(), grid.tokens()), grid, 0,
                               windows.view().row_block(image * grid.tokens(), grid.tokens()));
    }
    return windows;
  }
  matrix<std::uint8_t> from_windows(const recorded_case& file, const matrix<std::uint8_t>& windows) const {
    require_rows(file, windows);
    matrix<std::uint8_t> tokens(windows.rows, windows.columns);
    for (index_t image = 0; image < images; ++image) {
      intact::window_reverse(windows.view().row_block(image * grid.tokens(), grid.tokens()), grid,
                             tokens.view().row_block(image * grid.tokens(), grid.tokens()));
    }
    return tokens;
  }

 private:
  void require_rows(const recorded_case& file, const matrix<std::uint8_t>& rows) const {
    file.require_count(name + " rows of windows", static_cast<std::size_t>(rows.rows),
                       static_cast<std::size_t>(images * grid.tokens()));
  }
};

/// The codes of a position bias, (heads * T) x T, from those of the table. The recorded positions must be the
/// library's.
inline matrix<std::uint8_t> position_bias_of(const recorded_case& file, const recorded_swin_block& block, index_t heads,
                                             case_report& report) {
  const index_t tokens = block.grid.tokens_per_window(), side = 2 * block.grid.window - 1;
  const std::string tensor = block.name + "attn_relative_position_index";
  tensor_comparison result =
      file.compare(tensor, "relative positions", claim::exact, static_cast<std::size_t>(tokens * tokens));
  const std::vector<std::int64_t> recorded = file.integers(tensor);
  const matrix<std::uint8_t> table = file.codes<std::uint8_t>(block.name + "attn_qact_table__codes");
  file.require_count(block.name + "attn_qact_table__codes", table.values.size(),
                     static_cast<std::size_t>(side * side * heads));
  matrix<std::uint8_t> bias(heads * tokens, tokens);
  for (index_t i = 0; i < tokens; ++i) {
    for (index_t j = 0; j < tokens; ++j) {
      const auto at = static_cast<std::size_t>(i * tokens + j);
      const index_t position = intact::relative_position(block.grid.window, i, j);
      result.compare<std::int64_t>(at, position, recorded[at]);
      for (index_t head = 0; head < heads; ++head) {
        bias(head * tokens + i, j) = table.values[static_cast<std::size_t>(position * heads + head)];
      }
    }
  }
  report.add(std::move(result));
  return bias;
}

/// Which keys are visible, a row for each query of each window, from the library's masks. Where a mask of -100 was
/// recorded, they must be the same.
inline matrix<std::uint8_t> visible_keys(const recorded_case& file, const recorded_swin_block& block,
                                         case_report& report) {
  const index_t tokens = block.grid.tokens_per_window(), windows = block.grid.windows();
  matrix<std::uint8_t> visible(windows * tokens, tokens);
  for (index_t window = 0; window < windows; ++window) {
    const bool shifted = block.grid.shift != 0;
    const bool bottom = shifted && window / block.grid.windows_across() == block.grid.windows_down() - 1;
    const bool right = shifted && window % block.grid.windows_across() == block.grid.windows_across() - 1;
    intact::shifted_window_mask(block.grid, bottom, right, visible.view().row_block(window * tokens, tokens));
  }
  const std::string tensor = block.name + "attn_mask";
  if (file.has(tensor)) {
    tensor_comparison result = file.compare(tensor, "masks of shifted windows", claim::exact, visible.values.size());
    const std::vector<float> recorded = file.floats(tensor);
    for (std::size_t at = 0; at < recorded.size(); ++at) {
      result.compare<std::int64_t>(at, visible.values[at], recorded[at] == 0 ? 1 : 0);
    }
    report.add(std::move(result));
  }
  return visible;
}

/// Comparisons of a masked Log-Int-Softmax.
struct masked_softmax_comparisons {
  tensor_comparison division, original, hidden;

  masked_softmax_comparisons(const recorded_case& file, const std::string& tensor, std::size_t count)
      : division(file.compare(tensor, "Log-Int-Softmax against its division", claim::exact, count)),
        original(file.compare(tensor, "Log-Int-Softmax against the original's", claim::explained, count)),
        hidden(file.compare(tensor, "zero level of masked keys", claim::exact, count)) {}
};

/// A recorded Log-Int-Softmax.
struct recorded_softmax {
  const matrix<std::uint8_t>& logits;
  float scale;                                ///< of the logits
  const std::vector<float>& x;                ///< the logits in float32
  const std::vector<std::int64_t>& expected;  ///< codes
};

/// Row i of a masked Log-Int-Softmax, of which the original's maximum, sum and codes are over all keys, those that
/// are masked having logits lower by 100.
template <intact::attention_code Format>
void compare_masked_row(const recorded_softmax& recorded, const std::uint8_t* visible,
                        const matrix<std::uint8_t>& codes, index_t i, masked_softmax_comparisons& all) {
  constexpr int zero = intact::attention_codes<Format>::last_code;
  const matrix<std::uint8_t>& logits = recorded.logits;
  std::vector<index_t> keys;
  std::vector<float> row_x;
  matrix<std::uint8_t> row(1, std::count_if(visible, visible + logits.columns, [](int v) { return v != 0; }));
  for (index_t j = 0; j < logits.columns; ++j) {
    const auto at = static_cast<std::size_t>(i * logits.columns + j);
    if (visible[j] != 0) {
      row(0, std::ssize(keys)) = logits(i, j);
      keys.push_back(j);
      row_x.push_back(recorded.x[at]);
    } else {
      all.hidden.compare<std::int64_t>(at, codes(i, j), std::min<std::int64_t>(recorded.expected[at], zero));
    }
  }
  const exact_softmax softmax(row, recorded.scale);
  for (index_t k = 0; k < row.columns; ++k) {
    const index_t j = keys[static_cast<std::size_t>(k)];
    const auto at = static_cast<std::size_t>(i * logits.columns + j);
    all.division.compare<std::int64_t>(at, codes(i, j), softmax.by_division(0, k, zero));
    const std::int64_t expected = std::min<std::int64_t>(recorded.expected[at], zero);
    all.original.compare<std::int64_t>(at, codes(i, j), expected,
                                       [&] { return softmax_reason(softmax, 0, k, row_x, expected, zero); });
  }
}

template <intact::attention_code Format>
void verify_window_softmax(const recorded_attention& attention, const matrix<std::uint8_t>& visible,
                           case_report& report) {
  const recorded_case& file = attention.file;
  const std::string logits_name = attention.name + "_qact2", tensor = attention.name + "_log_int_softmax__q";
  const float scale = static_cast<float>(file.tensor_scale(logits_name));
  const matrix<std::uint8_t> logits = file.codes<std::uint8_t>(logits_name + "__codes");
  const intact::exp_values<std::uint64_t> table = intact::i_exp_table(scale, attention.tokens);
  const std::vector<std::int64_t> expected = file.integers(tensor, logits.values.size());
  const std::vector<float> x = file.floats(attention.name + "_log_int_softmax__in", logits.values.size());
  const recorded_softmax recorded{.logits = logits, .scale = scale, .x = x, .expected = expected};
  masked_softmax_comparisons all(file, tensor, logits.values.size());
  matrix<std::uint8_t> codes(logits.rows, logits.columns);
  attention.for_each_head([&](index_t window, index_t head) {
    const index_t first = attention.first_row(window, head), tokens = attention.tokens;
    const index_t first_visible = window * tokens % visible.rows;
    const intact::key_mask mask{visible.view().row_block(first_visible, tokens)};
    intact::log_softmax<intact::isa::native, Format>(logits.view().row_block(first, tokens),
                                                     intact::exp_table<std::uint64_t>(table), mask,
                                                     codes.view().row_block(first, tokens));
    for (index_t i = 0; i < tokens; ++i) {
      compare_masked_row<Format>(recorded, mask.row(i), codes, first + i, all);
    }
  });
  report.add(std::move(all.division));
  report.add(std::move(all.original));
  report.add(std::move(all.hidden));
}

/// Attention inside windows, whose tensors are in window order.
inline void verify_window_attention(const recorded_case& file, const recorded_swin_block& block, case_report& report) {
  const std::string name = block.name + "attn";
  const recorded_attention attention(file, name);
  file.require_count(name + "_qact_attn1__codes windows", static_cast<std::size_t>(attention.images),
                     static_cast<std::size_t>(block.images * block.grid.windows()));
  file.require_count(name + "_qact_attn1__codes tokens", static_cast<std::size_t>(attention.tokens),
                     static_cast<std::size_t>(block.grid.tokens_per_window()));
  verify_logits(attention, report);
  const matrix<std::uint8_t> bias = position_bias_of(file, block, attention.heads, report);
  verify_add(file, name + "_qact_attn1", name + "_qact_table", bias, name + "_qact2", report);
  const matrix<std::uint8_t> visible = visible_keys(file, block, report);
  if (attention.wide) {
    verify_window_softmax<intact::attention_code::u8_full>(attention, visible, report);
    verify_context<intact::attention_code::u8_full>(attention, name + "_qact3", report);
  } else {
    verify_window_softmax<intact::attention_code::u8_masked>(attention, visible, report);
    verify_context<intact::attention_code::u8_masked>(attention, name + "_qact3", report);
  }
}

inline void verify_swin_block(const recorded_case& file, const recorded_swin_block& block, case_report& report) {
  const std::string& name = block.name;
  recorded_layer qkv = read_layer(file, name + "attn_qkv", swin_layers);
  verify_accumulators(file, qkv, report);  // recorded before the tokens go into windows
  if (qkv.signed_input) {
    file.fail(qkv.input_name + "__codes has s8 codes; those of a block with windows must be u8");
  }
  qkv.input = block.to_windows(file, qkv.input);
  verify_outputs(file, qkv, report);
  for (const char* const layer : {"attn_proj", "mlp_fc1", "mlp_fc2"}) {
    const recorded_layer recorded = read_layer(file, name + layer, swin_layers);
    verify_accumulators(file, recorded, report);
    verify_outputs(file, recorded, report);
  }
  verify_window_attention(file, block, report);
  verify_norm(file, name + "norm1", block.stream, name + "qact1", report);
  const matrix<std::uint8_t> branch = file.codes<std::uint8_t>(name + "attn_qact4__codes");
  verify_add(file, block.stream, name + "attn_qact4", block.from_windows(file, branch), name + "qact2", report);
  verify_norm(file, name + "norm2", name + "qact2", name + "qact3", report);
  verify_add(file, name + "qact2", name + "mlp_qact2", name + "qact4", report);
}

/// Patch merging, from the stream of a stage of so many tokens down and across.
inline void verify_merging(const recorded_case& file, const std::string& name, const std::string& stream,
                           index_t height, index_t width, case_report& report) {
  const matrix<std::uint8_t> x = file.codes<std::uint8_t>(stream + "__codes");
  quantizer four_times = file.quantizer_of(stream);
  const index_t images = x.rows / std::max<index_t>(height * width, 1),
                merged_tokens = (height + 1) / 2 * ((width + 1) / 2);
  file.require_count(stream + "__codes rows", static_cast<std::size_t>(x.rows),
                     static_cast<std::size_t>(images * height * width));
  matrix<std::uint8_t> merged(images * merged_tokens, 4 * x.columns);
  for (index_t image = 0; image < images; ++image) {
    intact::patch_merge(x.view().row_block(image * height * width, height * width), height, width,
                        static_cast<std::uint8_t>(four_times.zero_point),
                        merged.view().row_block(image * merged_tokens, merged_tokens));
  }
  if (four_times.scale.size() != 1) {
    const std::vector<float> once = four_times.scale;
    for (int quarter = 1; quarter < 4; ++quarter) {
      four_times.scale.insert(four_times.scale.end(), once.begin(), once.end());
    }
  }
  verify_norm(file, name + "norm", merged, four_times, name + "qact1", report);
  const recorded_layer reduction = read_layer(file, name + "reduction", swin_layers);
  verify_accumulators(file, reduction, report);
  verify_outputs(file, reduction, report);
}

/// The mean over all tokens of an image.
inline void verify_pooling(const recorded_case& file, const std::string& input, const std::string& output,
                           case_report& report) {
  const matrix<std::uint8_t> x = file.codes<std::uint8_t>(input + "__codes");
  const index_t tokens = std::max<index_t>(file.size(input + "__codes", 1, 3), 1), images = x.rows / tokens;
  const double factor = file.tensor_scale(input) / file.tensor_scale(output);
  const int zero_point = file.quantizer_of(input).zero_point, output_zero = file.quantizer_of(output).zero_point;
  const intact::owned_tensor_scale built(intact::average_pool_spec(factor, zero_point, output_zero, tokens));
  matrix<std::uint8_t> y(images, x.columns);
  matrix<std::int32_t> sums(images, x.columns);
  tensor_comparison result = file.compare(output + "__codes", "average pooling", claim::bounded, y.values.size());
  const std::vector<std::int64_t> recorded = file.integers(output + "__codes");
  for (index_t image = 0; image < images; ++image) {
    const auto rows = x.view().row_block(image * tokens, tokens);
    intact::average_pool(rows, intact::raw_accumulator{}, sums.view().row_block(image, 1));
    intact::average_pool(rows, intact::requantize<std::uint8_t, intact::tensor_scale>{built.scale},
                         y.view().row_block(image, 1));
  }
  for (std::size_t at = 0; at < y.values.size(); ++at) {
    result.compare<std::int64_t>(at, y.values[at], recorded[at], [&] {
      const auto step = static_cast<long double>(factor) / static_cast<long double>(tokens);
      const long double exact = step * (sums.values[at] - zero_point * tokens) + output_zero;
      const long double largest = 255 * static_cast<long double>(factor) + std::fabs(exact);
      return near_tie(exact, y.values[at], recorded[at],
                      static_cast<long double>(tokens + 4) * float32_rounding * largest);
    });
  }
  report.add(std::move(result));
}

inline void verify_swin(const recorded_case& file, case_report& report) {
  constexpr std::int64_t largest = 4096;  // tokens on a side
  const std::vector<std::int64_t> depths = file.whole_numbers("depths", 0, 1000);
  const index_t window = static_cast<index_t>(file.whole_number("window", 1, largest));
  const index_t patch_size = static_cast<index_t>(file.whole_number("patch", 1, largest));
  index_t side = static_cast<index_t>(file.whole_number("img", patch_size, largest * patch_size)) / patch_size;
  verify_quantizers(file, report);
  const recorded_layer patch = read_layer(file, "patch_embed_proj", swin_layers);
  verify_accumulators(file, patch, report);
  verify_outputs(file, patch, report);
  verify_norm(file, "patch_embed_norm", "patch_embed_qact_before_norm", "patch_embed_qact", report);
  std::string stream = "patch_embed_qact";
  for (std::size_t stage = 0; stage < depths.size(); ++stage) {
    const std::string layers = "layers_" + std::to_string(stage) + "_";
    const index_t size = std::min(window, side);
    for (index_t position = 0; position < depths[stage]; ++position) {
      const std::string name = layers + "blocks_" + std::to_string(position) + "_";
      const index_t shift = position % 2 == 0 || side <= window ? 0 : window / 2;
      verify_swin_block(file, {file, name, stream, {.height = side, .width = side, .window = size, .shift = shift}},
                        report);
      stream = name + "qact4";
    }
    if (stage + 1 < depths.size()) {
      verify_merging(file, layers + "downsample_", stream, side, side, report);
      stream = layers + "downsample_qact2";
      side = (side + 1) / 2;
    }
  }
  verify_norm(file, "norm", stream, "qact2", report);
  verify_pooling(file, "qact2", "qact3", report);
  recorded_layer head = read_layer(file, "head", swin_layers);
  if (head.weights.columns != 0 && std::ssize(head.input.values) % head.weights.columns == 0) {
    head.input.rows = std::ssize(head.input.values) / head.weights.columns;  // recorded with a last dimension of 1
    head.input.columns = head.weights.columns;
  }
  verify_accumulators(file, head, report);
  verify_outputs(file, head, report);
}

}  // namespace intact_verify
