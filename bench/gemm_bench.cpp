// Times gemm with packed weights: every shape, 8-bit and 4-bit weights, the latter with group factors or without, every
// output stage. Each configuration is checked against the specification first. With --quick few shapes are timed
// briefly. All other options are Google Benchmark's. Other instruction sets than the machine's best are
// intact-compare's.

#include <memory>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "benchmarks.hpp"
#include "intact/gemm.hpp"
#include "intact/pack.hpp"
#include "layer.hpp"
#include "peak.hpp"
#include "rounds.hpp"
#include "shapes.hpp"
#include "stages.hpp"

namespace {

using namespace intact_bench;

/// A product that is measured.
class product {
 public:
  product() = default;
  product(const product&) = delete;
  virtual ~product() = default;

  virtual void run() = 0;
  virtual std::int64_t count_wrong() const = 0;
};

/// The layer of a shape; the one before is forgotten.
const layer& layer_of(const gemm_shape& shape, weight_type type) {
  static std::unique_ptr<const layer> last;
  if (!last || last->shape != shape || last->type != type) {
    last = std::make_unique<const layer>(shape, type);
  }
  return *last;
}

template <class Element>
constexpr weight_type type_of = std::is_same_v<Element, std::int8_t>  ? weight_type::int8
                                : std::is_same_v<Element, intact::s4> ? weight_type::int4
                                                                      : weight_type::grouped_int4;

template <class Isa, class Element, class Stage>
class stage_product : public product {
 public:
  explicit stage_product(const gemm_shape& shape)
      : operands_(layer_of(shape, type_of<Element>)),
        stage_(operands_),
        memory_(static_cast<std::size_t>(intact::packed_weights_bytes<Element>(shape.n, shape.k, layer::group))),
        outputs_(static_cast<std::size_t>(shape.m * shape.n)),
        y_(outputs_.data(), shape.m, shape.n) {
    if constexpr (type_of<Element> == weight_type::int4) {
      weights_ = intact::pack_weights(operands_.w4(), std::span(memory_));
    } else if constexpr (type_of<Element> == weight_type::grouped_int4) {
      weights_ = intact::pack_weights(operands_.grouped_w4(), std::span(memory_));
    } else {
      weights_ = intact::pack_weights(operands_.w(), std::span(memory_));
    }
  }

  void run() override { intact::gemm<Isa>(operands_.a(), weights_, stage_.stage, y_); }

  std::int64_t count_wrong() const override { return intact_bench::count_wrong(operands_, stage_.stage, {y_}); }

 private:
  const layer& operands_;
  const prepared_stage<Stage> stage_;
  aligned_vector<std::byte> memory_;
  aligned_vector<typename Stage::output> outputs_;
  intact::matrix_view<typename Stage::output> y_;
  intact::packed_weights<Element> weights_;
};

template <class Isa>
double peak() {
  static const double measured = peak_gops<Isa>();
  return measured;
}

template <class Isa, class Element, class Stage>
void add_benchmark(const gemm_shape& shape) {
  const std::string name = "gemm/" + std::string(Isa::name) + '/' + shape.name() + '/' + name_of(type_of<Element>) +
                           '/' + prepared_stage<Stage>::name;
  const auto measure = [name, shape](benchmark::State& state) {
    product* const measured =
        checked<product>(name, [&] { return std::make_unique<stage_product<Isa, Element, Stage>>(shape); });
    if (measured == nullptr) {
      state.SkipWithError("wrong outputs");
      return;
    }
    const clock::time_point start = clock::now();
    for ([[maybe_unused]] auto _ : state) {
      measured->run();
      benchmark::ClobberMemory();
    }
    const double seconds = seconds_since(start);
    const double gops = 1e-9 * shape.operations() * static_cast<double>(state.iterations()) / seconds;
    state.counters["GOPS"] = gops;
    state.counters["peak%"] = 100 * gops / peak<Isa>();
  };
  benchmark::RegisterBenchmark(name.c_str(), measure)->UseRealTime()->Unit(benchmark::kMicrosecond);
}

template <class Isa, class Element>
void add_stages(const gemm_shape& shape) {
  add_benchmark<Isa, Element, intact::raw_accumulator>(shape);
  add_benchmark<Isa, Element, intact::requantize<std::uint8_t>>(shape);
  add_benchmark<Isa, Element, intact::requantize<std::int8_t>>(shape);
  add_benchmark<Isa, Element, intact::requantize_u12>(shape);
  add_benchmark<Isa, Element, intact::requantize_lut>(shape);
  add_benchmark<Isa, Element, intact::add_to_stream>(shape);
  add_benchmark<Isa, Element, intact::requantize_add>(shape);
  add_benchmark<Isa, Element, intact::requantize_per_row<std::uint8_t>>(shape);
}

/// Stages of other runtimes and of float output.
template <class Isa>
void add_interop_stages(const gemm_shape& shape) {
  add_benchmark<Isa, std::int8_t, intact::round_half_to_even<std::uint8_t>>(shape);
  add_benchmark<Isa, std::int8_t, intact::single_rounding<std::int8_t>>(shape);
  add_benchmark<Isa, std::int8_t, intact::double_rounding<std::int8_t>>(shape);
  add_benchmark<Isa, std::int8_t, intact::float_rounding<std::uint8_t>>(shape);
  add_benchmark<Isa, std::int8_t, intact::float_output<float>>(shape);
}

template <class Isa>
void add_shapes(std::span<const gemm_shape> shapes) {
  for (const gemm_shape& shape : shapes) {
    add_stages<Isa, std::int8_t>(shape);
    add_interop_stages<Isa>(shape);
    add_stages<Isa, intact::s4>(shape);
    add_stages<Isa, intact::grouped_s4>(shape);
  }
}

}  // namespace

int main(int argc, char** argv) {
  return run_benchmarks(argc, argv,
                        [](bool quick) { add_shapes<intact::isa::native>(shapes_of(quick ? "quick" : "all")); });
}
