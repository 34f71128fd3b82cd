"""Checks the machine code of translation units that are compiled with different flags: the unit of a function is the
inline namespace INTACT_UNIT in its name, such as intact::v0_1_avx2_p, which begins with the instruction set.

  machine_code.py symbols --nm <program> <object>...
      Every function of an object that the linker may replace by another object's of the same name is of the same unit.
      The instruction set of an object of intact_add_dispatch is that of its folder.

  machine_code.py members --nm <program> <object>...
      No member function of a type that crosses units, intact::v0_1::..., exists for the linker to merge.

  machine_code.py operations --nm <program> <object>...
      Objects of public operations neither have nor need a function of the specification, intact::reference.

  machine_code.py instructions --objdump <program> <executable>
      No function contains an instruction above the instruction set of its unit or, if it has none, of the only tag in
      its name, or else above the oldest processor; and no product of matrices is made of dot products that saturate,
      but for those with weights of 4 bits, whose pairs of products are small.

  machine_code.py tiles --objdump <program> <object>...
      The innermost loops of tiles of six rows, u8 x s8, keep their accumulators in registers: they store no vector,
      and take none from the stack.

  machine_code.py integers --objdump <program> <object>...
      No instruction computes in floating point or converts from or to it.

Several checks are joined by commas. Every violation is a line. Needs nothing but the standard library.
"""

import argparse
import functools
import os
import pathlib
import re
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
import isas  # noqa: E402

# Instructions that compiler flags allow beyond those of the oldest processor of a family.
AVX512 = ["sse4_1", "avx2", "avx512"]
ALLOWED_BY_FLAG = {
    "-msse2": [],
    "-msse4.1": ["sse4_1"],
    "-mavx2": ["sse4_1", "avx2"],
    "-mavxvnni": ["avx_vnni"],
    **dict.fromkeys(["-mavx512f", "-mavx512bw", "-mavx512cd", "-mavx512dq", "-mavx512vl"], AVX512),
    "-mavx512vnni": ["avx512_vnni"],
    "-mavx512ifma": ["avx512_ifma"],
    "-mavx512vbmi": ["avx512_vbmi"],
    "-march=armv8.2-a+dotprod": ["dotprod"],
    "-march=armv8.2-a+dotprod+i8mm": ["dotprod", "i8mm"],
}
# The same for each instruction set. Code for a set must contain the last of them: every product has the byte dot
# product, and few have tables of bytes.
ALLOWED = {}
for _name, _flags in isas.read().items():
    ALLOWED[_name] = sorted(dict.fromkeys(need for flag in _flags for need in ALLOWED_BY_FLAG[flag]),
                            key=lambda need: need == "avx512_vnni")

# Instructions that compute or convert in floating point; moves, shuffles and bitwise operations also serve integers.
FLOATING_POINT_X86 = re.compile(
    r"f[a-z]|v?cvt|vfn?m|v?u?comis|v?(add|sub|addsub|hadd|hsub|mul|div|sqrt|max|min|dp|cmp\w*|rcp|rsqrt|round|rndscale"
    r"|reduce|range|scalef|getexp|getmant|fixupimm|rcp14|rsqrt14)[ps][sdh]$")
FLOATING_POINT_AARCH64 = re.compile(r"f[a-z]|[su]cvtf|bf")

# Functions without a unit that may be merged. Those of std:: and xsimd would be listed here, but all become part of
# their callers. Clang's own, where an exception meets noexcept, calls two functions and computes nothing.
WITHOUT_UNIT = {"__clang_call_terminate"}
# The mangled name of a member of a type in intact::v0_1, the namespace of types that cross units; versions have one
# digit or two.
CROSSING_MEMBER = re.compile(r"_ZN[KVRO]*6intact(4v\d_\d|5v(\d\d_\d|\d_\d\d)|6v\d\d_\d\d)(\d|I|S)")

SPECIFICATION = re.compile(r"\bintact::(v\d+_\w+::)?reference::")

