#include <algorithm>
#include <type_traits>

#include "activation.hpp"
#include "add.hpp"
#include "compare/onednn.hpp"
#include "layernorm.hpp"
#include "log_softmax.hpp"

// oneDNN 2 for the operations beside the products. Inside it computes them in float32. Where it takes or gives no 8-bit
// codes, a step before or after it converts; `binary` with operations attached is its fastest way to do that, and a
// way to give 8 bits to functions that it offers in float32 alone.

namespace intact_bench {
namespace {

using dnnl::algorithm;
using dnnl::memory;
using type = memory::data_type;
constexpr auto inference = dnnl::prop_kind::forward_inference;

memory::desc matrix(index_t rows, index_t columns, type of) {
  return {{rows, columns}, of, memory::format_tag::ab};
}

aligned_vector<float> one_zero() {
  return aligned_vector<float>(1, 0.0F);
}

/// LayerNorm is offered in float32 alone. `to_codes`: u8 codes are converted into numbers before and, like an s16
/// stream's, which would be numbers from the start, into codes after it.
template <class Code>
class onednn_layernorm : public onednn_program {
 public:
  onednn_layernorm(const layernorm_task<Code>& task, bool to_codes)
      : onednn_program(to_codes ? "with conversions" : "float32"),
        to_codes_(to_codes),
        x_(task.codes.size()),
        y_(task.codes.size()),
        codes_(task.codes.size()),
        gamma_(task.gamma.begin(), task.gamma.end()),
        beta_(task.beta.begin(), task.beta.end()),
        zero_(one_zero()) {
    for (std::size_t i = 0; i < x_.size(); ++i) {
      x_[i] = static_cast<float>(task.codes[i] - layernorm_task<Code>::input_zero_point) *
              task.step(static_cast<index_t>(i) % task.channels);
    }
    const memory::desc in_float = matrix(task.rows, task.channels, type::f32);
    const memory x = steps_.over(in_float, x_), y = steps_.over(in_float, y_);
    if (to_codes && !layernorm_task<Code>::is_wide) {
      convert_from_codes(task, x);
    }
    const memory::desc channels({task.channels}, type::f32, memory::format_tag::a);
    using dnnl::normalization_flags;
    const dnnl::layer_normalization_forward::primitive_desc normalization(
        {inference, in_float, static_cast<float>(layernorm_task<Code>::epsilon),
         normalization_flags::use_scale | normalization_flags::use_shift},
        onednn_steps::attributes(), onednn_engine());
    steps_.add<dnnl::layer_normalization_forward>(normalization, {{DNNL_ARG_SRC, x},
                                                                  {DNNL_ARG_DST, y},
                                                                  {DNNL_ARG_SCALE, steps_.over(channels, gamma_)},
                                                                  {DNNL_ARG_SHIFT, steps_.over(channels, beta_)}});
    if (to_codes) {
      convert_to_codes(task, y);
    }
  }

  std::vector<std::int32_t> outputs() const override {
    using of = layernorm_task<Code>;
    return to_codes_ ? as_numbers(codes_) : rounded_codes(y_, of::output_scale, of::output_zero_point);
  }

 private:
  /// Zero points cancel in LayerNorm.
  void convert_from_codes(const layernorm_task<Code>& task, const memory& x) {
    std::vector<float> steps;
    for (index_t c = 0; c < task.channels; ++c) {
      steps.push_back(task.step(c));
    }
    dnnl::primitive_attr attributes = onednn_steps::attributes();
    attributes.set_output_scales(1 << 1, steps);
    const memory::desc in_codes = matrix(task.rows, task.channels, type::u8);
    attributes.set_zero_points(DNNL_ARG_SRC, 0, {layernorm_task<Code>::input_zero_point});
    const dnnl::reorder::primitive_desc conversion(onednn_engine(), in_codes, onednn_engine(), x.get_desc(),
                                                   attributes);
    steps_.add<dnnl::reorder>(conversion, {{DNNL_ARG_FROM, steps_.over(in_codes, task.codes)}, {DNNL_ARG_TO, x}});
  }

  void convert_to_codes(const layernorm_task<Code>& task, const memory& y) {
    const memory::desc in_codes = matrix(task.rows, task.channels, type::u8), scalar = matrix(1, 1, type::f32);
    dnnl::primitive_attr attributes = onednn_steps::attributes();
    dnnl::post_ops scaling;
    scaling.append_eltwise(1, algorithm::eltwise_linear, static_cast<float>(1 / layernorm_task<Code>::output_scale),
                           layernorm_task<Code>::output_zero_point);
    attributes.set_post_ops(scaling);
    const dnnl::binary::primitive_desc conversion({algorithm::binary_add, y.get_desc(), scalar, in_codes}, attributes,
                                                  onednn_engine());
    steps_.add<dnnl::binary>(conversion, {{DNNL_ARG_SRC_0, y},
                                          {DNNL_ARG_SRC_1, steps_.over(scalar, zero_)},
                                          {DNNL_ARG_DST, steps_.over(in_codes, codes_)}});
  }

