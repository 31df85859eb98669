"""Looking at a store that others write: nothing is written, nobody waits, and what is seen is of one moment."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

from ..ground.errors import StoreError
from .database import _STEPS, FILE_NAME, _closed_on_error, _connected, _steps_to_come
from .records import _RANGE
from .runs import held
from .store import Recorded, SqliteStore

Stamp = tuple[tuple[int, int, int], ...]


class NothingYetError(StoreError):
    """A database in which nothing is written yet."""


class Look(SqliteStore):
    """A store opened for one short look.

    SQLite itself refuses every write (`mode=ro`, `query_only`). All that is read is read in one transaction, which
    waits for no writer and which no writer waits for; it should be closed within a second, since the write-ahead log
    is not copied into the database file meanwhile.

    Args:
        folder: The folder of the database.

    Raises:
        NothingYetError: If nothing is written in the database yet.
        StoreError: If there is no database, it is corrupt or foreign, or another version of trimpot wrote it.
    """

    def __init__(self, folder: Path) -> None:
        self._stamp = stamp(folder)
        super().__init__(folder, create=False)

    def __enter__(self) -> Look:
        return self

    @property
    def overtaken(self) -> bool:
        """Whether the file was changed in place during the look, so that what was seen may be of two moments."""
        return self._immutable and stamp(self.folder) != self._stamp

    def locked(self, run_id: str) -> bool:
        """Return whether a process is working on a run or a comparison now; two that look do not see each other."""
        return held(self._lock_path(run_id))

    def since(self, run: str, number: int, total: int) -> tuple[list[Recorded], int] | None:
        """Return the evaluations of a run from a number on, and the sum of all checksums with them.

        Args:
            run: The name of the run.
            number: How many evaluations are known already.
            total: The sum of the checksums of those.

        Returns:
            None if what is known is no longer what the run begins with, so that it must be read from the beginning.

        Raises:
            StoreError: If a record is damaged or lost.
        """
        known, summed = self.records.tally("candidates", run)
        if known == number:
            return ([], total) if int(summed, 16) == total else None
        rows = self.records.whole("candidates", run) if not number else self.records.later("candidates", run, number)
        total = (total + sum(int(row["checksum"], 16) for row in rows)) % _RANGE
        if (number + len(rows), total) != (known, int(summed, 16)):
            return None
        return list(self._evaluated(sorted(rows, key=lambda row: int(row["number"])))), total

    def files(self, key: str) -> list[str]:
        """Return the names of the kept images of an evaluation in bucket order; none if they were not kept."""
        rows = sorted(self.records.read("outputs", evaluation=key), key=lambda row: int(row["position"]))
        return [str(row["file"]) for row in rows]

    def _may_write(self) -> bool:
        return False

    def _opened_to_read(self) -> sqlite3.Connection:
        """Connect to the database itself; if no other process has a log, without making one."""
        self._immutable = not _logged(self.path)
        try:
            connection = self._begun(_connected(self.path, "immutable=1" if self._immutable else "mode=ro"))
        except sqlite3.OperationalError:  # a log on a disk that may only be read: only a copy can be read
            connection = self._begun(super()._opened_to_read())
        return connection

    def _begun(self, connection: sqlite3.Connection) -> sqlite3.Connection:
        with _closed_on_error(connection):
            connection.execute("PRAGMA query_only=ON")
            connection.execute("PRAGMA busy_timeout=1000")
            to_come = _steps_to_come(connection, self.path)
            if len(to_come) == len(_STEPS):
                raise NothingYetError(f"{self.path} is empty; whoever made it has not written to it yet")
            if to_come:
                raise StoreError(
                    f"{self.path} was written by an earlier trimpot; "
                    f"`trimpot runs --store {self.folder}` brings it up to date"
                )
            connection.execute("BEGIN")
        return connection

    def close(self) -> None:
        """End the look."""
        with contextlib.suppress(sqlite3.Error):
            self._db.conn.execute("ROLLBACK")
        super().close()


def stamp(folder: Path) -> Stamp:
    """Return what changes whenever anything is written to the store of a folder."""
    found = []
    for ending in ("", "-wal", "-journal"):
        with contextlib.suppress(OSError):
            about = (folder / f"{FILE_NAME}{ending}").stat()
            found.append((about.st_ino, about.st_size, about.st_mtime_ns))
    return tuple(found)


def _logged(path: Path) -> bool:
    """Return whether something is written that is not in the database file yet."""
    for ending in ("-wal", "-journal"):
        with contextlib.suppress(OSError):
            if path.with_name(path.name + ending).stat().st_size > 0:
                return True
    return False
