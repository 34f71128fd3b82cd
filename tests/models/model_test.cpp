// Fingerprints of whole models: a changed output bit is a breaking change, which docs/CHANGELOG.md must tell.
// Everything here is integers but for a few scales that are rounded from square roots, so that the fingerprints hold
// everywhere.

#include <array>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include "catch.hpp"
#include "intact/build/recipe.hpp"
#include "intact/reference/model/block.hpp"
#include "intact/reference/model/vit.hpp"
#include "small_model.hpp"

namespace intact_test::model_test {
namespace {

/// FNV-1a over the values' bytes, low byte first.
class fingerprint {
 public:
  template <class View>
  void add(const View& view) {
    for (index_t i = 0; i < view.rows; ++i) {
      for (index_t j = 0; j < view.columns; ++j) {
        auto value = static_cast<std::uint64_t>(static_cast<std::int64_t>(view(i, j)));
        for (int byte = 0; byte < 4; ++byte, value >>= 8) {
          hash_ = (hash_ ^ (value & 255)) * 1099511628211U;
        }
      }
    }
  }
  std::uint64_t value() const { return hash_; }

 private:
  std::uint64_t hash_ = 14695981039346656037U;
};

/// Every tensor that a block of this kind shows.
template <class Code>
std::uint64_t block_fingerprint(const block_shape& shape, const block_parameters& parameters, generator& random) {
  tensor<Code> stream(shape.attention.tokens, shape.attention.width);
  for (index_t i = 0; i < stream.view().rows; ++i) {
    for (index_t j = 0; j < stream.view().columns; ++j) {
      stream.view()(i, j) = static_cast<Code>(random.between(0, 255));
    }
  }
  std::vector<std::byte> scratch(reference::block_workspace_bytes(shape));
  fingerprint all;
  reference::block(stream.view(), parameters, shape, workspace(scratch.data(), scratch.size()),
                   [&](const trace_site&, const auto& codes) { all.add(codes); });
  return all.value();
}

TEST_CASE("block: the hash of its codes is the recorded one [u8 streams]", "[model]") {
  const block_shape shape{.attention = {.tokens = 17, .width = 24, .heads = 3}, .hidden = 40};
  const auto of_tail = [&](attention_code probabilities) {
    generator random(1);
    parameter_memory memory;
    block_parameters parameters = random_block(memory, shape, probabilities, random);
    // Steep enough that the tails differ: half at every step, and zero in the end.
    std::get<log2_of_sum>(parameters.attention.softmax.weights).exponential =
        memory.array<std::uint64_t>(256, [](index_t d) { return d < 40 ? index_t{1} << (40 - d) : 0; });
    return block_fingerprint<std::uint8_t>(shape, parameters, random);
  };
  CHECK(of_tail(attention_code::u8_masked) == 0xcfa6e94df91f7943U);
  CHECK(of_tail(attention_code::u4_clipped) == 0xeae529ac188839e3U);
  CHECK(of_tail(attention_code::u8_full) == 0x8204b58d78d42c4bU);
}

/// A block whose attention is relative to the maximum, and that adds to an s16 stream.
block_parameters random_precise_block(parameter_memory& memory, const block_shape& shape, attention_kind kind,
                                      generator& random) {
  block_parameters p = random_block(memory, shape, attention_code::u8_masked, random);
  for (layernorm_parameters* norm : {&p.norm1, &p.norm2}) {
    norm->zero_point = 0;
  }
  const std::span<const std::uint8_t> table = memory.array<std::uint8_t>(
      256, [&](index_t d) { return kind == attention_kind::weights ? 255 - d : std::min<index_t>(d / 7, 16); });
  if (kind == attention_kind::weights) {
    p.attention.softmax.weights = weights_of_max{table};
  } else {
    p.attention.softmax.weights = log2_of_max{table};
  }
  p.attention.softmax.context = row_divisor{3 << 27, 120};
  return p;
}

TEST_CASE("block: the hash of its codes is the recorded one [s16 streams]", "[model]") {
  const block_shape shape{.attention = {.tokens = 17, .width = 24, .heads = 3}, .hidden = 40};
  const auto of_kind = [&](attention_kind kind) {
    generator random(2);
    parameter_memory memory;
    const block_parameters parameters = random_precise_block(memory, shape, kind, random);
    return block_fingerprint<std::int16_t>(shape, parameters, random);
  };
  CHECK(of_kind(attention_kind::log2_of_max) == 0xccf4512a40cd0621U);
  CHECK(of_kind(attention_kind::weights) == 0xe21214190b96563bU);
}

TEST_CASE("vit: the hash of its codes is the recorded one", "[model]") {
  const vit_shape shape{.channels = 3,
                        .height = 8,
                        .image_width = 12,
                        .patch = 4,
                        .width = 16,
                        .heads = 2,
                        .hidden = 24,
                        .depth = 2,
                        .classes = 5};
  generator random(3);
  parameter_memory memory;
  const vit_parameters parameters = random_vit(memory, shape, attention_code::u8_masked, random);
  const matrix_view<const std::uint8_t> pixels = memory.matrix<std::uint8_t>(1, 3 * 8 * 12, 0, 255, random);
  tensor<std::int32_t> logits(1, shape.classes);
  tensor<std::uint8_t> logits_u8(1, shape.classes);
  std::vector<std::byte> scratch(reference::vit_workspace_bytes(shape));
  const auto run = [&](const image_view& image) {
    fingerprint all;
    reference::vit(image, parameters, shape, {logits.view(), logits_u8.view()},
                   workspace(scratch.data(), scratch.size()),
                   [&](const trace_site&, const auto& codes) { all.add(codes); });
    return all.value();
  };
  CHECK(run(planar_image(pixels.data, 3, 8, 12)) == 0x29334aa22d894b2bU);
  CHECK(run(interleaved_image(pixels.data, 3, 8, 12)) == 0x881e64e38785e24eU);
}

TEST_CASE("block: tokens do not depend on the alignment of their memory", "[model]") {
  const block_shape shape{.attention = {.tokens = 9, .width = 8, .heads = 2}, .hidden = 16};
  generator random(4);
  parameter_memory memory;
  const block_parameters parameters = random_block(memory, shape, attention_code::u4_clipped, random);
  const matrix_view<const std::uint8_t> codes = memory.matrix<std::uint8_t>(9, 8, 0, 255, random);
  std::vector<std::byte> scratch(reference::block_workspace_bytes(shape) + 64);
  std::vector<std::uint64_t> found;
  for (const index_t gap : {0, 1, 5}) {
    for (const std::size_t shift : {std::size_t{0}, std::size_t{1}, std::size_t{63}}) {
      tensor<std::uint8_t> stream(9, 8, {.gap = gap, .offset = gap});
      for (index_t i = 0; i < 9; ++i) {
        for (index_t j = 0; j < 8; ++j) {
          stream.view()(i, j) = codes(i, j);
        }
      }
      reference::block(stream.view(), parameters, shape, workspace(scratch.data() + shift, scratch.size() - shift));
      fingerprint all;
      all.add(stream.view());
      found.push_back(all.value());
    }
  }
  CHECK(found.size() == 9);
  CHECK(std::all_of(found.begin(), found.end(), [&](std::uint64_t one) { return one == found.front(); }));
}

}  // namespace
}  // namespace intact_test::model_test
