"""Tiny language models as the adapter makes them, and the sentence with which it refuses to."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from trimpot.adapters.language.adapter import LanguageAdapter
from trimpot.adapters.language.factory import make_transformers
from trimpot.ground.errors import TrimpotError


def made(path: Path, **options: Any) -> LanguageAdapter:
    adapter = make_transformers(**{"model": str(path), "device": "cpu", **options})
    assert isinstance(adapter, LanguageAdapter)
    return adapter


def refusal(work: Callable[[], object]) -> str:
    """The one sentence with which something is refused."""
    with pytest.raises(TrimpotError) as refused, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        work()
    said = str(refused.value)
    assert "\n" not in said
    return said
