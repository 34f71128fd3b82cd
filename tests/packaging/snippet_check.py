"""Finds programs on pages that no program of examples/ contains: snippet_check.py <folder of the project>

A block of C++, C or Python must be consecutive lines of a source; spaces and ends of lines do not count."""

import pathlib
import re
import sys

project = pathlib.Path(sys.argv[1])
sources = [re.sub(r"\s+", " ", path.read_text()) for path in (project / "examples").rglob("*")
           if path.suffix in (".cpp", ".c", ".hpp", ".py")]
blocks = failures = 0
for page in [project / "README.md", *sorted((project / "docs").glob("*.md"))]:
    text = page.read_text()
    for block in re.finditer(r"^```(?:cpp|c|python)\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL):
        blocks += 1
        snippet = re.sub(r"\s+", " ", block[1]).strip()
        if not any(snippet in source for source in sources):
            failures += 1
            print(f"{page.name}:{text.count(chr(10), 0, block.start()) + 1}: no program of examples/ contains this")
print(f"{failures} of {blocks} blocks are in no program")
sys.exit(1 if failures or blocks == 0 else 0)
