#!/usr/bin/env python3
"""Compiles and runs the programs of this folder with every compiler, optimization level, target and instruction set
that this machine has, compares what they print with the committed lines, and prints a table.

    hashes.py [--only REGEX] [--list] [--update] [--jobs N] [--build-dir DIR]

Every run has a name, such as "gcc/-O3/scalar" or "s390x/-O2/scalar"; --only selects those that match. The run
"model_files" of a target reads and writes the model files in tests/io/data.
With --update the lines of each program's first run become the committed ones. Compilers are called through ccache if
there is one.
"""

import argparse
import concurrent.futures
import contextlib
import os
import pathlib
import platform
import re
import shutil
import subprocess
import sys

FOLDER = pathlib.Path(__file__).resolve().parent
PROJECT = FOLDER.parent.parent
sys.path.insert(0, str(PROJECT / "tests" / "support"))
import isas  # noqa: E402
# Programs: their sources, and the committed lines that they print.
PROGRAMS = {
    "hashes": (["main.cpp", "products.cpp", "operations.cpp", "attention.cpp", "models.cpp", "interop.cpp"], "hashes.txt"),
    "model_files": (["model_files.cpp"], "model_files.txt"),
}
LEVELS = ["-O0", "-O1", "-O2", "-O3", "-Os"]

X86_SETS = isas.read("any", "x86")
ARM_SETS = isas.read("any", "aarch64")
# Names in /proc/cpuinfo of features whose compiler flags have others.
X86_FEATURES = {"sse4.1": "sse4_1", "avxvnni": "avx_vnni", "avx512vnni": "avx512_vnni"}
SCALAR = {"scalar": []}
FILES = "model_files"
# 32-bit x86 computes in x87 registers unless told otherwise; the builders of parameters refuse that.
SSE2 = ["-msse2", "-mfpmath=sse"]


class Target:
    """A compiler with its flags, the levels and instruction sets to try, and how its programs are run."""

    def __init__(self, name, compiler, flags, levels, sets, runner=None, suffix=""):
        self.name = name
        self.compiler = compiler
        self.flags = flags
        self.levels = levels
        self.sets = sets
        self.runner = runner or []
        self.suffix = suffix

    def runs(self):
        """Pairs of a level and an instruction set; model files, which have no kernels, at one level."""
        pairs = [(level, isa) for level in self.levels for isa in self.sets]
        return pairs + [("-O0", FILES)] if self.levels else []


def all_targets():
    x86 = platform.machine() in ("x86_64", "AMD64")
    host = X86_SETS if x86 else ARM_SETS if platform.machine() == "aarch64" else SCALAR
    targets = []
    for name, compiler in (("gcc", "g++"), ("clang", "clang++")):
        targets.append(Target(name, compiler, [], LEVELS, host))
        targets.append(Target(name + "-unsigned-char", compiler, ["-funsigned-char"], ["-O2"], host))
    i686 = {"scalar": [], **{isa: X86_SETS[isa] for isa in ("sse2", "sse4_1", "avx2")}}
    small = LEVELS if x86 else []
    targets.append(Target("gcc-m32", "g++", ["-m32", "-static", *SSE2], small, i686))
    targets.append(Target("i686", "i686-linux-gnu-g++", ["-static", *SSE2], small, i686))
    emulated = [
        ("aarch64", "aarch64-linux-gnu-g++", ["qemu-aarch64", "-cpu", "max"], ARM_SETS),
        ("armhf", "arm-linux-gnueabihf-g++", ["qemu-arm"], SCALAR),
        ("riscv64", "riscv64-linux-gnu-g++", ["qemu-riscv64"], SCALAR),
        ("s390x", "s390x-linux-gnu-g++", ["qemu-s390x"], SCALAR),
        ("ppc64", "powerpc64-linux-gnu-g++", ["qemu-ppc64"], SCALAR),
    ]
    for name, compiler, runner, sets in emulated:
        targets.append(Target(name, compiler, ["-static"], ["-O2", "-O3"], sets, runner))
    targets.append(Target("wasm32", "em++", ["-sALLOW_MEMORY_GROWTH=1", "-sNODERAWFS=1", "-sSINGLE_FILE=1", "-fexceptions"],
                          ["-O2"], SCALAR, ["node"], ".js"))
    return targets


def processor_features():
    try:
        text = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return set()
    found = re.search(r"^flags\s*:(.*)$", text, re.MULTILINE)
    return set(found.group(1).split()) if found else set()


def run_name(target, level, isa):
    return f"{target.name}/{level}/{isa}"


def missing_part(target, isa):
    """Why a run is not possible on this machine; empty if it is."""
    for tool in [target.compiler] + target.runner[:1]:
        if shutil.which(tool) is None:
            return f"needs {tool}"
    if not target.runner and target.sets is not SCALAR and platform.machine() == "x86_64":
        features = [flag.removeprefix("-m") for flag in X86_SETS.get(isa, [])]
        features = [X86_FEATURES.get(feature, feature) for feature in features]
        lacking = [feature for feature in features if feature not in processor_features()]
        if lacking:
            return "the processor lacks " + lacking[0]
    if "-m32" in target.flags:
        probe = [target.compiler, "-m32", "-x", "c++", "-include", "cstdint", "-fsyntax-only", "/dev/null"]
        if subprocess.run(probe, capture_output=True, check=False).returncode != 0:
            return "needs g++-multilib"
    return ""


