# SPDX-License-Identifier: Apache-2.0
# An overlay port of the source tree that it lies in: vcpkg install promptkd --overlay-ports=cmake/packaging/vcpkg
get_filename_component(SOURCE_PATH "${CMAKE_CURRENT_LIST_DIR}/../../../.." ABSOLUTE)

vcpkg_cmake_configure(SOURCE_PATH "${SOURCE_PATH}"
                      OPTIONS -DPROMPTKD_BUILD_PROGRAM=OFF -DPROMPTKD_BUILD_TESTS=OFF -DPROMPTKD_BUILD_BENCH=OFF
                              -DPROMPTKD_INSTALL=ON -DPROMPTKD_CUDA=OFF -DPROMPTKD_MPI=OFF)
vcpkg_cmake_install()
vcpkg_cmake_config_fixup(CONFIG_PATH lib/cmake/promptkd)
file(REMOVE_RECURSE "${CURRENT_PACKAGES_DIR}/debug" "${CURRENT_PACKAGES_DIR}/lib")
file(INSTALL "${CMAKE_CURRENT_LIST_DIR}/usage" DESTINATION "${CURRENT_PACKAGES_DIR}/share/${PORT}")
vcpkg_install_copyright(FILE_LIST "${SOURCE_PATH}/LICENSE")
