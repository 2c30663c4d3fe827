# SPDX-License-Identifier: Apache-2.0
# Installation: the headers, one export file a component, and the package files for find_package(promptkd).

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
    install(TARGETS promptkd_c LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}" COMPONENT c)
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
