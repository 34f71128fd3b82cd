#include "intact/io/checkpoint_names.hpp"

#include <cstdint>
#include <ctime>
#include <set>
#include <string>
#include <vector>

#include "catch.hpp"
#include "intact/io/safetensors_write.hpp"
#include "refusal.hpp"

namespace intact_test::checkpoint_names_test {
namespace {

using namespace intact;

/// A file of tensors of two numbers each.
safetensors_file file_of(const std::vector<std::string>& names) {
  const std::vector<float> values = {1, 2};
  std::vector<tensor_to_write> tensors;
  for (const std::string& name : names) {
    tensors.push_back(tensor_from(name, {2}, values));
  }
  return safetensors_file::parse(safetensors_bytes("checkpoint", tensors, {}), "checkpoint");
}

}  // namespace

TEST_CASE("edit_distance: counts insertions, deletions and replacements") {
  CHECK(edit_distance("", "") == 0);
  CHECK(edit_distance("", "abc") == 3);
  CHECK(edit_distance("abc", "") == 3);
  CHECK(edit_distance("kitten", "sitting") == 3);
  CHECK(edit_distance("sunday", "saturday") == 3);
  CHECK(edit_distance("flaw", "lawn") == 2);
  CHECK(edit_distance("norm1", "norm1") == 0);
  CHECK(edit_distance("ab", "ba") == 2);
}

TEST_CASE("name_pattern: takes parts that are numbers out of a name and puts them into another") {
  const name_pattern pattern("layers.2.blocks.11.norm1.weight");
  CHECK(pattern.text == "layers.*.blocks.*.norm1.weight");
  CHECK(pattern.numbers == std::vector<std::string>{"2", "11"});
  CHECK(pattern.fill("a.*.b.*") == "a.2.b.11");
  CHECK(pattern.fill("*.*.*") == "2.11.*");
  CHECK(name_pattern("").text.empty());
  CHECK(name_pattern("a..1.").text == "a..*.");
}

TEST_CASE("list_unknown: names the nearest known name, counts names that are alike, and is short") {
  const std::set<std::string> known = {"blocks.*.ls1.gamma", "blocks.*.norm1.weight", "cls_token"};
  CHECK(list_unknown({{"m.blocks.3.ls.gamma", "blocks.3.ls.gamma"}}, known) ==
        "\"m.blocks.3.ls.gamma\" (nearest known name \"blocks.3.ls1.gamma\")");
  CHECK(list_unknown({{"blocks.0.norm1.w", "blocks.0.norm1.w"},
                      {"blocks.1.norm1.w", "blocks.1.norm1.w"},
                      {"clstoken", "clstoken"}},
                     known) ==
        "\"blocks.0.norm1.w\" and 1 alike (nearest known name \"blocks.0.norm1.weight\"), "
        "\"clstoken\" (nearest known name \"cls_token\")");
  CHECK(list_unknown({{"a", "a"}}, {}) == "\"a\"");
  std::vector<unknown_name> many;
  for (char c = 'a'; c <= 'z'; ++c) {
    const std::string name(100'000, c);
    many.push_back({name, name});
  }
  const std::string list = list_unknown(many, known);
  CHECK(list.size() < 10'000);
  CHECK(mentions(list, ", and 6 other kinds of names"));
}

TEST_CASE("timm_name: gives names of layers, tokens and heads") {
  for (const auto& [theirs, timms] : std::vector<std::pair<std::string, std::string>>{
           {"encoder.layer.11.attention.output.dense.bias", "blocks.11.attn.proj.bias"},
           {"encoder.layer.0.layernorm_before.weight", "blocks.0.norm1.weight"},
           {"layers.3.attention.o_proj.weight", "blocks.3.attn.proj.weight"},
           {"encoder.layer.7.layer_scale2.lambda1", "blocks.7.ls2.gamma"},
           {"embeddings.cls_token", "cls_token"},
           {"embeddings.distillation_token", "dist_token"},
           {"encoder.layer.4.mlp.weights_in.bias", "blocks.4.mlp.fc1.bias"},
           {"encoder.layer.4.mlp.weights_out.weight", "blocks.4.mlp.fc2.weight"},
           {"blocks.11.mlp.w12.weight", "blocks.11.mlp.fc1.weight"},
           {"blocks.11.mlp.w3.bias", "blocks.11.mlp.fc2.bias"},
           {"blocks.3.ls1.gamma", "blocks.3.ls1.gamma"},
           {"blocks.3.attn.q_norm.weight", "blocks.3.attn.q_norm.weight"},
           {"register_tokens", "reg_token"},
           {"layernorm.weight", "norm.weight"},
           {"distillation_classifier.bias", "head_dist.bias"},
           {"class_token", "cls_token"},
           {"encoder.pos_embedding", "pos_embed"},
           {"conv_proj.bias", "patch_embed.proj.bias"},
           {"encoder.layers.encoder_layer_10.self_attention.in_proj_weight", "blocks.10.attn.qkv.weight"},
           {"encoder.layers.encoder_layer_0.self_attention.out_proj.bias", "blocks.0.attn.proj.bias"},
           {"encoder.layers.encoder_layer_0.mlp.3.weight", "blocks.0.mlp.fc2.weight"},
           {"encoder.layers.encoder_layer_0.mlp.linear_1.weight", "blocks.0.mlp.fc1.weight"},
           {"encoder.ln.weight", "norm.weight"},
           {"heads.head.bias", "head.bias"},
           {"features.0.0.weight", "patch_embed.proj.weight"},
           {"features.0.2.bias", "patch_embed.norm.bias"},
           {"features.5.4.attn.qkv.bias", "layers.2.blocks.4.attn.qkv.bias"},
           {"features.1.0.mlp.3.bias", "layers.0.blocks.0.mlp.fc2.bias"},
           {"features.7.1.attn.relative_position_bias_table", "layers.3.blocks.1.attn.relative_position_bias_table"},
           {"features.2.reduction.weight", "layers.0.downsample.reduction.weight"},
           {"features.6.norm.bias", "layers.2.downsample.norm.bias"},
           {"embeddings.norm.weight", "patch_embed.norm.weight"},
           {"encoder.layers.2.blocks.5.attention.self.relative_position_index",
            "layers.2.blocks.5.attn.relative_position_index"},
           {"encoder.layers.0.blocks.1.output.dense.bias", "layers.0.blocks.1.mlp.fc2.bias"},
           {"encoder.layers.1.downsample.reduction.weight", "layers.1.downsample.reduction.weight"}}) {
    CAPTURE(theirs);
    CHECK(timm_name(theirs) == timms);
  }
  // FQ-ViT's names are timm's; others are not known.
  for (const std::string name :
       {"blocks.0.norm1.weight", "blocks.0.attn.qkv.weight", "layers.0.blocks.1.mlp.fc1.bias", "vit.unknown.weight",
        "encoder.layer.", "encoder.layer.x.layernorm_before.weight", "features.", "features.0.1.weight", "features.1",
        "features.99999999999999999999.0.norm1.weight", "features.1.a.norm1.weight", ""}) {
    CAPTURE(name);
    CHECK(timm_name(name) == name);
  }
}

TEST_CASE("with_timm_names: joins queries, keys and values, leaves out what classification does not need") {
  const std::string block = "module.vit.encoder.layer.1.attention.attention.";
  const safetensors_file file =
      file_of({block + "query.bias", block + "key.bias", block + "value.bias",
               "module.vit.embeddings.patch_embeddings.projection.weight", "module.vit.embeddings.mask_token",
               "module.vit.pooler.dense.weight", "module.classifier.bias", "module.vit.other"});
  const named_tensors tensors = with_timm_names(file);
  CHECK(tensors.prefix() == "module.vit.");
  CHECK(tensors.names() ==
        std::vector<std::string>{"blocks.1.attn.qkv.bias", "head.bias", "other", "patch_embed.proj.weight"});
  CHECK(tensors.unused() ==
        std::vector<std::string>{"module.vit.embeddings.mask_token", "module.vit.pooler.dense.weight"});
  CHECK(tensors.originals("blocks.1.attn.qkv.bias") ==
        std::vector<std::string>{block + "query.bias", block + "key.bias", block + "value.bias"});
  CHECK(tensors.shape("blocks.1.attn.qkv.bias") == std::vector<std::int64_t>{6});
  CHECK(tensors.real_values("blocks.1.attn.qkv.bias", {6}) == std::vector<float>{1, 2, 1, 2, 1, 2});
}

TEST_CASE("with_timm_names: a name loses the first parts of the common prefix that it has") {
  const named_tensors tensors = with_timm_names(
      file_of({"a.bc.patch_embed.proj.weight", "a.bc.norm.weight", "a.b.norm.bias", "a.head.bias", "ab.head.weight"}));
  CHECK(tensors.names() == std::vector<std::string>{"ab.head.weight", "b.norm.bias", "head.bias", "norm.weight",
                                                    "patch_embed.proj.weight"});
}

TEST_CASE("with_timm_names: a long common prefix costs time once, not for each name") {
  std::vector<std::string> names = {std::string(1'000'000, 'p') + ".patch_embed.proj.weight"};
  for (int n = 0; n < 5'000; ++n) {
    names.push_back("norm." + std::to_string(n));
  }
  const safetensors_file file = file_of(names);
  const std::clock_t begin = std::clock();
  CHECK(with_timm_names(file).names().size() == names.size());
  CHECK(std::clock() - begin < 2 * CLOCKS_PER_SEC);
}

TEST_CASE("expected_tensor_name: calls a missing tensor as the file's other tensors are called") {
  const auto expected = [](const std::vector<std::string>& names, const std::string& timms) {
    const safetensors_file file = file_of(names);
    return intact::expected_tensor_name(with_timm_names(file), timms);
  };
  const std::vector<std::string> hugging_face = {"m.vit.embeddings.patch_embeddings.projection.weight",
                                                 "m.vit.layernorm.weight",
                                                 "m.vit.encoder.layer.0.intermediate.dense.weight"};
  CHECK(expected(hugging_face, "norm.bias") == "m.vit.layernorm.bias");
  CHECK(expected(hugging_face, "blocks.12.mlp.fc1.weight") == "m.vit.encoder.layer.12.intermediate.dense.weight");
  CHECK(expected(hugging_face, "cls_token") == "m.vit.embeddings.cls_token");
  CHECK(expected(hugging_face, "head.weight") == "m.classifier.weight");
  CHECK(expected(hugging_face, "blocks.0.norm1.weight") == "m.vit.blocks.0.norm1.weight");  // no block has it
  const std::vector<std::string> torchvision = {"conv_proj.weight", "encoder.layers.encoder_layer_1.ln_1.weight"};
  CHECK(expected(torchvision, "pos_embed") == "encoder.pos_embedding");
  CHECK(expected(torchvision, "head.bias") == "heads.head.bias");
  CHECK(expected(torchvision, "blocks.4.norm1.weight") == "encoder.layers.encoder_layer_4.ln_1.weight");
  CHECK(expected({"module.patch_embed.proj.weight"}, "cls_token") == "module.cls_token");
  CHECK(expected({"a"}, "patch_embed.proj.weight") == "patch_embed.proj.weight");
}

TEST_CASE("named_tensors: refuses a second tensor of one name, and parts of other shapes") {
  const safetensors_file file = file_of({"a", "b"});
  named_tensors tensors(file);
  tensors.add("x", {"a"});
  const auto error = [&](const std::string& name, const std::vector<std::string>& parts) {
    try {
      tensors.add(name, parts);
    } catch (const file_error& problem) {
      return std::string(problem.what());
    }
    return std::string();
  };
  CHECK(error("x", {"b"}) == "checkpoint: tensors \"a\" and \"b\" are both \"x\"");
  CHECK(error("y", {"c"}) == "checkpoint: tensor \"c\" is missing");
  CHECK(error("z", {"a", "b"}).empty());
}

}  // namespace intact_test::checkpoint_names_test
