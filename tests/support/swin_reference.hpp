#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "double_reference.hpp"
#include "intact/build/integer_swin.hpp"
#include "intact/build/packed_swin.hpp"
#include "intact/reference/model/swin.hpp"

// A Swin transformer of any recipe in real arithmetic, as double_reference.hpp evaluates vision transformers. Windows,
// shifts and masks follow the original's description step by step: pad, roll, cut, and number the regions of the rolled
// grid; none of the library's index maps is used.

namespace intact_test {

/// Tokens of a grid, a row of codes each; what stands outside is padding.
struct token_grid {
  index_t height, width;
  std::vector<std::vector<std::int32_t>> tokens;

  std::vector<std::int32_t>& at(index_t y, index_t x) { return tokens[static_cast<std::size_t>(y * width + x)]; }
  const std::vector<std::int32_t>& at(index_t y, index_t x) const {
    return tokens[static_cast<std::size_t>(y * width + x)];
  }
};

inline index_t round_up(index_t size, index_t multiple) {
  return (size + multiple - 1) / multiple * multiple;
}

/// A grid of row-major codes, padded to so many tokens down and across.
inline token_grid padded_grid(const code_matrix& codes, index_t height, index_t width, index_t padded_height,
                              index_t padded_width, std::int32_t padding) {
  token_grid grid{padded_height, padded_width, {}};
  for (index_t y = 0; y < padded_height; ++y) {
    for (index_t x = 0; x < padded_width; ++x) {
      std::vector<std::int32_t>& token = grid.tokens.emplace_back(static_cast<std::size_t>(codes.columns), padding);
      for (index_t c = 0; c < codes.columns && y < height && x < width; ++c) {
        token[static_cast<std::size_t>(c)] = codes(y * width + x, c);
      }
    }
  }
  return grid;
}

/// torch.roll(grid, (down, across)).
inline token_grid roll(const token_grid& grid, index_t down, index_t across) {
  token_grid rolled = grid;
  for (index_t y = 0; y < grid.height; ++y) {
    for (index_t x = 0; x < grid.width; ++x) {
      rolled.at((y + down + grid.height) % grid.height, (x + across + grid.width) % grid.width) = grid.at(y, x);
    }
  }
  return rolled;
}

inline code_matrix to_matrix(const std::vector<std::vector<std::int32_t>>& tokens, index_t columns) {
  return real::make_codes(std::ssize(tokens), columns, [&](index_t i, index_t c) {
    return tokens[static_cast<std::size_t>(i)][static_cast<std::size_t>(c)];
  });
}

/// The order of a grid's tokens in windows.
struct window_cut {
  index_t height, width, window, shift;

  index_t padded_height() const { return round_up(height, window); }
  index_t padded_width() const { return round_up(width, window); }

  /// Tokens, padded, rolled and cut, window by window.
  code_matrix cut(const code_matrix& codes, std::int32_t padding) const {
    const token_grid rolled =
        roll(padded_grid(codes, height, width, padded_height(), padded_width(), padding), -shift, -shift);
    std::vector<std::vector<std::int32_t>> tokens;
    for (index_t top = 0; top < rolled.height; top += window) {
      for (index_t left = 0; left < rolled.width; left += window) {
        for (index_t y = top; y < top + window; ++y) {
          for (index_t x = left; x < left + window; ++x) {
            tokens.push_back(rolled.at(y, x));
          }
        }
      }
    }
    return to_matrix(tokens, codes.columns);
  }

  /// The way back; padding is cropped.
  code_matrix join(const code_matrix& codes) const {
    token_grid rolled = padded_grid(code_matrix(0, codes.columns), 0, 0, padded_height(), padded_width(), 0);
    index_t row = 0;
    for (index_t top = 0; top < rolled.height; top += window) {
      for (index_t left = 0; left < rolled.width; left += window) {
        for (index_t y = top; y < top + window; ++y) {
          for (index_t x = left; x < left + window; ++x, ++row) {
            for (index_t c = 0; c < codes.columns; ++c) {
              rolled.at(y, x)[static_cast<std::size_t>(c)] = codes(row, c);
            }
          }
        }
      }
    }
    const token_grid grid = roll(rolled, shift, shift);
    return real::make_codes(height * width, codes.columns, [&](index_t i, index_t c) {
      return grid.at(i / width, i % width)[static_cast<std::size_t>(c)];
    });
  }

