"""A second simulated reward, between 0 and 1, that differs from `simulated` wherever a recipe could matter.

    score(x; prompt, seed) = Phi(m(x) + D(prompt) + T(x; prompt) + E(x; prompt, seed))
    m(x) = peak - q(x) - b(x)

Phi is the normal distribution function, so that scores saturate at both ends, as those of a checker do. q is a
quadratic loss about an optimum that lies below neutral for most knobs; the first and last blocks are the most
sensitive, and the knobs of a block depend on each other. b is the breakdown of pictures far from neutral, quartic near
it and quadratic far from it, with sensitivities of its own. D is the difficulty of a prompt. T = t r(x).taste moves the
optimum of every prompt elsewhere (r is the distance to the optimum in units of q), and E is the effect of a seed, which
grows away from neutral. D, T and E are normal at every x, with the variances d^2, t^2 |r|^2 and e(x)^2, therefore the
expectation over prompts and seeds is exact:

    f(x) = Phi(m(x) / sqrt(1 + d^2 + t^2 |r(x)|^2 + e(x)^2)),  e(x) = e_0 (1 + growth u(x))

u is the squared distance from neutral, 1 on average at a normal sample of width 0.25.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from scipy.special import ndtr

from ...engine.knobs import Vector
from .fields import Array, Field, stream
from .simulation import SIGMA0, Simulation

PEAK = 1.2  # m at the best, if nothing broke there
LOSS = 3.0  # mean q of a normal sample of width 0.25 about the optimum
BREAKDOWN = 2.0  # mean of the quadratic w at such a sample about neutral; b = w^2 / (w + SOUND)
SOUND = 4.0
COUPLING = 0.4
DIFFICULTY, TASTE, SEED, GROWTH = 0.8, 0.3, 0.8, 0.5
BELOW = 0.85  # share of the knobs whose optimum lies below neutral
GAINS = {114: 0.17, 216: 0.22, 482: 0.14}


class BoundedReward(Simulation):
    """The bounded simulated reward.

    Args:
        num_knobs: As in `Simulation`.
        world: Number of the random draw; each number simulates another model.
    """

    def __init__(self, num_knobs: int = 114, world: int = 0) -> None:
        super().__init__(num_knobs, {"id": "simulated-bounded", "num_knobs": num_knobs, "world": world})
        self._world = _World(self._blocks, GAINS[len(self._blocks)], world)


class _World:
    """One draw of the reward over untied sites; points are moves away from the neutral setting."""

    def __init__(self, blocks: Sequence[int], gain: float, world: int) -> None:
        draw, num_sites, num_blocks = stream("bounded", world, len(blocks)), len(blocks), max(blocks) + 1
        self._block, self._name = np.array(blocks), ("bounded", world, num_sites)
        depth = 2 * self._block / (num_blocks - 1) - 1
        sensitivity = np.exp(2.0 * depth**2 + draw.normal(0, 0.5) * depth + 0.9 * draw.standard_normal(num_sites))
        self._root = np.sqrt(sensitivity * 2 * LOSS / (SIGMA0**2 * sensitivity.sum()))
        fragility = np.exp(draw.normal(0, 1) * depth + 0.7 * draw.standard_normal(num_sites))
        self._fragile = fragility * 2 * BREAKDOWN / (SIGMA0**2 * fragility.sum())
        within = draw.normal(1, 0.5, num_sites)
        members = np.eye(num_blocks)[self._block]
        self._coupling = members * within[:, None] / np.sqrt((members * within[:, None] ** 2).sum(axis=0))
        self._reach_squared = float(np.square(self._root).sum()) * SIGMA0**2
        side = np.where(draw.uniform(size=num_sites) < BELOW, -1.0, 1.0)
        self.optimum = self._placed(side * np.abs(draw.standard_normal(num_sites)), gain)
        reach = np.sqrt(self._reach_squared)
        self._field = Field(num_sites, (2.0 * reach, 0.7 * reach, 0.1 * reach), (0.4, 0.4, 0.2), draw)
        self._prompt = lru_cache(maxsize=8192)(self._draw_prompt)

    def _placed(self, direction: Vector, gain: float) -> Vector:
        """Return the optimum of q along `direction`, within ±0.8, at which f is `gain` higher than at neutral."""

        def worth(distance: float) -> float:
            self.optimum = np.clip(distance * direction, -0.8, 0.8)
            return self.expected(self.optimum) - self.expected(np.zeros(len(direction)))

        low, high = 0.0, 0.001
        while worth(high) < gain:  # far away, even the optimum is broken: the nearest distance is meant
            low, high = high, 1.1 * high
        for _ in range(50):
            middle = (low + high) / 2
            low, high = (middle, high) if worth(middle) < gain else (low, middle)
        return self.optimum

    def _parts(self, move: Vector) -> tuple[Vector, float, float]:
        """Return r, m and the standard deviation of a seed's effect."""
        residual = self._root * (move - self.optimum)
        together = residual @ self._coupling
        quadratic = 0.5 * ((1 - COUPLING) * residual @ residual + COUPLING * together @ together)
        broken = 0.5 * float(self._fragile @ move**2)
        apart = float(np.square(self._root * move).sum()) / self._reach_squared
        latent = PEAK - float(quadratic) - broken**2 / (broken + SOUND)
        return residual, latent, SEED * (1 + GROWTH * apart)

    def expected(self, move: Vector) -> float:
        """Return the expected score f."""
        residual, latent, seed = self._parts(move)
        return float(ndtr(latent / np.sqrt(1 + DIFFICULTY**2 + TASTE**2 * residual @ residual + seed**2)))

    def slope(self, move: Vector) -> tuple[float, Vector]:
        """Return the expected score and its gradient, shape (num_sites,)."""
        residual, latent, seed = self._parts(move)
        variance = float(1 + DIFFICULTY**2 + TASTE**2 * residual @ residual + seed**2)
        pulled = (1 - COUPLING) * residual + COUPLING * self._coupling @ (residual @ self._coupling)
        broken = 0.5 * float(self._fragile @ move**2)
        breaking = broken * (broken + 2 * SOUND) / (broken + SOUND) ** 2
        latent_slope = -self._root * pulled - breaking * self._fragile * move
        growing = 2 * SEED * GROWTH * self._root**2 * move / self._reach_squared
        variance_slope = 2 * TASTE**2 * self._root * residual + 2 * seed * growing
        height = latent / np.sqrt(variance)
        density = np.exp(-(height**2) / 2) / np.sqrt(2 * np.pi)
        slope: Vector = density * (latent_slope / np.sqrt(variance) - height * variance_slope / (2 * variance))
        return float(ndtr(height)), slope

    def _draw_prompt(self, prompt: str) -> tuple[float, Vector]:
        drawn = stream("prompt", *self._name, prompt)
        return DIFFICULTY * float(drawn.standard_normal()), TASTE * drawn.standard_normal(len(self._block))

    def draw(self, prompt: str, seed: int) -> tuple[float, Vector, Vector]:
        """Return a prompt's difficulty and taste, and the coefficients of its seed's effect."""
        difficulty, taste = self._prompt(prompt)
        drawn = stream("seed", *self._name, prompt, seed)
        return difficulty, taste, drawn.standard_normal(self._field.num_coefficients)

    def scores(self, move: Vector, difficulties: Vector, tastes: Array, seeds: Array) -> Vector:
        """Return one candidate's scores; to the last bit, each depends on its own prompt and seed alone."""
        residual, latent, seed = self._parts(move)
        noise = difficulties + (tastes * residual).sum(axis=1)
        noise = noise + seed * (seeds * self._field.features(self._root * move)).sum(axis=1)
        scores: Vector = ndtr(latent + noise)
        return scores
