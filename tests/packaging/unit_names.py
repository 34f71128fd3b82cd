"""Checks that INTACT_UNIT tells compiler flags apart: unit_names.py <include folder> <compiler> [<flag>...]

For every -m option of an x86 compiler that defines macros of processor features: the name differs from that without the
option, unless all features are such that compilers have only intrinsics for. Every violation is a line.
"""

import re
import subprocess
import sys

# A compiler emits their instructions where the source asks for them, never on its own.
INTRINSICS_ONLY = re.compile(
    r"__(AES|AMX\w+|AVX512PF|AVX5124\w+|AVX512VP2INTERSECT|CLDEMOTE|CLFLUSHOPT|CLWB|CLZERO|CRC32|ENQCMD|FSGSBASE|HRESET"
    r"|INVPCID|KL|LWP|MWAITX|MOVDIR64B|MOVDIRI|PCLMUL|PCONFIG|PKU|PREFETCHI|PREFETCHWT1|PTWRITE|RDPID|RDPRU"
    r"|RDRND|RDSEED|RTM|SERIALIZE|SGX|SHA|SHA512|SHSTK|SM3|SM4|TSXLDTRK|UINTR|USERMSR|VAES|VPCLMULQDQ|WAITPKG"
    r"|WBNOINVD|WIDEKL|XSAVE\w*)__")
# Consequences of features, of other calling conventions and of other formats of numbers.
FEATURE = re.compile(r"__(?!BIGGEST|FP_FAST|FLT|DBL|LDBL|DECIMAL|SIZEOF|GCC_IEC|GCC_HAVE_DWARF|CLANG|SEG)\w*[A-Z]\w*__|"
                     r"__3dNOW\w*__|__GCC_HAVE_SYNC_COMPARE_AND_SWAP_16")
# They change the size of pointers or the operating system's interface.
OTHER_CONVENTION = re.compile(r"-m(16|32|x32|64|android|bionic|musl|glibc|uclibc|iamcu|long-double-\w+)$")


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, input="namespace_is INTACT_UNIT\n")


def options(compiler):
    """All -m options without an argument."""
    help_text = run(compiler, "-Q", "--help=target").stdout or run(compiler, "--autocomplete=-m").stdout
    return [option for option in re.findall(r"^\s*(-m[\w.-]+)(?=\s|$)", help_text, re.MULTILINE)
            if not option.startswith("-mno-") and not OTHER_CONVENTION.match(option)]


def look(include, compiler, flags):
    """The unit's name and the features, None if the compiler does not take the flags."""
    command = [compiler, "-std=c++20", "-x", "c++", "-E", "-I", include, "-include", "intact/config/unit.hpp", *flags]
    text, macros = run(*command, "-"), run(*command, "-dM", "-")
    if text.returncode != 0 or macros.returncode != 0:
        return None
    defined = re.findall(r"^#define (\w+) (?!0$)", macros.stdout, re.MULTILINE)
    return re.search(r"namespace_is (\w+)", text.stdout).group(1), {name for name in defined if FEATURE.fullmatch(name)}


def main():
    include, compiler, *flags = sys.argv[1:]
    plain_unit, plain_features = look(include, compiler, flags)
    violations, told_apart = [], 0
    for option in options(compiler):
        seen = look(include, compiler, [*flags, option])
        if seen is None:
            continue
        unit, features = seen
        told_apart += unit != plain_unit
        unknown = [name for name in sorted(features ^ plain_features) if not INTRINSICS_ONLY.fullmatch(name)]
        if unit == plain_unit and unknown:
            violations.append(f"{option} changes {', '.join(unknown)}, but not the unit {unit}")
    if told_apart < 30:
        violations.append(f"only {told_apart} options change the unit")
    print("\n".join(violations) if violations else f"no violation; {told_apart} options change the unit {plain_unit}")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
