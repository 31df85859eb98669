"""Helper modules for every room, and hypothesis without a clock (the machines that test are not all quick)."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import hypothesis


def _load(name: str) -> None:
    """Import a helper module beside the tests (they are no package, so that pytest can import them in place)."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)


hypothesis.settings.register_profile("calm", deadline=None)
hypothesis.settings.load_profile("calm")
_load("closed_form")
