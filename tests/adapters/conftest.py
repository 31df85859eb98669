"""Tiny pipelines of real classes, each saved once and loaded through the real adapters."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny_models

Build = Callable[[Path], Path]


def _saved(build: Build, factory: pytest.TempPathFactory) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what saving says is of no interest here
        return build(factory.mktemp("models") / build.__name__.replace("_", "-"))


@pytest.fixture(scope="session")
def sd3_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny SD3 checkpoint with dual attention."""
    return _saved(tiny_models.tiny_sd3, tmp_path_factory)


@pytest.fixture(scope="session")
def flux_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny FLUX.1 checkpoint, guidance-distilled."""
    return _saved(tiny_models.tiny_flux, tmp_path_factory)


@pytest.fixture(scope="session")
def qwen_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Qwen-Image checkpoint."""
    return _saved(tiny_models.tiny_qwen, tmp_path_factory)


@pytest.fixture(scope="session")
def wan_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Wan checkpoint."""
    return _saved(tiny_models.tiny_wan, tmp_path_factory)


@pytest.fixture(scope="session")
def ltx_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny LTX checkpoint."""
    return _saved(tiny_models.tiny_ltx, tmp_path_factory)


@pytest.fixture(scope="session")
def cogvideox_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny CogVideoX checkpoint."""
    return _saved(tiny_models.tiny_cogvideox, tmp_path_factory)


@pytest.fixture(scope="session")
def pixart_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny PixArt-Sigma checkpoint."""
    return _saved(tiny_models.tiny_pixart, tmp_path_factory)
