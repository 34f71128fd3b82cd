#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "hashes.hpp"
#include "intact/build/recipe.hpp"
#include "intact/model/attention.hpp"
#include "intact/model/swin.hpp"
#include "intact/model/vit.hpp"
#include "intact/reference/model/attention.hpp"
#include "intact/reference/model/block.hpp"
#include "intact/reference/model/swin.hpp"
#include "intact/reference/model/vit.hpp"
#include "parameters.hpp"

// Blocks and tiny models in the paper's and in the precise recipe: every tensor of the models of reference/, and the
// outputs of those on kernels.

namespace hashes {
namespace {

enum class weight_kind { s8, s4, grouped_s4 };

/// The names of the lines of a model on kernels: two, as the committed lines have them.
constexpr const char* names_of_kernels[] = {"/fused", "/packed"};

/// The parts of a model.
struct recipe {
  std::string name;
  attention_kind kind = attention_kind::log2_of_sum;
  attention_code probabilities = attention_code::u8_masked;
  log2_rounding rounding = log2_rounding::round_ratio;
  stream_codes stream = stream_codes::u8;
  weight_kind weights = weight_kind::s8;
  bool normalize = false;

  bool wide() const { return stream == stream_codes::s16; }
};

/// Prints the line of every tensor of a model of reference/.
struct print_tensors {
  std::string model;

  template <class View>
  void operator()(const trace_site& site, const View& tensor) const {
    std::string name = model + "/" + std::string(site.name);
    for (const index_t part : {site.block, site.head, site.window}) {
      name += part < 0 ? "" : "/" + std::to_string(part);
    }
    report(name, tensor);
  }
};

class random_layers {
 public:
  random_layers(recipe of_model, std::uint64_t seed) : recipe_(std::move(of_model)), memory_(seed) {}

  random_memory& memory() { return memory_; }

  /// Random weights, shown to use(weights) before they are packed.
  template <class Use>
  any_packed_weights weights(index_t rows, index_t columns, const Use& use) {
    const auto pack = [&](const auto& made) -> any_packed_weights {
      use(made);
      return memory_.packed(made);
    };
    switch (recipe_.weights) {
      case weight_kind::s4:
        return pack(memory_.random_s4(rows, columns));
      case weight_kind::grouped_s4:
        return pack(memory_.random_grouped_s4(rows, columns, 16));
      default:
        return pack(memory_.random_matrix<std::int8_t>(rows, columns, -128, 127));
    }
  }

  template <class Weights>
  channel_scale scale(const Weights& layer, const integer_spread& y) {
    const std::int64_t deviation = (recipe_.weights == weight_kind::s8   ? u8_s8_deviation
                                    : recipe_.weights == weight_kind::s4 ? u8_s4_deviation
                                                                         : 4 * u8_s4_deviation) /
                                   3;  // codes of a LayerNorm deviate less than uniform ones
    return channel_scale_of(memory_, layer, deviation, y);
  }

  linear_parameters linear(index_t outputs, index_t inputs, const integer_spread& y) {
    linear_parameters made;
    made.weights = weights(outputs, inputs, [&](const auto& layer) { made.scale = scale(layer, y); });
    return made;
  }

  /// A layer that adds to the residual stream.
  linear_parameters branch(index_t outputs, index_t inputs) {
    return linear(outputs, inputs, recipe_.wide() ? integer_spread{0, 5000} : integer_spread{});
  }

  layernorm_parameters layernorm(index_t width) { return layernorm_of(memory_, width, recipe_.wide() ? 0 : 120); }
  add_parameters addition(index_t width) { return recipe_.wide() ? add_parameters{} : add_of(memory_, width); }

  softmax_parameters softmax() {
    softmax_parameters made;
    if (recipe_.kind == attention_kind::log2_of_sum) {
      made.weights = log2_of_sum{exponential_of<std::uint64_t>(memory_, 40), recipe_.probabilities, recipe_.rounding};
    } else if (recipe_.kind == attention_kind::log2_of_max) {
      const int last = recipe_.probabilities == attention_code::u4_clipped ? 15 : 16;
      made.weights = log2_of_max{log2_codes(memory_, last), recipe_.probabilities};
    } else if (recipe_.kind == attention_kind::weights) {
      made.weights = weights_of_max{weights_by_distance(memory_)};
    } else {
      const auto codes = memory_.array<std::uint8_t>(256, [](index_t d) { return std::min<index_t>(d / 6, 15); });
      made.weights =
          weight_codes_of_max{codes, memory_.array<std::uint8_t>(16, [](index_t code) { return 255 - 17 * code; })};
    }
    if (recipe_.normalize) {
      made.context = row_divisor{600'000'000, 125};
    } else {
      made.context = scale_of(std::int64_t{1} << 20, {128, 50});
    }
    return made;
  }

