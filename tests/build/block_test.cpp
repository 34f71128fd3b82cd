// Blocks from float weights in memory of the caller equal the blocks of build_vit(), and their evaluation in double
// precision.

#include "intact/build/block.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "catch.hpp"
#include "double_reference.hpp"
#include "guarded_memory.hpp"
#include "intact/build/observe_block.hpp"
#include "intact/quantize/build_vit.hpp"
#include "quantized_model.hpp"
#include "random_float_layers.hpp"
#include "refusal.hpp"

namespace intact_test::block_test {
namespace {

/// A float block of random layers that owns its memory.
struct random_block {
  block_shape shape{.attention = {.tokens = 9, .width = 24, .heads = 3}, .hidden = 40};
  float_block layers;
  index_t position = 3;

  /// RMSNorms have no biases; with a gate f is SiLU.
  explicit random_block(normalization norm = normalization::layernorm, bool gated = false,
                        const std::optional<normalization>& qk_norm = {}) {
    random_float_layers random(1);
    shape.norm = norm;
    shape.gated = gated;
    const index_t width = shape.attention.width;
    layers.norm1 = random.layernorm(width);
    layers.qkv = random.linear(3 * width, width);
    layers.proj = random.linear(width, width);
    layers.norm2 = random.layernorm(width);
    layers.fc1 = random.linear(shape.hidden, width, 2);
    layers.fc2 = random.linear(width, shape.hidden);
    if (gated) {
      layers.up = random.linear(shape.hidden, width, 2);
      layers.activation = activation_function::silu;
    }
    if (qk_norm) {
      shape.attention.qk_norm = qk_norm;
      layers.q_norm = random.layernorm(shape.attention.head_size());
      layers.k_norm = random.layernorm(shape.attention.head_size());
    }
    if (qk_norm == normalization::rmsnorm) {
      layers.q_norm.bias.resize(0);
      layers.k_norm.bias.resize(0);
    }
    if (norm == normalization::rmsnorm) {
      layers.norm1.bias.resize(0);
      layers.norm2.bias.resize(0);
    }
  }

  float_block_view view() const { return view_of(layers, shape, 1e-6F, position); }

  /// Residual streams of `inputs` inputs, channels of different magnitude.
  float_matrix stream(index_t inputs) const {
    random_float_layers random(17);
    float_matrix made = random.matrix(inputs * shape.attention.tokens, shape.attention.width, 1);
    for (index_t c = 0; c < made.cols(); ++c) {
      made.col(c) *= static_cast<float>(1 + c % 5);
    }
    return made;
  }

