#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <limits>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>
#include <vector>

#include "cases.hpp"
#include "catch.hpp"
#include "intact/io/safetensors.hpp"
#include "intact/io/safetensors_write.hpp"
#include "refusal.hpp"
#include "scratch_folder.hpp"

namespace intact_test::safetensors_test {
namespace {

using intact::dtype;
using intact::safetensors_file;
using intact::safetensors_reader;
using intact::tensor_from;
using intact::tensor_to_write;
using intact::write_safetensors;
using intact_test::scratch_folder;
using shape = std::vector<std::int64_t>;

void put(const std::filesystem::path& path, std::string_view text) {
  std::ofstream(path, std::ios::binary) << text;
}

std::string read_refusal(const std::filesystem::path& path) {
  return refusal<intact::file_error>([&] { safetensors_file::read(path); });
}

/// Checks that a file is refused, with its name first and the problem after it.
void require_refused(const std::filesystem::path& path, const std::string& message, const std::string& problem) {
  CAPTURE(message);
  REQUIRE(message.starts_with(path.string() + ": "));
  REQUIRE(message.find(problem) != std::string::npos);
}

template <class T>
std::vector<T> extremes() {
  using limits = std::numeric_limits<T>;
  return {limits::min(), limits::lowest(), limits::max(), T{0}, T{1}, static_cast<T>(-1)};
}

constexpr std::array all_dtypes{dtype::boolean,     dtype::f4,      dtype::f6_e2m3, dtype::f6_e3m2, dtype::u8,
                                dtype::i8,          dtype::f8_e5m2, dtype::f8_e4m3, dtype::f8_e8m0, dtype::f8_e4m3fnuz,
                                dtype::f8_e5m2fnuz, dtype::i16,     dtype::u16,     dtype::f16,     dtype::bf16,
                                dtype::i32,         dtype::u32,     dtype::f32,     dtype::c64,     dtype::f64,
                                dtype::i64,         dtype::u64};

}  // namespace

TEST_CASE("dtype_of: gives the dtype of an element type's size and sign", "[safetensors]") {
  STATIC_REQUIRE(intact::dtype_of<std::uint8_t>() == dtype::u8);
  STATIC_REQUIRE(intact::dtype_of<std::int8_t>() == dtype::i8);
  STATIC_REQUIRE(intact::dtype_of<std::uint16_t>() == dtype::u16);
  STATIC_REQUIRE(intact::dtype_of<std::int16_t>() == dtype::i16);
  STATIC_REQUIRE(intact::dtype_of<std::uint32_t>() == dtype::u32);
  STATIC_REQUIRE(intact::dtype_of<std::int32_t>() == dtype::i32);
  STATIC_REQUIRE(intact::dtype_of<std::uint64_t>() == dtype::u64);
  STATIC_REQUIRE(intact::dtype_of<long long>() == dtype::i64);
  STATIC_REQUIRE(intact::dtype_of<float>() == dtype::f32);
  STATIC_REQUIRE(intact::dtype_of<double>() == dtype::f64);
  STATIC_REQUIRE(intact::dtype_name(dtype::bf16) == "BF16");
  STATIC_REQUIRE(intact::dtype_bits(dtype::bf16) == 16);
  STATIC_REQUIRE(intact::dtype_bits(dtype::f6_e3m2) == 6);
}

TEMPLATE_TEST_CASE("safetensors_file: reads the values that write_safetensors wrote", "[safetensors]", std::uint8_t,
                   std::int8_t, std::uint16_t, std::int16_t, std::uint32_t, std::int32_t, std::uint64_t, std::int64_t,
                   float, double) {
  const scratch_folder folder;
  const std::vector<TestType> matrix = extremes<TestType>();
  const std::array<TestType, 1> scalar{TestType{42}};
  const std::vector<TestType> none;
  const std::array tensors{tensor_from("matrix", {2, 3}, matrix), tensor_from("scalar", {}, scalar),
                           tensor_from("none", {4, 0, 5}, none)};
  write_safetensors(folder / "file", tensors, {{"key", "value"}});

  const safetensors_file file = safetensors_file::read(folder / "file");
  REQUIRE(file.names() == std::vector<std::string>{"matrix", "none", "scalar"});
  REQUIRE(file.values<TestType>("matrix") == matrix);
  REQUIRE(file.values<TestType>("matrix", {2, 3}) == matrix);
  REQUIRE(file.info("matrix").type == intact::dtype_of<TestType>());
  REQUIRE(file.info("matrix").elements() == 6);
  REQUIRE(file.values<TestType>("scalar", {}) == std::vector<TestType>{TestType{42}});
  REQUIRE(file.info("scalar").elements() == 1);
  REQUIRE(file.values<TestType>("none", {4, 0, 5}).empty());
  REQUIRE(file.info("none").elements() == 0);
  REQUIRE(file.metadata() == std::map<std::string, std::string>{{"key", "value"}});

  safetensors_reader stream(folder / "file");
  REQUIRE(stream.names() == file.names());
  REQUIRE(stream.metadata() == file.metadata());
  for (int time = 0; time < 2; ++time) {
    REQUIRE(stream.values<TestType>("scalar", {}) == std::vector<TestType>{TestType{42}});
    REQUIRE(stream.values<TestType>("matrix", {2, 3}) == matrix);
    REQUIRE(stream.values<TestType>("none", {4, 0, 5}).empty());
  }
}

TEST_CASE("safetensors_reader: refuses the same as safetensors_file", "[safetensors]") {
  const scratch_folder folder;
  const std::vector<float> values(3000, 0.5F);
  const std::array x{1.0F, 2.0F};
  write_safetensors(folder / "file", std::array{tensor_from("first", {3000}, values), tensor_from("x", {2}, x)});
  safetensors_reader stream(folder / "file");
  const safetensors_file file = safetensors_file::read(folder / "file");
  const auto same_refusal = [&](const auto& of) {
    CHECK(refusal<intact::file_error>([&] { of(stream); }) == refusal<intact::file_error>([&] { of(file); }));
  };
  same_refusal([](auto& of) { of.template values<float>("y", {2}); });
  same_refusal([](auto& of) { of.template values<float>("x", {1, 2}); });
  same_refusal([](auto& of) { of.template values<std::int32_t>("x", {2}); });
  const std::string name = (folder / "file").string();
  CHECK(refusal<intact::file_error>([&] { stream.values<std::int32_t>("x", {2}); }) ==
        name + ": tensor \"x\" has dtype F32; it must be I32");

  std::filesystem::resize_file(folder / "file", std::filesystem::file_size(folder / "file") - 1);
  CHECK(refusal<intact::file_error>([&] { stream.values<float>("x", {2}); }) == name + ": tensor \"x\" cannot be read");
  for (const char* const bad : {"file", "none"}) {
    CHECK(refusal<intact::file_error>([&] {
            safetensors_reader(folder / bad);
          }).starts_with((folder / bad).string() + ": "));
    CHECK(refusal<intact::file_error>([&] { safetensors_reader(folder / bad); }) == read_refusal(folder / bad));
  }
}

TEST_CASE("safetensors_file: keeps the bits of a NaN", "[safetensors]") {
  const scratch_folder folder;
  const std::array bits{std::bit_cast<float>(0x7fc12345u), -0.0f};
  write_safetensors(folder / "file", std::array{tensor_from("x", {2}, bits)});
  const std::vector<float> read = safetensors_file::read(folder / "file").values<float>("x");
  REQUIRE(std::bit_cast<std::uint32_t>(read.at(0)) == 0x7fc12345u);
  REQUIRE(std::bit_cast<std::uint32_t>(read.at(1)) == 0x80000000u);
}

TEST_CASE("safetensors_file: reads the bytes of every dtype, each tensor aligned for its type", "[safetensors]") {
  const scratch_folder folder;
  constexpr std::size_t count = 4;  // the fewest elements that fill whole bytes in every type
  std::vector<std::byte> bytes(count * 8);
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = static_cast<std::byte>(0xe1 + i);
  }
  std::vector<tensor_to_write> tensors;
  for (const dtype type : all_dtypes) {
    tensors.push_back({std::string(intact::dtype_name(type)),
                       type,
                       {count},
                       std::span(bytes).first(count * intact::dtype_bits(type) / 8)});
  }
  write_safetensors(folder / "file", tensors);

