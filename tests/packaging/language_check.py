#!/usr/bin/env python3
"""Finds words that comments and pages do not use: metaphors, and constructions that hide the subject. Finds test cases
whose names do not begin with the tested function, type or program: "<subject>: <property> [<range>]".

    language_check.py FOLDER_OR_FILE...

Prints "<file>:<line>: <word>: <text>" for each, and fails if there is one. Of code it reads comments and names of test
cases.
"""

import pathlib
import re
import sys

SUFFIXES = {".hpp", ".cpp", ".h", ".c", ".cmake", ".py", ".md", ".sh"}
SUFFIX_OF_NAME = {"CMakeLists.txt": ".cmake", "run": ".sh"}
# Word -> where it is allowed: a pattern that the line has to match.
BANNED = {
    r"floors?\b(?!\()": r"floor\(|floor of|exact floor|'floor'|\bfloor\b.*log2|rounded down|std::floor",
    r"doors?\b": None,
    r"houses?\b": None,
    r"float world\b": None,
    r"(?:stands?|stood) (?:in|on|at|behind|beside|for|here|with|alone)\b": None,
    r"together\b": None,
    r"lies? (?:in|on|at|behind|where|between|beside)\b": r"lies between|lies halfway|lie between|lie within",
    r"behind\b": None,
    r"[Ww]ho(?:ever)? (?:wants?|has|runs|does|needs|brings)\b": None,
    # "What" begins a line, a heading, an item of a list, a cell of a table or a sentence, and asks nothing.
    r"(?:^[#>*\-| ]*|[.:;|] )What (?!(?:is|are|does|did|happens)\b.*\?)": None,
    # "X is what Y needs" hides that Y needs X, and "of what Y needs" the name of it. Indirect questions ("tells what Y
    # needs") are no findings.
    r"(?:is|are|was|were|be|costs?|gets?|takes?) what\b": None,
    r"(?:after|as|before|below|beside|by|for|from|in|into|of|on|than|to|with) what\b": None,
    r"what (?:is|was) left\b": None,
    r"reckon(?:s|ed)?\b": None,
    r"come to pass\b": None,
    r"on show\b": None,
    r"rules of the house\b": None,
}

LITERAL = r'"((?:[^"\\]|\\.)*)"'
TEST_CASE = re.compile(r"TEST_CASE(?:_METHOD)?\(\s*(?:[\w:]+,\s*)?(" + LITERAL + r"(?:\s*" + LITERAL + ")*)")
SUBJECT = re.compile(r"[A-Za-z_][\w:-]*(?:, [A-Za-z_][\w:-]*)*: \S")


def test_names(text):
    """The names of the test cases of a source, each with the number of its line."""
    for found in TEST_CASE.finditer(text):
        yield text.count("\n", 0, found.start(1)) + 1, "".join(re.findall(LITERAL, found[1]))


def comment_of(line, suffix):
    """The part of a line that people read: comments of code, all of a page."""
    if suffix in (".hpp", ".cpp", ".h", ".c"):
        place = line.find("//")
        return line[place + 2 :].lstrip("/<").strip() if place >= 0 and "://" not in line[place - 1 : place + 2] else ""
    if suffix in (".cmake", ".py", ".sh"):
        return line[line.find("#") + 1 :].strip() if "#" in line else ""
    return line.strip()


def banned_words(text, before=""):
    """The words of a line, and those that the line before begins and this one ends."""
    joined = f"{before} {text}"
    for word, allowed in BANNED.items():
        pattern = word if word.startswith("(?:^") else r"(?<![\w`/-])(?:" + word + ")"
        split = any(found.start() < len(before) < found.end() for found in re.finditer(pattern, joined))
        for found, where in ((re.search(pattern, text), text), (split, joined)):
            if text and found and (allowed is None or not re.search(allowed, where)):
                yield word
                break


def suffix_of(path):
    return SUFFIX_OF_NAME.get(path.name, path.suffix)


def findings(path):
    content = path.read_text(encoding="utf-8")
    suffix = suffix_of(path)
    fenced, before = False, ""
    for number, line in enumerate(content.splitlines(), 1):
        if suffix == ".md" and line.startswith("```"):
            fenced = not fenced
        text = "" if fenced else comment_of(line, suffix)
        for word in banned_words(text, before):
            yield number, word, text
        before = text
    for number, name in test_names(content) if path.suffix == ".cpp" else []:
        for word in banned_words(name):
            yield number, word, name
        if not SUBJECT.match(name):
            yield number, 'a name without "<subject>: "', name
        if ";" in name:  # CMake splits it in two, and neither half is a test case
            yield number, "a name with a semicolon", name


def main(arguments):
    count = 0
    for argument in arguments:
        root = pathlib.Path(argument)
        for path in [root] if root.is_file() else sorted(root.rglob("*")):
            if not path.is_file() or suffix_of(path) not in SUFFIXES or path.name == pathlib.Path(__file__).name:
                continue
            for number, word, text in findings(path):
                print(f"{path}:{number}: {word}: {text}")
                count += 1
    print(f"{count} findings")
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
