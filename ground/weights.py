"""Telling which weights were loaded, and loading a model library without its notices. Needs no model library."""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

from .digests import content_digest

PASSED_OVER = (".md", ".png", ".jpg", ".jpeg", ".webp", ".gif", ".mp4", ".pdf", ".lock", ".pyc")  # never loaded


def weights_digest(folder: Path) -> str:
    """A digest of a checkpoint's files: the name and every byte of each that loading may read.

    Args:
        folder: A checkpoint's folder, or one file of it.

    Returns:
        16 hexadecimal digits.

    Raises:
        ConfigError: If something cannot be read.
    """
    return content_digest(folder, PASSED_OVER)


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
