"""Runs of the hill in this process: what is installed, how one is stopped, and what the store says of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from closed_form import SMALL, Notes, hill_plugin
from trimpot.engine.seams import Adapter, Objective
from trimpot.runs import session
from trimpot.runs.results import summary
from trimpot.setup.config import load_config
from trimpot.setup.plugins import Plugins
from trimpot.storage import SqliteStore

CONFIG = load_config(SMALL)


class Installed:
    """What is installed in this process: the hill, and whatever a test puts in its place."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self.put()

    def put(self, adapter: Adapter | None = None, objective: Objective | None = None) -> None:
        known = Plugins()
        known.add(hill_plugin(adapter, objective), name="hill-plugin", origin="tests")
        self._monkeypatch.setattr(session, "plugins", lambda: known)


def show(folder: Path, run: str = "hill-1") -> dict[str, Any]:
    """What `trimpot show` says of a run."""
    with SqliteStore(folder, create=False) as store:
        return summary(store, store.run(run))


def interrupt(folder: Path, patience: int = 9) -> None:
    """Begin a run and stop it after so many evaluations."""
    with pytest.raises(KeyboardInterrupt):
        session.start(CONFIG, folder, (Notes(patience),))
