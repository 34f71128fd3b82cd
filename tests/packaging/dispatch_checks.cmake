# Tests of programs that carry the kernels of several instruction sets: whichever is chosen, in whichever order the
# units are linked, the result is the same, and no instruction set's code has got into another's.

set(target intact-runtime-dispatch)
set(reversed ${CMAKE_CURRENT_BINARY_DIR}/${target}-reversed)
separate_arguments(link_options UNIX_COMMAND "${CMAKE_CXX_FLAGS} ${CMAKE_EXE_LINKER_FLAGS}")
add_test(
  NAME dispatch/link-reversed
  COMMAND ${CMAKE_COMMAND} -D "LINK=${CMAKE_CXX_COMPILER};${link_options};-pthread" -D
          "OBJECTS=$<TARGET_OBJECTS:${target}>;$<TARGET_OBJECTS:intact_dispatch>" -D PROGRAM=${reversed} -P ${CMAKE_CURRENT_SOURCE_DIR}/packaging/dispatch_link.cmake)
set_tests_properties(dispatch/link-reversed PROPERTIES FIXTURES_SETUP reversed)

set(fingerprint d329593203d90c0b)
set(results "fingerprint ${fingerprint}\nthe codes of the specification\n")

# Runs a program with INTACT_ISA, which may be empty.
function(intact_add_dispatch_run name program isa expected)
  add_test(NAME "${name}" COMMAND ${program})
  set_tests_properties("${name}" PROPERTIES ENVIRONMENT "INTACT_ISA=${isa}" PASS_REGULAR_EXPRESSION "${expected}"
                                            SKIP_REGULAR_EXPRESSION "which this processor does not offer")
endfunction()

intact_compiled_dispatch_isas(isas)
foreach(isa IN LISTS isas)
  intact_add_dispatch_run(dispatch/${isa} ${target} ${isa} "^${isa}\n${results}$")
  intact_add_dispatch_run(dispatch/${isa}-reversed ${reversed} ${isa} "^${isa}\n${results}$")
  set_tests_properties(dispatch/${isa}-reversed PROPERTIES FIXTURES_REQUIRED reversed)
endforeach()
list(JOIN isas "|" any)
list(JOIN isas ", " list)
intact_add_dispatch_run("dispatch/the best" ${target} "" "^(${any})\n${results}$")
intact_add_dispatch_run("dispatch/an unknown one" ${target} avx "^intact::dispatch: INTACT_ISA is \"avx\"; it must be one of ${list}\n$")

# A shared object that links the units exports none of their functions.
add_library(dispatch_shared SHARED packaging/dispatch_shared.cpp)
set_target_properties(dispatch_shared PROPERTIES CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON)
target_link_libraries(dispatch_shared PRIVATE intact::dispatch)
add_test(NAME "dispatch/exported symbols" COMMAND ${CMAKE_NM} --dynamic --defined-only $<TARGET_FILE:dispatch_shared>)
set_tests_properties("dispatch/exported symbols" PROPERTIES PASS_REGULAR_EXPRESSION " T engine_isa\n"
                                                            FAIL_REGULAR_EXPRESSION "intact")
# Nor does one whose own functions are visible: another shared object would share its choice.
add_library(dispatch_visible SHARED packaging/dispatch_shared.cpp)
target_link_libraries(dispatch_visible PRIVATE intact::dispatch)
add_test(NAME "dispatch/exported symbols, visible" COMMAND ${CMAKE_NM} --dynamic --defined-only
                                                           $<TARGET_FILE:dispatch_visible>)
set_tests_properties("dispatch/exported symbols, visible" PROPERTIES PASS_REGULAR_EXPRESSION " T engine_isa\n"
                                                                     FAIL_REGULAR_EXPRESSION "dispatch")

