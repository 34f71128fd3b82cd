# cmake -D SOURCE_DIR=<source of the library> -D WORK_DIR=<folder to work in> -P <this file>
#
# The order in which cmake/find_xsimd.cmake looks for xsimd.

cmake_minimum_required(VERSION 3.25)

foreach(name IN ITEMS root environment fetched prefix)
  file(WRITE ${WORK_DIR}/${name}/include/xsimd/xsimd.hpp "")
endforeach()

function(expect_found name)
  unset(INTACT_XSIMD_INCLUDE_DIR CACHE)
  include(${SOURCE_DIR}/cmake/find_xsimd.cmake)
  if(NOT INTACT_XSIMD_INCLUDE_DIR STREQUAL "${WORK_DIR}/${name}/include")
    message(FATAL_ERROR "xsimd is found in ${INTACT_XSIMD_INCLUDE_DIR}; it must be the folder of ${name}")
  endif()
endfunction()

set(CMAKE_PREFIX_PATH ${WORK_DIR}/prefix)
unset(ENV{xsimd_ROOT})
expect_found(prefix)
set(xsimd_SOURCE_DIR ${WORK_DIR}/fetched)
expect_found(fetched)
set(ENV{xsimd_ROOT} ${WORK_DIR}/environment)
expect_found(environment)
set(xsimd_ROOT ${WORK_DIR}/root)
expect_found(root)
