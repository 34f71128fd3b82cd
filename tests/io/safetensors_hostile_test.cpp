#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "catch.hpp"
#include "heap_counter.hpp"
#include "intact/io/safetensors.hpp"

namespace intact_test::safetensors_hostile_test {
namespace {

using intact::safetensors_file;
using intact_test::live_bytes;
using intact_test::most_live_bytes;
using namespace std::string_literals;

std::string prefix(std::uint64_t header_length) {
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &header_length, bytes.size());
  return bytes;
}

/// A file with this header and a buffer of so many bytes.
std::string file_of(const std::string& header, std::size_t buffer_size) {
  return prefix(header.size()) + header + std::string(buffer_size, '\x5a');
}

/// One entry of a header.
std::string entry(const std::string& name, const std::string& type, const std::string& shape,
                  const std::string& offsets) {
  return "\"" + name + "\":{\"dtype\":\"" + type + "\",\"shape\":" + shape + ",\"data_offsets\":" + offsets + "}";
}

/// A header with one tensor "a" that has these fields.
std::string tensor(const std::string& fields) {
  return "{\"a\":{" + fields + "}}";
}

/// The same with the U8 tensor's shape or offsets to be filled in, for a buffer of 4 bytes.
std::string with_shape(const std::string& shape) {
  return "{" + entry("a", "U8", shape, "[0,4]") + "}";
}
std::string with_offsets(const std::string& offsets) {
  return "{" + entry("a", "U8", "[4]", offsets) + "}";
}

std::vector<std::byte> as_bytes(std::string_view text) {
  std::vector<std::byte> bytes(text.size());
  std::transform(text.begin(), text.end(), bytes.begin(), [](char c) { return static_cast<std::byte>(c); });
  return bytes;
}

/// Uses all that a file offers, and checks that its tensors cover the buffer and fit their shapes.
void use(const safetensors_file& file, std::size_t buffer_size) {
  std::size_t covered = 0;
  for (const std::string& name : file.names()) {
    const intact::tensor_info& info = file.info(name);
    std::size_t elements = 1;
    for (const std::int64_t size : info.shape) {
      elements *= static_cast<std::size_t>(size);
    }
    const std::vector<std::byte> bytes = file.machine_bytes(name);
    const auto zeros = std::count(bytes.begin(), bytes.end(), std::byte{0});
    const bool fits = info.elements() == elements && bytes.size() == elements * intact::dtype_bits(info.type) / 8 &&
                      static_cast<std::size_t>(zeros) <= bytes.size();
    if (!fits || (info.type == intact::dtype::u8 && file.values<std::uint8_t>(name).size() != elements)) {
      FAIL("tensor " << name << " does not fit its shape");
    }
    covered += bytes.size();
  }
  for (const auto& [key, value] : file.metadata()) {
    if (file.metadata_value(key) != value) {
      FAIL("metadata " << key << " is lost");
    }
  }
  if (covered != buffer_size) {
    FAIL("the tensors have " << covered << " of the buffer's " << buffer_size << " bytes");
  }
}

/// True if the bytes are a file. Anything but a file or a file_error fails the test.
bool is_file(const std::string& bytes) {
  try {
    const safetensors_file file = safetensors_file::parse(as_bytes(bytes), "hostile");
    std::uint64_t header_length = 0;
    std::memcpy(&header_length, bytes.data(), sizeof header_length);
    use(file, bytes.size() - 8 - header_length);
    return true;
  } catch (const intact::file_error&) {
    return false;
  }
}

void require_refused(const std::string& bytes, const std::string& problem) {
  CAPTURE(problem, bytes.substr(0, 300));
  std::string message;
  try {
    safetensors_file::parse(as_bytes(bytes), "hostile.safetensors");
  } catch (const intact::file_error& error) {
    message = error.what();
  }
  CAPTURE(message);
  REQUIRE(message.starts_with("hostile.safetensors: "));
  REQUIRE(message.find(problem) != std::string::npos);
}

struct bad_header {
  std::string header;
  std::string problem;
  std::size_t buffer_size = 4;
};

void require_refused(const std::vector<bad_header>& all) {
  for (const bad_header& bad : all) {
    require_refused(file_of(bad.header, bad.buffer_size), bad.problem);
  }
}

/// One of 64^3 names, as short as so many can be.
std::string short_name(std::size_t i) {
  constexpr std::string_view letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+-";
  return {letters[i / 4096 % 64], letters[i / 64 % 64], letters[i % 64]};
}

/// A file that shows all that the format has.
std::string good_file() {
  return file_of("{\"__metadata__\":{\"key\":\"value\",\"\":\"\\u00e9\"}," + entry("a", "U8", "[2,3]", "[8,14]") + "," +
                     entry("b", "F32", "[]", "[14,18]") + "," + entry("\xc3\xa9", "I64", "[1]", "[0,8]") + "," +
                     entry("e", "F64", "[0,4]", "[18,18]") + "}  ",
                 18);
}

}  // namespace

