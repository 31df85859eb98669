"""Paired comparisons with their uncertainty.

The statistical unit is the prompt. Images of one prompt are not independent, so an interval from resampled images
would be far too narrow: 256 images of 20 prompts say little more than 20 images of 20 prompts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
LEVEL = 0.95
FEW_PROMPTS = 30  # with fewer prompts an interval is rough, and reports say so
FEWEST_RESAMPLED = 20  # with fewer prompts resamples repeat each other, and Student's t has better coverage
_BATCH = 1000


@dataclass(frozen=True)
class Gain:
    """A mean paired difference with its 95 % interval.

    Attributes:
        mean: Mean difference over the images, in the unit of the score.
        low: Lower end of the interval; minus infinity for a single prompt.
        high: Upper end of the interval; infinity for a single prompt.
        num_prompts: Number of different prompts, which determines the width of the interval.
        num_images: Number of pairs of images.
    """

    mean: float
    low: float
    high: float
    num_prompts: int
    num_images: int

    def __str__(self) -> str:
        return f"{self.mean:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"


@dataclass(frozen=True)
class _ByPrompt:
    """Paired differences summed by prompt.

    Attributes:
        mean: Mean difference over all images.
        residuals: Each prompt's sum of (difference minus mean), shape (num_prompts,).
        sizes: Each prompt's number of images, shape (num_prompts,).
    """

    mean: float
    residuals: Array
    sizes: Array

    @property
    def error(self) -> float:
        """Standard error of the mean, robust to correlation between images of a prompt (Liang and Zeger 1986).

        V = G / (G - 1) sum_g (sum of g's residuals)^2 / n^2, for n images of G prompts.
        """
        count = len(self.sizes)
        scale = float(np.abs(self.residuals).max())  # squares of tiny residuals would be 0
        if not scale:
            return 0.0
        squares = float(np.square(self.residuals / scale).sum())
        return scale * float(np.sqrt(count / (count - 1) * squares)) / float(self.sizes.sum())


def sums_by_prompt(difference: ArrayLike, prompts: Sequence[str]) -> tuple[Array, Array]:
    """Sum differences by prompt, in the order in which prompts first occur.

    Args:
        difference: Shape (num_images,).
        prompts: The prompt of each.

    Returns:
        Sums and numbers of images, each of shape (num_prompts,).
    """
    order: dict[str, int] = {}
    index = [order.setdefault(prompt, len(order)) for prompt in prompts]
    values = np.asarray(difference, dtype=np.float64)
    if values.shape != (len(index),):
        raise ValueError(f"{values.shape} differences need as many prompts, not {len(index)}")
    return np.bincount(index, values).astype(np.float64), np.bincount(index).astype(np.float64)


def _by_prompt(difference: ArrayLike, prompts: Sequence[str]) -> _ByPrompt:
    sums, sizes = sums_by_prompt(difference, prompts)
    mean = float(sums.sum() / sizes.sum())
    return _ByPrompt(mean, sums - mean * sizes, sizes)


def paired_gain(
    calibrated: ArrayLike, neutral: ArrayLike, prompts: Sequence[str], *, num_resamples: int = 9999
) -> Gain:
    """Compare two sets of scores taken on the same prompts and seeds.

    Whole prompts are resampled, with all their images. The interval is the bias-corrected and accelerated bootstrap
    (Efron 1987), its levels widened for the number of prompts as Hesterberg (2015, The American Statistician 69,
    section 4.3) does for percentile intervals. With fewer than `FEWEST_RESAMPLED` prompts the interval is Student's,
    with the standard error of `_ByPrompt.error`. The resamples' seed is fixed, so that reports are reproducible.

    Args:
        calibrated: Shape (num_images,).
        neutral: Shape (num_images,), paired with `calibrated`.
        prompts: The prompt of each pair.
        num_resamples: Bootstrap resamples.

    Returns:
        The gain. Its interval is a point if all differences are equal, and unbounded for one prompt.
    """
    difference = np.asarray(calibrated, dtype=np.float64) - np.asarray(neutral, dtype=np.float64)
    data = _by_prompt(difference, prompts)
    count = len(data.sizes)
    if count == 1:
        low, high = -np.inf, np.inf
    elif count < FEWEST_RESAMPLED:
        low, high = (side * _quantile(count) * data.error for side in (-1, 1))
    else:
        low, high = _resampled(data, num_resamples)
    return Gain(data.mean, data.mean + low, data.mean + high, count, len(difference))


def is_better(values: ArrayLike, others: ArrayLike, prompts: Sequence[str], significance: float) -> bool:
    """Return whether paired values are larger on average, by a one-sided paired t-test whose unit is the prompt.

    Args:
        values: Shape (num_images,).
        others: Shape (num_images,), on the same prompts and seeds.
        prompts: The prompt of each pair.
        significance: Level of the test.

    Returns:
        The test's decision; False if there is a single prompt.
    """
    from scipy.stats import t

    data = _by_prompt(np.asarray(values, dtype=np.float64) - np.asarray(others, dtype=np.float64), prompts)
    count = len(data.sizes)
    if count == 1 or data.mean <= 0:
        return False
    error = data.error
    return error == 0 or bool(t.sf(data.mean / error, count - 1) < significance)


def paired_p(values: ArrayLike, others: ArrayLike, prompts: Sequence[str]) -> float:
    """Return the two-sided p-value of a paired t-test whose unit is the prompt.

    Args:
        values: Shape (num_images,).
        others: Shape (num_images,), on the same prompts and seeds.
        prompts: The prompt of each pair.

    Returns:
        The p-value of no difference; 1 if nothing differs, or for a single prompt.
    """
    from scipy.stats import t

    data = _by_prompt(np.asarray(values, dtype=np.float64) - np.asarray(others, dtype=np.float64), prompts)
    count = len(data.sizes)
    if count == 1 or not data.mean:
        return 1.0
    error = data.error
    return float(2 * t.sf(abs(data.mean) / error, count - 1)) if error else 0.0


def few(num_prompts: int) -> str:
    """Return a warning that an interval rests on few prompts; empty if there are enough."""
    if num_prompts >= FEW_PROMPTS:
        return ""
    many = "a single prompt: it has no interval" if num_prompts == 1 else f"only {num_prompts} different prompts"
    return f"this rests on {many}; take at least {FEW_PROMPTS} before believing it"


def _quantile(count: int) -> float:
    """Return Student's quantile for the ends of the interval."""
    from scipy.stats import t

    return float(t.ppf((1 + LEVEL) / 2, count - 1))


def _resampled(data: _ByPrompt, num_resamples: int) -> tuple[float, float]:
    """Return both ends of the bootstrap interval, as differences from the mean."""
    from scipy.special import ndtr, ndtri

    scale = float(np.abs(data.residuals).max())
    if not scale:
        return 0.0, 0.0
    residuals, sizes, count = data.residuals / scale, data.sizes, len(data.sizes)
    generator = np.random.default_rng(0)
    drawn = np.empty(num_resamples)
    for begin in range(0, num_resamples, _BATCH):
        rows = drawn[begin : begin + _BATCH]
        index = generator.integers(0, count, size=(len(rows), count))
        rows[:] = residuals[index].sum(axis=1) / sizes[index].sum(axis=1)
    below = ((drawn < 0).sum() + (drawn == 0).sum() / 2) / num_resamples
    bias = ndtri(np.clip(below, 0.5 / num_resamples, 1 - 0.5 / num_resamples))
    left_out = -residuals / (sizes.sum() - sizes)
    skew = left_out.mean() - left_out
    spread = np.square(skew).sum()
    acceleration = (skew**3).sum() / (6 * spread**1.5) if spread else 0.0
    widened = np.sqrt(count / (count - 1)) * _quantile(count)
    shifted = bias + np.array([-widened, widened])
    levels = ndtr(bias + shifted / (1 - acceleration * shifted))
    low, high = np.quantile(drawn, levels)
    return scale * float(min(low, high)), scale * float(max(low, high))
