# Tests of the fast kernels: each source is compiled once per instruction set, with its flags, and run where the
# processor has it. One CTest test per program: a program cannot be asked for its test cases on another processor.

set(isas scalar)
set(isa_flags_scalar "")
if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64)$")
  list(APPEND isas sse4_1 avx2 avx2_vnni avx512bw avx512vnni avx512vbmi)
  set(isa_flags_sse4_1 -msse4.1)
  set(isa_flags_avx2 -mavx2)
  set(isa_flags_avx2_vnni -mavx2 -mavxvnni)
  set(isa_flags_avx512bw -mavx512f -mavx512bw -mavx512cd -mavx512dq -mavx512vl)
  set(isa_flags_avx512vnni ${isa_flags_avx512bw} -mavx512vnni)
  set(isa_flags_avx512vbmi ${isa_flags_avx512vnni} -mavx512ifma -mavx512vbmi)
endif()
set(neon_isas neon neon_dotprod neon_i8mm)
set(isa_flags_neon -march=armv8-a)
set(isa_flags_neon_dotprod -march=armv8.2-a+dotprod)
set(isa_flags_neon_i8mm -march=armv8.2-a+dotprod+i8mm)
if(CMAKE_SYSTEM_PROCESSOR STREQUAL "aarch64")
  list(APPEND isas ${neon_isas})
endif()
set(INTACT_TEST_ISAS "" CACHE STRING "Instruction sets that the kernels are tested for; if empty, all of the processor's family")
if(INTACT_TEST_ISAS)
  set(isas ${INTACT_TEST_ISAS})
endif()

# Models on kernels share a translation unit, so that the kernels are compiled once for all of them.
file(CONFIGURE OUTPUT fused_test.cpp CONTENT "#include \"fused_block_test.cpp\"
#include \"fused_swin_test.cpp\"
#include \"fused_vit_test.cpp\"
")
set(isa_tests fused_test gemm_kernel_test operation_kernel_test shift_matmul_kernel_test simd_test)
set(source_of_fused_test ${CMAKE_CURRENT_BINARY_DIR}/fused_test.cpp)
foreach(name IN ITEMS gemm_kernel_test operation_kernel_test shift_matmul_kernel_test simd_test)
  set(source_of_${name} ${CMAKE_CURRENT_SOURCE_DIR}/${name}.cpp)
endforeach()

# Debug information is half of the work of compiling them. With sanitizers GCC takes ten minutes to optimize what it compiles in one without optimization.
set(isa_test_options -g0)
if(CMAKE_CXX_FLAGS MATCHES "-fsanitize")
  set(isa_test_options -g0 -O0)
endif()

# What takes longest begins first, emulated before all, so that no processor waits for it at the end.
set(cost_of_fused_test 90)
set(cost_of_gemm_kernel_test 80)
set(cost_of_operation_kernel_test 70)
set(cost_of_shift_matmul_kernel_test 60)
set(cost_of_simd_test 50)

find_package(Threads REQUIRED)
add_executable(run_if_supported run_if_supported.cpp)
target_link_libraries(run_if_supported PRIVATE intact::intact)

# What these have beyond the instruction set in front of them is a dot product of bytes.
set(more_of_avx2_vnni avx2)
set(more_of_avx512vnni avx512bw)

foreach(name IN LISTS isa_tests)
  foreach(isa IN LISTS isas)
    if(name STREQUAL "fused_test" AND more_of_${isa} IN_LIST isas)
      continue()
    endif()
    add_executable(${name}_${isa} ${source_of_${name}})
    target_include_directories(${name}_${isa} PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
    target_link_libraries(${name}_${isa} PRIVATE intact::intact Catch2::Catch2WithMain Threads::Threads)
    target_compile_options(${name}_${isa} PRIVATE ${isa_flags_${isa}} ${isa_test_options})
    target_compile_definitions(${name}_${isa} PRIVATE INTACT_TEST_ISA=${isa})
    add_test(NAME ${name}/${isa} COMMAND run_if_supported ${isa} $<TARGET_FILE:${name}_${isa}>)
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
    COMMAND ${compile_neon} -c ${CMAKE_CURRENT_SOURCE_DIR}/catch_main.cpp -o ${main}
    DEPENDS catch_main.cpp
    VERBATIM)
  foreach(name IN LISTS isa_tests)
    foreach(isa IN LISTS neon_isas)
      # What the others have beyond neon is a dot product of bytes.
      if(NOT isa STREQUAL "neon" AND NOT name MATCHES "^(gemm_kernel|shift_matmul_kernel|simd)_test$")
        continue()
      endif()
      set(program neon/${name}_${isa})
      add_custom_command(
        OUTPUT ${program}
        COMMAND ${compile_neon} ${isa_flags_${isa}} -D INTACT_TEST_ISA=${isa} -MD -MF ${program}.d -MT ${program} -static
                -I ${CMAKE_CURRENT_SOURCE_DIR} ${source_of_${name}} ${main} -o ${program}
        DEPENDS ${source_of_${name}} ${main}
        DEPFILE ${program}.d
        VERBATIM)
      list(APPEND neon_programs ${program})
      # What takes seconds on a processor takes minutes on an emulated one.
      add_test(NAME neon/${name}/${isa} COMMAND ${INTACT_QEMU_AARCH64} -cpu max ${CMAKE_CURRENT_BINARY_DIR}/${program}
                                                ~[long])
      set_tests_properties(neon/${name}/${isa} PROPERTIES LABELS isa COST 1${cost_of_${name}})
    endforeach()
  endforeach()
  add_custom_target(neon_tests ALL DEPENDS ${neon_programs})
else()
  add_test(NAME neon COMMAND ${CMAKE_COMMAND} -E echo
                             "[intact: skipped] needs aarch64-linux-gnu-g++, qemu-aarch64 and Catch2 2's single header")
  set_tests_properties(neon PROPERTIES LABELS isa ${skip_line})
endif()