TEST_CASE("safetensors_file: refuses files whose length does not fit", "[safetensors][hostile]") {
  require_refused("", "the file is empty");
  require_refused("\x01\0\0\0\0\0\0"s, "the file has 7 bytes; the header's length alone has 8");
  require_refused(prefix(0), "the header must begin with '{'");
  require_refused(prefix(3) + "{}", "the file is truncated: the header has 3 bytes; only 2 follow its length");
  require_refused(prefix(3), "the file is truncated: the header has 3 bytes; only 0 follow its length");
  require_refused(prefix(3) + "\x01", "hostile.safetensors: the header has 3 bytes; only 1 follow its length");
  require_refused(prefix(1) + "{}", "the header is not valid JSON");
  require_refused(prefix(100'000'000) + "{}", "the header has 100000000 bytes; only 2 follow its length");
  require_refused(prefix(100'000'001) + "{}", "the header has 100000001 bytes; it must have at most 100000000");
  require_refused(prefix(std::uint64_t{1} << 63) + "{}",
                  "the header has 9223372036854775808 bytes; it must have at most");
  require_refused(prefix(~std::uint64_t{0}) + "{}", "the header has 18446744073709551615 bytes; it must have at most");
  require_refused(prefix(~std::uint64_t{7}) + "{}", "the header has 18446744073709551608 bytes; it must have at most");
  require_refused(file_of("{" + entry("a", "U8", "[4]", "[0,4]") + "}", 3),
                  "the file is truncated: its tensors have 4 bytes; only 3 follow the header");
}

TEST_CASE("safetensors_file: refuses files of other formats, naming the format", "[safetensors][hostile]") {
  const auto refused_as = [](const std::string& bytes, const std::string& kind) {
    require_refused(bytes, "hostile.safetensors: is no safetensors file, but " + kind);
  };
  const std::string lfs =
      "version https://git-lfs.github.com/spec/v1\noid sha256:" + std::string(64, 'a') + "\nsize 22883768\n";
  refused_as(lfs, "a Git LFS pointer");
  refused_as("PK\x03\x04\0\0\x08\x08\0\0\0\0\0\0"s, "a ZIP archive, such as torch.save");
  // The first bytes of pickles of protocols 2 (torch.save before version 1.6), 4 and 5.
  refused_as("\x80\x02\x8a\x0al\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."s, "a pickle file");
  refused_as("\x80\x04\x95\x20\0\0\0\0\0\0\0}\x94."s, "a pickle file");
  refused_as("\x80\x05}."s, "a pickle file");
  // Of protocols 0 and 1: a dictionary, a list, an object, and torch.save's.
  refused_as("(dp0\nVa\np1\nI1\ns."s, "a pickle file");
  refused_as("(dp1\nS'a'\np2\nI1\ns."s, "a pickle file");  // Python 2
  refused_as("(lp0\nI1\naI2\na."s, "a pickle file");
  refused_as("}q\0X\1\0\0\0aq\1K\1s."s, "a pickle file");
  refused_as("]q\0(K\1K\2e."s, "a pickle file");
  refused_as("ccollections\nOrderedDict\np0\n(tRp1\nVa\np2\nI1\ns."s, "a pickle file");
  refused_as("ccollections\nOrderedDict\nq\0)Rq\1X\1\0\0\0a"s, "a pickle file");
  refused_as("cnumpy.core.multiarray\n_reconstruct\np0\n(cnumpy\nndarray\np1\n"s, "a pickle file");
  refused_as("L119547037146038801333356L\n.I1001\n.(dp0\n"s, "a pickle file");
  refused_as("cats\ndogs\nmice\n", "a text that begins with \"cats\"");
  refused_as("cats and\ndogs\nparrots\n", "a text that begins with \"cats and\"");
  refused_as("cats\n\nparrots\n", "a text that begins with \"cats\"");
  refused_as("ccollections\nOrderedDict", "a text that begins with \"ccollections\"");
  refused_as("\x89HDF\r\n\x1a\n\0\0\0\0\0\x08\x08"s, "an HDF5 file");
  refused_as("GGUF\x03\0\0\0\0\0"s, "a GGUF file");
  refused_as("\x93NUMPY\x01\0v\0{'descr'"s, "a NumPy array");
  refused_as("\x1f\x8b\x08\0\0\0\0\0\0\x03"s, "a gzip archive");  // its length is one that a header may have
  refused_as("\x08\x07\x12\x07pytorch\x1a\x05"s, "an ONNX model");
  refused_as("<!DOCTYPE html>\n<html>", "an HTML or XML text");
  refused_as("\r\n  <html>", "an HTML or XML text");
  refused_as("<?xml version=\"1.0\"?><Error>", "an HTML or XML text");
  refused_as("{\n  \"metadata\": {\"total_size\": 1}}", "a JSON text");
  refused_as("Entry not found\n", "a text that begins with \"Entry not found\"");
  refused_as("\n", "a text that begins with \"\"");
  refused_as(std::string(100, 'x'), "a text that begins with \"" + std::string(64, 'x') + "\"");
  require_refused("\xff\xfe" + std::string(30, '\x01'), "it must have at most 100000000");  // of no known format
}

