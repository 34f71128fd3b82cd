"""Writes the pages of the headers and of docs/ to <folder>/html: build.py <folder>

Doxygen reads copies. Headers: functions without the inline namespaces of units, and doc comments whose "Formula:",
"Shapes:" and so on begin paragraphs. Pages: with names of headings, which links use as on GitHub. A warning of Doxygen
1.9.4, which others may lack or replace by warnings of their own, is an error."""

import os
import pathlib
import re
import shutil
import subprocess
import sys

source, folder = pathlib.Path(__file__).resolve().parents[2], pathlib.Path(sys.argv[1]).resolve()
output = folder / "input"
headers = [path for path in sorted((source / "include/intact").rglob("*.h*")) if path.suffix in (".hpp", ".h")]
pages = [source / "README.md", *sorted((source / "docs").glob("*.md"))]
examples = sorted(path for path in (source / "examples").rglob("*.c*") if path.suffix in (".cpp", ".c"))

# No interface: the bodies of operations, the primitives of instruction sets, macros that depend on the compiler, the
# tables of intact::dispatch, and the sources of the C library.
own_folders = ("kernel", "simd", "config", "c")
own_headers = ("dispatch/call.hpp", "dispatch/choose.hpp", "dispatch/table.hpp", "interop/dispatch/table.hpp")
public_of_them = ("simd/isa.hpp", "simd/detect.hpp", "config/contract.hpp", "config/version.hpp", "c/intact.h")

label = re.compile(r"(\s*)/// (Formula|Returns|Arguments|Types|Arrays|Shapes|Tensors|Units|Scales|Range|Memory|Bytes|"
                   r"Safety|Exactness|Errors|Aliasing|Threads|Rights|Defaults|Names|Files|Notes|Recorder|Runs on|"
                   r"Source):\s*(.*)")


def is_public(path):
    name = path.relative_to(source / "include/intact").as_posix()
    return name in public_of_them or (name.split("/")[0] not in own_folders and name not in own_headers)


# "int rows, columns;  ///< sizes", or with the comment in the lines before.
several = re.compile(r"^((?:[ \t]*///.*\n)*)([ \t]+)((?:const )?[\w:<>*]+(?: \*)? )(\w+(?:\[\d+\])?(?: = [^,;(]*)?(?:, "
                     r"\w+(?:\[\d+\])?(?: = [^,;(]*)?)+);(?: +///<(.*))?$", re.MULTILINE)


def one_declaration_each(text):
    """Doxygen takes the comment of several variables for that of one of them."""
    def split(match):
        before, indent, kind, names, after = match.groups()
        comment = after or " ".join(line.strip()[3:] for line in before.splitlines())
        doc = f"/** {comment.strip()} */ " if comment.strip() else ""
        return ("" if doc else before) + "\n" * (before.count("\n") if doc else 0) + indent + " ".join(
            f"{doc}{kind}{name};" for name in names.split(", "))
    return several.sub(split, text)


def with_inherited_comments(text):
    """Constants that a tag of an instruction set defines again have the comment of isa::scalar's."""
    comments = dict(re.findall(r"static constexpr [\w:]+ (\w+) = .*; +///<(.*)", text))
    return re.sub(r"^  (?=static constexpr [\w:]+ (\w+) =(?!.*///<))", lambda match: (
        f"  /** {comments[match[1]].strip()} */ " if match[1] in comments else match[0]), text, flags=re.MULTILINE)


