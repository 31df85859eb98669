"""Paired comparisons with their uncertainty."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Gain:
    """A mean paired difference with its 95 % bootstrap interval.

    Attributes:
        mean: Mean difference, in the unit of the score.
        low: Lower end of the interval.
        high: Upper end.
        num_images: Number of pairs.
    """

    mean: float
    low: float
    high: float
    num_images: int

    def __str__(self) -> str:
        return f"{self.mean:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"


def paired_gain(calibrated: ArrayLike, neutral: ArrayLike, *, num_resamples: int = 9999) -> Gain:
    """Compare two sets of scores taken on the same prompts and seeds.

    The interval is the bias-corrected and accelerated bootstrap of the mean difference (Efron 1987), from a
    fixed seed so that a report can be made again.

    Args:
        calibrated: Shape (num_images,).
        neutral: Shape (num_images,), paired with `calibrated`.
        num_resamples: Bootstrap resamples.
    """
    from scipy import stats

    difference = np.asarray(calibrated, dtype=np.float64) - np.asarray(neutral, dtype=np.float64)
    mean = float(difference.mean())
    scale = float(np.ptp(difference))
    if len(difference) < 2 or scale == 0:  # nothing to resample: the interval is a point
        return Gain(mean, mean, mean, len(difference))
    interval = stats.bootstrap(
        (difference / scale,), np.mean, n_resamples=num_resamples, batch=1000, rng=np.random.default_rng(0)
    ).confidence_interval
    return Gain(mean, scale * float(interval.low), scale * float(interval.high), len(difference))
