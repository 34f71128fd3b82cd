#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "compare/peer.hpp"
#include "layer.hpp"

// Who takes part in the comparison of gemm. A library is a source file that defines a constant of
// the type `registered_gemm_peer`.

namespace intact_bench {

enum class gemm_output { s32, u8 };

/// The outputs: the sums of a layer, or the codes that `scale` makes of them.
struct gemm_task {
  const layer& operands;
  const output_scale& scale;
  gemm_output output = gemm_output::s32;
  int threads = 1;
  std::size_t copies = 1;  ///< of the prepared weights, for measurements with weights that are in no cache
};

/// A library's way to compute a task. Everything that depends on the weights alone is done when it is constructed.
class gemm_program {
 public:
  gemm_program() = default;
  gemm_program(const gemm_program&) = delete;
  virtual ~gemm_program() = default;

  /// Computes all outputs with one of the copies of the weights.
  virtual void run(std::size_t copy) = 0;

  /// The outputs of the last run, M x N: sums, or codes in 0..255.
  virtual std::vector<std::int32_t> outputs() const = 0;

  /// Which of the library's functions it is, if there is a choice.
  virtual std::string method() const { return ""; }
};

using gemm_peer = peer<gemm_task, gemm_program>;
using registered_gemm_peer = registered_peer<gemm_task, gemm_program>;

}  // namespace intact_bench
