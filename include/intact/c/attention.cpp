// Log-Int-Softmax, and attention between its projections.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <variant>

#include "intact/build/recipe.hpp"
#include "intact/build/scale.hpp"
#include "intact/build/table.hpp"
#include "intact/build/weights.hpp"
#include "intact/c/intact.h"
#include "intact/c/matrices.hpp"
#include "intact/c/recipe.hpp"
#include "intact/c/status.hpp"
#include "intact/dispatch/models.hpp"
#include "intact/dispatch/operations.hpp"
#include "intact/types/workspace.hpp"

namespace intact {
inline namespace INTACT_UNIT {
namespace c {
namespace {

static_assert(softmax_distances == INTACT_SOFTMAX_TABLE_SIZE && attention_code_weights == INTACT_CODE_WEIGHTS);

key_mask mask_of(const char* function, const intact_const_matrix* mask) {
  return mask == nullptr ? key_mask{} : key_mask{matrix_of<std::uint8_t>({function, "mask"}, *mask)};
}

/// Computes codes of a format that is stored in bytes.
template <attention_code Format, log2_rounding Rounding>
void run_log_softmax(const char* function, matrix_view<const std::uint8_t> logits,
                     const intact_log_softmax_stage& stage, const intact_matrix& codes,
                     const executor_of_caller& executor) {
  const exp_table<std::uint64_t> table =
      array_at({function, "exponential"}, stage.exponential, INTACT_SOFTMAX_TABLE_SIZE);
  if constexpr (Format == attention_code::u4_clipped) {
    if (stage.mask != nullptr) [[unlikely]] {
      contract_failed("%s: there is a mask; INTACT_CODE_U4_CLIPPED has no code for masked keys", function);
    }
    if (codes.type != INTACT_U4) [[unlikely]] {
      refuse_type<u4>({function, "codes"}, codes.type);
    }
    const packed_view<u4, std::uint8_t> to(static_cast<std::uint8_t*>(codes.data), codes.rows, codes.columns,
                                           codes.stride);
    dispatch::log_softmax<Format, Rounding>(logits, table, to, executor);
  } else {
    const auto to = matrix_of<std::uint8_t>({function, "codes"}, codes);
    if (stage.mask == nullptr) {
      dispatch::log_softmax<Format, Rounding>(logits, table, to, executor);
    } else {
      dispatch::log_softmax<Format, Rounding>(logits, table, mask_of(function, stage.mask), to, executor);
    }
  }
}

/// Calls run<Format, Rounding>() with those of a stage.
template <class Run>
void visit_formats(const char* function, const intact_log_softmax_stage& stage, const Run& run) {
  require_choice({function, "codes"}, stage.codes, INTACT_CODE_U8_FULL);
  require_choice({function, "rounding"}, stage.rounding, INTACT_ROUND_LOG);
  const auto visit_rounding = [&]<attention_code Format>() {
    if (stage.rounding == INTACT_ROUND_RATIO) {
      run.template operator()<Format, log2_rounding::round_ratio>();
    } else {
      run.template operator()<Format, log2_rounding::round_log>();
    }
  };
  if (stage.codes == INTACT_CODE_U8_MASKED) {
    visit_rounding.template operator()<attention_code::u8_masked>();
  } else if (stage.codes == INTACT_CODE_U4_CLIPPED) {
    visit_rounding.template operator()<attention_code::u4_clipped>();
  } else {
    visit_rounding.template operator()<attention_code::u8_full>();
  }
}

/// Memory of the tables of attention.
struct table_memory {
  std::uint64_t* exponential;
  std::uint8_t* table;
  std::uint8_t* code_weights;

  template <class Workspace>
  static table_memory take(Workspace& memory) {
    return {.exponential = memory.template take<std::uint64_t>(softmax_distances),
            .table = memory.template take<std::uint8_t>(softmax_distances),
            .code_weights = memory.template take<std::uint8_t>(attention_code_weights)};
  }

  static std::size_t bytes() {
    workspace_size size;
    take(size);
    return size.bytes();
  }
};

exp_values<std::uint64_t> exponential_table(float scale, index_t keys, exponential_kind kind) {
  if (kind == exponential_kind::i_exp) {
    return i_exp_table(scale, keys);
  }
  const exp_values<std::uint32_t> exact = exact_exp_table(static_cast<double>(scale), keys);
  exp_values<std::uint64_t> table;
  std::copy(exact.begin(), exact.end(), table.begin());
  return table;
}

/// The table of attention relative to the maximum.
exp_values<std::uint8_t> relative_table(const quantization_recipe& recipe, double scale) {
  if (recipe.attention == attention_kind::weights) {
    return attention_weight_table(scale);
  }
  if (recipe.attention == attention_kind::weight_codes) {
    return weight_code_table(scale, geometric_code_weights);
  }
  return recipe.probabilities == attention_code::u4_clipped ? max_relative_code_table<attention_code::u4_clipped>(scale)
                                                            : max_relative_code_table<attention_code::u8_masked>(scale);
}

/// A scale of u8 codes, as a real number.
double step_of(const char* function, const char* argument, const intact_scale& scale) {
  if (!(scale.scale > 0) || !std::isfinite(scale.scale) || scale.shift != nullptr || scale.zero_point < 0 ||
      scale.zero_point > 255) [[unlikely]] {
    contract_failed(
        "%s: %s has the scale %g, the zero point %d and %s shifts; the scale must be above 0 and finite, the zero "
        "point "
        "in 0..255, and there must be no shifts",
        function, argument, static_cast<double>(scale.scale), scale.zero_point, scale.shift == nullptr ? "no" : "some");
  }
  return static_cast<double>(scale.scale);
}

intact_tensor_scale scale_of(const tensor_scale& scale) {
  return {.offset = scale.offset, .multiplier = scale.multiplier, .shift = scale.shift, .left_shift = scale.left_shift};
}

tensor_scale scale_of(const intact_tensor_scale& scale) {
  return {.multiplier = scale.multiplier, .offset = scale.offset, .shift = scale.shift, .left_shift = scale.left_shift};
}

/// The parameters but for their tables.
intact_attention_parameters build_parameters(const char* function, const intact_attention_spec& spec,
                                             const quantization_recipe& recipe) {
  require_at_least("attention", "heads", spec.heads, 1);
  require_between("attention", "head size", spec.head_size, 1, gemm_max_depth_u8_u8);
  require_between("attention", "keys", spec.keys, 0, log_softmax_max_keys);
  const double q = step_of(function, "q", spec.q), k = step_of(function, "k", spec.k),
               v = step_of(function, "v", spec.v), logits = step_of(function, "logits", spec.logits),
               context = step_of(function, "context", spec.context);
  const auto size = static_cast<double>(spec.head_size);
  realized_scale exact;
  intact_attention_parameters p{
      .heads = spec.heads,
      .logits = scale_of(build_scale(
          attention_logits_spec(q * k / std::sqrt(size) / logits, spec.logits.zero_point, spec.head_size), exact)),
      .kind = spec.recipe->attention,
      .codes = spec.recipe->probabilities,
      .rounding = spec.recipe->rounding,
      .exponential = nullptr,
      .table = nullptr,
      .code_weights = nullptr,
      .normalize_rows = recipe.normalize_rows ? 1 : 0,
      .context = {},
      .divisor = 0,
      .divisor_zero_point = 0};
  if (recipe.normalize_rows) {
    const row_divisor divisor = build_row_divisor(v / context, spec.context.zero_point);
    p.divisor = divisor.factor;
    p.divisor_zero_point = divisor.zero_point;
  } else {
    p.context = scale_of(build_scale(attention_context_spec(v / context, spec.context.zero_point, spec.keys), exact));
  }
  return p;
}

softmax_parameters softmax_of(const char* function, const intact_attention_parameters& p) {
  require_choice({function, "kind"}, p.kind, INTACT_WEIGHT_CODES);
  require_choice({function, "codes"}, p.codes, INTACT_CODE_U8_FULL);
  require_choice({function, "rounding"}, p.rounding, INTACT_ROUND_LOG);
  require_choice({function, "normalize_rows"}, p.normalize_rows, 1);
  const auto codes = static_cast<attention_code>(p.codes);
  const auto table = [&] { return array_at({function, "table"}, p.table, INTACT_SOFTMAX_TABLE_SIZE); };
  softmax_parameters softmax;
  if (p.kind == INTACT_LOG2_OF_SUM) {
    softmax.weights =
        log2_of_sum{.exponential = array_at({function, "exponential"}, p.exponential, INTACT_SOFTMAX_TABLE_SIZE),
                    .codes = codes,
                    .rounding = static_cast<log2_rounding>(p.rounding)};
  } else if (p.kind == INTACT_LOG2_OF_MAX) {
    softmax.weights = log2_of_max{table(), codes};
  } else if (p.kind == INTACT_WEIGHTS) {
    softmax.weights = weights_of_max{table()};
  } else {
    softmax.weights =
        weight_codes_of_max{table(), array_at({function, "code_weights"}, p.code_weights, INTACT_CODE_WEIGHTS)};
  }
  if (p.normalize_rows == 1) {
    softmax.context = row_divisor{p.divisor, p.divisor_zero_point};
  } else {
    softmax.context = scale_of(p.context);
  }
  return softmax;
}

}  // namespace
}  // namespace c
}  // namespace INTACT_UNIT
}  // namespace intact

