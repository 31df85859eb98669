"""Folders that may be read and not written, even where tests are run by one who may do anything."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

NOBODY = 65534


@contextlib.contextmanager
def unwritable(source: Path) -> Iterator[Path]:
    """A copy of a folder, and this process as somebody who may only read it."""
    with tempfile.TemporaryDirectory() as above:  # not below pytest's folders, which nobody else may enter
        Path(above).chmod(0o755)
        folder = Path(above) / source.name
        shutil.copytree(source, folder)
        everything = [folder, *folder.rglob("*")]
        for path in everything:
            path.chmod(0o555 if path.is_dir() else 0o444)
        root = hasattr(os, "geteuid") and os.geteuid() == 0
        try:
            if root:
                os.seteuid(NOBODY)
            with contextlib.suppress(OSError):
                (folder / "probe").touch()
                pytest.skip("this user may write anywhere")
            yield folder
        finally:
            if root:
                os.seteuid(0)
            for path in everything:
                path.chmod(0o755)
