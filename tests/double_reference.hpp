#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <span>
#include <string>
#include <utility>

#include "double_operations.hpp"
#include "intact/adapt/integer_vit.hpp"
#include "intact/model/trace.hpp"

// A vision transformer of FQ-ViT in real arithmetic, from the owned parameters of an integer one, and the comparison
// of the two on every tensor that a trace is shown.

namespace intact_test {

using real::code_matrix;

/// Which tensor of a model; see model/trace.hpp.
struct tensor_name {
  std::string name;
  index block = -1;
  index head = -1;

  auto operator<=>(const tensor_name&) const = default;

  std::string text() const {
    return name + (block < 0 ? "" : ", block " + std::to_string(block)) +
           (head < 0 ? "" : ", head " + std::to_string(head));
  }
};

/// All tensors of one evaluation.
using tensors = std::map<tensor_name, code_matrix>;

/// Keeps a tensor, and refers to it.
inline const code_matrix& keep(tensors& all, const tensor_name& name, code_matrix codes) {
  return all.insert_or_assign(name, std::move(codes)).first->second;
}

inline code_matrix evaluate_linear(const code_matrix& x, const owned_linear& layer,
                                   const real::code_range& range = real::u8_codes) {
  return real::gemm(x, layer.weights.view(), layer.scale.exact, range);
}

inline code_matrix evaluate_add(const code_matrix& stream, const code_matrix& branch, const owned_add& p) {
  return real::add(stream, branch, p.exact, p.zero_points.stream, p.zero_points.branch);
}

/// Multi-head attention of a block, from norm1 to proj.
inline const code_matrix& evaluate_attention(const code_matrix& x, const owned_block& p, const attention_shape& shape,
                                             index block, tensors& all) {
  const index size = shape.head_size();
  const code_matrix& qkv = keep(all, {"qkv", block}, evaluate_linear(x, p.qkv));
  code_matrix context(shape.tokens, shape.width);
  for (index head = 0; head < shape.heads; ++head) {
    const auto part = [&](index which) { return real::copy_columns(qkv, which * shape.width + head * size, size); };
    const code_matrix& logits =
        keep(all, {"attention_logits", block, head},
             real::attention_logits(part(0), part(1), p.qkv_zero_point, p.attention_logits.exact));
    const code_matrix& codes =
        keep(all, {"attention", block, head}, real::log_softmax(logits, p.exponential, p.probabilities));
    const code_matrix averages = real::shift_matmul(codes, part(2), p.qkv_zero_point, p.context.exact, p.probabilities);
    for (index i = 0; i < averages.rows; ++i) {
      for (index c = 0; c < size; ++c) {
        context(i, head * size + c) = averages(i, c);
      }
    }
  }
  const code_matrix& all_heads = keep(all, {"context", block}, std::move(context));
  return keep(all, {"proj", block}, evaluate_linear(all_heads, p.proj));
}

/// A transformer block: the residual stream that leaves it.
inline const code_matrix& evaluate_block(const code_matrix& stream, const owned_block& p, const block_shape& shape,
                                         index block, tensors& all) {
  const code_matrix& norm1 = keep(all, {"norm1", block}, real::layernorm(stream, p.norm1.view()));
  const code_matrix& proj = evaluate_attention(norm1, p, shape.attention, block, all);
  const code_matrix& add1 = keep(all, {"add1", block}, evaluate_add(stream, proj, p.add1));

  const code_matrix& norm2 = keep(all, {"norm2", block}, real::layernorm(add1, p.norm2.view()));
  const code_matrix& fc1 = keep(all, {"fc1", block}, evaluate_linear(norm2, p.fc1, real::u12_codes));
  const code_matrix& activation = keep(all, {"activation", block}, real::activation(fc1, p.activation));
  const code_matrix& fc2 = keep(all, {"fc2", block}, evaluate_linear(activation, p.fc2));
  return keep(all, {"add2", block}, evaluate_add(add1, fc2, p.add2));
}

/// A whole vision transformer. Each tensor follows from the tensors before it in real arithmetic; nothing is taken
/// from an integer evaluation.
class double_reference {
 public:
  /// The contents must outlive the reference.
  explicit double_reference(const vit_contents& contents) : contents_(contents) {}
  explicit double_reference(const vit_contents&&) = delete;

