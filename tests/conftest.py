"""Hypothesis without a clock and without luck, since machines are not all quick; one thread a process."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest
from tiny_folders import (  # noqa: F401  # fixtures
    flux_folder,
    pixart_folder,
    qwen_folder,
    sd3_folder,
    tiny_folder,
    wan_folder,
)
from trimpot import reports

if TYPE_CHECKING:
    from browser import Tab
    from playwright.sync_api import Browser
    from sessions import Installed

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run in two processes, and so do those that they start

hypothesis.settings.register_profile(
    "calm", deadline=None, derandomize=True, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("calm")


def pytest_collection_finish() -> None:
    """What the tests have imported stays, and looking for garbage in it would take longer than many a test."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Installed:
    """What is installed in this process: the hill."""
    from sessions import Installed

    return Installed(monkeypatch)


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No network."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


@pytest.fixture
def short_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Charts take longer than all else here, and change nothing."""
    monkeypatch.setattr(reports, "write_report", lambda store, run, files: files.report.write_text(run))


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A real browser, one for all tests of this process; skips where there is none."""
    from browser import launched

    with launched() as found:
        yield found


@pytest.fixture
def tab(browser: Browser) -> Iterator[Callable[..., Tab]]:
    """Opens tabs that remember what the console complained of."""
    from browser import Tab

    opened: list[Tab] = []

    def new(*given: Any, **options: Any) -> Tab:
        opened.append(Tab(browser, *given, **options))
        return opened[-1]

    yield new
    for each in opened:
        each.close()
