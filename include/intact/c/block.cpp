// A transformer block, from float weights to codes.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <span>
#include <vector>

#include "intact/build/block.hpp"
#include "intact/build/observe_block.hpp"
#include "intact/c/intact.h"
#include "intact/c/matrices.hpp"
#include "intact/c/recipe.hpp"
#include "intact/c/status.hpp"
#include "intact/dispatch/models.hpp"
#include "intact/types/workspace.hpp"

struct intact_block_scales {
  intact::block_calibration scales;
  intact::stream_codes stream;
};

/// Defined at the beginning of the memory that the caller gives.
struct intact_block {
  intact::block_parameters parameters;
  intact::block_shape shape;
  intact::stream_codes stream;
};

namespace intact {
inline namespace INTACT_UNIT {
namespace c {
namespace {

block_shape shape_of(const intact_block_shape& shape) {
  return {{.tokens = shape.tokens, .width = shape.width, .heads = shape.heads}, shape.hidden};
}

/// A float block of the caller's. Its arrays are looked at, not its numbers.
float_block_view float_block_of(const char* function, const intact_float_block* block) {
  const intact_float_block& from = object_at({function, "block"}, block);
  const index_t width = from.shape.width, hidden = from.shape.hidden;
  require_choice({function, "activation"}, from.activation, INTACT_HARD_SWISH);
  const auto norm = [&](const char* name, const intact_float_norm& layer) -> float_layernorm_view {
    return {array_at({function, name}, layer.weight, width), array_at({function, name}, layer.bias, width)};
  };
  const auto linear = [&](const char* name, const intact_float_linear& layer, index_t outputs,
                          index_t inputs) -> float_linear_view {
    require_pointer({function, name}, layer.weight);
    return {{layer.weight, outputs, inputs}, array_at({function, name}, layer.bias, outputs)};
  };
  return {.shape = shape_of(from.shape),
          .norm1 = norm("norm1", from.norm1),
          .qkv = linear("qkv", from.qkv, size_product(3, width), width),
          .proj = linear("proj", from.proj, width, width),
          .norm2 = norm("norm2", from.norm2),
          .fc1 = linear("fc1", from.fc1, hidden, width),
          .fc2 = linear("fc2", from.fc2, width, hidden),
          .epsilon = from.epsilon,
          .position = from.position,
          .activation = static_cast<activation_function>(from.activation)};
}

value_range range_of(const intact_range& range) {
  return {range.low, range.high};
}
intact_range range_of(const value_range& range) {
  return {.low = range.low, .high = range.high};
}

block_ranges ranges_of(const char* function, const intact_block_ranges& from) {
  const auto channels = [&](const char* name, const intact_range* ranges) {
    std::vector<value_range> all;
    for (const intact_range& range : array_at({function, name}, ranges, from.width)) {
      all.push_back(range_of(range));
    }
    return all;
  };
  return {.stream = channels("stream", from.stream),
          .norm1 = range_of(from.norm1),
          .qkv = range_of(from.qkv),
          .attention_logits = range_of(from.attention_logits),
          .context = range_of(from.context),
          .proj = range_of(from.proj),
          .add1 = channels("add1", from.add1),
          .norm2 = range_of(from.norm2),
          .fc1 = range_of(from.fc1),
          .activation = range_of(from.activation),
          .fc2 = range_of(from.fc2),
          .add2 = channels("add2", from.add2)};
}

/// Memory of a block: its handle, and its parameters.
struct block_pieces {
  intact_block* handle;
  std::byte* parameters;

  template <class Workspace>
  static block_pieces take(Workspace& memory, std::size_t parameter_bytes) {
    const index_t bytes =
        parameter_bytes > static_cast<std::size_t>(max_size) ? max_size : static_cast<index_t>(parameter_bytes);
    return {memory.template take<intact_block>(1), memory.template take<std::byte>(bytes)};
  }

  static std::size_t bytes(std::size_t parameter_bytes) {
    workspace_size size;
    take(size, parameter_bytes);
    return size.bytes();
  }
};

void require_sizes(const block_shape& shape) {
  require_at_least("block", "tokens", shape.attention.tokens, 1);
  require_at_least("block", "width", shape.attention.width, 1);
  require_at_least("block", "heads", shape.attention.heads, 1);
  require_at_least("block", "hidden", shape.hidden, 1);
}

intact_scale scale_of(const ptf_scale& scale) {
  return {.scale = scale.scale,
          .zero_point = scale.zero_point,
          .shift = scale.shift.data(),
          .channels = std::ssize(scale.shift)};
}

}  // namespace
}  // namespace c
}  // namespace INTACT_UNIT
}  // namespace intact

