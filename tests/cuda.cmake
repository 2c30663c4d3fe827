# SPDX-License-Identifier: Apache-2.0
# The target cuda_compile: every test that is typed over devices, and every golden case, compiled by nvcc for the Cuda
# device and linked into the programs unit_tests_cuda and golden_test_cuda; the CUDA headers alone, and all headers in one
# unit; one program of a C++ and a CUDA unit. Nothing of it is built by default. The golden cases' kernels and the CUDA
# headers are compiled for every architecture of CMAKE_CUDA_ARCHITECTURES, the programs for those of
# PROMPTKD_CUDA_TEST_ARCHITECTURES, where it is set: what nvcc thinks of a source does not depend on the architecture, and
# each one takes its time.

function(promptkd_cuda_options target)
    promptkd_own(${target})
    target_link_libraries(${target} PRIVATE test_options promptkd::cuda)
    target_compile_options(${target} PRIVATE
                           $<$<COMPILE_LANGUAGE:CUDA>:-Werror=all-warnings -Xcompiler=-Wall,-Wextra,-Wno-restrict>)
endfunction()

# Units that use Cpu too: nvcc compiles the host's side of every functor, where Eigen's functions are not __device__ ones.
set(mixed_units $<$<COMPILE_LANGUAGE:CUDA>:-diag-suppress=20011,20014>)

# A .cu file that includes `source`.
function(promptkd_cuda_copy source result)
    string(MAKE_C_IDENTIFIER "${source}" id)
    set(unit "${CMAKE_CURRENT_BINARY_DIR}/cuda/${id}.cu")
    file(CONFIGURE OUTPUT "${unit}" CONTENT "#include \"${source}\"\n" @ONLY)
    set(${result} "${unit}" PARENT_SCOPE)
endfunction()

# Only the Cuda device, without suppressed warnings.
file(GLOB cuda_sources CONFIGURE_DEPENDS cuda/*.cu)
list(FILTER cuda_sources EXCLUDE REGEX "/two_units")
file(GLOB cuda_headers CONFIGURE_DEPENDS RELATIVE "${PROJECT_SOURCE_DIR}/include"
     "${PROJECT_SOURCE_DIR}/include/promptkd/cuda.hpp" "${PROJECT_SOURCE_DIR}/include/promptkd/device/cuda.hpp"
     "${PROJECT_SOURCE_DIR}/include/promptkd/device/cuda/*.hpp")
foreach(header IN LISTS cuda_headers)
    string(MAKE_C_IDENTIFIER "${header}" id)
    set(unit "${CMAKE_CURRENT_BINARY_DIR}/cuda/${id}.cu")
    file(CONFIGURE OUTPUT "${unit}" CONTENT "#include <${header}>\n#include <${header}>\n" @ONLY)
    list(APPEND cuda_sources "${unit}")
endforeach()
if(NOT TARGET promptkd::nccl)
    list(FILTER cuda_sources EXCLUDE REGEX "nccl")
endif()
add_library(cuda_only OBJECT EXCLUDE_FROM_ALL ${cuda_sources})
promptkd_cuda_options(cuda_only)

# Every header, the CPU's included, as nvcc sees it.
set(every_header)
foreach(header IN LISTS headers cuda_headers)
    if(TARGET promptkd::nccl OR NOT header MATCHES "nccl")
        string(APPEND every_header "#include <${header}>\n")
    endif()
endforeach()
set(every_header_unit "${CMAKE_CURRENT_BINARY_DIR}/cuda/every_header.cu")
file(CONFIGURE OUTPUT "${every_header_unit}" CONTENT "${every_header}" @ONLY)
add_library(cuda_headers OBJECT EXCLUDE_FROM_ALL "${every_header_unit}")
promptkd_cuda_options(cuda_headers)
target_compile_options(cuda_headers PRIVATE ${mixed_units})
foreach(target cuda_only cuda_headers)
    foreach(component mpi nccl)
        if(TARGET promptkd::${component})
            target_link_libraries(${target} PRIVATE promptkd::${component})
        endif()
    endforeach()
endforeach()

set(typed_units)
foreach(source IN LISTS unit_sources)
    file(STRINGS "${source}" is_typed REGEX "PROMPTKD_TEST_DEVICES")
    if(is_typed)
        promptkd_cuda_copy("${source}" unit)
        list(APPEND typed_units "${unit}")
    endif()
endforeach()
add_executable(unit_tests_cuda EXCLUDE_FROM_ALL support/main.cpp ${typed_units})
promptkd_cuda_copy("${CMAKE_CURRENT_SOURCE_DIR}/golden/golden_test.cpp" golden_unit)
add_executable(golden_test_cuda EXCLUDE_FROM_ALL ${golden_unit})
add_executable(two_units_cuda EXCLUDE_FROM_ALL support/two_units_a.cpp cuda/two_units_b.cu)
foreach(target unit_tests_cuda golden_test_cuda two_units_cuda)
    promptkd_cuda_options(${target})
    target_compile_options(${target} PRIVATE ${mixed_units})
endforeach()
target_compile_options(two_units_cuda PRIVATE $<$<COMPILE_LANGUAGE:CXX>:-O0>)  # the link is the test
foreach(target cuda_headers unit_tests_cuda golden_test_cuda two_units_cuda promptkd)
    if(PROMPTKD_CUDA_TEST_ARCHITECTURES AND TARGET ${target})
        set_target_properties(${target} PROPERTIES CUDA_ARCHITECTURES "${PROMPTKD_CUDA_TEST_ARCHITECTURES}")
    endif()
endforeach()

add_custom_target(cuda_compile DEPENDS cuda_only cuda_headers unit_tests_cuda golden_test_cuda two_units_cuda)
