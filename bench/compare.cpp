// Compares the library's operations with those of other libraries, in turns in one process. docs/performance.md says
// what is measured and how.

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>
#include <utility>
#include <vector>

#include <omp.h>

#include <CLI/CLI.hpp>

#include "compare/operation.hpp"
#include "isa.hpp"
#include "peak.hpp"
#include "program_pages.hpp"

namespace intact_bench {

std::vector<operation>& operations() {
  static std::vector<operation> all;
  return all;
}

registered_operation::registered_operation(operation operation) {
  operations().push_back(std::move(operation));
}

namespace {

/// oneDNN's name for an instruction set; it has none below SSE4.1.
const char* onednn_isa(const std::string& isa) {
  return isa == "avx2"         ? "AVX2"
         : isa == "avx2_vnni"  ? "AVX2_VNNI"
         : isa == "avx512bw"   ? "AVX512_CORE"
         : isa == "avx512vnni" ? "AVX512_CORE_VNNI"
         : isa == "avx512vbmi" ? "DEFAULT"
                               : "SSE41";
}

/// The exit code.
int run(const options& given, const std::string& name, const std::string& json) {
  omp_set_num_threads(given.threads);
  double peak = 0;
  with_isa(given.isa, [&](auto tag) { peak = peak_gops<decltype(tag)>(); });
  report results(given, peak);
  for (const operation& each : operations()) {
    if (name.empty() || each.name == name) {
      each.compare(given, results);
    }
  }
  if (!json.empty()) {
    results.write(json);
  }
  return results.failed() ? 1 : 0;
}

constexpr const char* description =
    "Compares the library's operations with those of other libraries, in turns in one process: a ratio above 1 means\n"
    "that ours is faster. docs/performance.md says what is measured and how.";

constexpr const char* examples =
    "Examples:\n"
    "  intact-compare --op gemm                              the table of shapes, one thread\n"
    "  intact-compare --op gemm --threads 2 --shapes all     all shapes, two threads\n"
    "  intact-compare --op gemm --isa avx2 --peers oneDNN    with older instructions, for both sides\n"
    "  intact-compare --op gemm --weights int4               our 4-bit weights against our 8-bit weights\n"
    "  intact-compare --op layernorm --json results.json     another operation; results in a file, too\n"
    "\n"
    "Exit code: 0; 1 if an output of ours is wrong; 2 if the program cannot do what it is asked for.";

}  // namespace
}  // namespace intact_bench

int main(int argc, char** argv) {
  using namespace intact_bench;
  options given;
  given.isa = isa_names().back();
  std::string operation, json;
  bool quick = false, list = false;
  std::vector<std::string> operation_names;
  for (const auto& each : operations()) {
    operation_names.push_back(each.name);
  }
  CLI::App app(description, "intact-compare");
  app.footer(examples);
  intact_examples::add_version_and_pages(app);
  app.add_option("--op", operation, "the operation; all if it is left out")->check(CLI::IsMember(operation_names));
  app.add_option("--threads", given.threads, "threads of every side; none is pinned")->check(CLI::Range(1, 1024));
  const CLI::Option* const isa =
      app.add_option("--isa", given.isa, "instructions of both sides; other peers are left out")
          ->check(CLI::IsMember(isa_names()));
  app.add_option("--shapes", given.shapes, "table or all")->check(CLI::IsMember({"table", "all"}));
  app.add_option("--weights", given.weights, "int8, int4 or grouped-int4")
      ->check(CLI::IsMember({"int8", "int4", "grouped-int4"}));
  app.add_option("--peers", given.peers, "only peers whose names start like this; none: ours alone")->delimiter(',');
  app.add_flag("--quick", quick, "few shapes, measured briefly: does everything work?");
  app.add_flag("--list-isas", list, "print the instruction sets of this program, and nothing else");
  app.add_option("--json", json, "write the results to this file");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  if (list) {
    for (const std::string& name : isa_names()) {
      std::printf("%s\n", name.c_str());
    }
    return 0;
  }
  given.shapes = quick ? "quick" : given.shapes;
  given.isa_is_native = isa->count() == 0;
  if (!given.isa_is_native) {
    setenv("ONEDNN_MAX_CPU_ISA", onednn_isa(given.isa), 1);  // read by oneDNN when it is called first
  }
  try {
    return run(given, operation, json);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "intact-compare: %s\n", error.what());
    return 2;
  }
}
