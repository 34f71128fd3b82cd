# Tests of programs that carry the kernels of several instruction sets: whichever is chosen, in whichever order the
# units are linked, the result is the same, and no instruction set's code has got into another's.

set(target intact-runtime-dispatch)
set(reversed ${CMAKE_CURRENT_BINARY_DIR}/${target}-reversed)
separate_arguments(link_options UNIX_COMMAND "${CMAKE_CXX_FLAGS} ${CMAKE_EXE_LINKER_FLAGS}")
add_test(
  NAME dispatch/link-reversed
  COMMAND ${CMAKE_COMMAND} -D "LINK=${CMAKE_CXX_COMPILER};${link_options}" -D "OBJECTS=$<TARGET_OBJECTS:${target}>" -D
          PROGRAM=${reversed} -P ${CMAKE_CURRENT_SOURCE_DIR}/packaging/dispatch_link.cmake)
set_tests_properties(dispatch/link-reversed PROPERTIES FIXTURES_SETUP reversed)

set(fingerprint 589ffc825eebf3c9)

# Runs a program with INTACT_ISA, which may be empty.
function(intact_add_dispatch_run name program isa expected)
  add_test(NAME "${name}" COMMAND ${program})
  set_tests_properties("${name}" PROPERTIES ENVIRONMENT "INTACT_ISA=${isa}" PASS_REGULAR_EXPRESSION "${expected}"
                                            SKIP_REGULAR_EXPRESSION "which this processor does not offer")
endfunction()

intact_dispatch_isas(isas)
foreach(isa IN LISTS isas)
  intact_add_dispatch_run(dispatch/${isa} ${target} ${isa} "^${isa}\nfingerprint ${fingerprint}\n$")
  intact_add_dispatch_run(dispatch/${isa}-reversed ${reversed} ${isa} "^${isa}\nfingerprint ${fingerprint}\n$")
  set_tests_properties(dispatch/${isa}-reversed PROPERTIES FIXTURES_REQUIRED reversed)
endforeach()
list(JOIN isas "|" any)
list(JOIN isas ", " list)
intact_add_dispatch_run("dispatch/the best" ${target} "" "^(${any})\nfingerprint ${fingerprint}\n$")
intact_add_dispatch_run("dispatch/an unknown one" ${target} avx "^INTACT_ISA is \"avx\"; it must be one of ${list}\n$")

# Sanitizers bring code of their own, and flags for one processor make every unit need it.
if(CMAKE_CXX_FLAGS MATCHES "-fsanitize|-march|-mcpu|-msse|-mavx")
  return()
endif()

# On processors that have less, if there is an emulator: one instruction too many ends the program.
find_program(INTACT_QEMU_X86_64 qemu-x86_64 DOC "Emulator of older processors, for tests")
if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64)$" AND INTACT_QEMU_X86_64)
  foreach(processor_and_isa IN ITEMS qemu64:scalar Nehalem:sse4_1 Haswell:avx2)
    string(REPLACE ":" ";" processor_and_isa ${processor_and_isa})
    list(POP_FRONT processor_and_isa processor isa)
    set(emulate ${INTACT_QEMU_X86_64} -cpu ${processor})
    set(expected "${isa}\nfingerprint ${fingerprint}\n")
    intact_add_dispatch_run("dispatch/on ${processor}" "${emulate};$<TARGET_FILE:${target}>" "" "${expected}")
    intact_add_dispatch_run("dispatch/on ${processor}, reversed" "${emulate};${reversed}" "" "${expected}")
    set_tests_properties("dispatch/on ${processor}, reversed" PROPERTIES FIXTURES_REQUIRED reversed)
  endforeach()
  add_test(NAME "dispatch/above the processor" COMMAND ${INTACT_QEMU_X86_64} -cpu Nehalem $<TARGET_FILE:${target}>)
  set_tests_properties(
    "dispatch/above the processor"
    PROPERTIES ENVIRONMENT INTACT_ISA=avx2 PASS_REGULAR_EXPRESSION
               "INTACT_ISA is avx2, which this processor does not offer; it has scalar, sse4_1\n")
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

# The example, and all kernels of the library.
add_executable(dispatch_kernels packaging/empty_main.cpp)
target_link_libraries(dispatch_kernels PRIVATE intact::intact)
intact_add_dispatch(dispatch_kernels SOURCES packaging/dispatch_kernels.cpp)
foreach(program IN ITEMS ${target} dispatch_kernels)
  intact_dispatched_objects(${program} objects)
  intact_add_machine_code_check("dispatch/symbols of ${program}" symbols "${objects}")
  intact_add_machine_code_check("dispatch/tiles of ${program}" tiles "${objects}")
  intact_add_machine_code_check("dispatch/integers of ${program}" integers "${objects}")
  intact_add_machine_code_check("dispatch/instructions of ${program}" instructions $<TARGET_FILE:${program}>)
endforeach()
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
set(others ${isas})
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
