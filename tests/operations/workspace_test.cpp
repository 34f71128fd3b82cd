#include "intact/types/workspace.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <new>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "catch.hpp"
#include "intact/model/vit.hpp"
#include "intact/reference/model/block.hpp"
#include "intact/reference/model/vit.hpp"
#include "small_model.hpp"
#include "tensor.hpp"

namespace intact_test {
namespace {

std::atomic<std::size_t> allocations{0};  // compilers assume that allocations change no variable that is not atomic

void* allocate(std::size_t bytes, std::size_t alignment) noexcept {
  ++allocations;
  return std::aligned_alloc(alignment, (bytes + alignment) / alignment * alignment);
}

void* allocate_or_throw(std::size_t bytes, std::size_t alignment) {
  if (void* const memory = allocate(bytes, alignment)) {
    return memory;
  }
  throw std::bad_alloc();
}

}  // namespace
}  // namespace intact_test

// Every allocation of this program is counted, those of arrays too. Not inlined: GCC warns of a free() that it
// sees without its allocation.
[[gnu::noinline]] void* operator new(std::size_t bytes) {
  return intact_test::allocate_or_throw(bytes, alignof(std::max_align_t));
}
[[gnu::noinline]] void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept {
  return intact_test::allocate(bytes, alignof(std::max_align_t));
}
[[gnu::noinline]] void* operator new(std::size_t bytes, std::align_val_t alignment) {
  return intact_test::allocate_or_throw(bytes, static_cast<std::size_t>(alignment));
}
[[gnu::noinline]] void operator delete(void* memory) noexcept {
  std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept {
  std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, std::align_val_t) noexcept {
  std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, std::size_t, std::align_val_t) noexcept {
  std::free(memory);
}

namespace intact_test {
namespace {

constexpr std::size_t whole_lines(std::size_t bytes) {
  return (bytes + 63) / 64 * 64;
}

// The size of a workspace is a constant of the shape. DeiT-Tiny: the normalized rows; the perceptron's hidden codes,
// which are more than q, k and v; and attention.
constexpr block_shape deit_tiny = {{197, 192, 3}, 768};
static_assert(block_workspace_bytes(deit_tiny) ==
              whole_lines(197 * 192) + whole_lines(197 * 768) + 63 + attention_workspace_bytes(197, 3, 64, 1));
static_assert(block_workspace_bytes({{577, 192, 3}, 192}) ==
              whole_lines(577 * 192) + whole_lines(577 * 576) + 63 + attention_workspace_bytes(577, 3, 64, 1));
static_assert(block_workspace_bytes({{0, 192, 3}, 768}) == 63 + attention_workspace_bytes(0, 3, 64, 1));

// A gate has as many codes again: of a band, and 577 rows are two bands of 300 and 277.
constexpr block_shape gated_tiny = {.attention = {197, 192, 3}, .hidden = 768, .gated = true};
static_assert(block_workspace_bytes(gated_tiny) ==
              whole_lines(197 * 192) + whole_lines(2 * 197 * 768) + 63 + attention_workspace_bytes(197, 3, 64, 1));
static_assert(block_workspace_bytes({.attention = {577, 192, 3}, .hidden = 6000, .gated = true}) ==
              whole_lines(577 * 192) + whole_lines(300 * 12'000) + 63 + attention_workspace_bytes(577, 3, 64, 1));

// Queries and keys are normalized and rotated in place.
static_assert(block_workspace_bytes({.attention = {197, 192, 3, normalization::layernorm, 1}, .hidden = 768}) ==
              block_workspace_bytes(deit_tiny));

// The specification: two buffers of the block; then, in the same place, qkv, logits, codes and context of attention, or
// the hidden codes of 16 and of 8 bits.
constexpr std::size_t deit_tiny_attention =
    whole_lines(197 * 576) + 2 * whole_lines(197 * 197) + whole_lines(197 * 192);
constexpr std::size_t deit_tiny_mlp = whole_lines(197 * 768 * 2) + whole_lines(197 * 768);
static_assert(deit_tiny_mlp > deit_tiny_attention);
static_assert(reference::block_workspace_bytes(deit_tiny) == 2 * whole_lines(197 * 192) + deit_tiny_mlp + 63);
static_assert(reference::block_workspace_bytes(gated_tiny) ==
              2 * whole_lines(197 * 192) + deit_tiny_mlp + whole_lines(197 * 768) + 63);
static_assert(reference::block_workspace_bytes({{577, 192, 3}, 192}) ==
              whole_lines(577 * 576) + 2 * whole_lines(577 * 577) + 3 * whole_lines(577 * 192) + 63);
static_assert(reference::block_workspace_bytes({{0, 192, 3}, 768}) == 63);

constexpr vit_shape small_vit = {.channels = 3,
                                 .height = 8,
                                 .image_width = 12,
                                 .patch = 4,
                                 .width = 10,
                                 .heads = 2,
                                 .hidden = 17,
                                 .depth = 2,
                                 .classes = 5};
static_assert(vit_workspace_bytes(small_vit) ==
              whole_lines(10) + whole_lines(7 * 10) + 63 + block_workspace_bytes(small_vit.block()));
static_assert(reference::vit_workspace_bytes(small_vit) == whole_lines(6 * 48) + whole_lines(7 * 10) + whole_lines(10) +
                                                               63 +
                                                               reference::block_workspace_bytes(small_vit.block()));

/// Memory of exactly so many bytes, `misalignment` bytes off a boundary of 64, between guards.
class guarded_memory {
 public:
  guarded_memory(std::size_t bytes, std::size_t misalignment)
      : bytes_(bytes), memory_(bytes + 4 * workspace_alignment, guard) {
    void* first = memory_.data() + 1;
    std::size_t space = memory_.size() - 1;
    first_ = static_cast<std::byte*>(std::align(workspace_alignment, bytes, first, space)) + misalignment;
  }

  workspace view() { return {first_, bytes_}; }
  const std::byte* first() const { return first_; }

  bool guards_untouched() const {
    const auto is_guard = [](std::byte b) { return b == guard; };
    const std::byte* const end = memory_.data() + memory_.size();
    return std::all_of(memory_.data(), static_cast<const std::byte*>(first_), is_guard) &&
           std::all_of(static_cast<const std::byte*>(first_ + bytes_), end, is_guard);
  }

 private:
  static constexpr std::byte guard{0xa7};

  std::size_t bytes_;
  std::vector<std::byte> memory_;
  std::byte* first_ = nullptr;
};

TEST_CASE("workspace: gives aligned memory from front to back") {
  for (std::size_t misalignment = 0; misalignment < 64; ++misalignment) {
    guarded_memory memory(1000, misalignment);
    workspace left = memory.view();
    CHECK(left.left() == 1000);
    const std::byte* const end = memory.first() + 1000;
    const std::byte* last = memory.first();
    for (const index_t count : {index_t{1}, index_t{64}, index_t{0}, index_t{65}, index_t{3}}) {
      const auto* const taken = reinterpret_cast<const std::byte*>(left.take<std::uint16_t>(count));
      CHECK(reinterpret_cast<std::uintptr_t>(taken) % 64 == 0);
      CHECK(taken >= last);
      CHECK(taken < last + 64);
      last = taken + 2 * count;
      CHECK(left.left() == static_cast<std::size_t>(end - last));
    }
  }
}

TEST_CASE("workspace: refuses more than it has, and does not change") {
  guarded_memory memory(64 + 10, 0);
  workspace left = memory.view();
  left.take<std::uint8_t>(1);
  CHECK(left.left() == 73);
  CHECK_THROWS_AS(left.take<std::uint8_t>(11), std::invalid_argument);
  CHECK_THROWS_AS(left.take<std::uint64_t>(2), std::invalid_argument);
  CHECK_THROWS_AS(left.matrix<std::uint8_t>(1 << 20, 1 << 20), std::invalid_argument);
  CHECK(left.left() == 73);
  left.take<std::uint8_t>(10);
  CHECK(left.left() == 0);
  CHECK_THROWS_AS(left.take<std::uint8_t>(1), std::invalid_argument);
}

TEST_CASE("workspace: refuses sizes whose bytes no integer holds") {
  guarded_memory memory(100, 0);
  workspace left = memory.view();
  CHECK_THROWS_AS(left.take<std::uint64_t>(index_t{1} << 61), std::invalid_argument);
  CHECK_THROWS_AS(left.take<std::uint16_t>(std::numeric_limits<index_t>::min()), std::invalid_argument);
  const index_t side = index_t{1} << (4 * sizeof(index_t));  // low bits of its square: 0
  CHECK_THROWS_AS(left.matrix<std::uint8_t>(side, side), std::invalid_argument);
  CHECK(left.left() == 100);
}

TEST_CASE("workspace: without memory, gives only empty arrays") {
  workspace nothing(nullptr, 0);
  CHECK(nothing.left() == 0);
  CHECK(nothing.take<std::uint64_t>(0) == nullptr);
  CHECK_THROWS_AS(nothing.take<std::uint8_t>(1), std::invalid_argument);
}

TEST_CASE("workspace: a matrix is dense") {
  guarded_memory memory(200, 1);
  workspace left = memory.view();
  const matrix_view<std::uint16_t> matrix = left.matrix<std::uint16_t>(5, 7);
  CHECK((matrix.rows == 5 && matrix.columns == 7 && matrix.stride == 7));
  matrix(4, 6) = 1;
  CHECK(left.left() == 200 - 63 - 70);
}

TEST_CASE("take_of_task: tasks have memory one after another") {
  alignas(intact::workspace_alignment) std::array<std::byte, 4 * intact::workspace_alignment> memory;
  const intact::workspace all(memory.data(), memory.size());
  const auto take = [](intact::workspace& rest) { return rest.take<std::byte>(intact::workspace_alignment + 1); };
  CHECK(intact::take_of_task(all, 0, take) == memory.data());
  CHECK(intact::take_of_task(all, 1, take) == memory.data() + 2 * intact::workspace_alignment);
}

TEST_CASE("workspace_size: is enough at every alignment, but one cache line less is not at the worst") {
  const index_t sizes[] = {1, 63, 64, 0, 65, 1000};
  workspace_size size;
  for (const index_t count : sizes) {
    CHECK(size.take<std::uint32_t>(count) == nullptr);
  }
  CHECK(size.bytes() == 64 + 256 + 256 + 0 + 320 + 4032 + 63);
  const auto take_all = [&](workspace memory) {
    for (const index_t count : sizes) {
      memory.take<std::uint32_t>(count);
    }
  };
  for (std::size_t misalignment = 0; misalignment < 64; ++misalignment) {
    guarded_memory enough(size.bytes(), misalignment);
    CHECK_NOTHROW(take_all(enough.view()));
  }
  guarded_memory short_of_a_line(size.bytes() - 64, 1);
  CHECK_THROWS_AS(take_all(short_of_a_line.view()), std::invalid_argument);
}

TEST_CASE("workspace_size: is the largest number if no memory is large enough") {
  constexpr std::size_t largest = static_cast<std::size_t>(-1);
  workspace_size product, sum, negative, half;
  product.matrix<std::uint8_t>(max_size / 2, 3);
  CHECK(product.bytes() == largest);
  sum.take<std::uint8_t>(max_size / 2);
  CHECK(sum.bytes() < largest);
  sum.take<std::uint64_t>(max_size / 16 + 64);
  CHECK(sum.bytes() == largest);
  negative.take<std::uint8_t>(-1);
  CHECK(negative.bytes() == largest);
  workspace_size wrapped_bytes, wrapped_product;  // the low bits of their true sizes are 0
  wrapped_bytes.take<std::uint64_t>(max_size / 4 + 1);
  CHECK(wrapped_bytes.bytes() == largest);
  wrapped_product.matrix<std::uint8_t>(index_t{1} << (4 * sizeof(index_t)), index_t{1} << (4 * sizeof(index_t)));
  CHECK(wrapped_product.bytes() == largest);
  half.take<std::uint8_t>(max_size / 2);
  CHECK(half.bytes_and(half.bytes()) == largest);
  CHECK(half.bytes_and(largest) == largest);
  CHECK(half.bytes_and(1) == half.bytes() + 1);
}

tensor<std::uint8_t> random_stream(const block_shape& shape) {
  generator random(38);
  tensor<std::uint8_t> stream(shape.attention.tokens, shape.attention.width, layouts[1]);
  fill(stream.view(), values::random, 0, 255, random);
  return stream;
}

/// The operations on kernels and those of the specification.
struct on_kernels {
  static std::size_t bytes(const block_shape& shape) { return block_workspace_bytes(shape); }
  static std::size_t bytes(const vit_shape& shape) { return vit_workspace_bytes(shape); }
  static void run(matrix_view<std::uint8_t> stream, const block_parameters& p, const block_shape& shape,
                  const workspace& memory) {
    block(stream, p, shape, memory);
  }
  static void run(const image_view& image, const vit_parameters& p, const vit_shape& shape, const classifier_outputs& y,
                  const workspace& memory) {
    vit(std::span(&image, 1), p, shape, y, memory);
  }
};
struct by_specification {
  static std::size_t bytes(const block_shape& shape) { return reference::block_workspace_bytes(shape); }
  static std::size_t bytes(const vit_shape& shape) { return reference::vit_workspace_bytes(shape); }
  static void run(matrix_view<std::uint8_t> stream, const block_parameters& p, const block_shape& shape,
                  const workspace& memory) {
    reference::block(stream, p, shape, memory);
  }
  static void run(const image_view& image, const vit_parameters& p, const vit_shape& shape, const classifier_outputs& y,
                  const workspace& memory) {
    reference::vit(image, p, shape, y, memory);
  }
};

/// Runs a block in exactly the memory that it asks for, at several alignments; the results must be the same.
template <class Evaluation>
void check_block(const block_shape& shape, attention_code probabilities,
                 const std::vector<std::size_t>& misalignments) {
  generator random(39);
  parameter_memory memory;
  const block_parameters parameters = random_block(memory, shape, probabilities, random);
  const std::size_t bytes = Evaluation::bytes(shape);
  CAPTURE(shape.attention.tokens, shape.attention.width, shape.hidden, int(probabilities), bytes);

  tensor<std::uint8_t> expected = random_stream(shape);
  guarded_memory plenty(2 * bytes + 1000, 0);
  Evaluation::run(expected.view(), parameters, shape, plenty.view());
  CHECK(expected.surroundings_untouched());
  CHECK((shape.attention.tokens == 0 || expected.memory() != random_stream(shape).memory()));

  for (const std::size_t misalignment : misalignments) {
    CAPTURE(misalignment);
    tensor<std::uint8_t> stream = random_stream(shape);
    guarded_memory exact(bytes, misalignment);
    Evaluation::run(stream.view(), parameters, shape, exact.view());
    CHECK(stream.memory() == expected.memory());
    CHECK(exact.guards_untouched());
  }
  tensor<std::uint8_t> stream = random_stream(shape);
  guarded_memory too_small(bytes - 1, 0);
  CHECK_THROWS_AS(Evaluation::run(stream.view(), parameters, shape, too_small.view()), std::invalid_argument);
  CHECK(stream.memory() == random_stream(shape).memory());
}

TEMPLATE_TEST_CASE("block_workspace_bytes: is the most that a block uses", "", on_kernels, by_specification) {
  std::vector<std::size_t> all;
  for (std::size_t misalignment = 0; misalignment < 64; ++misalignment) {
    all.push_back(misalignment);
  }
  for (const attention_code probabilities :
       {attention_code::u8_masked, attention_code::u4_clipped, attention_code::u8_full}) {
    check_block<TestType>({{7, 10, 2}, 17}, probabilities, all);     // nothing fills a cache line
    check_block<TestType>({{17, 8, 1}, 8}, probabilities, {0, 1});   // attention needs more than the perceptron
    check_block<TestType>({{1, 12, 3}, 48}, probabilities, {0, 1});  // one token
    check_block<TestType>({{0, 12, 3}, 48}, probabilities, {0, 1});  // none
    check_block<TestType>({{3, 1, 1}, 1}, probabilities, {0, 1});    // one channel
    check_block<TestType>({.attention = {7, 10, 2}, .hidden = 17, .gated = true}, probabilities, all);
    check_block<TestType>({.attention = {7, 10, 2, normalization::rmsnorm}, .hidden = 17}, probabilities, {0, 1});
  }
}

TEMPLATE_TEST_CASE("block_workspace_bytes: is the most that a block uses [DeiT-Tiny]", "", on_kernels,
                   by_specification) {
  check_block<TestType>(deit_tiny, attention_code::u8_masked, {1, 63});
}

/// The number of allocations of a call.
template <class Call>
std::size_t allocations_of(Call call) {
  const std::size_t before = allocations;
  call();
  return allocations - before;
}

TEST_CASE("allocations_of: counts allocations") {
  std::vector<int> array;
  std::string text;
  void* block = nullptr;  // compilers may leave out a new expression, not this call
  CHECK(allocations_of([&] { array.resize(100); }) == 1);
  CHECK(allocations_of([&] { text.assign(100, 'x'); }) == 1);
  CHECK(allocations_of([&] { block = ::operator new(1); }) == 1);
  ::operator delete(block);
  CHECK(allocations_of([&] { array.clear(); }) == 0);
}

TEMPLATE_TEST_CASE(
    "block: takes no memory from the heap [kernels, specification, RMSNorm with a gate, norms and rotary positions of "
    "queries and keys]",
    "", on_kernels, by_specification) {
  const auto norm = GENERATE(normalization::layernorm, normalization::rmsnorm);
  block_shape shape = {{17, 24, 3}, 48, norm, norm == normalization::rmsnorm};
  if (norm == normalization::rmsnorm) {
    shape.attention.qk_norm = norm;
    shape.attention.rotary_prefix = 1;
  }
  for (const attention_code probabilities :
       {attention_code::u8_masked, attention_code::u4_clipped, attention_code::u8_full}) {
    generator random(40);
    parameter_memory memory;
    const block_parameters parameters = random_block(memory, shape, probabilities, random);
    tensor<std::uint8_t> stream = random_stream(shape);
    guarded_memory scratch(TestType::bytes(shape), 0);
    CHECK(allocations_of([&] { TestType::run(stream.view(), parameters, shape, scratch.view()); }) == 0);
    CHECK(stream.memory() != random_stream(shape).memory());
  }
}

TEMPLATE_TEST_CASE("vit: takes no memory from the heap, and at most vit_workspace_bytes of the workspace", "",
                   on_kernels, by_specification) {
  generator random(41);
  parameter_memory memory;
  const vit_parameters parameters = random_vit(memory, small_vit, attention_code::u8_masked, random);
  const std::vector<std::uint8_t> pixels(3 * 8 * 12, 99);
  const image_view image = interleaved_image(pixels.data(), 3, 8, 12);
  tensor<std::int32_t> expected(1, small_vit.classes);
  for (std::size_t misalignment = 0; misalignment < 64; ++misalignment) {
    CAPTURE(misalignment);
    tensor<std::int32_t> logits(1, small_vit.classes);
    tensor<std::uint8_t> logits_u8(1, small_vit.classes);
    guarded_memory scratch(TestType::bytes(small_vit), misalignment);
    CHECK(allocations_of([&] {
            TestType::run(image, parameters, small_vit, classifier_outputs{logits.view(), logits_u8.view()},
                          scratch.view());
          }) == 0);
    CHECK(scratch.guards_untouched());
    if (misalignment == 0) {
      expected = logits;
      CHECK(logits.memory() != tensor<std::int32_t>(1, small_vit.classes).memory());
    }
    CHECK(logits.memory() == expected.memory());
  }
}

}  // namespace
}  // namespace intact_test
