"""A hill with a valley beside it: whatever climbs on the views goes down on the cities, by an amount that is known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from closed_form import SMALL, TOP, Height, Hill, prompt_set
from numpy.typing import NDArray
from trimpot.engine.bucket import Bucket, PromptSet
from trimpot.engine.hooks import hookimpl
from trimpot.engine.knobs import Setting
from trimpot.engine.run import Run
from trimpot.engine.seams import Adapter, Objective
from trimpot.setup.assembly import assemble
from trimpot.setup.config import load_config
from trimpot.setup.plugins import Plugins

CITIES = {"cities": {"prompts": "cities", "num_validation": 6, "num_prompts": 8}}
BOTH = {**CITIES, "animals": {"prompts": "animals", "objectives": {"depth": {}}, "num_validation": 4, "num_prompts": 5}}


class Valley(Hill):
    """The hill, whose outputs for other prompts than views are best at the neutral setting."""

    def generate(self, population: NDArray[np.float64], bucket: Bucket) -> Iterator[list[float]]:
        for vector in population:
            yield [self._one(vector, *each) for each in zip(bucket.prompts, bucket.seeds, strict=True)]

    def _one(self, vector: NDArray[np.float64], prompt: str, seed: int) -> float:
        top = TOP if prompt.startswith("view") else self.space.defaults
        return -float(np.square(vector - top - 0.1 * np.random.default_rng(seed).standard_normal(len(top))).sum())


class Depth(Objective):
    """Ten times an output's own value."""

    def __init__(self, times: float = 10.0) -> None:
        self.times = times

    def score(self, outputs: Any, prompts: Any) -> NDArray[np.float64]:
        return self.times * np.array(outputs)

    def describe(self) -> dict[str, Any]:
        return {"times": self.times}


def others(name: str) -> PromptSet:
    """Forty prompts of a kind: a train prompt nobody uses, nineteen for validation, twenty for the test."""
    names = [f"{name} {number}" for number in range(40)]
    return PromptSet((names[0],), tuple(names[1:20]), tuple(names[20:]))


def elsewhere_plugins(adapter: Adapter | None = None) -> Plugins:
    """What is built in, the valley as `hill`, `height`, `depth`, and the prompts `views`, `cities` and `animals`."""
    valley = adapter or Valley()

    class Plugin:
        @hookimpl
        def register_adapters(self, register: Any) -> None:
            register("hill", lambda: valley)

        @hookimpl
        def register_objectives(self, register: Any) -> None:
            register("height", Height)
            register("depth", _depth)

        @hookimpl
        def register_prompts(self, register: Any) -> None:
            register("views", prompt_set)
            register("cities", lambda: others("city"))
            register("animals", lambda: others("animal"))

    known = Plugins()
    known.add(Plugin(), name="elsewhere-plugin", origin="tests")
    return known


def _depth(*, times: float = 10.0) -> Depth:
    return Depth(times)


def elsewhere_run(config: Mapping[str, Any] | None = None, adapter: Adapter | None = None) -> Run:
    """An assembled run on the valley; `config` changes keys of `SMALL`."""
    known = elsewhere_plugins(adapter)
    return replace(assemble("", load_config({**SMALL, **(config or {})}), known), id="hill-1")


def change_at(setting: Setting, neutral: Setting, bucket: Bucket) -> float:
    """The mean change of the height from one setting to the other, in closed form: prompts of cities or animals."""
    away, first = Hill.space.to_vector(setting) - 1.0, Hill.space.to_vector(neutral) - 1.0
    noise = np.array([0.1 * np.random.default_rng(seed).standard_normal(len(TOP)) for seed in bucket.seeds])
    return float((first @ first - away @ away) + 2 * (noise @ (away - first)).mean())
