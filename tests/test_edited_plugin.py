"""A user's own reward and backbone, edited between two processes: what the one gave is never taken for the other's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from waiting import LONG

PLUGIN = """
import os
import sys
import numpy as np
import trimpot
from my_helpers import SHIFT

class Line(trimpot.Adapter):
    space = trimpot.KnobSpace([trimpot.Knob("slope"), trimpot.Knob("offset")])

    def generate(self, population, bucket):
        assert not {"torch", "diffusers"} & set(sys.modules), "this calibration needs neither"
        for slope, offset in population:
            yield [-abs(slope - 1.2) - abs(offset - 0.9) + seed % 100 / 1000 for seed in bucket.seeds]

    def describe(self):
        return {"id": "line"}

class Mine(trimpot.Objective):
    calls = 0

    def score(self, outputs, prompts):
        self.calls += 1
        if self.calls > int(os.environ.get("CALLS", 1000)):
            raise RuntimeError("enough")
        return 100 + SHIFT + np.array(outputs)

@trimpot.hookimpl
def register_adapters(register):
    register("line", lambda: Line())

@trimpot.hookimpl
def register_objectives(register):
    register("mine", lambda: Mine())
"""
ARGUMENTS = [
    *("optimizer=random", "optimizer.population_size=4", "generations=2", "bucket_size=2"),
    *("validation.num_prompts=4", "test.num_prompts=4"),
]
CONFIG = "adapter: line\nobjectives: mine\nprompts: numbers\n"


class Installed:
    """A plugin in a folder of its own, with what an installer leaves beside it; and the command line that has it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.site = folder, folder / "site"
        home = self.site / "my_reward-0.1.dist-info"
        home.mkdir(parents=True)
        (home / "METADATA").write_text("Metadata-Version: 2.1\nName: my-reward\nVersion: 0.1\n")
        (home / "entry_points.txt").write_text("[trimpot]\nmine = my_reward\n")
        (home / "RECORD").write_text("my_reward.py,,\n")
        (folder / "config.yaml").write_text(CONFIG)
        self.write()

    def write(self, old: str = "", new: str = "", shift: int = 0) -> None:
        """Put the plugin there, with one line changed."""
        assert not old or old in PLUGIN
        (self.site / "my_reward.py").write_text(PLUGIN.replace(old, new) if old else PLUGIN)
        (self.site / "my_helpers.py").write_text(f"SHIFT = {shift}\n")

    def run(self, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        paths = os.pathsep.join(filter(None, [str(self.site), os.environ.get("PYTHONPATH", "")]))
        environment = {**os.environ, "PYTHONPATH": paths, "COLUMNS": "200", "PYTHONDONTWRITEBYTECODE": "1", **variables}
        command = [sys.executable, "-m", "trimpot", *words]
        return subprocess.run(command, env=environment, cwd=self.folder, capture_output=True, text=True, timeout=LONG)

    def calibrate(self) -> dict[str, Any]:
        done = self.run("calibrate", "config.yaml", *ARGUMENTS, "--json")
        assert done.returncode == 0, done.stderr
        shown: dict[str, Any] = json.loads(done.stdout)
        return shown


@pytest.fixture
def plugin(tmp_path: Path) -> Installed:
    return Installed(tmp_path)


EDITS: dict[str, Callable[[Installed], None]] = {
    "the reward": lambda plugin: plugin.write("100 + SHIFT", "500 + SHIFT"),
    "a second module that the reward imports": lambda plugin: plugin.write(shift=400),
    "the backbone": lambda plugin: plugin.write("yield [-abs", "yield [400 - abs"),
}


@pytest.mark.slow
def test_an_edit_gives_new_scores_and_its_undoing_the_old_ones(plugin: Installed) -> None:
    def neutral_and_digest() -> tuple[float, str]:
        shown = plugin.calibrate()
        calibration = json.loads((plugin.folder / shown["calibration"]).read_text())
        return calibration["by_steps"][0]["neutral"], shown["digest"]

    before = neutral_and_digest()
    assert 99 < before[0] < 101
    for what, edit in EDITS.items():
        plugin.write()
        edit(plugin)
        neutral, digest = neutral_and_digest()
        assert 499 < neutral < 501 and digest != before[1], what
    plugin.write()
    assert neutral_and_digest() == before


def test_a_run_goes_on_with_an_edited_reward_only_if_it_is_told_to(plugin: Installed) -> None:
    stopped = plugin.run("calibrate", "config.yaml", *ARGUMENTS, CALLS="2")
    assert stopped.returncode == 1 and "enough" in stopped.stderr
    plugin.write("100 + SHIFT", "500 + SHIFT")
    refused = plugin.run("resume")
    assert refused.returncode == 1
    assert "was begun with another backbone, reward or prompts" in refused.stderr
    assert "reward 'mine' differ" in refused.stderr and "--allow-drift" in refused.stderr
    assert refused.stderr.count("\n") == 1
    plugin.write()
    assert plugin.run("resume", CALLS="1").returncode == 1, "the reward that it was begun with is known again"
    plugin.write("100 + SHIFT", "500 + SHIFT")
    assert plugin.run("resume", "--allow-drift").returncode == 0


def test_a_calibration_says_what_it_was_made_with(plugin: Installed) -> None:
    shown = plugin.calibrate()
    calibration = json.loads((plugin.folder / shown["calibration"]).read_text())
    for made in (calibration["backbone"]["made_of"], calibration["objectives"]["mine"]["made_of"]):
        assert (made["distribution"], made["version"]) == ("my-reward", "0.1")
        assert len(made["code"]) == 16
