"""Sphere, ellipsoid and a space of low effective dimension, with noise that depends on prompt and seed.

    score(x; prompt, seed) = -|A (x - optimum)|² + noise · (difficulty(prompt) + e(x; prompt, seed))

e is a smooth random field over the knobs: for one prompt and seed, candidates near each other get similar noise. The
mean of e over prompts and seeds is 0, so the expected score is known exactly.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...engine.bucket import Bucket
from ...engine.knobs import Knob, KnobSpace, Vector
from ...engine.seams import Adapter, Population
from ...ground.errors import ModelError
from .fields import Field, stream

Array = NDArray[np.float64]
START_LOSS = 1.0


class ClosedForm(Adapter):
    """A quadratic loss around a known optimum; the neutral setting has a loss of exactly 1.

    Args:
        name: The name of the space.
        axes: The matrix A, shape (num_axes, num_knobs).
        noise: Standard deviation of the noise from prompt and seed, in the unit of the score.
        world: Number of the random draw of optimum and noise; each number gives another space.
    """

    outputs_per_call = 65_536  # large enough for any request

    def __init__(self, name: str, axes: Array, noise: float, world: int) -> None:
        num_knobs = axes.shape[1]
        self.space = KnobSpace([Knob(f"knob.{index:03d}") for index in range(num_knobs)])
        self._identity = {"id": name, "num_knobs": num_knobs, "noise": noise, "world": world}
        self._key, self._noise = f"{name} {num_knobs} {world}", noise
        draw = stream("closed form", self._key)
        toward = np.clip(draw.standard_normal(num_knobs), -2.5, 2.5) * 0.25
        self._axes = axes / np.linalg.norm(axes @ toward) * np.sqrt(START_LOSS)
        self.optimum: Vector = self.space.defaults + toward
        self._field = Field(num_knobs, (0.5 * np.sqrt(num_knobs),), (1.0,), draw)

    def generate(self, population: Population, bucket: Bucket) -> Iterator[list[float]]:
        """Score every candidate on every prompt. See `Adapter.generate`."""
        for scores in self.scores(population, bucket):
            yield [float(score) for score in scores]

    def scores(self, population: Population, bucket: Bucket) -> Array:
        """Return the scores as an array of shape (population_size, num_prompts)."""
        difficulties = np.array([stream(self._key, prompt).standard_normal() for prompt in bucket.prompts])
        pairs = zip(bucket.prompts, bucket.seeds, strict=True)
        fields = np.stack([stream(self._key, *pair).standard_normal(self._field.num_coefficients) for pair in pairs])
        luck = np.stack([(fields * self._field.features(row)).sum(axis=1) for row in population])
        scores: Array = self.exact(population)[:, None] + self._noise * (difficulties + luck)
        return scores

    def exact(self, population: Population) -> Vector:
        """Return the expected score of every candidate, shape (population_size,)."""
        return np.array([-np.square(self._axes @ (row - self.optimum)).sum() for row in population])

    def describe(self) -> dict[str, Any]:
        """See `Adapter.describe`."""
        return dict(self._identity)


def sphere(num_knobs: int, noise: float, world: int) -> ClosedForm:
    """Make a sphere, in which all knobs matter equally."""
    return ClosedForm("sphere", np.eye(num_knobs), noise, world)


def ellipsoid(num_knobs: int, noise: float, world: int, condition: float) -> ClosedForm:
    """Make a randomly rotated ellipsoid; losses along its axes differ by up to `condition`, evenly in logarithm."""
    lengths = condition ** (0.5 * np.linspace(0, 1, num_knobs))
    turned = _directions(num_knobs, num_knobs, world)
    return ClosedForm(f"ellipsoid {condition:g}", lengths[:, None] * turned, noise, world)


def low_effective_dimension(num_knobs: int, noise: float, world: int, effective: int) -> ClosedForm:
    """Make a sphere in `effective` directions, each a mixture of all knobs.

    Raises:
        ModelError: If there are more directions than knobs.
    """
    if effective > num_knobs:
        raise ModelError(f"{effective} effective directions need at least as many knobs, not {num_knobs}")
    return ClosedForm(f"low effective dimension {effective}", _directions(effective, num_knobs, world), noise, world)


def _directions(number: int, num_knobs: int, world: int) -> Array:
    """Return orthonormal directions, uniformly rotated (Mezzadri 2007), shape (number, num_knobs)."""
    drawn = stream("directions", num_knobs, world).standard_normal((num_knobs, number))
    orthogonal, upper = np.linalg.qr(drawn)
    turned: Array = (orthogonal * np.sign(np.diag(upper))).T
    return turned
