#!/usr/bin/env python3
"""Runs README's two commands on fresh installations of the distributions that README names, and prints a table.

    distributions.py [--only NAME]... [--mirror NAME=URL]... [--root FOLDER] [--keep]

An installation is a folder that debootstrap fills; the committed tree is copied into it, and nothing is installed but
what README's commands install. Debian's packages come from the mirror in this machine's apt sources, Ubuntu's from one
that --mirror ubuntu-24.04=URL names: without it Ubuntu is reported as skipped. Needs root, debootstrap and, for each
distribution, the keys of its archive. Some ten minutes of two processors each.

Exit status: 0 if every command of every distribution that was tried succeeded, 1 if one failed, 2 if none was tried.
"""

import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

PROJECT = pathlib.Path(__file__).resolve().parent.parent.parent
# Names, code names and keys of the archives.
DISTRIBUTIONS = {
    "debian-12": ("bookworm", "debian-archive-keyring.gpg"),
    "debian-13": ("trixie", "debian-archive-keyring.gpg"),
    "ubuntu-24.04": ("noble", "ubuntu-archive-keyring.gpg"),
}


def readme_commands():
    """The commands of README's section of that name; sudo is for people."""
    text = (PROJECT / "README.md").read_text(encoding="utf-8")
    section = re.search(r"^## Two commands\n(.*?)^## ", text, re.MULTILINE | re.DOTALL)
    commands = re.findall(r"^```sh\n(.*?)^```", section.group(1), re.MULTILINE | re.DOTALL) if section else []
    if len(commands) != 2:
        sys.exit("distributions.py: README.md has no section \"Two commands\" with two of them")
    return [command.replace("sudo ", "").strip() for command in commands]


def debian_mirror():
    """The first mirror of Debian's main archive in apt's sources, of either form."""
    folder = pathlib.Path("/etc/apt")
    for file in [folder / "sources.list", *sorted(folder.glob("sources.list.d/*"))]:
        if file.is_file():
            for line in file.read_text(encoding="utf-8").splitlines():
                found = re.match(r"(?:deb\s+(?:\[.*?\]\s+)?|URIs:\s*)(\S+/debian/?)(?:\s|$)", line)
                if found:
                    return found.group(1)
    return None


def install(name, mirror, root):
    """A fresh installation with the committed tree. Why it could not be made; empty if it was."""
    suite, keys = DISTRIBUTIONS[name]
    keyring = pathlib.Path("/usr/share/keyrings") / keys
    if not keyring.exists():
        return f"needs {keyring}"
    log = pathlib.Path(f"{root}.log")
    with log.open("w", encoding="utf-8") as out:
        made = subprocess.run(["debootstrap", "--variant=minbase", f"--keyring={keyring}", suite, str(root), mirror],
                              stdout=out, stderr=subprocess.STDOUT, check=False)
    if made.returncode != 0:
        return f"debootstrap failed: {log}"
    if name.startswith("ubuntu"):  # most packages that README installs are in universe
        sources = f"deb {mirror} {suite} main universe\n"
        (root / "etc/apt/sources.list").write_text(sources, encoding="utf-8")
    tree = root / "root/intact"
    tree.mkdir(parents=True)
    archive = subprocess.run(["git", "-C", str(PROJECT), "archive", "HEAD"], capture_output=True, check=True).stdout
    subprocess.run(["tar", "x", "-C", str(tree)], input=archive, check=True)
    return ""


def run_commands(root):
    """Outcome of each command: its seconds, or the log of a failure. Its /proc is mounted for the command alone."""
    outcomes = []
    for number, command in enumerate(readme_commands(), 1):
        proxies = {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}
        inside = f"mount -t proc proc {root}/proc && exec chroot {root} bash -c 'cd /root/intact && {command}'"
        log = pathlib.Path(f"{root}.command{number}.log")
        begin = time.monotonic()
        with log.open("w", encoding="utf-8") as out:
            run = subprocess.run(["unshare", "--mount", "bash", "-c", inside], stdout=out, stderr=subprocess.STDOUT,
                                 check=False, env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root",
                                                   "DEBIAN_FRONTEND": "noninteractive", **proxies})
        seconds = time.monotonic() - begin
        if run.returncode != 0:
            return [*outcomes, f"failed: {log}"]
        tests = re.findall(r"\d+% tests passed.*", log.read_text(encoding="utf-8", errors="replace"))
        outcomes.append(" ".join([f"{seconds:.0f} s", *tests]))
    return outcomes


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", action="append", choices=DISTRIBUTIONS, default=[])
    parser.add_argument("--mirror", action="append", default=[], metavar="NAME=URL")
    parser.add_argument("--root", type=pathlib.Path, default=PROJECT / "build" / "distributions")
    parser.add_argument("--keep", action="store_true", help="keep the installations")
    arguments = parser.parse_args()
    mirrors = dict(option.split("=", 1) for option in arguments.mirror)
    if os.geteuid() != 0 or shutil.which("debootstrap") is None:
        sys.exit("distributions.py: needs root and debootstrap")
    arguments.root.mkdir(parents=True, exist_ok=True)
    table = {}
    for name in arguments.only or DISTRIBUTIONS:
        mirror = mirrors.get(name) or (debian_mirror() if name.startswith("debian") else None)
        if mirror is None:
            table[name] = [f"skipped: --mirror {name}=URL"]
            continue
        root = arguments.root.resolve() / name
        shutil.rmtree(root, ignore_errors=True)
        reason = install(name, mirror, root)
        table[name] = [f"failed: {reason}"] if reason else run_commands(root)
        if not arguments.keep:
            shutil.rmtree(root, ignore_errors=True)
        print(f"{name}: {'; '.join(table[name])}", flush=True)
    print()
    for name, outcomes in table.items():
        print(f"{name:14} " + "   ".join(outcomes))
    tried = [outcomes for outcomes in table.values() if not outcomes[0].startswith("skipped")]
    failed = any(outcome.startswith("failed") for outcomes in tried for outcome in outcomes)
    return 2 if not tried else 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
