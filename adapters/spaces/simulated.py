"""A simulated reward that resembles the scores of a calibrated text-to-image model, in closed form.

    score(x; prompt, seed) = f(x) + m(prompt) + G(x; prompt) + E(x; prompt, seed)

f is the expected score over prompts and seeds, and therefore exactly the held-out reward. m is the difficulty of a
prompt, G a prompt's preference for a candidate, and E the effect of a seed, similar for candidates near each other.
This simulation helps to compare search methods; it proves nothing about a real model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache

import numpy as np

from ...engine.knobs import Vector
from .fields import Array, Field, stream
from .simulation import SIGMA0, Simulation

NEUTRAL_SCORE = 11.4
GAINS = {114: 2.25, 216: 3.2, 482: 1.85}


@dataclass(frozen=True)
class Landscape:
    """The shape of one variant of the reward, in reward units.

    Attributes:
        loss: Expected quadratic loss of a normal sample of width 0.25 around the optimum.
        ceiling: The largest possible loss, at which the quadratic loss saturates.
        coupling: Fraction of the loss from interactions of knobs, which vary smoothly over depth.
        block_spread: Standard deviation of the log sensitivities of blocks.
        knob_spread: Standard deviation of the log sensitivities of knobs within a block.
        ripple: Standard deviation of the ripples on f.
        noise: Factor on all effects of prompts and seeds.
    """

    loss: float = 3.5
    ceiling: float = 14.0
    coupling: float = 0.5
    block_spread: float = 1.3
    knob_spread: float = 1.0
    ripple: float = 0.10
    noise: float = 1.0


VARIANTS: Mapping[str, Landscape] = {
    "default": Landscape(),
    "noisy": Landscape(noise=1.5),
    "quiet": Landscape(noise=0.6),
    "flat": Landscape(loss=2.0),
    "steep": Landscape(loss=6.0),
    "sparse": Landscape(block_spread=1.8, knob_spread=1.4),
    "dense": Landscape(block_spread=0.6, knob_spread=0.5),
    "separable": Landscape(coupling=0.0),
    "coupled": Landscape(coupling=0.9),
    "rugged": Landscape(ripple=0.30),
}


class SimulatedReward(Simulation):
    """The simulated reward.

    Args:
        num_knobs: As in `Simulation`.
        variant: One of `VARIANTS`.
        world: Number of the random draw of the variant; each number simulates another model.
    """

    def __init__(self, num_knobs: int = 114, variant: str = "default", world: int = 0) -> None:
        self.landscape = VARIANTS[variant]
        identity = {"id": "simulated", "num_knobs": num_knobs, "variant": variant, "world": world}
        super().__init__(num_knobs, {**identity, "landscape": asdict(self.landscape)})
        self._world = _World(self._blocks, self.landscape, GAINS[len(self._blocks)], world)


class _World:
    """One draw of a landscape over untied sites; points are moves away from the neutral setting."""

    def __init__(self, blocks: Sequence[int], landscape: Landscape, gain: float, world: int) -> None:
        draw, num_sites, num_blocks = stream("world", world, len(blocks)), len(blocks), max(blocks) + 1
        block = np.array(blocks)
        self.landscape, self._name = landscape, (world, num_sites)
        sensitivity = np.exp(
            landscape.block_spread * draw.standard_normal(num_blocks)[block]
            + landscape.knob_spread * draw.standard_normal(num_sites)
        )
        self._root = np.sqrt(sensitivity * 2 * landscape.loss / (SIGMA0**2 * sensitivity.sum()))
        self._warp = draw.uniform(-0.6, 0.6, num_sites)
        waves = np.cos(np.pi * np.arange(6) * block[:, None] / (num_blocks - 1) + draw.uniform(0, 2 * np.pi, 6))
        waves *= draw.normal(1, 0.5, (num_sites, 6))
        self._coupling = waves / np.linalg.norm(waves, axis=1, keepdims=True)
        ripples = draw.standard_normal((8, num_sites)) * self._root**2
        self._ripples = 3 * ripples / (SIGMA0 * np.linalg.norm(ripples, axis=1, keepdims=True))  # 3 radians at SIGMA0
        self._phases = draw.uniform(0, 2 * np.pi, 8)
        direction = np.sqrt(0.5) * (draw.standard_normal(num_blocks)[block] + draw.standard_normal(num_sites))
        self._offset = 0.0
        self.optimum, self._target = self._placed(direction, gain)
        self._offset = NEUTRAL_SCORE - self.expected(np.zeros(num_sites))
        reach = float(np.linalg.norm(self._root)) * SIGMA0  # distance of a first sample from the mean
        self._taste = Field(num_sites, (2.5 * reach, 1.0 * reach), (0.5, 0.5), draw)
        self._seed = Field(num_sites, (2.5 * reach, 1.0 * reach, 0.1 * reach), (0.4, 0.4, 0.2), draw)
        self._difficulty = lru_cache(maxsize=8192)(self._draw_prompt)

    def _warped(self, move: Vector) -> Vector:
        """Bend the scale of every knob slightly."""
        return move + self._warp * move**2

    def _placed(self, direction: Vector, gain: float) -> tuple[Vector, Vector]:
        """Return the optimum along `direction` that gains `gain` over neutral, within ±0.8, and its warped point."""
        low, high = 0.0, 16.0
        for _ in range(50):
            middle = (low + high) / 2
            self.optimum = np.clip(middle * direction, -0.8, 0.8)
            self._target = self._warped(self.optimum)
            worth = self.expected(self.optimum) - self.expected(np.zeros(len(direction)))
            low, high = (middle, high) if worth < gain else (low, middle)
        return self.optimum, self._target

    def _quadratic(self, residual: Vector) -> float:
        share = self.landscape.coupling
        together = residual @ self._coupling
        return float(0.5 * ((1 - share) * residual @ residual + share * together @ together))

    def expected(self, move: Vector) -> float:
        """Return the expected score f."""
        ceiling = self.landscape.ceiling
        loss = -ceiling * np.expm1(-self._quadratic(self._root * (self._warped(move) - self._target)) / ceiling)
        ripple = self.landscape.ripple / 2 * np.cos(self._ripples @ move + self._phases).sum()
        return float(self._offset - loss + ripple)

    def slope(self, move: Vector) -> tuple[float, Vector]:
        """Return the expected score and its gradient, shape (num_sites,)."""
        share = self.landscape.coupling
        residual = self._root * (self._warped(move) - self._target)
        rise = (1 - share) * residual + share * self._coupling @ (residual @ self._coupling)
        rise = rise * self._root * (1 + 2 * self._warp * move)
        steepness = np.exp(-self._quadratic(residual) / self.landscape.ceiling)
        ripple = self.landscape.ripple / 2 * np.sin(self._ripples @ move + self._phases) @ self._ripples
        return self.expected(move), -steepness * rise - ripple

    def _draw_prompt(self, prompt: str) -> tuple[float, Vector]:
        drawn = stream("prompt", *self._name, prompt)
        return 2.5 * float(drawn.standard_normal()), drawn.standard_normal(self._taste.num_coefficients)

    def draw(self, prompt: str, seed: int) -> tuple[float, Vector, Vector]:
        """Return a prompt's difficulty, and the coefficients of its preference and of its seed's effect."""
        difficulty, taste = self._difficulty(prompt)
        drawn = stream("seed", *self._name, prompt, seed)
        return difficulty, taste, drawn.standard_normal(self._seed.num_coefficients)

    def scores(self, move: Vector, difficulties: Vector, tastes: Array, seeds: Array) -> Vector:
        """Return one candidate's scores; to the last bit, each depends on its own prompt and seed alone."""
        point = self._root * move
        noise = difficulties + (tastes * self._taste.features(point)).sum(axis=1)
        noise = noise + (seeds * self._seed.features(point)).sum(axis=1)
        scores: Vector = self.expected(move) + self.landscape.noise * noise
        return scores
