"""A study's answers as CSV, for statistics of one's own."""

from __future__ import annotations

import csv
import io

from .design import NOISE
from .results import Result

COLUMNS = (
    "rater", "counts", "position", "kind", "question", "prompt", "seed", "name", "left", "right", "answer", "choice",
    "check_passed", "seconds", "answered",
)  # fmt: skip
_OBEYED = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet takes a cell that begins so for a formula


def as_csv(result: Result) -> str:
    """Return every answer as a row; texts that a spreadsheet would execute get an apostrophe before them."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    counts = {rater.number: rater.counts for rater in result.raters}
    design = result.design

    def name(entrant: int | None) -> str:
        return "" if entrant is None else "shuffled" if entrant == NOISE else design.entrants[entrant]

    for each in sorted(result.rated, key=lambda each: (each.rater, each.position, each.answered)):
        item = design.items[each.item]
        passed = "" if each.right_answer is None else int(each.right_answer)
        row = (
            each.rater, int(counts[each.rater]), each.position + 1, each.kind, each.question, item.prompt,
            "" if item.seed is None else item.seed, item.name, name(each.left), name(each.right), each.answer,
            name(each.choice), passed, "" if each.seconds is None else each.seconds, each.answered,
        )  # fmt: skip
        writer.writerow([_safe(cell) if isinstance(cell, str) else cell for cell in row])
    return file.getvalue()


def _safe(cell: str) -> str:
    return f"'{cell}" if cell.startswith(_OBEYED) else cell
