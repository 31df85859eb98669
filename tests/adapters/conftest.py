"""A tiny pipeline of real classes, saved once and loaded through the real adapter."""

from __future__ import annotations

import importlib.util
import sys
import warnings
from pathlib import Path
from types import ModuleType

import pytest


def _load(name: str) -> ModuleType:
    """Import a helper module beside the tests (they are no package, so that pytest can import them in place)."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


tiny_models = _load("tiny_models")


@pytest.fixture(scope="session")
def sd3_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny SD3 checkpoint with dual attention."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what saving says is of no interest here
        return Path(tiny_models.tiny_sd3(tmp_path_factory.mktemp("sd3") / "tiny-sd3"))
