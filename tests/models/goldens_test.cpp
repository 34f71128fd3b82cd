#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <vector>

#include "cases.hpp"
#include "catch.hpp"
#include "exact_layernorm.hpp"
#include "intact/build/layernorm.hpp"
#include "intact/build/table.hpp"
#include "intact/intact.hpp"
#include "intact/io/safetensors.hpp"
#include "intact/reference/gemm.hpp"
#include "intact/reference/log_softmax.hpp"
#include "intact/reference/shift_matmul.hpp"
#include "keep_wide_accumulator.hpp"
#include "tensor.hpp"

// The recorded cases carry exact integers beside the float32 numbers of the original Python code. The operations must
// give these integers, every one of them.

namespace intact_test::goldens_test {
namespace {

/// The recorded cases whose names start so, from the folder's index.
std::vector<std::string> cases_named(const std::string& start) {
  std::ifstream index_file(cases_directory() / "INDEX.tsv");
  std::vector<std::string> names;
  for (std::string line; std::getline(index_file, line);) {
    if (line.starts_with(start)) {
      names.push_back(line.substr(0, line.find('\t')));
    }
  }
  return names;
}

safetensors_file open_case(const std::string& name) {
  return safetensors_file::read(cases_directory() / (name + ".safetensors"));
}

nlohmann::json parameters_of(const safetensors_file& file) {
  return nlohmann::json::parse(file.metadata().at("params"));
}

std::int32_t scalar(const safetensors_file& file, const std::string& name) {
  return file.values<std::int32_t>(name).at(0);
}

index_t size(const safetensors_file& file, const std::string& name, std::size_t dimension) {
  return file.info(name).shape.at(dimension);
}

/// Recorded codes, which are int32, as the type that they fit; all but the last dimension become the rows.
template <class T>
tensor<T> codes_of(const safetensors_file& file, const std::string& name) {
  const std::vector<std::int32_t> recorded = file.values<std::int32_t>(name);
  const index_t columns = file.info(name).shape.back();
  tensor<T> codes(std::ssize(recorded) / columns, columns);
  for (index_t i = 0; i < std::ssize(recorded); ++i) {
    const std::int32_t code = recorded[static_cast<std::size_t>(i)];
    codes(i / columns, i % columns) = static_cast<T>(code);
    REQUIRE(codes(i / columns, i % columns) == code);
  }
  return codes;
}

/// How much was compared.
struct comparison {
  std::int64_t cases = 0;
  std::int64_t tensors = 0;
  std::int64_t values = 0;
  std::int64_t different = 0;

