#include <Eigen/Core>

#include "compare/gemm.hpp"

// Eigen has no product of bytes. A user of it converts: the weights once, the activations in each
// call. The product is taken in int32, or in float, which is exact below 2^24.

namespace intact_bench {
namespace {

template <class T>
using matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

template <class T>
class eigen_gemm : public gemm_program {
 public:
  explicit eigen_gemm(const gemm_task& task)
      : activations_(task.operands.a().data, task.operands.shape.m, task.operands.shape.k),
        as_codes_(task.output == gemm_output::u8) {
    const gemm_shape& shape = task.operands.shape;
    Eigen::setNbThreads(task.threads);
    const Eigen::Map<const matrix<std::int8_t>> weights(task.operands.w().data, shape.n, shape.k);
    weights_.assign(task.copies, weights.template cast<T>());
    factor_.resize(shape.n);
    addend_.resize(shape.n);
    for (index_t n = 0; n < shape.n; ++n) {
      const auto i = static_cast<std::size_t>(n);
      factor_(n) = static_cast<float>(task.scale.factor[i]);
      addend_(n) = static_cast<float>(task.scale.addend[i] - task.scale.factor[i] * layer::zero_point *
                                                                 static_cast<double>(task.operands.sum_of_weights(n)));
    }
  }

  void run(std::size_t copy) override {
    converted_ = activations_.template cast<T>();
    product_.noalias() = converted_ * weights_[copy].transpose();
    if (as_codes_) {
      scaled_ = (product_.template cast<float>().array().rowwise() * factor_).rowwise() + addend_;
      scaled_ = scaled_.max(0.0F).min(255.0F) + 0.5F;  // rounds, as the conversion truncates
      codes_ = scaled_.template cast<std::uint8_t>();
    } else if constexpr (!std::is_same_v<T, std::int32_t>) {
      sums_ = product_.template cast<std::int32_t>();
    }
  }

  std::vector<std::int32_t> outputs() const override {
    const matrix<std::int32_t> all = as_codes_ ? matrix<std::int32_t>(codes_.template cast<std::int32_t>())
                                     : std::is_same_v<T, std::int32_t>
                                         ? matrix<std::int32_t>(product_.template cast<std::int32_t>())
                                         : sums_;
    return {all.data(), all.data() + all.size()};
  }

 private:
  Eigen::Map<const matrix<std::uint8_t>> activations_;
  bool as_codes_;
  std::vector<matrix<T>> weights_;
  Eigen::Array<float, 1, Eigen::Dynamic> factor_;
  Eigen::Array<float, 1, Eigen::Dynamic> addend_;
  matrix<T> converted_;
  matrix<T> product_;
  Eigen::Array<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> scaled_;
  matrix<std::int32_t> sums_;
  matrix<std::uint8_t> codes_;
};

template <class T>
std::unique_ptr<gemm_program> make(const gemm_task& task) {
  return std::make_unique<eigen_gemm<T>>(task);
}

std::string name(const char* type) {
  return "Eigen " + std::to_string(EIGEN_WORLD_VERSION) + '.' + std::to_string(EIGEN_MAJOR_VERSION) + ' ' + type;
}

const registered_gemm_peer in_float({name("float"), make<float>, false, false});
const registered_gemm_peer in_int32({name("int32"), make<std::int32_t>, false, false});

}  // namespace
}  // namespace intact_bench
