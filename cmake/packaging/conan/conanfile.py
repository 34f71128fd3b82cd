"""A recipe for the source that it is part of: conan create cmake/packaging/conan"""

import os
import re

from conan import ConanFile
from conan.tools.cmake import CMake, CMakeDeps, CMakeToolchain
from conan.tools.files import copy, load


class IntactConan(ConanFile):
    name = "intact"
    description = "Integer-arithmetic kernels for quantized vision transformers"
    license = "Apache-2.0"
    package_type = "header-library"
    settings = "os", "arch", "compiler", "build_type"
    options = {"io": [True, False], "quantize": [True, False]}
    default_options = {"io": False, "quantize": False}
    no_copy_source = True

    @property
    def _source(self):
        return os.path.join(self.recipe_folder, "..", "..", "..")

    def set_version(self):
        header = load(self, os.path.join(self._source, "include", "intact", "config", "version.hpp"))
        self.version = ".".join(re.search(rf"{part} (\d+)", header).group(1) for part in ("MAJOR", "MINOR", "PATCH"))

    def export_sources(self):
        for pattern in ("CMakeLists.txt", "LICENSE", "cmake/*", "include/*"):
            copy(self, pattern, self._source, self.export_sources_folder)

    def requirements(self):
        self.requires("xsimd/[>=8.1]", transitive_headers=True)
        if self.options.io or self.options.quantize:
            self.requires("nlohmann_json/[>=3.11]", transitive_headers=True)
        if self.options.quantize:
            self.requires("eigen/[>=3.4]", transitive_headers=True)

    def generate(self):
        toolchain = CMakeToolchain(self)
        toolchain.variables["INTACT_IO"] = bool(self.options.io or self.options.quantize)
        toolchain.variables["INTACT_QUANTIZE"] = bool(self.options.quantize)
        toolchain.variables["INTACT_BUILD_TESTS"] = False
        toolchain.variables["INTACT_BUILD_EXAMPLES"] = False
        toolchain.variables["INTACT_C"] = False
        xsimd = self.dependencies["xsimd"].cpp_info.includedirs[0]
        toolchain.variables["INTACT_XSIMD_INCLUDE_DIR"] = xsimd
        toolchain.generate()
        CMakeDeps(self).generate()

    def build(self):
        CMake(self).configure()

    def package(self):
        CMake(self).install()
        copy(self, "LICENSE", self.source_folder, os.path.join(self.package_folder, "licenses"))

    def package_id(self):
        self.info.settings.clear()

    def package_info(self):
        # Projects use the package's own files, with their components.
        self.cpp_info.set_property("cmake_find_mode", "none")
        self.cpp_info.builddirs = [os.path.join("share", "cmake", "intact")]
