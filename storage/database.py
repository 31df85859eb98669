"""The store's file: opened to write, or to read where writing is not allowed."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock
from sqlite_utils import Database

from ..ground.errors import StoreError
from .migrations import migrations
from .names import results_in
from .records import Records
from .sentences import PATIENCE, sentences

FILE_NAME = "trimpot.sqlite"
_STEPS = [migration.name for migration in migrations._migrations]


class StoreFile:
    """A database in a folder, with records that carry checksums.

    Attributes:
        folder: Where it lies.
        path: The file.
        read_only: Whether the folder or file may not be written, so that the store can only be looked at.
        records: Its rows.

    Args:
        folder: Where the database lies; made if absent.
        create: Whether to make the database if it is absent, and to write it.

    Raises:
        StoreError: If the folder cannot be written or the file is corrupt, foreign or newer.
    """

    def __init__(self, folder: Path, *, create: bool = True) -> None:
        self.folder = folder
        self.path = folder / FILE_NAME
        self._copy: tempfile.TemporaryDirectory[str] | None = None
        self._sound = False
        if not create and not self.path.exists():
            raise StoreError(f"no runs in {folder}: {self.path} does not exist; start one with `trimpot calibrate`")
        with sentences(f"cannot use {self.path}"):
            if create:
                folder.mkdir(parents=True, exist_ok=True)
            self.read_only = not create and not (_writable(folder) and _writable(self.path))
            connection = self._opened_to_read() if self.read_only else self._opened_to_write(create)
        self._db = Database(connection)
        self.records = Records(connection, self.path)

    def close(self) -> None:
        """Close the database; its file is whole from now on, unless another process still has it open."""
        self.settle()
        self._db.conn.close()
        if self._copy:
            self._copy.cleanup()

    def settle(self) -> None:
        """Bring what the write-ahead log holds into the file itself, as far as nobody is in the way."""
        if not self.read_only:
            with contextlib.suppress(sqlite3.Error):  # the log is as good, only not in one file
                self._db.conn.execute("PRAGMA wal_checkpoint(PASSIVE)")

    def refuse_read_only(self) -> None:
        """Say before any work that nothing can be written.

        Raises:
            StoreError: If it cannot.
        """
        if self.read_only:
            raise StoreError(
                f"{self.folder} may only be read here; "
                f"`trimpot backup DESTINATION --store {self.folder}` copies it to where you may write"
            )

    def _opened_to_write(self, create: bool) -> sqlite3.Connection:
        changing = create
        if self.path.exists():
            with contextlib.closing(_connected(self.path, "mode=ro")) as looked_at:
                changing |= bool(_steps_to_come(looked_at, self.path))
        with FileLock(self.folder / ".trimpot.lock") if changing else contextlib.nullcontext():
            connection = sqlite3.connect(self.path, timeout=PATIENCE, isolation_level=None)
            with _closed_on_error(connection):
                connection.execute("PRAGMA journal_mode=WAL")
                connection.execute("PRAGMA synchronous=FULL")
                connection.execute("PRAGMA foreign_keys=ON")
                _bring_up_to_date(connection, self.path)  # under the lock: two processes may begin a store at once
                if create:  # a read-only file says so now, not at the first result
                    connection.execute("BEGIN IMMEDIATE")
                    connection.execute("COMMIT")
        return connection

    def _opened_to_read(self) -> sqlite3.Connection:
        """The file as it is; where that cannot be, a copy of it in a temporary folder.

        SQLite reads a write-ahead log only beside an index that it keeps in the folder too. Where there is neither,
        the file is whole and nobody writes it.
        """
        log = self.path.with_name(f"{FILE_NAME}-wal")
        logged = log.exists() and log.stat().st_size > 0
        for mode in ["mode=ro"] if logged else ["mode=ro", "immutable=1"]:
            connection = _connected(self.path, mode)
            with contextlib.suppress(sqlite3.OperationalError), _closed_on_error(connection):
                if not _steps_to_come(connection, self.path):
                    return connection
            connection.close()
        self._copy = tempfile.TemporaryDirectory(prefix="trimpot-")
        copy = Path(self._copy.name) / FILE_NAME
        try:
            for file in (self.path, log):
                if file.exists():
                    shutil.copyfile(file, copy.with_name(file.name))
            connection = sqlite3.connect(copy, isolation_level=None)
            with _closed_on_error(connection):
                _bring_up_to_date(connection, self.path)
        except BaseException:
            self._copy.cleanup()
            raise
        return connection

    def _read(self, query: str, values: tuple[Any, ...] = ()) -> list[dict[str, Any]]:
        with sentences(f"cannot read {self.path}"):
            return list(self._db.query(query, list(values)))

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        """Write, all or nothing.

        Raises:
            StoreError: In one sentence, if the file is damaged or cannot be written.
        """
        self.refuse_read_only()
        with sentences(f"cannot write {self.path}"):
            if not self._sound:  # a damaged list of free pages would let a record be written over another
                _refuse_unsound(self._db.conn, self.path)
                self._sound = True
            self._db.conn.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.conn.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):  # where SQLite has rolled back by itself, as on a full disk
                    self._db.conn.execute("ROLLBACK")
                raise


def _writable(path: Path) -> bool:
    return os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids)


def _connected(path: Path, mode: str) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?{mode}"
    return sqlite3.connect(uri, uri=True, timeout=PATIENCE, isolation_level=None)


def _refuse_unsound(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse a file whose pages do not fit together."""
    found = [row[0] for row in connection.execute("PRAGMA integrity_check(1)")]
    if found != ["ok"]:
        said = " ".join(str(found[0]).split()) if found else "nothing is found"
        raise StoreError(f"{path} is damaged ({said}); restore the file from a backup")


