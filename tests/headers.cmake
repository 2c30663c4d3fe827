# SPDX-License-Identifier: Apache-2.0
# Every header alone: one translation unit a header that includes it twice and nothing else, syntax and warnings only
# (no code generation). Then two translation units that include everything, linked together: a definition that is not
# inline fails there.

file(GLOB_RECURSE headers CONFIGURE_DEPENDS RELATIVE "${PROJECT_SOURCE_DIR}/include"
     "${PROJECT_SOURCE_DIR}/include/promptkd/*.hpp")
list(FILTER headers EXCLUDE REGEX "(^|/)cuda[^/]*\\.hpp$")  # need nvcc: compiled by cuda_compile
foreach(component xtensor onednn)
    if(NOT TARGET promptkd::${component})
        list(FILTER headers EXCLUDE REGEX "${component}[^/]*\\.hpp$")
    endif()
endforeach()

# Only carries the flags: the commands below read its properties.
add_library(header_flags OBJECT EXCLUDE_FROM_ALL support/main.cpp)
promptkd_own(header_flags)
set(include_dirs "$<TARGET_PROPERTY:header_flags,INCLUDE_DIRECTORIES>")
set(definitions "$<TARGET_PROPERTY:header_flags,COMPILE_DEFINITIONS>")
set(options "$<TARGET_PROPERTY:header_flags,COMPILE_OPTIONS>")

set(stamps)
foreach(header IN LISTS headers)
    string(MAKE_C_IDENTIFIER "${header}" id)
    set(unit "${CMAKE_CURRENT_BINARY_DIR}/headers/${id}.cpp")
    set(stamp "${CMAKE_CURRENT_BINARY_DIR}/headers/${id}.stamp")
    file(CONFIGURE OUTPUT "${unit}" CONTENT "#include <${header}>\n#include <${header}>\n" @ONLY)
    add_custom_command(
        OUTPUT "${stamp}"
        COMMAND ${CMAKE_CXX_COMPILER} -std=c++20 -fsyntax-only
                "$<$<BOOL:${include_dirs}>:-I$<JOIN:${include_dirs},;-I>>"
                "$<$<BOOL:${definitions}>:-D$<JOIN:${definitions},;-D>>" "${options}"
                -MD -MF "${stamp}.d" -MT "${stamp}" "${unit}"
        COMMAND "${CMAKE_COMMAND}" -E touch "${stamp}"
        DEPENDS "${unit}" DEPFILE "${stamp}.d" COMMENT "Header alone: ${header}" COMMAND_EXPAND_LISTS VERBATIM)
    list(APPEND stamps "${stamp}")
endforeach()
add_custom_target(header_tests DEPENDS ${stamps})

cmake_host_system_information(RESULT cores QUERY NUMBER_OF_LOGICAL_CORES)
add_test(NAME headers_alone COMMAND "${CMAKE_COMMAND}" --build "${PROJECT_BINARY_DIR}" --target header_tests
                                    --parallel ${cores})
set_tests_properties(headers_alone PROPERTIES LABELS header TIMEOUT 900)

if(EXISTS "${PROJECT_SOURCE_DIR}/include/promptkd/promptkd.hpp")
    add_executable(two_units support/two_units_a.cpp support/two_units_b.cpp)
    promptkd_own(two_units)
    add_test(NAME two_units COMMAND two_units)
    set_tests_properties(two_units PROPERTIES LABELS header TIMEOUT 60)
endif()
