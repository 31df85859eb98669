"""Runs that begin at the result of another run, and the record of that parent."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..engine.calibration import Calibration, Parent
from ..engine.schema import Config
from ..ground.errors import CalibrationError, StoreError, near_misses
from ..setup.starting import calibration_file
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
    made = Calibration.load(path)
    run = made.provenance.run
    found = {"run": run, "digest": made.identity}
    inside = path.resolve() == Files.of(folder / run).calibration.resolve()
    return found if inside else {**found, "path": str(path.absolute())}


def with_descent(made: Calibration, config: Config, parent: Mapping[str, Any] | None) -> Calibration:
    """Name in the result of a run what it began from; what was only measured stays all that its file says besides.

    Args:
        made: The result.
        config: The configuration of the run.
        parent: What `parent_of` returned when the run began.
    """
    if config.start is None or parent is None:
        return made
    how = "measured" if config.measures else "searched on from here"
    direct = Parent(run=parent["run"], digest=parent["digest"], how=how)
    before: Calibration | None = None
    with contextlib.suppress(CalibrationError):  # the file may be gone since
        before = Calibration.load(calibration_file(config.start))
    if not config.measures or before is None or before.provenance.run != parent["run"]:
        provenance = made.provenance.model_copy(update={"parents": (direct,)})
        return made.model_copy(update={"provenance": provenance})
    fields = {name: getattr(made.provenance, name) for name in type(made.provenance).model_fields}
    fields["parents"] = (*before.provenance.parents, direct)
    provenance = before.provenance.model_copy(update=fields)
    measured = {name: getattr(made, name) for name in type(made).model_fields}
    return before.model_copy(update={**measured, "provenance": provenance})


def told_parent(parent: Mapping[str, Any]) -> str:
    """Return a parent as a text for users."""
    return f"{parent['run']} ({parent['path']})" if "path" in parent else str(parent["run"])
