# intact_add_dispatch(<target> [SOURCES <file>...] [WITHOUT <isa>...])
#
# Adds the functions of intact::dispatch to a target: the library's units, compiled once for every instruction set of the
# target's processor family, with that set's compiler flags. With SOURCES it compiles those files so instead. Call it
# once per target, in the folder of the target. The target intact::dispatch is a static library of the same units.
#
# The units of interop/ are compiled with IEEE arithmetic, whatever the flags of the target are.
#
# cmake/isas.cmake lists the sets. WITHOUT leaves some of them out; those whose flags the compiler does not know are
# left out, too. The sources see:
#
#   INTACT_DISPATCH_ISA    in these files: the name of the set's tag, such as avx2 for intact::isa::avx2
#   INTACT_DISPATCH_TAGS   in the target's other files: all tags, intact::isa::scalar,intact::isa::sse2,...
#
# The flags come after those of the target, which must name no instruction set itself (no -march). They end with -O2 in
# every configuration. Without optimization the kernels would take hundreds of times as long, for their registers would
# be arrays in memory; and small functions of std::, which optimization makes part of their callers, would exist on
# their own, so that the linker would merge them across instruction sets.

include_guard(GLOBAL)
include(CheckCXXCompilerFlag)
include(${CMAKE_CURRENT_LIST_DIR}/isas.cmake)

# The compiler flag that takes back -ffast-math and all parts of it.
function(intact_ieee_flags result)
  set(${result} -fno-fast-math PARENT_SCOPE)
endfunction()

# The instruction sets that the target's processor family has and whose flags the compiler knows.
function(intact_dispatch_isas result)
  intact_isa_families(families)
  intact_isas_of("${families}" isas)
  set(known "")
  foreach(isa IN LISTS isas)
    intact_isa_flags(${isa} flags)
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
  if(NOT TARGET ${target} OR dispatch_UNPARSED_ARGUMENTS OR "SOURCES" IN_LIST dispatch_KEYWORDS_MISSING_VALUES)
    message(FATAL_ERROR "intact_add_dispatch(${ARGV}): it must be <target> [SOURCES <file>...] [WITHOUT <isa>...]")
  endif()
  intact_isas_of("any;x86;aarch64" all)
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
  set(options -O2)
  if(NOT dispatch_SOURCES)
    get_property(folder GLOBAL PROPERTY intact_folder)
    set(dispatch_SOURCES ${folder}/dispatch/unit.cpp ${folder}/interop/dispatch/interop_unit.cpp)
    intact_ieee_flags(ieee_flags)
    list(APPEND options ${ieee_flags} -fno-exceptions -w) # warnings about the library are not its user's
    set(interop_select ${folder}/interop/dispatch/interop_select.cpp)
    set_source_files_properties(${interop_select} PROPERTIES COMPILE_OPTIONS "${ieee_flags}" SKIP_PRECOMPILE_HEADERS ON)
    target_sources(${target} PRIVATE ${folder}/dispatch/select.cpp ${interop_select})
    target_link_libraries(${target} PRIVATE intact::intact)
  endif()

  # A file of its own for each instruction set, since a target compiles a file once. None may become part of another
  # translation unit.
  foreach(isa IN LISTS isas)
    intact_isa_flags(${isa} flags)
    foreach(source IN LISTS dispatch_SOURCES)
      cmake_path(ABSOLUTE_PATH source OUTPUT_VARIABLE path)
      cmake_path(GET source FILENAME name)
      set(unit ${CMAKE_CURRENT_BINARY_DIR}/${target}.dispatch/${isa}/${name})
      file(CONFIGURE OUTPUT ${unit} CONTENT "#include \"@path@\"\n" @ONLY)
      target_sources(${target} PRIVATE ${unit})
      set_source_files_properties(
        ${unit}
        PROPERTIES COMPILE_OPTIONS "${flags};${options}"
                   COMPILE_DEFINITIONS INTACT_DISPATCH_ISA=${isa}
                   SKIP_PRECOMPILE_HEADERS ON
                   SKIP_UNITY_BUILD_INCLUSION ON)
    endforeach()
  endforeach()
  list(TRANSFORM isas PREPEND intact::isa::)
  list(JOIN isas "," tags)
  target_compile_definitions(${target} PRIVATE INTACT_DISPATCH_TAGS=${tags})
endfunction()

# The target intact::dispatch: built when something links it. Shared libraries that link it do not export its symbols.
function(intact_add_dispatch_library)
  if(TARGET intact::dispatch)
    return()
  endif()
  add_library(intact_dispatch STATIC EXCLUDE_FROM_ALL)
  add_library(intact::dispatch ALIAS intact_dispatch)
  set_target_properties(
    intact_dispatch
    PROPERTIES POSITION_INDEPENDENT_CODE ON
               CXX_VISIBILITY_PRESET hidden
               VISIBILITY_INLINES_HIDDEN ON)
  target_link_libraries(intact_dispatch PUBLIC intact::intact)
  if(NOT DEFINED INTACT_DISPATCH_WITHOUT) # old projects' policies would drop a variable of that name
    set(INTACT_DISPATCH_WITHOUT "" CACHE STRING "Instruction sets that intact::dispatch is not compiled for")
  endif()
  intact_add_dispatch(intact_dispatch WITHOUT ${INTACT_DISPATCH_WITHOUT})
endfunction()
