#include "intact/io/model_file.hpp"

#include <sys/resource.h>

#include <csignal>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "cases.hpp"
#include "catch.hpp"
#include "quantized_model.hpp"
#include "random_model.hpp"
#include "refusal.hpp"

namespace intact_test::model_file_test {
namespace {

// ---- saving and loading ----

/// Saves a model, loads it, and checks that nothing has changed: parameters, results, and the bytes of a second file.
void require_round_trip(const integer_vit& model, const image_set& images) {
  const scratch_folder folder;
  save_integer_vit(model, folder / "first");
  const integer_vit loaded = load_integer_vit(folder / "first");
  REQUIRE((loaded.tensors() == model.tensors()));
  REQUIRE(classify_all(loaded, images) == classify_all(model, images));
  save_integer_vit(loaded, folder / "second");
  REQUIRE(file_contents(folder / "second") == file_contents(folder / "first"));
  REQUIRE(folder.files() == 2);
}

/// "name DTYPE [sizes]" of every tensor.
std::vector<std::string> described(const safetensors_file& file) {
  std::vector<std::string> lines;
  for (const std::string& name : file.names()) {
    std::string line = name + " " + std::string(dtype_name(file.info(name).type));
    for (const std::int64_t size : file.info(name).shape) {
      line += " " + std::to_string(size);
    }
    lines.push_back(line);
  }
  return lines;
}

// ---- the tensors of small_vit with one block: names, dtypes and sizes ----

/// Lines, sorted, of parts that have a name in common.
class line_list {
 public:
  void add(const std::string& name, const std::vector<std::string>& parts) {
    for (const std::string& part : parts) {
      lines_.insert(name + part);
    }
  }
  void add_parameters(const std::string& name, const std::string& channels) {
    add(name, {".multiplier I32 " + channels, ".offset I64 " + channels, ".shift I64", ".prescale I64",
               ".exact F64 " + channels + " 2"});
  }
  void add_tensor_scale(const std::string& name) {
    add(name,
        {".multiplier I64", ".offset I64", ".shift I64", ".prescale I64", ".exact.factor F64", ".exact.offset F64"});
  }
  void add_layernorm(const std::string& name) {
    add(name, {".zero_point I64", ".shift U8 15", ".epsilon I64", ".epsilon_fraction I64", ".gain I32 15",
               ".bias I64 15", ".output_shift I64"});
  }
  void add_addition(const std::string& name) {
    add(name, {".stream_multiplier I32 15", ".branch_multiplier I32 15", ".offset I32 15", ".zero_points.stream I64",
               ".zero_points.branch I64", ".zero_points.output I64", ".shift I64", ".exact F64 15 3"});
  }
  /// Tensors that the paper's and the precise model share.
  void add_common() {
    add("shape", {".channels I64", ".height I64", ".width_pixels I64", ".patch I64", ".width I64", ".heads I64",
                  ".hidden I64", ".depth I64", ".classes I64", ".stream I64"});
    add_parameters("patch.scale", "15");
    add_parameters("blocks.0.qkv.scale", "45");
    add_parameters("blocks.0.proj.scale", "15");
    add_parameters("blocks.0.fc1.scale", "17");
    add_parameters("blocks.0.fc2.scale", "15");
    add_parameters("logits", "7");
    add_parameters("logits_u8", "7");
    add_tensor_scale("blocks.0.attention_logits");
    add("blocks.0.weighting", {".kind I64", ".probabilities I64", ".rounding I64", ".normalize I64"});
    add("blocks.0", {".qkv_zero_point I64", ".activation U8 4096"});
    add_layernorm("blocks.0.norm1");
    add_layernorm("blocks.0.norm2");
    add_layernorm("norm");
    add("logits_scale F64", {""});
  }
  std::vector<std::string> lines() const { return {lines_.begin(), lines_.end()}; }

