"""Files and folders that are written whole or not at all, and the folder of the store."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import TrimpotError

DEFAULT_STORE = Path("trimpot-runs")  # the folder of the store where none is named


def store_option(folder: Path) -> str:
    """Return the option of a command that names the store, with a space before it; empty for the default folder."""
    return "" if folder == DEFAULT_STORE else f" --store {shlex.quote(str(folder))}"


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
    except Exception as failure:
        said = _reason(failure)
        if said is None:
            raise
        raise error(f"cannot write {folder}: {said}") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_text(path: Path, text: str, *, error: type[TrimpotError]) -> None:
    """Write a text file, in place of what may be there, whole or not at all.

    Raises:
        TrimpotError: Of the class `error`, if it cannot be written; nothing half-written is left.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as failure:
        with contextlib.suppress(OSError):  # without a folder, there is no partial file
            partial.unlink()
        raise error(f"cannot write {path}: {failure.strerror}") from None


def _reason(failure: Exception) -> str | None:
    """Return why a file cannot be written, or None if that is not what failed; safetensors has a class of its own."""
    if isinstance(failure, OSError):
        return failure.strerror or str(failure)
    if type(failure).__name__ == "SafetensorError" and "os error" in str(failure):
        return str(failure).rpartition("I/O error: ")[2].partition(" (os error")[0]
    return None
