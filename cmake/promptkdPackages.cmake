# SPDX-License-Identifier: Apache-2.0
# Debian packages by `cpack -G DEB` in the build folder: libpromptkd-dev (headers, CMake and pkg-config files) and
# promptkd (the program, its manual pages and completions); with PROMPTKD_C_LIBRARY also libpromptkd-c1. Who gives them to
# others names himself by PROMPTKD_PACKAGE_CONTACT.

set(PROMPTKD_PACKAGE_CONTACT "The promptkd authors <promptkd@example.org>" CACHE STRING "Maintainer of the packages")

set(CPACK_PACKAGE_NAME promptkd)
set(CPACK_PACKAGE_VENDOR promptkd)
set(CPACK_PACKAGE_CONTACT "${PROMPTKD_PACKAGE_CONTACT}")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "Prompt learning and prompt-driven distillation for CLIP")
set(CPACK_RESOURCE_FILE_LICENSE "${PROJECT_SOURCE_DIR}/LICENSE")
set(CPACK_GENERATOR DEB)
set(CPACK_STRIP_FILES ON)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION science)
set(CPACK_COMPONENTS_ALL development)
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_NAME libpromptkd-dev)
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_SECTION libdevel)
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_DEPENDS
    "libeigen3-dev, libstb-dev, nlohmann-json3-dev, zlib1g-dev, libzip-dev, libspng-dev, libdeflate-dev, libssl-dev, libutf8proc-dev, libxxhash-dev")
if(NOT TARGET promptkd_compiled AND NOT PROMPTKD_C_LIBRARY)  # headers are the same for every processor
    set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_ARCHITECTURE all)
endif()
set(CPACK_COMPONENT_DEVELOPMENT_DESCRIPTION
    "The headers: a C++20 library that adapts CLIP with learnable prompts and
distils the adapted teacher into a small student from unlabelled images.")
if(TARGET promptkd)
    list(APPEND CPACK_COMPONENTS_ALL programs)
    set(CPACK_DEBIAN_PROGRAMS_PACKAGE_NAME promptkd)
    set(CPACK_DEBIAN_PROGRAMS_PACKAGE_SHLIBDEPS ON)
    set(CPACK_COMPONENT_PROGRAMS_DESCRIPTION
        "The command-line program: training of prompts, distillation, evaluation,
classification, a server, export.")
endif()
if(PROMPTKD_C_LIBRARY)
    list(APPEND CPACK_COMPONENTS_ALL c)
    set(CPACK_DEBIAN_C_PACKAGE_NAME libpromptkd-c1)
    set(CPACK_DEBIAN_C_PACKAGE_SECTION libs)
    set(CPACK_DEBIAN_C_PACKAGE_SHLIBDEPS ON)
    set(CPACK_DEBIAN_C_PACKAGE_CONTROL_EXTRA "${PROJECT_SOURCE_DIR}/cmake/packaging/c_library/shlibs"
        "${PROJECT_SOURCE_DIR}/cmake/packaging/c_library/triggers")
    set(CPACK_COMPONENT_C_DESCRIPTION
        "The shared library of promptkd.h: students for programs in C and in every
language that calls C.")
endif()

# What Debian's policy asks for beside the files: a copyright file that names the licence, a changelog. Their date is that
# of SOURCE_DATE_EPOCH where it is set.
string(TIMESTAMP promptkd_year "%Y" UTC)
string(TIMESTAMP promptkd_date "%a, %d %b %Y %H:%M:%S +0000" UTC)
set(promptkd_debian "${PROJECT_BINARY_DIR}/debian")
foreach(file copyright changelog)
    configure_file("${PROJECT_SOURCE_DIR}/cmake/packaging/${file}.in" "${promptkd_debian}/${file}" @ONLY)
endforeach()
execute_process(COMMAND gzip -9nkf "${promptkd_debian}/changelog" ERROR_QUIET)
function(promptkd_install_debian component package)
    install(FILES "${promptkd_debian}/copyright" "${promptkd_debian}/changelog.gz"
            DESTINATION "${CMAKE_INSTALL_DATADIR}/doc/${package}" COMPONENT ${component} OPTIONAL)
endfunction()
promptkd_install_debian(development libpromptkd-dev)
if(TARGET promptkd)
    promptkd_install_debian(programs promptkd)
endif()
if(PROMPTKD_C_LIBRARY)
    promptkd_install_debian(c libpromptkd-c1)
endif()
include(CPack)
