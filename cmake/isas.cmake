# The instruction sets of include/intact/simd/isa.hpp, in its order: name, family of processors, compiler flags. The
# test "check/instruction sets" compares the lists.

include_guard(GLOBAL)

# A function, because a variable of a subproject is unknown to the project around it.
function(intact_isa_list result)
  set(avx512bw "-mavx512f -mavx512bw -mavx512cd -mavx512dq -mavx512vl")
  set(${result}
      "scalar any"
      "sse2 x86 -msse2"
      "sse4_1 x86 -msse4.1"
      "avx2 x86 -mavx2"
      "avx2_vnni x86 -mavx2 -mavxvnni"
      "avx512bw x86 ${avx512bw}"
      "avx512vnni x86 ${avx512bw} -mavx512vnni"
      "avx512vbmi x86 ${avx512bw} -mavx512vnni -mavx512ifma -mavx512vbmi"
      "neon aarch64"
      "neon_dotprod aarch64 -march=armv8.2-a+dotprod"
      "neon_i8mm aarch64 -march=armv8.2-a+dotprod+i8mm"
      PARENT_SCOPE)
endfunction()

# The names of the sets of some families, such as any;x86.
function(intact_isas_of families result)
  intact_isa_list(rows)
  set(isas "")
  foreach(row IN LISTS rows)
    separate_arguments(fields UNIX_COMMAND "${row}")
    list(POP_FRONT fields name family)
    if(family IN_LIST families)
      list(APPEND isas ${name})
    endif()
  endforeach()
  set(${result} ${isas} PARENT_SCOPE)
endfunction()

# The compiler flags of a set.
function(intact_isa_flags isa result)
  intact_isa_list(rows)
  foreach(row IN LISTS rows)
    separate_arguments(fields UNIX_COMMAND "${row}")
    list(POP_FRONT fields name family)
    if(name STREQUAL isa)
      set(${result} "${fields}" PARENT_SCOPE)
    endif()
  endforeach()
endfunction()

# The families of the target's processor.
function(intact_isa_families result)
  set(families any)
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|[Aa][Mm][Dd]64|x64)$")
    list(APPEND families x86)
  elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "^(aarch64|arm64)$")
    list(APPEND families aarch64)
  endif()
  set(${result} ${families} PARENT_SCOPE)
endfunction()
