# SPDX-License-Identifier: Apache-2.0
# cmake -D MODE=find_package|add_subdirectory|compiled|examples -D SOURCE=… -D BUILD=… -D WORK=…
#       -D COMPILER=… -D TYPE=… -D GENERATOR=… -P consumer.cmake
# Builds and runs the README's library example, word for word, in a host project of its own; with find_package also the
# whole runs of tests/consumer/whole_runs.cpp, which must be silent. `examples`: the programs of examples/host against
# the installed package, one of which stands in the README, too.

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

# The README's second block is examples/host/classify.cpp without its first two lines.
file(READ "${SOURCE}/examples/host/classify.cpp" example)
string(FIND "${example}" "#include" begin)
string(SUBSTRING "${example}" ${begin} -1 example)
string(FIND "${readme}" "```cpp\n${example}```" found)
if(found EQUAL -1)
    message(FATAL_ERROR "README.md does not have the text of examples/host/classify.cpp")
endif()

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
if(MODE STREQUAL "examples")  # one unit: they share almost all of their code
    # In the order in which they run: the first writes the student that others read.
    set(programs custom_teacher custom_loss custom_regularizer classify threads zero_shot dense_features own_device)
    set(merged)
    set(choices)
    foreach(name IN LISTS programs)
        string(APPEND merged "#define main main_of_${name}\n#include \"${SOURCE}/examples/host/${name}.cpp\"\n#undef main\n")
        string(APPEND choices "    if (name == \"${name}\") return main_of_${name}(argc - 1, argv + 1);\n")
    endforeach()
    file(WRITE "${WORK}/host/main.cpp" "${merged}
int main(int argc, char** argv) {
    const std::string name = argc > 1 ? argv[1] : \"\";
${choices}    return 2;
}
")
endif()
if(MODE MATCHES "find_package|examples")
    if(MODE STREQUAL "find_package")
        file(COPY "${SOURCE}/tests/consumer/whole_runs.cpp" DESTINATION "${WORK}/host")
    endif()
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
if(MODE STREQUAL "examples")
    set(in "${WORK}/run/assets")
    set(pictures "${SOURCE}/tests/fixtures/images/exif_2.png" "${SOURCE}/tests/fixtures/images/exif_3.png")
    set(arguments_custom_teacher "${in}")
    set(arguments_custom_loss "${in}")
    set(arguments_custom_regularizer "${in}")
    set(arguments_classify student.safetensors ${pictures})
    set(arguments_threads student.safetensors ${pictures})
    set(arguments_zero_shot "${in}" ${pictures})
    set(arguments_own_device "${in}" ${pictures})
    set(arguments_dense_features "${in}" ${pictures})
    foreach(name IN LISTS programs)
        execute_process(COMMAND "${WORK}/build/host" ${name} ${arguments_${name}} WORKING_DIRECTORY "${in}"
                        RESULT_VARIABLE status OUTPUT_VARIABLE said ERROR_VARIABLE complained)
        if(NOT status EQUAL 0 OR said STREQUAL "" OR NOT complained STREQUAL "")
            message(FATAL_ERROR "examples/host/${name}: status ${status}, '${said}', on standard error '${complained}'")
        endif()
    endforeach()
    return()
endif()
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
