# Tests of the fast kernels: the sources are compiled once per instruction set, with its flags, and run where the
# processor has it.

intact_isas_of("any;x86;aarch64" all_isas)
foreach(isa IN LISTS all_isas)
  intact_isa_flags(${isa} isa_flags_${isa})
endforeach()
set(isa_flags_native "")
intact_isas_of(aarch64 neon_isas)
intact_isa_families(families)
intact_isas_of("${families}" isas)
set(INTACT_TEST_ISAS "" CACHE STRING
  "Instruction sets that the kernels are tested for: those of the processor's family count, \"native\" is the best that the compiler's flags allow; if empty, all of the family")
if(INTACT_TEST_ISAS)
  set(available ${isas} native)
  set(isas "")
  foreach(isa IN LISTS INTACT_TEST_ISAS)
    if(isa IN_LIST available)
      list(APPEND isas ${isa})
    elseif(NOT DEFINED isa_flags_${isa})
      message(FATAL_ERROR "INTACT_TEST_ISAS has ${isa}, which is no instruction set")
    endif()
  endforeach()
endif()
if("native" IN_LIST isas)
  # The set's flags are those of the whole build.
  try_run(ran compiled ${CMAKE_CURRENT_BINARY_DIR}/native_isa SOURCES ${CMAKE_CURRENT_SOURCE_DIR}/support/native_isa.cpp
    CMAKE_FLAGS -DINCLUDE_DIRECTORIES=${PROJECT_SOURCE_DIR}/include -DCMAKE_CXX_STANDARD=20
    RUN_OUTPUT_VARIABLE native COMPILE_OUTPUT_VARIABLE messages)
  if(NOT compiled OR NOT ran EQUAL 0)
    message(FATAL_ERROR "the best instruction set of the compiler's flags could not be found: ${messages}")
  endif()
  message(STATUS "Kernels are tested for ${native}, the best that the compiler's flags allow")
  list(TRANSFORM isas REPLACE "^native$" ${native})
  list(REMOVE_DUPLICATES isas)
  set(isa_flags_${native} "")
endif()

set(isa_tests block_kernel_test swin_kernel_test vit_kernel_test gemm_kernel_test activation_product_test
    operation_kernel_test shift_matmul_kernel_test simd_test compat_stage_kernel_test
    interop_kernel_test)
list(TRANSFORM isa_tests PREPEND kernels/ OUTPUT_VARIABLE listed)
set_property(GLOBAL APPEND PROPERTY intact_listed_tests ${listed})

# Debug information is half of the work of compiling them. With sanitizers GCC takes ten minutes to optimize what it
# compiles in one without optimization.
set(isa_test_options -g0)
if(CMAKE_CXX_FLAGS MATCHES "-fsanitize")
  set(isa_test_options -g0 -O0)
endif()

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

# These differ from a set that is tested whole in single primitives, such as the dot product of bytes.
set(whole_set_of_sse4_1 sse2)
set(whole_set_of_avx2_vnni avx2)
set(whole_set_of_avx512bw avx512vbmi)
set(whole_set_of_avx512vnni avx512vbmi)
set(primitive_tests gemm_kernel_test activation_product_test shift_matmul_kernel_test simd_test)

# One program for each instruction set, compiled as one unit, and a test for each file in it: a program cannot be asked
# for its test cases on another processor.
foreach(isa IN LISTS isas)
  set(names ${isa_tests})
  if(whole_set_of_${isa} IN_LIST isas)
    set(names ${primitive_tests})
  endif()
  list(TRANSFORM names REPLACE ".+" "kernels/\\0.cpp" OUTPUT_VARIABLE files)
  add_executable(kernel_tests_${isa} ${files})
  set_target_properties(kernel_tests_${isa} PROPERTIES UNITY_BUILD ${INTACT_TEST_UNITY} UNITY_BUILD_BATCH_SIZE 0)
  target_link_libraries(kernel_tests_${isa} PRIVATE intact::intact Catch2::Catch2WithMain Threads::Threads)
  target_compile_options(kernel_tests_${isa} PRIVATE ${isa_flags_${isa}} ${isa_test_options})
  target_compile_definitions(kernel_tests_${isa} PRIVATE INTACT_TEST_ISA=${isa})
  foreach(name IN LISTS names)
    add_test(NAME ${name}/${isa} COMMAND run_if_supported ${isa} $<TARGET_FILE:kernel_tests_${isa}> --filenames-as-tags
                                         "[#${name}]")
    set_tests_properties(${name}/${isa} PROPERTIES LABELS isa COST ${cost_of_${name}} ${skip_line})
  endforeach()
endforeach()

# The same for AArch64, by a cross compiler, on an emulated processor. Test programs are linked statically and need no
# files of that processor's. Of this machine's headers, which are not meant for it, only xsimd's and Catch2's are seen.
option(INTACT_TEST_NEON "Test the kernels for AArch64 if there is an emulator and a compiler" ON)
if(NOT INTACT_TEST_NEON)
  return()
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
  set(compile_neon ${INTACT_AARCH64_COMPILER} -std=c++20 -O1 ${warnings} -I ${PROJECT_SOURCE_DIR}/include -isystem
                   ${headers})
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
      # Seconds on a processor are minutes on an emulated one.
      add_test(NAME neon/${name}/${isa} COMMAND ${INTACT_QEMU_AARCH64} -cpu max ${CMAKE_CURRENT_BINARY_DIR}/${program}
                                                --filenames-as-tags "[#${name}]~[long]")
      set_tests_properties(neon/${name}/${isa} PROPERTIES LABELS neon COST 1${cost_of_${name}})
    endforeach()
  endforeach()
  add_custom_target(neon_tests ALL DEPENDS ${neon_programs})
else()
  add_test(NAME neon COMMAND ${CMAKE_COMMAND} -E echo
                             "[intact: skipped] needs aarch64-linux-gnu-g++, qemu-aarch64 and Catch2 2's single header")
  set_tests_properties(neon PROPERTIES LABELS neon ${skip_line})
endif()
