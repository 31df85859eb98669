"""Fixtures of the tests of adapters."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import tiny_language as tiny


@pytest.fixture(scope="module")
def language_folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    home = tmp_path_factory.mktemp("models")

    def folder(kind: str) -> Path:
        return home / kind if (home / kind).exists() else tiny.folder(home / kind, kind)

    return folder
