"""The example of every seam is a part that works: a whole run is made of nothing else."""

from __future__ import annotations

import doctest
from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest
from trimpot.engine import seams, watcher, workshop
from trimpot.engine.bucket import PromptSet
from trimpot.engine.hooks import hookimpl
from trimpot.engine.knobs import Knob, KnobSpace
from trimpot.engine.loop import calibrate
from trimpot.engine.seams import Adapter, Combination, Objective, Optimizer, Store
from trimpot.engine.watcher import Watcher
from trimpot.engine.worker import Worker
from trimpot.engine.workshop import Workshop
from trimpot.setup.assembly import assemble
from trimpot.setup.config import load_config
from trimpot.setup.plugins import Plugins

SEAMS = {
    "Line": Adapter, "Level": Objective, "Worst": Combination, "Wander": Optimizer, "InMemory": Store,
    "OneByOne": Workshop, "Log": Watcher,
}  # fmt: skip


@pytest.fixture(scope="module")
def examples() -> dict[str, Any]:
    """What the examples define, run as they are written."""
    names = {**vars(seams), "Watcher": Watcher, "Future": Future, "np": np, "Knob": Knob, "KnobSpace": KnobSpace}
    for seam in SEAMS.values():
        for example in doctest.DocTestParser().get_examples(seam.__doc__ or ""):
            exec(example.source, names)
    return names


def test_every_seam_has_an_example(examples: dict[str, Any]) -> None:
    assert set(SEAMS) <= set(examples)
    own = [
        kind for module in (seams, watcher, workshop) for kind in vars(module).values()
        if isinstance(kind, type) and kind.__module__ == module.__name__ and kind.__name__ != "Here"
    ]  # fmt: skip
    assert set(own) == set(SEAMS.values())


def test_a_run_of_examples_alone_finds_the_best_line(examples: dict[str, Any]) -> None:
    class Plugin:
        @hookimpl
        def register_adapters(self, register: Any) -> None:
            register("line", lambda: examples["Line"]())

        @hookimpl
        def register_objectives(self, register: Any) -> None:
            register("level", lambda: examples["Level"]())

        @hookimpl
        def register_combinations(self, register: Any) -> None:
            register("worst", lambda weights: examples["Worst"]())

        @hookimpl
        def register_optimizers(self, register: Any) -> None:
            register("wander", lambda space, *, start, seed: examples["Wander"](space, start=start, seed=seed))

        @hookimpl
        def register_prompts(self, register: Any) -> None:
            register("lengths", lambda: PromptSet(("1", "2", "3"), ("1.5", "2.5"), ("0.5", "3.5")))

    known = Plugins()
    known.add(Plugin(), name="examples", origin="tests")
    config = {
        "adapter": "line", "objectives": "level", "combine": "worst", "prompts": "lengths", "optimizer": "wander",
        "generations": 60, "bucket_size": 3, "validation": {"num_prompts": 2, "every": 20}, "test": {"num_prompts": 2},
    }  # fmt: skip
    run, log, store = assemble("line-1", load_config(config), known), examples["Log"](), examples["InMemory"]()
    shop = examples["OneByOne"](Worker(run.adapter, run.objectives, store.keeper))
    outcome = calibrate(run, store, log, shop)
    assert outcome.comparisons[0].gain.mean > 1.5  # of the 2 that there are
    assert abs(outcome.calibrated["slope"]) < 0.3
    assert log.lines[0].startswith("generation 0: best -")
    assert calibrate(run, store, examples["Log"](), shop) == outcome, "a warm store finds it all"
