#include "intact/io/recorded_case.hpp"

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "catch.hpp"
#include "intact/io/case_report.hpp"
#include "intact/io/safetensors_write.hpp"
#include "refusal.hpp"

namespace intact_test::recorded_case_test {
namespace {

using namespace intact;
using recorded::claim;
using recorded::recorded_case;
using recorded::tensor_comparison;

/// A case with codes, a scale per channel and a zero point.
recorded_case made_case(const std::string& parameters = R"({"bits": 8, "name": "x"})") {
  const std::vector<std::int32_t> codes = {1, 2, 3, 4, 5, 255};
  const std::vector<float> scale = {0.5F, 1, 4};
  const std::vector<std::int64_t> zero_point = {7};
  const std::vector<tensor_to_write> tensors = {tensor_from("x__codes", {2, 3}, codes),
                                                tensor_from("x__scale", {3}, scale),
                                                tensor_from("x__zp", {1}, zero_point)};
  return recorded_case(
      safetensors_file::parse(safetensors_bytes("case", tensors, {{"function", "f"}, {"params", parameters}}), "case"));
}

}  // namespace

TEST_CASE("recorded_case: gives codes, quantizers and parameters") {
  const recorded_case file = made_case();
  CHECK(file.function() == "f");
  CHECK(file.whole_number("bits", 1, 8) == 8);
  CHECK(file.text("name") == "x");
  const recorded::matrix<std::uint8_t> codes = file.codes<std::uint8_t>("x__codes");
  CHECK(codes.rows == 2);
  CHECK(codes(1, 2) == 255);
  const recorded::quantizer q = file.quantizer_of("x");
  CHECK(q.zero_point == 7);
  CHECK(q.channel(2) == 4);
  CHECK(recorded::shifts_of(file, q, 3) == std::vector<std::uint8_t>{0, 1, 3});
  CHECK_FALSE(file.is_signed("x"));
  CHECK(file.names_ending("__codes") == std::vector<std::string>{"x"});
}

TEST_CASE("recorded_case: refuses tensors without elements whose other sizes are large") {
  const auto refused = [](const std::vector<std::int64_t>& shape) {
    const std::vector<float> none;
    const std::vector<tensor_to_write> tensors = {tensor_from("x", shape, none)};
    return refusal<file_error>([&] {
      recorded_case(safetensors_file::parse(safetensors_bytes("case", tensors, {{"function", "f"}}), "case"));
    });
  };
  CHECK(refused({0}) == "");
  CHECK(refused({0, 256, 0, 256}) == "");
  CHECK(mentions(refused({65537, 0}), "case: x has shape [65537, 0]; the sizes of a tensor without elements"));
  CHECK(mentions(refused({256, 0, 257}), "must have a product of at most 65536"));
  CHECK(mentions(refused({std::int64_t{1} << 40, 0}), "case: x has shape [1099511627776, 0]"));
}

TEST_CASE("recorded_case: errors name the file, the tensor and the limit") {
  const recorded_case file = made_case();
  CHECK(refusal<file_error>([&] { file.codes<std::int8_t>("x__codes"); }) ==
        "case: x__codes has the code 255 at 5 of its memory; it must be in -128..127");
  CHECK(mentions(refusal<file_error>([&] { file.size("x__codes", 0, 3); }),
                 "case: x__codes has shape [2, 3]; it must have 3"));
  CHECK(mentions(refusal<file_error>([&] { file.whole_number("bits", 1, 4); }),
                 "case: the parameter bits is 8; it must be"));
  CHECK(refusal<file_error>([&] { file.number("none"); }) == "case: the parameter none is missing");
  CHECK(mentions(refusal<file_error>([&] { file.tensor_scale("x"); }), "case: x__scale has 3 values; it must have 1"));
  CHECK(mentions(refusal<file_error>([&] { made_case("[]"); }), "case: metadata \"params\": is JSON, but no object"));
}

TEST_CASE("recorded_case: refuses parameters of many nested arrays, and cuts long ones in messages") {
  const auto nested = [](std::size_t levels) {
    return "{\"bits\": " + std::string(levels, '[') + std::string(levels, ']') + "}";
  };
  for (const std::size_t levels : {std::size_t{32}, std::size_t{200'000}}) {
    CHECK(refusal<file_error>([&] { made_case(nested(levels)); }) ==
          "case: metadata \"params\": has more than 32 nested arrays and objects");
  }
  CHECK(refusal<file_error>([&] { made_case(nested(31)).whole_number("bits", 1, 8); }) ==
        "case: the parameter bits is " + std::string(31, '[') + std::string(31, ']') +
            "; it must be a whole number in 1..8");
  CHECK(refusal<file_error>([&] { made_case("{\"bits\": \"" + std::string(100'000, 'a') + "\"}").number("bits"); }) ==
        "case: the parameter bits is \"" + std::string(199, 'a') + "...; it must be a finite number");
  const std::string no_json = refusal<file_error>([&] { made_case("{\"bits\": " + std::string(100'000, 'a')); });
  CHECK(mentions(no_json, "case: metadata \"params\": is not JSON: "));
  CHECK(no_json.size() < 300);
}

TEST_CASE("tensor_comparison: counts differences, and names positions and broken claims") {
  tensor_comparison tensor = made_case().compare("x__codes", "operation", claim::within_one, 6);
  tensor.compare<int>(0, 1, 1);
  tensor.compare<int>(4, 6, 5);
  CHECK(tensor.count.compared == 2);
  CHECK(tensor.count.mismatched == 1);
  CHECK(tensor.count.hold(claim::within_one));
  CHECK_FALSE(tensor.count.hold(claim::exact));
  CHECK_FALSE(tensor.count.hold(claim::explained));
  REQUIRE(tensor.allowed.size() == 1);
  CHECK(recorded::printable(tensor.allowed[0].position) == "[1, 1]");
  tensor.compare<int>(5, 0, 255, [] { return std::string("a reason"); });
  CHECK_FALSE(tensor.count.hold(claim::within_one));
  REQUIRE(tensor.refused.size() == 1);
  CHECK(tensor.refused[0].expected == "255");
  CHECK(tensor.refused[0].reason == "a reason");
}

TEST_CASE("sum_up: gives a row per operation and claim, and the rate of bounded claims") {
  recorded::case_report report;
  report.group = "g";
  tensor_comparison tensor = made_case().compare("x__codes", "operation", claim::bounded, 6);
  tensor.count = {100'000, 3, 0, 1};
  report.add(tensor);
  CHECK(recorded::sum_up({report}).holds());
  tensor.count = {1, 1, 0, 1};
  report.add(tensor);
  const recorded::summary all = recorded::sum_up({report, report});
  REQUIRE(all.rows.size() == 1);
  CHECK(all.rows[0].cases == 2);
  CHECK(all.rows[0].tensors == 4);
  CHECK(all.bounded[0].count.mismatched == 8);
  CHECK_FALSE(all.holds());
}

TEST_CASE("near_tie: accepts neighbouring codes within the tolerance of the tie between them") {
  CHECK(!recorded::near_tie(3.5001L, 3, 4, 0.001L).empty());
  CHECK(recorded::near_tie(3.51L, 3, 4, 0.001L).empty());
  CHECK(recorded::near_tie(3.5L, 3, 5, 1).empty());
  CHECK(recorded::near_tie(3.5L, 3, 3, 1).empty());
}

}  // namespace intact_test::recorded_case_test
