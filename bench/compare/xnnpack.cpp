#include <cmath>

#include <pthreadpool.h>
#include <xnnpack.h>

#include "compare/gemm.hpp"

// XNNPACK with a scale per output channel: a convolution of 1 x 1, which it computes as a matrix product. (Its fully
// connected operator of that time has one scale per tensor.) Activations and outputs are s8: our codes less 128, moved
// outside the measurement. There are no outputs in s32.

namespace intact_bench {
namespace {

void require(xnn_status status, const char* what) {
  if (status != xnn_status_success) {
    throw unsupported(std::string(what) + " fails with status " + std::to_string(int{status}));
  }
}

pthreadpool_t threads(int count) {
  static const std::unique_ptr<pthreadpool, decltype(&pthreadpool_destroy)> pool(
      count > 1 ? pthreadpool_create(static_cast<std::size_t>(count)) : nullptr, pthreadpool_destroy);
  return pool.get();
}

class xnnpack_gemm : public gemm_program {
 public:
  explicit xnnpack_gemm(const gemm_task& task) {
    if (task.output != gemm_output::u8) {
      throw unsupported("no outputs in s32");
    }
    require(xnn_initialize(nullptr), "xnn_initialize");
    const gemm_shape& shape = task.operands.shape;
    const auto channels = static_cast<std::size_t>(shape.n);
    activations_.resize(static_cast<std::size_t>(shape.m * shape.k) + XNN_EXTRA_BYTES);
    std::transform(task.operands.a().data, task.operands.a().data + shape.m * shape.k, activations_.begin(),
                   [](std::uint8_t code) { return static_cast<std::int8_t>(code - 128); });
    outputs_.resize(static_cast<std::size_t>(shape.m) * channels + XNN_EXTRA_BYTES);
    size_ = static_cast<std::size_t>(shape.m) * channels;
    const std::vector<float> scales(task.scale.factor.begin(), task.scale.factor.end());
    std::vector<std::int32_t> bias(channels);
    for (std::size_t n = 0; n < channels; ++n) {
      bias[n] = static_cast<std::int32_t>(std::lrint((task.scale.addend[n] - 128) / task.scale.factor[n]));
    }
    threads_ = threads(task.threads);
    for (std::size_t copy = 0; copy < task.copies; ++copy) {
      operators_.push_back(make_operator(task, scales, bias));
    }
  }

  void run(std::size_t copy) override {
    require(xnn_run_operator(operators_[copy].get(), threads_), "xnn_run_operator");
  }

  std::vector<std::int32_t> outputs() const override {
    std::vector<std::int32_t> codes(size_);
    std::transform(outputs_.begin(), outputs_.begin() + static_cast<index_t>(size_), codes.begin(),
                   [](std::int8_t code) { return code + 128; });
    return codes;
  }

 private:
  using owned_operator = std::unique_ptr<xnn_operator, decltype(&xnn_delete_operator)>;

  owned_operator make_operator(const gemm_task& task, const std::vector<float>& scales,
                               const std::vector<std::int32_t>& bias) {
    const auto k = static_cast<std::size_t>(task.operands.shape.k), n = static_cast<std::size_t>(task.operands.shape.n);
    xnn_operator_t made = nullptr;
    require(xnn_create_convolution2d_nhwc_qc8(0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, k, n, k, n, layer::zero_point - 128,
                                              1.0F, scales.data(), task.operands.w().data, bias.data(), 0, 1.0F, -128,
                                              127, 0, &made),
            "xnn_create_convolution2d_nhwc_qc8");
    owned_operator owned(made, xnn_delete_operator);
    require(xnn_setup_convolution2d_nhwc_qc8(made, static_cast<std::size_t>(task.operands.shape.m), 1, 1,
                                             activations_.data(), outputs_.data(), threads_),
            "xnn_setup_convolution2d_nhwc_qc8");
    return owned;
  }

  aligned_vector<std::int8_t> activations_;
  aligned_vector<std::int8_t> outputs_;
  std::size_t size_ = 0;
  pthreadpool_t threads_ = nullptr;
  std::vector<owned_operator> operators_;
};

std::unique_ptr<gemm_program> make(const gemm_task& task) {
  return std::make_unique<xnnpack_gemm>(task);
}

const registered_gemm_peer registered({"XNNPACK", make, false, true});

}  // namespace
}  // namespace intact_bench