  block_ranges ranges() const {
    float_matrix inputs = stream(4);
    return observe_block(view(), view_of(inputs));
  }
};

template <class T>
bool equal(std::span<const T> a, std::span<const T> b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end());
}

void check_norm(const layernorm_parameters& built, const layernorm_parameters& expected) {
  CHECK(built.zero_point == expected.zero_point);
  CHECK(equal(built.shift, expected.shift));
  CHECK(built.epsilon == expected.epsilon);
  CHECK(equal(built.gain, expected.gain));
  CHECK(equal(built.bias, expected.bias));
  CHECK(built.output_shift == expected.output_shift);
  CHECK(built.epsilon_fraction == expected.epsilon_fraction);
}

void check_linear(const linear_parameters& built, const owned_linear& expected) {
  const channel_scale scale = expected.scale.view();
  CHECK(equal(built.scale.multiplier, scale.multiplier));
  CHECK(equal(built.scale.offset, scale.offset));
  CHECK(built.scale.shift == scale.shift);
  CHECK(built.scale.left_shift == scale.left_shift);
  const code_matrix weights = copy_weights(expected.weights);
  std::visit(
      [&](const auto& packed) {
        REQUIRE(packed.rows == weights.rows);
        REQUIRE(packed.columns == weights.columns);
        index_t different = 0;
        for (index_t n = 0; n < packed.rows; ++n) {
          for (index_t k = 0; k < packed.columns; ++k) {
            different += packed(n, k) != weights(n, k);
          }
        }
        CHECK(different == 0);
      },
      built.weights);
}

void check_add(const add_parameters& built, const add_parameters& expected) {
  CHECK(equal(built.stream_multiplier, expected.stream_multiplier));
  CHECK(equal(built.branch_multiplier, expected.branch_multiplier));
  CHECK(equal(built.offset, expected.offset));
  CHECK(built.stream_zero_point == expected.stream_zero_point);
  CHECK(built.branch_zero_point == expected.branch_zero_point);
  CHECK(built.shift == expected.shift);
}

void check_scale(const tensor_scale& built, const tensor_scale& expected) {
  CHECK(built.multiplier == expected.multiplier);
  CHECK(built.offset == expected.offset);
  CHECK(built.shift == expected.shift);
  CHECK(built.left_shift == expected.left_shift);
}

void check_softmax(const softmax_parameters& built, const softmax_parameters& expected) {
  REQUIRE(built.weights.index() == expected.weights.index());
  REQUIRE(built.context.index() == expected.context.index());
  CHECK(built.codes() == expected.codes());
  if (const auto* const of_sum = std::get_if<log2_of_sum>(&built.weights)) {
    CHECK(equal(of_sum->exponential, std::get<log2_of_sum>(expected.weights).exponential));
    CHECK(of_sum->rounding == std::get<log2_of_sum>(expected.weights).rounding);
  } else if (const auto* const of_max = std::get_if<log2_of_max>(&built.weights)) {
    CHECK(equal(of_max->table, std::get<log2_of_max>(expected.weights).table));
  } else if (const auto* const of_codes = std::get_if<weight_codes_of_max>(&built.weights)) {
    CHECK(equal(of_codes->table, std::get<weight_codes_of_max>(expected.weights).table));
    CHECK(equal(of_codes->weights, std::get<weight_codes_of_max>(expected.weights).weights));
  } else {
    CHECK(equal(std::get<weights_of_max>(built.weights).table, std::get<weights_of_max>(expected.weights).table));
  }
  if (const auto* const scale = std::get_if<tensor_scale>(&built.context)) {
    check_scale(*scale, std::get<tensor_scale>(expected.context));
  } else {
    CHECK(std::get<row_divisor>(built.context).factor == std::get<row_divisor>(expected.context).factor);
    CHECK(std::get<row_divisor>(built.context).zero_point == std::get<row_divisor>(expected.context).zero_point);
  }
}

void check_block(const block_parameters& built, const owned_block& expected) {
  check_norm(built.norm1, expected.norm1.view());
  check_linear(built.attention.qkv, expected.qkv);
  CHECK(built.attention.zero_points.q == expected.zero_points().q);
  CHECK(built.attention.zero_points.k == expected.zero_points().k);
  CHECK(built.attention.zero_points.v == expected.zero_points().v);
  check_scale(built.attention.logits, expected.attention_logits.scale);
  check_softmax(built.attention.softmax, expected.softmax.view());
  check_linear(built.attention.proj, expected.proj);
  const auto* const norms = std::get_if<qk_norm_parameters>(&built.attention.norms);
  REQUIRE((norms != nullptr) == expected.qk_norms.has_value());
  if (norms != nullptr) {
    check_norm(norms->q, expected.qk_norms->q.view());
    check_norm(norms->k, expected.qk_norms->k.view());
  }
  check_add(built.add1, expected.add1.view());
  check_norm(built.norm2, expected.norm2.view());
  check_linear(built.mlp.fc1, expected.fc1);
  CHECK(equal<std::uint8_t>(built.mlp.table, expected.activation));
  check_linear(built.mlp.fc2, expected.fc2);
  const auto* const gate = std::get_if<gate_parameters>(&built.mlp.gate);
  REQUIRE((gate != nullptr) == expected.gate.has_value());
  if (gate != nullptr) {
    check_linear(gate->up, expected.gate->up);
    CHECK(gate->activation_zero_point == expected.gate->activation_zero_point);
    CHECK(gate->up_zero_point == expected.gate->up_zero_point);
    check_scale(gate->product, expected.gate->product.scale);
  }
  check_add(built.add2, expected.add2.view());
}

/// Every recipe, and groups of weights that have no packed form.
std::vector<named_recipe> all_recipes() {
  std::vector<named_recipe> all = named_recipes();
  for (const index_t group : {index_t{1}, index_t{7}, index_t{8}}) {
    quantization_recipe recipe = precise_recipe;
    recipe.weights = weight_kind::grouped_s4;
    recipe.weight_group = group;
    all.push_back({"groups of " + std::to_string(group), recipe});
  }
  return all;
}

/// Kinds of blocks: norms, whether there is a gate, norms of queries and keys.
struct block_kind {
  normalization norm;
  bool gated;
  std::optional<normalization> qk_norm = {};
};
constexpr block_kind all_kinds[] = {{normalization::layernorm, false},
                                    {normalization::rmsnorm, false},
                                    {normalization::layernorm, true},
                                    {normalization::rmsnorm, true},
                                    {normalization::layernorm, false, normalization::layernorm},
                                    {normalization::layernorm, true, normalization::rmsnorm}};

vit_shape small_vit_of(const block_kind& kind) {
  vit_shape shape = small_vit;
  shape.norm = kind.norm;
  shape.gated = kind.gated;
  shape.qk_norm = kind.qk_norm;
  return shape;
}

TEST_CASE("build_block: equals the blocks of build_vit, also where scales are raised [all recipes, kinds of blocks]") {
  const vit_shape shape = small_vit_of(all_kinds[GENERATE(range(0, 6))]);
  float_vit model = random_float_vit(shape);
  const bool raised = GENERATE(false, true);
  if (raised) {
    model.blocks[0].proj.weight.setZero();
    model.blocks[0].proj.bias.setZero();
    model.blocks[1].up.weight.setZero();  // without a gate there is none
    model.blocks[1].up.bias.setZero();
  }
  const image_set images(shape, 4);
  vit_scales observed = calibrate(model, images.views());
  if (raised) {
    observed.blocks[0].qkv.scale *= 1e-9F;
    observed.blocks[0].context.scale = observed.blocks[0].qkv.scale / 1024;
    observed.blocks[0].up.scale *= 1e-9F;
    observed.blocks[0].gated.scale = observed.blocks[0].activation.scale * 1e-20F;
    observed.blocks[1].q_norm.scale *= 1e-20F;
    observed.blocks[1].k_norm.scale *= 1e-24F;
    if (shape.qk_norm) {
      observed.blocks[1].qkv.scale *= 1e-12F;
    }
  }
  for (const named_recipe& named : all_recipes()) {
    INFO(named.name);
    const bool wide = named.recipe.stream == stream_codes::s16;
    const vit_weights weights = quantize_weights(model, named.recipe);
    const fitted_scales<vit_scales> fitted = fit_scales(model, observed, weights, named.recipe);
    const integer_vit expected = build_vit(model, observed, named.recipe);
    CHECK(fitted.changes.empty() != raised);

    ptf_scale stream =
        wide ? ptf_scale{fitted.scales.stream, 0, std::vector<std::uint8_t>(static_cast<std::size_t>(shape.width))}
             : fitted.scales.tokens;
    for (std::size_t i = 0; i < model.blocks.size(); ++i) {
      const float_block_view block = block_view(model, static_cast<index_t>(i));
      block_calibration scales{stream, observed.blocks[i]};
      guarded_vector<std::byte> memory(block_memory_bytes(block.shape, named.recipe));
      const block_parameters built = build_block(block, scales, named.recipe, memory);
      check_block(built, expected.tensors().blocks[i]);
      CHECK(scales.tensors.context.scale == fitted.scales.blocks[i].context.scale);
      CHECK(scales.tensors.qkv.scale == fitted.scales.blocks[i].qkv.scale);
      CHECK(scales.tensors.q_norm.scale == fitted.scales.blocks[i].q_norm.scale);
      CHECK(scales.tensors.k_norm.scale == fitted.scales.blocks[i].k_norm.scale);
      CHECK(scales.tensors.up.scale == fitted.scales.blocks[i].up.scale);
      CHECK(scales.tensors.gated.scale == fitted.scales.blocks[i].gated.scale);
      stream = wide ? scales.stream : scales.tensors.add2;
    }
  }
}

/// Codes of a float stream in the scale of a calibration.
template <class Code>
tensor<Code> codes_of_stream(const float_matrix& stream, const ptf_scale& scale) {
  tensor<Code> codes(stream.rows(), stream.cols());
  quantize_codes(view_of(stream), scale, codes.view());
  return codes;
}

/// The largest error of the integer block in units of the largest value; checks equality with double precision, too.
template <class Code>
double relative_error(const random_block& source, block_calibration scales, const quantization_recipe& recipe,
                      bool misaligned) {
  const float_block_view block = source.view();
  std::vector<std::byte> memory(block_memory_bytes(block.shape, recipe) + 1);
  const block_parameters built =
      build_block(block, scales, recipe, std::span(memory).subspan(misaligned ? 1 : 0, memory.size() - 1));

  float_matrix stream = source.stream(1);
  tensor<Code> codes = codes_of_stream<Code>(stream, scales.stream);
  const code_matrix input = real::make_codes(
      stream.rows(), stream.cols(), [&](index_t i, index_t c) { return static_cast<std::int32_t>(codes(i, c)); });
  std::vector<std::byte> scratch(block_workspace_bytes(block.shape));
  intact::block(codes.view(), built, block.shape, workspace(scratch.data(), scratch.size()));

  const owned_block owned = block_builder{block, recipe}(quantize_block(block, recipe), scales.tensors, scales.stream,
                                                         scales.tensors.attention_logits);
  tensors all;
  const code_matrix& expected = block_evaluation{owned, block.shape, recipe.stream, 0, all}(input);
  observe_block(block, view_of(stream));
  const ptf_scale& output = recipe.stream == stream_codes::s16 ? scales.stream : scales.tensors.add2;
  index_t different = 0;
  double error = 0;
  for (index_t i = 0; i < stream.rows(); ++i) {
    for (index_t c = 0; c < stream.cols(); ++c) {
      different += codes(i, c) != expected(i, c);
      error = std::max(error,
                       std::fabs(static_cast<double>(dequantize_code(codes(i, c), output.channel(c)) - stream(i, c))));
    }
  }
  CHECK(different == 0);
  return error / static_cast<double>(stream.cwiseAbs().maxCoeff());
}

TEST_CASE(
    "build_block: from observed ranges, equals double precision and is near the float block [all recipes, kinds of "
    "blocks, q, k and v in one scale or three]") {
  const block_kind kind = all_kinds[GENERATE(range(0, 6))];
  const random_block source(kind.norm, kind.gated, kind.qk_norm);
  for (const named_recipe& named : all_recipes()) {
    INFO(named.name);
    const bool plain = kind.norm == normalization::layernorm && !kind.gated && !kind.qk_norm;
    const double limit = named.recipe.weights != weight_kind::s8 ? 0.15 : plain ? 0.08 : 0.1;
    block_calibration scales = calibrate_block(source.ranges(), named.recipe);
    for (const bool separate : {false, true}) {
      if (separate) {
        const affine_scale& q = scales.tensors.qkv;
        scales.tensors.k = affine_scale{q.scale * 1.25F, q.zero_point - 20};
        scales.tensors.v = affine_scale{q.scale * 1.5F, q.zero_point + 9};
      }
      CHECK((named.recipe.stream == stream_codes::s16
                 ? relative_error<std::int16_t>(source, scales, named.recipe, separate)
                 : relative_error<std::uint8_t>(source, scales, named.recipe, separate)) < limit);
    }
  }
}

TEST_CASE("logits_spec: the factor is the product of the scales of queries and of keys, normalized or not") {
  attention_shape shape{.tokens = 9, .width = 48, .heads = 3};
  block_scales own;
  own.qkv = {0.5F, 128};
  own.q_norm = {2, 120};
  own.k_norm = {4, 121};
  CHECK(detail::logits_spec(own, {0.25F, 7}, shape).factor == 0.25);
  own.k = affine_scale{0.125F, 3};
  CHECK(detail::logits_spec(own, {0.25F, 7}, shape).factor == 0.0625);
  shape.qk_norm = normalization::rmsnorm;
  CHECK(detail::logits_spec(own, {0.25F, 7}, shape).factor == 8);
}

TEST_CASE("build_block: refuses sizes, values and memory, naming block and tensor") {
  const random_block source;
  block_calibration scales = calibrate_block(source.ranges(), paper_recipe);
  std::vector<std::byte> memory(block_memory_bytes(source.shape, paper_recipe));
  const auto refused = [&](const float_block_view& block) {
    return refusal([&] { build_block(block, scales, paper_recipe, memory); });
  };
  CHECK(refused(source.view()).empty());

  const auto with_value = [&](auto member, float value) {
    random_block changed;
    member(changed.layers).data()[5] = value;
    return refused(changed.view());
  };
  constexpr float nan = std::numeric_limits<float>::quiet_NaN();
  constexpr float infinity = std::numeric_limits<float>::infinity();
  CHECK(with_value(
            [](float_block & b) -> auto& { return b.fc1.weight; }, nan) ==
        "intact::build_block: tensor fc1.weight of block 3 has the value nan at row 0, column 5; it must be finite");
  CHECK(mentions(with_value(
                     [](float_block & b) -> auto& { return b.qkv.weight; }, infinity),
                 "build_block: tensor qkv.weight of block 3 has the value inf"));
  CHECK(mentions(with_value(
                     [](float_block & b) -> auto& { return b.proj.bias; }, nan),
                 "tensor proj.bias of block 3 has"));
  CHECK(mentions(with_value(
                     [](float_block & b) -> auto& { return b.fc2.weight; }, nan),
                 "tensor fc2.weight of block 3 has"));
  CHECK(mentions(with_value(
                     [](float_block & b) -> auto& { return b.norm1.weight; }, -infinity),
                 "tensor norm1.weight of block 3 has"));
  CHECK(mentions(with_value(
                     [](float_block & b) -> auto& { return b.norm2.bias; }, nan),
                 "tensor norm2.bias of block 3 has"));

  random_block narrow;
  narrow.layers.fc2.weight.conservativeResize(24, 39);
  CHECK(refused(narrow.view()) == "intact::build_block: tensor fc2.weight of block 3 is 24 x 39; it must be 24 x 40");
  random_block without_bias;
  without_bias.layers.norm2.bias.resize(0);
  CHECK(refused(without_bias.view()) ==
        "intact::build_block: size of tensor norm2.bias of block 3 is 0; it must be equal to 24");
  random_block of_rmsnorm(normalization::rmsnorm);
  of_rmsnorm.layers.norm2.bias = float_row::Zero(23);
  CHECK(refused(of_rmsnorm.view()) ==
        "intact::build_block: size of tensor norm2.bias of block 3 is 23; it must be equal to 24");
  random_block gated(normalization::layernorm, true);
  gated.layers.up.weight.conservativeResize(39, 24);
  CHECK(refused(gated.view()) == "intact::build_block: tensor up.weight of block 3 is 39 x 24; it must be 40 x 24");
  gated = random_block(normalization::layernorm, true);
  gated.layers.up.bias[7] = nan;
  CHECK(mentions(refused(gated.view()), "tensor up.bias of block 3 has the value nan"));
  gated.shape.gated = false;
  CHECK(refused(gated.view()) ==
        "intact::build_block: tensor up.weight of block 3 is 40 x 24; the shape calls for no gate");
  random_block normed(normalization::layernorm, false, normalization::rmsnorm);
  CHECK(refused(normed.view()).find("workspace") != std::string::npos);  // that of a block without norms is too small
  normed.layers.k_norm.weight[7] = nan;
  CHECK(mentions(refused(normed.view()), "tensor k_norm.weight of block 3 has the value nan"));
  normed.shape.attention.qk_norm = normalization::layernorm;
  CHECK(refused(normed.view()) ==
        "intact::build_block: size of tensor q_norm.bias of block 3 is 0; it must be equal to 8");
  normed.shape.attention.qk_norm.reset();
  CHECK(refused(normed.view()) ==
        "intact::build_block: size of tensor q_norm.weight of block 3 is 8; it must be equal to 0");
  random_block long_bias;
  long_bias.layers.fc1.bias.conservativeResize(41);
  CHECK(refused(long_bias.view()) ==
        "intact::build_block: size of tensor fc1.bias of block 3 is 41; it must be equal to 40");

  const auto with_shape = [&](auto change) {
    random_block changed;
    change(changed.shape);
    return refused(changed.view());
  };
  CHECK(with_shape([](block_shape& shape) { shape.attention.heads = 5; }) ==
        "intact::build_block: shape.attention.width % heads of block 3 is 4; it must be equal to 0");
  CHECK(mentions(with_shape([](block_shape& shape) { shape.attention.heads = 0; }), "heads of block 3 is 0"));
  CHECK(mentions(with_shape([](block_shape& shape) { shape.attention.tokens = 0; }), "tokens of block 3 is 0"));
  CHECK(
      with_shape([](block_shape& shape) { shape.attention.rotary_prefix = 1; }) ==
      "intact::build_block: shape.attention.rotary_prefix of block 3 is 1; blocks are built without rotary positions");
  float_block_view negative = source.view();
  negative.epsilon = -1;
  negative.position = -1;
  CHECK(refused(negative) == "intact::build_block: epsilon is -1; it must be finite and at least 0");

  const std::size_t bytes = memory.size();
  memory.resize(bytes - 1);
  CHECK(refused(source.view()) == "intact::build_block: the workspace has " + std::to_string(bytes - 1) +
                                      " bytes left; it must have " + std::to_string(bytes));
}

/// "intact::operation: words" without its beginning.
std::string words_after_operation(const std::string& message) {
  return message.substr(message.empty() ? 0 : message.find(": "));
}

TEST_CASE("build_block: refuses scales and recipes, naming block and tensor") {
  const random_block source;
  const auto refused = [&](auto change, const quantization_recipe& recipe = paper_recipe) {
    block_calibration scales = calibrate_block(source.ranges(), recipe);
    change(scales);
    std::vector<std::byte> memory(block_memory_bytes(source.shape, recipe));
    const std::string building = refusal([&] { build_block(source.view(), scales, recipe, memory); });
    const std::string fitting = refusal([&] { fit_block_scales(source.view(), scales, recipe); });
    CHECK(words_after_operation(building) == words_after_operation(fitting));
    return building;
  };
  CHECK(refused([](block_calibration& s) { s.tensors.qkv.scale = 0; }) ==
        "intact::build_block: tensor qkv of block 3: scale is 0; it must be above 0 and finite");
  CHECK(mentions(refused([](block_calibration& s) {
                   s.tensors.k = affine_scale{0, 3};
                 }),
                 "tensor keys of block 3: scale is 0"));
  CHECK(mentions(refused([](block_calibration& s) {
                   s.tensors.v = affine_scale{1, 256};
                 }),
                 "tensor values of block 3: zero_point is 256"));
  CHECK(mentions(refused([](block_calibration& s) { s.tensors.activation.zero_point = 256; }),
                 "tensor activation of block 3: zero_point is 256"));
  CHECK(mentions(refused([](block_calibration& s) { s.tensors.add2.shift.pop_back(); }),
                 "tensor add2 of block 3: number of shifts is 23; it must be equal to 24"));
  CHECK(mentions(refused([](block_calibration& s) { s.stream.shift[2] = 4; }), "tensor stream of block 3: shift is 4"));
  CHECK(mentions(refused([](block_calibration& s) {
                   s.tensors.fc1 = {1, 0};
                 }),
                 "tensor fc1 of block 3: the range is 1 to 0"));
  CHECK(mentions(refused([](block_calibration& s) { s.stream.shift[2] = 1; }, precise_recipe),
                 "tensor stream of block 3: shift is 1; it must be at most 0"));
  CHECK(mentions(refused([](block_calibration& s) { s.stream.zero_point = 1; }, precise_recipe),
                 "tensor stream of block 3: zero_point is 1"));
  CHECK(refused([](block_calibration& s) { s.tensors.add1.shift.clear(); }, precise_recipe).empty());  // there is none

  const random_block gated(normalization::layernorm, true);
  const auto gate_refused = [&](auto change) {
    block_calibration scales = calibrate_block(gated.ranges(), paper_recipe);
    change(scales.tensors);
    std::vector<std::byte> memory(block_memory_bytes(gated.shape, paper_recipe));
    return refusal([&] { build_block(gated.view(), scales, paper_recipe, memory); });
  };
  CHECK(gate_refused([](block_scales&) {}).empty());
  CHECK(gate_refused([](block_scales& s) { s.up.scale = 0; }) ==
        "intact::build_block: tensor up of block 3: scale is 0; it must be above 0 and finite");
  CHECK(gate_refused([](block_scales& s) { s.gated.zero_point = -1; }) ==
        "intact::build_block: tensor gated of block 3: zero_point is -1; it must be at least 0");

  const random_block normed(normalization::layernorm, false, normalization::layernorm);
  const auto norm_refused = [&](auto change) {
    block_calibration scales = calibrate_block(normed.ranges(), paper_recipe);
    change(scales.tensors);
    std::vector<std::byte> memory(block_memory_bytes(normed.shape, paper_recipe));
    return refusal([&] { build_block(normed.view(), scales, paper_recipe, memory); });
  };
  CHECK(norm_refused([](block_scales&) {}).empty());
  CHECK(norm_refused([](block_scales& s) { s.q_norm.scale = 0; }) ==
        "intact::build_block: tensor q_norm of block 3: scale is 0; it must be above 0 and finite");
  CHECK(norm_refused([](block_scales& s) { s.k_norm.zero_point = 256; }) ==
        "intact::build_block: tensor k_norm of block 3: zero_point is 256; it must be at most 255");

  quantization_recipe contradiction = precise_recipe;
  contradiction.normalize_rows = false;
  block_calibration scales = calibrate_block(source.ranges(), precise_recipe);
  CHECK(mentions(refusal([&] { build_block(source.view(), scales, contradiction, {}); }),
                 "choose normalize_rows = true"));
}

TEST_CASE("fit_block_scales: raises scales in place until integers exist, and then none") {
  const random_block source;
  for (const quantization_recipe& recipe : {paper_recipe, precise_recipe}) {
    block_calibration scales = calibrate_block(source.ranges(), recipe);
    CHECK(fit_block_scales(source.view(), scales, recipe).empty());
    scales.tensors.context.scale = scales.tensors.qkv.scale * 1e-9F;
    scales.tensors.fc1 = {0, 0};
    scales.stream.scale = 1e-12F;
    const std::vector<scale_change> changes = fit_block_scales(source.view(), scales, recipe);
    const auto raised = [&](const std::string& tensor) {
      return std::any_of(changes.begin(), changes.end(), [&](const scale_change& change) {
        return change.tensor == tensor && change.block == source.position && change.raised > change.observed;
      });
    };
    CHECK(raised("context"));
    CHECK(raised("stream"));
    CHECK(fit_block_scales(source.view(), scales, recipe).empty());
  }
}

TEST_CASE("fit_block_scales: raises the inputs of norms of queries and keys until 64 bits hold epsilon") {
  const random_block source(normalization::layernorm, false, normalization::layernorm);
  float_block_view block = source.view();
  block.epsilon = 1e12F;  // 8 columns: 8 * 1e6 / 2^30 = 0.0075
  block_calibration scales = calibrate_block(source.ranges(), paper_recipe);
  scales.tensors.qkv.scale = 0.001F;
  scales.tensors.k = affine_scale{0.002F, 128};
  fit_block_scales(block, scales, paper_recipe);
  CHECK(scales.tensors.qkv.scale == 0.008F);
  CHECK(scales.tensors.k->scale == 0.008F);
}

TEST_CASE("observe_block: gives the ranges that the float model of quantize/ shows [kinds of blocks]") {
  const vit_shape shape = small_vit_of(all_kinds[GENERATE(range(0, 6))]);
  const float_vit model = random_float_vit(shape);
  const image_set images(shape, 3);
  const std::vector<image_view> views = images.views();
  std::vector<float_matrix> tokens;
  std::map<std::string, value_range> expected;
  for (const image_view& image : views) {
    forward(model, image, [&](const trace_site& site, const float_matrix& tensor) {
      if (site.name == "tokens") {
        tokens.push_back(tensor);
      }
      if (site.block == 0) {
        value_range& range = expected.try_emplace(std::string(site.name)).first->second;
        range = {std::min(range.low, tensor.minCoeff()), std::max(range.high, tensor.maxCoeff())};
      }
    });
  }
  float_matrix stream(small_vit.tokens() * std::ssize(tokens), small_vit.width);
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    stream.middleRows(static_cast<index_t>(i) * small_vit.tokens(), small_vit.tokens()) = tokens[i];
  }
  const block_ranges found = observe_block(block_view(model, 0), view_of(stream));
  const auto check = [&](const std::string& tensor, value_range range) {
    INFO(tensor);
    range = range_with_zero(range);
    CHECK(std::fabs(range.low - expected[tensor].low) < 1e-4F);
    CHECK(std::fabs(range.high - expected[tensor].high) < 1e-4F);
  };
  check("norm1", found.norm1);
  check("qkv", found.qkv);
  if (shape.qk_norm) {
    check("q_norm", found.q_norm);
    check("k_norm", found.k_norm);
  }
  check("attention_logits", found.attention_logits);
  check("context", found.context);
  check("proj", found.proj);
  check("add1", detail::range_of(found.add1));
  check("norm2", found.norm2);
  check("fc1", found.fc1);
  check("activation", found.activation);
  if (shape.gated) {
    check("up", found.up);
    check("gated", found.gated);
  }
  check("fc2", found.fc2);
  check("add2", detail::range_of(found.add2));
  for (index_t c = 0; c < stream.cols(); ++c) {
    CHECK(found.add2[static_cast<std::size_t>(c)].high == stream.col(c).maxCoeff());
  }
}

