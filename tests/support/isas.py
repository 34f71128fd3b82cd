"""The instruction sets of cmake/isas.cmake."""

import pathlib
import re

LIST = pathlib.Path(__file__).resolve().parents[2] / "cmake" / "isas.cmake"


def read(*families):
    """The compiler flags of each set of these families, by name; of all sets if none is given."""
    text = LIST.read_text(encoding="utf-8")
    variables = dict(re.findall(r'set\((\w+) "(-[^"]*)"\)', text))
    text = re.sub(r"\$\{(\w+)\}", lambda match: variables.get(match[1], match[0]), text)
    rows = re.findall(r'^ +"(\w+) (any|x86|aarch64)((?: -\S+)*)"$', text, re.MULTILINE)
    return {name: flags.split() for name, family, flags in rows if not families or family in families}
