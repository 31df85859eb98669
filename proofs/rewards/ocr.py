"""Proof of the OCR reward's arithmetic, on texts that the real reader reads; empty if the reader is not installed."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from PIL import Image, ImageDraw

from ...ground.extras import EXTRAS, is_installed
from ...objectives.judges import make_ocr
from . import Proof

WRITTEN = ("Hello World", "HELO", "trimpot 42", "zzz", "")
WANTED = ("Hello World", "hello", "Trimpot", "a fish", "cat")


def written(text: str) -> Image.Image:
    """Write a text in black letters on white."""
    page = Image.new("RGB", (260, 64), "white")
    ImageDraw.Draw(page).text((12, 10), text, fill="black", font_size=36)
    return page


def difference(folder: Path) -> float:
    """Compare with the recursive definition of the edit distance, on the known texts of the pages."""
    objective = make_ocr(detect=False)
    pages, prompts = [written(text) for text in WRITTEN], [f'a page with "{text}" on it' for text in WANTED]
    scores = objective.score(pages, prompts)
    by_hand = []
    for text, wanted in zip(WRITTEN, WANTED, strict=True):
        here, there = (words.replace(" ", "").lower() for words in (text, wanted))
        missed = 0 if there in here else min(_distance(here, there), len(there))
        by_hand.append(1 - missed / len(there))
    return float(max(abs(score - value) for score, value in zip(scores, by_hand, strict=True)))


@cache
def _distance(one: str, other: str) -> int:
    if not one or not other:
        return len(one) + len(other)
    changed = _distance(one[1:], other[1:]) + (one[0] != other[0])
    return min(changed, _distance(one[1:], other) + 1, _distance(one, other[1:]) + 1)


_INSTALLED = all(map(is_installed, EXTRAS["ocr"]))
PROOFS = (
    (Proof("ocr", "arXiv 2505.05470, section 4.1", "what the pages say, recursive distance", difference, 1e-12),)
    if _INSTALLED
    else ()
)
