include(CMakePackageConfigHelpers)
include(GNUInstallDirs)

set(package_dir ${CMAKE_INSTALL_DATADIR}/cmake/intact)

install(TARGETS intact EXPORT intactTargets FILE_SET HEADERS FILE_SET executors)
install(FILES include/intact/dispatch/select.cpp include/intact/dispatch/unit.cpp
        DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/intact/dispatch)
install(FILES include/intact/interop/dispatch/interop_select.cpp include/intact/interop/dispatch/interop_unit.cpp
        DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/intact/interop/dispatch)
install(EXPORT intactTargets NAMESPACE intact:: DESTINATION ${package_dir})
if(INTACT_IO)
  install(TARGETS intact_io EXPORT intactIoTargets FILE_SET HEADERS)
  install(EXPORT intactIoTargets NAMESPACE intact:: DESTINATION ${package_dir})
endif()
if(INTACT_QUANTIZE)
  install(TARGETS intact_quantize EXPORT intactQuantizeTargets FILE_SET HEADERS)
  install(EXPORT intactQuantizeTargets NAMESPACE intact:: DESTINATION ${package_dir})
endif()
if(INTACT_C)
  # They are there if the project has been built before it is installed.
  install(
    TARGETS intact_c intact_c_static
    EXPORT intactCTargets
    LIBRARY OPTIONAL
    ARCHIVE OPTIONAL
    FILE_SET HEADERS)
  install(EXPORT intactCTargets NAMESPACE intact:: DESTINATION ${package_dir})
endif()

configure_package_config_file(cmake/intactConfig.cmake.in ${PROJECT_BINARY_DIR}/intactConfig.cmake
                              INSTALL_DESTINATION ${package_dir} NO_SET_AND_CHECK_MACRO
                              NO_CHECK_REQUIRED_COMPONENTS_MACRO PATH_VARS CMAKE_INSTALL_INCLUDEDIR
                              CMAKE_INSTALL_LIBDIR)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/intactConfigVersion.cmake COMPATIBILITY SameMinorVersion
                                 ARCH_INDEPENDENT)
install(FILES ${PROJECT_BINARY_DIR}/intactConfig.cmake ${PROJECT_BINARY_DIR}/intactConfigVersion.cmake
              cmake/find_xsimd.cmake cmake/intact_add_dispatch.cmake cmake/isas.cmake
        DESTINATION ${package_dir})

# pkg-config: the headers. The file may be moved with the prefix.
set(pc_dir ${CMAKE_INSTALL_DATADIR}/pkgconfig)
file(RELATIVE_PATH pc_to_prefix /prefix/${pc_dir} /prefix)
configure_file(cmake/intact.pc.in ${PROJECT_BINARY_DIR}/intact.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/intact.pc DESTINATION ${pc_dir})

# The C library, if it has been built.
if(INTACT_C)
  set(c_pc_dir ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
  file(RELATIVE_PATH c_pc_to_prefix /prefix/${c_pc_dir} /prefix)
  configure_file(cmake/intact-c.pc.in ${PROJECT_BINARY_DIR}/configured/intact-c.pc @ONLY)
  add_custom_command(
    TARGET intact_c
    POST_BUILD
    COMMAND ${CMAKE_COMMAND} -E copy_if_different ${PROJECT_BINARY_DIR}/configured/intact-c.pc
            ${PROJECT_BINARY_DIR}/intact-c.pc)
  install(FILES ${PROJECT_BINARY_DIR}/intact-c.pc DESTINATION ${c_pc_dir} OPTIONAL)
endif()
