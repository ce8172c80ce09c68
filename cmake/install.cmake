# What `cmake --install` puts where: program, library, headers, models, and how others find them.

include(CMakePackageConfigHelpers)

install(TARGETS limpid EXPORT limpid-targets
        LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
        FILE_SET HEADERS DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(TARGETS limpid_with_torch LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} NAMELINK_SKIP)
install(EXPORT limpid-targets NAMESPACE limpid::
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/limpid)
if(LIMPID_BUILD_APPS)
  install(TARGETS limpid_app RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()
install(DIRECTORY models/ DESTINATION ${CMAKE_INSTALL_DATADIR}/limpid/models
        FILES_MATCHING PATTERN "*.safetensors")
install(FILES LICENSE README.md CHANGELOG.md DESTINATION ${CMAKE_INSTALL_DOCDIR})

set(package ${CMAKE_INSTALL_LIBDIR}/cmake/limpid)
configure_package_config_file(cmake/limpid-config.cmake.in limpid-config.cmake
                              INSTALL_DESTINATION ${package})
write_basic_package_version_file(limpid-config-version.cmake COMPATIBILITY SameMajorVersion)
install(FILES ${PROJECT_BINARY_DIR}/limpid-config.cmake
              ${PROJECT_BINARY_DIR}/limpid-config-version.cmake
        DESTINATION ${package})

# pkg-config knows where the file lies (pcfiledir), so the installed tree may be moved.
file(RELATIVE_PATH to_prefix /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
configure_file(cmake/limpid.pc.in limpid.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/limpid.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
