"""Checks the namespaces of the headers.

  namespace_check.py ctags <include folder>
      ctags, and so editors that understand as much of C++, find every class, enumeration, constant and concept that
      begins a line, and in a header of an operation, such as intact/gemm.hpp, a function of its name.

  namespace_check.py parameters <include folder>
      No public function has more than six parameters: none outside kernel/, simd/ and the namespaces detail.

  namespace_check.py crossing <include folder> <source>
      The source names every type of INTACT_ABI, the namespace of types that cross translation units.

  namespace_check.py detail <include folder> <folder of programs>... -- <compiler> <option>...
      A namespace detail is for its own folder of intact/: a copy of the headers, and of the units of intact::dispatch,
      in which each is named after its folder, compiles. Programs do not name them.

Every violation is a line. Needs nothing but the standard library.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

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


def copy_with_own_namespaces(library, copy):
    """Copies intact/, each namespace detail named after its folder. Returns sources that compile all of it."""
    sources = {"headers.cpp": ""}
    for file in sorted(path for path in library.rglob("*") if path.suffix in (".h", ".hpp", ".cpp")):
        parts = file.relative_to(library).parts
        folder = parts[0] if len(parts) > 1 else "public"
        target = copy.joinpath("intact", *parts)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(re.sub(r"\bdetail\b", f"detail_of_{folder}", file.read_text()))
        include = f'#include "{target.relative_to(copy).as_posix()}"\n'
        if file.name.endswith("unit.cpp"):
            sources[file.name] = include
        elif file.suffix == ".hpp" and folder != "executors":
            sources["headers.cpp"] += include
    for name, text in sources.items():
        (copy / name).write_text(text)
    return list(sources)


def detail(headers, *arguments):
    end = arguments.index("--")
    programs, compiler = arguments[:end], arguments[end + 1:]
    library = next(parent for parent in headers[0].parents if parent.name == "intact")
    yield from ((str(header), None) for header in headers)
    with tempfile.TemporaryDirectory() as copy:
        for source in copy_with_own_namespaces(library, pathlib.Path(copy)):
            command = [*compiler, "-fsyntax-only", "-DINTACT_DISPATCH_ISA=scalar", f"-I{copy}", f"{copy}/{source}"]
            run = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"})
            errors = [line for line in run.stderr.splitlines() if "error:" in line]
            yield from ((source, error.replace(f"{copy}/", "")) for error in errors)
            if run.returncode != 0 and not errors:
                yield source, f"{source} does not compile:\n{run.stderr}"
    # Executors need packages that few have; they, the sources of c/ and programs are searched.
    searched = [(path, r"\bdetail\b") for files in ("executors/*.hpp", "c/*.cpp") for path in library.glob(files)]
    searched += [(path, r"\bintact::(\w+::)*detail\b|\bnamespace intact\b.*\bdetail\b") for folder in programs
                 for path in pathlib.Path(folder).rglob("*.[hc]pp")]
    for path, pattern in searched:
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            if found := re.search(pattern, line):
                yield str(path), f"{path}:{number}: names {found.group()} of the library"


def main():
    check, folder, *more = sys.argv[1:]
    if check in ("ctags", "parameters") and shutil.which("ctags") is None:
        print("[intact: skipped] there is no ctags")
        return 0
    headers = sorted(pathlib.Path(folder, "intact").rglob("*.hpp"))
    results = list({"ctags": ctags, "parameters": parameters, "crossing": crossing, "detail": detail}[check](headers, *more))
    violations = [violation for _, violation in results if violation is not None]
    if len(results) < 50:
        violations.append(f"there are only {len(results)} names")
    print("\n".join(violations) if violations else f"no violation in {len(results)} names")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
