# SPDX-License-Identifier: Apache-2.0
# The interface targets. promptkd::promptkd needs Eigen and threads only; every other library sits behind a component.

# promptkd_component(<name> <description>): defines promptkd::<name> on top of promptkd::promptkd.
function(promptkd_component name)
    add_library(promptkd_${name} INTERFACE)
    add_library(promptkd::${name} ALIAS promptkd_${name})
    set_target_properties(promptkd_${name} PROPERTIES EXPORT_NAME ${name})
    target_link_libraries(promptkd_${name} INTERFACE promptkd_core ${ARGN})
    set_property(GLOBAL APPEND PROPERTY promptkd_components ${name})
endfunction()

# The library's own name is kept for the program: `cmake --build … --target promptkd`.
promptkd_find_component(core promptkd_core_found)
if(NOT promptkd_core_found)
    message(FATAL_ERROR "promptkd needs ${promptkd_core_found_MISSING}")
endif()
add_library(promptkd_core INTERFACE)
add_library(promptkd::promptkd ALIAS promptkd_core)
set_target_properties(promptkd_core PROPERTIES EXPORT_NAME promptkd)
target_compile_features(promptkd_core INTERFACE cxx_std_20)
target_include_directories(promptkd_core INTERFACE "$<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>"
                                                   "$<INSTALL_INTERFACE:include>")
target_link_libraries(promptkd_core INTERFACE Eigen3::Eigen Threads::Threads)

if(PROMPTKD_NATIVE)
    include(CheckCXXCompilerFlag)
    check_cxx_compiler_flag(-march=native PROMPTKD_HAS_MARCH_NATIVE)
    if(PROMPTKD_HAS_MARCH_NATIVE)
        # nvcc's host code too: Eigen's alignment follows the instruction set, so all units of a program must agree. A
        # target with the property PROMPTKD_PORTABLE is compiled for every processor of its kind.
        set(promptkd_portable $<BOOL:$<TARGET_PROPERTY:PROMPTKD_PORTABLE>>)
        target_compile_options(promptkd_core INTERFACE
                               "$<BUILD_INTERFACE:$<$<AND:$<COMPILE_LANGUAGE:CXX>,$<NOT:${promptkd_portable}>>:-march=native>>"
                               "$<BUILD_INTERFACE:$<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-march=native>>")
    endif()
endif()

promptkd_find_component(io promptkd_io_found)
if(promptkd_io_found)
    promptkd_component(io ZLIB::ZLIB nlohmann_json::nlohmann_json promptkd_dependency::zip promptkd_dependency::utf8proc
                       promptkd_dependency::stb promptkd_dependency::spng promptkd_dependency::deflate
                       promptkd_dependency::xxhash promptkd_dependency::crypto)
elseif(PROMPTKD_OWN_PROGRAMS)
    message(FATAL_ERROR "promptkd's programs need ${promptkd_io_found_MISSING}")
else()
    message(STATUS "promptkd::io is off: missing ${promptkd_io_found_MISSING}")
endif()

promptkd_find_component(xtensor promptkd_xtensor_found)
if(promptkd_xtensor_found)
    promptkd_component(xtensor xtensor)
else()
    message(STATUS "promptkd::xtensor is off: missing ${promptkd_xtensor_found_MISSING}")
endif()

# promptkd_optional_component(<name> <library>…): the component that the option PROMPTKD_<NAME> (ON, OFF, AUTO) asks for; its users
# see the definition PROMPTKD_WITH_<NAME>.
function(promptkd_optional_component name)
    string(TOUPPER "${name}" upper)
    if(PROMPTKD_${upper} STREQUAL "OFF")
        return()
    endif()
    promptkd_find_component(${name} found)
    if(found)
        promptkd_component(${name} ${ARGN})
        target_compile_definitions(promptkd_${name} INTERFACE PROMPTKD_WITH_${upper})
    elseif(PROMPTKD_${upper} STREQUAL "ON")
        message(FATAL_ERROR "PROMPTKD_${upper}=ON, but this is missing: ${found_MISSING}")
    else()
        message(STATUS "promptkd::${name} is off: missing ${found_MISSING}")
    endif()
endfunction()

