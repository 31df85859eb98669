"""A page of many calibrations: what each was made on, its gain, and its first pictures."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

from ..applying.located import FILE_NAME
from ..engine.calibration import Calibration
from ..engine.nouns import noun
from ..ground.errors import CalibrationError
from ..reports.gallery import read_pictures
from ..reports.skeleton import whole_page, write_page

NUM_PICTURES = 4


class Entry(NamedTuple):
    """A calibration's name, itself, and the folder that holds it."""

    name: str
    calibration: Calibration
    folder: Path


def entries_in(folder: Path) -> tuple[list[Entry], list[str]]:
    """Return the calibrations in a folder and its subfolders, best gain first, and a sentence for each damaged one.

    Raises:
        CalibrationError: If there is no such folder, or it holds no calibration.
    """
    if not folder.is_dir():
        raise CalibrationError(f"there is no folder {folder}; give a folder of runs or of pulled calibrations")
    found, wrong = [], []
    for file in sorted(folder.rglob(FILE_NAME)):
        try:
            made = Calibration.load(file)
        except CalibrationError as error:
            wrong.append(str(error))
            continue
        found.append(Entry(str(file.parent.relative_to(folder)), made, file.parent))
    if not found and not wrong:
        raise CalibrationError(f"{folder} holds no {FILE_NAME}, in no subfolder either")
    return sorted(found, key=_worst_last), wrong


def _worst_last(entry: Entry) -> float:
    gain = entry.calibration.gain
    return math.inf if gain is None else -gain.mean


def write_catalogue(path: Path, title: str, entries: Sequence[Entry]) -> None:
    """Write the page, self-contained, whole or not at all.

    Raises:
        CalibrationError: If it cannot be written.
    """
    sections = "".join(map(_section, entries))
    head = f"<header><h1>{escape(title)}</h1><p>{len(entries)} calibrations, the largest gain first.</p></header>"
    write_page(path, whole_page(title, head + sections, interactive=False))


def _section(entry: Entry) -> str:
    made, gain = entry.calibration, entry.calibration.gain
    taken = f" on {gain.num_images} {noun(made.provenance.makes)}" if gain else ""
    steps = f", {made.num_steps} steps" if made.num_steps else ""
    cards = []
    for picture in read_pictures(entry.folder / "images")[:NUM_PICTURES]:
        sides = "".join(
            f'<div><img src="{_data(side)}" alt="{escape(name)}"><span>{name}</span></div>'
            for name, side in (("neutral", picture.neutral), ("calibrated", picture.calibrated))
        )
        cards.append(
            f'<figure><div class="pair">{sides}</div><figcaption>{escape(picture.prompt)}</figcaption></figure>'
        )
    gallery = f'<div class="gallery">{"".join(cards)}</div>' if cards else ""
    return (
        f"<section><h2>{escape(entry.name)}</h2><p>{escape(str(made.backbone.get('id')))}, {len(made.setting)} knobs"
        f"{steps}: <b>{made.told_gain}</b>{taken}</p>{gallery}</section>"
    )


def _data(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
