# Tests outside test cases: the rules for headers, the flags that they compile with, and the packaging.

# The rules for headers, and that each violation is found.
add_test(NAME "check/headers" COMMAND ${CMAKE_COMMAND} -D INCLUDE_DIR=${PROJECT_SOURCE_DIR}/include -P
                                       ${CMAKE_CURRENT_SOURCE_DIR}/packaging/header_check.cmake)
add_test(NAME "check/headers, on violations" COMMAND ${CMAKE_COMMAND} -D WORK_DIR=${CMAKE_CURRENT_BINARY_DIR}/header_violations -P
                                                      ${CMAKE_CURRENT_SOURCE_DIR}/packaging/header_check_test.cmake)

# The lists of instruction sets are the same, and another one takes changes to three files.
add_executable(isa_list packaging/isa_list.cpp)
target_link_libraries(isa_list PRIVATE intact::intact)
add_test(NAME "check/instruction sets" COMMAND ${CMAKE_COMMAND} -D PROGRAM=$<TARGET_FILE:isa_list> -D
                                                SOURCE_DIR=${PROJECT_SOURCE_DIR} -P
                                                ${CMAKE_CURRENT_SOURCE_DIR}/packaging/isa_list_check.cmake)
if(NOT CMAKE_CROSSCOMPILING)
  set(parent scalar)
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64)$")
    set(parent sse2)
  elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "^(aarch64|arm64)$")
    set(parent neon)
  endif()
  set(compile ${CMAKE_CXX_COMPILER} -std=c++20 -O0)
  if(NOT INTACT_XSIMD_INCLUDE_DIR STREQUAL "/usr/include")
    list(APPEND compile -isystem ${INTACT_XSIMD_INCLUDE_DIR})
  endif()
  add_test(NAME "check/a dummy instruction set"
           COMMAND ${CMAKE_COMMAND} -D SOURCE_DIR=${PROJECT_SOURCE_DIR} -D WORK_DIR=${CMAKE_CURRENT_BINARY_DIR}/dummy_isa -D
                   PARENT=${parent} -D "COMPILE=${compile}" -P ${CMAKE_CURRENT_SOURCE_DIR}/packaging/dummy_isa_check.cmake)
endif()

# Operations and models need no floating-point register. Clang's -mgeneral-regs-only rejects the standard library's headers on x86.
if(CMAKE_CXX_COMPILER_ID MATCHES "Clang" AND CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|i.86)$")
  set(integer_only_options -mno-sse -mno-mmx)
else()
  set(integer_only_options -mgeneral-regs-only)
endif()
separate_arguments(compile_options UNIX_COMMAND "${CMAKE_CXX_FLAGS}")
list(FILTER compile_options EXCLUDE REGEX sanitize)
set(compile_integer_only ${CMAKE_CXX_COMPILER} ${compile_options} -std=c++20 -O2 ${integer_only_options}
                         -I${PROJECT_SOURCE_DIR}/include)

function(intact_add_integer_only_check name source)
  add_test(
    NAME "${name}"
    COMMAND
      ${CMAKE_COMMAND} -D "COMPILE=${compile_integer_only}" -D OBJDUMP=${CMAKE_OBJDUMP} -D
      SOURCE=${CMAKE_CURRENT_SOURCE_DIR}/packaging/${source} -D OBJECT=${CMAKE_CURRENT_BINARY_DIR}/${source}.o -P
      ${CMAKE_CURRENT_SOURCE_DIR}/packaging/integer_only_check.cmake)
endfunction()

intact_add_integer_only_check("check/integers only" model_check.cpp)
intact_add_integer_only_check("check/integers only, on floating point" floating_point_check.cpp)
set_tests_properties(
  "check/integers only, on floating point"
  PROPERTIES ENVIRONMENT LC_ALL=C PASS_REGULAR_EXPRESSION
             "SSE register return|use of floating-point types|floating-point (instruction|function)")

