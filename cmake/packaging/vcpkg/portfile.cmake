# An overlay port: vcpkg install intact --overlay-ports=<library>/cmake/packaging/vcpkg. It takes the source that it is
# part of.

set(SOURCE_PATH "${CMAKE_CURRENT_LIST_DIR}/../../..")

vcpkg_check_features(OUT_FEATURE_OPTIONS features FEATURES io INTACT_IO quantize INTACT_QUANTIZE)
vcpkg_cmake_configure(
  SOURCE_PATH "${SOURCE_PATH}"
  OPTIONS ${features} -DINTACT_BUILD_TESTS=OFF -DINTACT_BUILD_EXAMPLES=OFF -DINTACT_C=OFF)
vcpkg_cmake_install()
vcpkg_cmake_config_fixup(CONFIG_PATH share/cmake/intact)
vcpkg_fixup_pkgconfig()
file(REMOVE_RECURSE "${CURRENT_PACKAGES_DIR}/debug")
vcpkg_install_copyright(FILE_LIST "${SOURCE_PATH}/LICENSE")
