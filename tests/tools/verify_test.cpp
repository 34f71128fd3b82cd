#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "cases.hpp"
#include "catch.hpp"
#include "intact/io/safetensors.hpp"
#include "intact/io/safetensors_write.hpp"
#include "program.hpp"
#include "scratch_folder.hpp"

// The program intact-verify, run on cases that are right, wrong in one value, and no cases at all.

namespace intact_test::verify_test {
namespace {

using intact::safetensors_file;

std::string quoted(const std::filesystem::path& path) {
  return '\'' + path.string() + '\'';
}

program_outcome verify(const std::filesystem::path& cases, const std::string& options = "") {
  return run_program(INTACT_VERIFY_PROGRAM " " + options + ' ' + quoted(cases));
}

/// A layer whose real numbers are powers of two, so that float32 and the exact values agree: input scale 1/4, weight
/// scales 1/8 and 1/16, output scale 1/2. Nothing here comes from the library but the writing.
void write_linear_case(const std::filesystem::path& path, const std::string& function = "QAct -> QLinear -> QAct") {
  const std::vector<std::int32_t> x = {0, 255, 7, 130, 128, 100}, w = {-8, 7, 3, 5, 0, -128};
  const std::vector<float> weight_scale = {0.125F, 0.0625F}, bias = {1.75F, -3.0F};
  const std::vector<std::int32_t> zero_in = {128}, zero_out = {100};
  const std::vector<float> scale_in = {0.25F}, scale_out = {0.5F};
  std::vector<std::int32_t> acc, y;
  for (std::size_t m = 0; m < 2; ++m) {
    for (std::size_t n = 0; n < 2; ++n) {
      std::int32_t sum = 0;
      for (std::size_t k = 0; k < 3; ++k) {
        sum += (x[3 * m + k] - 128) * w[3 * n + k];
      }
      acc.push_back(sum);
      const double real = sum * 0.25 * static_cast<double>(weight_scale[n]) + static_cast<double>(bias[n]);
      y.push_back(static_cast<std::int32_t>(std::clamp(std::rint(real / 0.5 + 100), 0.0, 255.0)));
    }
  }
  const std::vector<intact::tensor_to_write> tensors = {
      intact::tensor_from("qin__codes", {2, 3}, x),          intact::tensor_from("qin__scale", {}, scale_in),
      intact::tensor_from("qin__zp", {}, zero_in),           intact::tensor_from("lin__wcodes", {2, 3}, w),
      intact::tensor_from("lin__wscale", {2}, weight_scale), intact::tensor_from("lin__bias", {2}, bias),
      intact::tensor_from("lin__acc", {2, 2}, acc),          intact::tensor_from("qout__codes", {2, 2}, y),
      intact::tensor_from("qout__scale", {}, scale_out),     intact::tensor_from("qout__zp", {}, zero_out)};
  intact::write_safetensors(path, tensors, {{"function", function}, {"params", "{}"}});
}

/// A layer of a kind that the case above is not, computed in double: every real number is a multiple of 1/64.
struct linear_case {
  std::vector<std::int32_t> x = {-128, 127, 7, -3, 0, 100}, w = {-8, 7, 3, 5, 0, -128};
  std::int32_t zero_in = 0, zero_out = 0, low = -128, high = 127;
  std::vector<float> weight_scale = {0.125F, 0.0625F};
  std::vector<float> bias = {1.75F, -3.0F};
  std::vector<float> weights = {};  ///< none: not recorded
  std::size_t rows = 2;
  bool as_bytes = false;  ///< codes are stored as I8

