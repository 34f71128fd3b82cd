// Compares recorded cases with the library's operations. A case is a safetensors file with the inputs and outputs of a
// function, for example of FQ-ViT's Python code. Each operation is fed the recorded inputs, never what another one has
// computed, so that a difference names the operation it comes from. docs/verify.md has the format and the claims.

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "program_pages.hpp"
#include "verify/modules.hpp"
#include "write_json.hpp"

namespace {

using namespace intact_verify;

/// The file itself, or the safetensors files of a folder in the order of their names.
std::vector<std::filesystem::path> cases_at(const std::filesystem::path& path) {
  if (!std::filesystem::is_directory(path)) {
    return {path};
  }
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(path)) {
    if (entry.path().extension() == ".safetensors") {
      files.push_back(entry.path());
    }
  }
  if (files.empty()) {
    throw std::runtime_error(path.string() + ": the folder has no safetensors file");
  }
  std::sort(files.begin(), files.end());
  return files;
}

double per_cent(const counts& count) {
  return count.compared == 0 ? 0 : 100.0 * static_cast<double>(count.mismatched) / static_cast<double>(count.compared);
}

void print_difference(const tensor_comparison& tensor, const difference& d) {
  std::printf("    %s %s: expected %s, found %s%s%s\n", tensor.tensor.c_str(), printable(d.position).c_str(),
              d.expected.c_str(), d.found.c_str(), d.reason.empty() ? "" : "; ", d.reason.c_str());
}

void print_tensor(const tensor_comparison& tensor, std::size_t most) {
  std::printf("  %-8s %s, %s: %lld of %lld differ, at most by %g%s\n", name_of(tensor.must), tensor.tensor.c_str(),
              tensor.operation.c_str(), static_cast<long long>(tensor.count.mismatched),
              static_cast<long long>(tensor.count.compared), tensor.count.largest,
              tensor.count.hold(tensor.must) ? "" : "  DOES NOT HOLD");
  std::vector<difference> printed = tensor.refused;
  printed.insert(printed.end(), tensor.allowed.begin(), tensor.allowed.end());
  printed.resize(std::min(most, printed.size()));
  for (const difference& d : printed) {
    print_difference(tensor, d);
  }
}

/// All of a case, or the claims that do not hold and the differences of bounded ones.
void print_case(const case_report& report, bool verbose) {
  if (report.result != case_report::outcome::verified) {
    std::printf("%s: %s, %s\n", report.name.c_str(),
                report.result == case_report::outcome::unsupported ? "unsupported" : "UNREADABLE",
                report.problem.c_str());
    return;
  }
  const auto shown = [&](const tensor_comparison& tensor) {
    return verbose || !tensor.count.hold(tensor.must) ||
           (tensor.must == claim::bounded && tensor.count.mismatched != 0);
  };
  if (verbose || std::any_of(report.tensors.begin(), report.tensors.end(), shown)) {
    std::printf("%s: %s\n", report.name.c_str(), report.function.c_str());
  }
  for (const tensor_comparison& tensor : report.tensors) {
    if (shown(tensor)) {
      print_tensor(tensor, tensor.must == claim::bounded ? tensor_comparison::most_kept : 1);
    }
  }
}

void print(const summary& all) {
  std::printf("\n%-18s %-49s %-9s %5s %7s %9s %9s %8s %9s\n", "function", "operation", "claim", "cases", "tensors",
              "compared", "mismatch", "largest", "rate");
  for (const summary_row& row : all.rows) {
    std::printf("%-18s %-49s %-9s %5lld %7lld %9lld %9lld %8g %7.3f %%%s\n", row.group.c_str(), row.operation.c_str(),
                name_of(row.must), static_cast<long long>(row.cases), static_cast<long long>(row.tensors),
                static_cast<long long>(row.count.compared), static_cast<long long>(row.count.mismatched),
                row.count.largest, per_cent(row.count), row.count.hold(row.must) ? "" : "  DOES NOT HOLD");
  }
  std::printf("\n");
  for (const bounded_total& total : all.bounded) {
    std::printf("bounded claims of %s: %lld of %lld codes differ; at most %lld of 100,000 may%s\n", total.group.c_str(),
                static_cast<long long>(total.count.mismatched), static_cast<long long>(total.count.compared),
                static_cast<long long>(bounded_per_100000), total.count.within_bound() ? "" : "  DOES NOT HOLD");
  }
  std::printf("cases: %lld verified, %lld unsupported, %lld unreadable; %s\n", static_cast<long long>(all.verified),
              static_cast<long long>(all.unsupported), static_cast<long long>(all.unreadable),
              all.verified == 0 ? "nothing has been compared"
              : all.holds()     ? "all claims hold"
                                : "NOT ALL CLAIMS HOLD");
}

