# Tests of programs of translation units with different compiler flags, which call operations by their public names: in
# whichever order the units are linked, all compute the same, and no unit's code has got into another's.

# Every unit would have these flags.
if(CMAKE_CXX_FLAGS MATCHES "-fsanitize|-march|-mcpu|-msse|-mavx|-fno-exceptions")
  return()
endif()

set(units baseline without_exceptions)
set(flags_of_baseline "")
set(flags_of_without_exceptions -fno-exceptions -fno-rtti)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64)$")
  list(APPEND units avx2 avx512bw)
  intact_isa_flags(avx2 flags_of_avx2)
  intact_isa_flags(avx512bw flags_of_avx512bw)
endif()

# Each unit, and the program of examples/runtime_dispatch as a function, with the units of intact::dispatch.
set(objects "")
foreach(unit IN LISTS units)
  add_library(unit_${unit} OBJECT packaging/units/unit.cpp packaging/units/reference.cpp)
  target_link_libraries(unit_${unit} PRIVATE intact::intact)
  target_compile_options(unit_${unit} PRIVATE ${flags_of_${unit}} -O1) # -O2 leaves fewer functions to merge
  target_compile_definitions(unit_${unit} PRIVATE INTACT_TEST_UNIT=run_${unit})
  list(APPEND objects $<TARGET_OBJECTS:unit_${unit}>)
endforeach()
set(runtime_dispatch ${PROJECT_SOURCE_DIR}/examples/runtime_dispatch)
add_executable(units_program packaging/units/main.cpp packaging/units/crossing_types.cpp ${runtime_dispatch}/main.cpp
                             ${objects})
set_source_files_properties(${runtime_dispatch}/main.cpp PROPERTIES COMPILE_DEFINITIONS main=runtime_dispatch_main)
target_link_libraries(units_program PRIVATE intact::dispatch Threads::Threads)
target_compile_options(units_program PRIVATE -ffp-contract=off)

set(reversed ${CMAKE_CURRENT_BINARY_DIR}/units_program-reversed)
separate_arguments(link_options UNIX_COMMAND "${CMAKE_CXX_FLAGS} ${CMAKE_EXE_LINKER_FLAGS}")
add_test(
  NAME units/link-reversed
  COMMAND ${CMAKE_COMMAND} -D "LINK=${CMAKE_CXX_COMPILER};${link_options};-pthread" -D
          "OBJECTS=$<TARGET_OBJECTS:units_program>;${objects};$<TARGET_OBJECTS:intact_dispatch>" -D PROGRAM=${reversed} -P
          ${CMAKE_CURRENT_SOURCE_DIR}/packaging/dispatch_link.cmake)
set_tests_properties(units/link-reversed PROPERTIES FIXTURES_SETUP units_reversed)
add_test(NAME units/program COMMAND units_program)
add_test(NAME units/program-reversed COMMAND ${reversed})
set_tests_properties(units/program units/program-reversed PROPERTIES PASS_REGULAR_EXPRESSION
                                                                      "equal\n.*${results}$")
set_tests_properties(units/program-reversed PROPERTIES FIXTURES_REQUIRED units_reversed)

if(NOT Python3_FOUND)
  return()
endif()

intact_add_machine_code_check("units/symbols" symbols "${objects}")
intact_add_machine_code_check("units/instructions" instructions $<TARGET_FILE:units_program>)
intact_add_machine_code_check("units/instructions, reversed" instructions ${reversed})
set_tests_properties("units/instructions, reversed" PROPERTIES FIXTURES_REQUIRED units_reversed)

# Without optimization functions exist that else become part of their callers. Members of types that cross units do not,
# and on no instruction set does a public operation or model need the specification.
set(objects "")
intact_compiled_dispatch_isas(isas)
foreach(isa IN LISTS isas)
  intact_isa_flags(${isa} flags)
  add_library(unoptimized_${isa} OBJECT packaging/units/unit.cpp)
  target_link_libraries(unoptimized_${isa} PRIVATE intact::intact)
  target_compile_options(unoptimized_${isa} PRIVATE ${flags} -O0 -g0)
  target_compile_definitions(unoptimized_${isa} PRIVATE INTACT_TEST_UNIT=run_baseline)
  list(APPEND objects $<TARGET_OBJECTS:unoptimized_${isa}>)
endforeach()
intact_add_machine_code_check("units/members" members "${objects}")
intact_add_machine_code_check("units/operations without the specification" operations "${objects}")
intact_add_machine_code_check("units/operations without the specification, on a violation" operations
                              "$<FILTER:$<TARGET_OBJECTS:unit_baseline>,INCLUDE,reference\\.cpp>")
set_tests_properties("units/operations without the specification, on a violation"
                     PROPERTIES PASS_REGULAR_EXPRESSION "reference::vit.* is of the specification")
