# Finds the headers of xsimd: INTACT_XSIMD_INCLUDE_DIR. The variable or environment variable xsimd_ROOT names a prefix to
# look in first; a project that has fetched xsimd itself is asked next.
#
# Only the headers are looked for: Debian 12's exported target links a library that does not exist, and its package file
# refuses to be used when cross-compiling.

set(intact_xsimd_doc "Folder of xsimd/xsimd.hpp, xsimd 8.1 or newer")
find_path(
  INTACT_XSIMD_INCLUDE_DIR xsimd/xsimd.hpp
  PATHS ${xsimd_ROOT} $ENV{xsimd_ROOT} ${xsimd_SOURCE_DIR}
  PATH_SUFFIXES include
  DOC "${intact_xsimd_doc}"
  NO_DEFAULT_PATH)
find_path(INTACT_XSIMD_INCLUDE_DIR xsimd/xsimd.hpp DOC "${intact_xsimd_doc}")
set(intact_xsimd_advice "install xsimd 8.1 or newer (Debian: libxsimd-dev), or set xsimd_ROOT to its prefix, or \
INTACT_XSIMD_INCLUDE_DIR to the folder that holds xsimd/xsimd.hpp")
