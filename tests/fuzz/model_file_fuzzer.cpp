// Files of integer models, ViT and Swin: they are refused, or the model in them runs.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "file_mutator.hpp"
#include "fuzz_input.hpp"
#include "heap_watch.hpp"
#include "intact/build/packed_swin.hpp"
#include "intact/io/model_file.hpp"
#include "model_runs.hpp"
#include "model_work.hpp"
#include "random_swin.hpp"

namespace intact_test {
namespace {

void run(integer_vit&& model) {
  if (is_small(model.shape())) {
    generator random(1);
    check_model(packed_vit(std::move(model)), {}, random);
  }
}

void run(integer_swin&& model) {
  if (is_small(model.shape())) {
    generator random(1);
    const packed_swin packed(std::move(model));
    packed.shape().stream == stream_codes::s16
        ? check_model<std::int16_t>(packed.parameters(), packed.shape(), {}, random)
        : check_model<std::uint8_t>(packed.parameters(), packed.shape(), {}, random);
  }
}

/// Loading takes at most twice the file's size and 64 KiB, and no block of more than its size and 64 KiB.
template <class Load>
auto load(std::size_t size, const Load& load_file) {
  const heap_watch watch(2 * size + 65536, size + 65536);
  return load_file();
}

/// Vision transformers of every recipe.
raw_model random_vit(generator& random) {
  std::array<std::uint8_t, 64> bytes;
  for (std::uint8_t& byte : bytes) {
    byte = static_cast<std::uint8_t>(random.between(0, 255));
  }
  fuzz_input input(bytes.data(), bytes.size());
  model_recipe recipe = some_recipe(input);
  recipe.shape.depth = std::min<index_t>(recipe.shape.depth, 1);
  return raw_model(integer_vit(model_builder(recipe, static_cast<std::uint64_t>(random.between(0, 99))).model()));
}

constexpr swin_shape small{.channels = 1,
                           .height = 10,
                           .image_width = 6,
                           .patch = 2,
                           .stages = 2,
                           .stage = {{{6, 2, 9, 2, 2}, {9, 3, 7, 0, 2}}},
                           .classes = 4};

raw_model some_swin(generator& random) {
  static const std::vector<quantization_recipe> recipes = {paper_recipe, paper_recipe_888, precise_recipe,
                                                           precise_recipe_888, precise_recipe_weight_codes};
  static std::map<std::int64_t, raw_model> made;
  const std::int64_t kind = random.between(0, 3 * std::ssize(recipes) - 1);
  auto found = made.find(kind);
  if (found == made.end()) {
    quantization_recipe recipe = recipes[static_cast<std::size_t>(kind / 3)];
    recipe.weights = static_cast<weight_kind>(kind % 3);
    recipe.weight_group = 4;
    found = made.emplace(kind, raw_model(random_swin(small, recipe, 1))).first;
  }
  return found->second;
}

std::vector<std::byte> make_file(generator& random) {
  return (random.between(0, 2) == 0 ? some_swin(random) : random_vit(random)).file();
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
    const auto format = file.metadata().find("format");
    if (format != file.metadata().end() && format->second == swin_file_format) {
      run(load(size, [&] { return load_integer_swin(file); }));
    } else {
      run(load(size, [&] { return load_integer_vit(file); }));
    }
  } catch (const file_error& error) {
    const std::string message = error.what();
    expect(message.starts_with("fuzz: ") && message.size() < 1000, message);
  }
  return 0;
}
