"""Runs the example with the arguments if there is NumPy: ctypes_check.py <program> <argument>..."""

import importlib.util
import runpy
import sys

if importlib.util.find_spec("numpy") is None:
    print("[intact: skipped] there is no NumPy")
else:
    sys.argv = sys.argv[1:]
    runpy.run_path(sys.argv[0], run_name="__main__")
