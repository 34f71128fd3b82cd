# Tests of the fast kernels: the sources are compiled once per instruction set, with its flags, and run where the
# processor has it.

set(isa_tests block_kernel_test swin_kernel_test vit_kernel_test gemm_kernel_test activation_product_test
    operation_kernel_test shift_matmul_kernel_test simd_test compat_stage_kernel_test
    interop_kernel_test)
list(TRANSFORM isa_tests PREPEND kernels/ OUTPUT_VARIABLE listed)
set_property(GLOBAL APPEND PROPERTY intact_listed_tests ${listed})

# The longest tests begin first, emulated ones before all, so that no processor waits for them at the end.
set(cost_of_block_kernel_test 90)
set(cost_of_swin_kernel_test 90)
set(cost_of_vit_kernel_test 90)
set(cost_of_gemm_kernel_test 80)
set(cost_of_activation_product_test 75)
set(cost_of_operation_kernel_test 70)
set(cost_of_shift_matmul_kernel_test 60)
set(cost_of_simd_test 50)
set(cost_of_compat_stage_kernel_test 40)
set(cost_of_interop_kernel_test 40)

find_package(Threads REQUIRED)
add_executable(run_if_supported support/run_if_supported.cpp)
target_link_libraries(run_if_supported PRIVATE intact::intact)

# Tests of the primitives that sets differ in which are not tested whole.
set(primitive_tests gemm_kernel_test activation_product_test shift_matmul_kernel_test simd_test
    compat_stage_kernel_test interop_kernel_test)

# One program for each instruction set, compiled as one unit, and a test for each file in it: a program cannot be asked
# for its test cases on another processor.
foreach(isa IN LISTS isas)
  set(names ${isa_tests})
  set(library compiled_kernels_${isa})
  if(NOT isa IN_LIST whole_isas)
    set(names ${primitive_tests})
    set(library intact::intact)
  endif()
  list(TRANSFORM names REPLACE ".+" "kernels/\\0.cpp" OUTPUT_VARIABLE files)
  add_executable(kernel_tests_${isa} ${files})
  set_target_properties(kernel_tests_${isa} PROPERTIES UNITY_BUILD ${INTACT_TEST_UNITY} UNITY_BUILD_BATCH_SIZE 0)
  target_link_libraries(kernel_tests_${isa} PRIVATE ${library} Catch2::Catch2WithMain Threads::Threads)
  target_compile_options(kernel_tests_${isa} PRIVATE ${isa_flags_${isa}} ${kernel_test_options} ${level_of_${isa}})
  target_compile_definitions(kernel_tests_${isa} PRIVATE INTACT_TEST_ISA=${isa})
  foreach(name IN LISTS names)
    add_test(NAME ${name}/${isa} COMMAND run_if_supported ${isa} $<TARGET_FILE:kernel_tests_${isa}> --filenames-as-tags
                                         "[#${name}]${tests_with_these_flags}")
    set_tests_properties(${name}/${isa} PROPERTIES LABELS "isa;${isa}" COST ${cost_of_${name}} ${skip_line})
  endforeach()
endforeach()

# The same for AArch64, by a cross compiler, on an emulated processor. Test programs are linked statically and need no
# files of that processor's. Of this machine's headers, which are not meant for it, only xsimd's and Catch2's are seen.
set(INTACT_TEST_NEON ON CACHE STRING
  "Instruction sets of AArch64 that are tested if there is an emulator and a compiler: ON is all, OFF none")
if(NOT INTACT_TEST_NEON)
  return()
endif()
if(INTACT_TEST_NEON MATCHES "neon")
  set(neon_isas ${INTACT_TEST_NEON})
endif()
find_program(INTACT_AARCH64_COMPILER aarch64-linux-gnu-g++ DOC "C++ cross compiler for AArch64; tests of NEON need it")
find_program(INTACT_QEMU_AARCH64 NAMES qemu-aarch64 qemu-aarch64-static DOC "Emulator that tests of NEON run on")
find_path(catch2_single_header catch2/catch.hpp NO_CACHE)

if(INTACT_AARCH64_COMPILER AND INTACT_QEMU_AARCH64 AND catch2_single_header)
  set(headers ${CMAKE_CURRENT_BINARY_DIR}/neon/include)
  file(MAKE_DIRECTORY ${headers})
  file(CREATE_LINK ${INTACT_XSIMD_INCLUDE_DIR}/xsimd ${headers}/xsimd SYMBOLIC)
  file(CREATE_LINK ${catch2_single_header}/catch2 ${headers}/catch2 SYMBOLIC)
  get_directory_property(warnings COMPILE_OPTIONS)
  # More memory between two of GCC's garbage collections: a sixth less time.
  set(compile_neon ${INTACT_AARCH64_COMPILER} -std=c++20 -O1 --param=ggc-min-expand=400 --param=ggc-min-heapsize=600000
                   ${warnings} -I ${PROJECT_SOURCE_DIR}/include -isystem ${headers})
  set(main neon/catch_main.o)
  add_custom_command(
    OUTPUT ${main}
    COMMAND ${compile_neon} -c ${CMAKE_CURRENT_SOURCE_DIR}/support/catch_main.cpp -o ${main}
    DEPENDS support/catch_main.cpp
    VERBATIM)
  foreach(isa IN LISTS neon_isas)
    set(names ${isa_tests})
    if(NOT isa STREQUAL "neon")
      set(names ${primitive_tests})
    endif()
    list(TRANSFORM names REPLACE ".+" "#include \"kernels/\\0.cpp\"\n" OUTPUT_VARIABLE includes)
    list(JOIN includes "" includes)
    set(unit ${CMAKE_CURRENT_BINARY_DIR}/neon/kernel_tests_${isa}.cpp)
    file(CONFIGURE OUTPUT ${unit} CONTENT "${includes}")
    set(program neon/kernel_tests_${isa})
    add_custom_command(
      OUTPUT ${program}
      COMMAND ${compile_neon} ${isa_flags_${isa}} -D INTACT_TEST_ISA=${isa} -MD -MF ${program}.d -MT ${program} -static
              -I ${CMAKE_CURRENT_SOURCE_DIR} -I ${CMAKE_CURRENT_SOURCE_DIR}/support ${unit} ${main} -o ${program}
      DEPENDS ${unit} ${main}
      DEPFILE ${program}.d
      VERBATIM)
    list(APPEND neon_programs ${program})
    foreach(name IN LISTS names)
      add_test(NAME neon/${name}/${isa} COMMAND ${INTACT_QEMU_AARCH64} -cpu max ${CMAKE_CURRENT_BINARY_DIR}/${program}
                                                --filenames-as-tags "[#${name}]${without_long}")
      set_tests_properties(neon/${name}/${isa} PROPERTIES LABELS neon COST 1${cost_of_${name}})
    endforeach()
  endforeach()
  add_custom_target(neon_tests ALL DEPENDS ${neon_programs})
else()
  add_test(NAME neon COMMAND ${CMAKE_COMMAND} -E echo
                             "[intact: skipped] needs aarch64-linux-gnu-g++, qemu-aarch64 and Catch2 2's single header")
  set_tests_properties(neon PROPERTIES LABELS neon ${skip_line})
endif()
