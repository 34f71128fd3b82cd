#pragma once

// The only header that asks the compiler about itself.

#if defined(__cpp_exceptions)
#define INTACT_EXCEPTIONS 1
/// Inline namespace of every declaration. Translation units with and without exceptions differ in what a failed
/// contract does, so their functions must not be merged by the linker: each kind has a namespace of its own.
#define INTACT_ABI v0
#else
#define INTACT_EXCEPTIONS 0
#define INTACT_ABI v0_noexcept
#endif
