"""A tiny pipeline of real classes, saved once and loaded through the real adapter."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import tiny_models


@pytest.fixture(scope="session")
def sd3_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny SD3 checkpoint with dual attention."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what saving says is of no interest here
        return tiny_models.tiny_sd3(tmp_path_factory.mktemp("sd3") / "tiny-sd3")
