# intact::intact uses the headers of xsimd alone. intact::io reads and writes files, with nlohmann-json. intact::quantize
# has the float models, on Eigen. The headers are globbed, so that none can be left out of the installation or of the
# check that each one compiles alone.

set(include_dir ${PROJECT_SOURCE_DIR}/include)

# The headers of a target: those of folders, or of all others.
function(intact_add_headers target)
  set_target_properties(${target} PROPERTIES VERIFY_INTERFACE_HEADER_SETS ${PROJECT_IS_TOP_LEVEL})
  target_sources(${target} INTERFACE FILE_SET HEADERS BASE_DIRS ${include_dir} FILES ${ARGN})
endfunction()

file(GLOB_RECURSE intact_headers CONFIGURE_DEPENDS ${include_dir}/intact/*.hpp)
foreach(folder IN ITEMS io quantize)
  set(${folder}_headers ${intact_headers})
  list(FILTER ${folder}_headers INCLUDE REGEX /intact/${folder}/)
endforeach()
list(FILTER intact_headers EXCLUDE REGEX "/intact/(c|io|quantize)/")
# Executors on other libraries are not verified: those may be missing.
set(executor_headers ${include_dir}/intact/executors/openmp.hpp ${include_dir}/intact/executors/tbb.hpp)
list(REMOVE_ITEM intact_headers ${executor_headers})

add_library(intact INTERFACE)
add_library(intact::intact ALIAS intact)
target_compile_features(intact INTERFACE cxx_std_20)
target_include_directories(intact SYSTEM INTERFACE $<BUILD_INTERFACE:${INTACT_XSIMD_INCLUDE_DIR}>)
intact_add_headers(intact ${intact_headers})
target_sources(intact INTERFACE FILE_SET executors TYPE HEADERS BASE_DIRS ${include_dir} FILES ${executor_headers})
set_target_properties(intact PROPERTIES INTERFACE_HEADER_SETS_TO_VERIFY HEADERS)

# The folder of the units that intact_add_dispatch compiles.
set_property(GLOBAL PROPERTY intact_folder ${include_dir}/intact)

if(INTACT_IO)
  add_library(intact_io INTERFACE)
  add_library(intact::io ALIAS intact_io)
  target_link_libraries(intact_io INTERFACE intact nlohmann_json::nlohmann_json)
  set_target_properties(intact_io PROPERTIES EXPORT_NAME io)
  intact_add_headers(intact_io ${io_headers})
endif()

if(INTACT_QUANTIZE)
  add_library(intact_quantize INTERFACE)
  add_library(intact::quantize ALIAS intact_quantize)
  target_link_libraries(intact_quantize INTERFACE intact_io Eigen3::Eigen)
  set_target_properties(intact_quantize PROPERTIES EXPORT_NAME quantize)
  intact_add_headers(intact_quantize ${quantize_headers})
endif()
