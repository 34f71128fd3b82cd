#pragma once

#include <stdexcept>
#include <string>

namespace intact_test {

/// The message of the refusal that an action ends with, or nothing.
template <class Error = std::invalid_argument, class Action>
std::string refusal(Action action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return {};
}

inline bool mentions(const std::string& message, const std::string& words) {
  return message.find(words) != std::string::npos;
}

}  // namespace intact_test
