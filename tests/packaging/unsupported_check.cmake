# cmake -D INCLUDE_DIR=<folder of headers> -D "COMPILE=<compiler;options>" -P <this file>
#
# A language or a compiler that is not supported is refused: the first error of the compiler is a sentence. It goes on if
# the program says so.

cmake_minimum_required(VERSION 3.25)

# The first error, or "none", of a header with options.
function(first_error header result)
  execute_process(COMMAND ${COMPILE} ${ARGN} -I ${INCLUDE_DIR} -w -E -include ${header} -x c++ /dev/null
                  OUTPUT_QUIET ERROR_VARIABLE errors)
  set(${result} none PARENT_SCOPE)
  if(errors MATCHES "error: ([^\n]*)")
    set(${result} "${CMAKE_MATCH_1}" PARENT_SCOPE)
  endif()
endfunction()

function(expect header expected)
  first_error(${header} error ${ARGN})
  if(NOT error MATCHES "${expected}")
    message(FATAL_ERROR "${header} with ${ARGN}: the first error is ${error}; it must be ${expected}")
  endif()
endfunction()

# As every header but that with the sentences includes another one first, all of them begin with it.
file(GLOB_RECURSE headers RELATIVE ${INCLUDE_DIR} ${INCLUDE_DIR}/intact/*.hpp)
if(NOT intact/config/supported.hpp IN_LIST headers)
  message(FATAL_ERROR "${INCLUDE_DIR} has no headers")
endif()
list(REMOVE_ITEM headers intact/config/supported.hpp)
foreach(header IN LISTS headers)
  file(STRINGS ${INCLUDE_DIR}/${header} includes REGEX "^#include \"intact/")
  if(NOT includes)
    message(FATAL_ERROR "${header} does not include intact/config/supported.hpp")
  endif()
endforeach()
foreach(header IN ITEMS intact/intact.hpp intact/gemm.hpp intact/build/block.hpp intact/simd/detect.hpp)
  expect(${header} "intact needs C\\+\\+20: .*; define INTACT_ALLOW_UNSUPPORTED_COMPILER" -std=c++17)
endforeach()

set(header intact/config/version.hpp)
set(clang -U__clang__ -D__clang__ -U__clang_major__)
set(gcc -U__clang__ -U__GNUC__)
expect(${header} "none" -std=c++20)
expect(${header} "none" -std=c++17 -DINTACT_ALLOW_UNSUPPORTED_COMPILER)
expect(${header} "none" -std=c++20 ${clang} -D__clang_major__=14)
expect(${header} "needs Clang 14" -std=c++20 ${clang} -D__clang_major__=13)
expect(${header} "none" -std=c++20 ${gcc} -D__GNUC__=12)
expect(${header} "needs GCC 12" -std=c++20 ${gcc} -D__GNUC__=11)
expect(${header} "needs GCC or Clang" -std=c++20 ${gcc} -D_MSC_VER=1939)
list(LENGTH headers count)
message(NOTICE "${count} headers refuse what is not supported")