TEST_CASE("safetensors_file: refuses headers that are not one JSON object", "[safetensors][hostile]") {
  const std::string begin = "the header must begin with '{'";
  const std::string json = "the header is not valid JSON";
  const std::string metadata = "{\"__metadata__\":{\"k\":\"";
  require_refused({
      {" ", begin, 0},
      {"\n[]", begin, 0},
      {"\xef\xbb\xbf{}", begin, 0},
      {"[]", begin, 0},
      {"\"a\"", begin, 0},
      {"null", begin, 0},
      {"\0{}"s, "byte 0 of the header is 0, a control character", 0},
      {"{", json, 0},
      {"{}x", json, 0},
      {"{}{}", json, 0},
      {"{},", json, 0},
      {"{\"__metadata__\":{},}", json, 0},
      {"{\"__metadata__\" {}}", json, 0},
      {"{__metadata__:{}}", json, 0},
      {"{'__metadata__':{}}", json, 0},
      {"{/**/}", json, 0},
      {"{\"a\":NaN}", json, 0},
      {"{\"a\":nul}", json, 0},
      {"{\"a\":[}", "tensor \"a\": the value is an array", 0},
      {"{\"a\":01}", "tensor \"a\": the value is 0", 0},
      {"{\"a\"", json, 0},
      {"{\"a", json, 0},
      {"{1:2}", json, 0},
      {"{}\0"s, "byte 2 of the header is 0, a control character", 0},
      {"{}\0}"s, "byte 2 of the header is 0, a control character", 0},
      {"{\x0b}", "byte 1 of the header is 11, a control character", 0},
      {metadata + "\n\"}}", "byte 22 of the header is 10, a control character", 0},
      {metadata + "\t\"}}", "byte 22 of the header is 9, a control character", 0},
      {metadata + "\\\"\t\"}}", "byte 24 of the header is 9, a control character", 0},
      {metadata + "\\\\\"\t}}\0"s, "byte 28 of the header is 0, a control character", 0},
      {"{\"a\":1\n2}", "tensor \"a\": the value is 1", 0},
      {metadata + "\x1f\"}}", "is 31, a control character", 0},
      {metadata + "\\q\"}}", json, 0},
      {metadata + "\\u12g4\"}}", json, 0},
      {metadata + "\\ud800\"}}", json, 0},
      {metadata + "\\udc00\"}}", json, 0},
      {metadata + "\xff\"}}", "ill-formed UTF-8", 0},
      {metadata + "\x80\"}}", "ill-formed UTF-8", 0},
      {metadata + "\xc3\"}}", "ill-formed UTF-8", 0},
      {metadata + "\xc0\x80\"}}", "ill-formed UTF-8", 0},
      {metadata + "\xed\xa0\x80\"}}", "ill-formed UTF-8", 0},
      {metadata + "\xf4\x90\x80\x80\"}}", "ill-formed UTF-8", 0},
      {"{\"\xff\":{}}", "ill-formed UTF-8", 0},
      {"{\xff}", json, 0},
  });
}

TEST_CASE("safetensors_file: refuses entries of the wrong kind", "[safetensors][hostile]") {
  const std::string rule = "; it must be an object";
  const std::string good = entry("a", "U8", "[4]", "[0,4]");
  require_refused({
      {"{\"a\":null}", "tensor \"a\": the value is null" + rule},
      {"{\"a\":true}", "tensor \"a\": the value is true" + rule},
      {"{\"a\":7}", "tensor \"a\": the value is 7" + rule},
      {"{\"a\":-7}", "tensor \"a\": the value is -7" + rule},
      {"{\"a\":0.5}", "tensor \"a\": the value is 0.5" + rule},
      {"{\"a\":\"b\"}", "tensor \"a\": the value is \"b\"" + rule},
      {"{\"a\":[1]}", "tensor \"a\": the value is an array" + rule},
      {"{\"\":7}", "tensor \"\": the value is 7" + rule},
      {"{\"a\":[\"U8\",[4],[0,4]]}", "tensor \"a\": the value is an array" + rule},
      {"{" + good + "," + good + "}", "tensor \"a\": the name appears twice"},
      {"{" + good + "," + entry("\\u0061", "U8", "[4]", "[0,4]") + "}", "tensor \"a\": the name appears twice"},
      {"{" + good + ",\"a\":{}}", "tensor \"a\": the name appears twice"},
      {"{\"\\u001b[31m\":7}", "tensor \"?[31m\": the value is 7"},
      {"{\"" + std::string(300, 'n') + "\":7}", "tensor \"" + std::string(200, 'n') + "...\": the value is 7"},
  });
}

