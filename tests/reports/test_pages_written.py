"""A page is written over a page, never over anything else that a user named by mistake."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from published import published_run
from trimpot.calibrations.contrast import contrast, write_contrast
from trimpot.engine.calibration import Calibration
from trimpot.ground.errors import CalibrationError
from trimpot.publishing.catalogue import entries_in, write_catalogue
from trimpot.reports.sheet import write_sheet


def _contrast(path: Path, folder: Path) -> None:
    made = Calibration.load(published_run(folder / "one"))
    write_contrast(path, contrast(made, made))


def _catalogue(path: Path, folder: Path) -> None:
    published_run(folder / "runs" / "one")
    write_catalogue(path, "Ours", entries_in(folder / "runs")[0])


def _sheet(path: Path, folder: Path) -> None:
    write_sheet(path, "Samples", ["words"], [])


WRITERS: dict[str, Callable[[Path, Path], None]] = {"diff": _contrast, "gallery": _catalogue, "sample": _sheet}


@pytest.mark.parametrize("command", WRITERS)
def test_a_page_replaces_a_page_and_nothing_else(command: str, tmp_path: Path) -> None:
    write, page, kept = WRITERS[command], tmp_path / "page.html", tmp_path / "calibration.json"
    write(page, tmp_path / "first")
    write(page, tmp_path / "second")
    assert page.read_text().startswith("<!doctype html>")
    kept.write_text("{}")
    with pytest.raises(CalibrationError, match="holds something that is no page"):
        write(kept, tmp_path / "third")
    assert kept.read_text() == "{}"


def test_calibrations_without_knobs_are_not_compared(tmp_path: Path) -> None:
    made = Calibration.load(published_run(tmp_path / "one"))
    with pytest.raises(CalibrationError, match="has no knobs, so there is nothing to compare"):
        contrast(made, made.model_copy(update={"setting": {}}))
