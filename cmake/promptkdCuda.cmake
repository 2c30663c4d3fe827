# SPDX-License-Identifier: Apache-2.0
# promptkd::cuda, when this version of the library has a CUDA backend and a CUDA compiler is there (PROMPTKD_CUDA).

if(PROMPTKD_CUDA STREQUAL "OFF")
    return()
endif()
if(NOT EXISTS "${PROJECT_SOURCE_DIR}/include/promptkd/cuda.hpp")
    if(PROMPTKD_CUDA STREQUAL "ON")
        message(WARNING "PROMPTKD_CUDA=ON has no effect: this version has no include/promptkd/cuda.hpp")
    endif()
    return()
endif()

include(CheckLanguage)
check_language(CUDA)
if(CMAKE_CUDA_COMPILER)
    # A100, H100/H200 and B200 as machine code, and the newest as PTX for what comes after. CUDA 12.8 is the first
    # toolkit that knows compute capability 10.0. Set before enable_language, which would choose its own default.
    if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
        execute_process(COMMAND ${CMAKE_CUDA_COMPILER} --version OUTPUT_VARIABLE promptkd_nvcc ERROR_QUIET)
        set(CMAKE_CUDA_ARCHITECTURES 80-real 90)
        if(promptkd_nvcc MATCHES "release ([0-9]+\\.[0-9]+)" AND NOT CMAKE_MATCH_1 VERSION_LESS 12.8)
            set(CMAKE_CUDA_ARCHITECTURES 80-real 90-real 100)
        endif()
    endif()
    enable_language(CUDA)
    promptkd_find_component(cuda promptkd_cuda_found)
else()
    set(promptkd_cuda_found FALSE)
    set(promptkd_cuda_found_MISSING "a CUDA compiler (nvcc)")
endif()

if(promptkd_cuda_found)
    promptkd_component(cuda CUDA::cudart CUDA::cublas CUDA::cublasLt)
    if("cuda_std_20" IN_LIST CMAKE_CUDA_COMPILE_FEATURES)
        target_compile_features(promptkd_cuda INTERFACE cuda_std_20)
    else()  # CMake before 3.26 does not know that nvcc has it
        target_compile_options(promptkd_cuda INTERFACE $<$<COMPILE_LANGUAGE:CUDA>:-std=c++20>)
    endif()
elseif(PROMPTKD_CUDA STREQUAL "ON")
    message(FATAL_ERROR "PROMPTKD_CUDA=ON, but this is missing: ${promptkd_cuda_found_MISSING}")
else()
    message(STATUS "promptkd::cuda is off: missing ${promptkd_cuda_found_MISSING}")
endif()