TEST_CASE("safetensors_file: refuses bad metadata", "[safetensors][hostile]") {
  const auto metadata = [](const std::string& value) { return "{\"__metadata__\":" + value + "}"; };
  const std::string rule = "; it must be a string";
  require_refused({
      {metadata("null,\"__metadata__\":{}"), "__metadata__: the name appears twice", 0},
      {metadata("[]"), "__metadata__: the value is an array; it must be an object", 0},
      {metadata("\"a\""), "__metadata__: the value is \"a\"; it must be an object", 0},
      {metadata("{\"k\":1}"), "__metadata__: the value of \"k\" is 1" + rule, 0},
      {metadata("{\"k\":-1}"), "__metadata__: the value of \"k\" is -1" + rule, 0},
      {metadata("{\"k\":1.5}"), "__metadata__: the value of \"k\" is 1.5" + rule, 0},
      {metadata("{\"k\":null}"), "__metadata__: the value of \"k\" is null" + rule, 0},
      {metadata("{\"k\":false}"), "__metadata__: the value of \"k\" is false" + rule, 0},
      {metadata("{\"k\":{}}"), "__metadata__: the value of \"k\" is an object" + rule, 0},
      {metadata("{\"k\":[]}"), "__metadata__: the value of \"k\" is an array" + rule, 0},
      {metadata("{\"k\":\"1\",\"k\":\"1\"}"), "__metadata__: key \"k\" appears twice", 0},
      {metadata("{},\"__metadata__\":{}"), "__metadata__: the name appears twice", 0},
      {metadata("{},\"__met\\u0061data__\":{}"), "__metadata__: the name appears twice", 0},
      {metadata("{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}"),
       "the value of \"shape\" is an array" + rule},
  });
}

TEST_CASE("safetensors_file: refuses tensors without their three fields", "[safetensors][hostile]") {
  const std::string type = "\"dtype\":\"U8\"";
  const std::string shape = "\"shape\":[4]";
  const std::string offsets = "\"data_offsets\":[0,4]";
  require_refused({
      {tensor(""), "tensor \"a\": dtype is missing"},
      {tensor(shape + "," + offsets), "tensor \"a\": dtype is missing"},
      {tensor(type + "," + offsets), "tensor \"a\": shape is missing"},
      {tensor(type + "," + shape), "tensor \"a\": data_offsets is missing"},
      {"{" + entry("b", "U8", "[4]", "[0,4]") + ",\"a\":{}}", "tensor \"a\": dtype is missing"},
      {tensor(type + "," + type + "," + shape + "," + offsets), "field \"dtype\" appears twice"},
      {tensor(type + "," + shape + "," + shape + "," + offsets), "field \"shape\" appears twice"},
      {tensor(type + "," + shape + "," + offsets + "," + offsets), "field \"data_offsets\" appears twice"},
      {tensor(type + ",\"Shape\":[4]," + offsets), "tensor \"a\": shape is missing"},
      {tensor(type + "," + shape + "," + offsets + ",\"x\""), "the header is not valid JSON"},
      {tensor(type + "," + shape + "," + offsets + ",\"x\":1e999"), "the header is not valid JSON"},
      {tensor(type + "," + shape + ",\"x\":{" + offsets + "}"), "tensor \"a\": data_offsets is missing"},
      {tensor(type + "," + shape + "," + offsets + ",\"x\":" + std::string(126, '[') + std::string(126, ']')),
       "tensor \"a\": a field that is not known has more than 125 levels"},
  });
}

TEST_CASE("safetensors_file: refuses unknown dtypes", "[safetensors][hostile]") {
  const auto type = [](const std::string& value) {
    return tensor("\"dtype\":" + value + ",\"shape\":[4],\"data_offsets\":[0,4]");
  };
  require_refused({
      {type("\"F5\""), "tensor \"a\": dtype \"F5\" is unknown; it must be one of BOOL, F4, F6_E2M3, "},
      {type("\"u8\""), "tensor \"a\": dtype \"u8\" is unknown"},
      {type("\"U8 \""), "tensor \"a\": dtype \"U8 \" is unknown"},
      {type("\"U8\\u0000\""), "tensor \"a\": dtype \"U8?\" is unknown"},
      {type("\"\""), "tensor \"a\": dtype \"\" is unknown"},
      {type("8"), "tensor \"a\": dtype is 8; it must be a string"},
      {type("null"), "tensor \"a\": dtype is null; it must be a string"},
      {type("[\"U8\"]"), "tensor \"a\": dtype is an array; it must be a string"},
      {type("{}"), "tensor \"a\": dtype is an object; it must be a string"},
      {type("{\"U8\":null}"), "tensor \"a\": dtype is an object; it must be a string"},
  });
}

