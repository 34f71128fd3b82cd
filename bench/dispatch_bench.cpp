// Times blocks of DeiT-Tiny through intact::dispatch, on the instruction set that INTACT_ISA names, beside header-only
// calls for that set in this file, which is compiled for the machine. Compares the codes, and prints the ratios of the
// times and their quartiles.

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <stdexcept>
#include <string_view>
#include <tuple>

#include "block.hpp"
#include "intact/dispatch/all.hpp"
#include "program_version.hpp"
#include "rounds.hpp"

namespace {

using namespace intact_bench;

/// Calls call(tag) if that is the set's name and this file is compiled for it.
template <class Isa, class Call>
bool call_if_named(Isa isa, std::string_view name, const Call& call) {
  if constexpr (Isa::compiled) {
    if (name == Isa::name) {
      call(isa);
      return true;
    }
  }
  return false;
}

template <class... Isas, class Call>
bool with_isa(std::tuple<Isas...>, std::string_view name, const Call& call) {
  return (call_if_named(Isas(), name, call) || ...);
}

/// Each call goes on with the stream that the one before has left.
template <class Code>
void compare(const named_recipe& recipe, const effort& limits) {
  const block_task task({1, 197, 192, 3}, recipe, 1);
  const intact::block_shape shape = task.block_shape();
  aligned_vector<Code> codes = task.stream<Code>();
  aligned_vector<std::byte> memory(intact::block_workspace_bytes(shape));
  const intact::matrix_view stream(codes.data(), task.of.rows(), task.of.width);
  const intact::workspace scratch(memory.data(), memory.size());
  const std::string_view name = intact::dispatch::isa_name();
  aligned_vector<Code> expected = codes, found_codes = codes;
  const auto view_of = [&](aligned_vector<Code>& all) {
    return intact::matrix_view<Code>(all.data(), task.of.rows(), task.of.width);
  };
  intact::dispatch::block(view_of(found_codes), task.parameters(), shape, scratch);
  const bool compiled = with_isa(std::tuple<INTACT_DISPATCH_TAGS>(), name, [&](auto isa) {
    intact::block<decltype(isa)>(view_of(expected), task.parameters(), shape, scratch);
    if (found_codes != expected) {
      throw std::runtime_error("the dispatched block has other codes");
    }
    const rounds measured =
        alternate([&] { intact::block<decltype(isa)>(stream, task.parameters(), shape, scratch); },
                  [&] { intact::dispatch::block(stream, task.parameters(), shape, scratch); }, limits);
    const speed_ratio found = compare_medians(measured);
    std::printf("%s, %s: header-only %.3f ms, dispatched / header-only %.3f [%.3f, %.3f]\n", name.data(), recipe.name,
                1e3 * median(measured.ours), found.ratio, found.low, found.high);
  });
  if (!compiled) {
    std::printf("%s: this program is not compiled for it\n", name.data());
  }
}

}  // namespace

int main(int argc, char** argv) try {
  if (intact_examples::print_version(argc, argv)) {
    return 0;
  }
  const bool quick = argc == 2 && std::string_view(argv[1]) == "--quick";
  const effort limits{.seconds = quick ? 0.02 : 4};
  compare<std::uint8_t>(paper, limits);
  compare<std::int16_t>(precise, limits);
  return 0;
} catch (const std::exception& e) {
  std::fprintf(stderr, "%s\n", e.what());
  return 1;
}
