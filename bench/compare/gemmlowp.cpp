#include <cmath>
#include <tuple>

#include <gemmlowp/public/gemmlowp.h>

#include "compare/gemm.hpp"

// gemmlowp multiplies u8 by u8, so the weights move by 128. They are on the left and the activations are the columns
// on the right, as its users have it. It packs both operands in each call. The zero point and the bias are one bias in
// int32, in units of the sums.

namespace intact_bench {
namespace {

using gemmlowp::MapOrder;
using channels = gemmlowp::VectorMap<const std::int32_t, gemmlowp::VectorShape::Col>;

gemmlowp::MultiThreadGemmContext& context() {
  static gemmlowp::MultiThreadGemmContext shared;
  return shared;
}

class gemmlowp_gemm : public gemm_program {
 public:
  explicit gemmlowp_gemm(const gemm_task& task) : task_(task) {
    const gemm_shape& shape = task.operands.shape;
    const auto outputs = static_cast<std::size_t>(shape.m * shape.n);
    (task.output == gemm_output::u8 ? codes_.resize(outputs) : sums_.resize(outputs));
    aligned_vector<std::uint8_t> weights(static_cast<std::size_t>(shape.n * shape.k));
    std::transform(task.operands.w().data, task.operands.w().data + weights.size(), weights.begin(),
                   [](std::int8_t weight) { return static_cast<std::uint8_t>(weight + 128); });
    weights_.assign(task.copies, weights);
    for (index_t n = 0; n < shape.n; ++n) {
      add_channel(task.scale.factor[static_cast<std::size_t>(n)], task.scale.addend[static_cast<std::size_t>(n)],
                  task.operands.sum_of_weights(n));
    }
    context().set_max_num_threads(task.threads);
  }

  void run(std::size_t copy) override {
    if (task_.output == gemm_output::s32) {
      multiply(copy, sums_.data(), std::make_tuple());
      return;
    }
    const int size = static_cast<int>(task_.operands.shape.n);
    gemmlowp::OutputStageBiasAddition<channels> bias;
    bias.bias_vector = channels(bias_.data(), size);
    gemmlowp::OutputStageScaleInt32ByFixedPointAndExponentPC<gemmlowp::VectorShape::Col> scale;
    scale.result_fixedpoint_multiplier = channels(multiplier_.data(), size);
    scale.result_exponent = channels(exponent_.data(), size);
    scale.result_offset_after_shift = 0;
    multiply(copy, codes_.data(), std::make_tuple(bias, scale, gemmlowp::OutputStageSaturatingCastToUint8()));
  }

  std::vector<std::int32_t> outputs() const override {
    return sums_.empty() ? std::vector<std::int32_t>(codes_.begin(), codes_.end()) : sums_;
  }

 private:
  void add_channel(double factor, double addend, std::int64_t sum_of_weights) {
    int exponent = 0;
    const double mantissa = std::frexp(factor, &exponent);
    // A factor is at most one half here, and a mantissa that rounds up to 1 is far from any of them.
    multiplier_.push_back(static_cast<std::int32_t>(std::lrint(std::ldexp(mantissa, 31))));
    exponent_.push_back(exponent);
    bias_.push_back(static_cast<std::int32_t>(
        std::lrint(addend / factor - layer::zero_point * static_cast<double>(sum_of_weights))));
  }

  template <class Out, class Pipeline>
  void multiply(std::size_t copy, Out* to, const Pipeline& pipeline) {
    const gemm_shape& shape = task_.operands.shape;
    const int m = static_cast<int>(shape.m), n = static_cast<int>(shape.n), k = static_cast<int>(shape.k);
    const gemmlowp::MatrixMap<const std::uint8_t, MapOrder::RowMajor> weights(weights_[copy].data(), n, k);
    const gemmlowp::MatrixMap<const std::uint8_t, MapOrder::ColMajor> quantized_matrix(task_.operands.a().data, k, m);
    gemmlowp::MatrixMap<Out, MapOrder::ColMajor> result(to, n, m);
    gemmlowp::GemmWithOutputPipeline<std::uint8_t, Out, gemmlowp::DefaultL8R8BitDepthParams>(
        &context(), weights, quantized_matrix, &result, -128, 0, pipeline);
  }

  const gemm_task task_;
  std::vector<aligned_vector<std::uint8_t>> weights_;
  std::vector<std::int32_t> multiplier_;
  std::vector<std::int32_t> exponent_;
  std::vector<std::int32_t> bias_;
  std::vector<std::int32_t> sums_;
  std::vector<std::uint8_t> codes_;
};

std::unique_ptr<gemm_program> make(const gemm_task& task) {
  return std::make_unique<gemmlowp_gemm>(task);
}

const registered_gemm_peer registered({"gemmlowp", make, false, true});

}  // namespace
}  // namespace intact_bench
