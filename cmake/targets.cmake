# intact::intact uses the headers of xsimd; intact::adapt computes in floating point and reads files. The headers are
# globbed, so that none can be left out of the installation or of the check that each one compiles alone.

set(include_dir ${PROJECT_SOURCE_DIR}/include)
file(GLOB_RECURSE intact_headers CONFIGURE_DEPENDS ${include_dir}/intact/*.hpp)
set(adapt_headers ${intact_headers})
list(FILTER intact_headers EXCLUDE REGEX /intact/adapt/)
list(FILTER adapt_headers INCLUDE REGEX /intact/adapt/)

add_library(intact INTERFACE)
add_library(intact::intact ALIAS intact)
target_compile_features(intact INTERFACE cxx_std_20)
target_sources(intact INTERFACE FILE_SET HEADERS BASE_DIRS ${include_dir} FILES ${intact_headers})
set_target_properties(intact PROPERTIES VERIFY_INTERFACE_HEADER_SETS ${PROJECT_IS_TOP_LEVEL})
target_include_directories(intact SYSTEM INTERFACE $<BUILD_INTERFACE:${INTACT_XSIMD_INCLUDE_DIR}>)

if(INTACT_ADAPT)
  add_library(intact_adapt INTERFACE)
  add_library(intact::adapt ALIAS intact_adapt)
  target_link_libraries(intact_adapt INTERFACE intact Eigen3::Eigen nlohmann_json::nlohmann_json)
  target_sources(intact_adapt INTERFACE FILE_SET HEADERS BASE_DIRS ${include_dir} FILES ${adapt_headers})
  set_target_properties(intact_adapt PROPERTIES EXPORT_NAME adapt VERIFY_INTERFACE_HEADER_SETS ${PROJECT_IS_TOP_LEVEL})
endif()
