"""What Python finds as ``zoo`` where a program of this folder is run by its path; it puts the package in its place."""

import importlib
import sys
from pathlib import Path

if __name__ == "zoo":
    # Python has put the folder of the program first, where `zoo` is this file and `agents` is not to be found.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    del sys.modules["zoo"]
    importlib.import_module("zoo")
