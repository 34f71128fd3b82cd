"""Builds examples/microcontroller for each board, runs it on an emulator and compares its lines with the host's:
microcontroller.py <source folder> <work folder> <host compiler> [--sizes]

The programs must have no heap, no exceptions, no formatted output and no floating point, their libraries included.
--sizes prints the table of docs/microcontroller.md instead: bytes of code and memory of each operation.

Every violation is a line. Without arm-none-eabi-g++ or qemu-system-arm there is nothing to test.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys

BOARDS = ["microbit", "mps2-an386", "mps3-an547"]
LEVELS = ["-Os", "-O2"]

UNWANTED = re.compile(
    r"_*(malloc|calloc|realloc|free|sbrk)(_r)?$"
    r"|_Zn[wa]|_Zd[la]|__cxa_|_Unwind|__gnu_unwind|_ZSt\d+__throw"
    r"|\w*(printf|puts|putc|fwrite)\w*$"
    r"|(sqrt|cbrt|exp|exp2|expm1|log|log2|log10|log1p|pow|erf|tanh|sin|cos|round|lround|floor|ceil|trunc|rint|fma)[fl]?$"
    r"|__aeabi_(c?[df](add|r?sub|mul|div|r?cmp\w*|neg|2\w+)|u?[il]2[dfh]\w*|h2f\w*)$"
    r"|__(add|sub|mul|div|neg|float|fix|extend|trunc|eq|ne|lt|le|gt|ge|unord|cmp)\w*[hsdt]f\w*$")
for _name in ["_malloc_r", "_sbrk", "_Znwj", "__cxa_throw", "vsnprintf", "sqrtf", "__aeabi_dadd", "__aeabi_ui2f",
              "__aeabi_d2lz", "__adddf3", "__floatsidf"]:
    assert UNWANTED.match(_name), _name
for _name in ["__aeabi_ldivmod", "__aeabi_uidiv", "__aeabi_lmul", "__aeabi_idiv0", "memcpy", "fault", "print",
              "__clzdi2", "__udivmoddi4"]:
    assert not UNWANTED.match(_name), _name


def run(command, **options):
    return subprocess.run(command, check=True, capture_output=True, text=True, **options).stdout


def is_of_board(line):
    return line.startswith(("stack ", "workspace "))


def emulate(board, folder):
    """The lines that a board's program prints."""
    command = ["qemu-system-arm", "-M", board, "-kernel", f"{board}.elf", "-display", "none", "-serial", "none",
               "-monitor", "none", "-chardev", "stdio,id=out", "-semihosting-config",
               "enable=on,target=native,chardev=out"]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=300)
    if ended.returncode != 0:
        sys.exit(f"{board}: the program ends with {ended.returncode}: {ended.stdout[-500:]}{ended.stderr[-500:]}")
    return ended.stdout.splitlines()


def unwanted_symbols(program):
    names = [line.split()[-1] for line in run(["arm-none-eabi-nm", program]).splitlines()]
    return [name for name in names if UNWANTED.match(name)]


def code_bytes(board, function, folder):
    """Bytes of code and constants of a function with everything that it calls."""
    cpu = {"microbit": ["-mcpu=cortex-m0"], "mps2-an386": ["-mcpu=cortex-m4"],
           "mps3-an547": ["-mcpu=cortex-m55", "-mfloat-abi=hard"]}[board]
    run(["arm-none-eabi-g++", *cpu, "-mthumb", "-nostartfiles", "-Wl,--gc-sections", f"-Wl,-e,{function}",
         "-Wl,--defsym=abort=0", f"{board}-operations.o", "-o", "one.elf"], cwd=folder)
    return int(run(["arm-none-eabi-size", "one.elf"], cwd=folder).splitlines()[1].split()[0])


def print_sizes(build, folder):
    code, bytes_of = {}, {}
    for board in BOARDS:
        build(board, "-Os")
        for what, name, *numbers in (line.split() for line in emulate(board, folder) if is_of_board(line)):
            bytes_of[board, what, name] = dict(zip(["specification", "kernel"], map(int, numbers)))
    names = [name for board, what, name in bytes_of if (board, what) == (BOARDS[0], "stack")]
    print("| | " + " | ".join(f"code, {board} | stack" for board in BOARDS) + " | workspace |")
    print("|---|" + "---|" * (2 * len(BOARDS) + 1))
    for name in names:
        for kind in ["kernel", "specification"]:
            cells = [f"`{'reference::' if kind == 'specification' else ''}{name}`"]
            for board in BOARDS:
                cells += [code_bytes(board, f"{name}_{kind}", folder), bytes_of[board, "stack", name][kind]]
            cells.append(bytes_of.get((BOARDS[0], "workspace", name), {kind: 0})[kind])
            print("| " + " | ".join(f"{cell:,}" if isinstance(cell, int) else cell for cell in cells) + " |")


def main():
    source, folder, compiler, *options = sys.argv[1:]
    for program in ["arm-none-eabi-g++", "qemu-system-arm"]:
        if shutil.which(program) is None:
            print(f"[intact: skipped] there is no {program}")
            return
    shutil.rmtree(folder, ignore_errors=True)
    pathlib.Path(folder).mkdir(parents=True)

    def build(*arguments):
        script = pathlib.Path(source) / "examples/microcontroller/build.sh"
        subprocess.run([script, *arguments], check=True, cwd=folder, env={**os.environ, "CXX": compiler})

    build("host")
    if options == ["--sizes"]:
        print_sizes(build, folder)
        return
    expected = run(["./host"], cwd=folder).splitlines()
    violations = []
    for board in BOARDS:
        for level in LEVELS:
            build(board, level)
            lines = [line for line in emulate(board, folder) if not is_of_board(line)]
            violations += [f"{board} {level}: {line}, not {wanted}" for line, wanted in zip(lines, expected)
                           if line != wanted]
            if len(lines) != len(expected):
                violations.append(f"{board} {level}: {len(lines)} lines, not {len(expected)}")
            violations += [f"{board} {level}: the program has {name}"
                           for name in unwanted_symbols(pathlib.Path(folder) / f"{board}.elf")]
    print("\n".join(violations) or f"no violation; {len(expected)} lines on {len(BOARDS)} boards at {' '.join(LEVELS)}")
    sys.exit(bool(violations))


if __name__ == "__main__":
    main()