TEST_CASE("safetensors_file: refuses shapes that are not lists of sizes", "[safetensors][hostile]") {
  const std::string list = "; it must be an array of integers";
  const std::string size = "; it must be an integer from 0 to 9223372036854775807";
  std::string ones = "1";
  for (int i = 0; i < 64; ++i) {
    ones += ",1";
  }
  require_refused({
      {with_shape("4"), "tensor \"a\": shape is 4" + list},
      {with_shape("\"4\""), "tensor \"a\": shape is \"4\"" + list},
      {with_shape("null"), "tensor \"a\": shape is null" + list},
      {with_shape("{}"), "tensor \"a\": shape is an object" + list},
      {with_shape("[-4]"), "tensor \"a\": a size in shape is -4" + size},
      {with_shape("[-0]"), "tensor \"a\": a size in shape is -0" + size},
      {with_shape("[-9223372036854775808]"), "a size in shape is -9223372036854775808" + size},
      {with_shape("[-9223372036854775809]"), "a size in shape is -9223372036854775809" + size},
      {with_shape("[4.0]"), "tensor \"a\": a size in shape is 4.0" + size},
      {with_shape("[4e0]"), "tensor \"a\": a size in shape is 4e0" + size},
      {with_shape("[9223372036854775808]"), "a size in shape is 9223372036854775808" + size},
      {with_shape("[18446744073709551616]"), "a size in shape is 18446744073709551616" + size},
      {with_shape("[1e999]"), "the header is not valid JSON"},
      {with_shape("[\"4\"]"), "tensor \"a\": a size in shape is \"4\"" + size},
      {with_shape("[[4]]"), "tensor \"a\": a size in shape is an array" + size},
      {with_shape("[{}]"), "tensor \"a\": a size in shape is an object" + size},
      {with_shape("[null]"), "tensor \"a\": a size in shape is null" + size},
      {with_shape("[true]"), "tensor \"a\": a size in shape is true" + size},
      {with_shape("[4,]"), "the header is not valid JSON"},
      {with_shape("[04]"), "the header is not valid JSON"},
      {with_shape("[+4]"), "the header is not valid JSON"},
      {with_shape("[" + ones + "]"), "tensor \"a\": shape has more than 64 sizes"},
  });
}

TEST_CASE("safetensors_file: refuses offsets that are not two places in the buffer", "[safetensors][hostile]") {
  const std::string list = "; it must be an array of 2 integers";
  const std::string place = "; it must be an integer from 0 to 18446744073709551615";
  const std::string bytes = "tensor \"a\": U8 of shape [4] has 4 bytes; data_offsets are ";
  require_refused({
      {with_offsets("4"), "tensor \"a\": data_offsets is 4" + list},
      {with_offsets("\"0,4\""), "tensor \"a\": data_offsets is \"0,4\"" + list},
      {with_offsets("{}"), "tensor \"a\": data_offsets is an object" + list},
      {with_offsets("[]"), "tensor \"a\": data_offsets has 0 numbers; it must have 2"},
      {with_offsets("[0]"), "tensor \"a\": data_offsets has 1 numbers; it must have 2"},
      {with_offsets("[0,4,4]"), "tensor \"a\": data_offsets has more than 2 numbers"},
      {with_offsets("[0,5]"), bytes + "0 and 5"},
      {with_offsets("[5,4]"), bytes + "5 and 4"},
      {with_offsets("[-1,4]"), "tensor \"a\": one of data_offsets is -1" + place},
      {with_offsets("[0,4.0]"), "tensor \"a\": one of data_offsets is 4.0" + place},
      {with_offsets("[0,18446744073709551615]"), bytes + "0 and 18446744073709551615"},
      {with_offsets("[18446744073709551615,3]"), bytes + "18446744073709551615 and 3"},
      {with_offsets("[18446744073709551611,18446744073709551615]"),
       "the file is truncated: its tensors have 18446744073709551615 bytes; only 4 follow the header"},
      {with_offsets("[1,5]"), "the file is truncated: its tensors have 5 bytes; only 4 follow the header"},
      {with_offsets("[0,18446744073709551616]"), "one of data_offsets is 18446744073709551616" + place},
      {with_offsets("[0,\"4\"]"), "tensor \"a\": one of data_offsets is \"4\"" + place},
      {with_offsets("[[0,4]]"), "tensor \"a\": one of data_offsets is an array" + place},
  });
}

