"""What the disk, SQLite or a damaged record says, in one sentence."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from ..ground.errors import StoreError

PATIENCE = 30  # seconds that are waited for another program that holds the database
_HINTS = {
    "database is locked": f"another program has held it for {PATIENCE} seconds; end that one, or close its transaction",
    "database or disk is full": "the disk is full; make room",
    "attempt to write a readonly database": "it is read-only",
    "unable to open database file": "the file cannot be opened; look at the permissions of it and its folder",
}


@contextlib.contextmanager
def sentences(what: str) -> Iterator[None]:
    """Turn what the disk or SQLite says into one sentence that begins with `what`.

    Raises:
        StoreError: Instead.
    """
    try:
        yield
    except sqlite3.Error as error:
        raise StoreError(f"{what}: {_hint(error)}") from error
    except UnicodeDecodeError as error:  # SQLite's own complaint quotes damaged text
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
    """Turn a record that SQLite reads and nobody can understand into one sentence.

    Raises:
        StoreError: Instead.
    """
    try:
        yield
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise damaged(path, name, f"{type(error).__name__}: {error}") from error


def damaged(path: Path, name: str, how: str) -> StoreError:
    """What to raise for a record that is not what was written."""
    return StoreError(f"the record {name} of {path} is damaged ({how}); restore the file from a backup")