DOT_PRODUCT = re.compile(r"v?pmaddwd|vpdpbusd$|sadalp|smlal|[su]dot$|usdot$")
SATURATING = re.compile(r"v?pmaddubsw|vpdp\w+ds$")
# They join two codes of 4 bits by such an instruction, which can yield at most 15 + 16 * 15. In units/unit.cpp they are
# part of a function of the test.
PACKS_NIBBLES = re.compile(r"kernel::(log|max)_softmax|operations::attention")
# Products with weights of 4 bits, whose pairs are at most 2 * 255 * 8 (simd/s4_dot.hpp).
HAS_S4_WEIGHTS = re.compile(r"kernel::gemm_(whole_tile|panel_sums)<.*\b(grouped_)?s4\b")
SSE3 = re.compile(r"(addsub|hadd|hsub)p[sd]$|lddqu|movddup|movs[hl]dup")
AFTER_SSE4_1 = re.compile(r"pcmpgtq|pcmp[ei]str|crc32|lzcnt|movbe|ad[co]x|aes|sha|pclmul|gf2p8")
AFTER_AVX2 = re.compile(r"vfn?m(add|sub)|vcvtph2ps|vcvtps2ph|vaes|vpclmul|vgf2p8|vpmadd52")
AVX512_VBMI = re.compile(r"vperm(i2|t2)?b$|vpmultishiftqb")
AFTER_AVX512BW = re.compile(r"vaes|vpclmul|vgf2p8|vpopcnt|vpsh[lr]d|vp(compress|expand)[bw]|v\w*bf16")
# The instructions after them are not executed next.
LEAVES = {"jmp", "jmpq", "ret", "retq", "b", "br"}
PREFIX = re.compile(r"^(\{\w+\}|bnd|notrack|rep\w*|lock) ")
LEGACY_PREFIXES = {"66", "f2", "f3", "2e", "36", "3e", "26", "64", "65", "67", "f0"}


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"}).stdout


class Instruction:
    """A line of a listing, in the form of GNU or LLVM: "<address>: <bytes> <tab> <mnemonic> <operands>"."""

    def __init__(self, line):
        address, _, rest = line.partition(":")
        encoding, _, text = rest.strip().partition("\t")
        self.address = int(address, 16)
        self.encoding = tuple(encoding.split())
        self.text = PREFIX.sub("", " ".join(text.split()).replace(", ", ","))
        self.mnemonic, _, self.operands = self.text.partition(" ")

    def jump_target(self):
        """Where a jump within a function goes, else None."""
        jump = re.fullmatch(r"j\w+|b|b\.\w+|cbn?z|tbn?z", self.mnemonic)
        target = re.search(r"(?:^|,)(?:0x)?([0-9a-f]+) <", self.operands)
        return int(target.group(1), 16) if jump and target else None


@functools.cache
def functions(objdump, path):
    """(demangled name, listing) of everything in a file."""
    listing = run(objdump, "--disassemble", "--demangle", "--wide", path)
    parts = [part.partition("\n") for part in re.split(r"\n(?=[0-9a-f]+ <)", listing)[1:]]
    return [(re.match(r"[0-9a-f]+ <(.*)>:", header).group(1), body) for header, _, body in parts]


def instructions_of(listing):
    return [Instruction(line) for line in re.findall(r"^ *[0-9a-f]+:\s.*$", listing, re.MULTILINE)]


def tags(name):
    return set(re.findall(r"\bisa::(\w+)", name))


def units(name):
    """Also of a name that the demangler leaves as it is."""
    mangled = {name[begin.end() :][: int(begin.group(1))] for begin in re.finditer(r"6intact(\d+)", name)}
    found = set(re.findall(r"\bintact::(\w+)::", name)) | mangled
    return {unit for unit in found if re.match(r"v\d+_\d+_", unit)}


def set_of(unit):
    return re.match(rf"v\d+_\d+_({'|'.join(sorted(ALLOWED, key=len, reverse=True))})_", unit).group(1)


def instruction_set(name):
    """That of a function, None for the oldest processor's."""
    found = {set_of(unit) for unit in units(name)} or tags(name)
    return found.pop() if len(found) == 1 else None


