#include "intact/quantize/load_checkpoint.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <ctime>
#include <iterator>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "checkpoint_files.hpp"
#include "made_image.hpp"
#include "refusal.hpp"

namespace intact_test::load_checkpoint_test {
namespace {}  // namespace

TEST_CASE("interpolate_positions: equals torch") {
  // torch.nn.functional.interpolate(..., mode="bicubic", antialias=True) of a 3 x 3 plane.
  float_matrix positions(10, 1);
  positions(0, 0) = 99;  // the class token's
  for (index_t i = 0; i < 9; ++i) {
    const float x = static_cast<float>(i);
    positions(i + 1, 0) = x * x * 0.37F + std::sin(x) * 3;
  }
  const std::vector<float> two = {1.43402F, 3.63501F, 11.0452F, 17.99027F};
  const std::vector<float> five = {-0.5188F,  0.75725F,  2.83742F,  3.76083F,  4.13557F,  0.81267F,  1.37743F,
                                   2.42266F,  3.55244F,  4.18308F,  3.76119F,  3.59501F,  3.64959F,  5.41328F,
                                   6.57878F,  9.2279F,   11.02765F, 14.36452F, 17.99942F, 20.03138F, 12.52148F,
                                   15.71127F, 21.34257F, 26.14792F, 28.69415F};
  for (const auto& [side, expected] : {std::pair{2, two}, std::pair{5, five}}) {
    const float_matrix resized = intact::detail::interpolate_positions(positions, 3, side);
    REQUIRE(resized.rows() == 1 + side * side);
    CHECK(resized(0, 0) == 99);
    for (index_t i = 0; i < side * side; ++i) {
      CAPTURE(side, i);
      CHECK(std::fabs(resized(i + 1, 0) - expected[static_cast<std::size_t>(i)]) < 2e-5F);
    }
  }
}

TEST_CASE("load_checkpoint: names of timm and of Hugging Face give the same model") {
  for (const vit_shape& shape : {tiny_vit, distilled_vit}) {
    const float_vit model = random_float_vit(shape);
    const safetensors_file timm = timm_checkpoint(model).in_memory();
    checkpoint_tensors renamed = hugging_face_checkpoint(model);
    const checkpoint_options options{.model = {.epsilon = 1e-6F}};
    const float_vit a = load_checkpoint(timm, options);
    const float_vit b = load_checkpoint(renamed.in_memory(), options);
    CHECK(a.shape.class_tokens == shape.class_tokens);
    CHECK(b.shape.class_tokens == shape.class_tokens);
    CHECK(a.head.weight == model.head.weight);
    CHECK(a.class_token == model.class_token);
    CHECK(b.epsilon == 1e-6F);
    CHECK(a.mean == std::vector<float>{0.485F, 0.456F, 0.406F});
    const rgb_image image = made_image(12, 12);
    CHECK(intact::forward(a, image.view()) == intact::forward(b, image.view()));
    CHECK(load_checkpoint(renamed.in_memory(), {}).epsilon == 1e-12F);
    CHECK(load_checkpoint(timm, {}).epsilon == 1e-6F);

    renamed.all.erase("vit.encoder.layer.1.attention.attention.key.bias");
    CHECK(mentions(refusal<file_error>([&] { load_checkpoint(renamed.in_memory(), {}); }),
                   "tensor \"vit.encoder.layer.1.attention.attention.key.bias\" is missing"));
  }
}

TEST_CASE("load_checkpoint: reads gated perceptrons of timm and of Hugging Face's DINOv2, whose function is SiLU") {
  vit_shape shape = tiny_vit;
  shape.gated = true;
  const float_vit model = random_float_vit(shape);
  const checkpoint_tensors timm = timm_checkpoint(model);
  checkpoint_tensors theirs = hugging_face_checkpoint(model);
  for (const auto& [from, to] :
       {std::pair{"intermediate.dense", "mlp.weights_in"}, {"output.dense", "mlp.weights_out"}}) {
    checkpoint_tensors renamed;
    renamed.metadata = theirs.metadata;
    for (const auto& [name, tensor] : theirs.all) {
      const bool of_attention = name.find("attention.output") != std::string::npos;
      renamed.all[of_attention ? name : replaced(name, {{from, to}})] = tensor;
    }
    theirs = renamed;
  }
  checkpoint_options options{.model = {.epsilon = 1e-6F}};
  options.config.activation = {"gelu", "hidden_act"};
  const loaded_checkpoint loaded = intact::read_checkpoint(theirs.in_memory(), options);
  CHECK(loaded.model.shape.gated);
  CHECK(loaded.model.shape.hidden == tiny_vit.hidden);
  CHECK(loaded.model.blocks[1].activation == intact::activation_function::silu);
  CHECK(loaded.model.blocks[1].up.weight == model.blocks[1].up.weight);
  const auto value = std::find_if(loaded.values.begin(), loaded.values.end(),
                                  [](const intact::checkpoint_value& one) { return one.name == "activation"; });
  REQUIRE(value != loaded.values.end());
  CHECK(value->value == "silu");
  CHECK(value->source == "that of SwiGLU");
  const rgb_image image = made_image(12, 12);
  const std::vector<float> expected = intact::forward(loaded.model, image.view());
  CHECK(intact::forward(load_checkpoint(timm.in_memory(), {.model = {.epsilon = 1e-6F}}), image.view()) == expected);

  // timm's configuration and options name the function of the gate.
  CHECK(load_checkpoint(timm.in_memory(), options).blocks[0].activation == intact::activation_function::gelu);
  options.model.activation = intact::activation_function::relu;
  CHECK(load_checkpoint(theirs.in_memory(), options).blocks[0].activation == intact::activation_function::relu);
}

TEST_CASE("load_checkpoint: reads DINOv2's own names, norms of queries and keys, and RMSNorms that something names") {
  vit_shape shape = tiny_vit;
  shape.gated = true;
  shape.qk_norm = normalization::layernorm;
  shape.registers = 2;
  const float_vit model = random_float_vit(shape);
  checkpoint_tensors theirs;
  theirs.metadata = timm_checkpoint(model).metadata;
  for (const auto& [name, tensor] : timm_checkpoint(model).all) {
    theirs.all[replaced(name, {{"mlp.fc1", "mlp.w12"}, {"mlp.fc2", "mlp.w3"}})] = tensor;
  }
  theirs.add("register_tokens", {1, 2, 12}, model.class_token.row(1).data());
  const float_vit loaded = load_checkpoint(theirs.in_memory());
  CHECK(loaded.shape == model.shape);
  CHECK(loaded.class_token == model.class_token);
  CHECK(loaded.blocks[1].up.weight == model.blocks[1].up.weight);
  CHECK(loaded.blocks[1].q_norm.bias == model.blocks[1].q_norm.bias);
  CHECK(loaded.blocks[1].activation == intact::activation_function::silu);

  std::erase_if(theirs.all, [](const auto& one) {
    return one.first.find("norm") != std::string::npos && one.first.ends_with(".bias");
  });
  const auto refused = [&](const checkpoint_options& options) {
    return refusal<intact::file_error>([&] { load_checkpoint(theirs.in_memory(), options); });
  };
  CHECK(mentions(refused({}), "tensor \"blocks.0.norm1.bias\" is missing"));
  checkpoint_options options;
  options.config.norm = {"RmsNorm", "config.json \"model_args\" \"norm_layer\""};
  const loaded_checkpoint rms = intact::read_checkpoint(theirs.in_memory(), options);
  CHECK(rms.model.shape.norm == normalization::rmsnorm);
  CHECK(rms.model.shape.qk_norm == normalization::rmsnorm);
  CHECK(rms.model.norm.weight == model.norm.weight);
  const auto value = std::find_if(rms.values.begin(), rms.values.end(),
                                  [](const intact::checkpoint_value& one) { return one.name == "norm"; });
  REQUIRE(value != rms.values.end());
  CHECK(value->value == "rmsnorm");
  CHECK(value->source == "config.json \"model_args\" \"norm_layer\"");
  options.config.norm->value = "groupnorm";
  CHECK(mentions(refused(options),
                 "config.json \"model_args\" \"norm_layer\" is \"groupnorm\"; it must be "
                 "\"layernorm\" or \"rmsnorm\""));
  options.model.norm = normalization::rmsnorm;
  CHECK(load_checkpoint(theirs.in_memory(), options).shape.norm == normalization::rmsnorm);
}

TEST_CASE("load_checkpoint: interpolates positions for images of another size") {
  for (const vit_shape& shape : {tiny_vit, distilled_vit}) {
    const float_vit model = random_float_vit(shape);
    const float_vit larger = load_checkpoint(timm_checkpoint(model).in_memory(), {.image_size = 20});
    CHECK(larger.shape.height == 20);
    CHECK(larger.positions.rows() == 25 + shape.class_tokens);
    CHECK(larger.positions.topRows(shape.class_tokens) == model.positions.topRows(shape.class_tokens));
    CHECK(intact::forward(larger, made_image(20, 20).view()).size() == 7);
  }
  const safetensors_file file = timm_checkpoint(random_float_vit(tiny_vit)).in_memory();
  for (const index_t size : {0, 3, 18}) {
    CHECK(mentions(refusal([&] { load_checkpoint(file, {.image_size = size}); }),
                   "the image size is " + std::to_string(size) + " x " + std::to_string(size) +
                       "; its sides must be multiples of those of a patch, 4 x 4"));
  }
  CHECK(intact::most_patches(tiny_vit) == 81'999);
  CHECK(mentions(refusal([&] { load_checkpoint(file, {.image_size = 65536}); }),
                 "resize_images: patches of an image is 268435456; it must be at most 81999"));
  vit_shape many = tiny_vit;
  many.registers = 90'000;
  CHECK(intact::most_patches(many) == 0);
}

TEST_CASE("load_checkpoint: reads a LayerNorm before the blocks, and patches without a bias beside it") {
  checkpoint_tensors timm = timm_checkpoint(random_float_vit(tiny_vit));
  timm.all.erase("patch_embed.proj.bias");
  CHECK(mentions(refusal<file_error>([&] { load_checkpoint(timm.in_memory(), {}); }),
                 "\"patch_embed.proj.bias\" is missing"));
  timm.all["norm_pre.weight"] = timm.all.at("norm.weight");
  CHECK(mentions(refusal<file_error>([&] { load_checkpoint(timm.in_memory(), {}); }), "\"norm_pre.bias\" is missing"));
  timm.all["norm_pre.bias"] = timm.all.at("norm.bias");
  const float_vit model = load_checkpoint(timm.in_memory(), {});
  CHECK(model.patch.bias.isZero());
  CHECK(model.norm_pre->weight == model.norm.weight);
  CHECK(model.epsilon == 1e-5F);
  CHECK(load_checkpoint(timm.in_memory(), {.model = {.epsilon = 1e-6F}}).epsilon == 1e-6F);
}

TEST_CASE("load_checkpoint: a model without a head has no classes, and a head can be left out") {
  const float_vit whole = random_float_vit(tiny_vit);
  checkpoint_tensors timm = timm_checkpoint(whole);
  const auto shown = [](const loaded_checkpoint& loaded) {
    for (const intact::checkpoint_value& value : loaded.values) {
      if (value.name == "features") {
        return value.value + "|" + value.source;
      }
    }
    return std::string();
  };
  checkpoint_config config;
  config.sizes = {{"num_labels", 1000, "config"}, {"id2label", 1000, "config"}};
  const loaded_checkpoint left_out = intact::read_checkpoint(
      timm.in_memory(), {.model = {.pooling = intact::vit_pooling::mean, .without_head = true}, .config = config});
  CHECK(left_out.model.shape.classes == 0);
  CHECK(shown(left_out) == "mean of the patch tokens|");
  CHECK(shown(intact::read_checkpoint(timm.in_memory(), {})).empty());
  timm.all.erase("head.weight");
  CHECK(mentions(refusal<file_error>([&] { load_checkpoint(timm.in_memory(), {}); }), "\"head.weight\" is missing"));
  timm.all.erase("head.bias");
  const loaded_checkpoint bare = intact::read_checkpoint(timm.in_memory(), {.config = config});
  CHECK(bare.model.shape.classes == 0);
  CHECK(bare.model.shape.pooling == intact::vit_pooling::class_tokens);
  CHECK(shown(bare) == "class tokens|the file has no head");
  for (const std::string kind : {".weight", ".bias"}) {
    timm.all["fc_norm" + kind] = timm.all.at("norm" + kind);
    timm.all.erase("norm" + kind);
  }
  CHECK(load_checkpoint(timm.in_memory(), {}).shape.pooling == intact::vit_pooling::normalized_mean);
  CHECK(mentions(refusal<file_error>([&] {
                   load_checkpoint(timm.in_memory(), {.model = {.pooling = intact::vit_pooling::patch_tokens}});
                 }),
                 "\"fc_norm.weight\" is that of a mean's LayerNorm, and patch tokens have none"));
  CHECK(load_checkpoint(timm.in_memory(), {.model = {.pooling = intact::vit_pooling::mean, .without_head = true}})
            .shape.pooling == intact::vit_pooling::normalized_mean);
}

TEST_CASE("load_checkpoint: images and grids of positions need not be squares") {
  vit_shape shape = tiny_vit;
  shape.height = 8;
  shape.image_width = 24;
  const float_vit model = random_float_vit(shape);
  const safetensors_file file = timm_checkpoint(model).in_memory();
  CHECK(mentions(refusal<file_error>([&] { load_checkpoint(file, {}); }),
                 "a square number of patches, or those of a given"));
  checkpoint_config config;
  config.image_size = {{8, 24}, "config"};
  const loaded_checkpoint loaded = intact::read_checkpoint(file, {.config = config});
  CHECK(loaded.model.positions == model.positions);
  CHECK(loaded.model.shape.image_width == 24);
  CHECK(loaded.preprocessing.size == intact::image_sides(8, 24));
  CHECK(load_checkpoint(file, {.image_size = intact::image_sides(8, 24)}).positions == model.positions);

  // Rows alone are interpolated: each column of patches like that of a square with equal columns.
  const float_vit larger = load_checkpoint(file, {.image_size = intact::image_sides(16, 24), .config = config});
  CHECK(larger.shape.height == 16);
  CHECK(larger.positions.rows() == 25);
  float_matrix square(1 + 4, shape.width);
  for (index_t column = 0; column < 6; ++column) {
    square << model.positions.row(0), model.positions.row(1 + column), model.positions.row(1 + column),
        model.positions.row(7 + column), model.positions.row(7 + column);
    const float_matrix expected = intact::detail::interpolate_positions(square, 2, 4);
    for (index_t row = 0; row < 4; ++row) {
      CHECK((larger.positions.row(1 + 6 * row + column) - expected.row(1 + 4 * row)).cwiseAbs().maxCoeff() < 1e-5F);
    }
  }
  config = {};
  config.trained_size = {{24, 8}, "trained"};
  CHECK(load_checkpoint(file, {.config = config}).shape.height == 24);  // 12 patches, too
}

TEST_CASE("load_checkpoint: finds the common prefix of names, and heads that have less of it") {
  const float_vit model = random_float_vit(tiny_vit);
  const checkpoint_tensors timm = timm_checkpoint(model), theirs = hugging_face_checkpoint(model);
  const rgb_image image = made_image(12, 12);
  const std::vector<float> expected = intact::forward(load_checkpoint(timm.in_memory()), image.view());
  for (const std::string prefix : {"", "module.", "_orig_mod.", "model.", "student.backbone.", "a.b.c."}) {
    CAPTURE(prefix);
    checkpoint_tensors renamed, renamed_theirs;
    renamed.metadata = timm.metadata;
    for (const auto& [name, tensor] : timm.all) {
      const bool head = name.starts_with("head.");
      renamed.all[(head ? prefix.substr(0, prefix.find('.') + 1) : prefix) + name] = tensor;
    }
    CHECK(intact::forward(load_checkpoint(renamed.in_memory()), image.view()) == expected);
    renamed_theirs.metadata = timm.metadata;
    for (const auto& [name, tensor] : theirs.all) {
      renamed_theirs.all[prefix + name] = tensor;
    }
    CHECK(intact::forward(load_checkpoint(renamed_theirs.in_memory(), {.model = {.epsilon = 1e-6F}}), image.view()) ==
          expected);
    if (!prefix.empty()) {
      renamed.all.erase(prefix + "blocks.0.attn.proj.bias");
      CHECK(mentions(refusal<file_error>([&] { load_checkpoint(renamed.in_memory()); }),
                     "tensor \"" + prefix + "blocks.0.attn.proj.bias\" is missing"));
    }
  }
}

TEST_CASE("load_checkpoint: F16, BF16 and F64 are the floats that they hold") {
  checkpoint_tensors timm = timm_checkpoint(random_float_vit(tiny_vit));
  for (auto& [name, tensor] : timm.all) {
    for (float& value : tensor.values) {  // 8 bits of fraction and few of exponent, which every type has
      value = std::round(value * 64) / 64;
    }
  }
  const rgb_image image = made_image(12, 12);
  const std::vector<float> expected = intact::forward(load_checkpoint(timm.in_memory()), image.view());
  for (const dtype type : {dtype::f64, dtype::f16, dtype::bf16}) {
    CAPTURE(dtype_name(type));
    CHECK(intact::forward(load_checkpoint(timm.in_memory(type)), image.view()) == expected);
  }
  CHECK(mentions(refusal<file_error>([&] { load_checkpoint(timm.in_memory(dtype::i32)); }),
                 "has dtype I32; it must be F32, F16, BF16 or F64"));
  timm.all["blocks.1.mlp.fc1.bias"].values[3] = 1e20F;
  CHECK(mentions(refusal<file_error>([&] { load_checkpoint(timm.in_memory(dtype::f16)); }),
                 "tensor \"blocks.1.mlp.fc1.bias\" has the value inf"));
}

TEST_CASE("float_of_f16, float_of_bf16: every number of 16 bits") {
  for (unsigned bits = 0; bits < 65536; ++bits) {
    const auto half = static_cast<std::uint16_t>(bits);
    const int exponent = static_cast<int>(bits >> 10 & 31), fraction = static_cast<int>(bits & 1023);
    const float sign = bits >> 15 != 0 ? -1.0F : 1.0F;
    const float found = float_of_f16(half);
    if (exponent == 31) {
      CHECK((fraction == 0 ? found == sign * std::numeric_limits<float>::infinity() : std::isnan(found)));
    } else {
      const int whole = exponent == 0 ? fraction : 1024 + fraction;
      CHECK(found == sign * std::ldexp(static_cast<float>(whole), std::max(exponent, 1) - 25));
    }
    const int wide_exponent = static_cast<int>(bits >> 7 & 255), wide_fraction = static_cast<int>(bits & 127);
    if (wide_exponent != 255) {
      const int whole = wide_exponent == 0 ? wide_fraction : 128 + wide_fraction;
      CHECK(float_of_bf16(half) == sign * std::ldexp(static_cast<float>(whole), std::max(wide_exponent, 1) - 134));
    }
  }
}

TEST_CASE("load_checkpoint: biases of queries, keys and values may be missing, all or those of keys alone") {
  const float_vit model = random_float_vit(tiny_vit);
  checkpoint_tensors none = timm_checkpoint(model), zero = none, split = none;
  for (const std::string block : {"blocks.0.attn.", "blocks.1.attn."}) {
    none.all.erase(block + "qkv.bias");
    zero.all[block + "qkv.bias"].values.assign(36, 0);
    const std::vector<float> all = split.all[block + "qkv.bias"].values;
    split.all.erase(block + "qkv.bias");
    split.add(block + "q_bias", {12}, all.data());
    split.add(block + "v_bias", {12}, all.data() + 24);
  }
  const rgb_image image = made_image(12, 12);
  CHECK(intact::forward(load_checkpoint(none.in_memory()), image.view()) ==
        intact::forward(load_checkpoint(zero.in_memory()), image.view()));
  const float_row bias = load_checkpoint(split.in_memory()).blocks[1].qkv.bias;
  CHECK(bias.head(12) == model.blocks[1].qkv.bias.head(12));
  CHECK(bias.segment(12, 12).isZero(0));
  CHECK(bias.tail(12) == model.blocks[1].qkv.bias.tail(12));
  split.all.erase("blocks.1.attn.q_bias");
  CHECK(mentions(refusal<file_error>([&] { load_checkpoint(split.in_memory()); }),
                 "tensor \"blocks.1.attn.q_bias\" is missing"));
}

TEST_CASE("load_checkpoint: LayerScale is part of the layer before it") {
  const float_vit model = random_float_vit(tiny_vit);
  checkpoint_tensors timm = timm_checkpoint(model);
  std::vector<float> gamma;
  for (int c = 0; c < 12; ++c) {
    gamma.push_back(static_cast<float>(c - 5) / 8);
  }
  timm.add("blocks.0.ls1.gamma", {12}, gamma.data());
  timm.add("blocks.1.ls2.gamma", {12}, gamma.data());
  const float_vit scaled = load_checkpoint(timm.in_memory());
  for (int c = 0; c < 12; ++c) {
    const float factor = gamma[static_cast<std::size_t>(c)];
    CHECK(scaled.blocks[0].proj.weight.row(c) == model.blocks[0].proj.weight.row(c) * factor);
    CHECK(scaled.blocks[0].proj.bias[c] == model.blocks[0].proj.bias[c] * factor);
    CHECK(scaled.blocks[1].fc2.weight.row(c) == model.blocks[1].fc2.weight.row(c) * factor);
    CHECK(scaled.blocks[1].fc2.bias[c] == model.blocks[1].fc2.bias[c] * factor);
  }
  CHECK(scaled.blocks[1].proj.weight == model.blocks[1].proj.weight);
  timm.add("blocks.0.ls2.gamma", {11}, gamma.data());
  CHECK(mentions(refusal<file_error>([&] { load_checkpoint(timm.in_memory()); }),
                 "tensor \"blocks.0.ls2.gamma\" has shape [11]; it must be [12]"));
}

TEST_CASE(
    "load_checkpoint: the head may be called head.fc, a distilled model may have one head, mask_token is not read") {
  const rgb_image image = made_image(12, 12);
  checkpoint_tensors plain = timm_checkpoint(random_float_vit(tiny_vit)), other = plain;
  for (const std::string kind : {".weight", ".bias"}) {
    other.all["head.fc" + kind] = other.all["head" + kind];
    other.all.erase("head" + kind);
  }
  other.add("mask_token", {1, 1, 12}, plain.all["cls_token"].values.data());
  CHECK(intact::forward(load_checkpoint(other.in_memory()), image.view()) ==
        intact::forward(load_checkpoint(plain.in_memory()), image.view()));

  checkpoint_tensors distilled = timm_checkpoint(random_float_vit(distilled_vit)), one_head = distilled;
  one_head.all.erase("head_dist.weight");
  one_head.all.erase("head_dist.bias");
  for (float& weight : distilled.all["head_dist.weight"].values) {
    weight = 0;
  }
  for (float& weight : distilled.all["head.weight"].values) {
    weight *= 2;
  }
  distilled.all["head_dist.bias"] = distilled.all["head.bias"];
  CHECK(intact::forward(load_checkpoint(one_head.in_memory()), image.view()) ==
        intact::forward(load_checkpoint(distilled.in_memory()), image.view()));
}

TEST_CASE("load_checkpoint: class tokens may have no positions") {
  for (const vit_shape& shape : {tiny_vit, distilled_vit}) {
    const float_vit model = random_float_vit(shape);
    checkpoint_tensors with = timm_checkpoint(model), without = with;
    std::fill_n(with.all["pos_embed"].values.begin(), shape.class_tokens * shape.width, 0.0F);
    without.add("pos_embed", {1, shape.patches(), shape.width}, model.positions.row(shape.class_tokens).data());
    const rgb_image image = made_image(12, 12);
    CHECK(intact::forward(load_checkpoint(without.in_memory()), image.view()) ==
          intact::forward(load_checkpoint(with.in_memory()), image.view()));
  }
}

TEST_CASE(
    "load_checkpoint: registers are called register_tokens in Hugging Face's DINOv2, whose head has two features") {
  vit_shape shape = tiny_vit;
  shape.registers = 2;
  shape.pooling = vit_pooling::class_tokens_and_mean;
  const float_vit model = random_float_vit(shape);
  checkpoint_tensors timm = timm_checkpoint(model);
  timm.add("reg_token", {1, 2, 12}, model.class_token.row(1).data());
  timm.add("head", model.head);
  checkpoint_tensors theirs = hugging_face_checkpoint(model);
  theirs.add("vit.embeddings.register_tokens", {1, 2, 12}, model.class_token.row(1).data());
  theirs.add("classifier", model.head);
  const rgb_image image = made_image(12, 12);
  const checkpoint_options options{.model = {.epsilon = 1e-6F}};
  const float_vit loaded = load_checkpoint(theirs.in_memory(), options);
  CHECK(loaded.shape.registers == 2);
  CHECK(loaded.shape.pooling == vit_pooling::class_tokens_and_mean);
  CHECK(loaded.class_token == model.class_token);
  CHECK(intact::forward(loaded, image.view()) ==
        intact::forward(load_checkpoint(timm.in_memory(), options), image.view()));
}

TEST_CASE("load_checkpoint: takes the names of Hugging Face since version 5 and of DINOv2") {
  const float_vit model = random_float_vit(tiny_vit);
  const checkpoint_tensors classic = hugging_face_checkpoint(model);
  const rgb_image image = made_image(12, 12);
  const auto renamed = [&](const std::vector<std::pair<std::string, std::string>>& names) {
    checkpoint_tensors made;
    made.metadata = classic.metadata;
    for (const auto& [name, tensor] : classic.all) {
      std::string theirs = name;
      for (const auto& [from, to] : names) {
        const std::size_t at = theirs.find(from);
        if (at != std::string::npos) {
          theirs.replace(at, from.size(), to);
        }
      }
      made.all[theirs] = tensor;
    }
    return intact::forward(load_checkpoint(made.in_memory()), image.view());
  };
  const std::vector<float> expected = intact::forward(load_checkpoint(classic.in_memory()), image.view());
  CHECK(renamed({{"encoder.layer.", "layers."},
                 {"attention.attention.query", "attention.q_proj"},
                 {"attention.attention.key", "attention.k_proj"},
                 {"attention.attention.value", "attention.v_proj"},
                 {"attention.output.dense", "attention.o_proj"},
                 {"intermediate.dense", "mlp.fc1"},
                 {"output.dense", "mlp.fc2"}}) == expected);
  CHECK(renamed({{"vit.", "dinov2."},
                 {"layernorm_before", "norm1"},
                 {"layernorm_after", "norm2"},
                 {"intermediate.dense", "mlp.fc1"},
                 {"attention.output.dense", "attention.OUTPUT"},
                 {".output.dense", ".mlp.fc2"},
                 {"attention.OUTPUT", "attention.output.dense"}}) == expected);
}

TEST_CASE("load_checkpoint: takes the names of torchvision") {
  const float_vit model = random_float_vit(tiny_vit);
  const checkpoint_tensors timm = timm_checkpoint(model);
  const std::vector<std::pair<std::string, std::string>> names = {{"patch_embed.proj", "conv_proj"},
                                                                  {"cls_token", "class_token"},
                                                                  {"pos_embed", "encoder.pos_embedding"},
                                                                  {"blocks.", "encoder.layers.encoder_layer_"},
                                                                  {"norm1", "ln_1"},
                                                                  {"norm2", "ln_2"},
                                                                  {"attn.qkv.", "self_attention.in_proj_"},
                                                                  {"attn.proj", "self_attention.out_proj"},
                                                                  {"mlp.fc1", "mlp.0"},
                                                                  {"mlp.fc2", "mlp.3"},
                                                                  {"head", "heads.head"}};
  checkpoint_tensors theirs;
  theirs.metadata = timm.metadata;
  for (const auto& [name, tensor] : timm.all) {
    std::string renamed = name.starts_with("norm.") ? "encoder.ln" + name.substr(4) : name;
    for (const auto& [from, to] : names) {
      const std::size_t at = renamed.find(from);
      if (at != std::string::npos) {
        renamed.replace(at, from.size(), to);
      }
    }
    theirs.all[renamed] = tensor;
  }
  const rgb_image image = made_image(12, 12);
  CHECK(intact::forward(load_checkpoint(theirs.in_memory()), image.view()) ==
        intact::forward(load_checkpoint(timm.in_memory()), image.view()));
  theirs.all["encoder.layers.encoder_layer_1.self_attention.in_proj_weight"].values[13] =
      std::numeric_limits<float>::infinity();
  CHECK(mentions(refusal<file_error>([&] { load_checkpoint(theirs.in_memory()); }),
                 "tensor \"encoder.layers.encoder_layer_1.self_attention.in_proj_weight\" has the value inf at row 1, "
                 "column 1; it must be finite"));
}

TEST_CASE("load_checkpoint: names every tensor that it does not understand, and the nearest known name") {
  checkpoint_tensors timm = timm_checkpoint(random_float_vit(tiny_vit));
  timm.all["blocks.0.attn.q_nrm.weight"] = timm.all["blocks.1.attn.q_nrm.weight"] = {{1}, {1}};
  timm.all["clstoken"] = {{1}, {1}};
  CHECK(mentions(refusal<file_error>([&] { load_checkpoint(timm.in_memory()); }),
                 "tensor \"blocks.0.attn.q_nrm.weight\" has no place in a vision transformer of this architecture; not "
                 "understood: \"blocks.0.attn.q_nrm.weight\" and 1 alike (nearest known name "));
  timm.all.erase("cls_token");
  const std::string missing = refusal<file_error>([&] { load_checkpoint(timm.in_memory()); });
  CHECK(mentions(missing, "tensor \"cls_token\" is missing; not understood: "));
  CHECK(mentions(missing, "\"clstoken\" (nearest known name \"cls_token\")"));

  checkpoint_tensors theirs = hugging_face_checkpoint(random_float_vit(tiny_vit));
  const std::string value = "vit.encoder.layer.1.attention.attention.value.weight";
  theirs.all[value].values[14] = std::numeric_limits<float>::quiet_NaN();
  CHECK(mentions(refusal<file_error>([&] { load_checkpoint(theirs.in_memory()); }),
                 "tensor \"" + value + "\" has the value nan at row 1, column 2; it must be finite"));
  theirs.all[value].values[14] = 0;
  theirs.all.erase("vit.encoder.layer.1.intermediate.dense.bias");
  CHECK(mentions(refusal<file_error>([&] { load_checkpoint(theirs.in_memory()); }),
                 "tensor \"vit.encoder.layer.1.intermediate.dense.bias\" is missing"));
}

TEST_CASE("read_checkpoint: values are those of options, the metadata, a configuration, or assumed, and it says so") {
  checkpoint_tensors timm = timm_checkpoint(random_float_vit(tiny_vit));
  timm.metadata = {{"std", "0.25"}};
  timm.all["mask_token"] = {{1}, {1}};
  checkpoint_config config;
  config.heads = {3, "heads of a file"};
  config.mean = {{0.5, 0.25, 0.125}, "means of a file"};
  config.standard_deviation = {{0.75}, "deviations of a file"};
  config.image_size = {{20, 20}, "sizes of a file"};
  config.interpolation = {"bilinear", "interpolation of a file"};
  config.resizing = {"squash", "resizing of a file"};
  config.crop = {0.9, "crop of a file"};
  config.pixel_max = {1, "pixels of a file"};
  config.activation = {"gelu_pytorch_tanh", "activation of a file"};
  const checkpoint_options options{.model = {.epsilon = 1e-3F}, .crop = 0.5, .config = config};
  const loaded_checkpoint loaded = intact::read_checkpoint(timm.in_memory(), options);
  CHECK(loaded.model.shape.heads == 3);
  CHECK(loaded.model.mean == std::vector<float>{0.5F, 0.25F, 0.125F});
  CHECK(loaded.model.standard_deviation == std::vector<float>{0.25F, 0.25F, 0.25F});
  CHECK(loaded.model.epsilon == 1e-3F);
  CHECK(loaded.model.pixel_max == 1);
  CHECK(loaded.model.shape.height == 20);
  CHECK(loaded.preprocessing.size == 20);
  CHECK(loaded.preprocessing.crop == 0.5);
  CHECK(loaded.preprocessing.kind == intact::interpolation::bilinear);
  CHECK(loaded.preprocessing.squash);
  CHECK(loaded.unused == std::vector<std::string>{"mask_token"});
  const auto shown = [](const loaded_checkpoint& from, const std::string& name) {
    for (const intact::checkpoint_value& value : from.values) {
      if (value.name == name) {
        return value.value + "|" + value.source + "|" + std::to_string(static_cast<int>(value.origin));
      }
    }
    return std::string();
  };
  CHECK(shown(loaded, "heads") == "3|heads of a file|1");
  CHECK(shown(loaded, "mean") == "0.5 0.25 0.125|means of a file|1");
  CHECK(shown(loaded, "std") == "0.25 0.25 0.25|metadata \"std\"|1");
  CHECK(shown(loaded, "epsilon") == "0.001||0");
  CHECK(shown(loaded, "size") == "20|sizes of a file|1");
  CHECK(shown(loaded, "crop") == "0.5||0");
  CHECK(shown(loaded, "interpolation") == "bilinear|interpolation of a file|1");
  CHECK(shown(loaded, "resize") == "squash|resizing of a file|1");
  CHECK(shown(loaded, "pixel_max") == "1|pixels of a file|1");
  CHECK(shown(loaded, "activation") == "gelu_tanh|activation of a file|1");
  CHECK(loaded.model.blocks[1].activation == intact::activation_function::gelu_tanh);

  timm.metadata = {{"heads", "2"}};
  const loaded_checkpoint plain = intact::read_checkpoint(timm.in_memory());
  CHECK(shown(plain, "heads") == "2|metadata \"heads\"|1");
  CHECK(shown(plain, "mean") == "0.485 0.456 0.406|that of ImageNet|2");
  CHECK(shown(plain, "epsilon") == "1e-06|that of timm's models|2");
  CHECK(shown(plain, "size") == "12|that of the positions|2");
  CHECK(shown(plain, "crop") == "0.875|default|2");
  CHECK(shown(plain, "interpolation") == "bicubic|default|2");
  CHECK(shown(plain, "resize") == "center|default|2");
  CHECK(shown(plain, "pixel_max").empty());
  CHECK(shown(plain, "activation") == "gelu|that of most models|2");
  CHECK(shown(loaded, "positions") == "3 to 5 on a side|bicubic, antialiased as in timm|1");
  CHECK(shown(plain, "positions").empty());
  const safetensors_file theirs = hugging_face_checkpoint(random_float_vit(tiny_vit)).in_memory();
  CHECK(shown(intact::read_checkpoint(theirs, {.image_size = 8}), "positions") ==
        "3 to 2 on a side|bicubic, antialiased as in timm; transformers does not antialias|1");
  CHECK(intact::detail::assumed_pixels(intact::imagenet_mean, 3).first.size() == 3);
  CHECK(std::fabs(intact::detail::assumed_pixels(intact::imagenet_mean, 1).first.at(0) - 1.347 / 3) < 1e-6);
  CHECK(intact::detail::assumed_heads(192).first == 3);
  CHECK(intact::detail::assumed_heads(1280).first == 16);
}

TEST_CASE("read_checkpoint: refuses a configuration that contradicts the tensors, or asks for unsupported parts") {
  checkpoint_tensors timm = timm_checkpoint(random_float_vit(tiny_vit));
  timm.metadata.erase("heads");  // it would come before the configuration
  const safetensors_file file = timm.in_memory();
  checkpoint_options known;
  known.config.heads = {2, "config"};
  const auto error = [&](auto change) {
    checkpoint_options options = known;
    change(options.config);
    return refusal<file_error>([&] { intact::read_checkpoint(file, options); });
  };
  const auto stated = [&](const char* key, index_t value) {
    return error([&](checkpoint_config& c) { c.sizes = {{key, value, "config"}}; });
  };
  for (const auto& [key, value] : std::vector<std::pair<const char*, index_t>>{{"hidden_size", 12},
                                                                               {"embed_dim", 12},
                                                                               {"num_features", 12},
                                                                               {"num_hidden_layers", 2},
                                                                               {"intermediate_size", 20},
                                                                               {"patch_size", 4},
                                                                               {"patch_width", 4},
                                                                               {"num_channels", 3},
                                                                               {"num_labels", 7},
                                                                               {"num_classes", 7},
                                                                               {"id2label", 7}}) {
    CAPTURE(key);
    CHECK(stated(key, value).empty());
    CHECK(stated(key, value + 1) ==
          "checkpoint: config is " + std::to_string(value + 1) + "; the tensors have " + std::to_string(value));
  }
  CHECK(error([](checkpoint_config& c) {
          c.heads = {5, "config"};
        }) == "checkpoint: config is 5; it must divide the width, 12");
  CHECK(mentions(error([](checkpoint_config& c) {
                   c.mean = {{1, 2}, "config"};
                 }),
                 "it must have 1 or, one per channel, 3"));
  CHECK(error([](checkpoint_config& c) { c.trained_size = {{12, 12}, "config"}; }).empty());
  CHECK(mentions(error([](checkpoint_config& c) {
                   c.trained_size = {{12, 16}, "config"};
                 }),
                 "config is 12 x 16; the positions are those of 12 x 12 pixels"));
  CHECK(mentions(error([](checkpoint_config& c) {
                   c.image_size = {{18, 12}, "config"};
                 }),
                 "config is 18 x 12; the sides must be multiples of those of a patch, 4 x 4"));
  CHECK(error([](checkpoint_config& c) { c.image_size = {{16, 12}, "config"}; }).empty());
  CHECK(mentions(error([](checkpoint_config& c) { c.image_size = {{14, 14}, "config"}; }), "of a patch, 4 x 4"));
  CHECK(mentions(error([](checkpoint_config& c) {
                   c.image_size = {{65536, 65536}, "config"};
                 }),
                 "config is 65536 x 65536; the sides must be multiples of those of a patch, 4 x 4, and make at most "
                 "81999 patches"));
  CHECK(mentions(error([](checkpoint_config& c) {
                   c.activation = {"mish", "config"};
                 }),
                 "config is \"mish\"; it must be gelu, gelu_tanh, quick_gelu, silu, relu, hard_swish"));
  CHECK(mentions(error([](checkpoint_config& c) { c.pooling = {"map", "config"}; }), "config is \"map\"; it must be"));
  CHECK(error([](checkpoint_config& c) { c.pooling = {"", "config"}; }).empty());
  const auto pooling = [&](const char* name) {
    checkpoint_options options = known;
    options.config.pooling = {name, "config"};
    return load_checkpoint(file, options).shape.pooling;
  };
  CHECK(pooling("token") == intact::vit_pooling::class_tokens);
  CHECK(pooling("avg") == intact::vit_pooling::mean);
  CHECK(mentions(error([](checkpoint_config& c) {
                   c.interpolation = {"lanczos", "config"};
                 }),
                 "config is \"lanczos\"; it must be \"bilinear\" or \"bicubic\""));
  CHECK(mentions(error([](checkpoint_config& c) { c.resizing = {"border", "config"}; }), "config is \"border\""));
  CHECK(mentions(error([](checkpoint_config& c) {
                   c.resizing = {"none", "config"};
                 }),
                 "config is false; images are always resized, and an option must say how"));
}

TEST_CASE("read_checkpoint: a configuration is not refused for a value that an option or the metadata replaces") {
  checkpoint_tensors timm = timm_checkpoint(random_float_vit(tiny_vit));
  checkpoint_config config;
  config.heads = {5, "config"};
  config.mean = {{1, 2}, "config"};
  config.standard_deviation = {{1, 2}, "config"};
  config.image_size = {{14, 14}, "config"};
  config.resizing = {"none", "config"};
  config.activation = {"mish", "config"};
  const checkpoint_options options{.image_size = 20, .squash = false, .config = config};
  timm.metadata = {{"heads", "3"}, {"mean", "0.5"}, {"std", "0.25"}, {"activation", "relu"}};
  CHECK(load_checkpoint(timm.in_memory(), options).shape.heads == 3);
  timm.metadata.clear();
  checkpoint_options given = options;
  given.model = {
      .heads = 6, .mean = {0.5F}, .standard_deviation = {0.25F}, .activation = intact::activation_function::relu};
  const float_vit model = load_checkpoint(timm.in_memory(), given);
  CHECK(model.shape.heads == 6);
  CHECK(model.shape.height == 20);
  CHECK(model.mean == std::vector<float>(3, 0.5F));
  given.model.heads.reset();
  CHECK(
      mentions(refusal<file_error>([&] { load_checkpoint(timm.in_memory(), given); }), "config is 5; it must divide"));
}

TEST_CASE("load_checkpoint: refuses sizes above those of models in files") {
  checkpoint_tensors timm = timm_checkpoint(random_float_vit(tiny_vit));
  timm.all["blocks.0.mlp.fc1.weight"] = {{1'048'577, 1}, std::vector<float>(1'048'577)};
  CHECK(mentions(refusal<file_error>([&] { load_checkpoint(timm.in_memory()); }),
                 "tensor \"blocks.0.mlp.fc1.weight\" has shape [1048577, 1]; it must have 2 sizes in 1..1048576"));
}

TEST_CASE("load_checkpoint: the time of a model of many blocks is not that of all names for each block") {
  vit_shape shape = tiny_vit;
  shape.width = shape.heads = shape.hidden = 1;
  const auto time_of = [&](index_t depth) {
    shape.depth = depth;
    const safetensors_file file = timm_checkpoint(random_float_vit(shape)).in_memory();
    const std::clock_t begin = std::clock();
    CHECK(std::ssize(load_checkpoint(file).blocks) == depth);
    return std::clock() - begin;
  };
  const std::clock_t few = time_of(500);
  CHECK(time_of(4'000) < 24 * few);  // 8 times the names; each name for each block would be 64 times the work
}

TEST_CASE("with_timm_names: refuses two tensors of one name, another type and another shape") {
  const checkpoint_tensors good = hugging_face_checkpoint(random_float_vit(tiny_vit));
  const auto error = [&](auto change) {
    checkpoint_tensors changed = good;
    change(changed);
    return refusal<file_error>([&] { with_timm_names(changed.in_memory()); });
  };
  CHECK(error([](checkpoint_tensors&) {}).empty());
  CHECK(mentions(error([](checkpoint_tensors& c) { c.all["cls_classifier.bias"] = c.all["classifier.bias"]; }),
                 "tensors \"classifier.bias\" and \"cls_classifier.bias\" are both \"head.bias\""));
  CHECK(
      mentions(error([](checkpoint_tensors& c) { c.all.erase("vit.encoder.layer.1.attention.attention.query.bias"); }),
               "tensor \"vit.encoder.layer.1.attention.attention.query.bias\" is missing"));
  const std::string key = "vit.encoder.layer.0.attention.attention.key.bias";
  CHECK(mentions(error([&](checkpoint_tensors& c) {
                   c.all[key] = {{1}, {0.5F}};
                 }),
                 "tensor \"" + key + "\" has shape [1]; it must be [12]"));
}

}  // namespace intact_test::load_checkpoint_test