using namespace intact;
using namespace intact::c;

intact_status intact_observe_block(const intact_float_block* block, const intact_matrix* stream,
                                   intact_block_ranges* ranges) {
  constexpr const char* function = "intact_observe_block";
  return status_of([&] {
    intact_block_ranges& result = object_at({function, "ranges"}, ranges);
    const float_block_view from = float_block_of(function, block);
    const index_t width = from.shape.attention.width;
    const auto array = [&](const char* name, intact_range* to) { return array_at({function, name}, to, width); };
    const std::span<intact_range> streams[] = {array("stream", result.stream), array("add1", result.add1),
                                               array("add2", result.add2)};
    const block_ranges observed =
        observe_block(from, matrix_of<float>({function, "stream"}, object_at({function, "stream"}, stream)));
    const std::vector<value_range>* const channels[] = {&observed.stream, &observed.add1, &observed.add2};
    for (std::size_t i = 0; i < std::size(streams); ++i) {
      for (std::size_t c = 0; c < channels[i]->size(); ++c) {
        streams[i][c] = range_of((*channels[i])[c]);
      }
    }
    result = {.stream = result.stream,
              .add1 = result.add1,
              .add2 = result.add2,
              .width = width,
              .norm1 = range_of(observed.norm1),
              .qkv = range_of(observed.qkv),
              .attention_logits = range_of(observed.attention_logits),
              .context = range_of(observed.context),
              .proj = range_of(observed.proj),
              .norm2 = range_of(observed.norm2),
              .fc1 = range_of(observed.fc1),
              .activation = range_of(observed.activation),
              .fc2 = range_of(observed.fc2)};
  });
}

intact_status intact_calibrate_block(const intact_block_ranges* ranges, const intact_recipe* recipe,
                                     intact_block_scales** scales) {
  constexpr const char* function = "intact_calibrate_block";
  return status_of([&] {
    intact_block_scales*& result = object_at({function, "scales"}, scales);
    result = nullptr;
    const block_ranges from = ranges_of(function, object_at({function, "ranges"}, ranges));
    const quantization_recipe parts = recipe_of(function, recipe);
    result = new intact_block_scales{calibrate_block(from, parts), parts.stream};
  });
}

intact_status intact_free_block_scales(intact_block_scales* scales) {
  delete scales;
  return INTACT_OK;
}

intact_status intact_block_stream_scale(const intact_block_scales* scales, intact_stream_end end, intact_scale* scale) {
  constexpr const char* function = "intact_block_stream_scale";
  return status_of([&] {
    const intact_block_scales& from = object_at({function, "scales"}, scales);
    intact_scale& result = object_at({function, "scale"}, scale);
    require_choice({function, "end"}, end, INTACT_STREAM_LEAVES);
    const bool is_same = end == INTACT_STREAM_ENTERS || from.stream == stream_codes::s16;
    result = scale_of(is_same ? from.scales.stream : from.scales.tensors.add2);
  });
}