  bool to_codes_;
  aligned_vector<float> x_, y_;
  aligned_vector<std::uint8_t> codes_;
  aligned_vector<float> gamma_, beta_, zero_;
};

/// Softmax takes and gives bytes, but no scale of its input: bytes are logits in steps of 1. In float32 logits have
/// the scale of ours. It gives probabilities in steps of 1/255, or logarithms, which `log2` scales to ours.
class onednn_softmax : public onednn_program {
 public:
  onednn_softmax(const log_softmax_task& task, bool from_float, bool log2)
      : onednn_program(std::string(log2 ? "log softmax" : "softmax") + (from_float ? ", f32 to u8" : ", u8 to u8")),
        is_comparable_(from_float && log2 && task.wanted != softmax_codes::u8_of_max),
        largest_(task.wanted == softmax_codes::u4_of_sum ? 15 : 16),
        codes_(task.logits.size()) {
    const memory::desc in = matrix(task.rows, task.keys, from_float ? type::f32 : type::u8);
    const memory::desc out = matrix(task.rows, task.keys, type::u8);
    dnnl::primitive_attr attributes = onednn_steps::attributes();
    attributes.set_output_scales(0, {log2 ? static_cast<float>(-1 / std::log(2.0)) : 255.0F});
    const dnnl::softmax_v2_forward::primitive_desc softmax(
        {inference, log2 ? algorithm::softmax_log : algorithm::softmax_accurate, in, out, 1}, attributes,
        onednn_engine());
    if (from_float) {
      for (const std::uint8_t logit : task.logits) {
        x_.push_back(static_cast<float>(log_softmax_task::scale * logit));
      }
    }
    steps_.add<dnnl::softmax_v2_forward>(
        softmax, {{DNNL_ARG_SRC, from_float ? steps_.over(in, x_) : steps_.over(in, task.logits)},
                  {DNNL_ARG_DST, steps_.over(out, codes_)}});
  }

  /// Above the largest code ours has none.
  std::vector<std::int32_t> outputs() const override {
    if (!is_comparable_) {
      return {};
    }
    std::vector<std::int32_t> codes = as_numbers(codes_);
    std::transform(codes.begin(), codes.end(), codes.begin(),
                   [&](std::int32_t code) { return std::min(code, largest_); });
    return codes;
  }

 private:
  bool is_comparable_;
  std::int32_t largest_;
  aligned_vector<float> x_;
  aligned_vector<std::uint8_t> codes_;
};

/// GELU is offered in float32. `to_codes`: in 8 bits, attached to an addition of 0 to our codes.
template <class Code>
class onednn_gelu : public onednn_program {
 public:
  onednn_gelu(const activation_task<Code>& task, bool to_codes, algorithm gelu)
      : onednn_program(std::string(gelu == algorithm::eltwise_gelu_erf ? "erf" : "tanh") +
                       (to_codes ? ", u8 to u8" : ", f32 to f32")),
        to_codes_(to_codes),
        zero_(one_zero()) {
    using of = activation_task<Code>;
    dnnl::primitive_attr attributes = onednn_steps::attributes();
    if (!to_codes) {
      for (const Code code : task.codes) {
        x_.push_back(static_cast<float>(of::input_scale * (code - of::input_zero_point)));
      }
      y_.resize(x_.size());
      const memory::desc in_float = matrix(task.rows, task.channels, type::f32);
      const dnnl::eltwise_forward::primitive_desc function({inference, gelu, in_float, 0, 0}, attributes,
                                                           onednn_engine());
      steps_.add<dnnl::eltwise_forward>(
          function, {{DNNL_ARG_SRC, steps_.over(in_float, x_)}, {DNNL_ARG_DST, steps_.over(in_float, y_)}});
      return;
    }
    const double step = of::is_wide ? 16 * of::input_scale : of::input_scale;
    for (const Code code : task.codes) {
      bytes_.push_back(static_cast<std::uint8_t>(of::is_wide ? code / 16 : code));
    }
    zero_[0] = static_cast<float>(-step * (of::is_wide ? of::input_zero_point / 16 : of::input_zero_point));
    codes_.resize(bytes_.size());
    const memory::desc in_codes = matrix(task.rows, task.channels, type::u8), scalar = matrix(1, 1, type::f32);
    dnnl::post_ops then;
    then.append_eltwise(1, gelu, 0, 0);
    then.append_eltwise(1, algorithm::eltwise_linear, static_cast<float>(1 / of::output_scale), of::output_zero_point);
    attributes.set_post_ops(then);
    attributes.set_scales(DNNL_ARG_SRC_0, 0, {static_cast<float>(step)});
    const dnnl::binary::primitive_desc addition({algorithm::binary_add, in_codes, scalar, in_codes}, attributes,
                                                onednn_engine());
    steps_.add<dnnl::binary>(addition, {{DNNL_ARG_SRC_0, steps_.over(in_codes, bytes_)},
                                        {DNNL_ARG_SRC_1, steps_.over(scalar, zero_)},
                                        {DNNL_ARG_DST, steps_.over(in_codes, codes_)}});
  }

