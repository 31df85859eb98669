"""Run all proofs and print a table; exit with status 1 if a proof fails."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from . import proofs

_HEADINGS = ("objective", "source", "compares with", "difference", "tolerance", "verdict")


def main() -> int:
    """Run every proof, print a row for each, and return the exit status."""
    rows = [_HEADINGS]
    for proof in proofs():
        with tempfile.TemporaryDirectory() as folder:
            difference = proof.run(Path(folder))
        verdict = "equal" if difference <= proof.tolerance else "DIFFERS"
        numbers = (f"{difference:.1e}", f"{proof.tolerance:.0e}")
        rows.append((proof.objective, proof.source, proof.compares_with, *numbers, verdict))
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return int(any(row[-1] == "DIFFERS" for row in rows))


if __name__ == "__main__":
    sys.exit(main())