  mlp_gate gate(const block_shape& shape) {
    if (!shape.gated) {
      return no_gate{};
    }
    return gate_parameters{.up = linear(shape.hidden, shape.attention.width, {}),
                           .activation_zero_point = 111,
                           .up_zero_point = 135,
                           .product = scale_of(u8_u8_deviation, {})};
  }

  qk_norms norms(const attention_shape& shape) {
    if (!shape.qk_norm) {
      return no_qk_norms{};
    }
    return qk_norm_parameters{.q = layernorm_of(memory_, shape.head_size(), 128),
                              .k = layernorm_of(memory_, shape.head_size(), 128)};
  }

  qk_rotation rotation(const attention_shape& shape) {
    if (!shape.rotary_prefix) {
      return no_qk_rotation{};
    }
    const index_t rows = shape.tokens - *shape.rotary_prefix, pairs = shape.head_size() / 2;
    return rotation_parameters{.cosine = memory_.random_matrix<std::int16_t>(rows, pairs, -16384, 16384),
                               .sine = memory_.random_matrix<std::int16_t>(rows, pairs, -16384, 16384)};
  }

  block_parameters block(const block_shape& shape) {
    const index_t width = shape.attention.width;
    return {.norm1 = layernorm(width),
            .attention = {.qkv = linear(3 * width, width, {}),
                          .zero_points = {128, 128, 128},
                          .logits = scale_of(deviation_of_sum(u8_u8_deviation / 3, shape.attention.head_size()), {}),
                          .softmax = softmax(),
                          .proj = branch(width, width),
                          .norms = norms(shape.attention),
                          .rotation = rotation(shape.attention)},
            .add1 = addition(width),
            .norm2 = layernorm(width),
            .mlp = {.fc1 = linear(shape.hidden, width, {2048, 900}),
                    .table = memory_.random_array<std::uint8_t>(activation_table_size_12, 0, 255),
                    .fc2 = branch(width, shape.hidden),
                    .gate = gate(shape)},
            .add2 = addition(width)};
  }

  vit_parameters vit(const vit_shape& shape) {
    vit_parameters made;
    made.patch = branch(shape.width, shape.patch_values());
    if (recipe_.wide()) {
      made.token_addend = memory_.random_matrix<std::int16_t>(shape.tokens(), shape.width, -12'000, 12'000);
    } else {
      made.pixel_table = memory_.random_matrix<std::uint8_t>(shape.channels, 256, 0, 255);
      made.embedding = {.table = memory_.random_array<std::uint8_t>(256, 0, 255),
                        .class_token = memory_.random_matrix<std::uint8_t>(shape.prefix_tokens(), shape.width, 0, 255),
                        .positions = memory_.random_matrix<std::uint8_t>(shape.tokens(), shape.width, 0, 255),
                        .add_positions = add_of(memory_, shape.width)};
    }
    made.blocks = memory_.array<block_parameters>(shape.depth, [&](index_t) { return block(shape.block()); });
    made.norm =
        layernorm_of(memory_, shape.width, recipe_.wide() || shape.pooling == vit_pooling::normalized_mean ? 0 : 120);
    if (shape.pooling == vit_pooling::normalized_mean) {
      made.mean = mean_of_stream{
          {memory_.random_array<std::int32_t>(shape.width, 500'000'000, 900'000'000),
           memory_.random_array<std::int64_t>(shape.width, -(std::int64_t{900} << 31), std::int64_t{900} << 31), 0,
           recipe_.wide() ? 1 : 6}};
    } else if (shape.pools_normalized()) {
      made.mean = mean_of_normalized{
          {static_cast<std::int32_t>((std::int64_t{1} << 34) / (8 * shape.patches())), std::int64_t{1} << 34, 3, 2}};
    }
    if (shape.classes != 0) {
      add_head(made, shape.classes, shape.head_features());
    }
    return made;
  }