  const safetensors_file file = safetensors_file::read(folder / "file");
  REQUIRE(file.names().size() == all_dtypes.size());
  for (const tensor_to_write& tensor : tensors) {
    CAPTURE(tensor.name);
    REQUIRE(file.info(tensor.name).type == tensor.type);
    REQUIRE(file.info(tensor.name).shape == shape{count});
    REQUIRE(file.info(tensor.name).elements() == count);
    REQUIRE(std::ranges::equal(file.machine_bytes(tensor.name), tensor.bytes));
    REQUIRE(file.info(tensor.name).begin % std::max<std::size_t>(intact::dtype_bits(tensor.type) / 8, 1) == 0);
  }
  const std::string text = file_contents(folder / "file");
  REQUIRE((8 + static_cast<unsigned char>(text[0]) + 256 * static_cast<unsigned char>(text[1])) % 8 == 0);
}

TEST_CASE("write_safetensors: writes the bytes of the format", "[safetensors]") {
  const scratch_folder folder;
  const std::array<std::uint8_t, 3> codes{1, 2, 3};
  const std::array<std::int32_t, 1> sum{-2};
  const std::array given{tensor_from("b", {3}, codes), tensor_from("a", {1, 1}, sum)};
  write_safetensors(folder / "file", given, {{"k\"", "\xc3\xa9"}});

  std::string header =
      "{\"__metadata__\":{\"k\\\"\":\"\xc3\xa9\"},"
      "\"a\":{\"dtype\":\"I32\",\"shape\":[1, 1],\"data_offsets\":[0,4]},"
      "\"b\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[4,7]}}";
  header.resize((header.size() + 7) / 8 * 8, ' ');
  const std::string prefix{static_cast<char>(header.size()), 0, 0, 0, 0, 0, 0, 0};
  const std::string buffer{'\xfe', '\xff', '\xff', '\xff', 1, 2, 3};
  REQUIRE(header.size() == 144);
  REQUIRE(file_contents(folder / "file") == prefix + header + buffer);

  write_safetensors(folder / "reversed", std::array{given[1], given[0]}, {{"k\"", "\xc3\xa9"}});
  REQUIRE(file_contents(folder / "reversed") == file_contents(folder / "file"));
}