TEST_CASE("safetensors_file: refuses shapes that do not fit their bytes", "[safetensors][hostile]") {
  const auto one = [](const char* type, const char* shape, const char* offsets) {
    return "{" + entry("a", type, shape, offsets) + "}";
  };
  const std::string many =
      " must have at most 2^63 - 1 elements, sizes of 0 counted as 1, and a whole number of bytes below 2^61";
  require_refused({
      {one("U8", "[4]", "[4,0]"), "tensor \"a\": U8 of shape [4] has 4 bytes; data_offsets are 4 and 0"},
      {one("U8", "[4]", "[0,3]"), "tensor \"a\": U8 of shape [4] has 4 bytes; data_offsets are 0 and 3"},
      {one("U8", "[2,1]", "[0,4]"), "tensor \"a\": U8 of shape [2, 1] has 2 bytes; data_offsets are 0 and 4"},
      {one("U8", "[]", "[0,4]"), "tensor \"a\": U8 of shape [] has 1 bytes; data_offsets are 0 and 4"},
      {one("U8", "[4,0]", "[0,4]"), "tensor \"a\": U8 of shape [4, 0] has 0 bytes; data_offsets are 0 and 4"},
      {one("I16", "[4]", "[0,4]"), "tensor \"a\": I16 of shape [4] has 8 bytes; data_offsets are 0 and 4"},
      {one("U8", "[4294967296,4294967296]", "[0,0]"), "tensor \"a\": U8 of shape [4294967296, 4294967296]" + many},
      {one("U8", "[4294967296,4294967297]", "[0,4]"), many},
      {one("U8", "[9223372036854775807,2]", "[0,4]"), many},
      {one("U16", "[9223372036854775807]", "[0,4]"), many},
      {one("U64", "[1152921504606846976]", "[0,0]"), many},
      {one("U64", "[2305843009213693952]", "[0,0]"), many},
      {one("U8", "[4294967296,4294967296,0]", "[0,0]"), many},
      {one("U8", "[0,4294967296,4294967296]", "[0,0]"), many},
      {one("F4", "[1]", "[0,1]"), "tensor \"a\": F4 of shape [1]" + many},
      {one("F6_E3M2", "[3]", "[0,2]"), many},
      {one("F4", "[4611686018427387904]", "[0,0]"), many},
      {one("F4", "[4]", "[0,4]"), "tensor \"a\": F4 of shape [4] has 2 bytes; data_offsets are 0 and 4"},
  });
}

TEST_CASE("safetensors_file: refuses tensors that do not cover the buffer exactly", "[safetensors][hostile]") {
  const auto two = [](const std::string& first, const std::string& second) {
    const auto one = [](const char* name, const std::string& offsets) {
      const int size = offsets[3] - offsets[1];
      return entry(name, "U8", "[" + std::to_string(size) + "]", offsets);
    };
    return "{" + one("a", first) + "," + one("b", second) + "}";
  };
  require_refused({
      {"{}", "the tensors end at byte 0 of the buffer, which has 1", 1},
      {"{\"__metadata__\":{}}", "the tensors end at byte 0 of the buffer, which has 1", 1},
      {with_offsets("[0,4]"), "the tensors end at byte 4 of the buffer, which has 5", 5},
      {with_offsets("[1,5]"),
       "tensor \"a\": data_offsets begin at 1, which leaves a hole after the tensor that ends at 0", 5},
      {two("[0,2]", "[3,4]"),
       "tensor \"b\": data_offsets begin at 3, which leaves a hole after the tensor that ends at 2"},
      {two("[3,4]", "[0,2]"),
       "tensor \"a\": data_offsets begin at 3, which leaves a hole after the tensor that ends at 2"},
      {two("[0,3]", "[2,4]"), "tensor \"b\": data_offsets begin at 2, which overlaps the tensor that ends at 3"},
      {two("[0,4]", "[0,4]"), "data_offsets begin at 0, which overlaps the tensor that ends at 4"},
      {two("[0,4]", "[1,3]"), "tensor \"b\": data_offsets begin at 1, which overlaps the tensor that ends at 4"},
      {two("[0,4]", "[2,2]"), "tensor \"b\": data_offsets begin at 2, which overlaps the tensor that ends at 4"},
  });
}

TEST_CASE("safetensors_file: refuses deep headers", "[safetensors][hostile]") {
  std::string objects = "{";
  for (int i = 0; i < 100'000; ++i) {
    objects += "\"a\":{";
  }
  require_refused(file_of(objects, 0), "tensor \"a\": a field that is not known has more than 125 levels");
  require_refused(file_of("{\"a\":{\"shape\":" + std::string(1'000'000, '['), 0), "a size in shape is an array");
}