# Header layers 0-6 and the builders of a block need neither exceptions nor RTTI. A broken contract then goes to a handler, and the program aborts.
add_executable(abort_check packaging/abort_check.cpp packaging/build_check.cpp packaging/model_check.cpp)
target_link_libraries(abort_check PRIVATE intact::intact)
target_compile_options(abort_check PRIVATE -fno-exceptions -fno-rtti)

function(intact_add_abort_check name expected)
  add_test(NAME "${name}" COMMAND ${CMAKE_COMMAND} -D "COMMAND=$<TARGET_FILE:abort_check>;${ARGN}" -D
                                  "EXPECTED=${expected}" -P ${CMAKE_CURRENT_SOURCE_DIR}/packaging/abort_check.cmake)
endfunction()

set(message "intact::activation: size of table is 3; it must be equal to 256")
intact_add_abort_check("check/no exceptions, no handler" "${message}")
intact_add_abort_check("check/no exceptions, a handler" "handler: ${message}" with-handler)

# The same without stdio.
add_executable(abort_check_without_stdio packaging/abort_check.cpp)
target_link_libraries(abort_check_without_stdio PRIVATE intact::intact)
target_compile_options(abort_check_without_stdio PRIVATE -fno-exceptions -fno-rtti)
target_compile_definitions(abort_check_without_stdio PRIVATE INTACT_NO_STDIO)
add_test(NAME "check/no exceptions, no stdio, a handler"
         COMMAND ${CMAKE_COMMAND} -D "COMMAND=$<TARGET_FILE:abort_check_without_stdio>;with-handler" -D
                 "EXPECTED=handler: ${message}" -P ${CMAKE_CURRENT_SOURCE_DIR}/packaging/abort_check.cmake)

# Translation units with and without exceptions in one program, in both orders of linking.
set_source_files_properties(packaging/linkage_check_without_exceptions.cpp PROPERTIES COMPILE_OPTIONS "-fno-exceptions;-fno-rtti")
add_executable(linkage_check packaging/linkage_check.cpp packaging/linkage_check_without_exceptions.cpp)
add_executable(linkage_check_reversed packaging/linkage_check_without_exceptions.cpp packaging/linkage_check.cpp)
foreach(program IN ITEMS linkage_check linkage_check_reversed)
  target_link_libraries(${program} PRIVATE intact::intact)
  add_test(NAME "check/${program}" COMMAND ${program})
endforeach()

# With -ffast-math NaN passes every check of floating-point values. The integer headers compile with it.
separate_arguments(own_options UNIX_COMMAND "${CMAKE_CXX_FLAGS}")
set(compile_header ${CMAKE_CXX_COMPILER} ${own_options} -std=c++20 -fsyntax-only -I${PROJECT_SOURCE_DIR}/include)
foreach(option IN ITEMS -ffast-math -ffinite-math-only)
  # One of each folder whose headers compute in floating point; those that do include the header that refuses it.
  foreach(header IN ITEMS build/scale interop/float_output io/real_values quantize/measures)
    add_test(NAME "check/${header} with ${option}" COMMAND ${compile_header} ${option} -include intact/${header}.hpp -x
                                                           c++ /dev/null)
    set_tests_properties("check/${header} with ${option}" PROPERTIES PASS_REGULAR_EXPRESSION
                                                                   "error:? .this header needs IEEE arithmetic")
  endforeach()
  add_test(NAME "check/integers with ${option}" COMMAND ${compile_header} ${option} -include intact/intact.hpp -x c++
                                                        /dev/null)
endforeach()

# intact_add_dispatch takes such options back.
intact_ieee_flags(ieee_flags)
foreach(option IN ITEMS -ffast-math -ffinite-math-only)
  add_test(NAME "check/units of interop with ${option}"
           COMMAND ${compile_header} ${option} ${ieee_flags} -DINTACT_DISPATCH_ISA=scalar
                   ${PROJECT_SOURCE_DIR}/include/intact/interop/dispatch/interop_unit.cpp)