def header_text(text):
    text = with_inherited_comments(one_declaration_each(text))
    text = re.sub(r"^inline namespace INTACT_(?:UNIT|ABI) \{", 'extern "C++" {', text, flags=re.MULTILINE)
    lines, in_formula, in_label, formula_indent = [], False, False, 0
    for line in text.split("\n"):
        match = label.match(line)
        comment = re.match(r"\s*///(.*)", line)
        if in_formula and (match or not comment or not comment[1].startswith("   ")):
            lines[-1] += f"\n{indent}/// ~~~"
            in_formula = False
        in_label = bool(match or in_label and comment and re.match(r"\s{6,}\S", comment[1]))
        if match:
            indent, name, rest = match.groups()
            if name == "Formula":
                in_formula, formula_indent = True, len(line) - len(rest)
                lines.append(f"{indent}/// @par {name}\n{indent}/// ~~~{{.unparsed}}\n{indent}/// {rest}")
            else:
                lines.append(f"{indent}/// @par {name}\n{indent}/// {rest}")
        elif in_formula:
            lines.append(f"{indent}/// {line[formula_indent:]}")
        elif in_label:
            # Doxygen takes indented text for code.
            lines.append(line.replace(comment[1], " " + comment[1].strip()))
        else:
            lines.append(line)
    return re.sub(r"(///.*?)\bdocs/(\w+)\.md\b", r'\1@ref page_\2 "docs/\2.md"', "\n".join(lines))


def slug(title):
    """GitHub's name of a heading."""
    return re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", title.lower()))


def page_name(path):
    return "page_" + path.stem.lower()


def link(page, match):
    text, target = match[1], match[2]
    if re.match(r"https?:", target):
        return match[0]
    file, _, anchor = target.partition("#")
    path = (page.parent / file).resolve() if file else page
    if path in pages:
        text = text.replace("`", "")
        return f"[{text}](@ref {page_name(path)}{'-' + anchor if anchor else ''})"
    if path in headers and is_public(path):
        return f"[{text}](@ref {path.relative_to(source / 'include').as_posix()})"
    if path in examples:
        name = path.relative_to(source / "examples").as_posix().replace("/", "_2").replace(".", "_8")
        return f"[{text}]({name}-example.html)"
    return text


def page_text(page):
    lines, in_code = [], False
    for line in page.read_text().split("\n"):
        if line.startswith("```"):
            in_code = not in_code
        elif not in_code:
            heading = re.match(r"(#+) (.*)", line)
            if heading and heading[1] == "#":
                line = f"# {heading[2]} {{#{page_name(page)}}}"
            elif heading:
                line = f"{heading[1]} {heading[2]} {{#{page_name(page)}-{slug(heading[2])}}}"
            line = re.sub(r"!\[([^]]*)\]\((?:docs/)?([^)]*)\)", r'![](\2)', line) if line.startswith("![") else \
                re.sub(r"\[([^][]*(?:\[[^]]*\])?[^][]*)\]\(([^)\s]+)\)", lambda m: link(page, m), line)
        lines.append(line)
    return "\n".join(lines)


shutil.rmtree(folder / "html", ignore_errors=True)
shutil.rmtree(output, ignore_errors=True)
for path in headers:
    if is_public(path):
        target = output / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text("/** @file */ " + header_text(path.read_text()))
for path in pages:
    # Doxygen lists pages by the names of their files: the guides come first.
    (output / f"{'0_' if path.name == 'guides.md' else ''}{page_name(path)}.md").write_text(page_text(path))
(output / "examples.dox").write_text("".join(f"/** @example {path.relative_to(source / 'examples').as_posix()} */\n"
                                             for path in examples))

version = re.findall(r"_(?:MAJOR|MINOR|PATCH) (\d+)", (source / "include/intact/config/version.hpp").read_text())
environment = os.environ | {"INTACT_DOCS": str(folder), "INTACT_VERSION": ".".join(version)}
run = subprocess.run(["doxygen", source / "docs/doxygen/Doxyfile"], cwd=source, env=environment, check=False,
                     capture_output=True, text=True)
print(run.stdout + run.stderr.replace(f"{output}/", ""), end="")
html = folder / "html"
broken = sorted({f"{page.name}: there is no {name}" for page in html.glob("page_*.html")
                 for name in re.findall(r'href="(\w[\w-]*\.html)', page.read_text()) if not (html / name).exists()})
if broken or not (html / "index.html").exists():
    sys.exit("\n".join(broken) or "Doxygen has written no pages")
doxygen_version = subprocess.run(["doxygen", "--version"], check=True, capture_output=True, text=True).stdout
is_known = doxygen_version.startswith("1.9.4")
sys.exit(run.returncode if is_known else 0)
