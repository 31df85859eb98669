"""The hub's cache as downloads leave it."""

from __future__ import annotations

import shutil
from pathlib import Path

COMMIT = "c0ffee" + "0" * 34


def cached(cache: Path, repository: str, folder: Path, kind: str = "models") -> None:
    """Lay a folder into the cache as a download of the main branch leaves it."""
    home = cache / (f"{kind}--" + repository.replace("/", "--"))
    shutil.copytree(folder, home / "snapshots" / COMMIT)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(COMMIT)