promptkd_optional_component(mpi promptkd_dependency::mpi)
# AUTO: built and tested when found. Only ON makes the program decode with it, so that results do not depend on what
# happens to be installed.
if(promptkd_io_found)
    promptkd_optional_component(jpeg_turbo promptkd_io promptkd_dependency::turbojpeg)
    # Further kinds of images: a file of a kind that is not compiled in is refused by name.
    promptkd_optional_component(webp promptkd_io promptkd_dependency::webpdemux promptkd_dependency::webp)
    promptkd_optional_component(tiff promptkd_io promptkd_dependency::tiff)
    # The tokenizer of SigLIP models: without it such a file is refused by name.
    promptkd_optional_component(sentencepiece promptkd_io promptkd_dependency::sentencepiece)
elseif(PROMPTKD_JPEG_TURBO STREQUAL "ON")
    message(FATAL_ERROR "PROMPTKD_JPEG_TURBO=ON, but this is missing: ${promptkd_io_found_MISSING}")
endif()

include(promptkdCuda)

# The templates for Cpu<float>, compiled once. Its users see the definition PROMPTKD_COMPILED (device/compiled.hpp).
# Host and library must be compiled for the same instruction sets, or they do not link: an installed one, too, says
# which it was compiled for.
if(PROMPTKD_COMPILED)
    if(NOT promptkd_io_found)
        message(FATAL_ERROR "PROMPTKD_COMPILED=ON, but this is missing: ${promptkd_io_found_MISSING}")
    endif()
    set(promptkd_compiled_folder "${PROJECT_SOURCE_DIR}/cmake/compiled")
    add_library(promptkd_compiled STATIC "${promptkd_compiled_folder}/encoders.cpp"
                "${promptkd_compiled_folder}/students.cpp" "${promptkd_compiled_folder}/learners.cpp"
                "${promptkd_compiled_folder}/runs.cpp")
    add_library(promptkd::compiled ALIAS promptkd_compiled)
    set_target_properties(promptkd_compiled PROPERTIES EXPORT_NAME compiled POSITION_INDEPENDENT_CODE ON)
    target_link_libraries(promptkd_compiled PUBLIC promptkd_core promptkd_io)
    foreach(kind webp tiff sentencepiece)  # what is in it reads images and texts as its users do
        if(TARGET promptkd_${kind})
            target_link_libraries(promptkd_compiled PUBLIC promptkd_${kind})
        endif()
    endforeach()
    target_compile_definitions(promptkd_compiled PUBLIC PROMPTKD_COMPILED)
    if(PROMPTKD_NATIVE AND PROMPTKD_HAS_MARCH_NATIVE)
        target_compile_options(promptkd_compiled
                               INTERFACE "$<INSTALL_INTERFACE:$<$<COMPILE_LANGUAGE:CXX>:-march=native>>")
    endif()
    set_property(GLOBAL APPEND PROPERTY promptkd_components compiled)
endif()

# The C interface (promptkd.h) as a shared library that shows nothing else. Tests build it when they need it.
if(PROMPTKD_C_LIBRARY OR PROMPTKD_BUILD_TESTS)
    if(NOT promptkd_io_found)
        message(FATAL_ERROR "PROMPTKD_C_LIBRARY=ON, but this is missing: ${promptkd_io_found_MISSING}")
    endif()
    set(promptkd_c_map "${PROJECT_SOURCE_DIR}/cmake/compiled/c_interface.map")
    add_library(promptkd_c SHARED "${PROJECT_SOURCE_DIR}/cmake/compiled/c_interface.cpp")
    add_library(promptkd::c ALIAS promptkd_c)
    set_target_properties(promptkd_c PROPERTIES VERSION 1.0 SOVERSION 1 EXPORT_NAME c CXX_VISIBILITY_PRESET hidden
                          VISIBILITY_INLINES_HIDDEN ON LINK_DEPENDS "${promptkd_c_map}"
                          LIBRARY_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}")
    target_link_libraries(promptkd_c PRIVATE promptkd_core promptkd_io)
    target_include_directories(promptkd_c INTERFACE "$<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>"
                                                    "$<INSTALL_INTERFACE:include>")
    foreach(kind webp tiff)
        if(TARGET promptkd_${kind})
            target_link_libraries(promptkd_c PRIVATE promptkd_${kind})
        endif()
    endforeach()
    target_link_options(promptkd_c PRIVATE "LINKER:--version-script=${promptkd_c_map}" LINKER:--no-undefined)
    if(NOT PROMPTKD_C_LIBRARY)
        set_target_properties(promptkd_c PROPERTIES EXCLUDE_FROM_ALL ON)
    endif()
endif()
