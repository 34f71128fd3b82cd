#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>

#include <fuzzer/FuzzedDataProvider.h>

#include "tensor.hpp"

// Choices of a fuzzer's input. An input that ends early is one whose other choices are the first of their kind.

namespace intact_test {

/// Ends the program with a message, so that the fuzzer keeps the input.
[[noreturn]] inline void fail(const std::string& problem) {
  std::fprintf(stderr, "%s\n", problem.c_str());
  std::abort();
}

template <class Message>
void expect(bool holds, const Message& problem) {
  if (!holds) {
    fail(problem);
  }
}

class fuzz_input {
 public:
  fuzz_input(const std::uint8_t* bytes, std::size_t count) : choices_(bytes, count) {}

  /// From low to high, both included.
  std::int64_t between(std::int64_t low, std::int64_t high) { return choices_.ConsumeIntegralInRange(low, high); }
  int code() { return static_cast<int>(between(0, 255)); }
  bool flag() { return choices_.ConsumeBool(); }

  template <class Choices>
  auto one_of(const Choices& all) {
    return all[static_cast<std::size_t>(between(0, std::ssize(all) - 1))];
  }

  /// A size from 0 on, often one around those that kernels tell apart.
  index_t size(index_t most = 300) {
    constexpr index_t sizes[] = {0,  1,  2,  3,  4,  5,  6,  7,   8,   9,   15,  16,  17,  24,  31,
                                 32, 33, 48, 63, 64, 65, 96, 127, 128, 129, 192, 197, 255, 256, 257};
    const index_t chosen = flag() ? one_of(sizes) : between(0, most);
    return std::min(chosen, most);
  }

  /// Memory of any alignment that ends with the last element.
  layout where() { return {.gap = between(0, 70), .offset = between(0, 70), .behind = 0}; }
  values contents() { return one_of(all_values); }
  generator random() { return generator(choices_.ConsumeIntegral<std::uint64_t>()); }
  index_t threads() { return between(1, 5); }

  /// Gives some elements values of the input's choice.
  template <class View>
  void change(const View& view, std::int64_t low, std::int64_t high) {
    for (std::int64_t changes = view.rows * view.columns == 0 ? 0 : between(0, 6); changes > 0; --changes) {
      const index_t i = between(0, view.rows - 1), j = between(0, view.columns - 1);
      store(view, i, j, between(low, high));
    }
  }

  /// Calls one of several functions with the input.
  template <std::size_t Count>
  void call_one(void (*const (&functions)[Count])(fuzz_input&)) {
    functions[between(0, Count - 1)](*this);
  }

 private:
  FuzzedDataProvider choices_;
};

/// Calls use(std::type_identity<Type>()) for one of a tuple's types.
template <class Types, class Use>
void with_type_of(fuzz_input& input, const Use& use) {
  constexpr std::size_t count = std::tuple_size_v<Types>;
  const auto chosen = static_cast<std::size_t>(input.between(0, count - 1));
  [&]<std::size_t... I>(std::index_sequence<I...>) {
    ((I == chosen ? use(std::type_identity<std::tuple_element_t<I, Types>>()) : void()), ...);
  }
  (std::make_index_sequence<count>());
}

}  // namespace intact_test
