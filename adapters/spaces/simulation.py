"""What simulated rewards share: their knobs, tied by block or layer, and the adapter around a closed form."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from ...engine.bucket import Bucket
from ...engine.knobs import Knob, KnobSpace, Vector
from ...engine.seams import Adapter, Population
from .fields import Array

SIGMA0 = 0.25  # the published first step size, at which losses and lengths are stated
TIED = {57: 114, 76: 114}


class World(Protocol):
    """One draw of a simulated reward over untied sites; points are moves away from the neutral setting.

    Attributes:
        optimum: Near the best move, shape (num_sites,).
    """

    optimum: Vector

    def expected(self, move: Vector) -> float:
        """Return the expected score f over prompts and seeds."""

    def slope(self, move: Vector) -> tuple[float, Vector]:
        """Return the expected score and its gradient, shape (num_sites,)."""

    def draw(self, prompt: str, seed: int) -> tuple[float, Vector, Vector]:
        """Return a prompt's difficulty, and the coefficients of its preference and of its seed's effect."""

    def scores(self, move: Vector, difficulties: Vector, tastes: Array, seeds: Array) -> Vector:
        """Return one candidate's scores; to the last bit, each depends on its own prompt and seed alone."""


class Simulation(Adapter):
    """A simulated reward of a calibrated model. An output is a score; the objective `value` returns it.

    Args:
        num_knobs: 57, 76, 114, 216 or 482; 57 and 76 tie the 114 sites by block and by layer.
        description: What tells this reward from every other.
    """

    outputs_per_call = 65_536  # large enough for any request
    _world: World

    def __init__(self, num_knobs: int, description: Mapping[str, Any]) -> None:
        self._description = dict(description)
        names, self._blocks = _sites(TIED.get(num_knobs, num_knobs))
        tied = [_tied(name, num_knobs) for name in names]
        knobs = list(dict.fromkeys(tied))
        assert len(knobs) == num_knobs, f"{len(knobs)} knobs, not {num_knobs}"
        self.space = KnobSpace([Knob(name) for name in knobs])
        self._knob_of = np.array([knobs.index(name) for name in tied])

    def generate(self, population: Population, bucket: Bucket) -> Iterator[list[float]]:
        """Score every candidate on every prompt. See `Adapter.generate`."""
        for scores in self.scores(population, bucket):
            yield [float(score) for score in scores]

    def scores(self, population: Population, bucket: Bucket) -> Array:
        """Return the scores as an array of shape (population_size, num_prompts)."""
        draws = [self._world.draw(prompt, seed) for prompt, seed in zip(bucket.prompts, bucket.seeds, strict=True)]
        difficulties = np.array([difficulty for difficulty, _, _ in draws])
        tastes = np.stack([taste for _, taste, _ in draws])
        seeds = np.stack([seed for _, _, seed in draws])
        return np.stack([self._world.scores(row, difficulties, tastes, seeds) for row in self._moves(population)])

    def exact(self, population: Population) -> Vector:
        """Return the expected score f of every candidate, shape (population_size,)."""
        return np.array([self._world.expected(row) for row in self._moves(population)])

    def slope(self, vector: Vector) -> Vector:
        """Return the gradient of f, shape (num_knobs,)."""
        _, slope = self._world.slope(vector[self._knob_of] - 1.0)
        gathered: Vector = np.bincount(self._knob_of, weights=slope).astype(np.float64)
        return gathered

    @cached_property
    def best(self) -> Vector:
        """The best setting, shape (num_knobs,), by gradient ascent from the optimum without ripples."""
        from scipy import optimize

        def loss(vector: Vector) -> tuple[float, Vector]:
            return -float(self.exact(vector[None])[0]), -self.slope(vector)

        first = np.bincount(self._knob_of, weights=self._world.optimum) / np.bincount(self._knob_of)
        starts = (self.space.defaults, self.space.defaults + first)
        bounds = list(zip(*self.space.bounds, strict=True))
        found = [optimize.minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds) for start in starts]
        return np.array(min(found, key=lambda each: each.fun).x, dtype=np.float64)

    @cached_property
    def reachable_gain(self) -> float:
        """The gain of the best setting over the neutral one."""
        best, neutral = self.exact(np.stack([self.best, self.space.defaults]))
        return float(best - neutral)

    def describe(self) -> dict[str, Any]:
        """See `Adapter.describe`."""
        return dict(self._description)

    def _moves(self, population: Population) -> Array:
        moves: Array = (population - 1.0)[:, self._knob_of]
        return moves


def _sites(num_sites: int) -> tuple[list[str], list[int]]:
    """Return the names of the untied sites, and the block of each."""
    if num_sites == 114:  # 19 blocks with four sites and 38 with one
        parts = ("attn.image", "attn.text", "mlp.image", "mlp.text")
        double = [(f"double.{block:02d}.{part}", block) for block in range(19) for part in parts]
        pairs = double + [(f"single.{block:02d}", 19 + block) for block in range(38)]
    else:
        pairs = [(f"block.{site // 4:03d}.{site % 4}", site // 4) for site in range(num_sites)]
    return [name for name, _ in pairs], [block for _, block in pairs]


def _tied(name: str, num_knobs: int) -> str:
    """Return the name of the knob that sets a site: a block ties four sites, a layer two."""
    parts = name.split(".")
    return ".".join(parts[: {57: 2, 76: 3}.get(num_knobs, len(parts))])
