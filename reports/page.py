"""The report of a run: one HTML file that needs no other file and no network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from .facts import Facts, gather
from .figures import figures
from .gallery import read_answers, read_pictures
from .sections import (
    answers_section,
    apply_section,
    configuration_section,
    gallery_section,
    header,
    knobs_section,
    objectives_section,
    scores_section,
    search_section,
    steps_section,
    tags_section,
    test_section,
)
from .skeleton import chart, whole_page, write_page
from .watched_sections import prompts_section, rescores_section, watched_section

if TYPE_CHECKING:
    from ..storage import SqliteStore


class RunFiles(Protocol):
    """The paths of a run's results; `runs.results.Files` implements this protocol."""

    @property
    def calibration(self) -> Path:
        """The calibration file."""

    @property
    def report(self) -> Path:
        """The HTML page."""

    @property
    def images(self) -> Path:
        """The folder of before-and-after pictures."""


def write_report(store: SqliteStore, run_id: str, files: RunFiles) -> None:
    """Write the page of a run, finished or not.

    Args:
        store: The store of the run.
        run_id: The name of the run.
        files: The path of the page to write, and of the pictures and the calibration to show.

    Raises:
        StoreError: If no run has this name.
        CalibrationError: If the page cannot be written.
    """
    write_page(files.report, render(gather(store, run_id), files, store.folder))


def render(facts: Facts, files: RunFiles, folder: Path) -> str:
    """Return the page as HTML.

    Args:
        facts: The facts of the run.
        files: The paths of the pictures and the calibration.
        folder: The folder of the store, for the commands that the page shows.
    """
    charts = {name: chart(name, figure.to_json()) for name, figure in figures(facts).items()}
    watched = (watched_section(facts), prompts_section(facts, charts))
    body = "\n".join(
        part
        for part in (
            header(facts),
            *(watched if facts.record.alarms else ()),
            gallery_section(facts, read_pictures(files.images)),
            answers_section(facts, read_answers(files.images)),
            search_section(facts, charts),
            knobs_section(facts, charts),
            steps_section(facts, charts),
            test_section(facts, charts),
            objectives_section(facts),
            tags_section(facts),
            *(() if facts.record.alarms else watched),
            rescores_section(facts),
            scores_section(facts),
            apply_section(facts, files.calibration, folder),
            configuration_section(facts),
        )
        if part
    )
    return whole_page(facts.row.id, body, interactive=bool(charts))
