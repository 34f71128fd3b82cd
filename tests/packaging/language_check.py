#!/usr/bin/env python3
"""Finds words that comments and pages do not use: metaphors, and constructions that hide the subject.

    language_check.py FOLDER_OR_FILE...

Prints "<file>:<line>: <word>: <text>" for each, and fails if there is one. Code is not looked at, except for names in
comments and strings.
"""

import pathlib
import re
import sys

SUFFIXES = {".hpp", ".cpp", ".cmake", ".py", ".md", ".sh"}
# Word -> where it is allowed: a pattern that the line has to match.
BANNED = {
    r"floors?\b(?!\()": r"floor\(|floor of|exact floor|'floor'|\bfloor\b.*log2|rounded down|std::floor",
    r"doors?\b": None,
    r"houses?\b": None,
    r"float world\b": None,
    r"(?:stands?|stood) (?:in|on|at|behind|beside|here|with|alone|together)\b": None,
    r"lies? (?:in|on|at|behind|where|between|beside)\b": r"lies between|lies halfway|lie between|lie within",
    r"behind\b": None,
    r"[Ww]ho(?:ever)? (?:wants?|has|runs|does|needs|brings)\b": None,
    r"(?:^|[.:;] )What (?!(?:is|are|does|did|happens)\b.*\?)": None,
    r"reckon(?:s|ed)?\b": None,
    r"come to pass\b": None,
    r"on show\b": None,
    r"rules of the house\b": None,
}


def comment_of(line, suffix):
    """The part of a line that people read: comments of code and names of tests, all of a page."""
    if suffix in (".hpp", ".cpp"):
        name = re.search(r'TEST_CASE\("([^"]*)"', line)
        if name:
            return name[1]
        place = line.find("//")
        return line[place + 2 :].lstrip("/<").strip() if place >= 0 and "://" not in line[place - 1 : place + 2] else ""
    if suffix in (".cmake", ".py", ".sh"):
        return line[line.find("#") + 1 :].strip() if "#" in line else ""
    return line.strip()


def findings(path):
    fenced = False
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if path.suffix == ".md" and line.startswith("```"):
            fenced = not fenced
        text = "" if fenced else comment_of(line, path.suffix)
        for word, allowed in BANNED.items():
            if text and re.search(r"(?<![\w`/-])(?:" + word + ")" if not word.startswith("(?:^") else word, text):
                if allowed is None or not re.search(allowed, text):
                    yield number, word, text


def main(arguments):
    count = 0
    for argument in arguments:
        root = pathlib.Path(argument)
        for path in [root] if root.is_file() else sorted(root.rglob("*")):
            if path.suffix not in SUFFIXES or path.name == pathlib.Path(__file__).name:
                continue
            for number, word, text in findings(path):
                print(f"{path}:{number}: {word}: {text}")
                count += 1
    print(f"{count} findings")
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
