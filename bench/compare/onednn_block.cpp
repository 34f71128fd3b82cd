#include <algorithm>
#include <list>

#include "block.hpp"
#include "compare/onednn_attention.hpp"

// A transformer block of the operations that oneDNN 2 offers in 8 bits. Products take u8 activations and s8 weights
// with scales per channel; zero points are folded into their biases. fc1 has GELU attached, proj and fc2 the residual
// addition, to a stream in float32, as its LayerNorm takes it. LayerNorm is offered in float32 alone, so codes are made
// of it. Four ways are made and the fastest is measured: q, k and v from one product or from three, which lets
// attention use faster products, and logits in s8 or in float32.
//
// It is a block, but not to the code the same as ours: our log2 codes and power-of-two factors have no counterpart.

namespace intact_bench {
namespace {

using dnnl::algorithm;
using dnnl::memory;
using type = memory::data_type;

memory::desc matrix(index_t rows, index_t columns, type of) {
  return {{rows, columns}, of, memory::format_tag::ab};
}

class onednn_block : public onednn_program {
 public:
  onednn_block(const block_task& task, bool one_product, type logits)
      : onednn_program(std::string(one_product ? "q, k, v together" : "q, k, v apart") +
                       (logits == type::s8 ? ", s8 logits" : ", f32 logits")),
        of_(task.of),
        block_(task.contents),
        stream_(static_cast<std::size_t>(of_.rows() * of_.width)),
        gain_(static_cast<std::size_t>(of_.width), 0.9F),
        shift_(gain_.size(), 0.1F),
        zero_(1, 0.0F) {
    const aligned_vector<std::uint8_t> codes = random_codes<std::uint8_t>(std::ssize(stream_), 0, 255);
    std::transform(codes.begin(), codes.end(), stream_.begin(),
                   [](std::uint8_t code) { return static_cast<float>(code - block_task::zero_point); });
    const memory stream = steps_.over(matrix(of_.rows(), of_.width, type::f32), stream_);
    const memory normalized = steps_.make(matrix(of_.rows(), of_.width, type::u8));
    const memory context = steps_.make(matrix(of_.rows(), of_.width, type::u8));
    const memory hidden = steps_.make(matrix(of_.rows(), of_.hidden(), type::u8));

    add_layernorm(stream, normalized);
    add_attention_of(normalized, context, one_product, logits);
    add_linear(whole(block_.proj), context, stream, 0, added());
    add_layernorm(stream, normalized);
    add_linear(whole(block_.fc1), normalized, hidden, 0, gelu());
    add_linear(whole(block_.fc2), hidden, stream, 0, added());
  }

 private:
  void add_layernorm(const memory& x, const memory& codes) {
    const memory::desc channels({of_.width}, type::f32, memory::format_tag::a), scalar = matrix(1, 1, type::f32);
    const memory numbers = steps_.make(x.get_desc());
    using dnnl::normalization_flags;
    const dnnl::layer_normalization_forward::primitive_desc normalization(
        {dnnl::prop_kind::forward_inference, x.get_desc(), 1e-6F,
         normalization_flags::use_scale | normalization_flags::use_shift},
        onednn_steps::attributes(), onednn_engine());
    steps_.add<dnnl::layer_normalization_forward>(normalization, {{DNNL_ARG_SRC, x},
                                                                  {DNNL_ARG_DST, numbers},
                                                                  {DNNL_ARG_SCALE, steps_.over(channels, gain_)},
                                                                  {DNNL_ARG_SHIFT, steps_.over(channels, shift_)}});
    dnnl::primitive_attr attributes = onednn_steps::attributes();
    dnnl::post_ops scaling;
    scaling.append_eltwise(1, algorithm::eltwise_linear, block_task::deviation, block_task::zero_point);
    attributes.set_post_ops(scaling);
    const dnnl::binary::primitive_desc conversion({algorithm::binary_add, x.get_desc(), scalar, codes.get_desc()},
                                                  attributes, onednn_engine());
    steps_.add<dnnl::binary>(
        conversion, {{DNNL_ARG_SRC_0, numbers}, {DNNL_ARG_SRC_1, steps_.over(scalar, zero_)}, {DNNL_ARG_DST, codes}});
  }

  /// Some of a layer's output channels.
  struct channels_of {
    const intact::owned_linear& layer;
    index_t first;
    index_t count;
  };
  static channels_of whole(const intact::owned_linear& layer) { return {layer, 0, layer.weights.rows}; }

