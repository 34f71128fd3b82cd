#include <limits>
#include <utility>

#include "compare/gemm.hpp"
#include "compare/onednn.hpp"
#include "rounds.hpp"

// oneDNN 2, in two ways. Weights are reordered once into the format that the primitive asks for. Scales per channel are
// its output scales. Scratch memory is the caller's and the arguments are bound beforehand, so that a call does nothing
// but compute.
//
// With folded zero points, the source's zero point, the bias and the output's zero point, which are constants of the
// layer, are added to one bias of the primitive in float32: exact to a small part of a code. Both `matmul` and
// `inner_product` are made, and the faster one is measured. That is the most that a caller can get out of the library.
//
// With zero points as attributes, the library gets the layer as its interface describes it. Only `matmul` can.

namespace intact_bench {
namespace {

using dnnl::memory;

/// How a layer's zero points are given to the library.
enum class zero_points { folded, attributes };

const dnnl::engine& engine() {
  return onednn_engine();
}

template <class T>
memory over(const memory::desc& shape, const aligned_vector<T>& data) {
  return {shape, engine(), const_cast<T*>(data.data())};
}

class onednn_gemm : public gemm_program {
 public:
  void run(std::size_t copy) override {
    std::vector<dnnl_exec_arg_t>& arguments = arguments_[copy];
    const dnnl_status_t status =
        dnnl_primitive_execute(primitive_.get(), stream_.get(), static_cast<int>(arguments.size()), arguments.data());
    if (status != dnnl_success) {
      throw unsupported("dnnl_primitive_execute fails with status " + std::to_string(status));
    }
  }

  std::vector<std::int32_t> outputs() const override {
    return sums_.empty() ? std::vector<std::int32_t>(codes_.begin(), codes_.end())
                         : std::vector<std::int32_t>(sums_.begin(), sums_.end());
  }

  std::string method() const override { return method_; }

 protected:
  onednn_gemm(const gemm_task& task, zero_points given, std::string method)
      : shape_(task.operands.shape),
        as_codes_(task.output == gemm_output::u8),
        source_desc_({shape_.m, shape_.k}, memory::data_type::u8, memory::format_tag::ab),
        output_desc_({shape_.m, shape_.n}, as_codes_ ? memory::data_type::u8 : memory::data_type::s32,
                     memory::format_tag::ab),
        stream_(engine()),
        method_(std::move(method)),
        bias_(as_codes_ ? static_cast<std::size_t>(shape_.n) : 0),
        sums_(as_codes_ ? 0 : static_cast<std::size_t>(shape_.m * shape_.n)),
        codes_(as_codes_ ? static_cast<std::size_t>(shape_.m * shape_.n) : 0) {
    attributes_.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    if (as_codes_) {
      std::vector<float> scales(task.scale.factor.begin(), task.scale.factor.end());
      attributes_.set_output_scales(1 << 1, scales);
      if (given == zero_points::attributes) {
        attributes_.set_zero_points(DNNL_ARG_SRC, 0, {layer::zero_point});
        attributes_.set_zero_points(DNNL_ARG_DST, 0, {output_zero_point});
      }
      for (index_t n = 0; n < shape_.n; ++n) {
        const auto i = static_cast<std::size_t>(n);
        const double folded = layer::zero_point * static_cast<double>(task.operands.sum_of_weights(n));
        const double bias = given == zero_points::folded
                                ? task.scale.addend[i] / task.scale.factor[i] - folded
                                : (task.scale.addend[i] - output_zero_point) / task.scale.factor[i];
        bias_[i] = static_cast<float>(bias);
      }
    }
  }

  /// Reorders the weights and binds the arguments.
  template <class Descriptor>
  void prepare(const Descriptor& recipe, const memory::desc& plain_weights, const memory::desc& bias,
               const gemm_task& task) {
    method_ += std::string(", ") + recipe.impl_info_str();
    memory::desc packed = recipe.weights_desc();
    memory source({source_desc_, engine(), const_cast<std::uint8_t*>(task.operands.a().data)});
    memory plain(plain_weights, engine(), const_cast<std::int8_t*>(task.operands.w().data));
    memory output = as_codes_ ? over(output_desc_, codes_) : over(output_desc_, sums_);
    memory scratchpad(recipe.scratchpad_desc(), engine());
    memories_ = {source, output, scratchpad};
    if (as_codes_) {
      memories_.push_back(over(bias, bias_));
    }
    for (std::size_t copy = 0; copy < task.copies; ++copy) {
      memory weights(packed, engine());
      dnnl::reorder(plain, weights).execute(stream_, plain, weights);
      arguments_.push_back({{DNNL_ARG_SRC, source.get()},
                            {DNNL_ARG_DST, output.get()},
                            {DNNL_ARG_SCRATCHPAD, scratchpad.get()},
                            {DNNL_ARG_WEIGHTS, weights.get()}});
      if (as_codes_) {
        arguments_.back().push_back({DNNL_ARG_BIAS, memories_.back().get()});
      }
      weights_.push_back(std::move(weights));
    }
    stream_.wait();
  }

