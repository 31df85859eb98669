"""Tiny pipelines of real classes, each saved once and loaded through the real adapters."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import tiny_models

Folders = Callable[[str], Path]


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """The folder of a tiny checkpoint by its name in `tiny_models`."""

    @cache
    def saved(name: str) -> Path:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what saving says is of no interest here
            found: Path = getattr(tiny_models, f"tiny_{name}")(tmp_path_factory.mktemp("models") / f"tiny-{name}")
            return found

    return saved


@pytest.fixture(scope="session")
def sd3_folder(tiny_folder: Folders) -> Path:
    """A tiny SD3 checkpoint with dual attention."""
    return tiny_folder("sd3")


@pytest.fixture(scope="session")
def flux_folder(tiny_folder: Folders) -> Path:
    """A tiny FLUX.1 checkpoint, guidance-distilled."""
    return tiny_folder("flux")


@pytest.fixture(scope="session")
def qwen_folder(tiny_folder: Folders) -> Path:
    """A tiny Qwen-Image checkpoint."""
    return tiny_folder("qwen")


@pytest.fixture(scope="session")
def wan_folder(tiny_folder: Folders) -> Path:
    """A tiny Wan checkpoint."""
    return tiny_folder("wan")


@pytest.fixture(scope="session")
def pixart_folder(tiny_folder: Folders) -> Path:
    """A tiny PixArt-Sigma checkpoint."""
    return tiny_folder("pixart")
