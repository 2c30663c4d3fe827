# SPDX-License-Identifier: Apache-2.0
# How each component's libraries are found. Used by the build and, installed, by promptkdConfig.cmake, so that both find
# the same things in the same way. promptkd_find_component(<name> <result>) sets <result> to TRUE, or to FALSE and
# <result>_MISSING to the reason. Nothing here is fatal; the caller decides.

# Imported targets are visible in the directory that finds them only. A host project that uses add_subdirectory needs
# them one level up; promotion is an error for targets found elsewhere, hence the test for a target already present.
macro(promptkd_find_target target)
    if(NOT TARGET ${target})
        find_package(${ARGN} QUIET)
        if(TARGET ${target})
            set_target_properties(${target} PROPERTIES IMPORTED_GLOBAL TRUE)
        endif()
    endif()
endmacro()

# promptkd_find_plain(<target> <header>[;<header>…] [<library>]): for libraries without a usable CMake package (stb,
# utf8proc, libspng and libdeflate have none in Debian; that of libzip refers to programs that need not be installed).
# The folders of all headers are searched.
function(promptkd_find_plain target headers)
    if(TARGET ${target})
        return()
    endif()
    string(MAKE_C_IDENTIFIER "${target}" id)
    set(folders)
    foreach(header IN LISTS headers)
        string(MAKE_C_IDENTIFIER "${id}_${header}" found)
        find_path(${found} ${header})
        mark_as_advanced(${found})
        if(NOT ${found})
            return()
        endif()
        list(APPEND folders "${${found}}")
    endforeach()
    if(ARGC GREATER 2)
        find_library(${id}_LIBRARY ${ARGV2})
        mark_as_advanced(${id}_LIBRARY)
        if(NOT ${id}_LIBRARY)
            return()
        endif()
        add_library(${target} UNKNOWN IMPORTED GLOBAL)
        set_target_properties(${target} PROPERTIES IMPORTED_LOCATION "${${id}_LIBRARY}")
    else()
        add_library(${target} INTERFACE IMPORTED GLOBAL)
    endif()
    list(REMOVE_DUPLICATES folders)
    set_target_properties(${target} PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${folders}")
endfunction()

# cpp-httplib: by its own CMake package, else as Debian has it, a library whose pkg-config file alone names the definitions
# that it was compiled with, else its header alone.
function(promptkd_find_httplib)
    promptkd_find_target(httplib::httplib httplib CONFIG)
    if(TARGET httplib::httplib)
        add_library(promptkd_dependency::httplib INTERFACE IMPORTED GLOBAL)
        set_target_properties(promptkd_dependency::httplib PROPERTIES INTERFACE_LINK_LIBRARIES httplib::httplib)
        return()
    endif()
    promptkd_find_plain(promptkd_dependency::httplib httplib.h cpp-httplib)
    promptkd_find_plain(promptkd_dependency::httplib httplib.h)
    if(promptkd_dependency__httplib_LIBRARY)
        get_filename_component(folder "${promptkd_dependency__httplib_LIBRARY}" DIRECTORY)
        file(STRINGS "${folder}/pkgconfig/cpp-httplib.pc" flags REGEX "^Cflags:")
        string(REGEX MATCHALL "-D[A-Z_0-9]+" flags "${flags}")
        set_target_properties(promptkd_dependency::httplib PROPERTIES INTERFACE_COMPILE_OPTIONS "${flags}")
    endif()
endfunction()

macro(promptkd_find_component name result)
    set(${result} TRUE)
    set(${result}_MISSING "")
    set(promptkd_wanted_)
    if("${name}" STREQUAL "core")
        promptkd_find_target(Eigen3::Eigen Eigen3 CONFIG)
        promptkd_find_target(Threads::Threads Threads)
        set(promptkd_wanted_ "Eigen3::Eigen|Eigen 3.4 (Debian: libeigen3-dev)" "Threads::Threads|a threads library")
    elseif("${name}" MATCHES "^(io|compiled)$")
        promptkd_find_target(ZLIB::ZLIB ZLIB)
        promptkd_find_target(nlohmann_json::nlohmann_json nlohmann_json CONFIG)
        promptkd_find_plain(promptkd_dependency::zip zip.h zip)
        promptkd_find_plain(promptkd_dependency::utf8proc utf8proc.h utf8proc)
        promptkd_find_plain(promptkd_dependency::stb stb/stb_image.h)
        promptkd_find_plain(promptkd_dependency::spng spng.h spng)
        promptkd_find_plain(promptkd_dependency::deflate libdeflate.h deflate)
        promptkd_find_plain(promptkd_dependency::xxhash xxhash.h)
        # Debian keeps the configuration of OpenSSL's headers in the folder of the architecture.
        promptkd_find_plain(promptkd_dependency::crypto "openssl/evp.h;openssl/opensslconf.h" crypto)
        set(promptkd_wanted_ "ZLIB::ZLIB|zlib (Debian: zlib1g-dev)"
            "nlohmann_json::nlohmann_json|nlohmann-json (Debian: nlohmann-json3-dev)"
            "promptkd_dependency::zip|libzip (Debian: libzip-dev)"
            "promptkd_dependency::utf8proc|utf8proc (Debian: libutf8proc-dev)"
            "promptkd_dependency::stb|stb_image (Debian: libstb-dev)"
            "promptkd_dependency::spng|libspng (Debian: libspng-dev)"
            "promptkd_dependency::deflate|libdeflate (Debian: libdeflate-dev)"
            "promptkd_dependency::xxhash|xxHash (Debian: libxxhash-dev)"
            "promptkd_dependency::crypto|OpenSSL's libcrypto (Debian: libssl-dev)")
    elseif("${name}" STREQUAL "xtensor")
        promptkd_find_target(xtl xtl CONFIG)
        promptkd_find_target(xtensor xtensor CONFIG)
        set(promptkd_wanted_ "xtensor|xtensor (Debian: libxtensor-dev)")
    elseif("${name}" STREQUAL "jpeg_turbo")
        promptkd_find_plain(promptkd_dependency::turbojpeg turbojpeg.h turbojpeg)
        set(promptkd_wanted_ "promptkd_dependency::turbojpeg|libjpeg-turbo (Debian: libturbojpeg0-dev)")
    elseif("${name}" STREQUAL "webp")
        promptkd_find_plain(promptkd_dependency::webp webp/decode.h webp)
        promptkd_find_plain(promptkd_dependency::webpdemux webp/demux.h webpdemux)
        set(promptkd_wanted_ "promptkd_dependency::webp|libwebp (Debian: libwebp-dev)"
            "promptkd_dependency::webpdemux|libwebpdemux (Debian: libwebp-dev)")
    elseif("${name}" STREQUAL "tiff")
        promptkd_find_plain(promptkd_dependency::tiff tiffio.h tiff)
        set(promptkd_wanted_ "promptkd_dependency::tiff|libtiff 4.5 or newer (Debian: libtiff-dev)")
    elseif("${name}" STREQUAL "sentencepiece")
        promptkd_find_plain(promptkd_dependency::sentencepiece sentencepiece_processor.h sentencepiece)
        set(promptkd_wanted_ "promptkd_dependency::sentencepiece|SentencePiece (Debian: libsentencepiece-dev)")
    elseif("${name}" STREQUAL "http")
        promptkd_find_httplib()
        set(promptkd_wanted_ "promptkd_dependency::httplib|cpp-httplib (Debian: libcpp-httplib-dev)")
    elseif("${name}" STREQUAL "mpi")
        set(MPI_CXX_SKIP_MPICXX TRUE)  # the C interface is enough
        find_package(MPI QUIET COMPONENTS CXX)
        # FindMPI makes its target where there is no MPI, too.
        if(MPI_CXX_FOUND AND NOT TARGET promptkd_dependency::mpi)
            add_library(promptkd_dependency::mpi INTERFACE IMPORTED GLOBAL)
            set_target_properties(MPI::MPI_CXX PROPERTIES IMPORTED_GLOBAL TRUE)
            target_link_libraries(promptkd_dependency::mpi INTERFACE MPI::MPI_CXX)
        endif()
        set(promptkd_wanted_ "promptkd_dependency::mpi|MPI (Debian: libopenmpi-dev, openmpi-bin)")
    elseif("${name}" STREQUAL "nccl")
        promptkd_find_plain(promptkd_dependency::nccl nccl.h nccl)
        set(promptkd_wanted_ "promptkd_dependency::nccl|NCCL")
    elseif("${name}" STREQUAL "cuda")
        promptkd_find_target(CUDA::cublas CUDAToolkit)
        set(promptkd_wanted_ "CUDA::cublas|the CUDA toolkit with cuBLAS")
    else()
        set(${result} FALSE)
        set(${result}_MISSING "a component named '${name}'")
    endif()
    foreach(promptkd_pair_ IN LISTS promptkd_wanted_)
        string(REGEX REPLACE "\\|.*" "" promptkd_target_ "${promptkd_pair_}")
        if(NOT TARGET ${promptkd_target_})
            set(${result} FALSE)
            string(REGEX REPLACE ".*\\|" "" promptkd_reason_ "${promptkd_pair_}")
            string(APPEND ${result}_MISSING "${promptkd_reason_}; ")
        endif()
    endforeach()
    if("${name}" STREQUAL "tiff" AND ${result})  # what reports errors to one file's reader is new in 4.5
        get_target_property(promptkd_folders_ promptkd_dependency::tiff INTERFACE_INCLUDE_DIRECTORIES)
        set(promptkd_new_tiff_ "")
        foreach(promptkd_folder_ IN LISTS promptkd_folders_)
            file(STRINGS "${promptkd_folder_}/tiffio.h" promptkd_new_tiff_ REGEX "TIFFOpenOptionsAlloc")
        endforeach()
        if(NOT promptkd_new_tiff_)
            set(${result} FALSE)
            set(${result}_MISSING "libtiff 4.5 or newer")
        endif()
    endif()
    if("${name}" STREQUAL "core" AND ${result} AND Eigen3_VERSION AND Eigen3_VERSION VERSION_LESS 3.4)
        set(${result} FALSE)
        set(${result}_MISSING "Eigen 3.4 or newer (found ${Eigen3_VERSION})")
    endif()
endmacro()

# promptkd_warn_instruction_set(<headers>): says it when a host project compiles for any processor of its kind, and its compiler
# or its flags leave no choice of kernels at run time.
function(promptkd_warn_instruction_set headers)
    if(NOT CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$" OR PROMPTKD_NATIVE OR PROMPTKD_ANY_PROCESSOR)
        return()
    endif()
    include(CheckCXXSourceCompiles)
    set(CMAKE_REQUIRED_INCLUDES "${headers}")
    set(CMAKE_REQUIRED_FLAGS "-std=c++20")
    check_cxx_source_compiles("
#include <promptkd/device/cpu/instruction_sets.hpp>
#if !defined(PROMPTKD_DISPATCH) && (!defined(__AVX2__) || !defined(__FMA__))
#error any processor
#endif
int main() {}" PROMPTKD_HOST_HAS_AVX2)
    if(NOT PROMPTKD_HOST_HAS_AVX2)
        message(WARNING "promptkd is compiled for every x86-64 processor without a choice of kernels at run time, which "
                        "makes it many times as slow. Compile with g++ or clang and without PROMPTKD_NO_DISPATCH, or add "
                        "-march=native or -march=x86-64-v3 to CMAKE_CXX_FLAGS, the same for all units of the "
                        "program, or set PROMPTKD_ANY_PROCESSOR=ON where this is meant.")
    endif()
endfunction()