using namespace intact;
using namespace intact::c;

intact_status intact_build_exponential(float scale, ptrdiff_t keys, intact_exponential kind, uint64_t* table) {
  constexpr const char* function = "intact_build_exponential";
  return status_of([&] {
    require_choice({function, "kind"}, kind, INTACT_EXACT_EXP);
    const std::span<std::uint64_t> result = array_at({function, "table"}, table, INTACT_SOFTMAX_TABLE_SIZE);
    const auto built = exponential_table(scale, keys, static_cast<exponential_kind>(kind));
    std::copy(built.begin(), built.end(), result.begin());
  });
}

intact_status intact_log_softmax(const intact_const_matrix* logits, const intact_log_softmax_stage* stage,
                                 const intact_matrix* codes, const intact_executor* run) {
  constexpr const char* function = "intact_log_softmax";
  return status_of([&] {
    const auto from = matrix_of<std::uint8_t>({function, "logits"}, object_at({function, "logits"}, logits));
    const intact_log_softmax_stage& how = object_at({function, "stage"}, stage);
    const intact_matrix& to = object_at({function, "codes"}, codes);
    const executor_of_caller executor(function, run);
    visit_formats(function, how, [&]<attention_code Format, log2_rounding Rounding>() {
      run_log_softmax<Format, Rounding>(function, from, how, to, executor);
    });
  });
}