TEST_CASE("write_safetensors: writes a file without tensors", "[safetensors]") {
  const scratch_folder folder;
  write_safetensors(folder / "nothing", {});
  REQUIRE(file_contents(folder / "nothing") == std::string("\x08\0\0\0\0\0\0\0{}      ", 16));
  REQUIRE(safetensors_file::read(folder / "nothing").names().empty());
  REQUIRE(safetensors_file::read(folder / "nothing").metadata().empty());

  const std::map<std::string, std::string> metadata{
      {"", ""}, {"a", "line\nbreak\t\"quoted\" \x01"}, {"\xe2\x82\xac", "b"}};
  write_safetensors(folder / "metadata", {}, metadata);
  REQUIRE(safetensors_file::read(folder / "metadata").metadata() == metadata);
}

TEST_CASE("write_safetensors: writes a tensor with an empty name", "[safetensors]") {
  const scratch_folder folder;
  const std::array<std::uint8_t, 1> code{3};
  write_safetensors(folder / "file", std::array{tensor_from("", {}, code)});
  REQUIRE(safetensors_file::read(folder / "file").values<std::uint8_t>("", {}) == std::vector<std::uint8_t>{3});
}

TEST_CASE("safetensors_file: reads BOOL tensors as bytes", "[safetensors]") {
  const scratch_folder folder;
  const std::array<std::uint8_t, 3> flags{0, 1, 1};
  write_safetensors(folder / "file",
                    std::array{tensor_to_write{"x", dtype::boolean, {3}, std::as_bytes(std::span(flags))}});
  const safetensors_file file = safetensors_file::read(folder / "file");
  REQUIRE(file.values<std::uint8_t>("x") == std::vector<std::uint8_t>{0, 1, 1});
  require_refused(folder / "file", refusal<intact::file_error>([&] { file.values<std::int8_t>("x"); }),
                  "tensor \"x\" has dtype BOOL; it must be I8");
}