TEST_CASE("observe_block: a gate multiplies the activation's outputs by those of up") {
  random_block source(normalization::layernorm, true);
  source.layers.fc1.weight.setZero();
  source.layers.fc1.bias.setConstant(2);
  source.layers.up.weight.setZero();
  source.layers.up.bias.setConstant(-3);
  float_matrix stream = source.stream(1);
  const block_ranges found = observe_block(source.view(), view_of(stream));
  const auto gate = static_cast<float>(activate(activation_function::silu, 2));
  CHECK(found.activation.low == gate);
  CHECK(found.up.high == -3);
  CHECK(found.gated.low == -3 * gate);
  CHECK(found.gated.high == -3 * gate);
}

TEST_CASE("observe_block: RMSNorm divides by the root of the mean square") {
  const random_block source(normalization::rmsnorm);
  const float_matrix stream = source.stream(1);
  value_range expected;
  for (index_t i = 0; i < stream.rows(); ++i) {
    double squares = 0;
    for (index_t c = 0; c < stream.cols(); ++c) {
      squares += std::pow(static_cast<double>(stream(i, c)), 2);
    }
    const double root = std::sqrt(squares / static_cast<double>(stream.cols()) + 1e-6);
    for (index_t c = 0; c < stream.cols(); ++c) {
      const auto value = static_cast<float>(static_cast<double>(stream(i, c)) / root *
                                            static_cast<double>(source.layers.norm1.weight[c]));
      expected = {std::min(expected.low, value), std::max(expected.high, value)};
    }
  }
  float_matrix seen = stream;
  const value_range found = observe_block(source.view(), view_of(seen)).norm1;
  CHECK(std::fabs(found.low - expected.low) < 1e-5F);
  CHECK(std::fabs(found.high - expected.high) < 1e-5F);
}

