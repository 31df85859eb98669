"""What is installed while comparisons are tested."""

from __future__ import annotations

import pytest
from comparing import Installed


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Installed:
    """The hill."""
    return Installed(monkeypatch)