intact_status intact_attention_tables_bytes(size_t* bytes) {
  return status_of([&] { object_at({"intact_attention_tables_bytes", "bytes"}, bytes) = table_memory::bytes(); });
}

intact_status intact_build_attention(const intact_attention_spec* spec, void* memory, size_t bytes,
                                     intact_attention_parameters* parameters) {
  constexpr const char* function = "intact_build_attention";
  return status_of([&] {
    intact_attention_parameters& result = object_at({function, "parameters"}, parameters);
    const intact_attention_spec& from = object_at({function, "spec"}, spec);
    require_pointer({function, "memory"}, memory);
    const quantization_recipe recipe = recipe_of(function, from.recipe);
    workspace rest(memory, bytes);
    require_workspace("build_attention", rest, table_memory::bytes());
    intact_attention_parameters p = build_parameters(function, from, recipe);
    const table_memory tables = table_memory::take(rest);
    if (recipe.attention == attention_kind::log2_of_sum) {
      const auto built = exponential_table(from.logits.scale, from.keys, recipe.exponential);
      p.exponential = tables.exponential;
      std::copy(built.begin(), built.end(), tables.exponential);
    } else {
      const auto built = relative_table(recipe, static_cast<double>(from.logits.scale));
      p.table = tables.table;
      std::copy(built.begin(), built.end(), tables.table);
    }
    if (recipe.attention == attention_kind::weight_codes) {
      p.code_weights = tables.code_weights;
      std::copy(geometric_code_weights.begin(), geometric_code_weights.end(), tables.code_weights);
    }
    result = p;
  });
}

intact_status intact_attention_workspace_bytes(ptrdiff_t keys, ptrdiff_t heads, ptrdiff_t head_size, ptrdiff_t threads,
                                               size_t* bytes) {
  return status_of([&] {
    std::size_t& result = object_at({"intact_attention_workspace_bytes", "bytes"}, bytes);
    require_at_least("attention", "keys", keys, 0);
    require_at_least("attention", "heads", heads, 1);
    require_at_least("attention", "head size", head_size, 0);
    require_at_least("attention", "threads", threads, 1);
    result = attention_workspace_bytes(keys, heads, head_size, threads);
  });
}

intact_status intact_attention(const intact_attention_operands* operands, const intact_attention_parameters* parameters,
                               const intact_matrix* y, const intact_workspace* scratch, const intact_executor* run) {
  constexpr const char* function = "intact_attention";
  return status_of([&] {
    const intact_attention_operands& from = object_at({function, "operands"}, operands);
    const intact_attention_parameters& p = object_at({function, "parameters"}, parameters);
    const intact_workspace& memory = object_at({function, "workspace"}, scratch);
    const auto codes = [&](const char* argument, const intact_const_matrix& m) {
      return matrix_of<std::uint8_t>({function, argument}, m);
    };
    dispatch::attention(
        attention_operands{.q = {codes("q", from.q), from.q_zero_point},
                           .k = {codes("k", from.k), from.k_zero_point},
                           .v = {codes("v", from.v), from.v_zero_point},
                           .mask = mask_of(function, from.mask)},
        multihead_parameters{.heads = p.heads, .logits = scale_of(p.logits), .softmax = softmax_of(function, p)},
        matrix_of<std::uint8_t>({function, "y"}, object_at({function, "y"}, y)), workspace(memory.memory, memory.bytes),
        executor_of_caller(function, run));
  });
}
