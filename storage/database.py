"""The store's database file, opened for writing, or for reading if the folder may not be written."""

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
from .views import altered, put

FILE_NAME = "trimpot.sqlite"
_STEPS = [migration.name for migration in migrations._migrations]


class StoreFile:
    """A database in a folder; its records carry checksums.

    Attributes:
        folder: The folder of the database.
        path: The database file.
        read_only: Whether the folder or the file may not be written, so that the store can only be read.
        records: The rows of the database.

    Args:
        folder: The folder of the database; made if absent.
        create: Whether to make the database if it is absent, and to open it for writing.

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
            self.read_only = not create and not self._may_write()
            connection = self._opened_to_read() if self.read_only else self._opened_to_write(create)
        self._db = Database(connection)
        self.records = Records(connection, self.path)

    def close(self) -> None:
        """Close the database. Its file then holds everything, unless another process still has the database open."""
        self.settle()
        self._db.conn.close()
        if self._copy:
            self._copy.cleanup()

    def settle(self) -> None:
        """Copy the write-ahead log into the database file, as far as other processes allow."""
        if not self.read_only:
            with contextlib.suppress(sqlite3.Error):  # the log remains valid beside the file
                self._db.conn.execute("PRAGMA wal_checkpoint(PASSIVE)")

    def refuse_read_only(self) -> None:
        """Refuse, before any work is done, to work on a store that cannot be written.

        Raises:
            StoreError: If the store cannot be written.
        """
        if self.read_only:
            raise StoreError(
                f"{self.folder} may only be read here; "
                f"`trimpot backup DESTINATION --store {self.folder}` copies it to where you may write"
            )

    def _may_write(self) -> bool:
        return _writable(self.folder) and _writable(self.path)

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
                _mend_views(connection, self.path)
                if create:  # a read-only file is noticed now, not at the first result
                    connection.execute("BEGIN IMMEDIATE")
                    connection.execute("COMMIT")
        return connection

    def _opened_to_read(self) -> sqlite3.Connection:
        """Connect for reading: to the database itself or, if that is impossible, to a copy in a temporary folder.

        SQLite reads a write-ahead log only with an index file in the same folder. If neither exists, the database
        file holds everything and no process is writing it.
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
        """Open a transaction: everything written in it is committed, or nothing is.

        Raises:
            StoreError: If the file is damaged or cannot be written.
        """
        self.refuse_read_only()
        with sentences(f"cannot write {self.path}"):
            if not self._sound:  # with a damaged list of free pages, SQLite may overwrite a record
                _refuse_unsound(self._db.conn, self.path)
                self._sound = True
            self._db.conn.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.conn.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):  # SQLite has rolled back already, as on a full disk
                    self._db.conn.execute("ROLLBACK")
                raise


def _writable(path: Path) -> bool:
    return os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids)


def _connected(path: Path, mode: str) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?{mode}"
    return sqlite3.connect(uri, uri=True, timeout=PATIENCE, isolation_level=None)


def _refuse_unsound(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse a file that fails SQLite's check of its pages."""
    found = [row[0] for row in connection.execute("PRAGMA integrity_check(1)")]
    if found != ["ok"]:
        said = " ".join(str(found[0]).split()) if found else "nothing is found"
        raise StoreError(f"{path} is damaged ({said}); restore the file from a backup")


def _bring_up_to_date(connection: sqlite3.Connection, path: Path) -> None:
    """Apply the steps of the schema that a file lacks."""
    to_come = _steps_to_come(connection, path)
    if to_come and len(to_come) < len(_STEPS):
        _refuse_unsound(connection, path)  # a damaged row must not get a checksum
    try:
        if to_come:
            migrations.apply(Database(connection))
    except (StoreError, sqlite3.Error):
        raise
    except Exception as error:  # on a damaged schema, sqlite-utils may raise anything
        raise StoreError(f"{path} is damaged ({type(error).__name__}); restore the file from a backup") from error


def _mend_views(connection: sqlite3.Connection, path: Path) -> None:
    """Give the views their text back if another program has changed it; no record depends on them."""
    if altered(connection):
        _refuse_unsound(connection, path)
        connection.execute("BEGIN IMMEDIATE")
        put(connection)
        connection.execute("COMMIT")


def _steps_to_come(connection: sqlite3.Connection, path: Path) -> list[str]:
    """Return the steps of the schema that a file lacks; refuse, unchanged, a file that is no store of trimpot."""
    names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
    tables = {name for (name,) in names if not name.startswith("sqlite_")}
    applied = set()
    if "_sqlite_migrations" in tables:
        steps = connection.execute("SELECT name FROM _sqlite_migrations WHERE migration_set = 'trimpot'")
        applied = {name for (name,) in steps}
    if tables - {"_sqlite_migrations"} and not applied:  # without any table, a process died while it made the file
        raise StoreError(f"{path} is the database of another program; choose another folder with --store")
    if not tables and path.exists() and 0 < path.stat().st_size < 512:  # SQLite reads less than a page as empty
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
