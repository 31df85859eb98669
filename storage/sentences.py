"""Turning errors of the disk, of SQLite and of damaged records into one sentence."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from ..ground.errors import StoreError

PATIENCE = 30  # seconds to wait for another program that has locked the database
_HINTS = {
    "database is locked": f"another program has held it for {PATIENCE} seconds; end that one, or close its transaction",
    "database or disk is full": "the disk is full; make room",
    "attempt to write a readonly database": "it is read-only",
    "unable to open database file": "the file cannot be opened; look at the permissions of it and its folder",
}


@contextlib.contextmanager
def sentences(what: str) -> Iterator[None]:
    """Turn an error of the disk or of SQLite into one sentence that begins with `what`.

    Raises:
        StoreError: In place of the original error.
    """
    try:
        yield
    except sqlite3.Error as error:
        raise StoreError(f"{what}: {_hint(error)}") from error
    except UnicodeDecodeError as error:  # SQLite's message quotes damaged text
        raise StoreError(f"{what}: it is corrupt") from error
    except UnicodeEncodeError as error:
        raise StoreError(f"{what}: {error.object[error.start : error.end]!r} is no character of Unicode") from error
    except OSError as error:
        raise StoreError(f"{what}: {error.strerror or error}") from error


def _hint(error: sqlite3.Error) -> str:
    said = str(error)
    if type(error) is sqlite3.DatabaseError:
        return "it is corrupt or no SQLite database"
    if said.startswith("Could not decode"):
        return "it is corrupt"
    return _HINTS.get(said, " ".join(said.split()))


@contextlib.contextmanager
def decoding(path: Path, name: str) -> Iterator[None]:
    """Turn the failure to decode a record, which SQLite itself can read, into one sentence.

    Raises:
        StoreError: In place of the original error.
    """
    try:
        yield
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise damaged(path, name, f"{type(error).__name__}: {error}") from error


def damaged(path: Path, name: str, how: str) -> StoreError:
    """Return the error to raise for a record that differs from what was written."""
    return StoreError(f"the record {name} of {path} is damaged ({how}); restore the file from a backup")