  /// Of 12-bit codes only the upper 8 bits are given to an 8-bit function.
  std::vector<std::int32_t> outputs() const override {
    using of = activation_task<Code>;
    if (!to_codes_) {
      return rounded_codes(y_, of::output_scale, of::output_zero_point);
    }
    return of::is_wide ? std::vector<std::int32_t>() : as_numbers(codes_);
  }

 private:
  bool to_codes_;
  aligned_vector<float> x_, y_, zero_;
  aligned_vector<std::uint8_t> bytes_, codes_;
};

class onednn_add : public onednn_program {
 public:
  explicit onednn_add(const add_task& task) : onednn_program("binary"), codes_(task.stream.size()) {
    const memory::desc in_codes = matrix(task.rows, task.channels, type::u8);
    dnnl::primitive_attr attributes = onednn_steps::attributes();
    attributes.set_scales(DNNL_ARG_SRC_0, 0, {static_cast<float>(add_task::stream_scale)});
    attributes.set_scales(DNNL_ARG_SRC_1, 0, {static_cast<float>(add_task::branch_scale)});
    const auto& points = add_task::zero_points;
    dnnl::post_ops then;
    then.append_eltwise(1, algorithm::eltwise_linear, 1,
                        static_cast<float>(points.output - add_task::stream_scale * points.stream -
                                           add_task::branch_scale * points.branch));
    attributes.set_post_ops(then);
    const dnnl::binary::primitive_desc addition({algorithm::binary_add, in_codes, in_codes, in_codes}, attributes,
                                                onednn_engine());
    steps_.add<dnnl::binary>(addition, {{DNNL_ARG_SRC_0, steps_.over(in_codes, task.stream)},
                                        {DNNL_ARG_SRC_1, steps_.over(in_codes, task.branch)},
                                        {DNNL_ARG_DST, steps_.over(in_codes, codes_)}});
  }

  std::vector<std::int32_t> outputs() const override { return as_numbers(codes_); }

 private:
  aligned_vector<std::uint8_t> codes_;
};

/// Functions that make the programs.
template <class Code>
std::unique_ptr<program> make_layernorm(const layernorm_task<Code>& task) {
  return std::make_unique<onednn_layernorm<Code>>(task, true);
}
template <class Code>
std::unique_ptr<program> make_float_layernorm(const layernorm_task<Code>& task) {
  return std::make_unique<onednn_layernorm<Code>>(task, false);
}

std::unique_ptr<program> make_softmax(const log_softmax_task& task) {
  return fastest_of([&] { return std::make_unique<onednn_softmax>(task, false, false); },
                    [&] { return std::make_unique<onednn_softmax>(task, true, false); });
}
std::unique_ptr<program> make_log_softmax(const log_softmax_task& task) {
  return std::make_unique<onednn_softmax>(task, true, true);
}

template <class Code>
std::unique_ptr<program> make_gelu(const activation_task<Code>& task, bool to_codes) {
  return fastest_of([&] { return std::make_unique<onednn_gelu<Code>>(task, to_codes, algorithm::eltwise_gelu_erf); },
                    [&] { return std::make_unique<onednn_gelu<Code>>(task, to_codes, algorithm::eltwise_gelu_tanh); });
}
template <class Code>
std::unique_ptr<program> make_gelu_of_codes(const activation_task<Code>& task) {
  return make_gelu(task, true);
}
template <class Code>
std::unique_ptr<program> make_gelu_of_floats(const activation_task<Code>& task) {
  return make_gelu(task, false);
}

std::unique_ptr<program> make_add(const add_task& task) {
  return std::make_unique<onednn_add>(task);
}

const std::string in_float32 = onednn_name() + " float32";

template <class Code>
struct registered_layernorm {
  registered_peer<layernorm_task<Code>> codes{{onednn_name(), make_layernorm<Code>, true, false}};
  registered_peer<layernorm_task<Code>> floats{{in_float32, make_float_layernorm<Code>, true, false}};
};
const registered_layernorm<std::uint8_t> layernorm_u8;
const registered_layernorm<std::int16_t> layernorm_s16;

template <class Code>
struct registered_gelu {
  registered_peer<activation_task<Code>> codes{{onednn_name(), make_gelu_of_codes<Code>, true, false}};
  registered_peer<activation_task<Code>> floats{{in_float32, make_gelu_of_floats<Code>, true, false}};
};
const registered_gelu<std::uint8_t> gelu_u8;
const registered_gelu<std::uint16_t> gelu_u12;

const registered_peer<log_softmax_task> softmax({onednn_name(), make_softmax, true, false});
const registered_peer<log_softmax_task> log_softmax({onednn_name() + " log", make_log_softmax, true, false});
const registered_peer<add_task> add({onednn_name(), make_add, true, false});

}  // namespace
}  // namespace intact_bench
