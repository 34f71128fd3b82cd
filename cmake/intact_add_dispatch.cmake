# intact_add_dispatch(<target> SOURCES <file>... [WITHOUT <isa>...])
#
# Compiles each file once for every instruction set of the target's processor family, with that set's compiler flags,
# and adds the objects to the target. Call it once per target, in the folder of the target.
#
#   x86      scalar sse4_1 avx2 avx2_vnni avx512bw avx512vnni avx512vbmi
#   aarch64  scalar neon neon_dotprod neon_i8mm
#   others   scalar
#
# WITHOUT leaves some of them out; those whose flags the compiler does not know are left out, too. The sources see:
#
#   INTACT_DISPATCH_ISA    in these files: the name of the set's tag, such as avx2 for intact::isa::avx2
#   INTACT_DISPATCH_TAGS   in the target's other files: all tags, intact::isa::scalar,intact::isa::sse4_1,...
#
# The flags come after those of the target, which must name no instruction set itself (no -march). They end with -O2 in
# every configuration. Without optimization the kernels would take hundreds of times as long, for their registers would
# be arrays in memory; and small functions of std::, which optimization makes part of their callers, would exist on
# their own, so that the linker would merge them across instruction sets.

include_guard(GLOBAL)
include(CheckCXXCompilerFlag)

# Functions keep their constants to themselves: a variable of a subproject is unknown to the project around it.

# The compiler flags of an instruction set, as include/intact/simd/isa.hpp tells them.
function(intact_dispatch_flags isa result)
  set(avx512bw -mavx512f -mavx512bw -mavx512cd -mavx512dq -mavx512vl)
  set(flags_of_scalar "")
  set(flags_of_sse4_1 -msse4.1)
  set(flags_of_avx2 -mavx2)
  set(flags_of_avx2_vnni -mavx2 -mavxvnni)
  set(flags_of_avx512bw ${avx512bw})
  set(flags_of_avx512vnni ${avx512bw} -mavx512vnni)
  set(flags_of_avx512vbmi ${avx512bw} -mavx512vnni -mavx512ifma -mavx512vbmi)
  set(flags_of_neon "")
  set(flags_of_neon_dotprod -march=armv8.2-a+dotprod)
  set(flags_of_neon_i8mm -march=armv8.2-a+dotprod+i8mm)
  set(${result} "${flags_of_${isa}}" PARENT_SCOPE)
endfunction()

# The instruction sets that the target's processor family has and whose flags the compiler knows.
function(intact_dispatch_isas result)
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64)$")
    set(isas scalar sse4_1 avx2 avx2_vnni avx512bw avx512vnni avx512vbmi)
  elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "^(aarch64|arm64)$")
    set(isas scalar neon neon_dotprod neon_i8mm)
  else()
    set(isas scalar)
  endif()
  set(known "")
  foreach(isa IN LISTS isas)
    intact_dispatch_flags(${isa} flags)
    list(JOIN flags " " flags)
    if(flags)
      check_cxx_compiler_flag("${flags}" INTACT_COMPILER_KNOWS_${isa})
    endif()
    if(NOT flags OR INTACT_COMPILER_KNOWS_${isa})
      list(APPEND known ${isa})
    endif()
  endforeach()
  set(${result} ${known} PARENT_SCOPE)
endfunction()

function(intact_add_dispatch target)
  cmake_parse_arguments(PARSE_ARGV 1 dispatch "" "" "SOURCES;WITHOUT")
  if(NOT TARGET ${target} OR NOT dispatch_SOURCES OR dispatch_UNPARSED_ARGUMENTS OR dispatch_KEYWORDS_MISSING_VALUES)
    message(FATAL_ERROR "intact_add_dispatch(${ARGV}): it must be <target> SOURCES <file>... [WITHOUT <isa>...]")
  endif()
  set(all scalar sse4_1 avx2 avx2_vnni avx512bw avx512vnni avx512vbmi neon neon_dotprod neon_i8mm)
  foreach(isa IN LISTS dispatch_WITHOUT)
    if(NOT isa IN_LIST all)
      message(FATAL_ERROR "intact_add_dispatch: WITHOUT has ${isa}; it must be one of ${all}")
    endif()
  endforeach()
  intact_dispatch_isas(isas)
  list(REMOVE_ITEM isas ${dispatch_WITHOUT})
  if(NOT isas)
    message(FATAL_ERROR "intact_add_dispatch: WITHOUT leaves no instruction set")
  endif()

  # A file of its own for each instruction set, since a target compiles a file once. None may become part of another
  # translation unit.
  foreach(isa IN LISTS isas)
    intact_dispatch_flags(${isa} flags)
    foreach(source IN LISTS dispatch_SOURCES)
      cmake_path(ABSOLUTE_PATH source OUTPUT_VARIABLE path)
      cmake_path(GET source FILENAME name)
      set(unit ${CMAKE_CURRENT_BINARY_DIR}/${target}.dispatch/${isa}/${name})
      file(CONFIGURE OUTPUT ${unit} CONTENT "#include \"@path@\"\n" @ONLY)
      target_sources(${target} PRIVATE ${unit})
      set_source_files_properties(
        ${unit}
        PROPERTIES COMPILE_OPTIONS "${flags};-O2"
                   COMPILE_DEFINITIONS INTACT_DISPATCH_ISA=${isa}
                   SKIP_PRECOMPILE_HEADERS ON
                   SKIP_UNITY_BUILD_INCLUSION ON)
    endforeach()
  endforeach()
  list(TRANSFORM isas PREPEND intact::isa::)
  list(JOIN isas "," tags)
  target_compile_definitions(${target} PRIVATE INTACT_DISPATCH_TAGS=${tags})
endfunction()
