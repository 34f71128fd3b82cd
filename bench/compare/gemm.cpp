#include "compare/gemm.hpp"

#include <unistd.h>

#include <cstdlib>
#include <map>
#include <span>
#include <utility>

#include "compare/operation.hpp"
#include "intact/executors/openmp.hpp"
#include "intact/gemm.hpp"
#include "intact/pack.hpp"
#include "isa.hpp"

// gemm with packed weights against other libraries, and with 4-bit weights against itself with 8 bits.

namespace intact_bench {

namespace {

const char* name_of(gemm_output output) {
  return output == gemm_output::s32 ? "s32" : "u8";
}

auto weights_of(const layer& operands, std::int8_t) {
  return operands.w();
}
auto weights_of(const layer& operands, intact::s4) {
  return operands.w4();
}
auto weights_of(const layer& operands, intact::grouped_s4) {
  return operands.grouped_w4();
}

template <class Isa, class Element, class Stage>
class intact_gemm : public gemm_program {
 public:
  intact_gemm(const gemm_task& task, const Stage& stage)
      : task_(task),
        stage_(stage),
        memory_(task.copies),
        outputs_(static_cast<std::size_t>(task.operands.shape.m * task.operands.shape.n)) {
    const gemm_shape& shape = task.operands.shape;
    for (aligned_vector<std::byte>& memory : memory_) {
      memory.resize(static_cast<std::size_t>(intact::packed_weights_bytes<Element>(shape.n, shape.k, layer::group)));
      weights_.push_back(intact::pack_weights(weights_of(task.operands, Element()), std::span(memory)));
    }
  }

  void run(std::size_t copy) override {
    const gemm_shape& shape = task_.operands.shape;
    const intact::matrix_view y(outputs_.data(), shape.m, shape.n);
    if (task_.threads == 1) {
      intact::gemm<Isa>(task_.operands.a(), weights_[copy], stage_, y);
    } else {
      intact::gemm<Isa>(task_.operands.a(), weights_[copy], stage_, y, intact::openmp_executor(task_.threads));
    }
  }

  std::vector<std::int32_t> outputs() const override { return {outputs_.begin(), outputs_.end()}; }

 private:
  const gemm_task task_;
  const Stage stage_;
  std::vector<aligned_vector<std::byte>> memory_;
  std::vector<intact::packed_weights<Element>> weights_;
  aligned_vector<typename Stage::output> outputs_;
};

template <class Isa, class Element>
std::unique_ptr<gemm_program> make_with(const gemm_task& task) {
  if (task.output == gemm_output::s32) {
    using stage = intact::raw_accumulator;
    return std::make_unique<intact_gemm<Isa, Element, stage>>(task, stage());
  }
  using stage = intact::requantize<std::uint8_t>;
  return std::make_unique<intact_gemm<Isa, Element, stage>>(task, stage{task.scale.integers()});
}

std::unique_ptr<gemm_program> make_ours(const std::string& isa, weight_type weights, const gemm_task& task) {
  std::unique_ptr<gemm_program> made;
  with_isa(isa, [&](auto tag) {
    using tag_type = decltype(tag);
    if (weights == weight_type::int8) {
      made = make_with<tag_type, std::int8_t>(task);
    } else if (weights == weight_type::int4) {
      made = make_with<tag_type, intact::s4>(task);
    } else {
      made = make_with<tag_type, intact::grouped_s4>(task);
    }
  });
  return made;
}

/// How many outputs of the checked rows differ from the specification by more than `tolerance`.
std::int64_t count_differences(const gemm_task& task, const std::vector<std::int32_t>& outputs, int tolerance) {
  const layer& operands = task.operands;
  const intact::requantize<std::uint8_t> codes{task.scale.integers()};
  std::int64_t differences = 0;
  for (std::size_t i = 0; i < operands.checked_rows().size(); ++i) {
    const std::int32_t* const row = outputs.data() + operands.checked_rows()[i] * operands.shape.n;
    for (index_t n = 0; n < operands.shape.n; ++n) {
      const std::int32_t sum = operands.sum(i, n);
      const std::int64_t expected = task.output == gemm_output::s32 ? sum : codes(sum, n);
      differences += std::abs(row[n] - expected) > tolerance ? 1 : 0;
    }
  }
  return differences;
}

/// As many copies of the weights as fill the second-level cache four times over.
std::size_t copies_beyond_cache(const layer& operands) {
  const long reported = sysconf(_SC_LEVEL2_CACHE_SIZE);
  const index_t cache = reported > 0 ? index_t{reported} : index_t{1} << 21;
  const index_t bytes = operands.shape.n * operands.shape.k / (operands.type == weight_type::int8 ? 1 : 2);
  return static_cast<std::size_t>(std::max<index_t>(2, 4 * cache / std::max<index_t>(1, bytes) + 1));
}

/// Who takes part: for 4-bit weights we are our own peer.
std::vector<gemm_peer> peers_of(const options& given, weight_type weights) {
  if (weights != weight_type::int8) {
    const auto make = [isa = given.isa](const gemm_task& task) { return make_ours(isa, weight_type::int8, task); };
    return {{"intact int8", make, true, false}};
  }
  return wanted_peers<gemm_task, gemm_program>(given);
}

/// Ours and a peer's program in turns, each with the next copy of its weights.
rounds measure(gemm_program& ours, gemm_program& theirs, const gemm_task& task, const effort& limits) {
  std::size_t our_copy = 0, their_copy = 0;
  return alternate([&] { ours.run(our_copy++ % task.copies); }, [&] { theirs.run(their_copy++ % task.copies); },
                   limits);
}

/// All comparisons of one shape.
class shape_comparison {
 public:
  shape_comparison(const options& given, const gemm_shape& shape, weight_type weights, report& to)
      : given_(given), operands_(shape, weights), scale_(operands_, 40, 128), to_(to) {}