  /// A LayerNorm before the blocks, whose codes have the zero point 128.
  pre_norm_parameters norm_pre(const vit_shape& shape) {
    pre_norm_parameters made{.norm = layernorm(shape.width)};
    if (recipe_.wide()) {
      made.stream = {
          memory_.random_array<std::int32_t>(shape.width, 1'000'000'000, 1'700'000'000),
          memory_.random_array<std::int64_t>(shape.width, -(std::int64_t{45'000} << 31), -(std::int64_t{40'000} << 31)),
          0, 9};
    }
    return made;
  }

  swin_parameters swin(const swin_shape& shape) {
    const index_t last = shape.stages - 1, first_width = shape.of(0).width;
    swin_parameters made;
    made.pixel_table = memory_.random_matrix<std::uint8_t>(shape.channels, 256, 0, 255);
    made.patch = linear(first_width, shape.patch_values(), {});
    made.patch_norm = layernorm_of(memory_, first_width, 120);
    made.tokens = {1'700'000'000, -(std::int64_t{9'000} << 31), 0, 7};
    made.stages = memory_.array<swin_stage_parameters>(shape.stages, [&](index_t s) { return stage(shape, s); });
    made.norm = layernorm(shape.of(last).width);
    made.pool = {static_cast<std::int32_t>((std::int64_t{1} << 34) / (8 * shape.tokens_of(last))),
                 std::int64_t{1} << 34, 3, 2};
    add_head(made, shape.classes, shape.of(last).width);
    return made;
  }

 private:
  template <class Model>
  void add_head(Model& model, index_t classes, index_t inputs) {
    model.head = weights(classes, inputs, [&](const auto& layer) {
      model.logits = scale(layer, {0, 256 * 60});
      model.logits_u8 = scale(layer, {});
    });
  }

  swin_stage_parameters stage(const swin_shape& shape, index_t s) {
    const auto block_at = [&](index_t position) {
      const attention_shape window = shape.block(s, position).attention.per_window();
      return swin_block_parameters{
          .block = block(shape.block(s, position).per_window()),
          .norm1_zero_point = 133,
          .position_bias = memory_.random_matrix<std::uint8_t>(window.heads * window.tokens, window.tokens, 0, 255),
          .add_bias = add_of(memory_, window.tokens)};
    };
    swin_stage_parameters made{.blocks = memory_.array<swin_block_parameters>(shape.of(s).depth, block_at)};
    if (s + 1 < shape.stages) {
      const index_t merged = 4 * shape.of(s).width;
      made.merging = {layernorm(merged), linear(shape.of(s + 1).width, merged,
                                                recipe_.wide() ? integer_spread{0, 9000} : integer_spread{})};
    }
    return made;
  }

  recipe recipe_;
  random_memory memory_;
};

constexpr block_shape shape_of_block{.attention = {.tokens = 21, .width = 48, .heads = 3}, .hidden = 80};

template <class Code>
void run_block(const recipe& of_block, std::uint64_t seed, const block_shape& shape = shape_of_block) {
  random_layers build(of_block, seed);
  const block_parameters p = build.block(shape);
  const std::int64_t low = of_block.wide() ? -12'000 : 0, high = of_block.wide() ? 12'000 : 255;
  const matrix<Code> x(21, 48, low, high, build.memory().random);

  matrix<Code> expected = x;
  std::vector<std::byte> scratch(reference::block_workspace_bytes(shape));
  const std::string name = "block/" + of_block.name;
  reference::block(expected.view(), p, shape, workspace(scratch.data(), scratch.size()), print_tensors{name});
  scratch.resize(block_workspace_bytes(shape));
  matrix<Code> found = x;
  block<tested_isa>(found.view(), p, shape, workspace(scratch.data(), scratch.size()));
  for (const char* const line : names_of_kernels) {
    report(name + line, found.view(), expected.view());
  }
}