TEST_CASE("tensor_from: takes lvalues and spans only", "[safetensors]") {
  const auto takes = []<class Values>(std::type_identity<Values>) {
    return requires(Values values) {
      tensor_from("", {}, std::forward<Values>(values));
    };
  };
  STATIC_REQUIRE(takes(std::type_identity<std::vector<int>&>{}));
  STATIC_REQUIRE(takes(std::type_identity<const std::vector<int>&>{}));
  STATIC_REQUIRE(takes(std::type_identity<std::span<const int>>{}));
  STATIC_REQUIRE_FALSE(takes(std::type_identity<std::vector<int>>{}));
}

TEST_CASE("safetensors_file: errors name file, tensor, value and limit", "[safetensors]") {
  const scratch_folder folder;
  const std::array<std::int32_t, 6> values{};
  const std::filesystem::path path = folder / "file";
  write_safetensors(path, std::array{tensor_from("here", {2, 3}, values)}, {{"key", "value"}});
  const safetensors_file file = safetensors_file::read(path);

  REQUIRE(file.contains("here"));
  REQUIRE_FALSE(file.contains("there"));
  REQUIRE(file.name() == path.string());
  REQUIRE(file.metadata_value("key") == "value");
  require_refused(path, refusal<intact::file_error>([&] { file.info("there"); }), "tensor \"there\" is missing");
  require_refused(path, refusal<intact::file_error>([&] { file.machine_bytes("there"); }),
                  "tensor \"there\" is missing");
  require_refused(path, refusal<intact::file_error>([&] { file.values<std::int32_t>("there"); }),
                  "tensor \"there\" is missing");
  require_refused(path, refusal<intact::file_error>([&] { file.values<std::uint32_t>("here"); }),
                  "tensor \"here\" has dtype I32; it must be U32");
  require_refused(path, refusal<intact::file_error>([&] { file.values<float>("here"); }),
                  "tensor \"here\" has dtype I32; it must be F32");
  require_refused(path, refusal<intact::file_error>([&] {
                    file.values<std::int32_t>("here", {3, 2});
                  }),
                  "tensor \"here\" has shape [2, 3]; it must be [3, 2]");
  require_refused(path, refusal<intact::file_error>([&] { file.values<std::int32_t>("here", {}); }), "it must be []");
  require_refused(path, refusal<intact::file_error>([&] { file.metadata_value("other"); }),
                  "metadata \"other\" is missing");
}

TEST_CASE("safetensors_bytes: gives the bytes that write_safetensors writes", "[safetensors]") {
  const scratch_folder folder;
  const std::array<std::uint32_t, 2> wide{0x01020304, 0xfffefdfc};
  const std::array<std::uint8_t, 3> narrow{7, 8, 9};
  const std::array<tensor_to_write, 2> tensors{tensor_from("narrow", {3}, narrow), tensor_from("wide", {2}, wide)};
  write_safetensors(folder / "file", tensors, {{"made", "today"}});
  const std::vector<std::byte> bytes = intact::safetensors_bytes("memory", tensors, {{"made", "today"}});
  const std::string text = file_contents(folder / "file");
  REQUIRE(std::ranges::equal(bytes, std::as_bytes(std::span(text))));

  const safetensors_file file = safetensors_file::parse(bytes, "memory");
  REQUIRE(std::ranges::equal(file.machine_bytes("wide"), std::as_bytes(std::span(wide))));
  REQUIRE(std::ranges::equal(file.machine_bytes("narrow"), std::as_bytes(std::span(narrow))));
  // The file has the low byte first, whatever the machine has.
  const auto stored = std::span(bytes).last(3 + 8).first(4);
  REQUIRE(std::ranges::equal(stored, std::array{std::byte{4}, std::byte{3}, std::byte{2}, std::byte{1}}));
  require_refused("memory", refusal<intact::file_error>([&] {
                    intact::safetensors_bytes("memory", std::array{tensors[0], tensors[0]});
                  }),
                  "the name is given twice");
}

