// Recorded cases, as the example intact-verify reads and compares them.

#include <cstddef>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "file_mutator.hpp"
#include "fuzz_input.hpp"
#include "heap_watch.hpp"
#include "intact/io/safetensors_write.hpp"
#include "verify/modules.hpp"

namespace intact_test {
namespace {

/// Codes become 64-bit integers, and operations and their reports have as many elements as recorded tensors.
std::size_t memory_of(std::size_t file_bytes) {
  return 64 * file_bytes + (1 << 20);
}

struct recorded_tensor {
  const char* name;
  dtype type;
  std::vector<std::int64_t> shape;
};

struct recorded_kind {
  const char* function;
  const char* parameters;
  std::vector<recorded_tensor> tensors;
};

/// Small cases of functions, with the values that their comparisons read.
const std::vector<recorded_kind>& kinds() {
  constexpr dtype f32 = dtype::f32, i32 = dtype::i32, i64 = dtype::i64, u8 = dtype::u8, i8 = dtype::i8;
  static const std::vector<recorded_kind> all = {
      {"QAct -> QLinear -> QAct",
       "{}",
       {{"qin__codes", i32, {2, 3}},
        {"qin__scale", f32, {}},
        {"qin__zp", i32, {}},
        {"qin__in", f32, {2, 3}},
        {"lin__wcodes", i8, {2, 3}},
        {"lin__wscale", f32, {2}},
        {"lin__bias", f32, {2}},
        {"lin__acc", i32, {2, 2}},
        {"qout__codes", i32, {2, 2}},
        {"qout__scale", f32, {}},
        {"qout__zp", i32, {}},
        {"weight_f32", f32, {2, 3}}}},
      {"QIntLayerNorm",
       R"({"in_zero_point":99,"out_scale":0.03,"out_zero_point":128})",
       {{"codes", i32, {3, 4}},
        {"in_scale", f32, {4}},
        {"weight", f32, {4}},
        {"bias", f32, {4}},
        {"shift_mask", i32, {4}},
        {"out_codes", i32, {3, 4}},
        {"out_exact8", i32, {3, 4}},
        {"ideal", dtype::f64, {3, 4}}}},
      {"QIntSoftmax",
       R"({"n":30})",
       {{"codes", i32, {2, 3}},
        {"x", f32, {2, 3}},
        {"scale", f32, {1}},
        {"q4", i32, {2, 3}},
        {"q8", i32, {2, 3}},
        {"e_exact", i64, {2, 3}},
        {"S_exact", i64, {2, 1}},
        {"q_exact", i32, {2, 3}}}},
      {"QIntSoftmax masked",
       "{}",
       {{"codes", u8, {2, 3}}, {"x", f32, {2, 3}}, {"scale", f32, {1}}, {"mask", f32, {2, 3}}, {"q4", i32, {2, 3}}}},
      {"UniformQuantizer",
       R"({"module_type":"activation","bit_type":"int4"})",
       {{"x", f32, {1, 4}},
        {"scale", f32, {1}},
        {"zero_point", i32, {1}},
        {"codes", i32, {1, 4}},
        {"dequant", f32, {1, 4}}}},
      {"Log2Quantizer",
       R"({"bit_type":"uint8"})",
       {{"x", f32, {2, 3}}, {"codes", i32, {2, 3}}, {"dequant", f32, {2, 3}}}},
      {"PtfObserver.update",
       R"({"module_type":"activation","bit_type":"uint8","calibration_mode":"channel_wise"})",
       {{"batch0", f32, {2, 3, 4}},
        {"batch1", f32, {2, 3, 4}},
        {"max_val", f32, {4}},
        {"min_val", f32, {4}},
        {"scale", f32, {4}},
        {"zero_point", i32, {}}}},
      {"MinmaxObserver.update",
       R"({"module_type":"linear_weight","bit_type":"int8","calibration_mode":"layer_wise"})",
       {{"batch0", f32, {3, 5}},
        {"max_val", f32, {}},
        {"min_val", f32, {}},
        {"scale", f32, {}},
        {"zero_point", i32, {}}}},
      {"attention by weight codes",
       "{}",
       {{"logits__codes", u8, {2, 3}},
        {"attention__codes", u8, {2, 3}},
        {"table", u8, {256}},
        {"code_weights", u8, {16}},
        {"v__codes", u8, {3, 2}},
        {"v__scale", f32, {}},
        {"v__zp", i32, {}},
        {"context__codes", u8, {2, 2}},
        {"context__scale", f32, {}},
        {"context__zp", i32, {}}}},
      {"Attention.forward",
       R"({"softmax_bits":4,"scale":0.25})",
       {{"attn_qact1__codes", u8, {1, 2, 12}},
        {"attn_qact1__scale", f32, {}},
        {"attn_qact1__zp", i32, {}},
        {"attn_qact_attn1__codes", u8, {1, 2, 2, 2}},
        {"attn_qact_attn1__scale", f32, {}},
        {"attn_qact_attn1__zp", i32, {}},
        {"attn_qk_acc", i32, {1, 2, 2, 2}},
        {"attn_log_int_softmax__in", f32, {1, 2, 2, 2}},
        {"attn_log_int_softmax__q", i32, {1, 2, 2, 2}},
        {"attn_av_acc", i64, {1, 2, 2, 2}},
        {"attn_qact2__codes", u8, {1, 2, 4}},
        {"attn_qact2__scale", f32, {}},
        {"attn_qact2__zp", i32, {}}}}};
  return all;
}

/// A case of small numbers, among which most operations have something to compare.
std::vector<std::byte> make_file(generator& random) {
  const recorded_kind& kind = kinds()[static_cast<std::size_t>(random.between(0, std::ssize(kinds()) - 1))];
  std::vector<std::vector<std::byte>> elements;
  std::vector<tensor_to_write> tensors;
  for (const recorded_tensor& tensor : kind.tensors) {
    std::int64_t count = 1;
    for (const std::int64_t size : tensor.shape) {
      count *= size;
    }
    std::vector<std::byte>& bytes = elements.emplace_back();
    const auto append = [&](auto element) {
      const auto* const begin = reinterpret_cast<const std::byte*>(&element);
      bytes.insert(bytes.end(), begin, begin + sizeof element);
    };
    for (std::int64_t i = 0; i < count; ++i) {
      const std::int64_t number = random.between(0, 12);
      switch (tensor.type) {
        case dtype::f32:
          append(static_cast<float>(number + 1) / 16);
          break;
        case dtype::f64:
          append(static_cast<double>(number) / 16);
          break;
        case dtype::i64:
          append(number);
          break;
        case dtype::i32:
          append(static_cast<std::int32_t>(number));
          break;
        default:
          append(static_cast<std::uint8_t>(number));
      }
    }
    tensors.push_back({.name = tensor.name, .type = tensor.type, .shape = tensor.shape, .bytes = bytes});
  }
  return safetensors_bytes("fuzz", tensors, {{"function", kind.function}, {"params", kind.parameters}});
}

}  // namespace
}  // namespace intact_test

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* bytes, std::size_t size, std::size_t most, unsigned seed) {
  return intact_test::mutate_safetensors(bytes, size, most, seed, intact_test::make_file);
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  using namespace intact_test;
  try {
    const heap_watch watch(memory_of(size));
    const auto given = std::as_bytes(std::span(bytes, size));
    const intact::recorded::recorded_case file(safetensors_file::parse({given.begin(), given.end()}, "fuzz"));
    if (const intact_verify::known_function* const known = intact_verify::find_function(file.function())) {
      intact::recorded::case_report report;
      known->verify(file, report);
    }
  } catch (const file_error& error) {
    expect(std::string(error.what()).starts_with("fuzz: "), error.what());
  } catch (const std::invalid_argument&) {  // values that the library's builders refuse
  }
  return 0;
}
