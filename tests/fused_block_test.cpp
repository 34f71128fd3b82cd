// Attention and blocks without tensors between their steps, on one instruction set, against the same step by step.

#include <cstddef>
#include <cstdint>
#include <string>
#include <thread>
#include <vector>

#include "catch.hpp"
#include "intact/intact.hpp"
#include "intact/model/fused_block.hpp"
#include "random_model.hpp"
#include "small_model.hpp"

namespace intact_test {
namespace {

using tested_isa = intact::isa::INTACT_TEST_ISA;

/// As many threads as asked for, new ones each time.
struct some_threads {
  index count = 1;

  index threads() const { return count; }
  template <class Task>
  void for_each(index tasks, const Task& task) const {
    std::vector<std::thread> all;
    for (index t = 0; t < count; ++t) {
      all.emplace_back([&, t] {
        for (index i = t; i < tasks; i += count) {
          task(i);
        }
      });
    }
    for (std::thread& thread : all) {
      thread.join();
    }
  }
};

/// The layers' weights in packed form.
class packed_layers {
 public:
  block_parameters pack(block_parameters p) {
    for (linear_parameters* layer : {&p.attention.qkv, &p.attention.proj, &p.mlp.fc1, &p.mlp.fc2}) {
      layer->weights = std::visit([&](const auto& weights) { return pack(weights); }, layer->weights);
    }
    return p;
  }

 private:
  struct alignas(64) line {
    std::byte bytes[64];
  };

  template <class Weights>
  weights_view pack(const Weights& weights) {
    if constexpr (detail::is_packed<Weights>) {
      return weights;
    } else {
      using packed = decltype(pack_weights(weights, std::span<std::byte>()));
      const auto bytes =
          static_cast<std::size_t>(packed_weights_bytes<typename packed::element>(weights.rows, weights.columns));
      memory_.emplace_back((bytes + 63) / 64 + 1);
      return pack_weights(weights, std::as_writable_bytes(std::span(memory_.back())));
    }
  }

  std::vector<std::vector<line>> memory_;
};

template <class Code>
tensor<Code> random_stream(index rows, index columns, generator& random) {
  tensor<Code> stream(rows, columns);
  const int low = std::is_signed_v<Code> ? -3000 : 0, high = std::is_signed_v<Code> ? 3000 : 255;
  for (index i = 0; i < rows; ++i) {
    for (index j = 0; j < columns; ++j) {
      stream.view()(i, j) = static_cast<Code>(random.between(low, high));
    }
  }
  return stream;
}

/// A batch through fused_block and through block, image by image; fewer threads than the workspace is for are allowed.
template <class Code>
void check_block(const block_parameters& p, const block_shape& shape, index batch, index threads, generator& random) {
  packed_layers layers;
  const block_parameters packed = layers.pack(p);
  const index tokens = shape.attention.tokens;
  auto fused = random_stream<Code>(batch * tokens, shape.attention.width, random);
  auto stepwise = fused;
  std::vector<std::byte> scratch(block_workspace_bytes(shape));
  for (index image = 0; image < batch; ++image) {
    block(stepwise.view().row_block(image * tokens, tokens), p, shape, workspace(scratch.data(), scratch.size()));
  }
  std::vector<std::byte> fused_scratch(fused_block_bytes(shape, batch, threads));
  fused_block<tested_isa>(fused.view(), packed, shape, workspace(fused_scratch.data(), fused_scratch.size()),
                          some_threads{threads});
  CHECK(first_difference(fused.view(), stepwise.view()) == "");
}

TEST_CASE("fused blocks of every profile give what the steps give", "[fused]") {
  for (profile chosen : sensible_attention_profiles()) {
    for (const auto stream : {stream_codes::u8, stream_codes::s16}) {
      chosen.stream = stream;
      INFO(profile_text(chosen));
      const model_recipe recipe{.shape = {.channels = 1,
                                          .height = 8,
                                          .width_pixels = 12,
                                          .patch = 4,
                                          .width = 24,
                                          .heads = 3,
                                          .hidden = 40,
                                          .depth = 2,
                                          .classes = 3},
                                .parts = chosen};
      integer_vit model(model_builder(recipe, 5).model());
      const vit_shape& shape = model.shape();
      generator random(9);
      for (const block_parameters& p : model.parameters().blocks) {
        if (stream == stream_codes::u8) {
          check_block<std::uint8_t>(p, shape.block(), 2, 1, random);
        } else {
          check_block<std::int16_t>(p, shape.block(), 2, 3, random);
        }
      }
    }
  }
}

TEST_CASE("fused blocks of any shape, batch and number of threads give what the steps give", "[fused]") {
  const struct {
    index tokens, width, heads, hidden, batch, threads;
  } cases[] = {
      {0, 16, 2, 8, 1, 1},    {1, 16, 2, 8, 3, 2},     {2, 3, 3, 5, 1, 7},      {7, 64, 1, 200, 2, 1},
      {63, 48, 2, 64, 1, 3},  {65, 130, 2, 70, 1, 2},  {197, 96, 3, 128, 1, 7}, {343, 40, 5, 16, 1, 2},
      {49, 256, 2, 64, 3, 1}, {1030, 32, 2, 32, 1, 3},
  };
  for (const auto& c : cases) {
    INFO(c.tokens << " tokens, width " << c.width << ", " << c.heads << " heads, batch " << c.batch);
    const block_shape shape{.attention = {c.tokens, c.width, c.heads}, .hidden = c.hidden};
    for (const tail probabilities : {tail::zero, tail::clip, tail::wide}) {
      generator random(static_cast<unsigned>(c.tokens + c.width));
      parameter_memory memory;
      check_block<std::uint8_t>(random_block(memory, shape, probabilities, random), shape, c.batch, c.threads, random);
    }
  }
}

}  // namespace
}  // namespace intact_test
