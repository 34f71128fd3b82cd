# Installed packages come first. With INTACT_FETCH_DEPENDENCIES, those that are missing are downloaded, in the versions
# written here. GLOBAL: who links intact::quantize must see its dependencies, from wherever it has been added.

if(INTACT_FETCH_DEPENDENCIES)
  include(FetchContent)

  # Of these only the headers are of use: SOURCE_SUBDIR names no folder, so that their build systems stay out of ours.
  FetchContent_Declare(
    Eigen3
    URL https://gitlab.com/libeigen/eigen/-/archive/3.4.0/eigen-3.4.0.tar.gz
    URL_HASH SHA256=8586084f71f9bde545ee7fa6d00288b264a2b7ac3607b974e54d13e7162c1c72
    SOURCE_SUBDIR headers-only
    FIND_PACKAGE_ARGS CONFIG GLOBAL)
  FetchContent_Declare(
    nlohmann_json
    URL https://github.com/nlohmann/json/releases/download/v3.11.3/json.tar.xz
    URL_HASH SHA256=d6c65aca6b1ed68e7a182f4757257b107ae403032760ed6ef121c9d55e81757d
    SOURCE_SUBDIR headers-only
    FIND_PACKAGE_ARGS 3.11 CONFIG GLOBAL)
  FetchContent_Declare(
    CLI11
    URL https://github.com/CLIUtils/CLI11/archive/refs/tags/v2.4.1.tar.gz
    URL_HASH SHA256=73b7ec52261ce8fe980a29df6b4ceb66243bb0b779451dbd3d014cfec9fdbb58
    SOURCE_SUBDIR headers-only
    FIND_PACKAGE_ARGS CONFIG GLOBAL)
  FetchContent_Declare(
    Catch2
    URL https://github.com/catchorg/Catch2/archive/refs/tags/v3.4.0.tar.gz
    URL_HASH SHA256=122928b814b75717316c71af69bd2b43387643ba076a6ec16e7882bfb2dfacbb
    SYSTEM
    FIND_PACKAGE_ARGS CONFIG)
  FetchContent_Declare(
    xsimd
    URL https://github.com/xtensor-stack/xsimd/archive/refs/tags/11.1.0.tar.gz
    SOURCE_SUBDIR headers-only)
endif()

include(${CMAKE_CURRENT_LIST_DIR}/find_xsimd.cmake)
if(NOT INTACT_XSIMD_INCLUDE_DIR AND INTACT_FETCH_DEPENDENCIES)
  FetchContent_MakeAvailable(xsimd)
  set_property(CACHE INTACT_XSIMD_INCLUDE_DIR PROPERTY VALUE ${xsimd_SOURCE_DIR}/include)
endif()
if(NOT INTACT_XSIMD_INCLUDE_DIR)
  message(FATAL_ERROR "intact needs xsimd/xsimd.hpp: ${intact_xsimd_advice}, or INTACT_FETCH_DEPENDENCIES to ON")
endif()

# Makes sure that a target of a package exists. `include_dir`: where its headers are if it has been downloaded.
function(intact_require_package package target version include_dir)
  if(TARGET ${target})
    return()
  endif()
  if(NOT INTACT_FETCH_DEPENDENCIES)
    find_package(${package} ${version} CONFIG REQUIRED GLOBAL)
    return()
  endif()
  FetchContent_MakeAvailable(${package})
  if(NOT TARGET ${target})
    FetchContent_GetProperties(${package} SOURCE_DIR source)
    add_library(${target} INTERFACE IMPORTED GLOBAL)
    target_include_directories(${target} INTERFACE ${source}/${include_dir})
  endif()
endfunction()

if(INTACT_QUANTIZE)
  intact_require_package(Eigen3 Eigen3::Eigen "" .)
endif()
if(INTACT_IO)
  intact_require_package(nlohmann_json nlohmann_json::nlohmann_json 3.11 include)
endif()
if(INTACT_BUILD_EXAMPLES OR INTACT_BUILD_BENCHMARKS)
  intact_require_package(CLI11 CLI11::CLI11 "" include)
endif()
