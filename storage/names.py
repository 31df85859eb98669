"""Names of runs, comparisons, analyses and studies; they also name folders, so any file system must accept them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))}  # on Windows
LONGEST = 200  # a number, a dot and an ending still fit into the 255 bytes of a file name


NOTE = ".deleting"  # ending of the file that names what a deletion still has to remove
RESULTS = ("calibration.json", "report.html", "comparison.html", "analysis.html", "study.html")
#: The tables whose rows have a name, and a folder of that name; what else such a row owns has its name in this column.
OWNED_AS = {"runs": "run", "comparisons": "comparison", "analyses": "analysis", "studies": "study"}
NAMED = tuple(OWNED_AS)


def results_in(folder: Path) -> list[str]:
    """Return the names of the folders that hold the results of a run, a comparison or a study."""
    return [path.name for path in sorted(folder.iterdir()) if any((path / name).is_file() for name in RESULTS)]


def free_name(prefix: str, taken: Iterable[str]) -> str:
    """Return the first of `prefix-1`, `prefix-2`, … that is free; two names that differ only in case are the same.

    A prefix that cannot name a folder is changed: forbidden characters become hyphens, and its length is limited.
    """
    prefix = re.sub("[^A-Za-z0-9_.-]+", "-", prefix).strip("-.")[:LONGEST] or "run"
    if prefix.partition(".")[0].casefold() in RESERVED:
        prefix = f"run-{prefix}"
    folded = {name.casefold() for name in taken}
    return next(name for n in range(1, len(folded) + 2) if (name := f"{prefix}-{n}").casefold() not in folded)
