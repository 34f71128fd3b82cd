#pragma once

#include <cstdint>
#include <string>
#include <type_traits>

#include "intact/c/intact.h"
#include "intact/c/status.hpp"
#include "intact/config/floating_point.hpp"
#include "intact/interop/float_output.hpp"
#include "intact/types/int4.hpp"
#include "intact/types/view.hpp"

// Matrices and executors of the C interface as those of the library.

namespace intact {
inline namespace INTACT_UNIT {
namespace c {

/// How the C interface names an element type.
struct type_name {
  intact_type type;
  const char* name;
};

template <class T>
inline constexpr type_name name_of{};
template <>
inline constexpr type_name name_of<std::uint8_t>{INTACT_U8, "INTACT_U8"};
template <>
inline constexpr type_name name_of<std::int8_t>{INTACT_S8, "INTACT_S8"};
template <>
inline constexpr type_name name_of<std::uint16_t>{INTACT_U12, "INTACT_U12"};
template <>
inline constexpr type_name name_of<std::int16_t>{INTACT_S16, "INTACT_S16"};
template <>
inline constexpr type_name name_of<std::int32_t>{INTACT_S32, "INTACT_S32"};
template <>
inline constexpr type_name name_of<float>{INTACT_F32, "INTACT_F32"};
template <>
inline constexpr type_name name_of<bfloat16>{INTACT_BF16, "INTACT_BF16"};
template <>
inline constexpr type_name name_of<u4>{INTACT_U4, "INTACT_U4"};
template <>
inline constexpr type_name name_of<s4>{INTACT_S4, "INTACT_S4"};

/// Reports an element type that is none of those of a list.
template <class... Elements>
[[noreturn]] void refuse_type(const place& at, intact_type type) {
  std::string names;
  ((names += (names.empty() ? "" : " or ") + std::string(name_of<Elements>.name)), ...);
  contract_failed("%s: type of %s is %d; it must be %s", at.function, at.argument, static_cast<int>(type),
                  names.c_str());
}

/// Calls visit(view) with a matrix of one of the element types.
template <class... Elements, class Visit>
void visit_matrix(const place& at, const intact_const_matrix& m, const Visit& visit) {
  const bool known =
      ((m.type == name_of<Elements>.type &&
        (visit(matrix_view<const Elements>(static_cast<const Elements*>(m.data), m.rows, m.columns, m.stride)),
         true)) ||
       ...);
  if (!known) [[unlikely]] {
    refuse_type<Elements...>(at, m.type);
  }
}
template <class... Elements, class Visit>
void visit_matrix(const place& at, const intact_matrix& m, const Visit& visit) {
  const bool known =
      ((m.type == name_of<Elements>.type &&
        (visit(matrix_view<Elements>(static_cast<Elements*>(m.data), m.rows, m.columns, m.stride)), true)) ||
       ...);
  if (!known) [[unlikely]] {
    refuse_type<Elements...>(at, m.type);
  }
}

/// A matrix of one element type.
template <class Element>
matrix_view<const Element> matrix_of(const place& at, const intact_const_matrix& m) {
  if (m.type != name_of<Element>.type) [[unlikely]] {
    refuse_type<Element>(at, m.type);
  }
  return {static_cast<const Element*>(m.data), m.rows, m.columns, m.stride};
}
template <class Element>
matrix_view<Element> matrix_of(const place& at, const intact_matrix& m) {
  if (m.type != name_of<Element>.type) [[unlikely]] {
    refuse_type<Element>(at, m.type);
  }
  return {static_cast<Element*>(m.data), m.rows, m.columns, m.stride};
}

/// An executor of the caller's; null: its thread.
class executor_of_caller {
 public:
  executor_of_caller(const char* function, const intact_executor* run) : run_(run) {
    if (run != nullptr && (run->threads < 1 || run->for_each == nullptr)) [[unlikely]] {
      contract_failed("%s: run has %td threads and %s for_each; it must have at least 1, and one", function,
                      run->threads, run->for_each == nullptr ? "no" : "a");
    }
  }

  index_t threads() const { return run_ == nullptr ? 1 : run_->threads; }

  template <class Task>
  void for_each(index_t tasks, const Task& task) const {
    if (run_ == nullptr) {
      for (index_t i = 0; i < tasks; ++i) {
        task(i);
      }
      return;
    }
    const auto call = [](const void* argument, index_t i) { (*static_cast<const Task*>(argument))(i); };
    run_->for_each(run_->context, tasks, call, &task);
  }

 private:
  const intact_executor* run_;
};

}  // namespace c
}  // namespace INTACT_UNIT
}  // namespace intact