intact_status intact_set_block_stream_scale(intact_block_scales* scales, const intact_scale* scale) {
  constexpr const char* function = "intact_set_block_stream_scale";
  return status_of([&] {
    block_calibration& to = object_at({function, "scales"}, scales).scales;
    const intact_scale& from = object_at({function, "scale"}, scale);
    const std::span<const std::uint8_t> shift = array_at({function, "shift"}, from.shift, from.channels);
    to.stream = {.scale = from.scale, .zero_point = from.zero_point, .shift = {shift.begin(), shift.end()}};
  });
}

intact_status intact_fit_block_scales(const intact_float_block* block, intact_block_scales* scales,
                                      const intact_recipe* recipe, ptrdiff_t* raised) {
  constexpr const char* function = "intact_fit_block_scales";
  return status_of([&] {
    const float_block_view from = float_block_of(function, block);
    block_calibration& to = object_at({function, "scales"}, scales).scales;
    index_t& count = object_at({function, "raised"}, raised);
    count = std::ssize(fit_block_scales(from, to, recipe_of(function, recipe)));
  });
}

intact_status intact_block_bytes(const intact_block_shape* shape, const intact_recipe* recipe, size_t* bytes) {
  constexpr const char* function = "intact_block_bytes";
  return status_of([&] {
    const block_shape sizes = shape_of(object_at({function, "shape"}, shape));
    std::size_t& result = object_at({function, "bytes"}, bytes);
    require_sizes(sizes);
    result = block_pieces::bytes(block_memory_bytes(sizes, recipe_of(function, recipe)));
  });
}

intact_status intact_build_block(const intact_float_block* block, intact_block_scales* scales,
                                 const intact_recipe* recipe, const intact_workspace* memory,
                                 const intact_block** built) {
  constexpr const char* function = "intact_build_block";
  return status_of([&] {
    const intact_block*& result = object_at({function, "built"}, built);
    result = nullptr;
    const float_block_view from = float_block_of(function, block);
    block_calibration& calibration = object_at({function, "scales"}, scales).scales;
    const quantization_recipe parts = recipe_of(function, recipe);
    const intact_workspace& given = object_at({function, "memory"}, memory);
    require_sizes(from.shape);
    const std::size_t bytes = block_memory_bytes(from.shape, parts);
    workspace rest(given.memory, given.bytes);
    require_workspace("build_block", rest, block_pieces::bytes(bytes));
    const block_pieces mine = block_pieces::take(rest, bytes);
    const block_parameters parameters = build_block(from, calibration, parts, {mine.parameters, bytes});
    result = new (mine.handle) intact_block{parameters, from.shape, parts.stream};
  });
}

intact_status intact_block_workspace_bytes(const intact_block* block, ptrdiff_t batch, ptrdiff_t threads,
                                           size_t* bytes) {
  constexpr const char* function = "intact_block_workspace_bytes";
  return status_of([&] {
    const block_shape& shape = object_at({function, "block"}, block).shape;
    std::size_t& result = object_at({function, "bytes"}, bytes);
    require_at_least("block", "batch", batch, 0);
    require_at_least("block", "threads", threads, 1);
    result = block_workspace_bytes(shape, batch, threads);
  });
}

intact_status intact_run_block(const intact_block* block, const intact_matrix* stream, const intact_workspace* scratch,
                               const intact_executor* run) {
  constexpr const char* function = "intact_run_block";
  return status_of([&] {
    const intact_block& mine = object_at({function, "block"}, block);
    const intact_matrix& codes = object_at({function, "stream"}, stream);
    const intact_workspace& memory = object_at({function, "workspace"}, scratch);
    const executor_of_caller executor(function, run);
    const auto run_on = [&](const auto& view) {
      dispatch::block(view, mine.parameters, mine.shape, workspace(memory.memory, memory.bytes), executor);
    };
    if (mine.stream == stream_codes::s16) {
      run_on(matrix_of<std::int16_t>({function, "stream"}, codes));
    } else {
      run_on(matrix_of<std::uint8_t>({function, "stream"}, codes));
    }
  });
}
