"""Two backbones whose best setting and true gain are known, a store in memory, and a watcher that takes notes.

The knobs of `Hill` are alike and it has no denoising steps, so that little needs to be said of it; every knob of
`Ridge` has bounds, a default and a spread of its own, and what is best there depends on the number of steps.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from trimpot.engine.bucket import Bucket, PromptSet
from trimpot.engine.evaluation import Evaluation, Place
from trimpot.engine.hooks import hookimpl
from trimpot.engine.knobs import Knob, KnobSpace, digest
from trimpot.engine.run import Run
from trimpot.engine.seams import Adapter, Objective
from trimpot.engine.watcher import Watcher
from trimpot.ground.errors import ModelError, StoreError
from trimpot.setup.assembly import assemble
from trimpot.setup.config import load_config
from trimpot.setup.plugins import Plugins

TOP = np.array([1.3, 0.7, 1.2, 0.9, 1.1])


class Hill(Adapter):
    """An output is minus the squared distance to a top that the seed moves a little.

    On average over seeds, moving from `a` to `b` gains exactly |a - TOP|² - |b - TOP|².
    """

    space = KnobSpace([Knob(f"knob.{index}") for index in range(len(TOP))])

    def __init__(self, outputs_per_call: int = 5) -> None:
        self.outputs_per_call = outputs_per_call
        self.calls: list[int] = []

    def __getstate__(self) -> dict[str, Any]:
        """What was asked, and how much at once, makes no other hill."""
        return {}

    def generate(self, population: NDArray[np.float64], bucket: Bucket) -> Iterator[list[float]]:
        self.calls.append(len(population))
        tops = [TOP + 0.1 * np.random.default_rng(seed).standard_normal(len(TOP)) for seed in bucket.seeds]
        for vector in population:
            yield [-float(np.square(vector - top).sum()) for top in tops]

    def tied(self, granularity: str) -> dict[str, list[str]]:
        tyings = {"pairs": [[0, 1], [2, 3], [4]], "one": [[0, 1, 2, 3, 4]], "own": [[0], [1], [2], [3], [4]]}
        if granularity not in tyings:
            raise ModelError(f"the hill knows no granularity {granularity!r}")
        return {f"{granularity}.{n}": [f"knob.{i}" for i in tied] for n, tied in enumerate(tyings[granularity])}

    def describe(self) -> dict[str, Any]:
        return {"id": "hill"}


class Ridge(Adapter):
    """An output is minus the squared distance to a top that the seed moves a little, in spreads, less `HAZE` / steps.

    Its guidance is best at 2 + 8 / steps, and its neutral settings differ in nothing else. What a setting gains over
    another is on average over seeds what `ridge_score` says of both.
    """

    space = KnobSpace(
        [
            Knob("one.attn", low=-1.0, high=2.0, default=1.0, spread=1.0),
            Knob("one.mlp", low=0.5, high=4.0, default=1.5, spread=0.5),
            Knob("two.attn", low=-20.0, high=1.25, default=0.0, spread=5.0),
            Knob("two.mlp", low=-2.0, high=2.5, default=-0.5, spread=0.75),
            Knob("guidance", low=1.0, high=12.0, default=3.0, spread=2.0),
        ]
    )
    num_steps = 8

    def __init__(self, outputs_per_call: int = 5, num_steps: int = 8) -> None:
        self.outputs_per_call, self.num_steps = outputs_per_call, num_steps

    def generate(self, population: NDArray[np.float64], bucket: Bucket) -> Iterator[list[float]]:
        for vector in population:
            yield [ridge_score(vector, self.num_steps, seed) for seed in bucket.seeds]

    def neutrals(self) -> dict[str, dict[str, float]]:
        flat = self.space.to_setting(self.space.defaults)
        tried = (3.0, 4.0, 6.0, 10.0 if self.num_steps < 8 else 1.5)
        return {f"guidance {value:g}": {**flat, "guidance": value} for value in tried}

    def with_steps(self, num_steps: int) -> Ridge:
        return Ridge(self.outputs_per_call, num_steps)

    def tied(self, granularity: str) -> dict[str, list[str]]:
        if granularity == "block":
            return {name: [f"{name}.attn", f"{name}.mlp"] for name in ("one", "two")} | {"guidance": ["guidance"]}
        if granularity == "own":
            return {name: [name] for name in self.space.names}
        raise ModelError(f"the ridge knows no granularity {granularity!r}")

    def describe(self) -> dict[str, Any]:
        return {"id": "ridge", "num_steps": self.num_steps}


HAZE = 6.0


def ridge_score(vector: NDArray[np.float64], num_steps: int, seed: int | None = None) -> float:
    """What an output of the ridge is worth; without a seed, what a setting is worth on average, but for a constant."""
    best = np.array([1.4, 1.3, -1.5, 0.25, 2 + 8 / num_steps])
    away = (vector - best) / Ridge.space.spreads
    if seed is not None:
        away = away - 0.1 * np.random.default_rng(seed).standard_normal(len(away))
    return -float(np.square(away).sum()) - HAZE / num_steps


class Height(Objective):
    """An output's own value."""

    def score(self, outputs: Sequence[Any], prompts: Sequence[str]) -> NDArray[np.float64]:
        return np.array(outputs)


