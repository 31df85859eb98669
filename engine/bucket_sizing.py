"""Choosing the number of prompts of a generation by an analysis of variance of its scores.

If candidates differ far more than their scores scatter, fewer prompts would rank them as well; if the scatter hides
their differences, more prompts are needed. The F ratio of the scores tells the two apart, at no further cost.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .noise import f_ratio


class BucketSizer:
    """Grows and shrinks the bucket so that the F ratio between candidates stays in a band.

    Args:
        start: Number of prompts in the first bucket, at least 2.
        low: Below this F ratio the next bucket is larger.
        high: Above this F ratio the next bucket is smaller.
        rate: The relative change of the size.
        largest: The largest number of prompts.
    """

    def __init__(
        self, start: int, *, low: float = 1.5, high: float = 3.0, rate: float = 0.08, largest: int = 64
    ) -> None:
        self._exact, self._low, self._high, self._rate, self._largest = float(start), low, high, rate, float(largest)

    @property
    def size(self) -> int:
        """The number of prompts in the next bucket."""
        return round(self._exact)

    def update(self, values: NDArray[np.float64]) -> None:
        """Adapt the size to the values of a generation.

        Args:
            values: Shape (population_size, num_prompts), candidates by prompts of one bucket.
        """
        ratio = f_ratio(values)
        if ratio < self._low:
            self._exact = min(self._exact * (1 + self._rate), self._largest)
        elif ratio > self._high:
            self._exact = max(self._exact / (1 + self._rate), 2.0)