# The same program for AArch64 on an emulated processor: with all instruction sets of its family, the default of
# select.cpp, or with the last one that is tested.
if(DEFINED compile_neon)
  set(units ${PROJECT_SOURCE_DIR}/include/intact/dispatch)
  set(neon_units "")
  set(tags "")
  set(dispatched_neon_isas scalar ${neon_isas})
  if(INTACT_TEST_NEON MATCHES "neon")
    list(GET neon_isas -1 dispatched_neon_isas)
    set(tags -D INTACT_DISPATCH_TAGS=intact::isa::${dispatched_neon_isas})
  endif()
  foreach(isa IN LISTS dispatched_neon_isas)
    set(unit neon/dispatch_${isa}.o)
    add_custom_command(
      OUTPUT ${unit}
      COMMAND ${compile_neon} ${isa_flags_${isa}} -w -fno-exceptions -D INTACT_DISPATCH_ISA=${isa} -MD -MF ${unit}.d -MT
              ${unit} -c ${units}/unit.cpp -o ${unit}
      DEPENDS ${units}/unit.cpp
      DEPFILE ${unit}.d
      VERBATIM)
    list(APPEND neon_units ${unit})
    add_test(NAME neon/dispatch/${isa} COMMAND ${INTACT_QEMU_AARCH64} -cpu max
                                               ${CMAKE_CURRENT_BINARY_DIR}/neon/runtime_dispatch)
    set_tests_properties(neon/dispatch/${isa} PROPERTIES LABELS neon ENVIRONMENT INTACT_ISA=${isa}
                                                         PASS_REGULAR_EXPRESSION "^${isa}\n${results}$")
  endforeach()
  set(main ${PROJECT_SOURCE_DIR}/examples/runtime_dispatch/main.cpp)
  add_custom_command(
    OUTPUT neon/runtime_dispatch
    COMMAND ${compile_neon} -ffp-contract=off ${tags} -static ${main} ${units}/select.cpp ${neon_units} -pthread -o
            neon/runtime_dispatch
    DEPENDS ${main} ${units}/select.cpp ${neon_units}
    VERBATIM)
  add_custom_target(neon_dispatch ALL DEPENDS neon/runtime_dispatch)

  # The best set of processors without dot products, without products of matrices, and with both.
  foreach(processor_and_isa IN ITEMS cortex-a57:neon neoverse-n1:neon_dotprod max:neon_i8mm)
    string(REPLACE ":" ";" processor_and_isa ${processor_and_isa})
    list(POP_FRONT processor_and_isa processor isa)
    if(isa IN_LIST dispatched_neon_isas)
      set(emulate ${INTACT_QEMU_AARCH64} -cpu ${processor} ${CMAKE_CURRENT_BINARY_DIR}/neon/runtime_dispatch)
      intact_add_dispatch_run("neon/dispatch/on ${processor}" "${emulate}" "" "^${isa}\n${results}$")
      set_tests_properties("neon/dispatch/on ${processor}" PROPERTIES LABELS neon)
    endif()
  endforeach()
endif()

# Sanitizers bring code of their own, and flags for one processor make every unit need it.
if(CMAKE_CXX_FLAGS MATCHES "-fsanitize|-march|-mcpu|-msse|-mavx")
  return()
endif()

# The commands for builds without CMake, which are written for x86-64.
if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64)$" AND INTACT_XSIMD_INCLUDE_DIR STREQUAL "/usr/include")
  add_test(NAME "dispatch/documented commands"
           COMMAND ${CMAKE_COMMAND} -D PAGE=${PROJECT_SOURCE_DIR}/docs/embedding.md -D SOURCE_DIR=${PROJECT_SOURCE_DIR} -D
                   WORK_DIR=${CMAKE_CURRENT_BINARY_DIR}/dispatch_commands -D COMPILER=${CMAKE_CXX_COMPILER} -P
                   ${CMAKE_CURRENT_SOURCE_DIR}/packaging/dispatch_commands.cmake)
  set_tests_properties("dispatch/documented commands" PROPERTIES COST 200 PASS_REGULAR_EXPRESSION
                                                                  "fingerprint ${fingerprint}\n")
endif()