TEST_CASE("safetensors_file: reads unusual files that keep the rules", "[safetensors][hostile]") {
  std::string ones = "1";
  for (int i = 1; i < 64; ++i) {
    ones += ",1";
  }
  const std::vector<std::string> files{
      good_file(),
      file_of("{}", 0),
      file_of("{ }   ", 0),
      file_of("{\"__metadata__\":{}}", 0),
      file_of("{ \"a\" : { \"shape\" : [ 4 ] , \"data_offsets\" : [ 0 , 4 ] , \"dtype\" : \"U8\" } } ", 4),
      file_of("{" + entry("a", "U8", "[4]", "[0,4]") + ",\"__metadata__\":{\"a\":\"b\"}}", 4),
      file_of("{" + entry("b", "U8", "[3]", "[1,4]") + "," + entry("a", "U8", "[1]", "[0,1]") + "}", 4),
      file_of("{" + entry("z", "U8", "[0]", "[4,4]") + "," + entry("a", "U8", "[4]", "[0,4]") + "," +
                  entry("y", "U64", "[0,7]", "[0,0]") + "," + entry("x", "U8", "[7,0]", "[0,0]") + "}",
              4),
      file_of("{" + entry("\\u0000\\ud83d\\ude00", "U8", "[4]", "[0,4]") + "}", 4),
      file_of("{" + entry("__metadata", "U8", "[4]", "[0,4]") + "}", 4),
      file_of("{" + entry("a", "U8", "[" + ones + "]", "[0,1]") + "}", 1),
      file_of("{" + entry("a", "U8", "[0,9223372036854775807]", "[0,0]") + "}", 0),
      file_of("\n\t\r {\r\n\t\"a\" :\n{\t\"dtype\":\"U8\"\n,\"shape\":[\n4],\n\"data_offsets\":[0\t,4]}\n}\t\n", 4),
      file_of("{\"__metadata__\":null," + entry("a", "U8", "[4]", "[0,4]") + "}", 4),
      file_of("{\"__metadata__\":null}", 0),
      file_of("{" + entry("", "U8", "[4]", "[0,4]") + "}", 4),
      file_of("{\"__metadata__\":{\"\\\"\\\\\":\"\\\\\"}\n}", 0),
      file_of("{" + entry("f4", "F4", "[8]", "[0,4]") + "," + entry("f6", "F6_E2M3", "[2,2]", "[4,7]") + "}", 7),
      file_of("{" + entry("a", "F8_E4M3FNUZ", "[4]", "[0,4]") + "}", 4),
      file_of(
          tensor(
              "\"x\":null,\"dtype\":\"U8\",\"y\":{\"dtype\":[1,{}],\"z\":{}},\"shape\":[4],\"y\":-1,\"w\":[[],0.5,true,"
              "\"s\"],\"data_offsets\":[0,4],\"v\":[]"),
          4),
      file_of(tensor("\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4],\"x\":" + std::string(125, '[') +
                     std::string(125, ']')),
              4),
  };
  for (const std::string& file : files) {
    CAPTURE(file);
    REQUIRE(is_file(file));
    REQUIRE_FALSE(is_file(file + '\0'));
  }
}

TEST_CASE("safetensors_file: refuses truncated files [every length]", "[safetensors][hostile]") {
  const std::string file = good_file();
  REQUIRE(is_file(file));
  for (std::size_t length = 0; length < file.size(); ++length) {
    CAPTURE(length);
    REQUIRE_FALSE(is_file(file.substr(0, length)));
  }
}

TEST_CASE("safetensors_file: reads or refuses files with a changed byte [every byte of the header]",
          "[safetensors][hostile]") {
  const std::string file = good_file();
  std::size_t read = 0;
  std::size_t refused = 0;
  for (std::size_t place = 0; place < file.size() - 18; ++place) {
    for (int change = 1; change < 256; ++change) {
      std::string changed = file;
      changed[place] = static_cast<char>(changed[place] ^ change);
      ++(is_file(changed) ? read : refused);
    }
  }
  REQUIRE(read > 0);
  REQUIRE(refused > read);
}

TEST_CASE("safetensors_file: reads or refuses files [random changes]", "[safetensors][hostile]") {
  const std::vector<std::string> pieces{"{",
                                        "}",
                                        "[",
                                        "]",
                                        ",",
                                        ":",
                                        "\"",
                                        "\\",
                                        " ",
                                        "\\u0000",
                                        "\\ud83d\\ude00",
                                        "\xc3\xa9",
                                        "0",
                                        "-1",
                                        "1e3",
                                        "9223372036854775807",
                                        "18446744073709551615",
                                        "null",
                                        "true",
                                        "\"a\"",
                                        "\"b\"",
                                        "\"dtype\":",
                                        "\"shape\":",
                                        "\"data_offsets\":",
                                        "\"__metadata__\":",
                                        "\"U8\"",
                                        "\"F32\"",
                                        "[0,4]",
                                        "{}"};
  const std::string good = good_file();
  const std::string header = good.substr(8, good.size() - 8 - 18);
  std::mt19937 random(20211123);
  const auto below = [&](std::size_t limit) { return random() % limit; };
  std::size_t read = 0;
  std::size_t refused = 0;
  for (int round = 0; round < 40'000; ++round) {
    std::string changed = header;
    for (std::size_t changes = 1 + below(3); changes > 0; --changes) {
      const std::size_t place = below(changed.size() + 1);
      const std::size_t length = std::min(below(8), changed.size() - place);
      switch (below(4)) {
        case 0:
          changed.erase(place, length);
          break;
        case 1:
          changed.insert(place, pieces[below(pieces.size())]);
          break;
        case 2:
          changed.replace(place, length, pieces[below(pieces.size())]);
          break;
        default:
          changed.insert(below(changed.size() + 1), changed.substr(place, below(80)));
      }
    }
    ++(is_file(file_of(changed, 18)) ? read : refused);
  }
  REQUIRE(read > 100);
  REQUIRE(refused > 100);
}