  gemm_shape shape_;
  bool as_codes_;
  memory::desc source_desc_;
  memory::desc output_desc_;
  dnnl::primitive_attr attributes_;
  dnnl::primitive primitive_;

 private:
  static constexpr int output_zero_point = 128;

  dnnl::stream stream_;
  std::string method_;
  aligned_vector<float> bias_;
  aligned_vector<std::int32_t> sums_;
  aligned_vector<std::uint8_t> codes_;
  std::vector<memory> memories_;
  std::vector<memory> weights_;
  std::vector<std::vector<dnnl_exec_arg_t>> arguments_;
};

class onednn_matmul : public onednn_gemm {
 public:
  onednn_matmul(const gemm_task& task, zero_points given) : onednn_gemm(task, given, "matmul") {
    const memory::desc weights({shape_.k, shape_.n}, memory::data_type::s8, memory::format_tag::any);
    const memory::desc bias({1, shape_.n}, memory::data_type::f32, memory::format_tag::ab);
    const dnnl::matmul::desc wanted = as_codes_ ? dnnl::matmul::desc(source_desc_, weights, bias, output_desc_)
                                                : dnnl::matmul::desc(source_desc_, weights, output_desc_);
    const dnnl::matmul::primitive_desc recipe(wanted, attributes_, engine());
    primitive_ = dnnl::matmul(recipe);
    prepare(recipe, {{shape_.k, shape_.n}, memory::data_type::s8, memory::format_tag::ba}, bias, task);
  }
};

class onednn_inner_product : public onednn_gemm {
 public:
  onednn_inner_product(const gemm_task& task, zero_points given) : onednn_gemm(task, given, "inner product") {
    const memory::desc weights({shape_.n, shape_.k}, memory::data_type::s8, memory::format_tag::any);
    const memory::desc bias({shape_.n}, memory::data_type::f32, memory::format_tag::a);
    using product = dnnl::inner_product_forward;
    constexpr auto inference = dnnl::prop_kind::forward_inference;
    const product::desc wanted = as_codes_ ? product::desc(inference, source_desc_, weights, bias, output_desc_)
                                           : product::desc(inference, source_desc_, weights, output_desc_);
    const product::primitive_desc recipe(wanted, attributes_, engine());
    primitive_ = product(recipe);
    prepare(recipe, {{shape_.n, shape_.k}, memory::data_type::s8, memory::format_tag::ab}, bias, task);
  }
};

/// The program, or none if oneDNN does not offer it here.
template <class Program>
std::unique_ptr<gemm_program> make_if_offered(const gemm_task& task, zero_points given, std::string& problem) {
  try {
    auto program = std::make_unique<Program>(task, given);
    program->run(0);
    return program;
  } catch (const dnnl::error& error) {
    problem = error.what();
  } catch (const unsupported& error) {
    problem = error.what();
  }
  return nullptr;
}

std::unique_ptr<gemm_program> make_faster(const gemm_task& task) {
  std::string problem;
  auto matmul = make_if_offered<onednn_matmul>(task, zero_points::folded, problem);
  auto inner_product = make_if_offered<onednn_inner_product>(task, zero_points::folded, problem);
  if (!matmul && !inner_product) {
    throw unsupported(problem);
  }
  if (!matmul || !inner_product) {
    return matmul ? std::move(matmul) : std::move(inner_product);
  }
  std::size_t copy = 0;
  const auto with_next_copy = [&](gemm_program& program) { return [&] { program.run(copy++ % task.copies); }; };
  const rounds measured = alternate(with_next_copy(*matmul), with_next_copy(*inner_product), {0.05, 5});
  return median(measured.ours) <= median(measured.peer) ? std::move(matmul) : std::move(inner_product);
}

std::unique_ptr<gemm_program> make_with_attributes(const gemm_task& task) {
  if (task.output != gemm_output::u8) {
    throw unsupported("raw sums have no zero points");
  }
  std::string problem;
  auto matmul = make_if_offered<onednn_matmul>(task, zero_points::attributes, problem);
  if (!matmul) {
    throw unsupported(problem);
  }
  return matmul;
}

const registered_gemm_peer folded({onednn_name(), make_faster, true, false});
const registered_gemm_peer attributes({onednn_name() + ", zero points as attributes", make_with_attributes, true,
                                       false});

}  // namespace
}  // namespace intact_bench