/// Attention between its projections with a causal mask, from keys and values that are prepared or not; queries, keys
/// and values have zero points of their own.
void run_attention(const recipe& of_block, std::uint64_t seed) {
  constexpr index_t queries = 19, keys = 33, heads = 3, size = 16, width = heads * size;
  random_layers build(of_block, seed);
  const block_parameters block =
      build.block({.attention = {.tokens = keys, .width = width, .heads = heads}, .hidden = 8});
  const multihead_parameters p = block.attention.multihead(heads);
  const matrix<std::uint8_t> q(queries, width, 0, 255, build.memory().random),
      k(keys, width, 0, 255, build.memory().random), v(keys, width, 0, 255, build.memory().random);
  matrix<std::uint8_t> visible(queries, keys), expected(queries, width), found(queries, width);
  causal_mask(visible.view(), 5);
  const attention_operands x{{q.view(), 120}, {k.view(), 7}, {v.view(), 255}, {visible.view()}};

  std::vector<std::byte> scratch(reference::attention_workspace_bytes(queries, keys));
  reference::attention(x, p, expected.view(), workspace(scratch.data(), scratch.size()));
  scratch.resize(attention_workspace_bytes(keys, heads, size, 1));
  attention<tested_isa>(x, p, found.view(), workspace(scratch.data(), scratch.size()));
  report("attention/masked/" + of_block.name, found.view(), expected.view());

  std::vector<std::byte> prepared(prepared_keys_bytes(keys, heads, size));
  const prepared_keys_values kv =
      prepare_keys_values<tested_isa>(x.k, x.v, heads, 120, workspace(prepared.data(), prepared.size()));
  attention<tested_isa>(prepared_operands{x.q, kv, x.mask}, p, found.view(), workspace(scratch.data(), scratch.size()));
  report("attention/masked_and_prepared/" + of_block.name, found.view(), expected.view());
}

void run_blocks() {
  constexpr auto root = log2_rounding::round_log;
  constexpr attention_kind of_max = attention_kind::log2_of_max, weights = attention_kind::weights;
  run_block<std::uint8_t>({.name = "paper"}, 10);
  run_block<std::uint8_t>(
      {.name = "paper_clip", .probabilities = attention_code::u4_clipped, .weights = weight_kind::grouped_s4}, 11);
  run_block<std::uint8_t>({.name = "paper_888", .probabilities = attention_code::u8_full, .weights = weight_kind::s4},
                          12);
  run_block<std::uint8_t>({.name = "paper_normalized", .rounding = root, .normalize = true}, 13);
  const recipe precise{
      .name = "precise", .kind = of_max, .rounding = root, .stream = stream_codes::s16, .normalize = true};
  recipe clip = precise, bytes = precise;
  clip.name = "precise_clip";
  clip.probabilities = attention_code::u4_clipped;
  clip.weights = weight_kind::s4;
  bytes.name = "precise_888";
  bytes.kind = weights;
  bytes.weights = weight_kind::grouped_s4;
  run_block<std::int16_t>(precise, 14);
  run_block<std::int16_t>(clip, 15);
  run_block<std::int16_t>(bytes, 16);
  run_attention({.name = "paper"}, 17);
  run_attention({.name = "paper_888", .probabilities = attention_code::u8_full}, 18);
  run_attention(precise, 19);
  run_attention(bytes, 24);
}

/// A model's image, and memory for its outputs.
struct model_run {
  image_view image;
  matrix<std::int32_t> logits, expected;
  matrix<std::uint8_t> logits_u8, expected_u8;
  std::vector<std::byte> scratch;

  template <class Shape>
  model_run(random_memory& memory, const Shape& shape)
      : image(interleaved_image(
            memory.random_array<std::uint8_t>(shape.channels * shape.height * shape.image_width, 0, 255).data(),
            shape.channels, shape.height, shape.image_width)),
        logits(1, shape.classes),
        expected(1, shape.classes),
        logits_u8(1, shape.classes),
        expected_u8(1, shape.classes) {}

  workspace memory(std::size_t bytes) {
    scratch.resize(bytes);
    return {scratch.data(), bytes};
  }

  void report_outputs(const std::string& name) {
    report(name + "/logits", logits.view(), expected.view());
    report(name + "/logits_u8", logits_u8.view(), expected_u8.view());
  }
};

vit_shape shape_of_vit(const recipe& of_model) {
  return {.channels = 3,
          .height = 16,
          .image_width = 24,
          .patch = 8,
          .width = 32,
          .heads = 2,
          .hidden = 48,
          .depth = 2,
          .classes = 10,
          .stream = of_model.stream};
}

