"""Telling which weights were loaded, and loading a model library without its notices. Needs no model library."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

SUFFIXES = (".safetensors", ".json", ".bin", ".gguf", ".pt", ".pth", ".npy", ".txt", ".model")
_EDGE = 1 << 20


def weights_digest(folder: Path) -> str:
    """A digest of a checkpoint's files: name, size, first and last mebibyte of each.

    Args:
        folder: A checkpoint's folder, or one file of it.

    Returns:
        16 hexadecimal digits.
    """
    digest = hashlib.sha256()
    home = folder if folder.is_dir() else folder.parent
    files = folder.rglob("*") if folder.is_dir() else [folder]
    for path in sorted(path for path in files if path.suffix in SUFFIXES and path.is_file()):
        size = path.stat().st_size
        digest.update(f"{path.relative_to(home).as_posix()}\0{size}\0".encode())
        with path.open("rb") as file:
            digest.update(file.read(_EDGE))
            if size > _EDGE:
                file.seek(max(_EDGE, size - _EDGE))
                digest.update(file.read(_EDGE))
    return digest.hexdigest()[:16]


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
