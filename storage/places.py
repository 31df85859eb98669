"""The places of a run's or an analysis's evaluations, read once and kept up to date while it is worked on."""

from __future__ import annotations

from collections.abc import Iterable

from .records import Records, Row


class Places:
    """The candidates of the run that was asked for last, by stage and generation.

    The candidates of a run are always read together and checked against the run's tally: a query for some of them
    would not notice that a damaged index hides a record.

    Args:
        records: The rows of a database.
        table: The table of the candidates: `candidates` of runs, or `analysed` of analyses.
    """

    def __init__(self, records: Records, table: str = "candidates") -> None:
        self._records = records
        self.table = table
        self._run = ""
        self._tally: tuple[int, str] | None = None
        self._rows: dict[tuple[str, int], list[Row]] = {}

    def at(self, run: str, stage: str, generation: int) -> list[Row]:
        """Return the candidates at a stage and generation of a run.

        Raises:
            StoreError: If any candidate of the run is damaged or lost.
        """
        tally = self._records.tally(self.table, run)
        if (run, tally) != (self._run, self._tally):
            self._run, self._tally, self._rows = run, tally, {}
            self._add(self._records.whole(self.table, run))
        return list(self._rows.get((stage, generation), ()))

    def insert(self, run: str, rows: Iterable[Row]) -> None:
        """Write candidates; call this in a transaction.

        If the transaction fails, the tally no longer agrees, and the next call reads all candidates again.
        """
        before, rows = self._records.tally(self.table, run), list(rows)
        self._records.insert_all(self.table, rows)
        if (run, before) == (self._run, self._tally):
            self._add(rows)
            self._tally = self._records.tally(self.table, run)

    def _add(self, rows: Iterable[Row]) -> None:
        for row in rows:
            self._rows.setdefault((row["stage"], row["generation"]), []).append(row)