  /// y = x * W^T with our layer's scales, `offset` added, then what is attached.
  void add_linear(const channels_of& channels, const memory& x, const memory& y, double offset,
                  const dnnl::post_ops& attached) {
    const index_t outputs = channels.count, inputs = channels.layer.weights.columns;
    std::vector<float> scales;
    aligned_vector<float>& bias = biases_.emplace_back();
    for (index_t n = channels.first; n < channels.first + outputs; ++n) {
      const intact::realized_scale& exact = channels.layer.scale.exact[static_cast<std::size_t>(n)];
      scales.push_back(static_cast<float>(exact.factor));
      bias.push_back(static_cast<float>((exact.offset + offset) / exact.factor));
    }
    dnnl::primitive_attr attributes = onednn_steps::attributes();
    attributes.set_output_scales(1 << 1, scales);
    attributes.set_post_ops(attached);
    const memory::desc any({inputs, outputs}, type::s8, memory::format_tag::any), row = matrix(1, outputs, type::f32);
    const dnnl::matmul::primitive_desc product({x.get_desc(), any, row, y.get_desc()}, attributes, onednn_engine());
    const memory weights = steps_.make(product.weights_desc());
    steps_.reorder(memory({{inputs, outputs}, type::s8, memory::format_tag::ba}, onednn_engine(),
                          const_cast<std::int8_t*>(channels.layer.weights.codes.data()) + channels.first * inputs),
                   weights);
    steps_.add<dnnl::matmul>(
        product,
        {{DNNL_ARG_SRC, x}, {DNNL_ARG_WEIGHTS, weights}, {DNNL_ARG_BIAS, steps_.over(row, bias)}, {DNNL_ARG_DST, y}});
  }

  void add_attention_of(const memory& x, const memory& context, bool one_product, type logits) {
    const index_t width = of_.width, row = one_product ? 3 * width : width;
    const memory qkv = steps_.make(matrix(of_.rows(), 3 * width, type::s8));
    const auto first_byte = [&](index_t which) { return which * width * (one_product ? 1 : of_.rows()); };
    if (one_product) {
      add_linear(whole(block_.qkv), x, qkv, -block_task::zero_point, {});
    } else {
      for (index_t which = 0; which < 3; ++which) {
        const memory part = steps_.part(matrix(of_.rows(), width, type::s8), qkv, first_byte(which));
        add_linear({block_.qkv, which * width, width}, x, part, -block_task::zero_point, {});
      }
    }
    const onednn_attention_layout layout(of_);
    const attention_factors factors{.logits = static_cast<float>(0.1 * block_.attention_logits.exact.factor),
                                    .context = 1};
    add_attention(steps_, layout, {.heads_apart = false, .logits = logits}, factors,
                  {.q = steps_.part(layout.rows(type::s8, row), qkv, first_byte(0)),
                   .k = steps_.part(layout.columns(type::s8, row), qkv, first_byte(1)),
                   .v = steps_.part(layout.rows(type::s8, row), qkv, first_byte(2)),
                   .context = steps_.part(layout.rows(type::u8, width), context)});
  }

  static dnnl::post_ops added() {
    dnnl::post_ops attached;
    attached.append_sum(1);
    return attached;
  }

  /// From fc1's 12-bit codes to those of the activation.
  dnnl::post_ops gelu() const {
    dnnl::post_ops attached;
    attached.append_eltwise(1, algorithm::eltwise_linear, 1.0F / 512, -4);
    attached.append_eltwise(1, algorithm::eltwise_gelu_erf, 0, 0);
    attached.append_eltwise(1, algorithm::eltwise_linear, 60, block_task::activation_zero_point);
    return attached;
  }

  const token_shape of_;
  const intact::owned_block& block_;
  aligned_vector<float> stream_;
  aligned_vector<float> gain_, shift_, zero_;
  std::list<aligned_vector<float>> biases_;
};

std::unique_ptr<program> make(const block_task& task) {
  const auto make_form = [&](bool one_product, type logits) {
    return [&task, one_product, logits] { return std::make_unique<onednn_block>(task, one_product, logits); };
  };
  return fastest_of(make_form(true, type::s8), make_form(true, type::f32), make_form(false, type::s8),
                    make_form(false, type::f32));
}

const registered_peer<block_task> registered({onednn_name() + " int8", make, true, false});

}  // namespace
}  // namespace intact_bench
