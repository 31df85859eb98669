"""Runs that begin at the result of another run, and the record of that parent."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..engine.calibration import Calibration
from ..ground.errors import StoreError, near_misses
from ..setup.assembly import calibration_file
from ..storage import SqliteStore
from ..storage.database import FILE_NAME
from .results import Files


def result_of(source: str, folder: Path) -> Path:
    """Return the path of the result from which a new run begins.

    Args:
        source: A run of the store, or the path of a calibration file or of a finished run's folder.
        folder: The store's folder.

    Raises:
        StoreError: If there is no such run or file, `source` could mean either, or the run has no result yet.
    """
    path, runs = Path(source), {}
    if (folder / FILE_NAME).exists():
        with SqliteStore(folder, create=False) as store:
            runs = {row.id: row for row in store.runs()}
    own = Files.of(folder / source).calibration
    if source not in runs:
        if path.exists():
            return path.absolute()
        raise StoreError(f"--from: no run of {folder} and no file is called {source!r}; {near_misses(source, runs)}")
    if path.exists() and not os.path.samefile(path, folder / source):
        raise StoreError(
            f"--from: {source!r} is a run of {folder} and lies here as well; write ./{source} for the file"
        )
    if runs[source].outcome is None:
        raise StoreError(f"--from: run {source} has no result yet; go on with `trimpot resume {source}` first")
    return own.absolute()


def parent_of(start: str | None, folder: Path) -> dict[str, Any] | None:
    """Return the run whose result is a start: `run`, `digest`, and `path` if the file lies outside of the store.

    Args:
        start: The configuration's `start`; None for the best neutral setting, which has no parent.
        folder: The store's folder.

    Raises:
        CalibrationError: If the calibration file cannot be read.
    """
    if start is None:
        return None
    path = calibration_file(start)
    made = Calibration.load(path).provenance
    found = {"run": made.run, "digest": made.digest}
    inside = path.resolve() == Files.of(folder / made.run).calibration.resolve()
    return found if inside else {**found, "path": str(path.absolute())}


def told_parent(parent: Mapping[str, Any]) -> str:
    """Return a parent as a text for users."""
    return f"{parent['run']} ({parent['path']})" if "path" in parent else str(parent["run"])
