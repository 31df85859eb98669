"""Texts on a page: as a person reads them, long ones folded, and nothing in them obeyed by a browser."""

from __future__ import annotations

from html import escape

from ..ground.errors import printable

LONGEST = 700  # characters of a text that is shown unfolded
BEGINNING, END = 160, 360  # characters of a folded text that are shown: prompts with examples differ at their ends


def prose(text: str) -> str:
    """Return a text as HTML that keeps its line breaks and spaces, with the middle of a long one folded.

    Control characters, and those that change the direction of writing, are left out.
    """
    clean = printable(text.replace("\r\n", "\n")).encode("utf-8", "replace").decode("utf-8")
    if len(clean) <= LONGEST:
        return escape(clean)
    shown = f"{escape(clean[:BEGINNING])} … {escape(clean[-END:])}"
    return f"<details><summary>{shown}<b> all {len(clean):,} characters</b></summary>{escape(clean)}</details>"
