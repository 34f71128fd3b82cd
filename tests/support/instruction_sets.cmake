# The instruction sets that tests run on, and the kernels and models that are compiled once for each of them.

intact_isas_of("any;x86;aarch64" all_isas)
foreach(isa IN LISTS all_isas)
  intact_isa_flags(${isa} isa_flags_${isa})
endforeach()
intact_isas_of(aarch64 neon_isas)
intact_isa_families(families)

# Those that intact::dispatch is compiled for.
function(intact_compiled_dispatch_isas result)
  intact_dispatch_isas(isas)
  list(REMOVE_ITEM isas ${INTACT_DISPATCH_WITHOUT})
  set(${result} ${isas} PARENT_SCOPE)
endfunction()

intact_isas_of("${families}" isas)

# The best set that the flags of the whole build allow, which programs use that name none, and the processor's best.
try_run(ran compiled ${CMAKE_CURRENT_BINARY_DIR}/best_isas SOURCES ${CMAKE_CURRENT_LIST_DIR}/best_isas.cpp
  CMAKE_FLAGS -DINCLUDE_DIRECTORIES=${PROJECT_SOURCE_DIR}/include -DCMAKE_CXX_STANDARD=20
  RUN_OUTPUT_VARIABLE best COMPILE_OUTPUT_VARIABLE messages)
if(NOT compiled OR NOT ran EQUAL 0)
  message(FATAL_ERROR "the best instruction sets of compiler and processor could not be found: ${messages}")
endif()
list(GET best 0 native)
list(GET best 1 processor)

set(INTACT_TEST_ISAS "" CACHE STRING
  "Instruction sets that the kernels are tested for: those of the processor's family count, \"native\" is the best that the compiler's flags allow, \"processor\" the processor's best; if empty, all of the family")
if("native" IN_LIST INTACT_TEST_ISAS)
  set(isa_flags_${native} "")  # they are those of the whole build
endif()
if(INTACT_TEST_ISAS)
  set(available ${isas})
  set(isas "")
  foreach(isa IN LISTS INTACT_TEST_ISAS)
    if(isa STREQUAL "native" OR isa STREQUAL "processor")
      set(isa ${${isa}})
    endif()
    if(isa IN_LIST available)
      list(APPEND isas ${isa})
    elseif(NOT DEFINED isa_flags_${isa})
      message(FATAL_ERROR "INTACT_TEST_ISAS has ${isa}, which is no instruction set")
    endif()
  endforeach()
  list(REMOVE_DUPLICATES isas)
endif()
message(STATUS "Kernels are tested for ${isas}")

# These differ from a set that is tested whole in single primitives, such as the dot product of bytes.
set(whole_set_of_sse4_1 sse2)
set(whole_set_of_avx2_vnni avx2)
set(whole_set_of_avx512bw avx512vbmi)
set(whole_set_of_avx512vnni avx512vbmi)

# Of kernels and of tests that instantiate many. Debug information is half of the work of compiling them. With sanitizers
# compilers take four times as long or longer to optimize them.
set(kernel_test_options -g0)
if(CMAKE_CXX_FLAGS MATCHES "-fsanitize")
  set(kernel_test_options -g0 -O0)
endif()

# A test proves one optimization level. A build can test operations, models and the kernels of its own set at another.
set(INTACT_TEST_LEVEL "" CACHE STRING
  "Optimization level of operations, models and the kernels of the whole build's instruction set; if empty, the build's")
set(level_of_${native} ${INTACT_TEST_LEVEL})

# The kernels and models of an instruction set, for all programs that are linked with them: compiled_kernels of the
# flags of the whole build, compiled_kernels_<isa> of each set that is tested whole.
function(intact_add_compiled_kernels name isa)
  set(folder ${CMAKE_CURRENT_FUNCTION_LIST_DIR})
  add_library(${name} STATIC ${folder}/compiled_kernels.cpp)
  target_link_libraries(${name} PUBLIC intact::intact)
  set_target_properties(${name} PROPERTIES POSITION_INDEPENDENT_CODE ON CXX_VISIBILITY_PRESET hidden)
  target_compile_definitions(${name} PUBLIC INTACT_TEST_ISA=${isa})
  target_compile_options(${name} PRIVATE ${ARGN} INTERFACE "SHELL:-include ${folder}/compiled_kernels.hpp")
endfunction()
set(whole_isas "")
foreach(isa IN LISTS isas)
  if(NOT whole_set_of_${isa} IN_LIST isas)
    list(APPEND whole_isas ${isa})
    intact_add_compiled_kernels(compiled_kernels_${isa} ${isa} ${isa_flags_${isa}} ${kernel_test_options}
                                ${level_of_${isa}})
  endif()
endforeach()
if(TARGET compiled_kernels_${native})
  add_library(compiled_kernels ALIAS compiled_kernels_${native})
else()
  intact_add_compiled_kernels(compiled_kernels ${native} ${kernel_test_options} ${INTACT_TEST_LEVEL})
endif()