  /// The original's img_mask, cut like tokens: three stripes down and three across of the rolled grid.
  code_matrix regions() const {
    const auto stripe = [&](index_t place, index_t size) {
      return shift == 0 || place < size - window ? 0 : place < size - shift ? 1 : 2;
    };
    const code_matrix numbers = real::make_codes(padded_height() * padded_width(), 1, [&](index_t i, index_t) {
      return 3 * stripe(i / padded_width(), padded_height()) + stripe(i % padded_width(), padded_width());
    });
    return window_cut{padded_height(), padded_width(), window, 0}.cut(numbers, 0);
  }
};

/// Softmax of one head's logits over the keys whose region is the query's. The others have no weight.
inline code_matrix evaluate_masked_softmax(const code_matrix& logits, const code_matrix& regions, index_t first,
                                           const owned_softmax& p) {
  const std::int32_t hidden = p.kind == attention_kind::weights        ? 0
                              : p.kind == attention_kind::weight_codes ? 15
                                                                       : real::zero_level(p.probabilities);
  code_matrix codes = real::make_codes(logits.rows, logits.columns, [&](index_t, index_t) { return hidden; });
  for (index_t i = 0; i < logits.rows; ++i) {
    std::vector<index_t> keys;
    for (index_t j = 0; j < logits.columns; ++j) {
      if (regions(first + i, 0) == regions(first + j, 0)) {
        keys.push_back(j);
      }
    }
    const code_matrix visible = real::make_codes(
        1, std::ssize(keys), [&](index_t, index_t k) { return logits(i, keys[static_cast<std::size_t>(k)]); });
    const code_matrix row = evaluate_softmax(visible, p);
    for (index_t k = 0; k < row.columns; ++k) {
      codes(i, keys[static_cast<std::size_t>(k)]) = row(0, k);
    }
  }
  return codes;
}

/// A block, in real arithmetic.
struct swin_block_evaluation {
  const owned_swin_block& p;
  window_cut cut;
  index_t heads;
  stream_codes codes;
  index_t block;
  tensors& all;

  const code_matrix& operator()(const code_matrix& stream) const {
    const owned_block& layers = p.block;
    const code_matrix& norm1 = keep(all, {"norm1", block}, real::layernorm(stream, layers.norm1.view()));
    const code_matrix& context = attention(cut.cut(norm1, p.norm1_zero_point));
    const code_matrix& add1 = keep(all, {"add1", block}, add_attention(stream, context));

    const code_matrix& norm2 = keep(all, {"norm2", block}, real::layernorm(add1, layers.norm2.view()));
    const code_matrix& fc1 = keep(all, {"fc1", block}, evaluate_linear(norm2, layers.fc1, real::u12_codes));
    const code_matrix& activation = keep(all, {"activation", block}, real::activation(fc1, layers.activation));
    if (codes == stream_codes::s16) {
      return keep(all, {"add2", block}, evaluate_linear_onto(add1, activation, layers.fc2));
    }
    const code_matrix& fc2 = keep(all, {"fc2", block}, evaluate_linear(activation, layers.fc2));
    return keep(all, {"add2", block}, evaluate_add(add1, fc2, layers.add2));
  }

  code_matrix add_attention(const code_matrix& stream, const code_matrix& context) const {
    if (codes == stream_codes::s16) {
      return evaluate_linear_onto(stream, cut.join(context), p.block.proj);
    }
    return evaluate_add(stream, cut.join(keep(all, {"proj", block}, evaluate_linear(context, p.block.proj))),
                        p.block.add1);
  }

  /// From norm1 to the context, both in window order.
  const code_matrix& attention(const code_matrix& x) const {
    const code_matrix& qkv = keep(all, {"qkv", block}, evaluate_linear(x, p.block.qkv));
    const index_t tokens = cut.window * cut.window, width = qkv.columns / 3, size = width / heads;
    const code_matrix regions = cut.regions();
    code_matrix context(qkv.rows, width);
    for (index_t window = 0; window < qkv.rows / tokens; ++window) {
      for (index_t head = 0; head < heads; ++head) {
        const auto part = [&](index_t which) {
          return real::make_codes(tokens, size, [&](index_t i, index_t c) {
            return qkv(window * tokens + i, which * width + head * size + c);
          });
        };
        const code_matrix averages = attend(part(0), part(1), part(2), regions, head, window);
        for (index_t i = 0; i < tokens; ++i) {
          for (index_t c = 0; c < size; ++c) {
            context(window * tokens + i, head * size + c) = averages(i, c);
          }
        }
      }
    }
    return keep(all, {"context", block}, std::move(context));
  }

  code_matrix attend(const code_matrix& q, const code_matrix& k, const code_matrix& v, const code_matrix& regions,
                     index_t head, index_t window) const {
    const owned_block& layers = p.block;
    const code_matrix& logits = keep(all, {"attention_logits", block, head, window},
                                     real::attention_logits(q, k, layers.zero_points(), layers.attention_logits.exact));
    const code_matrix bias = real::make_codes(q.rows, q.rows, [&](index_t i, index_t j) {
      return p.position_bias[static_cast<std::size_t>((head * q.rows + i) * q.rows + j)];
    });
    const code_matrix& biased =
        keep(all, {"biased_logits", block, head, window}, evaluate_add(logits, bias, p.add_bias));
    const code_matrix& weights = keep(all, {"attention", block, head, window},
                                      evaluate_masked_softmax(biased, regions, window * q.rows, layers.softmax));
    return evaluate_average(weights, v, layers.zero_points().v, layers.softmax);
  }
};

/// A whole Swin transformer. Each tensor follows from the tensors before it in real arithmetic; nothing is taken from
/// an integer evaluation.
class swin_reference {
 public:
  /// The contents must outlive the reference.
  explicit swin_reference(const swin_tensors& contents) : tensors_(contents) {}
  explicit swin_reference(const swin_tensors&&) = delete;

