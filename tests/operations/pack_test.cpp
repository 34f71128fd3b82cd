#include "intact/pack.hpp"

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "catch.hpp"
#include "guarded_memory.hpp"
#include "refusal.hpp"
#include "tensor.hpp"

namespace intact_test::pack_test {
namespace {

/// Row and column counts around those that are packed side by side: groups of 4, pairs of them, 16 and 64 channels.
constexpr index_t row_counts[] = {0, 1, 2, 15, 16, 17, 47, 48, 63, 64, 65, 79, 80, 81, 127, 128, 129, 192};
constexpr index_t column_counts[] = {0, 1, 2, 3, 4, 5, 7, 8, 9, 12, 31, 33};

/// Channels that follow each other in one panel: 64, or the rest rounded up to 16.
index_t width_of_panel(index_t rows, index_t panel) {
  const index_t rest = rows - 64 * panel;
  return rest >= 64 ? 64 : (rest + 15) / 16 * 16;
}

/// The weight that a reader of the drawing at packed_weights finds for channel n and column k, in the bytes.
int drawn_s8(const std::vector<std::uint8_t>& bytes, index_t rows, index_t columns, index_t n, index_t k) {
  const index_t panel = n / 64;
  const index_t panel_start = panel * 64 * 4 * ((columns + 3) / 4);
  const index_t group_start = k / 4 * 4 * width_of_panel(rows, panel);
  const int byte = bytes[static_cast<std::size_t>(panel_start + group_start + n % 64 * 4 + k % 4)];
  return byte < 128 ? byte : byte - 256;
}
int drawn_s4(const std::vector<std::uint8_t>& bytes, index_t rows, index_t columns, index_t n, index_t k) {
  const index_t panel = n / 64;
  const index_t panel_start = panel * 64 * 4 * ((columns + 7) / 8);
  const index_t pair_start = k / 8 * 4 * width_of_panel(rows, panel);
  const int byte = bytes[static_cast<std::size_t>(panel_start + pair_start + n % 64 * 4 + k % 4)];
  const int nibble = k % 8 < 4 ? byte & 15 : byte >> 4;
  return nibble < 8 ? nibble : nibble - 16;
}

/// The bytes of shifts in front of each panel.
index_t drawn_shift_bytes(index_t columns, index_t group) {
  return ((columns + group - 1) / group * 16 + 63) / 64 * 64;
}
int drawn_grouped_s4(const std::vector<std::uint8_t>& bytes, index_t rows, index_t columns, index_t group, index_t n,
                     index_t k) {
  const index_t shift_bytes = drawn_shift_bytes(columns, group);
  const index_t panel = n / 64;
  const std::vector<std::uint8_t> steps(bytes.begin() + (panel + 1) * shift_bytes, bytes.end());
  const index_t shifts = panel * (shift_bytes + 64 * 4 * ((columns + 7) / 8)) + (k < columns ? k / group : 0) * 16;
  const int four_channels = bytes[static_cast<std::size_t>(shifts + n % 16)];
  const int factors[] = {1, 2, 4, 8};
  return drawn_s4(steps, rows, columns, n, k) * factors[four_channels >> n % 64 / 16 * 2 & 3];
}

/// Packs a view into memory of exactly the size, which must take up all of it, and looks at every weight and sum.
/// `shift_bytes`: in front of each panel.
template <class Element, class View, class Drawn, class Pack>
void check_packed(const View& w, index_t step, index_t shift_bytes, const Drawn& drawn, const Pack& pack) {
  const index_t rounded_rows = 64 * (w.rows / 64) + (w.rows % 64 + 15) / 16 * 16;
  const index_t panel_bytes = (w.rows + 63) / 64 * shift_bytes + rounded_rows * 4 * ((w.columns + step - 1) / step);
  packed_memory memory(panel_bytes + 4 * w.rows);
  const packed_weights<Element> packed = pack(w, memory.span());
  CHECK(memory.surroundings_untouched());
  CHECK((packed.rows == w.rows && packed.columns == w.columns));
  const packed_weights<Element> prefix = packed.prefix(w.rows, w.columns / 3);
  std::vector<std::uint8_t> bytes(memory.span().size());
  if (!bytes.empty()) {
    std::memcpy(bytes.data(), memory.span().data(), bytes.size());
  }
  int wrong = 0;
  for (index_t n = 0; n < rounded_rows; ++n) {
    std::int64_t sum = 0;
    for (index_t k = 0; k < (w.columns + step - 1) / step * step; ++k) {
      const bool exists = n < w.rows && k < w.columns;
      const int expected = exists ? w(n, k) : 0;
      wrong += drawn(bytes, w.rows, w.columns, n, k) != expected ? 1 : 0;
      wrong += exists && packed(n, k) != expected ? 1 : 0;
      wrong += exists && k < prefix.columns && prefix(n, k) != expected ? 1 : 0;
      sum += expected;
    }
    if (n < w.rows) {
      std::int32_t stored = 0;
      std::memcpy(&stored, bytes.data() + panel_bytes + 4 * n, sizeof stored);
      wrong += stored != sum || packed.sums[n] != sum ? 1 : 0;
    }
  }
  CAPTURE(w.rows, w.columns);
  CHECK(wrong == 0);
}

template <class Element, class View, class Drawn>
void check_packed(const View& w, index_t step, const Drawn& drawn) {
  CHECK(packed_weights_bytes<Element>(w.rows, w.columns) == packed_weights_bytes(w));
  CHECK(packed_weights_bytes(w) % 64 == 4 * w.rows % 64);
  check_packed<Element>(w, step, 0, drawn,
                        [](const View& weights, std::span<std::byte> memory) { return pack_weights(weights, memory); });
}

template <class Check>
void for_each_shape(const Check& check) {
  generator random(1);
  for (const index_t rows : row_counts) {
    for (const index_t columns : column_counts) {
      for (const layout& where : layouts) {
        check(rows, columns, where, random);
      }
    }
  }
}

TEST_CASE("pack_weights: weights and their sums are in the documented places [s8]") {
  for_each_shape([](index_t rows, index_t columns, const layout& where, generator& random) {
    guarded_tensor<std::int8_t> w(rows, columns, where);
    fill(w.view(), values::random, -128, 127, random);
    check_packed<std::int8_t>(matrix_view<const std::int8_t>(w.view()), 4, drawn_s8);
  });
}

TEST_CASE("pack_weights: weights and their sums are in the documented places [s4]") {
  for_each_shape([](index_t rows, index_t columns, const layout& where, generator& random) {
    guarded_packed_tensor<s4> w(rows, columns, where);
    fill(w.view(), values::random, s4::min, s4::max, random);
    check_packed<s4>(packed_view<s4, const std::uint8_t>(w.view()), 8, drawn_s4);
  });
}

/// Calls check(view) for full-range codes and shifts.
template <class Check>
void with_grouped_weights(index_t rows, index_t columns, index_t group, const layout& where, generator& random,
                          const Check& check) {
  guarded_packed_tensor<s4> codes(rows, columns, where);
  guarded_tensor<std::uint8_t> shifts(rows, group_count(columns, group), where);
  fill(codes.view(), values::random, s4::min, s4::max, random);
  fill(shifts.view(), values::random, 0, 3, random);
  check(grouped_s4_view(codes.view(), shifts.view(), group));
}

TEST_CASE("pack_weights: weights, sums and shifts are in the documented places [grouped s4]") {
  const auto check = [](const grouped_s4_view& w) {
    const index_t shift_bytes = drawn_shift_bytes(w.columns, w.group);
    const auto drawn = [&](const auto& bytes, index_t rows, index_t columns, index_t n, index_t k) {
      return drawn_grouped_s4(bytes, rows, columns, w.group, n, k);
    };
    CHECK(is_packable(w));
    check_packed<grouped_s4>(w, 8, shift_bytes, drawn,
                             [&](const grouped_s4_view& weights, std::span<std::byte> memory) {
                               CHECK(packed_weights_bytes(weights) == std::ssize(memory));
                               return pack_weights(weights, memory);
                             });
  };
  for_each_shape([&](index_t rows, index_t columns, const layout& where, generator& random) {
    for (const index_t group : {index_t{8}, index_t{16}, index_t{24}, columns + 1}) {
      with_grouped_weights(rows, columns, group, where, random, check);
    }
  });
  generator random(5);
  for (const index_t group : {8, 32, 64, 128, 300, 1000}) {
    with_grouped_weights(70, 300, group, layouts[0], random, check);
  }
}

TEST_CASE("pack_weights_as_s8: packs s4 weights with group factors [any groups]") {
  for_each_shape([](index_t rows, index_t columns, const layout& where, generator& random) {
    for (const index_t group : {1, 3, 4, 5, 8, 32}) {
      with_grouped_weights(rows, columns, group, where, random, [](const grouped_s4_view& w) {
        const auto pack = [](const grouped_s4_view& weights, std::span<std::byte> memory) {
          return pack_weights_as_s8(weights, memory);
        };
        check_packed<std::int8_t>(w, 4, 0, drawn_s8, pack);
      });
    }
  });
}

TEST_CASE("pack_weights: sums of the most extreme weights are exact") {
  generator random(2);
  guarded_tensor<std::int8_t> w(1, 131071);
  fill(w.view(), values::smallest, -128, 127, random);
  check_packed<std::int8_t>(matrix_view<const std::int8_t>(w.view()), 4, drawn_s8);
  guarded_packed_tensor<s4> w4(1, 2097151);
  fill(w4.view(), values::smallest, s4::min, s4::max, random);
  check_packed<s4>(packed_view<s4, const std::uint8_t>(w4.view()), 8, drawn_s4);
}

/// A prefix is the whole in the same memory; only a prefix with all columns has sums.
TEST_CASE("packed_weights: a prefix changes sizes only") {
  generator random(3);
  guarded_tensor<std::int8_t> w(80, 9);
  fill(w.view(), values::random, -128, 127, random);
  packed_memory memory(packed_weights_bytes<std::int8_t>(80, 9));
  const packed_weights<std::int8_t> all = pack_weights(w.view(), memory.span());
  const auto fewer_rows = all.prefix(65, 9);
  const auto fewer_columns = all.prefix(65, 8);
  CHECK((fewer_rows.rows == 65 && fewer_rows.columns == 9 && fewer_rows.sums == all.sums));
  CHECK((fewer_columns.rows == 65 && fewer_columns.columns == 8 && fewer_columns.sums == nullptr));
  CHECK(fewer_columns.prefix(3, 8).sums == nullptr);
  CHECK((fewer_columns.panels() == 2 && all.prefix(64, 9).panels() == 1 && all.prefix(0, 9).panels() == 0));
  CHECK((fewer_columns.panel(1) == all.panel(1) && fewer_columns.width(1) == all.width(1)));
  CHECK(all.panel(1) - all.panel(0) == 64 * 4 * 3);
}

/// Whether a refusal has all of these words, and left the memory alone.
template <class Action>
void check_refused(const packed_memory& memory, const std::vector<std::string>& words, Action action) {
  const std::string message = refusal(action);
  CAPTURE(message);
  for (const std::string& word : words) {
    CAPTURE(word);
    CHECK(mentions(message, word));
  }
  int written = 0;
  for (const std::byte byte : memory.span()) {
    written += byte != packed_memory::pattern ? 1 : 0;
  }
  CHECK(written == 0);
}

TEST_CASE("pack_weights: refuses memory that is too small or not aligned before anything is written") {
  generator random(4);
  guarded_tensor<std::int8_t> w(3, 5);
  fill(w.view(), values::random, -128, 127, random);
  constexpr index_t bytes = packed_weights_bytes<std::int8_t>(3, 5);
  static_assert(bytes == 16 * 8 + 12);
  packed_memory memory(bytes + 64);
  const std::span<std::byte> all = memory.span();
  check_refused(memory, {"pack_weights", "bytes of memory is 139", "at least 140"},
                [&] { pack_weights(w.view(), all.first(bytes - 1)); });
  check_refused(memory, {"pack_weights", "bytes of memory is 0", "at least 140"},
                [&] { pack_weights(w.view(), std::span<std::byte>()); });
  for (const std::size_t misaligned : {1u, 4u, 16u, 32u, 63u}) {
    check_refused(memory,
                  {"pack_weights", "address of memory modulo 64 is " + std::to_string(misaligned), "equal to 0"},
                  [&] { pack_weights(w.view(), all.subspan(misaligned, bytes)); });
  }
  CHECK(refusal([&] { pack_weights(w.view(), all.first(bytes)); }) == "");
}

TEST_CASE("pack_weights, pack_weights_as_s8: refuse views of no memory before anything is packed") {
  packed_memory memory(1024);
  const std::uint8_t codes[8] = {};
  const std::uint8_t shifts[2] = {0, 4};
  check_refused(memory, {"pack_weights", "w has 2 rows, 3 columns", "no data"},
                [&] { pack_weights(matrix_view<const std::int8_t>(nullptr, 2, 3), memory.span()); });
  check_refused(memory, {"pack_weights", "w has -1 rows"},
                [&] { pack_weights(matrix_view<const std::int8_t>(nullptr, -1, 3), memory.span()); });
  check_refused(memory, {"pack_weights", "w has stride 3", "even"},
                [&] { pack_weights(packed_view<s4, const std::uint8_t>(codes, 2, 3, 3), memory.span()); });
  const packed_view<s4, const std::uint8_t> w(codes, 2, 3);
  const grouped_s4_view too_far(w, matrix_view<const std::uint8_t>(shifts, 2, 1), 3);
  check_refused(memory, {"pack_weights", "shift of a group of weights is 4", "at most 3"},
                [&] { pack_weights(too_far, memory.span()); });
  check_refused(memory, {"pack_weights_as_s8", "shift of a group of weights is 4", "at most 3"},
                [&] { pack_weights_as_s8(too_far, memory.span()); });
}

TEST_CASE("pack_weights: refuses groups whose columns share bytes with others, unless they are packed as s8") {
  generator random(6);
  packed_memory memory(1024);
  for (const index_t group : {1, 3, 4, 12, 16}) {
    with_grouped_weights(5, 17, group, layouts[0], random, [&](const grouped_s4_view& w) {
      CHECK(is_packable(w) == (group == 16));
      if (group != 16) {
        check_refused(
            memory,
            {"pack_weights", "group size of the weights is " + std::to_string(group), "multiple of 8", "at least 17"},
            [&] { pack_weights(w, memory.span()); });
      }
      CHECK(is_packable(w.prefix(5, 8)) == (group >= 8));
    });
  }
  const grouped_s4_view without_groups({}, {}, 0);
  CHECK(!is_packable(without_groups));
  CHECK(mentions(refusal([&] { packed_weights_bytes(without_groups); }), "group size of the weights is 0"));
  with_grouped_weights(5, 17, 8, layouts[0], random, [&](const grouped_s4_view& w) {
    const index_t bytes = packed_weights_bytes(w);
    CHECK(bytes == 64 + 3 * 64 + 20);
    check_refused(memory, {"pack_weights", "bytes of memory is 275", "at least 276"},
                  [&] { pack_weights(w, memory.span().first(275)); });
    CHECK(refusal([&] { pack_weights(w, memory.span().first(276)); }) == "");
  });
}

}  // namespace
}  // namespace intact_test::pack_test
