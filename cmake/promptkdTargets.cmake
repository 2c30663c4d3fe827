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
        # nvcc's host code too: Eigen's alignment follows the instruction set, so all units of a program must agree.
        target_compile_options(promptkd_core INTERFACE
                               "$<BUILD_INTERFACE:$<$<COMPILE_LANGUAGE:CXX>:-march=native>>"
                               "$<BUILD_INTERFACE:$<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-march=native>>")
    endif()
endif()

promptkd_find_component(io promptkd_io_found)
if(promptkd_io_found)
    promptkd_component(io ZLIB::ZLIB nlohmann_json::nlohmann_json promptkd_dependency::zip promptkd_dependency::utf8proc
                       promptkd_dependency::stb)
elseif(PROJECT_IS_TOP_LEVEL)
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

if(NOT PROMPTKD_ONEDNN STREQUAL "OFF")
    promptkd_find_component(onednn promptkd_onednn_found)
    if(promptkd_onednn_found)
        promptkd_component(onednn promptkd_dependency::onednn)
        target_compile_definitions(promptkd_onednn INTERFACE PROMPTKD_WITH_ONEDNN)
    elseif(PROMPTKD_ONEDNN STREQUAL "ON")
        message(FATAL_ERROR "PROMPTKD_ONEDNN=ON, but this is missing: ${promptkd_onednn_found_MISSING}")
    endif()
endif()

# AUTO: built and tested when found. Only ON makes the program decode with it, so that results do not depend on what
# happens to be installed.
if(NOT PROMPTKD_JPEG_TURBO STREQUAL "OFF")
    promptkd_find_component(jpeg_turbo promptkd_jpeg_turbo_found)
    if(promptkd_jpeg_turbo_found AND promptkd_io_found)
        promptkd_component(jpeg_turbo promptkd_io promptkd_dependency::turbojpeg)
        target_compile_definitions(promptkd_jpeg_turbo INTERFACE PROMPTKD_WITH_JPEG_TURBO)
    elseif(PROMPTKD_JPEG_TURBO STREQUAL "ON")
        message(FATAL_ERROR "PROMPTKD_JPEG_TURBO=ON, but this is missing: ${promptkd_jpeg_turbo_found_MISSING}")
    endif()
endif()

if(NOT PROMPTKD_MPI STREQUAL "OFF")
    promptkd_find_component(mpi promptkd_mpi_found)
    if(promptkd_mpi_found)
        promptkd_component(mpi MPI::MPI_CXX)
        target_compile_definitions(promptkd_mpi INTERFACE PROMPTKD_WITH_MPI)
    elseif(PROMPTKD_MPI STREQUAL "ON")
        message(FATAL_ERROR "PROMPTKD_MPI=ON, but this is missing: ${promptkd_mpi_found_MISSING}")
    else()
        message(STATUS "promptkd::mpi is off: missing ${promptkd_mpi_found_MISSING}")
    endif()
endif()

include(promptkdCuda)