# On processors that have less, if there is an emulator: one instruction too many ends the program.
find_program(INTACT_QEMU_X86_64 qemu-x86_64 DOC "Emulator of older processors, for tests")
if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64)$" AND INTACT_QEMU_X86_64)
  foreach(processor_and_isa IN ITEMS qemu64:sse2 Nehalem:sse4_1 Haswell:avx2)
    string(REPLACE ":" ";" processor_and_isa ${processor_and_isa})
    list(POP_FRONT processor_and_isa processor isa)
    if(NOT isa IN_LIST isas)
      continue()
    endif()
    set(emulate ${INTACT_QEMU_X86_64} -cpu ${processor})
    set(expected "${isa}\n${results}")
    intact_add_dispatch_run("dispatch/on ${processor}" "${emulate};$<TARGET_FILE:${target}>" "" "${expected}")
    intact_add_dispatch_run("dispatch/on ${processor}, reversed" "${emulate};${reversed}" "" "${expected}")
    set_tests_properties("dispatch/on ${processor}, reversed" PROPERTIES FIXTURES_REQUIRED reversed)
  endforeach()
  add_test(NAME "dispatch/above the processor" COMMAND ${INTACT_QEMU_X86_64} -cpu qemu64 $<TARGET_FILE:${target}>)
  set_tests_properties(
    "dispatch/above the processor"
    PROPERTIES ENVIRONMENT INTACT_ISA=avx2 PASS_REGULAR_EXPRESSION
               "INTACT_ISA is avx2, which this processor does not offer; it has scalar, sse2\n")
endif()

# The machine code itself.
if(NOT Python3_FOUND)
  return()
endif()

function(intact_add_machine_code_check name check)
  add_test(
    NAME "${name}"
    COMMAND Python3::Interpreter ${CMAKE_CURRENT_SOURCE_DIR}/packaging/machine_code.py ${check} --nm ${CMAKE_NM} --objdump
            ${CMAKE_OBJDUMP} ${ARGN}
    COMMAND_EXPAND_LISTS)
endfunction()

function(intact_dispatched_objects target result)
  set(${result} "$<FILTER:$<TARGET_OBJECTS:${target}>,INCLUDE,\\.dispatch/>" PARENT_SCOPE)
endfunction()

# The units of intact::dispatch have all kernels of the library.
intact_dispatched_objects(intact_dispatch objects)
intact_add_machine_code_check("dispatch/symbols" symbols "${objects}")
# Those of interop/ compute in floating point. Integers and tiles are one test, which lists the machine code once.
set(integer_objects "$<FILTER:${objects},EXCLUDE,/interop_unit\\.>")
set(interop_objects "$<FILTER:${objects},INCLUDE,/interop_unit\\.>")
intact_add_machine_code_check("dispatch/integers, tiles" integers,tiles "${integer_objects}")
intact_add_machine_code_check("dispatch/tiles of interop" tiles "${interop_objects}")
intact_add_machine_code_check("dispatch/instructions" instructions $<TARGET_FILE:${target}>)
intact_add_machine_code_check("dispatch/instructions, reversed" instructions ${reversed})
set_tests_properties("dispatch/instructions, reversed" PROPERTIES FIXTURES_REQUIRED reversed)

# Each violation of one file, compiled for one instruction set, is found.
if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64)$")
  set(violator avx2_vnni)
  set(misplaced "violate<.*pmaddubsw %xmm0,%xmm1 saturates")
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "^(aarch64|arm64)$")
  set(violator neon_dotprod)
  set(misplaced "violate<.*usdot.* needs i8mm")
else()
  return()
endif()
intact_dispatch_isas(others)
list(REMOVE_ITEM others ${violator})
add_executable(dispatch_violations packaging/empty_main.cpp)
target_link_libraries(dispatch_violations PRIVATE intact::intact)
intact_add_dispatch(dispatch_violations SOURCES packaging/dispatch_violations.cpp WITHOUT ${others})

function(intact_add_violation name check file expected)
  intact_add_machine_code_check("${name}" ${check} ${file})
  set_tests_properties("${name}" PROPERTIES PASS_REGULAR_EXPRESSION "${expected}")
endfunction()

intact_dispatched_objects(dispatch_violations object)
set(program $<TARGET_FILE:dispatch_violations>)
intact_add_violation("dispatch/violation, symbol" symbols ${object} "untagged_negate.* is of no unit")
intact_add_violation("dispatch/violation, floating point" integers ${object} "violate<.* has (v?addss|fadd)")
intact_add_violation("dispatch/violation, tile" tiles ${object} "the loop of dot products has (v?mov|st|ld)")
intact_add_violation("dispatch/violation, instruction" instructions ${program} "${misplaced}")
if(violator STREQUAL "avx2_vnni")
  intact_add_violation("dispatch/violation, no tag" instructions ${program} "untagged_negate.* needs avx2")
endif()
