# cmake -D PROGRAM=<isa_list> -D SOURCE_DIR=<folder of the project> -P <this file>
#
# include/intact/simd/isa.hpp, cmake/isas.cmake and the table of docs/embedding.md list the same instruction sets.

cmake_minimum_required(VERSION 3.25)
include(${SOURCE_DIR}/cmake/isas.cmake)

execute_process(COMMAND ${PROGRAM} OUTPUT_VARIABLE tags OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
string(REPLACE "\n" ";" tags "${tags}")
intact_isa_list(rows)
if(NOT tags STREQUAL rows)
  message(FATAL_ERROR "isa.hpp has\n${tags}\ncmake/isas.cmake has\n${rows}")
endif()

list(TRANSFORM rows REPLACE " .*" "" OUTPUT_VARIABLE names)
file(STRINGS ${SOURCE_DIR}/docs/embedding.md documented REGEX "^\\| `[a-z0-9_]+` \\| (none|`-m|those)")
list(TRANSFORM documented REPLACE "^\\| `([a-z0-9_]+)`.*" "\\1")
if(NOT documented STREQUAL names)
  message(FATAL_ERROR "docs/embedding.md has\n${documented}\nthe list has\n${names}")
endif()