  /// `cold`: with weights that have left the second-level cache.
  void run(gemm_output output, bool cold) {
    const gemm_task task{operands_, scale_, output, given_.threads, cold ? copies_beyond_cache(operands_) : 1};
    const auto ours = make_ours(given_.isa, operands_.type, task);
    if (!is_right(*ours, task)) {
      return;
    }
    for (const gemm_peer& peer : peers_of(given_, operands_.type)) {
      row result;
      result.shape = operands_.shape.name();
      result.weights = name_of(operands_.type);
      result.output = name_of(output);
      result.caches = cold ? "cold" : "warm";
      result.peer = peer.name;
      result.operations = operands_.shape.operations();
      try {
        compare(*ours, peer, task, result);
      } catch (const std::exception& error) {
        result.problem = error.what();
      }
      to_.add("gemm", result);
    }
  }

 private:
  bool is_right(gemm_program& ours, const gemm_task& task) {
    for (std::size_t copy = 0; copy < task.copies; ++copy) {
      ours.run(copy);
      if (const std::int64_t wrong = count_differences(task, ours.outputs(), 0); wrong != 0) {
        to_.add_failure("gemm " + operands_.shape.name() + ' ' + name_of(operands_.type) + ' ' + name_of(task.output) +
                        ": " + std::to_string(wrong) + " of our outputs are wrong");
        return false;
      }
    }
    return true;
  }

  void compare(gemm_program& ours, const gemm_peer& peer, const gemm_task& task, row& result) {
    const std::unique_ptr<gemm_program> theirs = peer.make(task);
    theirs->run(0);
    result.method = theirs->method();
    result.outputs = operands_.checked_outputs();
    if (task.output == gemm_output::s32) {
      wrong_sums_[peer.name] = count_differences(task, theirs->outputs(), 0);
    } else {
      result.peer_codes_off = count_differences(task, theirs->outputs(), 1);
    }
    if (const auto counted = wrong_sums_.find(peer.name); counted != wrong_sums_.end()) {
      result.peer_wrong = counted->second;
    }
    const bool waits = peer.has_own_threads && task.threads > 1;
    result.measured = measure(ours, *theirs, task, effort_for(given_, waits));
  }

  const options& given_;
  const layer operands_;
  const output_scale scale_;
  report& to_;
  std::map<std::string, std::int64_t> wrong_sums_;  ///< of this shape, by peer
};

void compare_gemm(const options& given, report& to) {
  const weight_type weights = given.weights == "int8"   ? weight_type::int8
                              : given.weights == "int4" ? weight_type::int4
                                                        : weight_type::grouped_int4;
  for (const gemm_shape& shape : shapes_of(given.shapes)) {
    shape_comparison comparison(given, shape, weights, to);
    for (const gemm_output output : {gemm_output::s32, gemm_output::u8}) {
      comparison.run(output, false);
      if (shape.m == 1) {
        comparison.run(output, true);
      }
    }
  }
}

const registered_operation registered({"gemm", compare_gemm});

}  // namespace
}  // namespace intact_bench