def weak_functions(nm, path, *options):
    return re.findall(r"^[0-9a-f]+ W (.*)$", run(nm, *options, "--defined-only", path), re.MULTILINE)


def feature_aarch64(instruction):
    if re.search(r"\bz\d+\.", instruction.operands):
        return "SVE"
    if re.fullmatch(r"usdot|sudot|[su]mmla|usmmla", instruction.mnemonic):
        return "i8mm"
    return "dotprod" if instruction.mnemonic in ("sdot", "udot") else None


def feature_x86(instruction):
    return feature_of_code(instruction.mnemonic, instruction.encoding[:8])


@functools.cache
def feature_of_code(name, encoding):
    """What an instruction needs beyond x86-64: told by its encoding, and for some by its name."""
    code = list(encoding)
    while code and code[0] in LEGACY_PREFIXES:
        code.pop(0)
    if not code:
        return None
    if code[0] == "62":
        if name.startswith("vpdp"):
            return "avx512_vnni"
        if name.startswith("vpmadd52"):
            return "avx512_ifma"
        if AVX512_VBMI.match(name):
            return "avx512_vbmi"
        return name if AFTER_AVX512BW.match(name) else "avx512"
    if code[0] in ("c4", "c5"):
        if name.startswith("k"):
            return "avx512"
        if name.startswith("vpdp"):
            return "avx_vnni"
        return name if AFTER_AVX2.match(name) or not name.startswith("v") else "avx2"
    if name == "popcnt":  # compilers take it for a part of AVX2, and so does detect.hpp
        return "avx2"
    if AFTER_SSE4_1.match(name):
        return name
    if 0x40 <= int(code[0], 16) <= 0x4F:
        code.pop(0)
    return "sse4_1" if code[:2] in (["0f", "38"], ["0f", "3a"]) or SSE3.match(name) else None


def check_symbols(arguments):
    for path in arguments.files:
        names = weak_functions(arguments.nm, path, "--demangle")
        all_units = set().union(*(units(name) for name in names))
        yield from (f"{path}: {name} is of no unit" for name in names if not units(name) and name not in WITHOUT_UNIT)
        if len(all_units) != 1:
            yield f"{path}: the functions are of the units {sorted(all_units)}"
        folder, isa = os.path.split(os.path.dirname(path))
        if folder.endswith(".dispatch") and isa != "scalar":
            yield from (f"{path}: the unit {unit} is not {isa}" for unit in all_units if set_of(unit) != isa)


def check_members(arguments):
    for path in arguments.files:
        names = weak_functions(arguments.nm, path)
        yield from (f"{path}: {name} is a member of a type that crosses units"
                    for name in names if CROSSING_MEMBER.match(name))
        if not names:
            yield f"{path}: there is no function"


def check_operations(arguments):
    for path in arguments.files:
        names = re.findall(r"^[0-9a-f ]+ [A-Za-z] (.*)$", run(arguments.nm, "--demangle", path), re.MULTILINE)
        yield from (f"{path}: {name} is of the specification" for name in names if SPECIFICATION.search(name))
        models = sum(bool(re.search(r"::(vit|swin)<", name)) for name in names)
        if models < 2:
            yield f"{path}: there are only {models} models"


def check_instructions(arguments):
    (path,) = arguments.files
    feature = feature_aarch64 if "aarch64" in run(arguments.objdump, "-f", path) else feature_x86
    needed = {}
    for name, listing in functions(arguments.objdump, path):
        isa = instruction_set(name)
        for instruction in instructions_of(listing):
            need = feature(instruction)
            needed.setdefault(isa, set()).add(need)
            if SATURATING.match(instruction.mnemonic) and not (PACKS_NIBBLES.search(name)
                                                               or HAS_S4_WEIGHTS.search(name)):
                yield f"{name}: {instruction.text} saturates"
            if need is not None and need not in ALLOWED.get(isa, []):
                yield f"{name}: {instruction.text} needs {need}"
    if len(needed) < 3 or None not in needed:
        yield f"{path}: there is no code for several instruction sets"
    for isa in needed.keys() - {None}:
        if not set(ALLOWED[isa][-1:]) <= needed[isa]:
            yield f"{path}: the code for {isa} does not use {ALLOWED[isa][-1]}"


