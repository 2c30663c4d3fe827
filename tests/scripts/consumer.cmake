# SPDX-License-Identifier: Apache-2.0
# cmake -D MODE=find_package|add_subdirectory|compiled -D SOURCE=… -D BUILD=… -D WORK=…
#       -D COMPILER=… -D TYPE=… -D GENERATOR=… -P consumer.cmake
# Builds and runs the README's library example, word for word, in a host project of its own; with find_package also the
# whole runs of tests/consumer/whole_runs.cpp, which must be silent.

# The first ```cpp block after the heading. Split on the fences by hand: a CMake list would lose the semicolons.
file(READ "${SOURCE}/README.md" readme)
string(FIND "${readme}" "\n## Use the library" heading)
if(heading EQUAL -1)
    message(FATAL_ERROR "README.md has no heading '## Use the library'")
endif()
string(SUBSTRING "${readme}" ${heading} -1 section)
string(FIND "${section}" "\n```cpp\n" begin)
if(begin EQUAL -1)
    message(FATAL_ERROR "README.md has no ```cpp block after '## Use the library'")
endif()
math(EXPR begin "${begin} + 8")
string(SUBSTRING "${section}" ${begin} -1 code)
string(FIND "${code}" "\n```" end)
if(end EQUAL -1)
    message(FATAL_ERROR "README.md: the ```cpp block after '## Use the library' has no end")
endif()
string(SUBSTRING "${code}" 0 ${end} code)

function(step)
    execute_process(COMMAND ${ARGN} RESULT_VARIABLE status)
    if(NOT status EQUAL 0)
        list(JOIN ARGN " " command)
        message(FATAL_ERROR "consumer (${MODE}): failed (${status}): ${command}")
    endif()
endfunction()

file(REMOVE_RECURSE "${WORK}")
file(COPY "${SOURCE}/tests/consumer/CMakeLists.txt" DESTINATION "${WORK}/host")
file(WRITE "${WORK}/host/main.cpp" "${code}\n")
if(MODE STREQUAL "find_package")
    file(COPY "${SOURCE}/tests/consumer/whole_runs.cpp" DESTINATION "${WORK}/host")
    step("${CMAKE_COMMAND}" --install "${BUILD}" --prefix "${WORK}/prefix" --component development)
    set(how "-DCMAKE_PREFIX_PATH=${WORK}/prefix")
else()
    set(how "-DPROMPTKD_SOURCE=${SOURCE}")
endif()
if(MODE STREQUAL "compiled")  # add_subdirectory, and the templates in a library of their own
    list(APPEND how "-DPROMPTKD_COMPILED=ON")
endif()
step("${CMAKE_COMMAND}" -G "${GENERATOR}" -S "${WORK}/host" -B "${WORK}/build" "-DCMAKE_CXX_COMPILER=${COMPILER}"
     "-DCMAKE_BUILD_TYPE=${TYPE}" "-DCMAKE_CXX_FLAGS_RELEASE=-O1 -DNDEBUG" ${how})  # runs for seconds: compiles sooner
step("${CMAKE_COMMAND}" --build "${WORK}/build")
file(COPY "${SOURCE}/examples/assets" DESTINATION "${WORK}/run")
execute_process(COMMAND "${WORK}/build/host" WORKING_DIRECTORY "${WORK}/run/assets" RESULT_VARIABLE status)
if(NOT status EQUAL 0)
    message(FATAL_ERROR "consumer (${MODE}): the README's example ended with ${status}")
endif()
if(MODE STREQUAL "find_package")
    file(MAKE_DIRECTORY "${WORK}/run/whole")
    execute_process(COMMAND "${WORK}/build/whole_runs" "${SOURCE}/examples/assets" WORKING_DIRECTORY "${WORK}/run/whole"
                    RESULT_VARIABLE status ERROR_VARIABLE said)
    if(NOT status EQUAL 0 OR NOT said STREQUAL "")
        message(FATAL_ERROR "consumer (${MODE}): whole_runs ended with ${status}; on standard error: '${said}'")
    endif()
endif()
