"""Runs of the hill in this process: what is installed, how one is stopped, and what the store says of it."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
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
from trimpot.storage.database import FILE_NAME

CONFIG = load_config(SMALL)
HELPERS = str(Path(__file__).parent)
DEADLY = """
import os, sys
from pathlib import Path
from closed_form import hill_plugins
from trimpot.runs import session

session.plugins = hill_plugins
left = int(sys.argv[2])

def deadly(owner, name):
    real = getattr(owner, name)
    def wrapper(*given, **named):
        global left
        left -= 1
        if left < 0:
            os._exit(9)
        return real(*given, **named)
    setattr(owner, name, wrapper)
"""  # a process that dies at one of the calls of what is named deadly: the one after so many


def dying(script: str, folder: Path, steps: int) -> int:
    """Run a script in a process that dies after so many deadly calls; its exit status."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [HELPERS, os.environ.get("PYTHONPATH")]))}
    return subprocess.run([sys.executable, "-c", DEADLY + script, str(folder), str(steps)], env=environment).returncode


class Installed:
    """What is installed in this process: the hill, and whatever a test puts in its place."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self.put()

    def put(self, adapter: Adapter | None = None, objective: Objective | None = None) -> None:
        known = Plugins()  # tests add to it
        known.add(hill_plugin(adapter, objective), name="hill-plugin", origin="tests")
        self._monkeypatch.setattr(session, "plugins", lambda: known)


def show(folder: Path, run: str = "hill-1") -> dict[str, Any]:
    """What `trimpot show` says of a run."""
    with SqliteStore(folder, create=False) as store:
        return summary(store, store.run(run))


def num_candidates(folder: Path) -> int:
    """How many evaluations are in a store that another process may be writing; none if there is no store yet."""
    try:
        with closing(sqlite3.connect(f"file:{folder / FILE_NAME}?mode=ro", uri=True)) as connection:
            return int(connection.execute("SELECT count(*) FROM candidates").fetchone()[0])
    except sqlite3.OperationalError:
        return 0


def interrupt(folder: Path, patience: int = 9) -> None:
    """Begin a run and stop it after so many evaluations."""
    with pytest.raises(KeyboardInterrupt):
        session.start(CONFIG, folder, (Notes(patience),))
