# SPDX-License-Identifier: Apache-2.0
# promptkd_own(<target>…): what every program of this repository is compiled with: warnings, as errors by default, all
# components that are there, and CLI11 for options. Private to these targets; nothing reaches a host project.

find_package(CLI11 CONFIG QUIET)
if(NOT TARGET CLI11::CLI11)
    message(FATAL_ERROR "promptkd's programs need CLI11 (Debian: libcli11-dev)")
endif()

function(promptkd_own)
    foreach(target IN LISTS ARGN)
        target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Wpedantic>
                                                 $<$<AND:$<BOOL:${PROMPTKD_WERROR}>,$<COMPILE_LANGUAGE:CXX>>:-Werror>)
        # GCC 12 warns about "text" + std::to_string(i), wrongly (GCC bug 105651).
        target_compile_options(${target} PRIVATE $<$<COMPILE_LANG_AND_ID:CXX,GNU>:-Wno-restrict>)
        set_target_properties(${target} PROPERTIES CXX_EXTENSIONS OFF)
        target_link_libraries(${target} PRIVATE promptkd::promptkd promptkd::io CLI11::CLI11)
        foreach(component xtensor jpeg_turbo webp tiff sentencepiece)
            if(TARGET promptkd::${component})
                target_link_libraries(${target} PRIVATE promptkd::${component})
            endif()
        endforeach()
    endforeach()
endfunction()

# promptkd_merge_sources(<target> <units>): the target's sources in so many compilations. Almost all of the time goes into the
# templates that every source instantiates again: the program takes a third of the time this way. -DPROMPTKD_UNITY=OFF compiles each
# source alone, for work on one of them.
function(promptkd_merge_sources target units)
    get_target_property(sources ${target} SOURCES)
    list(LENGTH sources count)
    math(EXPR batch "(${count} + ${units} - 1) / ${units}")
    set_target_properties(${target} PROPERTIES UNITY_BUILD ${PROMPTKD_UNITY} UNITY_BUILD_BATCH_SIZE ${batch})
endfunction()

# promptkd_merge_cuda_sources(<target> <units>): the same for nvcc, in files written here: CMake merges no CUDA sources before 3.29.
function(promptkd_merge_cuda_sources target units)
    get_target_property(sources ${target} SOURCES)
    if(NOT PROMPTKD_UNITY)
        set_source_files_properties(${sources} PROPERTIES LANGUAGE CUDA)
        return()
    endif()
    set(merged)
    foreach(i RANGE 1 ${units})
        set(includes_${i})
        list(APPEND merged "${CMAKE_CURRENT_BINARY_DIR}/${target}_${i}.cu")
    endforeach()
    set(i 0)
    foreach(source IN LISTS sources)
        math(EXPR i "${i} % ${units} + 1")
        string(APPEND includes_${i} "#include \"${source}\"\n")
    endforeach()
    foreach(i RANGE 1 ${units})
        file(CONFIGURE OUTPUT "${CMAKE_CURRENT_BINARY_DIR}/${target}_${i}.cu" CONTENT "${includes_${i}}" @ONLY)
    endforeach()
    set_target_properties(${target} PROPERTIES SOURCES "${merged}")
endfunction()
