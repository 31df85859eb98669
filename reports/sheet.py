"""A sheet of samples: one self-contained page with the images of each prompt and seed, neutral beside calibrated."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

from .gallery import PNG_MODES
from .skeleton import whole_page, write_page

ROW = "display:grid;grid-template-columns:repeat(auto-fill,minmax(min(220px,45%),1fr));gap:14px;margin:10px 0 28px"
IMAGE = "width:100%;height:auto;border-radius:4px;display:block"


def write_sheet(path: Path, title: str, words: Sequence[str], samples: Iterable[Any]) -> None:
    """Write a page of samples.

    Args:
        path: The file to write, whole or not at all.
        title: The page's title.
        words: Paragraphs above the images.
        samples: Objects with `prompt`, `seed`, `neutral` (a PIL image or None) and `calibrated`.

    Raises:
        CalibrationError: If the file cannot be written.
    """
    by_prompt: dict[str, list[Any]] = {}
    for sample in samples:
        by_prompt.setdefault(sample.prompt, []).append(sample)
    sections = [
        f"<section><h2>{escape(prompt)}</h2>" + _row("neutral", group) + _row("calibrated", group) + "</section>"
        for prompt, group in by_prompt.items()
    ]
    head = f"<header><h1>{escape(title)}</h1>{''.join(f'<p>{escape(each)}</p>' for each in words)}</header>"
    write_page(path, whole_page(title, head + "".join(sections), interactive=False))


def _row(side: str, samples: Sequence[Any]) -> str:
    images = [(sample, getattr(sample, side)) for sample in samples]
    shown = [
        f'<figure style="margin:0"><img style="{IMAGE}" src="data:image/png;base64,{_png(image)}" '
        f'alt="{escape(f"{side}: {sample.prompt}, seed {sample.seed}", quote=True)}">'
        f'<figcaption class="note">{side}, seed {sample.seed}</figcaption></figure>'
        for sample, image in images
        if image is not None
    ]
    return f'<div style="{ROW}">{"".join(shown)}</div>' if shown else ""


def _png(image: Any) -> str:
    buffer = io.BytesIO()
    (image if image.mode in PNG_MODES else image.convert("RGB")).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()