def _bring_up_to_date(connection: sqlite3.Connection, path: Path) -> None:
    """Take the steps of the schema that a file lacks."""
    to_come = _steps_to_come(connection, path)
    if to_come and len(to_come) < len(_STEPS):
        _refuse_unsound(connection, path)  # checksums are not given to what is damaged already
    try:
        if to_come:
            migrations.apply(Database(connection))
    except (StoreError, sqlite3.Error):
        raise
    except Exception as error:  # a damaged schema makes sqlite-utils fail in any way
        raise StoreError(f"{path} is damaged ({type(error).__name__}); restore the file from a backup") from error


def _steps_to_come(connection: sqlite3.Connection, path: Path) -> list[str]:
    """The steps of the schema that a file lacks; a file that is not ours is refused, untouched."""
    names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
    tables = {name for (name,) in names if not name.startswith("sqlite_")}
    applied = set()
    if "_sqlite_migrations" in tables:
        steps = connection.execute("SELECT name FROM _sqlite_migrations WHERE migration_set = 'trimpot'")
        applied = {name for (name,) in steps}
    if tables - {"_sqlite_migrations"} and not applied:  # with no tables at all, a process died as it made the file
        raise StoreError(f"{path} is a database of something else; choose another folder with --store")
    if not tables and path.exists() and 0 < path.stat().st_size < 512:  # SQLite takes less than a page for no database
        raise StoreError(f"{path} is damaged (it is cut off); restore the file from a backup")
    if not tables and path.exists() and path.stat().st_size == 0 and (lost := results_in(path.parent)):
        raise StoreError(
            f"{path} is empty, and results of {lost[0]} lie beside it; restore the file from a backup, or choose "
            f"another folder with --store"
        )
    if newer := sorted(map(str, applied - set(_STEPS))):
        raise StoreError(f"{path} was written by a newer trimpot (schema step {newer[0]!r}); upgrade trimpot")
    return [step for step in _STEPS if step not in applied]


@contextlib.contextmanager
def _closed_on_error(connection: sqlite3.Connection) -> Iterator[None]:
    try:
        yield
    except BaseException:
        connection.close()
        raise
