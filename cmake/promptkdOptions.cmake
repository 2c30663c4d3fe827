# SPDX-License-Identifier: Apache-2.0
# Every option of the build. Nothing here changes a flag of a host project.

if(PROJECT_IS_TOP_LEVEL AND NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
    set(CMAKE_BUILD_TYPE Release CACHE STRING "Debug, Release, RelWithDebInfo or MinSizeRel" FORCE)
endif()

# A host project chooses its own instruction set: objects built with and without -march=native must not be mixed,
# because Eigen's alignment follows it.
option(PROMPTKD_NATIVE "Use the instruction set of this machine (build tree only, never installed)"
       ${PROJECT_IS_TOP_LEVEL})

# A host project asks for a CUDA compiler itself: to look for one would change its languages.
set(promptkd_default_cuda OFF)
if(PROJECT_IS_TOP_LEVEL)
    set(promptkd_default_cuda AUTO)
endif()
set(PROMPTKD_CUDA ${promptkd_default_cuda} CACHE STRING
    "CUDA backend: ON (required), OFF, or AUTO (when a CUDA compiler is found)")
set(PROMPTKD_JPEG_TURBO AUTO CACHE STRING
    "libjpeg-turbo: ON (required; the program decodes JPEG with it), OFF, or AUTO (a component when found; the program uses stb_image)")
set(PROMPTKD_WEBP AUTO CACHE STRING "WebP images by libwebp: ON (required), OFF, or AUTO (when found)")
set(PROMPTKD_TIFF AUTO CACHE STRING "TIFF images by libtiff: ON (required), OFF, or AUTO (when found)")
set(PROMPTKD_SENTENCEPIECE AUTO CACHE STRING "SigLIP's texts by SentencePiece: ON (required), OFF, or AUTO (when found)")
set(PROMPTKD_HTTP AUTO CACHE STRING "classify --serve by cpp-httplib: ON (required), OFF, or AUTO (when found)")
set(PROMPTKD_MPI AUTO CACHE STRING "data parallel over MPI: ON (required), OFF, or AUTO (when found)")
foreach(option PROMPTKD_CUDA PROMPTKD_JPEG_TURBO PROMPTKD_WEBP PROMPTKD_TIFF PROMPTKD_SENTENCEPIECE PROMPTKD_HTTP
        PROMPTKD_MPI)
    set_property(CACHE ${option} PROPERTY STRINGS ON OFF AUTO)
    if(NOT "${${option}}" MATCHES "^(ON|OFF|AUTO)$")
        message(FATAL_ERROR "${option}=${${option}}: expected ON, OFF or AUTO")
    endif()
endforeach()

option(PROMPTKD_COMPILED "promptkd::compiled: the templates for Cpu<float>, compiled once" OFF)
option(PROMPTKD_C_LIBRARY "promptkd_c: a shared library with the C interface of promptkd.h, built and installed" OFF)

option(PROMPTKD_BUILD_PROGRAM "Build the program promptkd and the examples" ${PROJECT_IS_TOP_LEVEL})
option(PROMPTKD_INSTALL "Rules for cmake --install, and packages of them" ${PROJECT_IS_TOP_LEVEL})

if(PROJECT_IS_TOP_LEVEL)
    option(PROMPTKD_BUILD_TESTS "Build the tests" ON)
    option(PROMPTKD_BUILD_BENCH "Build the benchmarks" ON)
    option(PROMPTKD_TEST_FAULTS "Test every command with every failing system call (long), not with some" OFF)
    option(PROMPTKD_FUZZ "Build tests/fuzz with libFuzzer and sanitizers (clang)" OFF)
    option(PROMPTKD_UNITY "Compile the sources of a program together" ON)
    option(PROMPTKD_WERROR "Treat warnings in promptkd's own programs as errors" ON)
    set(PROMPTKD_VOCAB_FILE "${PROJECT_SOURCE_DIR}/build/vocab/bpe_simple_vocab_16e6.txt.gz" CACHE FILEPATH
        "OpenAI's BPE merges, for the tests (tests/run.sh fetches them)")
endif()

# Whether anything is compiled that needs the libraries of programs: headers alone are installed without them.
set(PROMPTKD_OWN_PROGRAMS FALSE)
if(PROMPTKD_BUILD_PROGRAM OR PROMPTKD_BUILD_TESTS OR PROMPTKD_BUILD_BENCH)
    set(PROMPTKD_OWN_PROGRAMS TRUE)
endif()
if(PROMPTKD_BUILD_TESTS AND NOT PROMPTKD_BUILD_PROGRAM)
    message(STATUS "PROMPTKD_BUILD_PROGRAM=OFF: the tests that drive the program are left out")
endif()
