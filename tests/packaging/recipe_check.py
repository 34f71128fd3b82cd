"""Checks the vcpkg port and the Conan recipe without their tools: recipe_check.py <source folder> <version>

The port is JSON with the library's version, dependencies and features; the recipe is Python, and its options are those
of the port and of CMakeLists.txt.
"""

import ast
import json
import pathlib
import re
import sys


def violations(source, version):
    packaging = source / "cmake" / "packaging"
    port = json.loads((packaging / "vcpkg" / "vcpkg.json").read_text())
    options = set(re.findall(r"option\(INTACT_(\w+)", (source / "CMakeLists.txt").read_text()))
    if port["version"] != version:
        yield f"vcpkg.json has the version {port['version']}; it must be {version}"
    if "xsimd" not in port["dependencies"]:
        yield "vcpkg.json does not depend on xsimd"
    for feature in port["features"]:
        if feature.upper() not in options:
            yield f"vcpkg.json has the feature {feature}; CMakeLists.txt has no INTACT_{feature.upper()}"
    for name in re.findall(r"INTACT_(\w+)", (packaging / "vcpkg" / "portfile.cmake").read_text()):
        if name not in options:
            yield f"portfile.cmake has INTACT_{name}, which CMakeLists.txt has not"

    recipe = ast.parse((packaging / "conan" / "conanfile.py").read_text())
    (body,) = (node.body for node in recipe.body if isinstance(node, ast.ClassDef))
    values = {node.targets[0].id: ast.literal_eval(node.value) for node in body if isinstance(node, ast.Assign)}
    if values["name"] != port["name"] or values["license"] != port["license"]:
        yield "conanfile.py has another name or license than vcpkg.json"
    if set(values["options"]) != set(port["features"]):
        yield f"conanfile.py has the options {sorted(values['options'])}; vcpkg.json has the features {sorted(port['features'])}"


def main():
    found = list(violations(pathlib.Path(sys.argv[1]), sys.argv[2]))
    print("\n".join(found) if found else "no violation")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