TEST_CASE("safetensors_file: takes no more memory than is stated [any header]", "[safetensors][hostile]") {
  constexpr std::size_t length = (std::size_t{1} << 19) + 64;
  const auto repeat = [](const std::string& begin, const auto& part, const std::string& end) {
    std::string header = begin;
    for (std::size_t i = 0; header.size() < length; ++i) {
      header += (i == 0 ? "" : ",") + part(short_name(i));
    }
    return header + end;
  };
  std::string zeros = "0";
  for (int i = 1; i < 64; ++i) {
    zeros += ",0";
  }
  const std::string many(length, 'a');
  const std::vector<std::string> headers{
      repeat(
          "{", [](const std::string& name) { return entry(name, "U8", "[0]", "[0,0]"); }, "}"),
      repeat(
          "{", [&](const std::string& name) { return entry(name, "U8", "[" + zeros + "]", "[0,0]"); }, "}"),
      repeat(
          "{\"__metadata__\":{", [](const std::string& name) { return "\"" + name + "\":\"\""; }, "}}"),
      "{\"" + many + "\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}",
      "{\"" + many + "\":7}",
      "{\"" + many,
      "{\"" + many + "\xff",
      "{\"a\":" + std::string(length, '7') + "}",
      "{\"a\":" + std::string(length, '7') + "x",
      "{\"a\":{\"dtype\":\"" + many + "\"}}",
      "{\"a\":{\"" + many + "\":1}}",
      "{\"__metadata__\":{\"" + many + "\":\"" + many + "\"}}",
      "{\"__metadata__\":{\"" + many + "\":7}}",
      "{" + std::string(length, ' ') + "x",
      "{" + std::string(length, ' ') + "}",
      "{" + std::string(length, '\n') + "x",
      "{" + std::string(length, '\n') + "}",
      "{\"a\":{\"" + many + "\":\"" + many + "\",\"x\":[" + std::string(length, '1') + "e]}}",
      repeat(
          "{\"a\":{", [](const std::string& name) { return "\"" + name + "\":[]"; },
          ",\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}"),
  };
  std::size_t read = 0;
  for (const std::string& header : headers) {
    CAPTURE(header.substr(0, 60));
    std::vector<std::byte> bytes = as_bytes(file_of(header, 0));
    const std::size_t file_size = bytes.size();
    const std::size_t before = live_bytes - file_size;
    most_live_bytes = live_bytes.load();
    try {
      safetensors_file::parse(std::move(bytes), "hostile");
      ++read;
    } catch (const intact::file_error& error) {
      REQUIRE(std::string_view(error.what()).size() < 1000);
    }
    const std::size_t most = most_live_bytes - before;
    REQUIRE(most >= file_size);
    REQUIRE(most <= file_size + 16 * header.size() + 65536);
  }
  REQUIRE(read == 8);
}

TEST_CASE("safetensors_file: allocates memory after the header is checked", "[safetensors][hostile]") {
  const std::filesystem::path path =
      std::filesystem::temp_directory_path() / ("intact_hostile_test_" + std::to_string(::getpid()));
  const std::vector<bad_header> all{
      {prefix(100'000'001), "it must have at most 100000000"},
      {prefix(1'000'000'000), "it must have at most 100000000"},
      {prefix(2) + "{}", "the tensors end at byte 0 of the buffer, which has 299999990"},
  };
  for (const bad_header& bad : all) {
    std::ofstream(path, std::ios::binary) << bad.header;
    std::filesystem::resize_file(path, 300'000'000);
    const std::size_t before = live_bytes;
    most_live_bytes = before;
    std::string message;
    try {
      safetensors_file::read(path);
    } catch (const intact::file_error& error) {
      message = error.what();
    }
    const std::size_t most = most_live_bytes - before;
    std::filesystem::remove(path);
    CAPTURE(message);
    REQUIRE(message.find(bad.problem) != std::string::npos);
    REQUIRE(most < 65536);
  }
}

}  // namespace intact_test::safetensors_hostile_test
