"""Checks the namespaces of the headers.

  namespace_check.py ctags <include folder>
      ctags, and so editors that understand as much of C++, find every class, enumeration, constant and concept that
      begins a line, and in a header of an operation, such as intact/gemm.hpp, a function of its name.

  namespace_check.py parameters <include folder>
      No public function has more than six parameters: none outside kernel/, simd/ and the namespaces detail.

  namespace_check.py crossing <include folder> <source>
      The source names every type of INTACT_ABI, the namespace of types that cross translation units.

Every violation is a line. Needs nothing but the standard library.
"""

import pathlib
import re
import shutil
import subprocess
import sys

MOST_PARAMETERS = 6
CONSTANT = re.compile(r"^(?:inline |static )?constexpr (?:inline )?[\w:<>, ]+? (\w+)(?:\[\w*\])?(?: = |\{)", re.MULTILINE)
CONCEPT = re.compile(r"^concept (\w+)", re.MULTILINE)
# How ctags is told of concepts, which it does not know. It reads this file if it runs in the project's folder.
CONCEPTS = pathlib.Path(__file__).resolve().parents[2] / ".ctags.d" / "concepts.ctags"
TYPE = re.compile(r"^(?:struct|class|enum class) (\w+)(?: [{:]|<)", re.MULTILINE)
CROSSING = re.compile(r"^inline namespace INTACT_ABI \{\n(.*?)^\}  // namespace INTACT_ABI", re.MULTILINE | re.DOTALL)


def ctags(headers):
    for header in headers:
        command = ["ctags", "--options=NONE", f"--options={CONCEPTS}", "-f", "-", header]
        tags = subprocess.run(command, check=True, capture_output=True, text=True)
        found = {line.partition("\t")[0] for line in tags.stdout.splitlines()}
        text = header.read_text()
        expected = {name for pattern in (TYPE, CONSTANT, CONCEPT) for name in pattern.findall(text)}
        if header.parent.name == "intact" and header.stem not in ("intact", "pack", "windows"):
            expected.add(header.stem)
        yield from ((name, None if name in found else f"{header}: {name} is not found") for name in sorted(expected))


def parameter_count(signature):
    """Of a signature such as "(int a, std::pair<A, B> b)"."""
    inside = signature[1:signature.rindex(")")].strip()
    depth = 0
    count = 1 if inside else 0
    for i, letter in enumerate(inside):
        if letter in "(<[{":
            depth += 1
        elif letter in ")]}" or (letter == ">" and inside[i - 1] != "-"):
            depth -= 1
        elif letter == "," and depth == 0:
            count += 1
    return count


def parameters(headers):
    for header in headers:
        if header.parent.name in ("kernel", "simd", "log_softmax"):
            continue
        command = ["ctags", "-f", "-", "--fields=+sS", "--c++-kinds=fp", header]
        for line in subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines():
            name, _, rest = line.partition("\t")
            _, found, signature = rest.partition("\tsignature:")
            if found and "::detail" not in rest:
                count = parameter_count(signature)
                yield name, f"{header}: {name} has {count} parameters" if count > MOST_PARAMETERS else None


def crossing(headers, source):
    """The tags of instruction sets are all named by isa::all."""
    text = pathlib.Path(source).read_text()
    for header in headers:
        if header.name == "isa.hpp":
            continue
        for part in CROSSING.findall(header.read_text()):
            yield from ((name, None if re.search(rf"\b{name}\b", text) else f"{header}: {source} does not name {name}")
                        for name in TYPE.findall(part))


def main():
    check, folder, *more = sys.argv[1:]
    if check != "crossing" and shutil.which("ctags") is None:
        print("[intact: skipped] there is no ctags")
        return 0
    headers = sorted(pathlib.Path(folder, "intact").rglob("*.hpp"))
    results = list({"ctags": ctags, "parameters": parameters, "crossing": crossing}[check](headers, *more))
    violations = [violation for _, violation in results if violation is not None]
    if len(results) < 50:
        violations.append(f"there are only {len(results)} names")
    print("\n".join(violations) if violations else f"no violation in {len(results)} names")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