def true_gain(setting: Mapping[str, float]) -> float:
    """What `setting` gains over the neutral one, averaged over all seeds."""
    vector = Hill.space.to_vector(setting)
    return float(np.square(Hill.space.defaults - TOP).sum() - np.square(vector - TOP).sum())


def prompt_set() -> PromptSet:
    """Sixty prompts in three parts."""
    names = [f"view {number}" for number in range(60)]
    return PromptSet(tuple(names[:20]), tuple(names[20:40]), tuple(names[40:]))


def hill_plugin(adapter: Adapter | None = None, objective: Objective | None = None) -> object:
    """A plugin that names `hill`, `height` and `views`; what its factories hold counts to what they are."""
    hill, height = adapter or Hill(), objective or Height()

    class Plugin:
        @hookimpl
        def register_adapters(self, register: Any) -> None:
            register("hill", lambda: hill)

        @hookimpl
        def register_objectives(self, register: Any) -> None:
            register("height", lambda: height)

        @hookimpl
        def register_prompts(self, register: Any) -> None:
            register("views", prompt_set)

    return Plugin()


SMALL = {
    "adapter": "hill",
    "objectives": "height",
    "prompts": "views",
    "optimizer": "cma-es",
    "generations": 3,
    "bucket_size": 3,
    "validation": {"num_prompts": 4, "every": 2},
    "test": {"num_prompts": 5},
}


def hill_run(
    config: Mapping[str, Any] | None = None,
    adapter: Adapter | None = None,
    objective: Objective | None = None,
    run_id: str = "hill-1",
) -> Run:
    """An assembled run on the hill; `config` changes keys of `SMALL`."""
    known = hill_plugins(adapter, objective)
    return replace(assemble("", load_config({**SMALL, **(config or {})}), known), id=run_id)


def hill_plugins(adapter: Adapter | None = None, objective: Objective | None = None) -> Plugins:
    """What is built in and the hill: made once a process, as a user has it, since finding code takes a while."""
    return _hill_plugins() if adapter is None and objective is None else _with_hill(adapter, objective)


@functools.cache
def _hill_plugins() -> Plugins:
    return _with_hill(None, None)


def _with_hill(adapter: Adapter | None, objective: Objective | None) -> Plugins:
    known = Plugins()
    known.add(hill_plugin(adapter, objective), name="hill-plugin", origin="tests")
    return known


class MemoryStore:
    """A store that forgets when it goes; it keeps the same contract as the one that ships."""

    def __init__(self) -> None:
        self.keys: dict[tuple[str, Place], str] = {}
        self.evaluations: dict[str, Evaluation] = {}
        self.sigmas: dict[tuple[str, int], float | None] = {}
        self.outputs: dict[str, list[Any]] = {}

    def recorded(self, run: str, stage: str, generation: int) -> dict[int, Evaluation]:
        found = {
            place.position: self.evaluations[key]
            for (owner, place), key in self.keys.items()
            if (owner, place.stage, place.generation) == (run, stage, generation)
        }
        return dict(sorted(found.items()))

    def find(self, key: str) -> Evaluation | None:
        return self.evaluations.get(key)

    def record(self, run: str, made: Sequence[tuple[Place, str, Evaluation]]) -> None:
        for place, _, _ in made:
            if (run, place) in self.keys:
                raise StoreError(f"{place} is recorded already")
        for place, key, evaluation in made:
            self.keys[run, place] = key
            self.evaluations.setdefault(key, replace(evaluation, weights=None))

    @property
    def keeper(self) -> Callable[[Sequence[Any]], Sequence[str]]:
        return lambda outputs: [repr(output) for output in outputs]

    def record_outputs(self, key: str, files: Sequence[str]) -> None:
        if files:
            self.outputs[key] = list(files)

    def record_generation(self, run: str, generation: int, sigma: float | None) -> None:
        self.sigmas[run, generation] = sigma

    def digest(self, run: str) -> str:
        """Of all settings and scores of a run."""
        rows = sorted((place, key) for (owner, place), key in self.keys.items() if owner == run)
        return digest(
            [[*place, dict(self.evaluations[key].setting), dict(self.evaluations[key].scores)] for place, key in rows]
        )


class Notes(Watcher):
    """Writes down what it is told; stops the run with Ctrl-C after `patience` evaluations."""

    def __init__(self, patience: int | None = None) -> None:
        self.heard: list[str] = []
        self.evaluations: list[SimpleNamespace] = []
        self._patience = patience

    def run_started(self, run: Run, work_done: int) -> None:
        self.heard.append("run")

    def stage_started(self, run: Run, stage: str) -> None:
        self.heard.append(f"begin {stage}")

    def evaluation_recorded(self, run: Run, place: Place, evaluation: Evaluation) -> None:
        self.heard.append(f"{place.stage} {place.generation}.{place.position}")
        self.evaluations.append(SimpleNamespace(place=place, evaluation=evaluation))
        if self._patience is not None and len(self.evaluations) >= self._patience:
            raise KeyboardInterrupt

    def generation_told(
        self, run: Run, generation: int, evaluations: Sequence[Evaluation], sigma: float | None
    ) -> None:
        self.heard.append(f"told {generation}")
