"""The results of a run: the paths of its files, its report, and its summary."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..engine.record import decisive
from ..reports.nouns import made_by, noun
from ..setup.recorded import record_of
from ..storage import RunRow, SqliteStore


@dataclass(frozen=True)
class Files:
    """The paths of a run's results.

    Attributes:
        calibration: The artifact.
        report: The self-contained page.
        images: Before-and-after pictures.
    """

    calibration: Path
    report: Path
    images: Path

    @classmethod
    def of(cls, folder: Path) -> Files:
        """Return the paths of the results in a run's folder."""
        return cls(folder / "calibration.json", folder / "report.html", folder / "images")


def report(store: SqliteStore, run_id: str) -> Files:
    """Write a run's report, and record that it is written.

    Raises:
        StoreError: If there is no such run, or the store cannot be written.
        CalibrationError: If the report cannot be written; a finished run is then `unreported`.
    """
    from ..reports import write_report

    files = Files.of(store.run_folder(run_id))
    write_report(store, run_id, files)
    if store.run(run_id).unreported:
        store.update_run(run_id, unreported=None, error=None)
    return files


def summary(store: SqliteStore, row: RunRow) -> dict[str, Any]:
    """Return the summary of a run that `trimpot show --json` prints."""
    files = Files.of(store.folder / row.id)
    record = record_of(row, store.evaluations(row.id, decisive(row.config)))
    comparisons = row.outcome["comparisons"] if row.outcome else []
    totals, makes = store.totals(row.id), made_by(row.outcome, record)
    spent = totals.pop("generate_seconds") + totals.pop("score_seconds")
    return {
        "run": row.id,
        "status": row.status,
        "created": row.created,
        **totals,
        "makes": makes,
        "seconds": row.seconds,
        "engine_share": max(0.0, 1 - spent / row.seconds) if row.outcome and row.seconds else None,
        "gain": comparisons[0]["gain"] if comparisons else None,
        "stop_reason": row.stop_reason,
        "error": row.error,
        "alarms": [{**asdict(alarm), "text": alarm.told(noun(makes))} for alarm in record.alarms],
        "calibration": str(files.calibration) if os.path.exists(files.calibration) else None,
        "report": str(files.report) if os.path.exists(files.report) else None,
        "outcome": row.outcome,
        "config": row.config,
        "versions": row.versions,
        "continued": row.continued,
        "parent": row.parent,
        "extended": [{key: each[key] for key in each if key != "forgotten"} for each in row.extended],
    }