  tensors evaluate(const image_view& image) const {
    tensors all;
    const swin_shape& shape = tensors_.shape;
    const code_matrix* stream = &embed(image, all);
    index_t height = image.height / shape.patch, width = image.width / shape.patch, block = 0;
    for (std::size_t s = 0; s < tensors_.stages.size(); ++s) {
      const owned_swin_stage& stage = tensors_.stages[s];
      const swin_stage_shape& sizes = shape.stage[s];
      for (std::size_t i = 0; i < stage.blocks.size(); ++i, ++block) {
        const bool shifted = i % 2 == 1 && height > sizes.window && width > sizes.window;
        const window_cut cut{height, width, sizes.window, shifted ? sizes.window / 2 : 0};
        stream = &swin_block_evaluation{stage.blocks[i], cut, sizes.heads, shape.stream, block, all}(*stream);
      }
      if (s + 1 < tensors_.stages.size()) {
        stream = &merge(stage, *stream, height, width, static_cast<index_t>(s), all);
        height = (height + 1) / 2;
        width = (width + 1) / 2;
      }
    }
    finish(*stream, all);
    return all;
  }

 private:
  const code_matrix& embed(const image_view& image, tensors& all) const {
    const index_t samples = tensors_.shape.patch * tensors_.shape.patch;
    code_matrix input = real::cut_patches(image, tensors_.shape.patch);
    if (!tensors_.pixel_table.empty()) {
      input = real::make_codes(input.rows, input.columns, [&](index_t i, index_t j) {
        return tensors_.pixel_table[static_cast<std::size_t>(j / samples * 256 + input(i, j))];
      });
    }
    const code_matrix& patch =
        keep(all, {"patch"}, evaluate_linear(keep(all, {"input"}, std::move(input)), tensors_.patch));
    code_matrix norm = real::layernorm(patch, tensors_.patch_norm.view());
    if (tensors_.shape.stream == stream_codes::u8) {
      return keep(all, {"tokens"}, std::move(norm));
    }
    const code_matrix& codes = keep(all, {"patch_norm"}, std::move(norm));
    const realized_scale& scale = tensors_.tokens.exact;
    return keep(all, {"tokens"}, real::make_codes(codes.rows, codes.columns, [&](index_t i, index_t c) {
                  return real::nearest_code(codes(i, c) * scale.factor + scale.offset, real::s16_codes);
                }));
  }

  /// The concatenation of x[0::2, 0::2], x[1::2, 0::2], x[0::2, 1::2] and x[1::2, 1::2].
  const code_matrix& merge(const owned_swin_stage& stage, const code_matrix& stream, index_t height, index_t width,
                           index_t s, tensors& all) const {
    const token_grid grid =
        padded_grid(stream, height, width, round_up(height, 2), round_up(width, 2), stage.merge_norm.zero_point);
    std::vector<std::vector<std::int32_t>> merged;
    for (index_t y = 0; y < grid.height; y += 2) {
      for (index_t x = 0; x < grid.width; x += 2) {
        std::vector<std::int32_t>& row = merged.emplace_back();
        for (const auto* token : {&grid.at(y, x), &grid.at(y + 1, x), &grid.at(y, x + 1), &grid.at(y + 1, x + 1)}) {
          row.insert(row.end(), token->begin(), token->end());
        }
      }
    }
    const code_matrix& norm =
        keep(all, {"merge_norm", s}, real::layernorm(to_matrix(merged, 4 * stream.columns), stage.merge_norm.view()));
    const real::code_range range = tensors_.shape.stream == stream_codes::u8 ? real::u8_codes : real::s16_codes;
    return keep(all, {"merge", s}, evaluate_linear(norm, stage.reduction, range));
  }

  void finish(const code_matrix& stream, tensors& all) const {
    const code_matrix& norm = keep(all, {"norm"}, real::layernorm(stream, tensors_.norm.view()));
    const code_matrix& pooled = keep(all, {"pool"}, real::pool(norm, {&tensors_.pool.exact, 1}, real::u8_codes));
    const code_matrix head = copy_weights(tensors_.head);
    keep(all, {"logits"}, real::gemm(pooled, head, tensors_.logits.exact, real::s32_codes));
    keep(all, {"logits_u8"}, real::gemm(pooled, head, tensors_.logits_u8.exact));
  }

  const swin_tensors& tensors_;
};

/// Runs the integer model and compares every tensor.
inline comparison compare_image(const integer_swin& model, const image_view& image, const tensors& expected) {
  std::vector<std::int32_t> logits(static_cast<std::size_t>(model.shape().classes));
  std::vector<std::uint8_t> logits_u8(logits.size());
  std::vector<std::byte> memory(reference::swin_workspace_bytes(model.shape()));
  trace_comparison trace(expected);
  reference::swin(
      image, packed_swin(model).parameters(), model.shape(),
      {matrix_view(logits.data(), 1, model.shape().classes), matrix_view(logits_u8.data(), 1, model.shape().classes)},
      workspace(memory.data(), memory.size()), trace);
  return trace.result();
}

}  // namespace intact_test