TEST_CASE("safetensors_file: tensors are valid after the object is moved", "[safetensors]") {
  const scratch_folder folder;
  const std::array<std::uint8_t, 3> codes{7, 8, 9};
  write_safetensors(folder / "file", std::array{tensor_from("x", {3}, codes)});
  safetensors_file first = safetensors_file::read(folder / "file");
  const safetensors_file second = std::move(first);
  REQUIRE(second.values<std::uint8_t>("x") == std::vector<std::uint8_t>{7, 8, 9});
}

TEST_CASE("safetensors_file: refuses paths that are no readable file", "[safetensors]") {
  const scratch_folder folder;
  require_refused(folder / "none", read_refusal(folder / "none"), "the file does not exist");
  put(folder / "empty", "");
  require_refused(folder / "empty", read_refusal(folder / "empty"), "the file is empty");
  require_refused(folder / "empty/below", read_refusal(folder / "empty/below"), "the file does not exist");
  std::filesystem::create_directory(folder / "folder");
  require_refused(folder / "folder", read_refusal(folder / "folder"), "is a folder");
  REQUIRE(::mkfifo((folder / "pipe").c_str(), 0600) == 0);
  require_refused(folder / "pipe", read_refusal(folder / "pipe"), "is not a regular file");
  std::filesystem::create_symlink("loop", folder / "loop");
  require_refused(folder / "loop", read_refusal(folder / "loop"), "the file cannot be examined: ");
  std::filesystem::create_symlink("nowhere", folder / "dangling");
  require_refused(folder / "dangling", read_refusal(folder / "dangling"), "the file does not exist");
  REQUIRE(read_refusal("").ends_with("the file does not exist"));
}

TEST_CASE("safetensors_file: refuses a file without the right to read it", "[safetensors]") {
  if (::geteuid() == 0) {
    intact_test::report_skipped("the superuser may read every file");
    return;
  }
  const scratch_folder folder;
  put(folder / "locked", "former");
  std::filesystem::permissions(folder / "locked", std::filesystem::perms::none);
  require_refused(folder / "locked", read_refusal(folder / "locked"), "the file cannot be opened: Permission denied");
}

TEST_CASE("safetensors_file: refuses a file that ends before its size", "[safetensors]") {
  const std::filesystem::path path = "/sys/kernel/mm/ksm/run";
  std::error_code error;
  if (std::filesystem::file_size(path, error) < 8 || error) {
    intact_test::report_skipped("this system has no file that claims more bytes than can be read");
    return;
  }
  require_refused(path, read_refusal(path), "reading failed after 2 of 64 bytes");
}