def check_integers(arguments):
    count = 0
    for path in arguments.files:
        is_arm = "aarch64" in run(arguments.objdump, "-f", path)
        forbidden = FLOATING_POINT_AARCH64 if is_arm else FLOATING_POINT_X86
        suspect = re.compile(rf"\t(\{{\w+\}} )?({forbidden.pattern.replace('$', '')})")
        for name, listing in functions(arguments.objdump, path):
            count += listing.count("\n")
            if suspect.search(listing):
                yield from (f"{path}: {name} has {instruction.text}"
                            for instruction in instructions_of(listing) if forbidden.match(instruction.mnemonic))
    if count < 10000:
        yield f"there are only {count} instructions"


def comes_back(instructions, position, begin, end):
    """Whether execution gets from one instruction to a later one between them: if not, a jump back is no loop."""
    reached, open_ends = set(), [begin]
    while open_ends:
        i = open_ends.pop()
        if i is None or i in reached or not begin <= i <= end:
            continue
        if i == end:
            return True
        reached.add(i)
        open_ends.append(position.get(instructions[i].jump_target()))
        if instructions[i].mnemonic not in LEAVES:
            open_ends.append(i + 1)
    return False


def innermost_loops(instructions):
    position = {instruction.address: i for i, instruction in enumerate(instructions)}
    loops = []
    for end, instruction in enumerate(instructions):
        begin = position.get(instruction.jump_target())
        if begin is not None and begin <= end and comes_back(instructions, position, begin, end):
            loops.append((begin, end))
    for begin, end in loops:
        if not any(begin <= b and e <= end and (b, e) != (begin, end) for b, e in loops):
            yield instructions[begin : end + 1]


def spills(instruction, frame_pointer):
    """Whether it stores a vector anywhere, or takes one from a fixed place on the stack. Arrays there have an index."""
    operands = instruction.operands
    if re.search(r"%[xyz]mm", operands):
        return bool(re.search(r"%[xyz]mm\d+,[^,%]*\(", operands) or "(%rsp)" in operands
                    or frame_pointer and "(%rbp)" in operands)
    is_vector = re.match(r"[qdv]\d", operands)
    return bool(is_vector and (instruction.mnemonic.startswith("st") or re.search(r"\[sp(,#\d+)?\]", operands)))


def check_tiles(arguments):
    for path in arguments.files:
        isa = os.path.basename(os.path.dirname(path))
        largest = 0
        for name, listing in functions(arguments.objdump, path):
            if isa == "scalar" or not re.search(rf"kernel::\w+<6u,.*isa::{isa}, unsigned char, signed char[,>]", name):
                continue
            code = instructions_of(listing)
            frame_pointer = any(re.match(r"movq? %rsp,%rbp", instruction.text) for instruction in code)
            for loop in innermost_loops(code):
                dots = sum(bool(DOT_PRODUCT.match(instruction.mnemonic)) for instruction in loop)
                largest = max(largest, dots)
                if dots > 0:
                    yield from (f"{path}: the loop of dot products has {instruction.text}"
                                for instruction in loop if spills(instruction, frame_pointer))
        if isa != "scalar" and (largest == 0 or largest % 12 != 0):
            yield f"{path}: the largest loop has {largest} dot products; they must be a multiple of 6 x 2"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checks")
    parser.add_argument("--nm", default="nm")
    parser.add_argument("--objdump", default="objdump")
    parser.add_argument("files", nargs="+")
    arguments = parser.parse_args()
    checks = {"symbols": check_symbols, "members": check_members, "operations": check_operations,
              "instructions": check_instructions, "tiles": check_tiles, "integers": check_integers}
    unknown = set(arguments.checks.split(",")) - checks.keys()
    if unknown:
        parser.error(f"unknown checks {', '.join(sorted(unknown))}; there are {', '.join(checks)}")
    violations = [line for name in arguments.checks.split(",") for line in checks[name](arguments)]
    print("\n".join(violations) if violations else "no violation")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
