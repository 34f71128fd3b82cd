#include "compare/onednn_attention.hpp"

#include <cmath>

#include "attention.hpp"

// oneDNN 2 for attention: products of bytes, s8 but for the weights between them, and a softmax that is float32 inside.
// All q, k and v are ours less the zero point, so that nothing needs one. Four ways are made and the fastest is
// measured: with all heads in one call or each apart, and logits in s8 or in float32. As the softmax has no scale for
// its input, s8 logits are logits in steps of 1, which is coarse; float32 is accurate.

namespace intact_bench {
namespace {

using dnnl::memory;
using type = memory::data_type;

class onednn_attention : public onednn_program {
 public:
  onednn_attention(const attention_task& task, const attention_form& form)
      : onednn_program(std::string(form.heads_apart ? "heads apart" : "heads together") +
                       (form.logits == type::s8 ? ", s8 logits" : ", f32 logits")),
        task_(task),
        heads_apart_(form.heads_apart),
        context_(static_cast<std::size_t>(task.of.rows() * task.of.width)) {
    const index_t width = task.of.width;
    for (index_t which = 0; which < 3; ++which) {
      fill(parts_[which], which);
    }
    const onednn_attention_layout layout(task.of);
    const auto rows = [&](type of) { return heads_apart_ ? layout.rows_apart(of) : layout.rows(of, width); };
    const memory::desc columns = heads_apart_ ? layout.columns_apart(type::s8) : layout.columns(type::s8, width);
    const attention_factors factors{.logits = static_cast<float>(task.logits_factor * attention_task::logits_scale),
                                    .context = attention_task::context_ratio};
    add_attention(steps_, layout, form, factors,
                  {.q = steps_.over(rows(type::s8), parts_[0]),
                   .k = steps_.over(columns, parts_[1]),
                   .v = steps_.over(rows(type::s8), parts_[2]),
                   .context = steps_.over(rows(type::s8), context_)});
    run();
    check();
  }

 private:
  /// Where a channel of a token is.
  std::size_t position(index_t image, index_t token, index_t channel) const {
    const token_shape& of = task_.of;
    const index_t head = channel / of.head_size();
    const index_t place =
        heads_apart_ ? ((image * of.heads + head) * of.tokens + token) * of.head_size() + channel % of.head_size()
                     : (image * of.tokens + token) * of.width + channel;
    return static_cast<std::size_t>(place);
  }

  void fill(aligned_vector<std::int8_t>& part, index_t which) {
    const token_shape& of = task_.of;
    part.resize(context_.size());
    for (index_t image = 0; image < of.batch; ++image) {
      const intact::quantized_matrix codes = task_.part(image, which);
      for (index_t token = 0; token < of.tokens; ++token) {
        for (index_t c = 0; c < of.width; ++c) {
          part[position(image, token, c)] =
              static_cast<std::int8_t>(std::min(codes.codes(token, c) - attention_task::zero_point, 127));
        }
      }
    }
  }

  /// Whether it computes attention: for one query of the last image and head, in double.
  void check() const {
    const token_shape& of = task_.of;
    const index_t first = of.width - of.head_size(), query = of.tokens / 2, image = of.batch - 1;
    const auto value = [&](index_t which, index_t token, index_t c) {
      return static_cast<double>(parts_[which][position(image, token, first + c)]);
    };
    std::vector<double> sums(static_cast<std::size_t>(of.head_size()));
    double total = 0;
    for (index_t key = 0; key < of.tokens; ++key) {
      double logit = 0;
      for (index_t c = 0; c < of.head_size(); ++c) {
        logit += value(0, query, c) * value(1, key, c);
      }
      const double weight = std::exp(logit * task_.logits_factor * attention_task::logits_scale);
      total += weight;
      for (index_t c = 0; c < of.head_size(); ++c) {
        sums[static_cast<std::size_t>(c)] += weight * value(2, key, c);
      }
    }
    double error = 0;
    for (index_t c = 0; c < of.head_size(); ++c) {
      const double exact = attention_task::context_ratio * sums[static_cast<std::size_t>(c)] / total;
      error += std::fabs(std::clamp(exact, -128.0, 127.0) - context_[position(image, query, first + c)]);
    }
    error /= static_cast<double>(of.head_size());
    if (!(error < largest_mean_error)) {
      throw unsupported("the outputs are " + std::to_string(error) + " codes from attention");
    }
  }

  static constexpr double largest_mean_error = 8;  ///< codes; those of another head would be 40 away

  const attention_task& task_;
  bool heads_apart_;
  aligned_vector<std::int8_t> parts_[3];
  aligned_vector<std::int8_t> context_;
};

std::unique_ptr<program> make(const attention_task& task) {
  const auto make_form = [&](bool heads_apart, type logits) {
    return [&task, heads_apart, logits] {
      return std::make_unique<onednn_attention>(task, attention_form{heads_apart, logits});
    };
  };
  return fastest_of(make_form(false, type::s8), make_form(true, type::s8), make_form(false, type::f32),
                    make_form(true, type::f32));
}

const registered_peer<attention_task> registered({onednn_name(), make, true, false});

}  // namespace
}  // namespace intact_bench
