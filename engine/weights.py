"""Telling which weights were loaded, and loading a model library without its notices. Needs no model library."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

PASSED_OVER = (".md", ".png", ".jpg", ".jpeg", ".webp", ".gif", ".mp4", ".pdf", ".lock", ".pyc")  # never loaded


def weights_digest(folder: Path) -> str:
    """A digest of a checkpoint's files: the name and every byte of each that loading may read.

    A file is read once a process, and again when its size or its time of change is another.

    Args:
        folder: A checkpoint's folder, or one file of it.

    Returns:
        16 hexadecimal digits.
    """
    found = hashlib.sha256()
    if folder.is_file():
        files = [(folder.suffix, folder)]
    else:
        inside = (Path(home) / name for home, _, names in os.walk(folder, followlinks=True) for name in names)
        files = [(path.relative_to(folder).as_posix(), path) for path in inside]
        files = [(name, path) for name, path in files if _counts(name, path)]
    for name, path in sorted(files):
        status = path.stat()
        content = _file_digest(path.resolve(), status.st_size, status.st_mtime_ns, status.st_ino)
        found.update(f"{name}\0{status.st_size}\0{content}\0".encode())
    return found.hexdigest()[:16]


def _counts(name: str, path: Path) -> bool:
    """Whether loading may read a file of a checkpoint's folder."""
    hidden = any(part.startswith(".") for part in name.split("/"))
    return not hidden and path.suffix.lower() not in PASSED_OVER and path.is_file()


@functools.lru_cache(maxsize=4096)
def _file_digest(path: Path, _size: int, _changed: int, _inode: int) -> str:
    """A digest of a file's bytes; what it is stamped with only tells when to read it again."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            found.update(chunk)
    return found.hexdigest()


@contextlib.contextmanager
def quiet_import() -> Iterator[None]:
    """Import a model library without its notices about optional packages.

    A verbosity that the user has set stays as it is.
    """
    silenced = logging.root.manager.disable
    logging.disable(logging.WARNING)  # quantization packages log what compiled parts this machine has no use for
    try:
        with _default_environment("TRANSFORMERS_VERBOSITY", "error"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(silenced)


@contextlib.contextmanager
def _default_environment(name: str, value: str) -> Iterator[None]:
    """Set an environment variable unless the user has, for a while."""
    if name in os.environ:
        yield
        return
    os.environ[name] = value
    try:
        yield
    finally:
        del os.environ[name]
