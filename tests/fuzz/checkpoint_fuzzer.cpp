// Float checkpoints of vision and Swin transformers under the names of timm and Hugging Face, with their configurations.
// They are refused; or the float model in them runs and, if its tensors are finite, becomes an integer model that runs.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "checkpoint_files.hpp"
#include "file_mutator.hpp"
#include "fuzz_input.hpp"
#include "heap_watch.hpp"
#include "intact/build/packed_swin.hpp"
#include "intact/io/checkpoint_config.hpp"
#include "intact/quantize/build_swin.hpp"
#include "intact/quantize/load_checkpoint.hpp"
#include "intact/quantize/load_swin_checkpoint.hpp"
#include "model_runs.hpp"
#include "model_work.hpp"
#include "swin_checkpoint.hpp"

namespace intact_test {
namespace {

/// A checkpoint becomes float, and its positions are resized to at most 82,000 tokens.
constexpr std::size_t most_memory = 256 << 20;

/// The configurations are in the metadata, under the names of their files.
checkpoint_config config_of(const safetensors_file& file) {
  checkpoint_config config = read_checkpoint_config(file, "no folder");
  const auto read = [&](const char* name, auto read_object) {
    const auto text = file.metadata().find(name);
    if (text != file.metadata().end()) {
      const nlohmann::json json = detail::parse_json_object(file.name() + ": " + name, text->second);
      read_object(detail::config_object(file.name(), name, json), config);
    }
  };
  read("preprocessor_config.json", detail::read_preprocessor);
  read("config.json", detail::read_model_config);
  return config;
}

template <class Read>
auto load(const Read& read) {
  const heap_watch watch(most_memory);
  return read();
}

void run(const integer_vit& model) {
  generator random(1);
  check_model(packed_vit(model), {}, random);
}

void run(const integer_swin& model) {
  generator random(1);
  const packed_swin packed(model);
  packed.shape().stream == stream_codes::s16
      ? check_model<std::int16_t>(packed.parameters(), packed.shape(), {}, random)
      : check_model<std::uint8_t>(packed.parameters(), packed.shape(), {}, random);
}

integer_vit build(const float_vit& model, const vit_scales& scales, const quantization_recipe& recipe) {
  return build_vit(model, scales, recipe);
}
integer_swin build(const float_swin& model, const swin_scales& scales, const quantization_recipe& recipe) {
  return build_swin(model, scales, recipe);
}

template <class Model>
auto calibrated(const Model& model, const image_batch& images) {
  std::optional<decltype(calibrate(model, images.views()))> scales;
  const std::string refused = refusal([&] { scales = calibrate(model, images.views()); });
  expect(refused.size() < 1000, refused);
  return scales;
}

/// calibrate refuses tensors that are not finite; from all other models integer models can be built.
template <class Model>
void quantize(const Model& model, const quantization_recipe& recipe) {
  if (!is_small(model.shape)) {
    return;
  }
  generator random(1);
  const image_batch images(model.shape, {}, random);
  forward(model, images[0]);
  const auto scales = calibrated(model, images);
  if (scales) {
    run(build(model, *scales, recipe));
  }
}

std::vector<std::byte> make_file(generator& random) {
  static const std::vector<std::vector<std::byte>> files = [] {
    std::vector<std::vector<std::byte>> made;
    const auto add = [&](checkpoint_tensors checkpoint) {
      made.push_back(checkpoint.bytes());
      checkpoint.metadata["config.json"] = R"({"num_attention_heads":2,"layer_norm_eps":1e-6,"image_size":12,)"
                                           R"("hidden_act":"gelu","patch_size":[4,4],"num_labels":7,"depths":[2,1]})";
      checkpoint.metadata["preprocessor_config.json"] =
          R"({"size":{"height":12,"width":12},"resample":3,"image_mean":[0.5,0.4,0.3],"rescale_factor":0.004})";
      checkpoint.metadata["pretrained_cfg"] = R"({"input_size":[3,24,24],"crop_pct":0.9,"mean":[0,0,0]})";
      made.push_back(checkpoint.bytes());
    };
    for (const vit_shape& shape : {tiny_vit, distilled_vit}) {
      add(timm_checkpoint(random_float_vit(shape)));
      add(hugging_face_checkpoint(random_float_vit(shape)));
    }
    const float_swin swin = float_swin_builder(tiny_swin, 1).model();
    add(timm_checkpoint(swin));
    add(timm_checkpoint(swin, true));
    add(hugging_face_checkpoint(swin));
    return made;
  }();
  return files[static_cast<std::size_t>(random.between(0, std::ssize(files) - 1))];
}

}  // namespace
}  // namespace intact_test

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* bytes, std::size_t size, std::size_t most, unsigned seed) {
  return intact_test::mutate_safetensors(bytes, size, most, seed, intact_test::make_file);
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  using namespace intact_test;
  try {
    const auto given = std::as_bytes(std::span(bytes, size));
    const safetensors_file file = safetensors_file::parse({given.begin(), given.end()}, "fuzz");
    const checkpoint_options options{.config = config_of(file)};
    const quantization_recipe& recipe = size % 2 == 0 ? paper_recipe : precise_recipe;
    if (has_stages(with_timm_names(file))) {
      quantize(load([&] { return read_swin_checkpoint(file, options); }).model, recipe);
    } else {
      quantize(load([&] { return read_checkpoint(file, options); }).model, recipe);
    }
  } catch (const file_error& error) {
    const std::string message = error.what();
    expect(message.starts_with("fuzz: ") && message.size() < 2000, message);
  }
  return 0;
}