  void compare(std::int64_t value, std::int64_t recorded) {
    ++values;
    different += value != recorded ? 1 : 0;
  }
  void report(const std::string& what) const {
    std::cout << what << ": " << different << " of " << values << " values differ, in " << tensors << " tensors of "
              << cases << " cases\n";
    CHECK(different == 0);
  }
};

struct softmax_comparison {
  comparison exponentials;
  comparison sums;
  comparison codes;
};

void compare_softmax(const safetensors_file& file, softmax_comparison& result) {
  const tensor<std::uint8_t> logits = codes_of<std::uint8_t>(file, "codes");
  const std::vector<std::int64_t> e = file.values<std::int64_t>("e_exact");
  const std::vector<std::int64_t> sums = file.values<std::int64_t>("S_exact");
  const std::vector<std::int32_t> q = file.values<std::int32_t>("q_exact");
  const index_t rows = logits.rows(), keys = logits.columns();
  const exp_values<std::uint64_t> values = i_exp_table(file.values<float>("scale").at(0), keys);
  const exp_table<std::uint64_t> table(values);

  tensor<std::uint8_t> zero(rows, keys), wide(rows, keys);
  packed_tensor<u4> clip(rows, keys);
  log_softmax<isa::native, attention_code::u8_masked>(logits.view(), table, zero.view());
  log_softmax<isa::native, attention_code::u4_clipped>(logits.view(), table, clip.view());
  log_softmax<isa::native, attention_code::u8_full>(logits.view(), table, wide.view());
  for (index_t i = 0; i < rows; ++i) {
    int largest = 0;
    for (index_t j = 0; j < keys; ++j) {
      largest = std::max<int>(largest, logits(i, j));
    }
    result.sums.compare(static_cast<std::int64_t>(reference::exp_sum(logits.view(), i, largest, table)),
                        sums[static_cast<std::size_t>(i)]);
    for (index_t j = 0; j < keys; ++j) {
      const auto at = static_cast<std::size_t>(i * keys + j);
      const std::int64_t exponential =
          static_cast<std::int64_t>(values.at(static_cast<std::size_t>(largest - logits(i, j))));
      const bool nothing = e[at] == 0;
      result.exponentials.compare(exponential, e[at]);
      result.codes.compare(wide(i, j), nothing ? 255 : q[at]);
      result.codes.compare(zero(i, j), nothing || q[at] >= 16 ? 16 : q[at]);
      result.codes.compare(clip.view()(i, j), nothing || q[at] >= 16 ? 15 : q[at]);
    }
  }
  for (comparison* const each : {&result.exponentials, &result.sums, &result.codes}) {
    ++each->cases;
    ++each->tensors;
  }
}

TEST_CASE("i_exp_table, log_softmax: give the exponentials, sums and codes of the original [recorded cases]") {
  if (skip_without_cases()) {
    return;
  }
  softmax_comparison result;
  for (const std::string& name : cases_named("lis_")) {
    const safetensors_file file = open_case(name);
    if (file.contains("q_exact")) {
      INFO(name);
      compare_softmax(file, result);
    }
  }
  result.exponentials.report("exponentials");
  result.sums.report("sums of rows");
  result.codes.report("log2 codes");
  CHECK(result.codes.cases >= 55);
  CHECK(result.exponentials.values >= 29533);
  CHECK(result.sums.values >= 725);
  CHECK(result.codes.values == 3 * result.exponentials.values);
}

TEST_CASE("i_exp_table: refuses the scale for which the original gives no numbers [recorded case]") {
  if (skip_without_cases()) {
    return;
  }
  const safetensors_file file = open_case("lis_edge_scale_too_big");
  const std::vector<std::int32_t> original = file.values<std::int32_t>("q4");
  CHECK(std::all_of(original.begin(), original.end(), [](std::int32_t code) { return code == -1; }));
  CHECK_THROWS_AS(i_exp_table(file.values<float>("scale").at(0), size(file, "codes", 1)), std::invalid_argument);
}

/// Where the input codes of a recorded layer stand: the name of a layer ends so, the input's name begins alike.
struct layer_input {
  std::string layer;
  std::string input;
};

const std::array<layer_input, 7> layer_inputs = {{{"attn_qkv", "qact1"},
                                                  {"attn_proj", "attn_qact2"},
                                                  {"mlp_fc1", "qact3"},
                                                  {"mlp_fc2", "mlp_qact1"},
                                                  {"patch_embed_proj", "qact_input"},
                                                  {"head", "qact2"},
                                                  {"lin", "qin"}}};

/// The quantizer whose codes a layer reads; a recording of attention alone calls its input qin.
std::string input_of(const safetensors_file& file, const std::string& layer) {
  for (const layer_input& known : layer_inputs) {
    if (layer.ends_with(known.layer)) {
      const std::string name = layer.substr(0, layer.size() - known.layer.size()) + known.input;
      return file.contains(name + "__codes") ? name : "qin";
    }
  }
  throw std::runtime_error("no input is known for the layer " + layer);
}

std::vector<std::string> names_ending(const safetensors_file& file, const std::string& end) {
  std::vector<std::string> names = file.names();
  std::erase_if(names, [&](const std::string& name) { return !name.ends_with(end); });
  for (std::string& name : names) {
    name.resize(name.size() - end.size());
  }
  return names;
}

/// Weights as rows of one output channel each, whatever their rank.
tensor<std::int8_t> weights_of(const safetensors_file& file, const std::string& layer) {
  const tensor<std::int8_t> recorded = codes_of<std::int8_t>(file, layer + "__wcodes");
  const index_t outputs = size(file, layer + "__wcodes", 0);
  tensor<std::int8_t> weights(outputs, recorded.rows() * recorded.columns() / outputs);
  std::copy_n(recorded.view().data, outputs * weights.columns(), weights.view().data);
  return weights;
}

/// The sums of a layer, with the input's zero point corrected.
template <class Weights>
tensor<std::int32_t> corrected_sums(const tensor<std::uint8_t>& x, std::int32_t zero_point, const Weights& weights) {
  tensor<std::int32_t> sums(x.rows(), weights.rows);
  reference::gemm(x.view(), weights, raw_accumulator{}, sums.view());
  for (index_t n = 0; n < weights.rows; ++n) {
    std::int32_t weight_sum = 0;
    for (index_t k = 0; k < weights.columns; ++k) {
      weight_sum += weights(n, k);
    }
    for (index_t m = 0; m < x.rows(); ++m) {
      sums(m, n) -= zero_point * weight_sum;
    }
  }
  return sums;
}

/// The input of a layer as a matrix; images are cut into patches, one below the other.
tensor<std::uint8_t> input_rows(const safetensors_file& file, const std::string& layer, const std::string& input) {
  tensor<std::uint8_t> codes = codes_of<std::uint8_t>(file, input + "__codes");
  const std::vector<std::int64_t>& kernel = file.info(layer + "__wcodes").shape;
  if (kernel.size() != 4) {
    return codes;
  }
  const index_t images = size(file, input + "__codes", 0), channels = kernel[1], patch = kernel[2];
  const index_t height = size(file, input + "__codes", 2), width = size(file, input + "__codes", 3);
  const index_t patches = (height / patch) * (width / patch);
  tensor<std::uint8_t> rows(images * patches, channels * patch * patch);
  for (index_t i = 0; i < images; ++i) {
    im2col(planar_image(codes.view().data + i * channels * height * width, channels, height, width), patch,
           rows.view().row_block(i * patches, patches));
  }
  return rows;
}

/// Recorded accumulators as rows of outputs; those of images stand output by output.
std::int32_t recorded_sum(const std::vector<std::int32_t>& recorded, const std::vector<std::int64_t>& shape, index_t m,
                          index_t n) {
  if (shape.size() != 4) {
    return recorded.at(static_cast<std::size_t>(m * shape.back() + n));
  }
  const index_t patches = shape[2] * shape[3];
  return recorded.at(static_cast<std::size_t>((m / patches * shape[1] + n) * patches + m % patches));
}

void compare_layer(const safetensors_file& file, const std::string& layer, comparison& result) {
  const std::string input = input_of(file, layer);
  INFO(layer << " reads " << input);
  const tensor<std::uint8_t> x = input_rows(file, layer, input);
  tensor<std::int8_t> weights = weights_of(file, layer);
  const std::int32_t zero_point = scalar(file, input + "__zp");
  std::vector<tensor<std::int32_t>> all = {corrected_sums(x, zero_point, weights.view())};

  const std::vector<std::int8_t>& codes = weights.memory();
  if (std::all_of(codes.begin(), codes.end(), [](std::int8_t w) { return w >= s4::min && w <= s4::max; })) {
    packed_tensor<s4> packed(weights.rows(), weights.columns());
    for (index_t n = 0; n < weights.rows(); ++n) {
      for (index_t k = 0; k < weights.columns(); ++k) {
        packed.view().set(n, k, weights(n, k));
      }
    }
    all.push_back(corrected_sums(x, zero_point, packed.view()));
  }

  const std::vector<std::int32_t> recorded = file.values<std::int32_t>(layer + "__acc");
  for (const tensor<std::int32_t>& sums : all) {
    REQUIRE(sums.rows() * sums.columns() == std::ssize(recorded));
    for (index_t m = 0; m < sums.rows(); ++m) {
      for (index_t n = 0; n < sums.columns(); ++n) {
        result.compare(sums(m, n), recorded_sum(recorded, file.info(layer + "__acc").shape, m, n));
      }
    }
    ++result.tensors;
  }
}

std::vector<std::string> cases_with_layers() {
  std::vector<std::string> names;
  for (const char* const start : {"linear_", "attention_", "block_", "vit_"}) {
    const std::vector<std::string> some = cases_named(start);
    names.insert(names.end(), some.begin(), some.end());
  }
  return names;
}

TEST_CASE("reference::gemm: gives the accumulators of every layer [recorded cases]") {
  if (skip_without_cases()) {
    return;
  }
  comparison result;
  for (const std::string& name : cases_with_layers()) {
    const safetensors_file file = open_case(name);
    INFO(name);
    for (const std::string& layer : names_ending(file, "__acc")) {
      compare_layer(file, layer, result);
    }
    ++result.cases;
  }
  result.report("accumulators of layers");
  CHECK(result.cases >= 10);
  CHECK(result.tensors >= 53);  // 42 layers, 11 of them with weights that 4 bits hold
}

/// The recorded q, k and v of an attention.
struct recorded_qkv {
  tensor<std::uint8_t> codes;
  int zero_point;
  index_t heads, tokens;

