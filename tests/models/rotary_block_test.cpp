// Rotary positions of a block: the specification's tensors against plain loops. block_kernel_test compares the kernels
// with the specification.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <type_traits>
#include <variant>
#include <vector>

#include "catch.hpp"
#include "intact/reference/model/block.hpp"
#include "small_model.hpp"

namespace intact_test::rotary_block_test {
namespace {

using codes = tensor<std::uint8_t>;

/// The u8 tensors that a block shows, by name and number of the head.
using traced = std::map<std::string, codes>;

traced trace_block(const block_parameters& p, const block_shape& shape, codes& stream) {
  traced all;
  std::vector<std::byte> scratch(reference::block_workspace_bytes(shape));
  reference::block(
      stream.view(), p, shape, workspace(scratch.data(), scratch.size()),
      [&](const trace_site& site, const auto& shown) {
        if constexpr (std::is_same_v<std::remove_cvref_t<decltype(shown)>, matrix_view<const std::uint8_t>>) {
          const std::string head = site.head < 0 ? "" : std::to_string(site.head);
          codes copy(shown.rows, shown.columns);
          for (index_t i = 0; i < shown.rows; ++i) {
            std::copy_n(&shown(i, 0), shown.columns, &copy(i, 0));
          }
          all.emplace(std::string(site.name) + head, copy);
        }
      });
  return all;
}

codes random_stream(const block_shape& shape, generator& random) {
  codes stream(shape.attention.tokens, shape.attention.width);
  fill(stream.view(), values::random, 0, 255, random);
  return stream;
}

block_parameters random_rotary_block(parameter_memory& memory, const block_shape& shape, generator& random) {
  block_parameters p = random_block(memory, shape, attention_code::u8_masked, random);
  p.attention.zero_points = {.q = 100, .k = 131, .v = 128};
  return p;
}

/// The queries (part 0) or the keys (part 1) after their rotation, by the formula in double precision, which holds all
/// sums and quotients.
codes rotated(const codes& x, index_t part, int zero_point, const block_parameters& p, const attention_shape& shape) {
  const auto& angles = std::get<rotation_parameters>(p.attention.rotation);
  const index_t size = shape.width / shape.heads, half = size / 2, prefix = *shape.rotary_prefix;
  codes y(shape.tokens, shape.width);
  for (index_t t = 0; t < shape.tokens; ++t) {
    for (index_t c = 0; c < shape.width; ++c) {
      const index_t from = x.columns() == shape.width ? c : part * shape.width + c;
      y(t, c) = x(t, from);
      if (t >= prefix) {
        const bool first = c % size < half;
        const double own = x(t, from) - zero_point, other = x(t, first ? from + half : from - half) - zero_point;
        const double cosine = angles.cosine(t - prefix, c % half), sine = angles.sine(t - prefix, c % half);
        const double sum = own * cosine + (first ? -other : other) * sine;
        y(t, c) = static_cast<std::uint8_t>(std::clamp(std::floor(sum / 16384 + 0.5) + zero_point, 0.0, 255.0));
      }
    }
  }
  return y;
}

/// The codes of a head's logits.
codes logits_of(const codes& q, const codes& k, index_t head, const block_parameters& p, const attention_shape& shape) {
  const index_t size = shape.width / shape.heads;
  const attention_parameters& a = p.attention;
  codes logits(shape.tokens, shape.tokens);
  for (index_t i = 0; i < shape.tokens; ++i) {
    for (index_t j = 0; j < shape.tokens; ++j) {
      std::int64_t sum = 0;
      for (index_t c = head * size; c < (head + 1) * size; ++c) {
        sum += (q(i, c) - a.zero_points.q) * (k(j, c) - a.zero_points.k);
      }
      const std::int64_t code = (sum * a.logits.multiplier + a.logits.offset) >> (32 + a.logits.shift);
      logits(i, j) = static_cast<std::uint8_t>(std::clamp<std::int64_t>(code, 0, 255));
    }
  }
  return logits;
}

TEST_CASE("reference::block: rotates queries and keys of tokens after the prefix [all prefixes, with norms or not]") {
  const auto qk_norm = GENERATE(std::optional<normalization>(), std::optional(normalization::rmsnorm));
  for (const index_t prefix : {0, 1, 5, 9}) {
    const block_shape shape{
        .attention = {.tokens = 9, .width = 24, .heads = 2, .qk_norm = qk_norm, .rotary_prefix = prefix}, .hidden = 8};
    CAPTURE(prefix, qk_norm.has_value());
    generator random(11);
    parameter_memory memory;
    const block_parameters p = random_rotary_block(memory, shape, random);
    codes stream = random_stream(shape, random);
    traced all = trace_block(p, shape, stream);
    const codes q = rotated(all.at(qk_norm ? "q_norm" : "qkv"), 0, 100, p, shape.attention),
                k = rotated(all.at(qk_norm ? "k_norm" : "qkv"), 1, 131, p, shape.attention);
    CHECK(first_difference(all.at("q_rotated").view(), q.view()) == "");
    CHECK(first_difference(all.at("k_rotated").view(), k.view()) == "");
    for (const index_t head : {0, 1}) {
      CHECK(first_difference(all.at("attention_logits" + std::to_string(head)).view(),
                             logits_of(q, k, head, p, shape.attention).view()) == "");
    }
  }
}

TEST_CASE("reference::block: a prefix equals tokens with angles of 0") {
  block_shape shape{.attention = {.tokens = 7, .width = 16, .heads = 2, .rotary_prefix = 3}, .hidden = 8};
  generator random(12);
  parameter_memory memory;
  block_parameters p = random_rotary_block(memory, shape, random);
  const codes stream = random_stream(shape, random);
  codes expected = stream, found = stream;
  trace_block(p, shape, expected);
  const auto angles = std::get<rotation_parameters>(p.attention.rotation);
  const auto lengthened = [&](const matrix_view<const std::int16_t>& table, std::int16_t of_prefix) {
    return matrix_view<const std::int16_t>(
        memory.array<std::int16_t>(7 * 4, [&](index_t i) { return i < 3 * 4 ? of_prefix : table(i / 4 - 3, i % 4); })
            .data(),
        7, 4);
  };
  p.attention.rotation = rotation_parameters{lengthened(angles.cosine, 16384), lengthened(angles.sine, 0)};
  shape.attention.rotary_prefix = 0;
  trace_block(p, shape, found);
  CHECK(first_difference(found.view(), expected.view()) == "");
  CHECK(found.memory() != stream.memory());
}

}  // namespace
}  // namespace intact_test::rotary_block_test
