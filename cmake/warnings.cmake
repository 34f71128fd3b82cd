# Warnings for the sources of this project: tests, examples, and each header alone. Users of the targets never see
# these options.

add_compile_options(-Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wshadow)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # GCC 13 and 14 suspect every reference that comes from a function with a temporary argument, and GCC 12 with -O3 every
  # literal in front of a string (its bug 105651).
  add_compile_options(-Wno-dangling-reference -Wno-restrict)
endif()
if(INTACT_WARNINGS_AS_ERRORS)
  add_compile_options(-Werror)
endif()