  /// The share of q (0), k (1) or v (2) of one head of one image.
  quantized_matrix part(index_t image, index_t head, index_t which) {
    const index_t width = codes.columns() / 3;
    const index_t head_size = width / heads;
    return {codes.view().row_block(image * tokens, tokens).column_block(which * width + head * head_size, head_size),
            zero_point};
  }
};

void compare_logits(const safetensors_file& file, const std::string& attention, comparison& result) {
  const std::string name = attention + "_qk_acc";
  const index_t images = size(file, name, 0), heads = size(file, name, 1), tokens = size(file, name, 2);
  recorded_qkv qkv{.codes = codes_of<std::uint8_t>(file, attention + "_qact1__codes"),
                   .zero_point = scalar(file, attention + "_qact1__zp"),
                   .heads = heads,
                   .tokens = tokens};
  const std::vector<std::int32_t> recorded = file.values<std::int32_t>(name);
  auto next = recorded.begin();
  for (index_t image = 0; image < images; ++image) {
    for (index_t head = 0; head < heads; ++head) {
      tensor<std::int32_t> sums(tokens, tokens);
      reference::gemm(qkv.part(image, head, 0), qkv.part(image, head, 1), raw_accumulator{}, sums.view());
      for (const std::int32_t sum : sums.memory()) {
        result.compare(sum, *next++);
      }
    }
  }
  REQUIRE(next == recorded.end());
  ++result.tensors;
}

TEST_CASE("reference::gemm: gives the accumulators of the attention logits [recorded cases, two activations]") {
  if (skip_without_cases()) {
    return;
  }
  comparison result;
  for (const std::string& name : cases_with_layers()) {
    const safetensors_file file = open_case(name);
    INFO(name);
    const std::vector<std::string> attentions = names_ending(file, "_qk_acc");
    for (const std::string& attention : attentions) {
      compare_logits(file, attention, result);
    }
    result.cases += attentions.empty() ? 0 : 1;
  }
  result.report("accumulators of attention logits");
  CHECK(result.cases >= 6);
  CHECK(result.tensors >= 9);
}

/// The recorded unit is 2^-15 of v's scale for 4-bit codes, as ours; 2^-31 for 8-bit codes, ours is 2^-44.
constexpr int recorded_fraction_bits_8 = 31;

void compare_context(const safetensors_file& file, const std::string& attention, comparison& result) {
  const bool wide = parameters_of(file).at("softmax_bits") == 8;
  const std::string name = attention + "_av_acc";
  const index_t images = size(file, name, 0), heads = size(file, name, 1), tokens = size(file, name, 2);
  recorded_qkv qkv{.codes = codes_of<std::uint8_t>(file, attention + "_qact1__codes"),
                   .zero_point = scalar(file, attention + "_qact1__zp"),
                   .heads = heads,
                   .tokens = tokens};
  const index_t head_size = size(file, name, 3);
  const std::vector<std::int64_t> recorded = file.values<std::int64_t>(name);
  // The zero level of the recording is 16 or 256; its 4-bit codes are ours, of its 8-bit codes 256 does not occur.
  tensor<std::uint8_t> codes = codes_of<std::uint8_t>(file, attention + "_log_int_softmax__q");
  auto next = recorded.begin();
  for (index_t image = 0; image < images; ++image) {
    for (index_t head = 0; head < heads; ++head) {
      const auto of_head = codes.view().row_block((image * heads + head) * tokens, tokens);
      const quantized_matrix v = qkv.part(image, head, 2);
      tensor<std::int32_t> sums(tokens, head_size);
      tensor<std::int64_t> wide_sums(tokens, head_size);
      if (wide) {
        reference::shift_matmul<attention_code::u8_full>(of_head, v, keep_wide_accumulator{}, wide_sums.view());
      } else {
        reference::shift_matmul<attention_code::u8_masked>(of_head, v, raw_accumulator{}, sums.view());
      }
      for (index_t i = 0; i < tokens * head_size; ++i) {
        const auto at = static_cast<std::size_t>(i);
        const std::int64_t unit =
            std::int64_t{1} << (attention_codes<attention_code::u8_full>::fraction_bits - recorded_fraction_bits_8);
        const std::int64_t expected = *next++;
        result.compare(wide ? wide_sums.memory()[at] : sums.memory()[at], wide ? expected * unit : expected);
      }
    }
  }
  REQUIRE(next == recorded.end());
  ++result.tensors;
}

TEST_CASE("reference::shift_matmul: gives the accumulators of attention times V [recorded cases]") {
  if (skip_without_cases()) {
    return;
  }
  comparison narrow, wide;
  for (const std::string& name : cases_with_layers()) {
    const safetensors_file file = open_case(name);
    INFO(name);
    const std::vector<std::string> attentions = names_ending(file, "_av_acc");
    comparison& result = !attentions.empty() && parameters_of(file).at("softmax_bits") == 8 ? wide : narrow;
    for (const std::string& attention : attentions) {
      compare_context(file, attention, result);
    }
    result.cases += attentions.empty() ? 0 : 1;
  }
  narrow.report("accumulators of attention times V, 4 bits");
  wide.report("accumulators of attention times V, 8 bits");
  CHECK((narrow.cases >= 4 && narrow.tensors >= 6));
  CHECK((wide.cases >= 2 && wide.tensors >= 3));
}

struct layernorm_comparison {
  comparison codes;  ///< with those that follow from the recorded sums and variances
  comparison ideal;  ///< with the recorded real numbers, rounded
  std::int64_t farther = 0;
};

void compare_layernorm(const safetensors_file& file, layernorm_comparison& result) {
  const nlohmann::json recorded = parameters_of(file);
  const tensor<std::uint8_t> x = codes_of<std::uint8_t>(file, "codes");
  const std::vector<float> gamma = file.values<float>("weight"), beta = file.values<float>("bias");
  std::vector<std::uint8_t> shift;
  for (const std::int32_t factor : file.values<std::int32_t>("shift_mask")) {
    REQUIRE((factor == 1 || factor == 2 || factor == 4 || factor == 8));
    shift.push_back(static_cast<std::uint8_t>(bit_length(static_cast<std::uint64_t>(factor)) - 1));
  }
  const int zero_point = recorded.at("in_zero_point"), output_zero_point = recorded.at("out_zero_point");
  std::vector<std::int32_t> gain(gamma.size());
  std::vector<std::int64_t> bias(gamma.size());
  const layernorm_parameters p = build_layernorm({.gamma = gamma,
                                                  .beta = beta,
                                                  .epsilon = 0,  // as the original
                                                  .input_scale = 1,
                                                  .input_zero_point = zero_point,
                                                  .shift = shift,
                                                  .output_scale = recorded.at("out_scale"),
                                                  .output_zero_point = output_zero_point},
                                                 gain, bias);
  tensor<std::uint8_t> y(x.rows(), x.columns());
  layernorm(x.view(), p, y.view());

  const std::vector<std::int64_t> sums = file.values<std::int64_t>("sum"), variances = file.values<std::int64_t>("V");
  const std::vector<double> ideal = file.values<double>("ideal");
  for (index_t i = 0; i < x.rows(); ++i) {
    const exact_layernorm_row row(x.columns(), sums[static_cast<std::size_t>(i)],
                                  variances[static_cast<std::size_t>(i)], p);
    for (index_t c = 0; c < x.columns(); ++c) {
      const auto channel = static_cast<std::size_t>(c);
      const int128 value = (int128{x(i, c)} - zero_point) * power_of_two(shift[channel]);
      result.codes.compare(y(i, c), exact_layernorm_code(row.normalized(value), p, channel));
      if (row.variance > 0) {  // constant rows have no ideal
        const double real = ideal[static_cast<std::size_t>(i * x.columns() + c)] + output_zero_point;
        const int expected = static_cast<int>(std::clamp(std::rint(real), 0.0, 255.0));
        result.ideal.compare(y(i, c), expected);
        result.farther += std::abs(y(i, c) - expected) > 1 ? 1 : 0;
      }
    }
  }
  for (comparison* const each : {&result.codes, &result.ideal}) {
    ++each->cases;
    each->tensors += 2;
  }
}

TEST_CASE("layernorm: gives the codes of the recorded sums, and the recorded ideal within a code") {
  if (skip_without_cases()) {
    return;
  }
  layernorm_comparison result;
  for (const std::string& name : cases_named("ln_")) {
    INFO(name);
    compare_layernorm(open_case(name), result);
  }
  result.codes.report("LayerNorm codes from recorded sums and variances");
  std::cout << "LayerNorm codes: " << result.ideal.different << " of " << result.ideal.values
            << " differ from the recorded ideal, " << result.farther << " by more than one code\n";
  CHECK(result.codes.cases >= 26);
  CHECK(result.codes.values >= 41920);
  CHECK(result.farther == 0);
}

}  // namespace
}  // namespace intact_test::goldens_test
