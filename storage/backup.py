"""A whole copy of a store, made while others may be writing to it."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from collections.abc import Iterable
from pathlib import Path

from ..ground.errors import StoreError
from .analyses import Analyses
from .database import FILE_NAME
from .kept_images import IMAGES
from .names import NAMED, OWNED_AS
from .records import TALLIED
from .sentences import sentences
from .store import SqliteStore


def back_up(store: SqliteStore, destination: Path, *, images: bool = True) -> None:
    """Copy a store: its database (the write-ahead log included), the runs' files and the kept images.

    Every record of the copy is read. If one is damaged, an error names the damage and the copy is removed.

    Args:
        store: An open store.
        destination: A folder that is absent or empty.
        images: Whether to copy the kept images too; `trimpot rescore` needs them.

    Raises:
        StoreError: If the destination is not empty or cannot be written, or if the store is damaged.
    """
    destination = destination.absolute()
    with sentences(f"cannot write {destination}"):
        if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
            raise StoreError(f"{destination} holds something already; name a folder that does not exist yet")
        destination.parent.mkdir(parents=True, exist_ok=True)
        partial = destination.with_name(f".{destination.name}.partial")
        if partial.exists():
            shutil.rmtree(partial)
        partial.mkdir()
        try:
            _copy_database(store, partial / FILE_NAME)
            _look_through(partial)
            for name in _folders(store, images):
                source = store.folder / name
                if source.is_dir():
                    shutil.copytree(source, partial / name, ignore=shutil.ignore_patterns("*.part", ".*.partial"))
            if destination.exists():
                destination.rmdir()
            partial.rename(destination)
        except shutil.Error as error:  # its argument lists (source, destination, reason) of every failure
            raise StoreError(f"cannot copy {error.args[0][0][0]}: {error.args[0][0][2]}") from None
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def _copy_database(store: SqliteStore, path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as copy:
        store._db.conn.backup(copy)
        copy.execute("PRAGMA journal_mode=DELETE")  # a single file, without a write-ahead log


def _folders(store: SqliteStore, images: bool) -> Iterable[str]:
    owners = [row["id"] for table in NAMED for row in store.records.whole(table)]
    return [*owners, *([IMAGES] if images else [])]


def _look_through(folder: Path) -> None:
    """Read every record of a copy, so that a damaged one raises a StoreError."""
    with SqliteStore(folder, create=False) as copy:
        with copy._transaction():
            pass  # a transaction checks the pages of the file
        runs = [row.id for row in copy.runs()]
        named = {table: [row["id"] for row in copy.records.whole(table)] for table in NAMED}
        raters = [row["id"] for study in named["studies"] for row in copy.records.whole("raters", study)]
        owned = {"": [""], "rater": raters, **{OWNED_AS[table]: names for table, names in named.items()}}
        for table, column in TALLIED.items():
            owners = owned[column]
            for owner in owners:
                copy.records.whole(table, owner)
        for run in runs:
            copy.prompts(run)
            copy.history(run)
        for analysis in named["analyses"]:
            Analyses(copy).get(analysis)
            Analyses(copy).history(analysis)