TEST_CASE("observe_block: refuses streams and weights that are not finite, naming block and tensor") {
  random_block source;
  float_matrix stream = source.stream(2);
  const auto refused = [&](matrix_view<float> rows) { return refusal([&] { observe_block(source.view(), rows); }); };
  CHECK(mentions(refused(view_of(stream).row_block(0, 10)), "observe_block: rows of stream % tokens is 1"));
  CHECK(mentions(refused(view_of(stream).row_block(0, 0)), "rows of stream is 0"));
  CHECK(mentions(refused(view_of(stream).column_block(0, 23)), "stream is 18 x 23; it must be 18 x 24"));
  stream(3, 4) = std::numeric_limits<float>::infinity();
  CHECK(mentions(refused(view_of(stream)), "observe_block: tensor stream of block 3 has the value inf"));
  stream(3, 4) = 0;
  source.layers.fc1.weight *= 1e38F;
  CHECK(mentions(refused(view_of(stream)), "tensor fc1 of block 3 has the value"));
}

TEST_CASE("build_ptf_scale: takes the smallest shifts whose codes are not clamped") {
  const value_range ranges[] = {{-6, 10}, {-2, 1}, {0, 2}, {0.5F, 1}, {-0.5F, -0.5F}, {0, 1.247F}};
  const ptf_scale scale = build_ptf_scale(ranges, u8_codes);
  CHECK(scale.scale == 16.0F / 255 / 8);
  CHECK(scale.zero_point == 96);
  CHECK(scale.shift == std::vector<std::uint8_t>{3, 2, 1, 0, 0, 0});
  CHECK(build_ptf_scale({}, u8_codes).scale == smallest_scale / 8);
  const value_range reversed[] = {{0, 1}, {1, 0}};
  CHECK(mentions(refusal([&] { build_ptf_scale(reversed, u8_codes); }), "the range is 1 to 0"));
}

