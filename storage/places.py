"""Where a run's evaluations stand, read whole once and kept up to date while it is worked on."""

from __future__ import annotations

from collections.abc import Iterable

from .records import Records, Row


class Places:
    """The candidates of the run that was last asked for, by stage and generation.

    A part of a run is never looked up by itself: an index that has lost a record would hide it, where the whole of the
    run is held against its tally.

    Args:
        records: The rows of a database.
    """

    def __init__(self, records: Records) -> None:
        self._records = records
        self._run = ""
        self._tally: tuple[int, str] | None = None
        self._rows: dict[tuple[str, int], list[Row]] = {}

    def at(self, run: str, stage: str, generation: int) -> list[Row]:
        """The candidates at a stage and generation of a run.

        Raises:
            StoreError: If any of the run's are damaged or lost.
        """
        tally = self._records.tally("candidates", run)
        if (run, tally) != (self._run, self._tally):
            self._run, self._tally, self._rows = run, tally, {}
            self._add(self._records.whole("candidates", run))
        return list(self._rows.get((stage, generation), ()))

    def insert(self, run: str, rows: Iterable[Row]) -> None:
        """Write candidates; call it in a transaction. If that fails, the tally is another and all is read anew."""
        before, rows = self._records.tally("candidates", run), list(rows)
        self._records.insert_all("candidates", rows)
        if (run, before) == (self._run, self._tally):
            self._add(rows)
            self._tally = self._records.tally("candidates", run)

    def _add(self, rows: Iterable[Row]) -> None:
        for row in rows:
            self._rows.setdefault((row["stage"], row["generation"]), []).append(row)
