"""A run whose second reward lives in another process, which is killed and started again in the middle of it."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from served import ServerProcess, python
from trimpot.runs import session
from trimpot.runs.results import summary
from trimpot.setup.config import load_config
from trimpot.storage import SqliteStore
from waiting import LONG

SMALL = {
    "adapter": {"name": "shapes", "granularity": "block", "num_inference_steps": 2, "guidance_grid": [2, 4]},
    "prompts": "shapes",
    "optimizer": {"name": "cma-es", "sigma0": 0.1, "population_size": 4, "diagonal": True},
    "generations": 2,
    "bucket_size": 4,
    "validation": {"num_prompts": 8, "every": 1},
    "test": {"num_prompts": 8},
}


class Killer:
    """A watcher that kills the server at the fifth evaluation, and has it started again a second later."""

    def __init__(self, server: ServerProcess) -> None:
        self.server = server
        self.left = 5
        self.restart = threading.Timer(1.0, server.start)

    def evaluation_recorded(self, **_: Any) -> None:
        self.left -= 1
        if self.left == 0:
            self.server.kill()
            self.restart.start()

    def __getattr__(self, name: str) -> Any:
        return lambda **_: None


def run(folder: Path, url: str, *watchers: Any) -> dict[str, Any]:
    """Run it and look at what was found."""
    objectives = {"shapes": {}, "weight": {"name": "remote", "weight": 0.05, "url": url, "patience": LONG}}
    name = session.start(load_config({**SMALL, "objectives": objectives}), folder, watchers)
    with SqliteStore(folder, create=False) as store:
        return summary(store, store.run(name))


@pytest.mark.slow
def test_a_run_survives_the_death_of_a_reward_server_to_the_same_digest(tmp_path: Path) -> None:
    with python("jpeg_size.py") as server:
        undisturbed = run(tmp_path / "undisturbed", server.url)
        first = server.process.pid
        killer = Killer(server)
        disturbed = run(tmp_path / "disturbed", server.url, killer)
        killer.restart.join()
        assert server.process.pid != first
    assert (disturbed["status"], disturbed["error"]) == ("finished", None)
    for key in ("digest", "num_evaluations", "num_images", "gain", "outcome"):
        assert disturbed[key] == undisturbed[key], key