  void write(const std::filesystem::path& path) const {
    std::vector<std::int32_t> acc, y;
    for (std::size_t m = 0; m < rows; ++m) {
      for (std::size_t n = 0; n < 2; ++n) {
        std::int32_t sum = 0;
        for (std::size_t k = 0; k < 3; ++k) {
          sum += (x[3 * m + k] - zero_in) * w[3 * n + k];
        }
        acc.push_back(sum);
        const double step = static_cast<double>(weight_scale[weight_scale.size() == 1 ? 0 : n]);
        const double real = sum * 0.25 * step + static_cast<double>(bias[n]);
        const double code = std::rint(real / 0.5 + zero_out);
        y.push_back(static_cast<std::int32_t>(std::clamp(code, static_cast<double>(low), static_cast<double>(high))));
      }
    }
    const std::vector<std::int32_t> zero_points = {zero_in, zero_out};
    const std::vector<float> scales = {0.25F, 0.5F};
    const std::span<const std::int32_t> zeros(zero_points);
    const std::span<const float> steps(scales), floats(weights);
    const std::span<const std::int32_t> codes = std::span(x).first(3 * rows);
    const std::vector<std::int8_t> bytes(codes.begin(), codes.end());
    const auto size = static_cast<std::int64_t>(rows), channels = static_cast<std::int64_t>(weight_scale.size());
    std::vector<intact::tensor_to_write> tensors = {as_bytes ? intact::tensor_from("qin__codes", {size, 3}, bytes)
                                                             : intact::tensor_from("qin__codes", {size, 3}, codes),
                                                    intact::tensor_from("qin__scale", {}, steps.first(1)),
                                                    intact::tensor_from("qin__zp", {}, zeros.first(1)),
                                                    intact::tensor_from("lin__wcodes", {2, 3}, w),
                                                    intact::tensor_from("lin__wscale", {channels}, weight_scale),
                                                    intact::tensor_from("lin__bias", {2}, bias),
                                                    intact::tensor_from("lin__acc", {size, 2}, acc),
                                                    intact::tensor_from("qout__codes", {size, 2}, y),
                                                    intact::tensor_from("qout__scale", {}, steps.last(1)),
                                                    intact::tensor_from("qout__zp", {}, zeros.last(1))};
    if (channels == 1) {
      tensors[4].shape = {};  // a scalar
    }
    if (!weights.empty()) {
      tensors.push_back(intact::tensor_from("weight_f32", {2, 3}, floats));
    }
    intact::write_safetensors(path, tensors, {{"function", "QAct -> QLinear -> QAct"}, {"params", "{}"}});
  }
};

/// Copies a case with one value changed by `by`.
void write_changed(const std::filesystem::path& from, const std::filesystem::path& to, const std::string& tensor,
                   std::size_t at, int by) {
  const safetensors_file file = safetensors_file::read(from);
  std::map<std::string, std::vector<std::byte>> bytes;
  for (const std::string& name : file.names()) {
    bytes[name] = file.machine_bytes(name);
  }
  const auto change = [&]<class T>(T) {
    T value;
    std::memcpy(&value, bytes[tensor].data() + at * sizeof value, sizeof value);
    value = static_cast<T>(value + static_cast<T>(by));
    std::memcpy(bytes[tensor].data() + at * sizeof value, &value, sizeof value);
  };
  REQUIRE(at < file.info(tensor).elements());
  switch (file.info(tensor).type) {
    case intact::dtype::f32:
      change(float{});
      break;
    case intact::dtype::f64:
      change(double{});
      break;
    case intact::dtype::i64:
      change(std::int64_t{});
      break;
    default:
      REQUIRE(file.info(tensor).type == intact::dtype::i32);
      change(std::int32_t{});
  }
  std::vector<intact::tensor_to_write> tensors;
  for (const auto& [name, content] : bytes) {
    tensors.push_back({name, file.info(name).type, file.info(name).shape, content});
  }
  intact::write_safetensors(to, tensors, file.metadata());
}

void write_bytes(const std::filesystem::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

std::string read_bytes(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

/// "[i, j]" of a position of a tensor.
std::string printed_position(const safetensors_file& file, const std::string& tensor, std::size_t at) {
  std::string text;
  const std::vector<std::int64_t>& shape = file.info(tensor).shape;
  auto rest = static_cast<std::int64_t>(at);
  for (std::size_t dimension = shape.size(); dimension-- > 0;) {
    text = std::to_string(rest % shape[dimension]) + (text.empty() ? "" : ", ") + text;
    rest /= shape[dimension];
  }
  return '[' + text + ']';
}

TEST_CASE("intact-verify: prints its help") {
  const program_outcome help = run_program(INTACT_VERIFY_PROGRAM " --help");
  CHECK(help.exit_code == 0);
  CHECK(help.says("Examples:"));
  CHECK(help.says("--json"));
  CHECK(run_program(INTACT_VERIFY_PROGRAM).exit_code == 2);
  CHECK(run_program(INTACT_VERIFY_PROGRAM " --no-such-option x").exit_code == 2);
}

TEST_CASE("intact-verify: passes a right case, and finds one wrong value") {
  const scratch_folder folder;
  const std::filesystem::path right = folder / "right.safetensors", wrong = folder / "wrong.safetensors";
  write_linear_case(right);
  const program_outcome passed = verify(right);
  INFO(passed.output);
  CHECK(passed.exit_code == 0);
  CHECK(passed.says("1 verified, 0 unsupported, 0 unreadable; all claims hold"));

  write_changed(right, wrong, "lin__acc", 1, 1);
  const program_outcome failed = verify(wrong);
  INFO(failed.output);
  CHECK(failed.exit_code == 1);
  CHECK(failed.says("lin__acc [0, 1]: expected 14849, found 14848"));
  CHECK(failed.says("NOT ALL CLAIMS HOLD"));

  for (const int by : {1, -2}) {  // a code off by one is wrong too when the exact value is no tie
    write_changed(right, wrong, "qout__codes", 2, by);
    const program_outcome found = verify(wrong);
    INFO(found.output);
    CHECK(found.exit_code == 1);
    CHECK(found.says("qout__codes [1, 0]: expected"));
  }
  CHECK(verify(folder.path()).exit_code == 1);  // one wrong case among right ones
}

TEST_CASE("intact-verify: writes the results as JSON") {
  const scratch_folder folder;
  const std::filesystem::path right = folder / "right.safetensors", wrong = folder / "wrong.safetensors";
  const std::filesystem::path json = folder / "result.json";
  write_linear_case(right);
  write_changed(right, wrong, "lin__acc", 3, -1);
  CHECK(verify(folder.path(), "--json " + quoted(json)).exit_code == 1);
  const nlohmann::json result = nlohmann::json::parse(read_bytes(json));
  CHECK(result.at("holds") == false);
  CHECK(result.at("verified") == 2);
  const nlohmann::json& tensor = result.at("cases").at(1).at("tensors").at(0);
  CHECK(tensor.at("tensor") == "lin__acc");
  CHECK(tensor.at("holds") == false);
  CHECK(tensor.at("compared") == 4);
  CHECK(tensor.at("mismatched") == 1);
  CHECK(tensor.at("differences").at(0).at("index") == std::vector<int>{1, 1});
  CHECK(verify(right, "--json " + quoted(folder / "no such folder" / "result.json")).exit_code == 2);

  // The file is replaced as a whole: through links, with its permissions, and kept where it cannot be.
  const std::filesystem::path link = folder / "link.json", kept = folder / "kept.json";
  std::filesystem::create_symlink("made.json", link);
  CHECK(verify(right, "--json " + quoted(link)).exit_code == 0);
  CHECK(std::filesystem::is_symlink(link));
  CHECK(nlohmann::json::parse(read_bytes(folder / "made.json")).at("holds") == true);
  write_bytes(kept, "former");
  std::filesystem::permissions(kept, std::filesystem::perms(0640));
  const program_outcome limited = run_program("ulimit -f 0; trap '' XFSZ; exec " INTACT_VERIFY_PROGRAM " --json " +
                                              quoted(kept) + ' ' + quoted(right));
  CHECK(limited.exit_code == 2);
  CHECK(limited.says("kept.json: writing failed: "));
  CHECK(read_bytes(kept) == "former");
  CHECK(verify(right, "--json " + quoted(kept)).exit_code == 0);
  CHECK(std::filesystem::status(kept).permissions() == std::filesystem::perms(0640));
  const program_outcome piped = verify(right, "--json /dev/stdout");
  CHECK(piped.exit_code == 0);
  CHECK(piped.says("\n}\n"));
}

TEST_CASE("intact-verify: refuses files of no case, naming the reason") {
  const scratch_folder folder;
  const std::filesystem::path right = folder / "right.safetensors", bad = folder / "bad.safetensors";
  const auto refused = [&](const std::filesystem::path& path, const std::string& message) {
    const program_outcome result = verify(path);
    INFO(result.output);
    CHECK(result.exit_code == 2);
    CHECK(result.says(message));
  };
  refused(folder.path(), "the folder has no safetensors file");
  refused(folder / "missing.safetensors", "the file does not exist");
  write_linear_case(right);
  const std::string bytes = read_bytes(right);
  write_bytes(bad, bytes.substr(0, bytes.size() - 1));
  refused(bad, "bad.safetensors: ");
  write_bytes(bad, bytes.substr(0, 20));
  refused(bad, "bytes; only 12 follow its length");
  write_bytes(bad, "this is no safetensors file");
  refused(bad, "is no safetensors file, but a text that begins with");
  refused(folder.path(), "1 verified, 0 unsupported, 1 unreadable");  // the right one is verified all the same
  write_changed(right, bad, "qin__codes", 4, 128);
  refused(bad, "qin__codes has the code 256 at 4");
  write_changed(right, bad, "qout__zp", 0, 200);
  refused(bad, "qout__zp is 300; it must be in 0..255");
  intact::write_safetensors(bad, {}, {{"function", "QAct -> QLinear -> QAct"}, {"params", "no JSON"}});
  refused(bad, "metadata \"params\": is not JSON: ");
  intact::write_safetensors(
      bad, {}, {{"function", "MinmaxObserver.update"}, {"params", "{\"bit_type\":" + std::string(200'000, '[')}});
  refused(bad, "metadata \"params\": has more than 32 nested arrays and objects");
  intact::write_safetensors(bad, {}, {});
  refused(bad, "metadata \"function\" is missing");
}

TEST_CASE("intact-verify: verifies layers with s8 activations, one weight scale and weight scales of 0") {
  const scratch_folder folder;
  const std::filesystem::path path = folder / "case.safetensors", wrong = folder / "wrong.safetensors";
  const std::vector<float> real_weights = {-1.0F, 0.875F, 0.375F, 0.3125F, 0, -8.0F};
  const std::vector<std::pair<const char*, linear_case>> all{
      {"s8", {}},
      {"s8 with zero points", {.zero_in = -7, .zero_out = 20}},
      {"s8 input, u8 output", {.zero_out = 100, .low = 0, .high = 255}},
      {"u8 input, s8 output", {.x = {0, 255, 7, 130, 128, 100}, .zero_in = 128}},
      {"s8 by the type of its codes", {.x = {0, 127, 7, 3, 0, 100}, .as_bytes = true}},
      {"one weight scale", {.weight_scale = {0.125F}}},
      {"a weight scale of 0", {.weight_scale = {0, 0.0625F}, .weights = real_weights}},
      {"all weight scales 0", {.weight_scale = {0}, .bias = {3.0F, -100}}},
      {"quantized weights", {.weights = real_weights}}};
  for (const auto& [name, given] : all) {
    given.write(path);
    const program_outcome passed = verify(path);
    INFO(name << '\n' << passed.output);
    CHECK(passed.exit_code == 0);
    CHECK(passed.says("1 verified, 0 unsupported, 0 unreadable; all claims hold"));
    for (const char* const tensor : {"lin__acc", "qout__codes"}) {
      write_changed(path, wrong, tensor, 3, 1);
      const program_outcome failed = verify(wrong);
      INFO(tensor << '\n' << failed.output);
      CHECK(failed.exit_code == 1);
      CHECK(failed.says(std::string(tensor) + " [1, 1]: expected"));
    }
  }
}

TEST_CASE("intact-verify: a layer of 0 rows does not count as compared") {
  const scratch_folder folder;
  linear_case{.rows = 0}.write(folder / "empty.safetensors");
  const program_outcome alone = verify(folder.path());
  INFO(alone.output);
  CHECK(alone.exit_code == 2);
  CHECK(alone.says("empty: unsupported, it records no values that could be compared"));
  CHECK(alone.says("0 verified, 1 unsupported, 0 unreadable; nothing has been compared"));
  write_linear_case(folder / "right.safetensors");
  const program_outcome both = verify(folder.path());
  CHECK(both.exit_code == 0);
  CHECK(both.says("1 verified, 1 unsupported, 0 unreadable; all claims hold"));
}

TEST_CASE("intact-verify: refuses sizes that do not fit each other before it takes memory for them") {
  const scratch_folder folder;
  const std::filesystem::path bad = folder / "bad.safetensors";
  const auto refused = [&](const std::string& function, const std::vector<intact::tensor_to_write>& tensors,
                           const std::string& message) {
    intact::write_safetensors(bad, tensors, {{"function", function}, {"params", R"({"softmax_bits":4})"}});
    const program_outcome result = verify(bad);
    INFO(result.output);
    CHECK(result.exit_code == 2);
    CHECK(result.says(message));
  };
  using intact::tensor_from;
  const std::vector<std::uint8_t> many(50'000), few(4), none;
  const std::vector<std::int32_t> zero = {0};
  const std::vector<float> one = {1};
  const auto layer = [&](const std::vector<std::uint8_t>& x, const std::vector<std::int64_t>& x_shape) {
    return std::vector<intact::tensor_to_write>{
        tensor_from("qin__codes", x_shape, x),   tensor_from("qin__scale", {}, one),
        tensor_from("qin__zp", {}, zero),        tensor_from("lin__wcodes", x_shape, x),
        tensor_from("lin__wscale", {1}, one),    tensor_from("lin__acc", {2, 2}, few),
        tensor_from("qout__codes", {2, 2}, few), tensor_from("qout__scale", {}, one),
        tensor_from("qout__zp", {}, zero)};
  };
  const std::string linear = "QAct -> QLinear -> QAct";
  // Products of two sizes, each of them the file's.
  refused(linear, layer(many, {50'000, 1}), "lin__acc has 4 values; it must have 2500000000");
  std::vector<intact::tensor_to_write> without_acc = layer(many, {50'000, 1});
  without_acc.erase(without_acc.begin() + 5);
  refused(linear, without_acc, "qout__codes has 4 values; it must have 2500000000");
  // Sizes of tensors without values.
  refused(linear, layer(none, {50'000, 0}), "lin__wcodes has no values");
  refused(linear, layer(none, {std::int64_t{1} << 40, 0}), "the sizes of a tensor without elements, but for 0, must");
  refused(
      "Attention.forward",
      {tensor_from("attn_qact_attn1__codes", {1, 0, 200, 200}, none), tensor_from("attn_qact1__codes", {4, 1}, few)},
      "attn_qact_attn1__codes of shape [1, 0, 200, 200] has no heads");
  refused("attention by weight codes",
          {tensor_from("logits__codes", {50'000, 1}, many), tensor_from("attention__codes", {50'000, 1}, many),
           tensor_from("table", {256}, std::span(many).first(256)),
           tensor_from("code_weights", {16}, std::span(many).first(16)), tensor_from("v__codes", {1, 50'000}, many),
           tensor_from("v__scale", {}, one), tensor_from("v__zp", {}, zero), tensor_from("context__codes", {4}, few),
           tensor_from("context__scale", {}, one), tensor_from("context__zp", {}, zero)},
          "context__codes has 4 values; it must have 2500000000");
}

/// Copies a case with one value, of 4 bytes, replaced.
template <class T>
void write_replaced(const std::filesystem::path& from, const std::filesystem::path& to, const std::string& tensor,
                    std::size_t at, T value) {
  const safetensors_file file = safetensors_file::read(from);
  std::string bytes = read_bytes(from);
  std::size_t end = 0;  // of the last tensor, which ends with the file
  for (const std::string& name : file.names()) {
    end = std::max(end, file.info(name).end);
  }
  std::memcpy(bytes.data() + (bytes.size() - end) + file.info(tensor).begin + at * sizeof value, &value, sizeof value);
  write_bytes(to, bytes);
}

TEST_CASE("intact-verify: refuses numbers that no integer holds, naming them") {
  const scratch_folder folder;
  const std::filesystem::path right = folder / "right.safetensors", bad = folder / "bad.safetensors";
  const auto refused = [&](const std::string& message) {
    const program_outcome result = verify(bad);
    INFO(message << '\n' << result.output);
    CHECK(result.exit_code == 2);
    CHECK(result.says("bad.safetensors: " + message));
  };
  linear_case{.weights = {-1.0F, 0.875F, 0.375F, 0.3125F, 0, -8.0F}}.write(right);
  for (const float value : {NAN, INFINITY, -INFINITY}) {
    for (const char* const tensor : {"qin__scale", "qout__scale", "lin__wscale", "lin__bias", "weight_f32"}) {
      write_replaced(right, bad, tensor, 0, value);
      refused(std::string(tensor) + " has the value ");
    }
  }
  write_replaced(right, bad, "lin__wscale", 1, -1.0F);
  refused("lin__wscale has the value -1.000000; it must be at least 0");
  for (const std::int32_t value : {-129, 128, 1 << 30, std::numeric_limits<std::int32_t>::min()}) {
    write_replaced(right, bad, "qin__zp", 0, value);
    refused("qin__zp is " + std::to_string(value) + "; it must be in -128..127");
  }
  write_replaced(right, bad, "lin__wcodes", 2, std::int32_t{128});
  refused("lin__wcodes has the code 128 at 2 of its memory; it must be in -128..127");

  // Parameters of a LayerNorm: numbers in JSON, which knows no limits.
  const std::vector<std::int32_t> codes = {0, 255, 3, 8};
  const std::vector<float> ones = {1, 1};
  const std::vector<double> ideal = {-1, 1, -1, 1};
  const std::vector<intact::tensor_to_write> norm = {
      intact::tensor_from("codes", {2, 2}, codes), intact::tensor_from("weight", {2}, ones),
      intact::tensor_from("bias", {2}, ones), intact::tensor_from("ideal", {2, 2}, ideal)};
  const auto write = [&](const std::string& in_zero_point, const std::string& scale) {
    intact::write_safetensors(
        bad, norm,
        {{"function", "QIntLayerNorm"},
         {"params", "{\"in_zero_point\":" + in_zero_point + ",\"out_scale\":" + scale + ",\"out_zero_point\":128}"}});
  };
  for (const char* const value : {"1e308", "-1e308", "2147483648", "9223372036854775808", "18446744073709551615", "256",
                                  "-1", "0.5", "null", "true", "\"128\"", "[128]", "{}"}) {
    write(value, "0.05");
    const nlohmann::json dumped = nlohmann::json::parse(value);
    refused("the parameter in_zero_point is " + dumped.dump() + "; it must be a whole number in 0..255");
  }
  for (const char* const value : {"null", "\"1\"", "[]"}) {
    write("128", value);
    refused("the parameter out_scale is " + std::string(value) + "; it must be a finite number");
  }
  write("128.0", "1");
  CHECK(verify(bad).exit_code != 2);  // whole numbers may be written so
}

TEST_CASE("intact-verify: refuses names of tensors without a block's number, naming them") {
  const scratch_folder folder;
  const std::filesystem::path bad = folder / "bad.safetensors";
  const std::vector<float> one = {1};
  const auto outcome = [&](const std::string& block) {
    intact::write_safetensors(bad, std::array{intact::tensor_from(block + "norm1__weight", {1}, one)},
                              {{"function", "Block.forward"}, {"params", "{}"}});
    const program_outcome result = verify(bad);
    CHECK(result.exit_code == 2);
    return result;
  };
  for (const std::string number :
       {"-2147483648", "-1", "+1", " 1", "", "a", "1a", "0x1", "1.", "1_", "1000000", "4294967296", "99999999999"}) {
    const std::string block = "blocks_" + number + '_';
    const program_outcome result = outcome(block);
    INFO(result.output);
    CHECK(result.says("bad.safetensors: tensor " + block + "norm1__weight must have a number of a block, 0..999999"));
  }
  CHECK(outcome("blocks_").says("tensor blocks_norm1__weight must have a number of a block"));
  // Right names; other tensors are missing.
  CHECK(outcome("blocks_0_").says("qact1"));
  CHECK(outcome("blocks_999999_").says("blocks_999998_qact4"));
  CHECK(outcome("blk_").says("qin"));
}

TEST_CASE("intact-verify: accepts any finite numbers as the logits of a softmax") {
  const scratch_folder folder;
  const std::filesystem::path path = folder / "softmax.safetensors";
  const std::vector<std::int32_t> codes = {0, 255, 3, 8}, q4 = {15, 0, 15, 15};
  const std::vector<float> scale = {1e-8F};
  for (const float largest : {3.4e38F, 1e30F, 1.0F}) {
    const std::vector<float> x = {-largest, largest, 0, 1};
    intact::write_safetensors(
        path,
        std::array{intact::tensor_from("codes", {1, 4}, codes), intact::tensor_from("scale", {}, scale),
                   intact::tensor_from("x", {1, 4}, x), intact::tensor_from("q4", {1, 4}, q4)},
        {{"function", "QIntSoftmax"}, {"params", "{}"}});
    const program_outcome result = verify(path);
    INFO(result.output);
    CHECK(result.exit_code == 1);  // the codes are not those of these logits
  }
  const std::vector<float> none = {0, NAN, 0, 0};
  intact::write_safetensors(
      path,
      std::array{intact::tensor_from("codes", {1, 4}, codes), intact::tensor_from("scale", {}, scale),
                 intact::tensor_from("x", {1, 4}, none), intact::tensor_from("q4", {1, 4}, q4)},
      {{"function", "QIntSoftmax"}, {"params", "{}"}});
  const program_outcome result = verify(path);
  CHECK(result.exit_code == 2);
  CHECK(result.says("softmax.safetensors: x has the value nan at 1 of its memory; it must be finite"));
}

TEST_CASE("intact-verify: unknown functions are unsupported and never passed") {
  const scratch_folder folder;
  write_linear_case(folder / "other.safetensors", "Convolution");
  const program_outcome alone = verify(folder.path());
  INFO(alone.output);
  CHECK(alone.exit_code == 2);
  CHECK(alone.says("other: unsupported, the function Convolution is not known"));
  CHECK(alone.says("0 verified, 1 unsupported, 0 unreadable; nothing has been compared"));
  write_linear_case(folder / "right.safetensors");
  const program_outcome both = verify(folder.path());
  CHECK(both.exit_code == 0);
  CHECK(both.says("1 verified, 1 unsupported, 0 unreadable; all claims hold"));
}

TEST_CASE("intact-verify: the cases of the export example pass, and fail if they are changed") {
  const scratch_folder folder;
  std::string python;
  for (const char* const candidate : {"python3", "/usr/bin/python3"}) {
    if (python.empty() && run_program(std::string(candidate) + " -c 'import numpy'").exit_code == 0) {
      python = candidate;
    }
  }
  if (python.empty()) {
    report_skipped("there is no python3 with NumPy");
    return;
  }
  const program_outcome exported = run_program(python + " " INTACT_EXPORT_CASE " --demo " + quoted(folder.path()));
  INFO(exported.output);
  REQUIRE(exported.exit_code == 0);
  const program_outcome passed = verify(folder.path());
  INFO(passed.output);
  CHECK(passed.exit_code == 0);
  CHECK(passed.says("4 verified, 0 unsupported, 0 unreadable; all claims hold"));
  const std::filesystem::path wrong = folder / "wrong.safetensors";
  for (const auto& [name, tensor] :
       {std::pair("demo_linear", "lin__acc"), std::pair("demo_softmax", "q_exact"),
        std::pair("demo_layernorm", "ideal"), std::pair("demo_weight_codes", "attention__codes"),
        std::pair("demo_weight_codes", "context__codes")}) {
    const std::filesystem::path right = folder / (std::string(name) + ".safetensors");
    write_changed(right, wrong, tensor, 7, 3);
    const program_outcome failed = verify(wrong);
    INFO(failed.output);
    CHECK(failed.exit_code == 1);
    CHECK(failed.says(std::string(tensor) + ' ' + printed_position(safetensors_file::read(right), tensor, 7)));
  }
}

TEST_CASE("intact-verify: all claims hold [recorded cases]") {
  if (skip_without_cases()) {
    return;
  }
  const program_outcome result = verify(cases_directory());
  INFO(result.output);
  CHECK(result.exit_code == 0);
  CHECK(result.says("137 verified, 0 unsupported, 0 unreadable; all claims hold"));
}

/// A recorded value, and a change of it that breaks a claim.
struct changed_value {
  const char* name;
  const char* tensor;
  std::size_t at;
  int by;
};

TEST_CASE("intact-verify: compares every kind of recorded value") {
  if (skip_without_cases()) {
    return;
  }
  const scratch_folder folder;
  const std::filesystem::path wrong = folder / "wrong.safetensors";
  for (const changed_value& changed :
       std::initializer_list<changed_value>{{"lis_W17_s1", "e_exact", 20, 1},
                                            {"lis_W17_s1", "S_exact", 3, -1},
                                            {"lis_W17_s1", "q_exact", 18, 1},
                                            {"lis_W17_s1", "q4", 18, 1},
                                            {"lis_W17_s1", "q8", 18, 1},
                                            {"lis_swinmask", "q4", 2, -1},
                                            {"lis_edge_scale_too_big", "scale", 0, -1},
                                            {"linear_64x48_int4", "lin__acc", 100, 1},
                                            {"linear_64x48_int4", "lin__wcodes", 77, 1},
                                            {"linear_197x33_int8_nobias", "qout__codes", 40, 1},
                                            {"ln_C192_o1", "ideal", 200, 3},
                                            {"ln_C192_o1", "out_exact8", 201, 1},
                                            {"ln_C192_o1", "out_codes", 202, 1},
                                            {"attention_884", "attn_qk_acc", 300, 1},
                                            {"attention_884", "attn_av_acc", 301, 1},
                                            {"attention_888", "attn_av_acc", 302, 1},
                                            {"attention_884", "attn_log_int_softmax__q", 303, 1},
                                            {"attention_884", "attn_qact2__codes", 304, 1},
                                            {"attention_888", "attn_qact2__codes", 305, 1},
                                            {"attention_884", "attn_qact_attn1__codes", 306, 1},
                                            {"block_884", "blk_qact2__codes", 400, 1},
                                            {"block_884", "blk_mlp_qact1__codes", 401, 2},
                                            {"block_884", "blk_norm2__out_codes", 402, 1},
                                            {"vit_884", "patch_embed_proj__acc", 500, 1},
                                            {"vit_884", "patch_embed_qact__codes", 501, 1},
                                            {"vit_884", "qact_embed__codes", 502, 1},
                                            {"vit_884", "qact1__codes", 503, 1},
                                            {"vit_888", "norm__out_codes", 10, 1},
                                            {"vit_484", "act_out__codes", 5, 1},
                                            {"swin_884", "patch_embed_qact_before_norm__codes", 600, 1},
                                            {"swin_884", "patch_embed_norm__out_codes", 601, 1},
                                            {"swin_884", "layers_0_blocks_1_attn_qact1__codes", 602, 1},
                                            {"swin_884", "layers_0_blocks_0_attn_relative_position_index", 17, 1},
                                            {"swin_884", "layers_0_blocks_1_attn_mask", 256 + 2, 100},
                                            {"swin_884", "layers_0_blocks_1_attn_qact2__codes", 603, 1},
                                            {"swin_884", "layers_0_blocks_1_attn_log_int_softmax__q", 512 + 2, -1},
                                            {"swin_884", "layers_0_blocks_1_attn_qact3__codes", 604, 1},
                                            {"swin_884", "layers_0_blocks_1_qact2__codes", 605, 1},
                                            {"swin_884", "layers_0_downsample_norm__out_codes", 606, 1},
                                            {"swin_884", "layers_0_downsample_reduction__acc", 607, 1},
                                            {"swin_884", "layers_0_downsample_qact2__codes", 608, 1},
                                            {"swin_884", "norm__out_codes", 609, 1},
                                            {"swin_884", "qact3__codes", 10, 1},
                                            {"swin_884", "act_out__codes", 5, 1},
                                            {"obs_ema_act_int8", "scale", 0, 1},
                                            {"obs_percentile_act_uint8", "max_val", 0, 1},
                                            {"obs_omse_act_uint8", "zero_point", 0, 1},
                                            {"obs_minmax_act_channel", "min_val", 7, -1},
                                            {"obs_ptf_C7", "scale", 3, 1},
                                            {"quant_int8_conv", "codes", 30, 1},
                                            {"quant_uint8_act3d", "dequant", 31, 1},
                                            {"quant_log2_uint4", "codes", 32, -1}}) {
    const std::filesystem::path right = cases_directory() / (std::string(changed.name) + ".safetensors");
    write_changed(right, wrong, changed.tensor, changed.at, changed.by);
    const program_outcome result = verify(wrong);
    INFO(changed.name << ' ' << changed.tensor << '\n' << result.output);
    CHECK(result.exit_code == 1);
    const safetensors_file file = safetensors_file::read(right);
    if (std::string(changed.tensor) != "scale" || file.contains("min_val")) {  // a scale by itself is an input
      CHECK(result.says(std::string(changed.tensor) + ' ' + printed_position(file, changed.tensor, changed.at) +
                        ": expected"));
    }
  }
}

}  // namespace
}  // namespace intact_test::verify_test
