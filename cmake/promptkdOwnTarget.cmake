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
        foreach(component xtensor onednn jpeg_turbo)
            if(TARGET promptkd::${component})
                target_link_libraries(${target} PRIVATE promptkd::${component})
            endif()
        endforeach()
    endforeach()
endfunction()