nlohmann::json to_json(const counts& count) {
  return {{"compared", count.compared},
          {"mismatched", count.mismatched},
          {"unexplained", count.unexplained},
          {"largest", count.largest}};
}

nlohmann::json to_json(const tensor_comparison& tensor) {
  nlohmann::json json = to_json(tensor.count);
  json.update({{"tensor", tensor.tensor},
               {"operation", tensor.operation},
               {"claim", name_of(tensor.must)},
               {"holds", tensor.count.hold(tensor.must)},
               {"differences", nlohmann::json::array()}});
  for (const std::vector<difference>& some : {tensor.refused, tensor.allowed}) {
    for (const difference& d : some) {
      json["differences"].push_back(
          {{"index", d.position}, {"expected", d.expected}, {"found", d.found}, {"reason", d.reason}});
    }
  }
  return json;
}

nlohmann::json to_json(const std::vector<case_report>& reports, const summary& all) {
  constexpr const char* outcomes[] = {"verified", "unsupported", "unreadable"};
  nlohmann::json json = {{"holds", all.holds()},
                         {"verified", all.verified},
                         {"unsupported", all.unsupported},
                         {"unreadable", all.unreadable},
                         {"summary", nlohmann::json::array()},
                         {"bounded", nlohmann::json::array()},
                         {"cases", nlohmann::json::array()}};
  for (const summary_row& row : all.rows) {
    nlohmann::json entry = to_json(row.count);
    entry.update({{"function", row.group},
                  {"operation", row.operation},
                  {"claim", name_of(row.must)},
                  {"holds", row.count.hold(row.must)},
                  {"cases", row.cases},
                  {"tensors", row.tensors}});
    json["summary"].push_back(entry);
  }
  for (const bounded_total& total : all.bounded) {
    nlohmann::json entry = to_json(total.count);
    entry.update({{"function", total.group}, {"holds", total.count.within_bound()}});
    json["bounded"].push_back(entry);
  }
  for (const case_report& report : reports) {
    nlohmann::json entry = {{"case", report.name},
                            {"function", report.function},
                            {"outcome", outcomes[static_cast<std::size_t>(report.result)]},
                            {"problem", report.problem},
                            {"tensors", nlohmann::json::array()}};
    for (const tensor_comparison& tensor : report.tensors) {
      entry["tensors"].push_back(to_json(tensor));
    }
    json["cases"].push_back(entry);
  }
  return json;
}

/// The exit code.
int run(const std::string& path, bool verbose, const std::string& json) {
  std::vector<case_report> reports;
  for (const std::filesystem::path& file : cases_at(path)) {
    reports.push_back(verify_file(file));
    print_case(reports.back(), verbose);
  }
  const summary all = sum_up(reports);
  print(all);
  if (!json.empty()) {
    intact_examples::write_json(json, to_json(reports, all));
  }
  for (const case_report& report : reports) {
    if (report.result == case_report::outcome::unreadable) {
      std::fprintf(stderr, "intact-verify: %s\n", report.problem.c_str());
    }
  }
  if (!all.holds()) {
    return 1;
  }
  return all.unreadable != 0 || all.verified == 0 ? 2 : 0;
}

constexpr const char* description =
    "Compares recorded cases, safetensors files with a function's inputs and outputs, with the library's operations.\n"
    "Every operation is fed the recorded inputs. docs/verify.md has the format and the claims.";

constexpr const char* examples =
    "Examples:\n"
    "  intact-verify cases/                          all cases of a folder\n"
    "  intact-verify --verbose cases/vit.safetensors every tensor of one case\n"
    "  intact-verify --json result.json cases/       the same numbers for a program\n"
    "\n"
    "Exit code: 0 all claims hold; 1 one does not; 2 a file cannot be read, or nothing has been verified.";

}  // namespace

int main(int argc, char** argv) {
  std::string path, json;
  bool verbose = false;
  CLI::App app(description, "intact-verify");
  app.footer(examples);
  intact_examples::add_version_and_pages(app);
  app.add_option("cases", path, "a case, or a folder of cases")->required();
  app.add_flag("--verbose", verbose, "print every tensor");
  app.add_option("--json", json, "write the results to this file");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  try {
    return run(path, verbose, json);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "intact-verify: %s\n", error.what());
    return 2;
  }
}