void run_vit(const recipe& of_model, const vit_shape& shape, std::uint64_t seed) {
  random_layers build(of_model, seed);
  const vit_parameters p = build.vit(shape);
  model_run run(build.memory(), shape);
  const std::string name = "vit/" + of_model.name;
  reference::vit(run.image, p, shape, {run.expected.view(), run.expected_u8.view()},
                 run.memory(reference::vit_workspace_bytes(shape)), print_tensors{name});
  vit<tested_isa>({&run.image, 1}, p, shape, {run.logits.view(), run.logits_u8.view()},
                  run.memory(vit_workspace_bytes(shape)));
  for (const char* const line : names_of_kernels) {
    run.report_outputs(name + line);
  }
}

/// The features of a model without a head, in whose blocks a LayerNorm goes first, with patches that are no squares.
void run_vit_features(const recipe& of_model, vit_pooling pooling, std::uint64_t seed) {
  vit_shape shape = shape_of_vit(of_model);
  shape.patch = patch_size(8, 6);
  shape.pooling = pooling;
  shape.classes = 0;
  random_layers build(of_model, seed);
  vit_parameters p = build.vit(shape);
  p.norm_pre = build.norm_pre(shape);
  model_run run(build.memory(), shape);
  const std::string name = "vit_features/" + of_model.name;
  matrix<std::uint8_t> expected(1, shape.head_features()), found(1, shape.head_features());
  reference::vit_features(run.image, p, shape, expected.view(), run.memory(reference::vit_workspace_bytes(shape)),
                          print_tensors{name});
  vit_features<tested_isa>({&run.image, 1}, p, shape, found.view(), run.memory(vit_workspace_bytes(shape)));
  report(name + "/features", found.view(), expected.view());
}

swin_shape shape_of_swin(const recipe& of_model) {
  swin_shape shape{
      .channels = 3, .height = 36, .image_width = 28, .patch = 4, .stages = 2, .classes = 7, .stream = of_model.stream};
  shape.stage[0] = {.width = 16, .heads = 2, .hidden = 24, .depth = 2, .window = 4};
  shape.stage[1] = {.width = 24, .heads = 3, .hidden = 40, .depth = 2, .window = 3};
  return shape;
}

void run_swin(const recipe& of_model, std::uint64_t seed) {
  const swin_shape shape = shape_of_swin(of_model);
  random_layers build(of_model, seed);
  const swin_parameters p = build.swin(shape);
  model_run run(build.memory(), shape);
  const std::string name = "swin/" + of_model.name;
  reference::swin(run.image, p, shape, {run.expected.view(), run.expected_u8.view()},
                  run.memory(reference::swin_workspace_bytes(shape)), print_tensors{name});
  swin<tested_isa>({&run.image, 1}, p, shape, {run.logits.view(), run.logits_u8.view()},
                   run.memory(swin_workspace_bytes(shape)));
  for (const char* const line : names_of_kernels) {
    run.report_outputs(name + line);
  }
}

/// The residual streams that leave the stages.
template <class Code>
void run_swin_features(const recipe& of_model, std::uint64_t seed) {
  const swin_shape shape = shape_of_swin(of_model);
  random_layers build(of_model, seed);
  const swin_parameters p = build.swin(shape);
  model_run run(build.memory(), shape);
  std::vector<matrix<Code>> expected, found;
  std::vector<matrix_view<Code>> expected_maps, maps;
  for (index_t s = 0; s < shape.stages; ++s) {
    expected.emplace_back(shape.tokens_of(s), shape.of(s).width);
    found.emplace_back(shape.tokens_of(s), shape.of(s).width);
    expected_maps.push_back(expected.back().view());
    maps.push_back(found.back().view());
  }
  reference::swin_features<Code>(run.image, p, shape, expected_maps,
                                 run.memory(reference::swin_features_workspace_bytes<Code>(shape)));
  swin_features<tested_isa, all_weight_kinds, Code>({&run.image, 1}, p, shape, maps,
                                                    run.memory(swin_features_workspace_bytes<Code>(shape)));
  for (std::size_t s = 0; s < maps.size(); ++s) {
    report("swin_features/" + of_model.name + "/" + std::to_string(s), maps[s], expected_maps[s]);
  }
}

/// The recipes of whole models.
const recipe paper{.name = "paper"};
const recipe precise{.name = "precise",
                     .kind = attention_kind::log2_of_max,
                     .rounding = log2_rounding::round_log,
                     .stream = stream_codes::s16,
                     .weights = weight_kind::s4,
                     .normalize = true};

