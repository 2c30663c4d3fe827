# SPDX-License-Identifier: Apache-2.0
# Debian packages by `cpack -G DEB` in the build folder: libpromptkd-dev (headers, CMake and pkg-config files) and
# promptkd (the program, its manual pages and completions); with PROMPTKD_C_LIBRARY also libpromptkd-c1.

set(CPACK_PACKAGE_NAME promptkd)
set(CPACK_PACKAGE_VENDOR promptkd)
set(CPACK_PACKAGE_CONTACT "The promptkd authors <promptkd@localhost>")
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
if(NOT TARGET promptkd_compiled)  # headers are the same for every processor
    set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_ARCHITECTURE all)
endif()
set(CPACK_COMPONENT_DEVELOPMENT_DESCRIPTION
    "Headers of promptkd
 A header-only C++20 library that adapts CLIP with learnable prompts and distils the adapted teacher into a small
 student from unlabelled images.")
if(TARGET promptkd)
    list(APPEND CPACK_COMPONENTS_ALL programs)
    set(CPACK_DEBIAN_PROGRAMS_PACKAGE_NAME promptkd)
    set(CPACK_DEBIAN_PROGRAMS_PACKAGE_SHLIBDEPS ON)
    set(CPACK_COMPONENT_PROGRAMS_DESCRIPTION
        "Prompt learning and prompt-driven distillation for CLIP
 The command-line program: training of prompts, distillation, evaluation, classification, export.")
endif()
if(PROMPTKD_C_LIBRARY)
    list(APPEND CPACK_COMPONENTS_ALL c)
    set(CPACK_DEBIAN_C_PACKAGE_NAME libpromptkd-c1)
    set(CPACK_DEBIAN_C_PACKAGE_SECTION libs)
    set(CPACK_DEBIAN_C_PACKAGE_SHLIBDEPS ON)
    set(CPACK_COMPONENT_C_DESCRIPTION
        "Students of promptkd for programs in C
 The shared library of promptkd.h.")
endif()
install(FILES "${PROJECT_SOURCE_DIR}/LICENSE" DESTINATION "${CMAKE_INSTALL_DATADIR}/doc/libpromptkd-dev"
        COMPONENT development RENAME copyright)
if(TARGET promptkd)
    install(FILES "${PROJECT_SOURCE_DIR}/LICENSE" DESTINATION "${CMAKE_INSTALL_DATADIR}/doc/promptkd"
            COMPONENT programs RENAME copyright)
endif()
include(CPack)
