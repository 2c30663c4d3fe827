# SPDX-License-Identifier: Apache-2.0
# Every header alone: one translation unit a header, which includes it twice and nothing else. A header that another one
# includes before anything else is alone there already, and needs no unit of its own. They are built by their test, so
# that one bad header is a failed test and not a failed build. Then two translation units that include everything,
# linked together: a definition that is not inline fails there.

file(GLOB_RECURSE headers CONFIGURE_DEPENDS RELATIVE "${PROJECT_SOURCE_DIR}/include"
     "${PROJECT_SOURCE_DIR}/include/promptkd/*.hpp")
list(FILTER headers EXCLUDE REGEX "(^|/)cuda(/.*)?\\.hpp$")  # need nvcc: compiled by cuda_compile
foreach(component xtensor jpeg_turbo mpi)
    if(NOT TARGET promptkd::${component})
        list(FILTER headers EXCLUDE REGEX "/${component}\\.hpp$")
    endif()
endforeach()

set(covered)
foreach(header IN LISTS headers)
    file(STRINGS "${PROJECT_SOURCE_DIR}/include/${header}" first REGEX "^#include" LIMIT_COUNT 1)
    if(first MATCHES "<(promptkd/.*)>")
        list(APPEND covered "${CMAKE_MATCH_1}")
    endif()
endforeach()
set(units)
foreach(header IN LISTS headers)
    if(header IN_LIST covered)
        continue()
    endif()
    string(MAKE_C_IDENTIFIER "${header}" id)
    set(unit "${CMAKE_CURRENT_BINARY_DIR}/headers/${id}.cpp")
    file(CONFIGURE OUTPUT "${unit}" CONTENT "#include <${header}>\n#include <${header}>\n" @ONLY)
    list(APPEND units "${unit}")
endforeach()
add_library(header_tests OBJECT EXCLUDE_FROM_ALL ${units})
promptkd_own(header_tests)
if(TARGET promptkd::mpi)
    target_link_libraries(header_tests PRIVATE promptkd::mpi)
endif()
target_compile_options(header_tests PRIVATE -O0 -g0)  # nothing is instantiated: this is parsing and warnings

cmake_host_system_information(RESULT cores QUERY NUMBER_OF_LOGICAL_CORES)
set(keep_going -k)
if(CMAKE_GENERATOR MATCHES "Ninja")
    set(keep_going -k 0)
endif()
add_test(NAME headers_alone COMMAND "${CMAKE_COMMAND}" --build "${PROJECT_BINARY_DIR}" --target header_tests
                                    --parallel ${cores} -- ${keep_going})
set_tests_properties(headers_alone PROPERTIES LABELS "header;exhaustive" TIMEOUT 1800 COST 200)

if(EXISTS "${PROJECT_SOURCE_DIR}/include/promptkd/promptkd.hpp")
    add_executable(two_units support/two_units_a.cpp support/two_units_b.cpp)
    promptkd_own(two_units)
    target_compile_options(two_units PRIVATE -O0 -g0)  # the link is the test
    add_test(NAME two_units COMMAND two_units)
    set_tests_properties(two_units PROPERTIES LABELS "header;exhaustive" TIMEOUT 60 FIXTURES_REQUIRED exhaustive_programs)
endif()
