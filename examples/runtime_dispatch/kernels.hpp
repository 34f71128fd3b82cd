#pragma once

#include <cstdint>

#include "intact/kernel/gemm.hpp"
#include "intact/stage/output_stage.hpp"

namespace engine {

/// The engine's layers: u8 codes times s8 or s4 weights, to u8 codes. Plain data, the same in every translation unit.
using requantize = intact::requantize<std::uint8_t>;
using layer_s8 = intact::gemm_operands<std::uint8_t, std::int8_t, requantize>;
using layer_s4 = intact::gemm_operands<std::uint8_t, intact::s4, requantize>;

/// Functions that each instruction set has its own version of. `begin` and `end` count units of work, see kernel::gemm.
struct kernel_table {
  void (*linear_s8)(const layer_s8& layer, intact::index_t begin, intact::index_t end) noexcept;
  void (*linear_s4)(const layer_s4& layer, intact::index_t begin, intact::index_t end) noexcept;
};

/// The kernels of an instruction set; kernels.cpp defines them. Not to be called where the processor does not offer it.
template <class Isa>
const kernel_table& kernels_of();

/// Kernels that run on this processor, and their name.
struct chosen_kernels {
  const char* isa;
  const kernel_table& kernels;
};

/// The most capable ones, or those that the environment variable INTACT_ISA names. Throws std::runtime_error if it
/// names none, or some that the processor does not offer.
chosen_kernels choose_kernels();

}  // namespace engine
