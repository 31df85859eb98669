"""Print the table of machine sizes and models: `python -m trimpot.defaults [MODEL ...]`."""

from __future__ import annotations

import sys

from ..ground.errors import TrimpotError
from .fit import RULE
from .table import markdown

if __name__ == "__main__":
    try:
        print(f"{RULE}\n\n{markdown(sys.argv[1:])}")
    except TrimpotError as problem:
        sys.exit(f"trimpot: {problem}")
