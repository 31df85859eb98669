"""A run is the same whoever does its jobs: one process, several, Ray's actors, and any of them after its death."""

from __future__ import annotations

import importlib.util
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from comparing import Told
from trimpot.comparison.design import make_design
from trimpot.comparison.results import gather
from trimpot.comparison.running import compare
from trimpot.engine.watcher import Watcher
from trimpot.ground.errors import ConfigError, ModelError
from trimpot.runs.results import summary
from trimpot.runs.session import resume, start
from trimpot.setup.config import load_config
from trimpot.storage import SqliteStore

SPHERE = {
    "adapter": {"name": "sphere", "num_knobs": 6},
    "objectives": "value",
    "prompts": "numbers",
    "generations": 3,
    "bucket_size": 2,
    "validation": {"num_prompts": 8, "every": 2},
    "test": {"num_prompts": 16},
}
SHAPES = [
    "generations=2", "optimizer.population_size=8", "group_size=4", "bucket_size=4", "validation.num_prompts=4",
    "test.num_prompts=4", "adapter.num_inference_steps=2", "by_steps.steps=[]",
]  # fmt: skip
needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is an extra")


def digest(folder: Path, config: Any, *overrides: str, watchers: tuple[Watcher, ...] = ()) -> dict[str, Any]:
    """What a run comes to."""
    name = start(load_config(config, list(overrides)), folder, watchers)
    with SqliteStore(folder) as store:
        shown = summary(store, store.run(name))
    return {key: shown[key] for key in ("digest", "gain", "num_images", "status")}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What one process makes of the sphere."""
    return digest(tmp_path_factory.mktemp("alone"), SPHERE)


@pytest.mark.parametrize(
    "workers",
    [
        "workers=2",
        pytest.param("workers=3", marks=pytest.mark.slow),
        pytest.param("workers.ray=2", marks=[needs_ray, pytest.mark.slow]),
    ],
)
def test_any_number_of_workers_comes_to_the_same(workers: str, alone: dict[str, Any], tmp_path: Path) -> None:
    assert digest(tmp_path, SPHERE, workers) == alone


def test_a_run_goes_on_with_another_number_of_workers(alone: dict[str, Any], tmp_path: Path) -> None:
    class Enough(Watcher):
        def generation_told(self, run: Any, generation: int, evaluations: Any, sigma: Any) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        start(load_config(SPHERE, ["workers=2"]), tmp_path, (Enough(),))
    with SqliteStore(tmp_path) as store:
        assert store.run("sphere-1").status == "interrupted"
    resume(None, tmp_path, overrides=["workers=1"])
    with SqliteStore(tmp_path) as store:
        assert summary(store, store.run("sphere-1"))["digest"] == alone["digest"]


def test_a_run_is_extended_by_another_number_of_workers(alone: dict[str, Any], tmp_path: Path) -> None:
    start(load_config(SPHERE, ["generations=1"]), tmp_path)
    resume("sphere-1", tmp_path, overrides=["generations=+2", "workers=2"])
    with SqliteStore(tmp_path) as store:
        shown = summary(store, store.run("sphere-1"))
    assert {key: shown[key] for key in alone} == alone
    assert shown["config"]["workers"]["processes"] == 1, "who does it is no part of what a run is"


@pytest.mark.parametrize(
    ("config", "words", "said"),
    [
        (SPHERE, "workers=1000", r"ask for \d+"),
        ({**SPHERE, "adapter": {"name": "sphere", "num_knobs": 0}}, "workers=2", "num_knobs"),
        ({**SPHERE, "adapter": {"name": "flux", "model": "/nowhere"}}, "workers=2", "/nowhere"),
        pytest.param(SPHERE, "workers.ray=4000", "the cluster has .*; ask for", marks=needs_ray),
        (SPHERE, "workers.address=here", "give ray as well"),
        ({**SPHERE, "workers": {"ray": 2, "processes": 2}}, "seed=1", "leave one of the two empty"),
        (SPHERE, "workers=0", "workers"),
        (SPHERE, "workers=many", "workers"),
    ],
)
def test_workers_that_cannot_be_had_are_one_sentence(config: Any, words: str, said: str, tmp_path: Path) -> None:
    with pytest.raises((ConfigError, ModelError), match=said) as caught:
        digest(tmp_path, config, words)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "trimpot.sqlite").exists()


@pytest.mark.slow
def test_a_script_without_a_guard_is_run_once(tmp_path: Path) -> None:
    """Workers do not run the script that began them, which would begin workers again."""
    script = f"""
from pathlib import Path
from trimpot.runs.session import start
from trimpot.setup.config import load_config
print(start(load_config({ {**SPHERE, "workers": 2} }), Path("runs")))
"""
    (tmp_path / "script.py").write_text(script)
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "sphere-1\n"), done.stderr


class Killer(Watcher):
    """Kills a worker, or this process's every child, at random moments, so many times."""

    def __init__(self, kills: int, seed: int) -> None:
        self.kills, self.done, self._random = kills, 0, random.Random(seed)
        threading.Thread(target=self._kill, daemon=True).start()

    def _kill(self) -> None:
        while self.done < self.kills:
            time.sleep(self._random.uniform(0.5, 2.0))
            children = [child for child in psutil.Process().children() if "spawn_main" in " ".join(child.cmdline())]
            if children:
                os.kill(self._random.choice(children).pid, signal.SIGKILL)
                self.done += 1


@pytest.mark.slow
def test_workers_killed_at_twenty_moments_change_no_number(tmp_path: Path) -> None:
    alone = digest(tmp_path / "alone", "shapes", *SHAPES, "workers=1")
    killed = 0
    for seed in range(10):
        killer = Killer(2, seed)
        assert digest(tmp_path / f"killed-{seed}", "shapes", *SHAPES, "workers=2", watchers=(killer,)) == alone
        killed += killer.done
    assert killed >= 20


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["workers=2", "workers=3", pytest.param("workers.ray=2", marks=needs_ray)])
def test_any_number_of_workers_comes_to_the_same_on_the_shipped_model(workers: str, tmp_path: Path) -> None:
    assert digest(tmp_path / "alone", "shapes", *SHAPES, "workers=1") == digest(
        tmp_path / "crew", "shapes", *SHAPES, workers
    )


def test_a_comparison_is_the_same_with_a_crew(tmp_path: Path) -> None:
    def gains(folder: Path, **workers: int) -> dict[str, list[float]]:
        contenders = {"cma-es": {"optimizer": "cma-es"}, "random": {"optimizer": "random"}}
        design = make_design({"config": {**SPHERE, **workers}, "contenders": contenders, "seeds": 1, "images": 96})
        name = compare(design, folder, Told()).comparison
        with SqliteStore(folder) as store:
            results = gather(store, name)
            return {label: results.gains(label).tolist() for label in contenders}

    assert gains(tmp_path / "crew", workers=2) == gains(tmp_path / "alone")
