"""These tests call pipelines in every way, which is warned of once; `test_recommended` asks when."""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == HERE and item.path.stem.startswith("test_applying"):
            item.add_marker(pytest.mark.filterwarnings("ignore:the pipeline is called with"))
            item.add_marker(pytest.mark.filterwarnings("ignore:the calibration was measured with another scheduler"))
