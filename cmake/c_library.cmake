# The C library: intact::c, shared, and intact::c_static, with the sources of include/intact/c and the units of
# intact::dispatch. Of a shared library only the functions of c/intact.h are seen.

include(CheckLinkerFlag)

file(GLOB c_sources CONFIGURE_DEPENDS ${include_dir}/intact/c/*.cpp)
# Models in files need intact::io, models from float weights intact::quantize. Other sources take their place.
set(c_needs intact)
if(INTACT_IO)
  set(c_needs intact_io)
  list(REMOVE_ITEM c_sources ${include_dir}/intact/c/no_model.cpp)
else()
  list(REMOVE_ITEM c_sources ${include_dir}/intact/c/model.cpp)
endif()
if(INTACT_QUANTIZE)
  set(c_needs intact_quantize)
  list(REMOVE_ITEM c_sources ${include_dir}/intact/c/no_quantize.cpp)
else()
  list(REMOVE_ITEM c_sources ${include_dir}/intact/c/quantize.cpp)
endif()
set(c_header ${include_dir}/intact/c/intact.h)
set(c_exports ${CMAKE_CURRENT_LIST_DIR}/c_exports.map)

# Both libraries have the same objects. Sums in floating point are rounded one by one, as on other machines.
add_library(intact_c_objects OBJECT EXCLUDE_FROM_ALL ${c_sources})
intact_ieee_flags(ieee_flags)
target_compile_options(intact_c_objects PRIVATE ${ieee_flags} -ffp-contract=off)
set_target_properties(
  intact_c_objects
  PROPERTIES POSITION_INDEPENDENT_CODE ON
             CXX_VISIBILITY_PRESET hidden
             VISIBILITY_INLINES_HIDDEN ON)
target_link_libraries(intact_c_objects PRIVATE ${c_needs})

function(intact_add_c_library name type)
  add_library(intact_${name} ${type} $<TARGET_OBJECTS:intact_c_objects> $<TARGET_OBJECTS:intact_dispatch>)
  add_library(intact::${name} ALIAS intact_${name})
  target_sources(intact_${name} INTERFACE FILE_SET HEADERS BASE_DIRS ${include_dir} FILES ${c_header})
  set_target_properties(
    intact_${name}
    PROPERTIES OUTPUT_NAME intact-c
               EXPORT_NAME ${name}
               LINKER_LANGUAGE CXX)
endfunction()

intact_add_c_library(c SHARED)
intact_add_c_library(c_static STATIC)
# A version 0.y may change the interface.
set(c_interface ${PROJECT_VERSION_MAJOR})
if(PROJECT_VERSION_MAJOR EQUAL 0)
  string(APPEND c_interface .${PROJECT_VERSION_MINOR})
endif()
# The units take minutes to compile. Tests that do without the library do not wait for it.
set(excluded OFF)
if(DEFINED INTACT_TEST_CHECKS AND NOT INTACT_TEST_CHECKS)
  set(excluded ON)
endif()
set_target_properties(intact_c intact_c_static PROPERTIES EXCLUDE_FROM_ALL ${excluded})
set_target_properties(intact_c PROPERTIES VERSION ${PROJECT_VERSION} SOVERSION ${c_interface} LINK_DEPENDS ${c_exports})
# Instances of the standard library's templates are visible by themselves.
check_linker_flag(CXX "LINKER:--version-script=${c_exports}" INTACT_LINKER_KNOWS_VERSION_SCRIPTS)
if(INTACT_LINKER_KNOWS_VERSION_SCRIPTS)
  target_link_options(intact_c PRIVATE "LINKER:--version-script=${c_exports}")
endif()
