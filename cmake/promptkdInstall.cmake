# SPDX-License-Identifier: Apache-2.0
# Installation: the headers, one export file a component, the package files for find_package(promptkd) and pkg-config;
# the program with its manual pages and completions; packages of all that (cpack).

include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
set(promptkd_package_dir "${CMAKE_INSTALL_LIBDIR}/cmake/promptkd")

install(DIRECTORY "${PROJECT_SOURCE_DIR}/include/promptkd" DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}"
        COMPONENT development FILES_MATCHING PATTERN "*.hpp" PATTERN "*.h")

get_property(promptkd_components GLOBAL PROPERTY promptkd_components)
foreach(component core ${promptkd_components})
    install(TARGETS promptkd_${component} EXPORT promptkd_${component} COMPONENT development)
    install(EXPORT promptkd_${component} NAMESPACE promptkd:: DESTINATION "${promptkd_package_dir}"
            COMPONENT development)
endforeach()

# For programs in C: the header is among the others.
if(PROMPTKD_C_LIBRARY)
    install(TARGETS promptkd_c LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}" COMPONENT c
            NAMELINK_COMPONENT development)
endif()

# The program, its manual pages (made of --help) and completions for shells.
if(TARGET promptkd)
    install(TARGETS promptkd RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}" COMPONENT programs)
    set(promptkd_man "${PROJECT_BINARY_DIR}/man")
    add_custom_command(OUTPUT "${promptkd_man}/promptkd.1.gz"
                       COMMAND sh "${PROJECT_SOURCE_DIR}/cmake/packaging/man_pages.sh" $<TARGET_FILE:promptkd>
                               "${promptkd_man}" "${PROJECT_VERSION}"
                       COMMAND sh -c "gzip -9nf \"$0\"/*.1" "${promptkd_man}"
                       DEPENDS promptkd "${PROJECT_SOURCE_DIR}/cmake/packaging/man_pages.sh" VERBATIM)
    add_custom_target(promptkd_man ALL DEPENDS "${promptkd_man}/promptkd.1.gz")
    install(DIRECTORY "${promptkd_man}/" DESTINATION "${CMAKE_INSTALL_MANDIR}/man1" COMPONENT programs
            FILES_MATCHING PATTERN "*.1.gz")
    install(FILES "${PROJECT_SOURCE_DIR}/cmake/packaging/promptkd.bash" RENAME promptkd
            DESTINATION "${CMAKE_INSTALL_DATADIR}/bash-completion/completions" COMPONENT programs)
    install(FILES "${PROJECT_SOURCE_DIR}/cmake/packaging/promptkd.zsh" RENAME _promptkd
            DESTINATION "${CMAKE_INSTALL_DATADIR}/zsh/vendor-completions" COMPONENT programs)
endif()

configure_package_config_file("${PROJECT_SOURCE_DIR}/cmake/promptkdConfig.cmake.in"
                              "${PROJECT_BINARY_DIR}/promptkdConfig.cmake"
                              INSTALL_DESTINATION "${promptkd_package_dir}")
set(promptkd_any_architecture ARCH_INDEPENDENT)
if(TARGET promptkd_compiled)
    set(promptkd_any_architecture)
endif()
write_basic_package_version_file("${PROJECT_BINARY_DIR}/promptkdConfigVersion.cmake" COMPATIBILITY SameMinorVersion
                                 ${promptkd_any_architecture})
install(FILES "${PROJECT_BINARY_DIR}/promptkdConfig.cmake" "${PROJECT_BINARY_DIR}/promptkdConfigVersion.cmake"
              "${PROJECT_SOURCE_DIR}/cmake/promptkdDependencies.cmake"
        DESTINATION "${promptkd_package_dir}" COMPONENT development)

configure_file("${PROJECT_SOURCE_DIR}/cmake/packaging/promptkd.pc.in" "${PROJECT_BINARY_DIR}/promptkd.pc" @ONLY)
install(FILES "${PROJECT_BINARY_DIR}/promptkd.pc" DESTINATION "${CMAKE_INSTALL_DATADIR}/pkgconfig"
        COMPONENT development)
if(PROJECT_IS_TOP_LEVEL)
    include(promptkdPackages)
endif()