TEST_CASE("calibrate_block: builds u8 and s16 streams, and names the tensor that it refuses") {
  const random_block source;
  block_ranges ranges = source.ranges();
  const block_calibration u8 = calibrate_block(ranges, paper_recipe);
  CHECK(u8.stream.shift.size() == 24);
  CHECK(*std::max_element(u8.stream.shift.begin(), u8.stream.shift.end()) == 3);
  CHECK(u8.tensors.norm1.scale == build_affine_scale(range_with_zero(ranges.norm1), u8_codes).scale);
  CHECK(u8.tensors.fc1.high == ranges.fc1.high);

  const block_calibration s16 = calibrate_block(ranges, precise_recipe);
  const value_range add2 = detail::range_of(ranges.add2), add1 = detail::range_of(ranges.add1);
  CHECK(s16.stream.scale == std::max({-add1.low, add1.high, -add2.low, add2.high}) / 32767);
  CHECK(s16.stream.zero_point == 0);
  CHECK(s16.stream.shift == std::vector<std::uint8_t>(24));

  ranges.add1.pop_back();
  CHECK(refusal([&] { calibrate_block(ranges, paper_recipe); }) ==
        "intact::calibrate_block: channels of add1 is 23; it must be equal to 24");
  ranges = source.ranges();
  ranges.context.high = std::numeric_limits<float>::infinity();
  CHECK(
      mentions(refusal([&] { calibrate_block(ranges, paper_recipe); }), "calibrate_block: tensor context: the range"));
}

}  // namespace
}  // namespace intact_test::block_test
