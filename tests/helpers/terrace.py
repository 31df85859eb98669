"""A plugin file: a backbone with granularities, ensembles, guidance and steps, whose scores are known in closed form.

Its output is a height and a lean. Both are best at settings that differ, with guidance 2 for the height and 1 for the
lean, and more steps lift both. Every generated output is counted in the file that the environment variable names.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import trimpot
from numpy.typing import NDArray

COUNTED = "TRIMPOT_TERRACE_COUNT"
SITES = [
    f"{block}.{layer}.{gate}" for block in ("one", "two") for layer in ("attn", "mlp") for gate in ("image", "text")
]
PARTS = {"block": 1, "layer": 2, "gate": 3}
TOPS = {"height": np.array([1.3, 1.3, 1.3, 1.3, 0.7, 0.7, 0.7, 0.7]), "lean": np.array([1.2, 1.2, 0.9, 0.9] * 2)}
GUIDANCE = {"height": 2.0, "lean": 1.0}
HAZE = 4.0


class Terrace(trimpot.Adapter):
    """See the module."""

    outputs_per_call = 32

    def __init__(self, granularity: str, members: Sequence[str], num_steps: int) -> None:
        self.num_steps, self._granularity, self._members = num_steps, granularity, tuple(members)
        self._tied = {site: ".".join(site.split(".")[: PARTS[granularity]]) for site in SITES}
        names = list(dict.fromkeys(self._tied.values()))
        seeing = [number for number, sees in enumerate(members) if sees == "conditional"]
        knobs = [trimpot.Knob(f"m{number}.{name}") for number in seeing for name in names]
        knobs += [trimpot.Knob(f"m{number}.share", low=-2, high=2, default=float(number == 0)) for number in seeing[1:]]
        self.space = trimpot.KnobSpace([*knobs, trimpot.Knob("guidance", low=0, high=4, default=1.0)])

    def generate(self, population: NDArray[np.float64], bucket: Any) -> Iterator[list[tuple[float, float]]]:
        with open(os.environ[COUNTED], "a", encoding="utf-8") as file:
            file.write("x" * len(population) * len(bucket))
        for vector in population:
            setting = self.space.to_setting(vector)
            scales = np.array([setting[f"m0.{self._tied[site]}"] for site in SITES])
            yield [tuple(self._score(what, scales, setting, seed) for what in TOPS) for seed in bucket.seeds]

    def _score(self, what: str, scales: NDArray[np.float64], setting: Mapping[str, float], seed: int) -> float:
        away = scales - TOPS[what] + 0.05 * np.random.default_rng(seed).standard_normal(len(scales))
        astray = (setting["guidance"] - GUIDANCE[what]) ** 2
        return -float(np.square(away).sum()) - astray - HAZE / self.num_steps

    def neutrals(self) -> dict[str, dict[str, float]]:
        flat = self.space.to_setting(self.space.defaults)
        return {f"guidance {value:g}": {**flat, "guidance": value} for value in (1.0, 2.0)}

    def with_steps(self, num_steps: int) -> Terrace:
        return Terrace(self._granularity, self._members, num_steps)

    def describe(self) -> dict[str, Any]:
        return {"id": "terrace", "members": list(self._members), "granularity": self._granularity}


class Height(trimpot.Objective):
    """One of an output's two numbers."""

    def __init__(self, *, of: Literal["height", "lean"] = "height") -> None:
        self._of = of

    def score(self, outputs: Sequence[Any], prompts: Sequence[str]) -> NDArray[np.float64]:
        return np.array([output[list(TOPS).index(self._of)] for output in outputs])


def make_terrace(
    *,
    granularity: Literal["block", "layer", "gate"] = "block",
    members: tuple[str, ...] = ("conditional", "unconditional"),
    num_inference_steps: int = 4,
) -> Terrace:
    """See the module."""
    return Terrace(granularity, members, num_inference_steps)


@trimpot.hookimpl
def register_adapters(register: Any) -> None:
    register("terrace", make_terrace)


@trimpot.hookimpl
def register_objectives(register: Any) -> None:
    register("terrace-height", Height)


@trimpot.hookimpl
def register_prompts(register: Any) -> None:
    names = [f"view {number}" for number in range(100)]
    register("terrace-views", lambda: trimpot.PromptSet(tuple(names[:20]), tuple(names[20:40]), tuple(names[40:])))
