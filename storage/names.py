"""Names of runs and comparisons, which are names of folders too."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))}  # on Windows
LONGEST = 200  # with a number, a dot and an ending it is a file's name wherever 255 bytes are allowed


RESULTS = ("calibration.json", "report.html", "comparison.html")


def results_in(folder: Path) -> list[str]:
    """Names of the folders that hold the results of a run or of a comparison."""
    return [path.name for path in sorted(folder.iterdir()) if any((path / name).is_file() for name in RESULTS)]


def free_name(prefix: str, taken: Iterable[str]) -> str:
    """The first of `prefix-1`, `prefix-2`, … that is not taken, nor differs from a taken one in case only.

    A prefix that no folder can be called is made one: other characters become hyphens, and it is cut off.
    """
    prefix = re.sub("[^A-Za-z0-9_.-]+", "-", prefix).strip("-.")[:LONGEST] or "run"
    if prefix.partition(".")[0].casefold() in RESERVED:
        prefix = f"run-{prefix}"
    folded = {name.casefold() for name in taken}
    return next(name for n in range(1, len(folded) + 2) if (name := f"{prefix}-{n}").casefold() not in folded)
