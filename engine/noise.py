"""Splitting the variance of recorded scores into the parts of candidates, of prompts and of noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Noise:
    """Standard deviations of a value's parts, pooled over generations.

    Attributes:
        candidates: Standard deviation between candidates of a generation.
        prompts: Standard deviation between prompts and seeds, which a shared bucket cancels.
        scatter: Standard deviation of the remainder: how differently candidates score on a prompt and seed. Only this
            part disturbs comparisons, and in a mean it falls with the square root of the bucket's size.
    """

    candidates: float
    prompts: float
    scatter: float

    def of_a_mean(self, num_prompts: int) -> float:
        """Return the standard deviation of a candidate's mean over a bucket that comes from the scatter."""
        return self.scatter / float(np.sqrt(num_prompts))


def estimate_noise(generations: Sequence[NDArray[np.float64]]) -> Noise:
    """Split the variance of values into its parts: a two-way layout with random effects, one value a cell.

    Estimates are those of the analysis of variance (Searle, Casella and McCulloch 1992, chapter 4), averaged over
    generations and cut off at 0.

    Args:
        generations: For each, values of shape (population_size, num_prompts) on one bucket, at least 2 by 2.
    """
    squares = np.array([mean_squares(values) for values in generations])
    sizes = np.array([values.shape for values in generations], dtype=np.float64)
    between, prompts, scatter = squares.T
    return Noise(
        candidates=_root(((between - scatter) / sizes[:, 1]).mean()),
        prompts=_root(((prompts - scatter) / sizes[:, 0]).mean()),
        scatter=_root(scatter.mean()),
    )


def mean_squares(values: NDArray[np.float64]) -> tuple[float, float, float]:
    """Return the mean squares between candidates, between prompts, and of the remainder.

    Args:
        values: Shape (population_size, num_prompts), at least 2 by 2.
    """
    num_candidates, num_prompts = values.shape
    centred = values - values.mean()
    rows, columns = centred.mean(axis=1), centred.mean(axis=0)
    remainder = centred - rows[:, None] - columns
    return (
        float(num_prompts * np.square(rows).sum() / (num_candidates - 1)),
        float(num_candidates * np.square(columns).sum() / (num_prompts - 1)),
        float(np.square(remainder).sum() / ((num_candidates - 1) * (num_prompts - 1))),
    )


def f_ratio(values: NDArray[np.float64]) -> float:
    """Return the ratio of the mean square between candidates to the mean square of the remainder (Fisher 1925).

    Args:
        values: Shape (population_size, num_prompts), at least 2 by 2.

    Returns:
        The F ratio: about 1 if candidates are alike, infinite if their scores do not scatter at all.
    """
    between, _, scatter = mean_squares(values)
    return between / scatter if scatter else np.inf


def _root(variance: float) -> float:
    return float(np.sqrt(max(variance, 0.0)))