  tensors evaluate(const image_view& image) const {
    tensors all;
    const code_matrix& patch = keep(all, {"patch"}, evaluate_linear(evaluate_input(image, all), contents_.patch));
    const code_matrix& embed = keep(all, {"embed"}, embed_tokens(patch));
    const vit_shape& shape = contents_.shape;
    const code_matrix positions = real::make_codes(shape.tokens(), shape.width, [&](index i, index c) {
      return contents_.positions[static_cast<std::size_t>(i * shape.width + c)];
    });
    const code_matrix* stream = &keep(all, {"tokens"}, evaluate_add(embed, positions, contents_.add_positions));
    for (std::size_t block = 0; block < contents_.blocks.size(); ++block) {
      stream = &evaluate_block(*stream, contents_.blocks[block], shape.block(), static_cast<index>(block), all);
    }

    const code_matrix class_token = real::make_codes(1, shape.width, [&](index i, index c) { return (*stream)(i, c); });
    const code_matrix& norm = keep(all, {"norm"}, real::layernorm(class_token, contents_.norm.view()));
    keep(all, {"logits"}, real::gemm(norm, contents_.head.view(), contents_.logits.exact, real::s32_codes));
    keep(all, {"logits_u8"}, real::gemm(norm, contents_.head.view(), contents_.logits_u8.exact));
    return all;
  }

 private:
  /// Pixels, quantized by the table of their channel.
  const code_matrix& evaluate_input(const image_view& image, tensors& all) const {
    const index patch = contents_.shape.patch;
    const code_matrix pixels = real::cut_patches(image, patch);
    return keep(all, {"input"}, real::make_codes(pixels.rows, pixels.columns, [&](index i, index j) {
                  return contents_.pixel_table[static_cast<std::size_t>(j / (patch * patch) * 256 + pixels(i, j))];
                }));
  }

  /// The class token, and the patches in its scale.
  code_matrix embed_tokens(const code_matrix& patch) const {
    return real::make_codes(patch.rows + 1, patch.columns, [&](index i, index c) {
      return i == 0 ? contents_.class_token[static_cast<std::size_t>(c)]
                    : contents_.embed_table[static_cast<std::size_t>(patch(i - 1, c))];
    });
  }

  const vit_contents& contents_;
};

/// Outcome of a comparison. A tensor that is missing, unexpected, repeated or of another shape counts as one mismatch.
struct comparison {
  std::int64_t compared = 0;
  std::int64_t mismatched = 0;
  std::string first_mismatch;  ///< "qkv, block 0, (3, 5): expected 7, found 8"; empty if there is none
};

/// A trace that compares every tensor it is shown with the expected one. The expected tensors must outlive it.
class trace_comparison {
 public:
  explicit trace_comparison(const tensors& expected) : expected_(expected) {}
  explicit trace_comparison(const tensors&&) = delete;

  template <class View>
  void operator()(const trace_site& site, const View& found) {
    const tensor_name name{std::string(site.name), site.block, site.head};
    const auto entry = expected_.find(name);
    if (entry == expected_.end()) {
      report(seen_, name.text() + ": not expected");
    } else if (!shown_.insert(name).second) {
      report(seen_, name.text() + ": shown twice");
    } else if (found.rows != entry->second.rows || found.columns != entry->second.columns) {
      report(seen_, name.text() + ": expected " + size_text(entry->second) + ", found " + size_text(found));
    } else {
      compare(name, entry->second, found);
    }
  }

  /// What was seen so far, and a mismatch for every tensor that was not shown.
  comparison result() const {
    comparison outcome = seen_;
    for (const auto& [name, codes] : expected_) {
      if (!shown_.contains(name)) {
        report(outcome, name.text() + ": never shown");
      }
    }
    return outcome;
  }

 private:
  static void report(comparison& outcome, const std::string& mismatch) {
    if (outcome.mismatched == 0) {
      outcome.first_mismatch = mismatch;
    }
    ++outcome.mismatched;
  }

  template <class Matrix>
  static std::string size_text(const Matrix& matrix) {
    return std::to_string(matrix.rows) + " x " + std::to_string(matrix.columns);
  }

  template <class View>
  void compare(const tensor_name& name, const code_matrix& expected, const View& found) {
    for (index i = 0; i < expected.rows; ++i) {
      for (index j = 0; j < expected.columns; ++j) {
        const std::int64_t code = found(i, j);
        if (code == expected(i, j)) {
          continue;
        }
        if (seen_.mismatched == 0) {
          seen_.first_mismatch = name.text() + ", (" + std::to_string(i) + ", " + std::to_string(j) + "): expected " +
                                 std::to_string(expected(i, j)) + ", found " + std::to_string(code);
        }
        ++seen_.mismatched;
      }
    }
    seen_.compared += expected.rows * expected.columns;
  }

  const tensors& expected_;
  std::set<tensor_name> shown_;
  comparison seen_;
};

}  // namespace intact_test