def library_headers(build):
    """A folder of the header-only libraries alone: /usr/include is not meant for other targets."""
    folder = build / "include"
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("xsimd", "nlohmann"):
        link = folder / name
        for place in ("/usr/include", "/usr/local/include"):
            if not link.exists() and (pathlib.Path(place) / name).is_dir():
                with contextlib.suppress(FileExistsError):  # another process may have made it meanwhile
                    link.symlink_to(pathlib.Path(place) / name)
    return folder


def first_difference(found, expected):
    """The name of the first tensor that differs; empty if none does."""
    for ours, committed in zip(found, expected):
        if ours != committed:
            return committed.split()[0]
    if len(found) != len(expected):
        return f"{len(found)} lines instead of {len(expected)}"
    return ""


class Run:
    """One build of the program and its result."""

    def __init__(self, target, level, isa, options):
        self.target, self.level, self.isa, self.options = target, level, isa, options
        self.name = run_name(target, level, isa)
        self.program = FILES if isa == FILES else "hashes"
        self.sources, self.golden = PROGRAMS[self.program]

    def compile(self, folder):
        target = self.target
        isa = "scalar" if self.isa == FILES else self.isa
        launcher = ["ccache"] if shutil.which("ccache") else []
        command = [*launcher, target.compiler, "-std=c++20", self.level, "-g0", *target.flags,
                   *target.sets[isa], f"-DINTACT_TEST_ISA={isa}", "-I", str(PROJECT / "include"),
                   "-isystem", str(library_headers(self.options.build_dir))]
        objects = []
        for source in self.sources:
            objects.append(str(folder / (source + ".o")))
            done = subprocess.run([*command, "-c", str(FOLDER / source), "-o", objects[-1]], capture_output=True,
                                  text=True, check=False)
            if done.returncode != 0:
                return done.stderr
        link = [target.compiler, self.level, *target.flags, *objects, "-o", str(self.path(folder))]
        done = subprocess.run(link, capture_output=True, text=True, check=False)
        return done.stderr if done.returncode != 0 else ""

    def path(self, folder):
        return folder / (self.program + self.target.suffix)

    def result(self):
        """What the table says, and whether that is an error."""
        missing = missing_part(self.target, self.isa)
        if missing:
            return f"[intact: skipped] {missing}", False
        folder = self.options.build_dir / self.name.replace("/", "_")
        folder.mkdir(parents=True, exist_ok=True)
        problem = self.compile(folder)
        if problem:
            lines = problem.strip().splitlines()
            return "does not compile: " + next((line for line in lines if "error" in line), lines[0]), True
        arguments = [str(PROJECT / "tests" / "io" / "data"), str(folder)] if self.isa == FILES else []
        done = subprocess.run([*self.target.runner, str(self.path(folder)), *arguments], capture_output=True, text=True,
                              check=False)
        lines = done.stdout.splitlines()
        golden = FOLDER / self.golden
        if self.golden in self.options.update and done.returncode == 0:
            golden.write_text(done.stdout, encoding="utf-8")
            self.options.update.remove(self.golden)
        different = first_difference(lines, golden.read_text(encoding="utf-8").splitlines())
        if different:
            return "differs: " + different, True
        if done.returncode != 0:
            return "differs: " + (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[0], True
        return "same", False


def print_table(runs, results):
    """A line for each target and level, with the result of each instruction set."""
    rows = {}
    for run in runs:
        rows.setdefault((run.target.name, run.level), []).append(f"{run.isa}: {results[run.name][0]}")
    for (target, level), cells in rows.items():
        print(f"{target:20} {level:4}  " + ",  ".join(cells))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="a regular expression that names of runs must match")
    parser.add_argument("--list", action="store_true", help="print the names of the runs and end")
    parser.add_argument("--update", action="store_const", const=[golden for _, golden in PROGRAMS.values()], default=[],
                        help="write the committed lines anew")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--build-dir", type=pathlib.Path, default=PROJECT / "build" / "hashes")
    options = parser.parse_args()

    runs = [Run(target, level, isa, options) for target in all_targets() for level, isa in target.runs()]
    runs = [run for run in runs if re.search(options.only, run.name)]
    if options.list:
        print("\n".join(run.name for run in runs))
        return 0
    library_headers(options.build_dir)
    os.environ.setdefault("NODE_PATH", "/usr/share/nodejs")  # where Debian has what emscripten's scripts need
    results = {}
    with concurrent.futures.ThreadPoolExecutor(1 if options.update else options.jobs) as pool:
        for run, result in zip(runs, pool.map(Run.result, runs)):
            results[run.name] = result
            print(f"{run.name}: {result[0]}", file=sys.stderr, flush=True)
    print_table(runs, results)
    return 1 if not runs or any(failed for _, failed in results.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