TEST_CASE("write_safetensors: refuses invalid tensors and changes no file", "[safetensors]") {
  const scratch_folder folder;
  const std::filesystem::path path = folder / "file";
  put(path, "former");
  const std::array<std::uint8_t, 4> codes{};
  const auto with = [&](std::string name, shape sizes) {
    return tensor_from(std::move(name), std::move(sizes), codes);
  };
  const auto write = [&](std::vector<tensor_to_write> tensors, std::map<std::string, std::string> metadata = {}) {
    return refusal<intact::file_error>([&] { write_safetensors(path, tensors, metadata); });
  };
  constexpr std::int64_t huge = std::int64_t{1} << 32;

  require_refused(path, write({with("__metadata__", {4})}),
                  "tensor \"__metadata__\": the name must not be __metadata__");
  require_refused(path, write({with("x", {4}), with("y", {4}), with("x", {4})}),
                  "tensor \"x\": the name is given twice");
  const tensor_to_write other_dtype{"x", dtype::i16, {2}, std::as_bytes(std::span(codes))};
  require_refused(path, write({with("x", {4}), other_dtype}), "tensor \"x\": the name is given twice");
  require_refused(path, write({with("x", {5})}), "tensor \"x\": U8 of shape [5] has 5 bytes; 4 are given");
  require_refused(path, write({with("x", {3})}), "tensor \"x\": U8 of shape [3] has 3 bytes; 4 are given");
  require_refused(path, write({with("x", {})}), "tensor \"x\": U8 of shape [] has 1 bytes; 4 are given");
  require_refused(path, write({with("x", {-2, -2})}), "U8 of shape [-2, -2] must have at most 2^63 - 1 elements");
  require_refused(path, write({with("x", {huge, huge})}), "at most 2^63 - 1 elements, sizes of 0 counted as 1");
  require_refused(path, write({with("x", {huge, huge, 0})}), "at most 2^63 - 1 elements, sizes of 0 counted as 1");
  const tensor_to_write half_a_byte{"x", dtype::f4, {1}, std::as_bytes(std::span(codes))};
  require_refused(path, write({half_a_byte}), "F4 of shape [1] must have at most 2^63 - 1 elements");
  REQUIRE(std::string_view(intact::detail::tensor_limits).ends_with("a whole number of bytes below 2^61"));
  require_refused(path, write({with("x", shape(65, 1))}), "tensor \"x\": shape has 65 sizes; it must have at most 64");
  require_refused(path, write({with("\xff", {4})}), "\"?\" is not valid UTF-8");
  require_refused(path, write({}, {{"k", "\xed\xa0\x80"}}), "\"???\" is not valid UTF-8");
  require_refused(path, write({}, {{"k\xc3", "v"}}), "\"k?\" is not valid UTF-8");
  REQUIRE(file_contents(path) == "former");
  REQUIRE(folder.files() == 1);
}

TEST_CASE("write_safetensors: writes the largest rank, which safetensors_file reads", "[safetensors]") {
  const scratch_folder folder;
  const std::array<std::uint8_t, 1> code{3};
  write_safetensors(folder / "file", std::array{tensor_from("x", shape(64, 1), code)});
  REQUIRE(safetensors_file::read(folder / "file").values<std::uint8_t>("x", shape(64, 1)) ==
          std::vector<std::uint8_t>{3});
}

TEST_CASE("write_safetensors: refuses a header over the limit", "[safetensors]") {
  const scratch_folder folder;
  const std::string value(intact::safetensors_max_header, 'v');
  require_refused(folder / "file", refusal<intact::file_error>([&] {
                    write_safetensors(folder / "file", {}, {{"k", value}});
                  }),
                  "the header would have 100000032 bytes; it must have at most 100000000");
  REQUIRE(folder.files() == 0);
}

TEST_CASE("safetensors_file: reads the recorded cases", "[safetensors]") {
  if (intact_test::skip_without_cases()) {
    return;
  }
  const std::filesystem::path cases = intact_test::cases_directory();
  const safetensors_file linear = safetensors_file::read(cases / "linear_64x48_int4.safetensors");
  REQUIRE(linear.metadata_value("case") == "linear_64x48_int4");
  REQUIRE(linear.values<float>("weight_f32", {48, 64}).size() == 48 * 64);
  REQUIRE(linear.info("qin__scale").shape.empty());
  for (const std::int32_t code : linear.values<std::int32_t>("lin__wcodes", {48, 64})) {
    REQUIRE((code >= -8 && code <= 7));
  }

  std::size_t files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(cases)) {
    if (entry.path().extension() == ".safetensors") {
      const safetensors_file file = safetensors_file::read(entry.path());
      REQUIRE_FALSE(file.names().empty());
      REQUIRE(file.metadata_value("case") == entry.path().stem().string());
      ++files;
    }
  }
  REQUIRE(files > 0);
}

}  // namespace intact_test::safetensors_test
