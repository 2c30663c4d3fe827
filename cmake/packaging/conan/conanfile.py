# SPDX-License-Identifier: Apache-2.0
"""Conan 2 recipe: headers and CMake package of promptkd, from the source tree that it lies in.

    conan create cmake/packaging/conan

The option `dependencies` is `conan` (the libraries come from Conan) or `system` (CMake finds those of the system).
"""
import os
import re

from conan import ConanFile
from conan.tools.build import check_min_cppstd
from conan.tools.cmake import CMake, CMakeDeps, CMakeToolchain, cmake_layout
from conan.tools.files import copy

ROOT = os.path.join("..", "..", "..")


class Promptkd(ConanFile):
    name = "promptkd"
    description = "Prompt learning and prompt-driven distillation for CLIP, as a header-only C++20 library"
    license = "Apache-2.0"
    topics = ("clip", "distillation", "prompt-learning", "header-only")
    package_type = "header-library"
    settings = "os", "arch", "compiler", "build_type"
    options = {"dependencies": ["conan", "system"]}
    default_options = {"dependencies": "conan"}
    no_copy_source = True

    def set_version(self):
        with open(os.path.join(self.recipe_folder, ROOT, "include/promptkd/core/config.hpp"), encoding="utf-8") as file:
            numbers = re.findall(r"^#define PROMPTKD_VERSION_(?:MAJOR|MINOR|PATCH) (\d+)$", file.read(), re.M)
        self.version = ".".join(numbers)

    def export_sources(self):
        for pattern in ("CMakeLists.txt", "LICENSE", "cmake/*", "include/*"):
            copy(self, pattern, os.path.join(self.recipe_folder, ROOT), self.export_sources_folder)

    def requirements(self):
        if self.options.dependencies == "system":
            return
        for reference in (
            "eigen/3.4.0",
            "libdeflate/[>=1.14 <2]",
            "libspng/[>=0.7 <1]",
            "libzip/[>=1.7 <2]",
            "nlohmann_json/[>=3.11 <4]",
            "openssl/[>=3 <4]",
            "stb/cci.20230920",
            "utf8proc/[>=2.7 <3]",
            "xxhash/[>=0.8 <1]",
            "zlib/[>=1.2.13 <2]",
        ):
            self.requires(reference)

    def validate(self):
        check_min_cppstd(self, 20)

    def layout(self):
        cmake_layout(self)

    def generate(self):
        toolchain = CMakeToolchain(self)
        toolchain.user_presets_path = False
        for name in ("BUILD_PROGRAM", "BUILD_TESTS", "BUILD_BENCH"):
            toolchain.cache_variables["PROMPTKD_" + name] = False
        toolchain.cache_variables["PROMPTKD_CUDA"] = "OFF"
        toolchain.generate()
        CMakeDeps(self).generate()

    def build(self):
        CMake(self).configure()

    def package(self):
        copy(self, "LICENSE", self.source_folder, os.path.join(self.package_folder, "licenses"))
        CMake(self).install(component="development")

    def package_id(self):
        self.info.clear()

    def package_info(self):
        # The package has its own promptkdConfig.cmake, with the components.
        self.cpp_info.set_property("cmake_find_mode", "none")
        self.cpp_info.builddirs = [os.path.join("lib", "cmake", "promptkd")]
        self.cpp_info.bindirs = []
        self.cpp_info.libdirs = []
