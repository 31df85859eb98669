"""`python -m trimpot.proofs.transformers [CLASS ...]`: check every transformer class and print the table.

This takes a minute or two. The exit status is 1 if a check fails.
"""

from __future__ import annotations

import sys

from rich.console import Console

from ...ground.errors import ModelError, TrimpotError, near_misses
from .table import CLASSES, Row, as_table, summary

WIDTH = 160


def main(kinds: list[str], library: str = "diffusers") -> int:
    """Check the named classes of a library, or all; print the table and return the exit status.

    Raises:
        ModelError: If there is no such class.
    """
    found = checked(kinds, library)
    console = Console()
    console.width = max(console.width, WIDTH)  # a narrower console would cut off cells
    console.print(as_table(found))
    console.print(summary(found, library), highlight=False)
    return status_of(found)


def status_of(found: list[Row]) -> int:
    """Return the exit status: 0 if all checks that were run have passed."""
    return 0 if all(one.holds or one.reason for one in found) else 1


def checked(kinds: list[str], library: str = "diffusers") -> list[Row]:
    """Check the named classes of a library, or all; a progress line is shown on stderr.

    Raises:
        ModelError: If there is no such class.
    """
    if library == "transformers":
        from ..language import causal_classes as classes
        from ..language import reading_classes
        from ..language.table import rows
    else:
        from .example import transformer_classes as classes
        from .table import rows
    known = sorted(classes())
    more = sorted(reading_classes()) if kinds and library == "transformers" else []  # listed by name only
    for kind in kinds:
        if kind not in [*known, *more]:
            raise ModelError(
                f"{library} has no {kind!r} among its {CLASSES[library]}; {near_misses(kind, [*known, *more])}"
            )
    kinds = kinds or known
    found: list[Row] = []
    with Console(stderr=True).status("") as status:
        status.update(f"{kinds[0]}")
        for one in rows(kinds):
            found.append(one)
            status.update(f"{len(found)} of {len(kinds)}: {one.kind}")
    return found


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except TrimpotError as error:
        sys.exit(str(error))
