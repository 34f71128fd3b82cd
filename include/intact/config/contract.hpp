#pragma once

#include <cstdarg>
#include <cstdint>

#include "intact/config/compiler.hpp"

#if defined(INTACT_NO_STDIO)
#include "intact/config/format_message.hpp"
#else
#include <cstdio>
#endif
#if INTACT_EXCEPTIONS
#include <stdexcept>
#else
#include <atomic>
#include <cstdlib>
#endif

// Contracts are checked once, by the public operation, before anything is written. Kernels check nothing.
// A broken contract throws std::invalid_argument. Without exceptions it calls the handler that the program has set,
// then aborts. Either way the message names the operation, the argument, its value and the limit.
//
// A program that defines INTACT_NO_STDIO, in all of its units, does without the C library's formatting and streams,
// which allocate memory on microcontrollers: a broken contract without a handler aborts without a message.

namespace intact {

#if !INTACT_EXCEPTIONS
inline namespace INTACT_ABI {

/// Receives the message of a broken contract. The program is aborted when the handler returns.
using contract_handler = void (*)(const char* message);

/// One for all units without exceptions.
inline std::atomic<contract_handler> current_contract_handler{nullptr};

}  // namespace INTACT_ABI
#endif

inline namespace INTACT_UNIT {

#if !INTACT_EXCEPTIONS
/// Installs a handler for broken contracts and returns the former one (null: print to stderr). On processors that
/// cannot exchange a value in memory by one instruction, such as Cortex-M0, it is not called by two threads at a time.
inline contract_handler set_contract_handler(contract_handler handler) {
  if constexpr (std::atomic<contract_handler>::is_always_lock_free) {
    return current_contract_handler.exchange(handler);
  } else {
    const contract_handler former = current_contract_handler.load();
    current_contract_handler.store(handler);
    return former;
  }
}
#endif

#if INTACT_EXCEPTIONS

/// Reports a broken contract in words; never returns.
[[noreturn]] inline void contract_broken(const char* message) {
  throw std::invalid_argument(message);
}

/// Runs a part of an operation. Its refusals are reported in the words that rewrite(message) returns as a string.
template <class Part, class Rewrite>
decltype(auto) with_refusals(const Part& part, const Rewrite& rewrite) {
  try {
    return part();
  } catch (const std::invalid_argument& refusal) {
    contract_broken(rewrite(refusal.what()).c_str());
  }
}

#else

/// Reports a broken contract in words; never returns.
[[noreturn]] inline void contract_broken(const char* message) {
  if (const contract_handler handler = current_contract_handler.load()) {
    handler(message);
  } else {
#if !defined(INTACT_NO_STDIO)
    std::fputs(message, stderr);
    std::fputc('\n', stderr);
#endif
  }
  std::abort();
}

/// Runs a part of an operation, whose refusals end the program.
template <class Part, class Rewrite>
decltype(auto) with_refusals(const Part& part, const Rewrite&) {
  return part();
}

#endif

/// Formats a message as printf does, without the heap, and reports it.
[[noreturn, gnu::format(printf, 1, 2)]] inline void contract_failed(const char* format, ...) {
  char message[512];
  std::va_list arguments;
  va_start(arguments, format);
#if defined(INTACT_NO_STDIO)
  format_message(message, sizeof message, format, arguments);
#else
  std::vsnprintf(message, sizeof message, format, arguments);
#endif
  va_end(arguments);
  contract_broken(message);
}

/// Reports "intact::<operation>: <argument> is <value>; it must be <rule> <limit>".
[[noreturn]] inline void limit_broken(const char* operation, const char* argument, std::int64_t value, const char* rule,
                                      std::int64_t limit) {
  contract_failed("intact::%s: %s is %lld; it must be %s %lld", operation, argument, static_cast<long long>(value),
                  rule, static_cast<long long>(limit));
}

/// Refuses a value that is not the expected one.
inline void require_equal(const char* operation, const char* argument, std::int64_t value, std::int64_t expected) {
  if (value != expected) [[unlikely]] {
    limit_broken(operation, argument, value, "equal to", expected);
  }
}

/// Refuses a value below a limit.
inline void require_at_least(const char* operation, const char* argument, std::int64_t value, std::int64_t limit) {
  if (value < limit) [[unlikely]] {
    limit_broken(operation, argument, value, "at least", limit);
  }
}

/// Refuses a value above a limit.
inline void require_at_most(const char* operation, const char* argument, std::int64_t value, std::int64_t limit) {
  if (value > limit) [[unlikely]] {
    limit_broken(operation, argument, value, "at most", limit);
  }
}

/// Refuses a value that is not in low..high.
inline void require_between(const char* operation, const char* argument, std::int64_t value, std::int64_t low,
                            std::int64_t high) {
  require_at_least(operation, argument, value, low);
  require_at_most(operation, argument, value, high);
}

}  // namespace INTACT_UNIT
}  // namespace intact