/// Models with other tokens and features.
void run_vit_variants() {
  const auto run = [](recipe of_model, const char* name, index_t class_tokens, index_t registers, vit_pooling pooling,
                      std::uint64_t seed) {
    of_model.name += name;
    vit_shape shape = shape_of_vit(of_model);
    shape.class_tokens = class_tokens;
    shape.registers = registers;
    shape.pooling = pooling;
    run_vit(of_model, shape, seed);
  };
  for (const recipe& of_model : {paper, precise}) {
    run(of_model, "_registers", 1, 4, vit_pooling::class_tokens, 25);
    run(of_model, "_mean", 0, 0, vit_pooling::mean, 26);
    run(of_model, "_class_token_and_mean", 1, 2, vit_pooling::class_tokens_and_mean, 27);
    run(of_model, "_normalized_mean", 1, 0, vit_pooling::normalized_mean, 28);
  }
}

/// Models whose attention has 4-bit codes of u8 weights.
void run_weight_codes() {
  recipe of_codes = precise;
  of_codes.name = "weight_codes";
  of_codes.kind = attention_kind::weight_codes;
  run_block<std::int16_t>(of_codes, 29);
  run_attention(of_codes, 30);
  run_vit(of_codes, shape_of_vit(of_codes), 31);
  run_swin(of_codes, 32);
}

/// Models with RMSNorm and with gated perceptrons.
void run_norms_and_gates() {
  const auto run = [](recipe of_model, normalization norm, bool gated, std::uint64_t seed) {
    of_model.name += norm == normalization::rmsnorm ? "_rmsnorm" : "";
    of_model.name += gated ? "_gated" : "";
    block_shape block = shape_of_block;
    block.norm = norm;
    block.gated = gated;
    if (of_model.wide()) {
      run_block<std::int16_t>(of_model, seed, block);
    } else {
      run_block<std::uint8_t>(of_model, seed, block);
    }
    vit_shape vit = shape_of_vit(of_model);
    vit.norm = norm;
    vit.gated = gated;
    vit.pooling = vit_pooling::mean;
    run_vit(of_model, vit, seed + 1);
  };
  run(paper, normalization::rmsnorm, false, 38);
  run(precise, normalization::rmsnorm, false, 40);
  run(paper, normalization::layernorm, true, 42);
  run(precise, normalization::rmsnorm, true, 44);
}

/// Models with norms of queries and keys.
void run_qk_norms() {
  const auto run = [](recipe of_model, normalization kind, std::uint64_t seed) {
    of_model.name += kind == normalization::rmsnorm ? "_qk_rmsnorm" : "_qk_layernorm";
    block_shape block = shape_of_block;
    block.attention.qk_norm = kind;
    if (of_model.wide()) {
      run_block<std::int16_t>(of_model, seed, block);
    } else {
      run_block<std::uint8_t>(of_model, seed, block);
    }
    vit_shape vit = shape_of_vit(of_model);
    vit.qk_norm = kind;
    run_vit(of_model, vit, seed + 1);
  };
  run(paper, normalization::layernorm, 46);
  run(precise, normalization::rmsnorm, 48);
}

/// Blocks with rotary positions.
void run_rotary_positions() {
  recipe of_block = paper;
  of_block.name += "_rotary";
  block_shape block = shape_of_block;
  block.attention.rotary_prefix = 1;
  run_block<std::uint8_t>(of_block, 50, block);
  of_block = precise;
  of_block.name += "_qk_rmsnorm_rotary";
  block.attention.qk_norm = normalization::rmsnorm;
  block.attention.rotary_prefix = 0;
  run_block<std::int16_t>(of_block, 51, block);
}

}  // namespace

void run_models() {
  run_blocks();
  run_vit(paper, shape_of_vit(paper), 20);
  vit_shape distilled = shape_of_vit(precise);
  distilled.class_tokens = 2;
  run_vit(precise, distilled, 21);
  run_swin(paper, 22);
  run_swin(precise, 23);
  run_vit_variants();
  run_weight_codes();
  run_vit_features(paper, vit_pooling::patch_tokens, 34);
  run_vit_features(precise, vit_pooling::class_tokens, 35);
  run_swin_features<std::uint8_t>(paper, 36);
  run_swin_features<std::int16_t>(precise, 37);
  run_norms_and_gates();
  run_qk_norms();
  run_rotary_positions();
}

}  // namespace hashes
