// The library itself, and the messages of its errors.

#include <algorithm>
#include <cstring>
#include <exception>
#include <new>
#include <stdexcept>
#include <system_error>

#include "intact/c/intact.h"
#include "intact/c/status.hpp"
#include "intact/config/version.hpp"
#include "intact/dispatch/call.hpp"
#include "intact/io/safetensors_types.hpp"

namespace intact {
inline namespace INTACT_UNIT {
namespace c {
namespace {

thread_local char thread_message[1024] = "";

intact_status failed(intact_status status, const char* message) noexcept {
  const std::size_t length = std::min(std::strlen(message), sizeof thread_message - 1);
  std::memcpy(thread_message, message, length);
  thread_message[length] = 0;
  return status;
}

}  // namespace

intact_status status_of_exception() noexcept {
  try {
    throw;
  } catch (const std::bad_alloc&) {
    return failed(INTACT_OUT_OF_MEMORY, "intact: the heap has not the memory that this takes");
  } catch (const std::length_error&) {
    return failed(INTACT_OUT_OF_MEMORY, "intact: no memory has the size that this takes");
  } catch (const std::invalid_argument& refusal) {
    return failed(INTACT_INVALID_ARGUMENT, refusal.what());
  } catch (const file_error& error) {
    return failed(INTACT_FILE_ERROR, error.what());
  } catch (const std::system_error& error) {
    return failed(INTACT_FILE_ERROR, error.what());
  } catch (const not_built& error) {
    return failed(INTACT_NOT_BUILT, error.what());
  } catch (const std::exception& error) {
    return failed(INTACT_INTERNAL_ERROR, error.what());
  } catch (...) {
    return failed(INTACT_INTERNAL_ERROR, "intact: an exception of an unknown type");
  }
}

}  // namespace c
}  // namespace INTACT_UNIT
}  // namespace intact

const char* intact_error_message() {
  return intact::c::thread_message;
}

intact_status intact_version(int32_t* major, int32_t* minor, int32_t* patch) {
  constexpr const char* function = "intact_version";
  return intact::c::status_of([&] {
    int32_t& first = intact::c::object_at({function, "major"}, major);
    int32_t& second = intact::c::object_at({function, "minor"}, minor);
    int32_t& third = intact::c::object_at({function, "patch"}, patch);
    first = INTACT_VERSION_MAJOR;
    second = INTACT_VERSION_MINOR;
    third = INTACT_VERSION_PATCH;
  });
}

intact_status intact_isa_name(const char** name) {
  return intact::c::status_of([&] {
    intact::c::object_at({"intact_isa_name", "name"}, name) = intact::dispatch::isa_name();
  });
}
