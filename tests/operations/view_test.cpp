#include "intact/types/view.hpp"

#include <cstdint>
#include <limits>
#include <stdexcept>
#include <type_traits>

#include "catch.hpp"
#include "tensor.hpp"

namespace intact_test::view_test {
namespace {

static_assert(std::is_signed_v<index_t>);
static_assert(std::is_trivially_copyable_v<matrix_view<std::uint8_t>>);
static_assert(std::is_convertible_v<matrix_view<std::uint8_t>, matrix_view<const std::uint8_t>>);
static_assert(!std::is_convertible_v<matrix_view<const std::uint8_t>, matrix_view<std::uint8_t>>);

template <class View>
bool is_refused(const View& view) {
  try {
    require_view("test", "view", view);
  } catch (const std::invalid_argument&) {
    return true;
  }
  return false;
}

template <class View>
bool has_shape(const View& view, index_t rows, index_t columns) {
  try {
    require_shape("test", "view", view, rows, columns);
  } catch (const std::invalid_argument&) {
    return false;
  }
  return true;
}

TEST_CASE("matrix_view: an element is at row * stride + column") {
  std::int32_t memory[12] = {};
  const matrix_view dense(memory, 3, 4);
  const matrix_view strided(memory, 2, 3, 5);
  CHECK(dense.stride == 4);
  CHECK(&dense(0, 0) == memory);
  CHECK(&dense(2, 3) == memory + 11);
  CHECK(&strided(1, 2) == memory + 7);
  strided(1, 2) = 9;
  CHECK(matrix_view<const std::int32_t>(strided)(1, 2) == 9);
}

TEST_CASE("matrix_view: blocks of rows and columns are views of the same memory") {
  std::uint8_t memory[20] = {};
  const matrix_view all(memory, 4, 3, 5);
  const matrix_view rows = all.row_block(1, 2);
  CHECK((rows.rows == 2 && rows.columns == 3 && rows.stride == 5));
  CHECK(&rows(0, 0) == &all(1, 0));
  CHECK(&rows(1, 2) == &all(2, 2));
  const matrix_view columns = all.column_block(1, 2);
  CHECK((columns.rows == 4 && columns.columns == 2 && columns.stride == 5));
  CHECK(&columns(3, 1) == &all(3, 2));
  CHECK(&all.row_block(3, 1).column_block(2, 1)(0, 0) == &all(3, 2));
}

TEST_CASE("matrix_view: empty blocks do not move the pointer") {
  const matrix_view<std::uint8_t> nothing(nullptr, 0, 7, 9);
  CHECK(nothing.row_block(0, 0).data == nullptr);
  CHECK(nothing.column_block(3, 4).data == nullptr);
  std::uint8_t memory[4] = {};
  const matrix_view some(memory, 2, 2);
  CHECK(some.row_block(2, 0).rows == 0);
  CHECK(some.column_block(2, 0).columns == 0);
  CHECK_FALSE(is_refused(some.row_block(2, 0)));
  CHECK_FALSE(is_refused(some.column_block(2, 0)));
}

TEST_CASE("matrix_view: a row of a view without columns and data does not move the pointer") {
  const matrix_view<std::uint8_t> nothing(nullptr, 3, 0, 5);
  CHECK_FALSE(is_refused(nothing));
  CHECK(nothing.row_block(2, 1).data == nullptr);
}

TEST_CASE("require_view: refuses views that do not describe memory") {
  std::uint8_t memory[16] = {};
  CHECK_FALSE(is_refused(matrix_view(memory, 4, 4)));
  CHECK_FALSE(is_refused(matrix_view(memory, 1, 1)));
  CHECK_FALSE(is_refused(matrix_view<std::uint8_t>()));
  CHECK_FALSE(is_refused(matrix_view<std::uint8_t>(nullptr, 0, 4)));
  CHECK_FALSE(is_refused(matrix_view<std::uint8_t>(nullptr, 4, 0)));
  CHECK(is_refused(matrix_view<std::uint8_t>(nullptr, 1, 1)));
  CHECK(is_refused(matrix_view(memory, -1, 4)));
  CHECK(is_refused(matrix_view(memory, 4, -1, 4)));
  CHECK(is_refused(matrix_view(memory, 4, 4, 3)));
  CHECK(is_refused(matrix_view(memory, 4, 4, -4)));
}

TEST_CASE("size_product, size_sum: stop at the largest size") {
  const index_t root = index_t{1} << (4 * sizeof(index_t) - 1);  // twice its square is one too large
  CHECK(size_product(root, root) == max_size / 2 + 1);
  CHECK(size_product(2 * root, root) == max_size);
  CHECK(size_product(max_size, 1) == max_size);
  CHECK(size_product(max_size, max_size) == max_size);
  CHECK(size_product(max_size, 0) == 0);
  CHECK(size_product(0, max_size) == 0);
  CHECK(size_product(-1, max_size) == -1);
  CHECK(size_product(std::numeric_limits<index_t>::min(), -1) == -1);
  CHECK(size_sum(max_size - 1, 1) == max_size);
  CHECK(size_sum(max_size, max_size) == max_size);
  CHECK(size_sum(0, -1) == -1);
  CHECK(group_count(max_size, 16) == max_size / 16 + 1);
}

TEST_CASE("require_view: refuses views whose last element has no address") {
  std::uint16_t memory[1] = {};
  constexpr index_t most = max_size / 2;
  CHECK_FALSE(is_refused(matrix_view(memory, 2, 1, most - 1)));
  CHECK(is_refused(matrix_view(memory, 2, 1, most)));
  CHECK(is_refused(matrix_view(memory, most, 1, most)));
  CHECK(is_refused(matrix_view(memory, 2, most + 1, max_size)));
  CHECK(is_refused(matrix_view(memory, 1, most + 1)));
  CHECK_FALSE(is_refused(matrix_view(memory, 1, most)));
  CHECK_FALSE(is_refused(matrix_view(memory, 0, most + 1)));
  CHECK_FALSE(is_refused(matrix_view(memory, max_size, 0, max_size)));
  CHECK_FALSE(is_refused(matrix_view(memory, 1, 1, max_size)));
}

TEST_CASE("has_shape: compares both sizes") {
  std::uint8_t memory[6] = {};
  const matrix_view view(memory, 2, 3);
  CHECK(has_shape(view, 2, 3));
  CHECK_FALSE(has_shape(view, 3, 3));
  CHECK_FALSE(has_shape(view, 2, 2));
  CHECK_FALSE(has_shape(view, 3, 2));
  CHECK_FALSE(has_shape(matrix_view<std::uint8_t>(nullptr, 2, 3), 2, 3));
}

}  // namespace
}  // namespace intact_test::view_test
