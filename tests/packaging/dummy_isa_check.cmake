# cmake -D SOURCE_DIR=<folder of the project> -D WORK_DIR=<folder> -D PARENT=<instruction set>
#       -D "COMPILE=<compiler;options>" -P <this file>
#
# Adds an instruction set that inherits everything to a copy of the library. It takes changes to three files: the list,
# its copy for CMake, and the table of docs/embedding.md. Its kernels compute what those of its parent compute.

cmake_minimum_required(VERSION 3.25)
include(${SOURCE_DIR}/cmake/isas.cmake)
set(packaging ${SOURCE_DIR}/tests/packaging)

function(run)
  execute_process(COMMAND ${ARGN} COMMAND_ERROR_IS_FATAL ANY)
endfunction()

# The output of a program that is compiled with an include folder and flags.
function(compile_and_run source include result)
  cmake_path(GET source STEM stem)
  run(${COMPILE} -I ${include} ${ARGN} ${source} -o ${WORK_DIR}/${stem})
  execute_process(COMMAND ${WORK_DIR}/${stem} OUTPUT_VARIABLE output COMMAND_ERROR_IS_FATAL ANY)
  set(${result} ${output} PARENT_SCOPE)
endfunction()

file(REMOVE_RECURSE ${WORK_DIR})
file(COPY ${SOURCE_DIR}/include ${SOURCE_DIR}/cmake ${SOURCE_DIR}/docs DESTINATION ${WORK_DIR})

# In the copy, puts text before or after a line of a file.
function(edit file pattern replacement)
  file(READ ${WORK_DIR}/${file} text)
  string(REGEX REPLACE "${pattern}" "${replacement}" edited "${text}")
  if(edited STREQUAL text)
    message(FATAL_ERROR "${file} does not have ${pattern}")
  endif()
  file(WRITE ${WORK_DIR}/${file} "${edited}")
endfunction()

intact_isa_flags(${PARENT} flags)
list(JOIN flags " " flags_text)
edit(include/intact/simd/isa.hpp "/// All tags" "struct dummy : extends<${PARENT}> {
  static constexpr std::string_view name = \"dummy\";
};

/// All tags")
edit(include/intact/simd/isa.hpp "(std::tuple<scalar[^>]*[ ,]${PARENT})([,>])" "\\1, dummy\\2")
edit(cmake/isas.cmake "\n      \"${PARENT} ([^\"]*)\"" "\\0\n      \"dummy \\1\"")
edit(docs/embedding.md "\n\\| `${PARENT}` ([^\n]*)" "\\0\n| `dummy` \\1")

# The same lists, of one set more.
run(${COMPILE} -I ${WORK_DIR}/include ${packaging}/isa_list.cpp -o ${WORK_DIR}/isa_list)
run(${CMAKE_COMMAND} -D PROGRAM=${WORK_DIR}/isa_list -D SOURCE_DIR=${WORK_DIR} -P ${packaging}/isa_list_check.cmake)

compile_and_run(${packaging}/dummy_isa.cpp ${SOURCE_DIR}/include expected ${flags} -DINTACT_DUMMY_ISA=${PARENT})
compile_and_run(${packaging}/dummy_isa.cpp ${WORK_DIR}/include found ${flags} -DINTACT_DUMMY_ISA=dummy)
if(NOT found STREQUAL expected OR NOT found MATCHES " offered\n$")
  message(FATAL_ERROR "dummy computes ${found}, ${PARENT} ${expected}")
endif()

file(GLOB_RECURSE files RELATIVE ${WORK_DIR} ${WORK_DIR}/include/* ${WORK_DIR}/cmake/* ${WORK_DIR}/docs/*)
set(changed "")
foreach(file IN LISTS files)
  file(SHA256 ${WORK_DIR}/${file} copy)
  file(SHA256 ${SOURCE_DIR}/${file} original)
  if(NOT copy STREQUAL original)
    list(APPEND changed ${file})
  endif()
endforeach()
list(LENGTH changed count)
if(count GREATER 3)
  message(FATAL_ERROR "an instruction set takes changes to more than three files: ${changed}")
endif()
message(NOTICE "an instruction set that inherits everything: ${changed}")
