"""Identify the weights of a checkpoint, and import a model library without its notices. Needs no model library."""

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
    """Compute a digest of the names and contents of all files that loading a checkpoint may read.

    Args:
        folder: The folder of a checkpoint, or a single file.

    Returns:
        16 hexadecimal digits.

    Raises:
        ConfigError: If a file cannot be read.
    """
    return content_digest(folder, PASSED_OVER)


@contextlib.contextmanager
def quiet_import() -> Iterator[None]:
    """Suppress the notices about optional packages while a model library is imported.

    A verbosity that the user has set is kept.
    """
    silenced = logging.root.manager.disable
    logging.disable(logging.WARNING)  # quantization packages log compiled parts that this machine cannot use
    try:
        with _default_environment("TRANSFORMERS_VERBOSITY", "error"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(silenced)


@contextlib.contextmanager
def _default_environment(name: str, value: str) -> Iterator[None]:
    """Set an environment variable inside the `with` block, unless the user has set it."""
    if name in os.environ:
        yield
        return
    os.environ[name] = value
    try:
        yield
    finally:
        del os.environ[name]
