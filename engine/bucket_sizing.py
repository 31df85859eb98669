"""How many prompts a generation deserves, by an analysis of variance of its scores.

Where candidates differ far more than their scores scatter, fewer prompts would rank them as well; where they
drown in the scatter, more are needed. The F ratio says which, and costs nothing: the scores are there already.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .noise import f_ratio


class BucketSizer:
    """Grows and shrinks the bucket so that the F ratio between candidates stays in a band.

    Args:
        start: Prompts in the first bucket, at least 2.
        low: Below this ratio the next bucket is larger.
        high: Above it, smaller.
        rate: By how much, as a share of the size.
        largest: Prompts at most.
    """

    def __init__(
        self, start: int, *, low: float = 1.5, high: float = 3.0, rate: float = 0.08, largest: int = 64
    ) -> None:
        self._exact, self._low, self._high, self._rate, self._largest = float(start), low, high, rate, float(largest)

    @property
    def size(self) -> int:
        """Prompts in the next bucket."""
        return round(self._exact)

    def update(self, values: NDArray[np.float64]) -> None:
        """Learn from a generation.

        Args:
            values: Shape (population_size, num_prompts), candidates by prompts of one bucket.
        """
        ratio = f_ratio(values)
        if ratio < self._low:
            self._exact = min(self._exact * (1 + self._rate), self._largest)
        elif ratio > self._high:
            self._exact = max(self._exact / (1 + self._rate), 2.0)
