"""Folders that are written whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import TrimpotError


@contextmanager
def whole_folder(folder: Path, *, error: type[TrimpotError]) -> Iterator[Path]:
    """Give a hidden folder to write into, which takes its name when the block ends; if the block fails, nothing stays.

    Args:
        folder: The folder to write, which does not exist yet.
        error: The class of the error to raise.

    Raises:
        TrimpotError: Of the class `error`, if the folder exists or cannot be written.
    """
    if folder.exists():
        raise error(f"{folder} exists already; name a folder that does not, or remove it")
    partial = folder.with_name(f".{folder.name}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        yield partial
        partial.rename(folder)
    except OSError as failure:
        raise error(f"cannot write {folder}: {failure.strerror or failure}") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
