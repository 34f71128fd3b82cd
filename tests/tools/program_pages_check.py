"""Compares a man page and a completion with the text of --help: program_pages_check.py <program> <version>"""

import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

program, version = sys.argv[1:]
name = pathlib.Path(program).name
failures = []


def expect(condition, text):
    if not condition:
        failures.append(text)


def output(*arguments):
    return subprocess.run([program, *arguments], capture_output=True, text=True, check=True).stdout


def options_of(help_text):
    """Lines of --help that describe an option: its names, and the choices of its value, [] for any or None."""
    found = []
    for line in help_text.splitlines():
        match = re.match(r" {2,12}((?:-\w|--[\w-]+)(?:, *(?:-\w|--[\w-]+))*)(.*)", line)
        if match:
            choices = re.search(r"\{(.*?)\}", match[2])
            any_value = [] if re.match(r" [A-Z]{3,}", match[2]) else None
            found.append((re.split(r", *", match[1]), choices[1].split(",") if choices else any_value))
    return found


def commands_of(help_text):
    section = re.split(r"^subcommands:$", help_text, flags=re.MULTILINE | re.IGNORECASE)
    return re.findall(r"^  (\w+)", section[1].split("\n\n")[0], flags=re.MULTILINE) if len(section) == 2 else []


def completions(*words):
    """The completions of the last word."""
    script = 'source /dev/stdin; complete -p "$1" > /dev/null || exit 3; function=_${1//-/_}; COMP_WORDS=("$@"); ' \
             'COMP_CWORD=$(($# - 1)); "$function"; printf "%s\\n" "${COMPREPLY[@]}"'
    run = subprocess.run(["bash", "-uc", script, "bash", name, *words], input=output("--bash-completion"),
                         capture_output=True, text=True, check=False)
    expect(run.returncode == 0 and not run.stderr, f"completion of {words}: {run.stderr}")
    return set(run.stdout.split())


expect(output("--version") == f"{name} {version}\n", f"--version prints {output('--version')!r}")

page = output("--man-page")
plain = page.replace("\\-", "-").replace("\\&", "")
help_text = output("--help")
commands = commands_of(help_text)
expect(len(commands) == 8 if name == "intact-deit" else not commands, f"commands {commands}")
expect("--man-page" not in help_text, "--help shows --man-page")
for command in ["", *commands]:
    before = [command] if command else []
    options = options_of(output(*before, "--help"))
    names = {each for option_names, _ in options for each in option_names}
    expect("--help" in names, f"no options of {command!r} in --help")
    part = plain.split(f".SS {name} {command} ")[-1].split(".SS ")[0] if command else plain
    for each in names:
        entry = rf"^\.TP\n\\fB[^\n]*{re.escape(each)}\b"
        expect(re.search(entry, part, flags=re.MULTILINE), f"{each} of {command!r} is not on the page")
    expect(completions(*before, "-") == names, f"options of {command!r} complete as {completions(*before, '-')}")
    expect(completions(*before, "--hel") == {"--help"}, f"--hel of {command!r}")
    for option_names, choices in options:
        for each in option_names:
            if choices is not None:
                found = completions(*before, each, "")
                expect(found == set(choices), f"{each} of {command!r} completes as {found}")
            if choices:
                expect(completions(*before, each, "=", choices[0]) >= {choices[0]}, f"{each}= of {command!r}")
    # Names of files are bash's own completion, for which there are no words.
    expect(completions(*before, "") == (set() if command else set(commands)), f"arguments of {command!r}")

if shutil.which("groff"):
    with tempfile.NamedTemporaryFile("w", suffix=".1") as file:
        file.write(page)
        file.flush()
        run = subprocess.run(["groff", "-man", "-Tutf8", "-ww", "-P-cbou", file.name], capture_output=True, text=True,
                             check=False)
    expect(run.returncode == 0 and not run.stderr, f"groff: {run.stderr}")
    expect("SYNOPSIS" in run.stdout and f"intact {version}" in run.stdout, "the page lacks a section")

for failure in failures:
    print(f"{name}: {failure}")
sys.exit(1 if failures else 0)
