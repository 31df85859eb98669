"""Random smooth functions of the knobs, which simulate the effect of a prompt or a seed on a score."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ...engine.knobs import Vector

Array = NDArray[np.float64]


class Field:
    """Gaussian random fields of unit variance, one for every key, by random Fourier features (Rahimi and Recht 2007).

    A field is a sum over frequencies w of a·cos(w·v) + b·sin(w·v) with standard normal a and b, so at every point its
    mean over keys is 0 and its variance 1; two points at distance r correlate like exp(-r²/2l²) at length l.

    Args:
        num_dims: Dimension of the points v.
        lengths: Length scales, in the unit of the points.
        shares: The part of the variance at each length; they sum to 1.
        generator: Draws the frequencies, which all keys share.
        num_features: Number of frequencies per length.
    """

    def __init__(
        self,
        num_dims: int,
        lengths: Sequence[float],
        shares: Sequence[float],
        generator: np.random.Generator,
        num_features: int = 64,
    ) -> None:
        drawn = generator.standard_normal((len(lengths), num_features, num_dims))
        self._frequencies = (drawn / np.array(lengths)[:, None, None]).reshape(-1, num_dims)
        self._amplitudes = np.repeat(np.sqrt(np.array(shares) / num_features), num_features)

    @property
    def num_coefficients(self) -> int:
        """The number of normal random numbers that define one field."""
        return 2 * len(self._amplitudes)

    def features(self, point: Vector) -> Vector:
        """Return the factors of a field's coefficients at `point`, shape (num_coefficients,)."""
        phases = self._frequencies @ point
        return np.concatenate([self._amplitudes * np.cos(phases), self._amplitudes * np.sin(phases)])


def stream(*key: str | int) -> np.random.Generator:
    """Return a generator that depends on `key` alone, cheap enough to create for every output."""
    text = hashlib.sha256("\0".join(map(str, key)).encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(text[:16], "little")))