endforeach()

# All headers with 32 bits, also those that no hash program has.
find_program(INTACT_I686_COMPILER i686-linux-gnu-g++ DOC "C++ cross compiler for 32-bit x86; a test of the headers needs it")
if(INTACT_I686_COMPILER AND TARGET intact_quantize)
  set(folder ${CMAKE_CURRENT_BINARY_DIR}/headers_32_bits)
  file(GLOB_RECURSE headers RELATIVE ${PROJECT_SOURCE_DIR}/include CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/include/*.hpp)
  list(FILTER headers EXCLUDE REGEX "executors/(openmp|tbb)") # these are for libraries of the machine
  list(TRANSFORM headers REPLACE ".+" "#include \"\\0\"\n")
  list(JOIN headers "" includes)
  file(CONFIGURE OUTPUT ${folder}/all.cpp CONTENT "${includes}")
  file(MAKE_DIRECTORY ${folder}/include)
  foreach(library IN ITEMS xsimd nlohmann)
    find_path(folder_of_${library} ${library} HINTS ${INTACT_XSIMD_INCLUDE_DIR} NO_CACHE REQUIRED)
    file(CREATE_LINK ${folder_of_${library}}/${library} ${folder}/include/${library} SYMBOLIC)
  endforeach()
  add_test(
    NAME "check/headers with 32 bits"
    COMMAND ${INTACT_I686_COMPILER} -std=c++20 -fsyntax-only -msse2 -mfpmath=sse -I${PROJECT_SOURCE_DIR}/include -isystem
            ${folder}/include "-isystem$<JOIN:$<TARGET_PROPERTY:Eigen3::Eigen,INTERFACE_INCLUDE_DIRECTORIES>,;-isystem>"
            ${folder}/all.cpp
    COMMAND_EXPAND_LISTS)
endif()

# Each folder's headers, the last first: most of those that lack an include fail. The preset headers compiles each one
# alone, which takes minutes.
if(TARGET intact_quantize AND NOT CMAKE_CROSSCOMPILING)
  set(header_options -isystem ${INTACT_XSIMD_INCLUDE_DIR})
  if(INTACT_XSIMD_INCLUDE_DIR STREQUAL "/usr/include")
    set(header_options "")
  endif()
  file(GLOB_RECURSE headers RELATIVE ${PROJECT_SOURCE_DIR}/include CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/include/*.hpp)
  list(FILTER headers EXCLUDE REGEX "executors/(openmp|tbb)")
  list(SORT headers ORDER DESCENDING)
  list(TRANSFORM headers REPLACE "/[^/]*$" "" OUTPUT_VARIABLE folders)
  list(REMOVE_DUPLICATES folders)
  foreach(folder IN LISTS folders)
    set(of_folder ${headers})
    list(FILTER of_folder INCLUDE REGEX "^${folder}/[^/]*$")
    list(TRANSFORM of_folder REPLACE ".+" "#include \"\\0\"\n")
    list(JOIN of_folder "" includes)
    set(unit ${CMAKE_CURRENT_BINARY_DIR}/headers_last_first/${folder}.cpp)
    file(CONFIGURE OUTPUT ${unit} CONTENT "${includes}")
    add_test(
      NAME "check/headers, the last first/${folder}"
      COMMAND ${compile_header} ${header_options}
              "-isystem$<JOIN:$<TARGET_PROPERTY:Eigen3::Eigen,INTERFACE_INCLUDE_DIRECTORIES>,;-isystem>" ${unit}
      COMMAND_EXPAND_LISTS)
  endforeach()
endif()

# Older languages and compilers.
add_test(NAME "check/unsupported compilers"
         COMMAND ${CMAKE_COMMAND} -D INCLUDE_DIR=${PROJECT_SOURCE_DIR}/include -D "COMPILE=${CMAKE_CXX_COMPILER}" -P
                 ${CMAKE_CURRENT_SOURCE_DIR}/packaging/unsupported_check.cmake)

# intact::dispatch refuses a user's stage.
add_test(NAME "check/dispatch of a user's stage" COMMAND ${compile_header}
                                                        ${CMAKE_CURRENT_SOURCE_DIR}/packaging/dispatch_user_stage.cpp)
set_tests_properties(
  "check/dispatch of a user's stage"
  PROPERTIES PASS_REGULAR_EXPRESSION "a stage of your own runs in the header-only call" FAIL_REGULAR_EXPRESSION
             "no matching|invalid static_cast")

# Output stages without a vector form are reported at compile time when a program asks for it.
add_test(NAME "check/vector stages" COMMAND ${compile_header} -DINTACT_REQUIRE_VECTOR_STAGES
                                            ${CMAKE_CURRENT_SOURCE_DIR}/packaging/vector_stages.cpp)
add_test(NAME "check/vector stages, on a scalar stage"
         COMMAND ${compile_header} -DINTACT_REQUIRE_VECTOR_STAGES -DINTACT_TEST_SCALAR_STAGE
                 ${CMAKE_CURRENT_SOURCE_DIR}/packaging/vector_stages.cpp)
set_tests_properties("check/vector stages, on a scalar stage" PROPERTIES PASS_REGULAR_EXPRESSION
                                                                         "this output stage has no vector form")

# The words of comments and pages.
find_package(Python3 COMPONENTS Interpreter)
if(Python3_FOUND)
  add_test(NAME "check/language"
           COMMAND Python3::Interpreter ${CMAKE_CURRENT_SOURCE_DIR}/packaging/language_check.py ${PROJECT_SOURCE_DIR}/include
                   ${PROJECT_SOURCE_DIR}/tests ${PROJECT_SOURCE_DIR}/examples ${PROJECT_SOURCE_DIR}/bench
                   ${PROJECT_SOURCE_DIR}/docs ${PROJECT_SOURCE_DIR}/cmake ${PROJECT_SOURCE_DIR}/README.md
                   ${PROJECT_SOURCE_DIR}/CMakeLists.txt ${PROJECT_SOURCE_DIR}/.ci/run)
endif()

# The pages of the documentation, and its pictures. Versions of Doxygen differ in their warnings; ours is 1.9.4.
if(Python3_FOUND)
  find_package(Doxygen QUIET)
  if(DOXYGEN_FOUND AND DOXYGEN_VERSION MATCHES "^1\\.9\\.4")
    add_test(NAME "check/documentation" COMMAND Python3::Interpreter ${PROJECT_SOURCE_DIR}/docs/doxygen/build.py
                                                ${CMAKE_CURRENT_BINARY_DIR}/documentation)
  else()
    add_test(NAME "check/documentation" COMMAND ${CMAKE_COMMAND} -E echo "[intact: skipped] there is no Doxygen 1.9.4")
    set_tests_properties("check/documentation" PROPERTIES ${skip_line})
  endif()
  add_test(NAME "check/snippets" COMMAND Python3::Interpreter ${CMAKE_CURRENT_SOURCE_DIR}/packaging/snippet_check.py
                                         ${PROJECT_SOURCE_DIR})
  add_test(NAME "check/pictures" COMMAND Python3::Interpreter ${PROJECT_SOURCE_DIR}/docs/pictures.py --check)
endif()

# POSIX declares functions such as index() in the global namespace.
add_test(NAME "check/using namespace" COMMAND ${CMAKE_CXX_COMPILER} ${own_options} -std=c++20 -fsyntax-only
                                              -I${PROJECT_SOURCE_DIR}/include
                                              ${CMAKE_CURRENT_SOURCE_DIR}/packaging/using_namespace.cpp)

# The namespace of a unit tells its compiler flags; ctags finds what is in it.
find_package(Python3 COMPONENTS Interpreter)
if(Python3_FOUND AND CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64)$" AND NOT CMAKE_CXX_FLAGS MATCHES "-march|-m[as][vs]")
  add_test(NAME "check/unit names" COMMAND Python3::Interpreter ${CMAKE_CURRENT_SOURCE_DIR}/packaging/unit_names.py
                                           ${PROJECT_SOURCE_DIR}/include ${CMAKE_CXX_COMPILER} ${own_options})
endif()
if(Python3_FOUND)
  set(namespace_check Python3::Interpreter ${CMAKE_CURRENT_SOURCE_DIR}/packaging/namespace_check.py)
  add_test(NAME "check/ctags" COMMAND ${namespace_check} ctags ${PROJECT_SOURCE_DIR}/include)
  add_test(NAME "check/numbers of parameters" COMMAND ${namespace_check} parameters ${PROJECT_SOURCE_DIR}/include)
  set_tests_properties("check/ctags" "check/numbers of parameters" PROPERTIES ${skip_line})
  add_test(NAME "check/types that cross units" COMMAND ${namespace_check} crossing ${PROJECT_SOURCE_DIR}/include
                                                       ${CMAKE_CURRENT_SOURCE_DIR}/packaging/units/crossing_types.cpp)
endif()

# A namespace detail is for its own folder of the headers, and each violation is found.
if(Python3_FOUND AND NOT CMAKE_CROSSCOMPILING)
  set(package_folders ${INTACT_XSIMD_INCLUDE_DIR} $<TARGET_PROPERTY:Eigen3::Eigen,INTERFACE_INCLUDE_DIRECTORIES>
                      $<TARGET_PROPERTY:nlohmann_json::nlohmann_json,INTERFACE_INCLUDE_DIRECTORIES>)
  add_test(NAME "check/namespaces detail"
           COMMAND ${namespace_check} detail ${PROJECT_SOURCE_DIR}/include ${PROJECT_SOURCE_DIR}/examples
                   ${PROJECT_SOURCE_DIR}/bench -- ${CMAKE_CXX_COMPILER} ${own_options} -std=c++20
                   "-I$<JOIN:${package_folders},;-I>"
           COMMAND_EXPAND_LISTS)
  set(violations ${CMAKE_CURRENT_BINARY_DIR}/detail_violations)
  file(WRITE ${violations}/include/intact/build/own.hpp "#pragma once
namespace intact::detail { constexpr int own = 1; }
namespace intact { constexpr int built = detail::own; }
")
  set(include_own "#pragma once\n#include \"intact/build/own.hpp\"\n")
  file(WRITE ${violations}/include/intact/quantize/qualified.hpp
       "${include_own}namespace intact { constexpr int qualified = detail::own; }\n")
  file(WRITE ${violations}/include/intact/quantize/unqualified.hpp
       "${include_own}namespace intact::detail { constexpr int unqualified = own; }\n")
  file(WRITE ${violations}/programs/program.cpp "int main() { return intact::detail::own; }\n")
  add_test(NAME "check/namespaces detail, on violations"
           COMMAND ${namespace_check} detail ${violations}/include ${violations}/programs -- ${CMAKE_CXX_COMPILER}
                   -std=c++20)
  set_tests_properties(
    "check/namespaces detail, on violations"
    PROPERTIES PASS_REGULAR_EXPRESSION
               "^intact/quantize/qualified.hpp[^\n]*\nintact/quantize/unqualified.hpp[^\n]*\n[^\n]*/program.cpp:1: [^\n]*\nthere are only")
endif()

# Microcontrollers, on an emulator.
if(Python3_FOUND AND NOT CMAKE_CROSSCOMPILING)
  set(host_compiler ${CMAKE_CXX_COMPILER})
  if(NOT INTACT_XSIMD_INCLUDE_DIR STREQUAL "/usr/include")
    string(APPEND host_compiler " -isystem ${INTACT_XSIMD_INCLUDE_DIR}")
  endif()
  add_test(NAME "check/microcontrollers"
           COMMAND Python3::Interpreter ${CMAKE_CURRENT_SOURCE_DIR}/packaging/microcontroller.py ${PROJECT_SOURCE_DIR}
                   ${CMAKE_CURRENT_BINARY_DIR}/microcontroller ${host_compiler})
  set_tests_properties("check/microcontrollers" PROPERTIES ${skip_line})
endif()

# The recipes of package managers, without these.
if(Python3_FOUND)
  add_test(NAME "check/recipes" COMMAND Python3::Interpreter ${CMAKE_CURRENT_SOURCE_DIR}/packaging/recipe_check.py
                                        ${PROJECT_SOURCE_DIR} ${PROJECT_VERSION})
endif()

# The documented installation where only xsimd is installed.
add_test(
  NAME "consumer/install without packages"
  COMMAND
    ${CMAKE_COMMAND} -S ${PROJECT_SOURCE_DIR} -B ${CMAKE_CURRENT_BINARY_DIR}/without_packages -G ${CMAKE_GENERATOR}
    -DCMAKE_CXX_COMPILER=${CMAKE_CXX_COMPILER} -DINTACT_XSIMD_INCLUDE_DIR=${INTACT_XSIMD_INCLUDE_DIR}
    -DINTACT_BUILD_TESTS=OFF -DINTACT_BUILD_EXAMPLES=OFF -DCMAKE_DISABLE_FIND_PACKAGE_Eigen3=ON
    -DCMAKE_DISABLE_FIND_PACKAGE_nlohmann_json=ON)
set_tests_properties("consumer/install without packages" PROPERTIES PASS_REGULAR_EXPRESSION
  "intact::io is left out\n-- intact::quantize is left out\n.*Build files have been written")

# The installed package and the source, each in a project of a user, for each target.
set(prefix ${CMAKE_CURRENT_BINARY_DIR}/installed)
add_test(NAME "consumer/clean" COMMAND ${CMAKE_COMMAND} -E rm -rf ${prefix})
add_test(NAME "consumer/install" COMMAND ${CMAKE_COMMAND} --install ${PROJECT_BINARY_DIR} --prefix ${prefix})
set_tests_properties("consumer/clean" PROPERTIES FIXTURES_SETUP clean)
set_tests_properties("consumer/install" PROPERTIES FIXTURES_REQUIRED clean FIXTURES_SETUP installed)

# Other tests have optimized code.
set(not_optimized -DCMAKE_BUILD_TYPE=Debug -DCMAKE_CXX_FLAGS_DEBUG=-O0)
function(intact_add_consumer name)
  string(MAKE_C_IDENTIFIER "${name}" folder)
  add_test(
    NAME "consumer/${name}"
    COMMAND
      ${CMAKE_CTEST_COMMAND} --build-and-test ${CMAKE_CURRENT_SOURCE_DIR}/packaging/consumer ${CMAKE_CURRENT_BINARY_DIR}/${folder}
      --build-generator ${CMAKE_GENERATOR} --build-makeprogram ${CMAKE_MAKE_PROGRAM} --build-options
      ${not_optimized} -DCMAKE_CXX_COMPILER=${CMAKE_CXX_COMPILER} -DCMAKE_CXX_FLAGS=${CMAKE_CXX_FLAGS}
      -DCMAKE_PREFIX_PATH=${CMAKE_PREFIX_PATH} ${ARGN} --test-command consumer)
endfunction()

set(no_packages -DCMAKE_DISABLE_FIND_PACKAGE_Eigen3=ON -DCMAKE_DISABLE_FIND_PACKAGE_nlohmann_json=ON)
intact_add_consumer("package" -Dintact_ROOT=${prefix} ${no_packages})
intact_add_consumer("package, io" -Dintact_ROOT=${prefix} -DCONSUMER_TARGET=io -DCMAKE_DISABLE_FIND_PACKAGE_Eigen3=ON)
intact_add_consumer("package, quantize" -Dintact_ROOT=${prefix} -DCONSUMER_TARGET=quantize)
intact_add_consumer("source" -DCONSUMER_INTACT_SOURCE=${PROJECT_SOURCE_DIR}  ${no_packages})
intact_add_consumer("source, io" -DCONSUMER_INTACT_SOURCE=${PROJECT_SOURCE_DIR} -DINTACT_IO=ON
                    -DCONSUMER_TARGET=io -DCMAKE_DISABLE_FIND_PACKAGE_Eigen3=ON)
intact_add_consumer("source, quantize" -DCONSUMER_INTACT_SOURCE=${PROJECT_SOURCE_DIR} -DINTACT_QUANTIZE=ON
                    -DCONSUMER_TARGET=quantize)
set_tests_properties("consumer/package" "consumer/package, io" "consumer/package, quantize" PROPERTIES FIXTURES_REQUIRED installed)

# Folders of one project that find the package, each for itself.
foreach(after_top IN ITEMS OFF ON)
  add_test(
    NAME "consumer/folders, after the project ${after_top}"
    COMMAND
      ${CMAKE_COMMAND} --fresh -S ${CMAKE_CURRENT_SOURCE_DIR}/packaging/folders -B
      ${CMAKE_CURRENT_BINARY_DIR}/folders_${after_top} -G ${CMAKE_GENERATOR} -DCMAKE_CXX_COMPILER=${CMAKE_CXX_COMPILER}
      -DCMAKE_CXX_FLAGS=${CMAKE_CXX_FLAGS} -DCMAKE_PREFIX_PATH=${CMAKE_PREFIX_PATH} -Dintact_ROOT=${prefix}
      -DFOLDERS_AFTER_TOP=${after_top})
  set_tests_properties("consumer/folders, after the project ${after_top}" PROPERTIES FIXTURES_REQUIRED installed)
endforeach()

# The order in which xsimd is looked for.
add_test(NAME "check/find xsimd" COMMAND ${CMAKE_COMMAND} -D SOURCE_DIR=${PROJECT_SOURCE_DIR} -D
                                         WORK_DIR=${CMAKE_CURRENT_BINARY_DIR}/find_xsimd -P
                                         ${CMAKE_CURRENT_SOURCE_DIR}/packaging/find_xsimd_check.cmake)

# A program without CMake, with the flags that pkg-config tells.
find_program(INTACT_PKG_CONFIG NAMES pkg-config pkgconf)
if(INTACT_PKG_CONFIG)
  set(compile_with_pkg_config "$0 -std=c++20 $(PKG_CONFIG_PATH=$1 $2 --cflags intact) $3 -o $4 && $4")
  add_test(NAME "consumer/pkg-config"
           COMMAND sh -c "${compile_with_pkg_config}" ${CMAKE_CXX_COMPILER} ${prefix}/share/pkgconfig ${INTACT_PKG_CONFIG}
                   ${PROJECT_SOURCE_DIR}/examples/readme.cpp ${CMAKE_CURRENT_BINARY_DIR}/with_pkg_config)
  set_tests_properties("consumer/pkg-config" PROPERTIES FIXTURES_REQUIRED installed PASS_REGULAR_EXPRESSION
                                                        "^52 73\n124 0\n$")
endif()

# The installed C library, in projects in C.
if(TARGET intact_c AND CMAKE_C_COMPILER_LOADED)
  foreach(library IN ITEMS c c_static)
    add_test(
      NAME "consumer/${library}"
      COMMAND
        ${CMAKE_CTEST_COMMAND} --build-and-test ${CMAKE_CURRENT_SOURCE_DIR}/packaging/consumer_c
        ${CMAKE_CURRENT_BINARY_DIR}/consumer_${library} --build-generator ${CMAKE_GENERATOR} --build-makeprogram
        ${CMAKE_MAKE_PROGRAM} --build-options -DCMAKE_C_COMPILER=${CMAKE_C_COMPILER}
        -DCMAKE_CXX_COMPILER=${CMAKE_CXX_COMPILER} -Dintact_ROOT=${prefix} -DCONSUMER_LIBRARY=${library}
        -DCONSUMER_PROGRAM=${PROJECT_SOURCE_DIR}/examples/c/linear_layer.c --test-command consumer_c)
    set_tests_properties("consumer/${library}" PROPERTIES FIXTURES_REQUIRED installed PASS_REGULAR_EXPRESSION
                                                          "0 of 151296 codes differ")
  endforeach()
  if(INTACT_PKG_CONFIG)
    include(GNUInstallDirs)
    add_test(
      NAME "consumer/pkg-config, c"
      COMMAND
        ${CMAKE_COMMAND} -D PKG_CONFIG=${INTACT_PKG_CONFIG} -D PREFIX=${prefix} -D LIBRARY_DIR=${CMAKE_INSTALL_LIBDIR} -D
        COMPILER=${CMAKE_C_COMPILER} -D PROGRAM=${PROJECT_SOURCE_DIR}/examples/c/linear_layer.c -D
        OUTPUT=${CMAKE_CURRENT_BINARY_DIR}/pkg_config_c -P ${CMAKE_CURRENT_SOURCE_DIR}/packaging/pkg_config_c_check.cmake)
    set_tests_properties("consumer/pkg-config, c" PROPERTIES FIXTURES_REQUIRED installed PASS_REGULAR_EXPRESSION
                                                             "0 of 151296 codes differ")
  endif()
endif()

# An engine in a fresh folder, without other packages: a whole block, dispatched and with threads. It leaves instruction sets out.
set(engine ${CMAKE_CURRENT_BINARY_DIR}/engine)
configure_file(packaging/engine/CMakeLists.txt ${engine}/source/CMakeLists.txt COPYONLY)
configure_file(${PROJECT_SOURCE_DIR}/examples/runtime_dispatch/main.cpp ${engine}/source/main.cpp COPYONLY)
set(engine_files CMakeLists.txt main.cpp)
set(most_lines 8 80)
foreach(file most IN ZIP_LISTS engine_files most_lines)
  file(STRINGS ${engine}/source/${file} lines)
  list(LENGTH lines lines)
  if(lines GREATER most)
    message(FATAL_ERROR "${file} of the engine has ${lines} lines; it must have at most ${most}")
  endif()
endforeach()
# Plain C++ alone, for the time.
intact_dispatch_isas(left_out)
list(REMOVE_ITEM left_out scalar)
add_test(
  NAME "consumer/engine"
  COMMAND
    ${CMAKE_CTEST_COMMAND} --build-and-test ${engine}/source ${engine}/build --build-generator ${CMAKE_GENERATOR}
    --build-makeprogram ${CMAKE_MAKE_PROGRAM} --build-options ${not_optimized}
    -DCMAKE_CXX_COMPILER=${CMAKE_CXX_COMPILER} -DCMAKE_CXX_FLAGS=${CMAKE_CXX_FLAGS}
    -DCMAKE_PREFIX_PATH=${CMAKE_PREFIX_PATH} -Dintact_ROOT=${prefix} ${no_packages}
    "-DINTACT_DISPATCH_WITHOUT=${left_out}" --test-command engine)
set_tests_properties("consumer/engine" PROPERTIES FIXTURES_REQUIRED installed PASS_REGULAR_EXPRESSION
                                                  "\nthe codes of the specification\n")

get_property(checks DIRECTORY PROPERTY TESTS)
set_tests_properties(${checks} PROPERTIES LABELS check)
