# The C interface: programs in C99, the symbols of the library, Python, and valgrind where there is one.

function(intact_add_c_program name library)
  add_executable(${name} ${ARGN})
  target_link_libraries(${name} PRIVATE ${library} Threads::Threads m)
  # In place of the options of the folder, some of which are for C++.
  set_target_properties(
    ${name}
    PROPERTIES C_STANDARD 99
               C_STANDARD_REQUIRED ON
               C_EXTENSIONS OFF
               COMPILE_OPTIONS "-Wall;-Wextra;-pedantic;-Werror")
endfunction()

set(c_tests products threads normalization attention block model quantize)
set(arguments_of_model ${CMAKE_CURRENT_SOURCE_DIR}/io/data)
set(arguments_of_quantize ${CMAKE_CURRENT_BINARY_DIR}/c_quantize_test.safetensors)
foreach(test IN LISTS c_tests)
  intact_add_c_program(c_${test}_test intact::c c/${test}_test.c)
  add_test(NAME c/${test} COMMAND c_${test}_test ${arguments_of_${test}})
endforeach()
# The same with the static library.
intact_add_c_program(c_threads_test_static intact::c_static c/threads_test.c)
add_test(NAME c/threads-static COMMAND c_threads_test_static)

# It replaces malloc.
include(CheckSymbolExists)
check_symbol_exists(__GLIBC__ "stdlib.h" INTACT_C_LIBRARY_IS_GLIBC)
if(INTACT_C_LIBRARY_IS_GLIBC)
  intact_add_c_program(c_allocation_test intact::c c/allocation_test.c)
  add_test(NAME c/allocation COMMAND c_allocation_test ${CMAKE_CURRENT_SOURCE_DIR}/io/data/vit_version_2.safetensors)
endif()

if(TARGET intact-linear-layer)
  add_test(NAME c/linear-layer COMMAND intact-linear-layer)
  set_tests_properties(c/linear-layer PROPERTIES PASS_REGULAR_EXPRESSION "^0 of 151296 codes differ")
endif()

# Against the specification in C++. Both round sums in floating point one by one.
intact_add_tests(c_reference_tests "intact::c;intact::intact" c/block_reference_test)
target_compile_options(c_reference_tests PRIVATE -ffp-contract=off)
add_test(NAME c/block-reference COMMAND c_reference_tests)

# The header, the list and the library have the same functions.
add_test(NAME c/symbols COMMAND ${CMAKE_COMMAND} -D NM=${CMAKE_NM} -D LIBRARY=$<TARGET_FILE:intact_c> -D
                                HEADER=${PROJECT_SOURCE_DIR}/include/intact/c/intact.h -D
                                LIST=${CMAKE_CURRENT_SOURCE_DIR}/packaging/c_symbols.txt -P
                                ${CMAKE_CURRENT_SOURCE_DIR}/packaging/c_symbols_check.cmake)

if(Python3_FOUND)
  add_test(NAME c/ctypes COMMAND Python3::Interpreter ${CMAKE_CURRENT_SOURCE_DIR}/c/ctypes_check.py
                                 ${PROJECT_SOURCE_DIR}/examples/c/intact_ctypes.py $<TARGET_FILE:intact_c>)
  set_tests_properties(c/ctypes PROPERTIES ${skip_line} PASS_REGULAR_EXPRESSION "the codes of NumPy's integers")
endif()

find_program(INTACT_VALGRIND valgrind DOC "For tests of the C library")
if(INTACT_VALGRIND)
  foreach(test IN LISTS c_tests)
    add_test(NAME c/valgrind/${test}
             COMMAND ${INTACT_VALGRIND} --quiet --error-exitcode=1 --leak-check=full --errors-for-leak-kinds=all
                     $<TARGET_FILE:c_${test}_test> ${arguments_of_${test}})
    set_tests_properties(c/${test} c/valgrind/${test} PROPERTIES RESOURCE_LOCK c_${test}) # they write the same file
  endforeach()
endif()

get_property(checks DIRECTORY PROPERTY TESTS)
list(FILTER checks INCLUDE REGEX "^c/")
set_tests_properties(${checks} PROPERTIES LABELS check)
