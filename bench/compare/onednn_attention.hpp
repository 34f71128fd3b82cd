#pragma once

#include "compare/onednn.hpp"
#include "shapes.hpp"

namespace intact_bench {

/// Numbers of attention in real units: what q * k^T is multiplied with to be a logit, and what attention times V is
/// multiplied with to be a code of the context.
struct attention_factors {
  float logits = 1;
  float context = 1;
};

/// The layout of q, k and v in memory: as a layer writes them, a token's q, k and v of all heads one after the other,
/// or each head on its own; and what logits are stored as.
struct attention_form {
  bool heads_apart = false;
  dnnl::memory::data_type logits = dnnl::memory::data_type::s8;
};

/// All heads of all images as oneDNN's matrices.
class onednn_attention_layout {
 public:
  using memory = dnnl::memory;

  explicit onednn_attention_layout(const token_shape& of)
      : images_(of.batch), heads_(of.heads), tokens_(of.tokens), size_(of.head_size()) {}

  /// Queries, or values, `row` elements from token to token.
  memory::desc rows(memory::data_type type, memory::dim row) const {
    return {{images_, heads_, tokens_, size_}, type, memory::dims{tokens_ * row, size_, row, 1}};
  }
  memory::desc columns(memory::data_type type, memory::dim row) const {
    return {{images_, heads_, size_, tokens_}, type, memory::dims{tokens_ * row, size_, 1, row}};
  }
  memory::desc rows_apart(memory::data_type type) const {
    return {{images_, heads_, tokens_, size_}, type, memory::format_tag::abcd};
  }
  memory::desc columns_apart(memory::data_type type) const {
    return {{images_, heads_, size_, tokens_}, type, memory::format_tag::abdc};
  }
  memory::desc logits(memory::data_type type) const {
    return {{images_, heads_, tokens_, tokens_}, type, memory::format_tag::abcd};
  }

 private:
  memory::dim images_, heads_, tokens_, size_;
};

/// The tensors of attention.
struct attention_tensors {
  dnnl::memory q, k, v, context;
};

/// q * k^T, softmax to probabilities in steps of 1/255, attention times V.
inline void add_attention(onednn_steps& steps, const onednn_attention_layout& layout, const attention_form& form,
                          const attention_factors& factors, const attention_tensors& of) {
  using dnnl::memory;
  const memory logits = steps.make(layout.logits(form.logits));
  const memory weights = steps.make(layout.logits(memory::data_type::u8));

  dnnl::primitive_attr to_logits = onednn_steps::attributes();
  to_logits.set_output_scales(0, {factors.logits});
  const dnnl::matmul::primitive_desc product({of.q.get_desc(), of.k.get_desc(), logits.get_desc()}, to_logits,
                                             onednn_engine());
  steps.add<dnnl::matmul>(product, {{DNNL_ARG_SRC, of.q}, {DNNL_ARG_WEIGHTS, of.k}, {DNNL_ARG_DST, logits}});

  dnnl::primitive_attr to_weights = onednn_steps::attributes();
  to_weights.set_output_scales(0, {255.0F});
  const dnnl::softmax_v2_forward::primitive_desc softmax(
      {dnnl::prop_kind::forward_inference, dnnl::algorithm::softmax_accurate, logits.get_desc(), weights.get_desc(), 3},
      to_weights, onednn_engine());
  steps.add<dnnl::softmax_v2_forward>(softmax, {{DNNL_ARG_SRC, logits}, {DNNL_ARG_DST, weights}});

  dnnl::primitive_attr to_context = onednn_steps::attributes();
  to_context.set_output_scales(0, {factors.context / 255});
  const dnnl::matmul::primitive_desc sum({weights.get_desc(), of.v.get_desc(), of.context.get_desc()}, to_context,
                                         onednn_engine());
  steps.add<dnnl::matmul>(sum, {{DNNL_ARG_SRC, weights}, {DNNL_ARG_WEIGHTS, of.v}, {DNNL_ARG_DST, of.context}});
}

}  // namespace intact_bench