 private:
  std::set<std::string> lines_;
};

std::vector<std::string> lines_of_paper_model() {
  line_list list;
  list.add_common();
  list.add("patch.weights", {".kind I64", ".codes I8 15 18"});
  list.add("blocks.0.qkv.weights", {".kind I64", ".codes I8 45 15"});
  list.add("blocks.0.proj.weights", {".kind I64", ".codes I8 15 15"});
  list.add("blocks.0.fc1.weights", {".kind I64", ".codes I8 17 15"});
  list.add("blocks.0.fc2.weights", {".kind I64", ".codes I8 15 17"});
  list.add("head", {".kind I64", ".codes I8 7 15"});
  list.add("", {"pixel_table U8 2 256", "embed_table U8 256", "class_token U8 15", "positions U8 9 15"});
  list.add("blocks.0.weighting.exponential U64 256", {""});
  list.add_tensor_scale("blocks.0.weighting.context");
  list.add_addition("add_positions");
  list.add_addition("blocks.0.add1");
  list.add_addition("blocks.0.add2");
  return list.lines();
}

/// Of the precise recipe, with s4 weights in groups of 4.
std::vector<std::string> lines_of_precise_model() {
  line_list list;
  list.add_common();
  const auto add_weights = [&](const char* name, const char* packed, const char* shifts) {
    list.add(name,
             {".kind I64", ".group I64", std::string(".packed U8 ") + packed, std::string(".shifts U8 ") + shifts});
  };
  add_weights("patch.weights", "15 9", "15 5");
  add_weights("blocks.0.qkv.weights", "45 8", "45 4");
  add_weights("blocks.0.proj.weights", "15 8", "15 4");
  add_weights("blocks.0.fc1.weights", "17 8", "17 4");
  add_weights("blocks.0.fc2.weights", "15 9", "15 5");
  add_weights("head", "7 8", "7 4");
  list.add("token_addend I16 9 15", {""});
  list.add("blocks.0.weighting", {".table U8 256", ".normalization.factor I64", ".normalization.zero_point I64"});
  return list.lines();
}

}  // namespace

TEST_CASE("save_integer_vit: load_integer_vit gives the saved model [all recipes]", "[model_file]") {
  const image_set images(small_vit, 3);
  for (const named_recipe& each : named_recipes()) {
    CAPTURE(each.name);
    const integer_vit model = quantized_vit(small_vit, each.recipe);
    require_round_trip(model, images);

    const std::vector<classification> results = classify_all(model, images);
    REQUIRE(results[2] != results[3]);  // or the comparison of results would show nothing
  }
}

TEST_CASE("save_integer_vit: codes of attention weights have a table of codes and their weights", "[model_file]") {
  const scratch_folder folder;
  save_integer_vit(quantized_vit(small_vit, precise_recipe_weight_codes), folder / "codes");
  save_integer_vit(quantized_vit(small_vit, precise_recipe_888), folder / "weights");
  const safetensors_file codes = safetensors_file::read(folder / "codes");
  const std::string name = "blocks.0.weighting";
  CHECK(codes.values<std::int64_t>(name + ".kind", {}).front() == 3);
  CHECK(codes.info(name + ".table").shape == std::vector<std::int64_t>{256});
  CHECK(codes.info(name + ".code_weights").shape == std::vector<std::int64_t>{16});
  CHECK(codes.info(name + ".code_weights").type == dtype::u8);
  CHECK_FALSE(safetensors_file::read(folder / "weights").contains(name + ".code_weights"));
}

TEST_CASE("save_integer_vit: load_integer_vit gives distilled models, and one class token is not stored",
          "[model_file]") {
  vit_shape shape = small_vit;
  shape.class_tokens = 2;
  for (const quantization_recipe& recipe : {paper_recipe, precise_recipe}) {
    const integer_vit model = quantized_vit(shape, recipe);
    require_round_trip(model, image_set(shape, 1));
    const scratch_folder folder;
    save_integer_vit(model, folder / "distilled");
    save_integer_vit(quantized_vit(small_vit, recipe), folder / "plain");
    CHECK(safetensors_file::read(folder / "distilled").values<std::int64_t>("shape.class_tokens", {}).front() == 2);
    CHECK_FALSE(safetensors_file::read(folder / "plain").contains("shape.class_tokens"));
  }
}

TEST_CASE("save_integer_vit: load_integer_vit gives models with registers and means", "[model_file]") {
  const struct {
    index_t class_tokens, registers;
    vit_pooling pooling;
  } variants[] = {{1, 4, vit_pooling::class_tokens},
                  {0, 0, vit_pooling::mean},
                  {1, 2, vit_pooling::class_tokens_and_mean},
                  {1, 3, vit_pooling::normalized_mean}};
  for (const auto& [class_tokens, registers, pooling] : variants) {
    vit_shape shape = small_vit;
    shape.class_tokens = class_tokens;
    shape.registers = registers;
    shape.pooling = pooling;
    const image_set images(shape, 3);
    for (const quantization_recipe& recipe : {paper_recipe, precise_recipe}) {
      require_round_trip(quantized_vit(shape, recipe), images);
    }
  }
}

TEST_CASE("save_integer_vit: load_integer_vit gives models with RMSNorm, and LayerNorm is not stored", "[model_file]") {
  vit_shape shape = small_vit;
  shape.norm = normalization::rmsnorm;
  for (const quantization_recipe& recipe : {paper_recipe, precise_recipe}) {
    const integer_vit model = quantized_vit(shape, recipe);
    require_round_trip(model, image_set(shape, 3));
    const scratch_folder folder;
    save_integer_vit(model, folder / "rmsnorm");
    save_integer_vit(quantized_vit(small_vit, recipe), folder / "layernorm");
    CHECK(safetensors_file::read(folder / "rmsnorm").values<std::int64_t>("shape.norm", {}).front() == 1);
    CHECK_FALSE(safetensors_file::read(folder / "layernorm").contains("shape.norm"));
  }
}

/// Models of random integers with norms of queries and keys.
integer_vit vit_with_qk_norms(const quantization_recipe& recipe, normalization kind) {
  vit_shape shape = small_vit;
  shape.qk_norm = kind;
  return integer_vit(model_builder({.shape = shape, .parts = recipe}, 3).model());
}

TEST_CASE("save_integer_vit: load_integer_vit gives models with norms of queries and keys [both streams]",
          "[model_file]") {
  quantization_recipe recipe = paper_recipe;
  for (const stream_codes stream : {stream_codes::u8, stream_codes::s16}) {
    recipe.stream = stream;
    require_round_trip(vit_with_qk_norms(recipe, normalization::layernorm), image_set(small_vit, 3));
    require_round_trip(vit_with_qk_norms(recipe, normalization::rmsnorm), image_set(small_vit, 3));
  }
}

TEST_CASE("save_integer_vit: writes the documented tensors of norms of queries and keys", "[model_file]") {
  const scratch_folder folder;
  for (const auto kind : {normalization::layernorm, normalization::rmsnorm}) {
    save_integer_vit(vit_with_qk_norms(paper_recipe, kind), folder / "normed");
    const safetensors_file file = safetensors_file::read(folder / "normed");
    CHECK(file.values<std::int64_t>("shape.qk_norm", {}).front() == (kind == normalization::layernorm ? 1 : 2));
    std::vector<std::string> norms;
    for (const std::string& line : described(file)) {
      if (line.starts_with("blocks.1.q_norm.") || line.starts_with("blocks.1.k_norm.")) {
        norms.push_back(line);
      }
    }
    line_list expected;
    for (const char* const name : {"blocks.1.k_norm", "blocks.1.q_norm"}) {
      expected.add(name, {".bias I64 5", ".epsilon I64", ".epsilon_fraction I64", ".gain I32 5", ".output_shift I64",
                          ".shift U8 5", ".zero_point I64"});
    }
    CHECK(norms == expected.lines());
  }
  save_integer_vit(quantized_vit(small_vit, paper_recipe), folder / "plain");
  CHECK_FALSE(safetensors_file::read(folder / "plain").contains("shape.qk_norm"));
}

TEST_CASE("save_integer_vit: refuses norms of queries and keys that break their rules", "[model_file]") {
  const scratch_folder folder;
  const auto refused = [&](auto change) {
    vit_tensors contents = vit_with_qk_norms(paper_recipe, normalization::layernorm).tensors();
    change(*contents.blocks[1].qk_norms);
    return refusal<file_error>([&] { save_integer_vit(integer_vit(std::move(contents)), folder / "model"); });
  };
  CHECK(mentions(refused([](owned_qk_norms& n) { n.q.bias[4] = std::numeric_limits<std::int64_t>::max(); }),
                 "tensor \"blocks.1.q_norm.bias\" is 9223372036854775807 at position 4"));
  CHECK(mentions(refused([](owned_qk_norms& n) { n.k.gain[2] = 1 << 30; }), "tensor \"blocks.1.k_norm.gain\""));
  CHECK(folder.files() == 0);
}

TEST_CASE("integer_vit: refuses norms of queries and keys that the shape does not call for, and shapes without them",
          "[model_file]") {
  vit_tensors normed = vit_with_qk_norms(paper_recipe, normalization::rmsnorm).tensors(),
              plain = quantized_vit(small_vit, paper_recipe).tensors();
  normed.shape.qk_norm.reset();
  plain.shape.qk_norm = normalization::layernorm;
  CHECK(mentions(refusal([&] { const integer_vit model(normed); }),
                 "block 0: intact::attention: queries and keys have norms; the shape calls for none"));
  CHECK(mentions(refusal([&] { const integer_vit model(plain); }),
                 "block 0: intact::attention: queries and keys have no norms; the shape calls for them"));
}

/// Models of random integers with gated perceptrons.
integer_vit gated_vit(const quantization_recipe& recipe) {
  vit_shape shape = small_vit;
  shape.gated = true;
  return integer_vit(model_builder({.shape = shape, .parts = recipe}, 3).model());
}

TEST_CASE("save_integer_vit: load_integer_vit gives models with gated perceptrons [both streams, all weights]",
          "[model_file]") {
  quantization_recipe recipe = paper_recipe;
  for (const stream_codes stream : {stream_codes::u8, stream_codes::s16}) {
    for (const weight_kind weights : {weight_kind::s8, weight_kind::s4, weight_kind::grouped_s4}) {
      recipe.stream = stream;
      recipe.weights = weights;
      recipe.weight_group = 4;
      CAPTURE(static_cast<int>(stream), static_cast<int>(weights));
      require_round_trip(gated_vit(recipe), image_set(small_vit, 3));
    }
  }
}

TEST_CASE("save_integer_vit: writes the documented tensors of a gate", "[model_file]") {
  const scratch_folder folder;
  save_integer_vit(gated_vit(paper_recipe), folder / "gated");
  save_integer_vit(quantized_vit(small_vit, paper_recipe), folder / "plain");
  std::vector<std::string> gate;
  for (const std::string& line : described(safetensors_file::read(folder / "gated"))) {
    if (line.starts_with("blocks.1.gate.") || line.starts_with("shape.gated")) {
      gate.push_back(line);
    }
  }
  line_list expected;
  expected.add("blocks.1.gate.up.weights", {".kind I64", ".codes I8 17 15"});
  expected.add_parameters("blocks.1.gate.up.scale", "17");
  expected.add_tensor_scale("blocks.1.gate.product");
  expected.add("blocks.1.gate", {".activation_zero_point I64", ".up_zero_point I64"});
  expected.add("shape.gated I64", {""});
  CHECK(gate == expected.lines());
  CHECK_FALSE(safetensors_file::read(folder / "plain").contains("shape.gated"));
}

TEST_CASE("save_integer_vit: refuses gates that break their rules", "[model_file]") {
  const scratch_folder folder;
  const auto refused = [&](auto change) {
    vit_tensors contents = gated_vit(paper_recipe).tensors();
    change(*contents.blocks[1].gate);
    return refusal<file_error>([&] { save_integer_vit(integer_vit(std::move(contents)), folder / "model"); });
  };
  CHECK(mentions(refused([](owned_gate& g) { g.product.scale.left_shift = 30; }),
                 "tensor \"blocks.1.gate.product.prescale\" is 30"));
  CHECK(mentions(refused([](owned_gate& g) { g.product.exact.factor *= 2; }),
                 "tensor \"blocks.1.gate.product.exact.factor\""));
  CHECK(mentions(refused([](owned_gate& g) { g.up.scale.exact[3].offset += 1; }),
                 "tensor \"blocks.1.gate.up.scale.exact\""));
  CHECK(folder.files() == 0);
}

TEST_CASE("integer_vit: refuses gates that the shape does not call for, and shapes without them", "[model_file]") {
  vit_tensors gated = gated_vit(paper_recipe).tensors(), plain = quantized_vit(small_vit, paper_recipe).tensors();
  gated.shape.gated = false;
  plain.shape.gated = true;
  CHECK(mentions(refusal([&] { const integer_vit model(gated); }),
                 "block 0: intact::mlp: the perceptron has a gate; the shape calls for none"));
  CHECK(mentions(refusal([&] { const integer_vit model(plain); }),
                 "block 0: intact::mlp: the perceptron has no gate; the shape calls for one"));
}

TEST_CASE("save_integer_vit: load_integer_vit gives keys and values zero points of their own", "[model_file]") {
  vit_tensors tensors = quantized_vit(small_vit, paper_recipe).tensors();
  tensors.blocks[0].k_zero_point = 0;
  tensors.blocks[1].v_zero_point = 255;
  const scratch_folder folder;
  save_integer_vit(integer_vit(tensors), folder / "model");
  const vit_tensors loaded = load_integer_vit(folder / "model").tensors();
  CHECK((loaded == tensors));
  CHECK(loaded.blocks[0].zero_points().k == 0);
  CHECK(loaded.blocks[0].zero_points().v == tensors.blocks[0].qkv_zero_point);
  CHECK(loaded.blocks[1].zero_points().v == 255);
  require_round_trip(integer_vit(tensors), image_set(small_vit, 1));
}

TEST_CASE("save_integer_vit: load_integer_vit gives the saved model [smallest sizes]", "[model_file]") {
  for (const named_recipe& each : named_recipes()) {
    for (const int depth : {0, 1}) {
      CAPTURE(each.name, depth);
      vit_shape shape = smallest_vit;
      shape.depth = depth;
      require_round_trip(quantized_vit(shape, each.recipe), image_set(shape, 1));
    }
  }
}

TEST_CASE("vit_tensors: == compares every parameter", "[model_file]") {
  const vit_tensors contents = quantized_vit(small_vit, paper_recipe).tensors();
  const auto differs = [&](const auto& change) {
    vit_tensors changed = contents;
    change(changed);
    return changed != contents;
  };
  CHECK_FALSE(differs([](vit_tensors&) {}));
  CHECK(differs([](vit_tensors& c) { c.logits_u8.offset.back() += 1; }));
  CHECK(differs([](vit_tensors& c) { c.blocks[1].attention_logits.exact.offset *= 1 + 1e-15; }));
  CHECK(differs([](vit_tensors& c) { c.blocks[0].add2.exact.back().offset *= 1 + 1e-15; }));
  CHECK(differs([](vit_tensors& c) { c.norm.epsilon += 1; }));
  CHECK(differs([](vit_tensors& c) { c.norm.epsilon_fraction += 1; }));
}

TEST_CASE("save_integer_vit: load_integer_vit gives the digits model [all recipes]", "[model_file]") {
  const std::filesystem::path folder =
      std::filesystem::path(__FILE__).parent_path().parent_path().parent_path() / "examples" / "data";
  if (!std::filesystem::exists(folder)) {
    report_skipped("this program's source folder is not here");
    return;
  }
  const float_vit model = load_float_vit(safetensors_file::read(folder / "digits_vit.safetensors"));
  const image_set images(model.shape, 8);
  const vit_scales scales = calibrate(model, images.views());
  for (const named_recipe& each : named_recipes()) {
    CAPTURE(each.name);
    require_round_trip(build_vit(model, scales, each.recipe), images);
  }
}

TEST_CASE("load_integer_vit: a loaded model is valid after it is moved and its file is removed", "[model_file]") {
  const image_set images(small_vit, 1);
  const integer_vit model = quantized_vit(small_vit, precise_recipe);
  const scratch_folder folder;
  save_integer_vit(model, folder / "model");
  std::vector<integer_vit> models;
  for (int i = 0; i < 3; ++i) {
    models.push_back(load_integer_vit(folder / "model"));
  }
  std::filesystem::remove(folder / "model");
  for (const integer_vit& loaded : models) {
    REQUIRE(classify_all(loaded, images) == classify_all(model, images));
  }
}

TEST_CASE("save_integer_vit: writes notes as metadata beside format and version", "[model_file]") {
  const scratch_folder folder;
  const integer_vit model = quantized_vit(smallest_vit, paper_recipe);
  save_integer_vit(model, folder / "model", {{"license", "none"}, {"", "\xc3\xa9"}});
  const safetensors_file file = safetensors_file::read(folder / "model");
  REQUIRE(file.metadata() == std::map<std::string, std::string>{
                                 {"", "\xc3\xa9"}, {"format", "intact-vit"}, {"license", "none"}, {"version", "2"}});
  REQUIRE((load_integer_vit(file).tensors() == model.tensors()));
}

TEST_CASE("save_integer_vit: writes the documented tensors [version 2]", "[model_file]") {
  vit_shape shape = small_vit;
  shape.depth = 1;
  const scratch_folder folder;
  const auto lines_of = [&](const quantization_recipe& recipe) {
    save_integer_vit(quantized_vit(shape, recipe), folder / "model");
    return described(safetensors_file::read(folder / "model"));
  };
  quantization_recipe grouped = precise_recipe;
  grouped.weights = weight_kind::grouped_s4;
  grouped.weight_group = 4;
  REQUIRE(lines_of(paper_recipe) == lines_of_paper_model());
  REQUIRE(lines_of(grouped) == lines_of_precise_model());
}

TEST_CASE("save_integer_vit: refuses a model that cannot be loaded, and keeps the existing file", "[model_file]") {
  const scratch_folder folder;
  const std::filesystem::path path = folder / "model";
  const integer_vit model = quantized_vit(small_vit, paper_recipe);
  save_integer_vit(model, path);
  const std::string former = file_contents(path);

  struct bad_model {
    std::function<void(vit_tensors&)> change;
    std::string problem;
  };
  const std::vector<bad_model> all{
      {[](vit_tensors& c) { c.patch.scale.multiplier[3] = -1; },
       "tensor \"patch.scale.multiplier\" is -1 at position 3; it must be in 0..2147483647"},
      {[](vit_tensors& c) { c.blocks[1].qkv.scale.exact.clear(); },
       "tensor \"blocks.1.qkv.scale.exact\": F64 of shape [45, 2] has 720 bytes; 0 are given"},
      {[](vit_tensors& c) { c.blocks[0].add1.zero_points.output = 256; },
       "tensor \"blocks.0.add1.zero_points.output\" is 256; it must be in 0..255"},
      {[](vit_tensors& c) { c.logits_scale = 0; }, "tensor \"logits_scale\" is 0; it must be above 0 and finite"},
  };
  for (const bad_model& bad : all) {
    vit_tensors contents = model.tensors();
    bad.change(contents);
    const integer_vit changed(std::move(contents));
    REQUIRE(refusal<file_error>([&] { save_integer_vit(changed, path); }) == path.string() + ": " + bad.problem);
    REQUIRE(file_contents(path) == former);
  }
  for (const char* const key : {"format", "version"}) {
    REQUIRE(refusal<file_error>([&] {
              save_integer_vit(model, path, {{key, "mine"}});
            }) == path.string() + ": a note is named \"" + key + "\", which the format uses");
  }
  REQUIRE(refusal<file_error>([&] {
            save_integer_vit(model, path, {{"note", "\xff"}});
          }) == path.string() + ": \"?\" is not valid UTF-8");
  REQUIRE(file_contents(path) == former);
  REQUIRE(folder.files() == 1);
}

TEST_CASE("save_integer_vit: keeps the existing file if writing fails", "[model_file]") {
  const scratch_folder folder;
  const std::filesystem::path path = folder / "model";
  save_integer_vit(quantized_vit(smallest_vit, paper_recipe), path);
  const std::string former = file_contents(path);
  const integer_vit model = quantized_vit(small_vit, paper_recipe);

  ::rlimit limit{};
  REQUIRE(::getrlimit(RLIMIT_FSIZE, &limit) == 0);
  const ::rlimit small{4096, limit.rlim_max};
  const auto former_handler = std::signal(SIGXFSZ, SIG_IGN);
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &small) == 0);
  const std::string message = refusal<file_error>([&] { save_integer_vit(model, path); });
  const int restored = ::setrlimit(RLIMIT_FSIZE, &limit);
  std::signal(SIGXFSZ, former_handler);

  REQUIRE(restored == 0);
  REQUIRE(message.starts_with(path.string() + ": writing failed: "));
  REQUIRE(file_contents(path) == former);
  REQUIRE(folder.files() == 1);
}

TEST_CASE("save_integer_vit: refuses paths that cannot hold a file", "[model_file]") {
  const scratch_folder folder;
  const integer_vit model = quantized_vit(smallest_vit, paper_recipe);
  std::filesystem::create_directory(folder / "folder");
  const auto save = [&](const std::filesystem::path& path) {
    return refusal<file_error>([&] { save_integer_vit(model, path); });
  };
  const auto load = [&](const std::filesystem::path& path) {
    return refusal<file_error>([&] { load_integer_vit(path); });
  };
  REQUIRE(save(folder / "folder") == (folder / "folder").string() + ": is a folder");
  REQUIRE(save(folder / "none/model").starts_with((folder / "none/model").string() + ": a temporary file cannot"));
  REQUIRE(load(folder / "folder") == (folder / "folder").string() + ": is a folder");
  REQUIRE(load(folder / "none") == (folder / "none").string() + ": the file does not exist");
  REQUIRE(folder.files() == 1);
}

}  // namespace intact_test::model_file_test
