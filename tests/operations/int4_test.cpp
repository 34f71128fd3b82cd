#include "intact/types/int4.hpp"

#include <cstdint>
#include <stdexcept>

#include "catch.hpp"
#include "tensor.hpp"

namespace intact_test::int4_test {
namespace {

static_assert(packed_bytes(0) == 0 && packed_bytes(1) == 1 && packed_bytes(2) == 1 && packed_bytes(3) == 2);
static_assert(std::is_convertible_v<packed_view<s4, std::uint8_t>, packed_view<s4, const std::uint8_t>>);
static_assert(!std::is_convertible_v<packed_view<s4, const std::uint8_t>, packed_view<s4, std::uint8_t>>);

// 0, 1 and 2: nothing, half a byte, a whole one; odd and even around one and around two registers of 16 bytes.
constexpr index_t widths[] = {0, 1, 2, 3, 4, 5, 15, 16, 17, 31, 32, 33, 63, 64, 65};

/// Every value at every place of a row, row by row, in ascending, descending and random order.
template <class Element>
void check_round_trip(index_t columns, const layout& where) {
  constexpr int count = Element::max - Element::min + 1;
  packed_tensor<Element> packed(count, columns, where);
  const packed_view<Element, std::uint8_t> view = packed.view();
  const auto value = [&](index_t i, index_t j) { return Element::min + static_cast<int>((i + 3 * j) % count); };
  for (index_t i = 0; i < count; ++i) {
    for (index_t j = 0; j < columns; ++j) {
      view.set(i, j, value(i, j));
    }
  }
  index_t wrong = 0;
  const packed_view<Element, const std::uint8_t> readable = view;
  for (index_t i = 0; i < count; ++i) {
    for (index_t j = 0; j < columns; ++j) {
      wrong += readable(i, j) != value(i, j) ? 1 : 0;
    }
  }
  CAPTURE(columns, where.gap, where.offset);
  CHECK(wrong == 0);
  CHECK(packed.padding_is_zero());
  CHECK(packed.surroundings_untouched());
}

TEST_CASE("packed_view: stores and reads every 4-bit value [every place]") {
  for (const layout& where : layouts) {
    for (const index_t columns : widths) {
      check_round_trip<s4>(columns, where);
      check_round_trip<u4>(columns, where);
    }
  }
}

TEST_CASE("packed_view: the low nibble is the even column") {
  std::uint8_t bytes[2] = {0xff, 0xff};
  const packed_view<u4, std::uint8_t> unsigned_view(bytes, 1, 3);
  CHECK(unsigned_view.stride == 4);
  unsigned_view.set(0, 0, 1);
  unsigned_view.set(0, 1, 2);
  unsigned_view.set(0, 2, 3);
  CHECK(bytes[0] == 0x21);
  CHECK(bytes[1] == 0x03);

  const packed_view<s4, std::uint8_t> signed_view(bytes, 1, 4);
  signed_view.set(0, 0, -8);
  signed_view.set(0, 1, -1);
  CHECK(bytes[0] == 0xf8);
  CHECK(signed_view(0, 0) == -8);
  CHECK(signed_view(0, 1) == -1);
  CHECK(packed_view<u4, const std::uint8_t>(bytes, 1, 4)(0, 1) == 15);
}

TEST_CASE("packed_view: storing an element keeps its neighbours [any order]") {
  for (const index_t columns : {index_t{1}, index_t{2}, index_t{7}, index_t{8}}) {
    packed_tensor<s4> packed(3, columns, layouts[1]);
    const packed_view<s4, std::uint8_t> view = packed.view();
    generator random(2);
    fill(view, values::random, s4::min, s4::max, random);
    for (index_t j = columns; j-- > 0;) {
      tensor<std::int32_t> before(3, columns);
      for (index_t i = 0; i < 3; ++i) {
        for (index_t k = 0; k < columns; ++k) {
          before(i, k) = view(i, k);
        }
      }
      before(1, j) = -before(1, j) - 1;
      view.set(1, j, before(1, j));
      CHECK(first_difference(view, before.view()) == "");
    }
    CHECK(packed.padding_is_zero());
    CHECK(packed.surroundings_untouched());
  }
}

TEST_CASE("packed_view: rows start on bytes") {
  std::uint8_t bytes[8] = {};
  const auto refused = [&](index_t columns, index_t stride) {
    try {
      require_shape("test", "view", packed_view<s4, std::uint8_t>(bytes, 2, columns, stride), 2, columns);
    } catch (const std::invalid_argument&) {
      return true;
    }
    return false;
  };
  CHECK_FALSE(refused(3, 4));
  CHECK_FALSE(refused(4, 4));
  CHECK_FALSE(refused(4, 8));
  CHECK(refused(3, 3));
  CHECK(refused(3, 5));
  CHECK(refused(4, 2));
}

}  // namespace
}  // namespace intact_test::int4_test
