"""Hypothesis without a clock, since the machines that test are not all quick; one thread a process."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import hypothesis
import pytest

if TYPE_CHECKING:
    from sessions import Installed

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run in two processes, and so do those that they start

hypothesis.settings.register_profile("calm", deadline=None)
hypothesis.settings.load_profile("calm")


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Installed:
    """What is installed in this process: the hill."""
    from sessions import Installed

    return Installed(monkeypatch)
