# cmake -D INCLUDE_DIR=<folder of headers> -D "COMPILE=<compiler;options>" -P <this file>
#
# A language or a compiler that is not supported is refused: the compiler ends after a sentence and the name of a file that
# does not exist. It goes on if the program says so.

cmake_minimum_required(VERSION 3.25)

# The errors of a header with options, each from "error: " to the end of its line.
function(errors_of header result)
  execute_process(COMMAND ${COMPILE} ${ARGN} -I ${INCLUDE_DIR} -w -include ${header} -x c++ /dev/null
                  OUTPUT_QUIET ERROR_VARIABLE output)
  string(REPLACE ";" "," output "${output}")
  string(REGEX MATCHALL "error: [^\n]*" errors "${output}")
  set(${result} ${errors} PARENT_SCOPE)
endfunction()

function(expect_accepted header)
  errors_of(${header} errors -E ${ARGN})
  if(errors)
    message(FATAL_ERROR "${header} with ${ARGN} has errors: ${errors}")
  endif()
endfunction()

function(expect_refused header sentence)
  errors_of(${header} errors -fsyntax-only ${ARGN})
  list(LENGTH errors count)
  if(NOT count EQUAL 2 OR NOT errors MATCHES "^error: [^;]*${sentence}[^;]*;error: [^;]*see_the_error_above")
    message(FATAL_ERROR "${header} with ${ARGN} has the errors ${errors}; it must have \"${sentence}\" and the missing file")
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
  expect_refused(${header} "intact needs C\\+\\+20: .*define INTACT_ALLOW_UNSUPPORTED_COMPILER" -std=c++17)
endforeach()

set(header intact/config/version.hpp)
set(clang -U__clang__ -D__clang__ -U__clang_major__)
set(gcc -U__clang__ -U__GNUC__)
expect_accepted(${header} -std=c++20)
expect_accepted(${header} -std=c++17 -DINTACT_ALLOW_UNSUPPORTED_COMPILER)
expect_accepted(${header} -std=c++20 ${clang} -D__clang_major__=14)
expect_refused(${header} "needs Clang 14" -std=c++20 ${clang} -D__clang_major__=13)
expect_accepted(${header} -std=c++20 ${gcc} -D__GNUC__=12)
expect_refused(${header} "needs GCC 12" -std=c++20 ${gcc} -D__GNUC__=11)
expect_refused(${header} "needs GCC or Clang" -std=c++20 ${gcc} -D_MSC_VER=1939)
list(LENGTH headers count)
message(NOTICE "${count} headers refuse what is not supported")
