#pragma once

#include <cstddef>
#include <iterator>
#include <span>
#include <stdexcept>

#include "intact/c/intact.h"
#include "intact/config/contract.hpp"
#include "intact/types/view.hpp"

// Statuses in place of exceptions, and the checks of pointers, for the sources of this folder.

namespace intact {
inline namespace INTACT_UNIT {
namespace c {

/// The status of the exception that is being handled. Its message becomes the thread's.
intact_status status_of_exception() noexcept;

/// Calls a function. No exception leaves.
template <class Call>
intact_status status_of(const Call& call) noexcept {
  try {
    call();
    return INTACT_OK;
  } catch (...) {
    return status_of_exception();
  }
}

/// A part of the library that has been left out.
class not_built : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// A function of the interface and one of its arguments, for messages.
struct place {
  const char* function;
  const char* argument;
};

/// Refuses a null pointer.
inline void require_pointer(const place& at, const void* pointer) {
  if (pointer == nullptr) [[unlikely]] {
    contract_failed("%s: %s is NULL; it must not be", at.function, at.argument);
  }
}

/// The object of a pointer, which must not be null.
template <class T>
T& object_at(const place& at, T* pointer) {
  require_pointer(at, pointer);
  return *pointer;
}

/// An array of a size. It may be null if it has no elements.
template <class T>
std::span<T> array_at(const place& at, T* data, index_t size) {
  if (size < 0) [[unlikely]] {
    contract_failed("%s: size of %s is %td; it must be at least 0", at.function, at.argument, size);
  }
  if (size != 0) {
    require_pointer(at, data);
  }
  return {data, static_cast<std::size_t>(size)};
}

/// The same, or no elements if it is null.
template <class T>
std::span<T> optional_array_at(const place& at, T* data, index_t size) {
  return data == nullptr ? std::span<T>() : array_at(at, data, size);
}

/// Refuses a value of an enumeration that is none of 0..last.
inline void require_choice(const place& at, int value, int last) {
  if (value < 0 || value > last) [[unlikely]] {
    contract_failed("%s: %s is %d; it must be in 0..%d", at.function, at.argument, value, last);
  }
}

}  // namespace c
}  // namespace INTACT_UNIT
}  // namespace intact
