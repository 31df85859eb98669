"""The statistics of a comparison: intervals, tests, and images to a target.

Sources: interquartile mean and bootstrap intervals as in rliable (Agarwal et al. 2021, "Deep reinforcement learning at
the edge of the statistical precipice", NeurIPS); runs drawn together with prompts as in Owen (2007, "The pigeonhole
bootstrap", Annals of Applied Statistics 1); tests and ranks as in Demsar (2006, "Statistical comparisons of
classifiers over multiple data sets", JMLR 7); images to a target as in COCO (Hansen et al. 2016, "COCO: performance
assessment", arXiv:1605.03560). Random numbers come from fixed seeds, so that the same results give the same page.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
NUM_RESAMPLES = 4000
FEWEST_RUNS = 3  # with two, the interval would reach from one value to the other
SIGNIFICANCE = 0.05


@dataclass(frozen=True)
class Interval:
    """A number with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Pair:
    """Two contenders on the same seeds.

    Attributes:
        first: The label of one contender.
        second: The label of the other.
        difference: Interquartile mean of first minus second, with its interval over seeds and prompts.
        p: Two-sided p-value of Wilcoxon's signed-rank test over seeds, for these searches on these prompts.
        adjusted: The p-value after Holm's correction for all pairs.
    """

    first: str
    second: str
    difference: Interval
    p: float
    adjusted: float


@dataclass(frozen=True)
class Ranking:
    """Average ranks of at least three contenders.

    Attributes:
        ranks: Label to its average rank over seeds, 1 being best.
        p: The p-value of Friedman's test that all contenders are equal.
        critical: Nemenyi's critical difference of two average ranks at the 5 % level.
        groups: Largest sets of contenders, best first, whose average ranks lie within the critical difference.
        num_seeds: The number of seeds.
    """

    ranks: Mapping[str, float]
    p: float
    critical: float
    groups: tuple[tuple[str, ...], ...]
    num_seeds: int


def interquartile_mean(values: ArrayLike, axis: int = 0) -> Any:
    """Return the mean without the lowest and the highest quarter; a quarter is rounded down to whole values."""
    from scipy import stats

    return stats.trim_mean(np.asarray(values, dtype=np.float64), 0.25, axis=axis)


def interval(values: ArrayLike, statistic: Callable[..., Any] = interquartile_mean) -> Interval:
    """Return a statistic of runs with its percentile bootstrap interval over runs (Agarwal et al. 2021, section 4.1).

    A comparison has one task, so the stratified bootstrap has one stratum. With one or two runs there is no interval.

    Args:
        values: A number per run, shape (num_runs,).
        statistic: A function of values and `axis`.
    """
    values = np.asarray(values, dtype=np.float64)
    low, value, high = (float(each[0]) for each in band(values[:, None], statistic))
    return Interval(value, low, high)


def band(values: Array, statistic: Callable[..., Any] = interquartile_mean) -> tuple[Array, Array, Array]:
    """Return a statistic of curves with its pointwise percentile bootstrap interval; whole runs are resampled.

    Args:
        values: A curve per run, shape (num_runs, num_points).
        statistic: A function of values and `axis`.

    Returns:
        The low end, the statistic itself and the high end, each of shape (num_points,).
    """
    centre: Array = np.asarray(statistic(values, axis=0))
    if len(values) < FEWEST_RUNS:
        nothing = np.full_like(centre, np.nan)
        return nothing, centre, nothing
    drawn = np.random.default_rng(0).integers(0, len(values), size=(NUM_RESAMPLES, len(values)))
    resampled = statistic(values[drawn], axis=1)
    low, high = np.percentile(resampled, [2.5, 97.5], axis=0)
    return low, centre, high


@dataclass(frozen=True)
class GainTable:
    """The gains of runs on one test bucket, by prompt.

    Attributes:
        sums: Paired differences, summed over the images of each prompt, shape (..., num_prompts).
        sizes: Number of images of each prompt, shape (num_prompts,).
    """

    sums: Array
    sizes: Array

    @property
    def means(self) -> Array:
        """The gain of each run, shape (...)."""
        means: Array = self.sums.sum(axis=-1) / self.sizes.sum()
        return means


def gain_interval(table: GainTable) -> Interval:
    """Return the interquartile mean of the runs' gains, with a percentile interval over runs and prompts.

    All runs were measured on the same prompts. Each resample draws both runs and prompts with replacement (Owen 2007),
    so the interval says how much the mean would change with other seeds and other prompts; the interval is a little
    too wide rather than too narrow. With one or two runs there is no interval.

    Args:
        table: Gains whose sums have shape (num_runs, num_prompts).
    """
    sums, sizes = table.sums, table.sizes
    value = float(interquartile_mean(table.means))
    if len(sums) < FEWEST_RUNS:
        return Interval(value, math.nan, math.nan)
    generator = np.random.default_rng(0)
    drawn = generator.multinomial(len(sizes), np.full(len(sizes), 1 / len(sizes)), size=NUM_RESAMPLES)
    means = (drawn @ sums.T) / (drawn @ sizes)[:, None]
    runs = generator.integers(0, len(sums), size=means.shape)
    resampled = interquartile_mean(np.take_along_axis(means, runs, axis=1), axis=1)
    low, high = np.percentile(resampled, [2.5, 97.5])
    return Interval(value, float(low), float(high))


def level_at(images: Sequence[int], values: Sequence[float], grid: ArrayLike) -> Array:
    """Return, for each number of images in `grid`, the value of the latest check made by then; shape (num_points,).

    Args:
        images: Number of images at each check, ascending, the first 0; shape (num_checks,).
        values: The value that each check found, shape (num_checks,).
        grid: Numbers of images, shape (num_points,).
    """
    index = np.searchsorted(np.asarray(images), np.asarray(grid), side="right") - 1
    return np.asarray(values, dtype=np.float64)[index]


def targets_between(start: float, best: float, count: int = 50) -> Array:
    """Return targets at equal steps from just above `start` up to `best`, shape (count,).

    COCO spaces targets by the logarithm of the distance to a known optimum; a calibration has no known optimum.
    """
    return np.linspace(start, best, count + 1)[1:]


def images_to(images: Sequence[int], values: Sequence[float], targets: Array) -> Array:
    """Return the images until each target was first reached, infinite if it never was; shape (num_targets,).

    Args:
        images: Number of images at each check, ascending; shape (num_checks,).
        values: Best value so far at each check, ascending; shape (num_checks,).
        targets: Values to reach, shape (num_targets,).
    """
    index = np.searchsorted(np.asarray(values), targets - 1e-12 * np.abs(targets), side="left")
    padded = np.append(np.asarray(images, dtype=np.float64), np.inf)
    return padded[index]


def expected_images(times: ArrayLike, spent: ArrayLike) -> float:
    """Return the expected images to a target with restarts: images of all runs over the number of successful runs.

    COCO's ERT (Hansen et al. 2016, section 3.1; Auger and Hansen 2005): a run counts its images until it reached the
    target, or all its images if it failed. The result is infinite if no run reached the target.

    Args:
        times: Images of each run to the target, infinite if it was not reached; shape (num_runs,).
        spent: Images of each whole run, shape (num_runs,).
    """
    times = np.asarray(times, dtype=np.float64)
    reached = np.isfinite(times)
    if not reached.any():
        return math.inf
    return float(np.where(reached, times, np.asarray(spent)).sum() / reached.sum())


def restarted(times: ArrayLike, spent: ArrayLike, size: int, generator: np.random.Generator) -> Array:
    """Simulate searches that are restarted until they reach a target; return the images of each, shape (size,).

    COCO's simulated restarts (Hansen et al. 2016, section 3.1.2): runs are drawn with replacement until a successful
    one is drawn; a failed run drawn before it counts all its images.

    Args:
        times: Images of each run to the target, infinite if it was not reached; shape (num_runs,).
        spent: Images of each whole run, shape (num_runs,).
        size: The number of simulated searches.
        generator: The random generator that draws the runs.
    """
    times, spent = np.asarray(times, dtype=np.float64), np.asarray(spent, dtype=np.float64)
    reached = np.isfinite(times)
    if not reached.any():
        return np.full(size, np.inf)
    total, open_ = np.zeros(size), np.ones(size, dtype=bool)
    while open_.any():
        drawn = generator.integers(0, len(times), size=int(open_.sum()))
        total[open_] += np.where(reached[drawn], times[drawn], spent[drawn])
        open_[open_] = ~reached[drawn]
    return total


def share_reached(times: Array, grid: ArrayLike) -> Array:
    """Return the empirical cumulative distribution of images to targets, shape (num_points,).

    Args:
        times: Images of every run to every target, of any shape; infinite if never reached.
        grid: Numbers of images, shape (num_points,).
    """
    ordered = np.sort(times, axis=None)
    return np.searchsorted(ordered, np.asarray(grid, dtype=np.float64), side="right") / ordered.size


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values after Holm's step-down correction (Holm 1979), to be compared with the level directly.

    The i-th smallest of m p-values is multiplied by m - i + 1, and then raised to the one before it if it is smaller.
    """
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def signed_rank(first: ArrayLike, second: ArrayLike) -> float:
    """Return the two-sided p-value of Wilcoxon's signed-rank test (Demsar 2006, section 3.1.3); 1 if nothing differs.

    Seeds on which two contenders are equal are left out (Wilcoxon 1945).
    """
    from scipy import stats

    difference = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    difference = difference[difference != 0]
    if not len(difference):
        return 1.0
    return float(stats.wilcoxon(difference).pvalue)


def smallest_adjusted(num_seeds: int, num_contenders: int) -> float:
    """Return the smallest corrected p-value that the tests of all pairs can give; with few seeds it is large."""
    return min(1.0, 2.0 ** (1 - num_seeds) * math.comb(num_contenders, 2))


def pairs(labels: Sequence[str], table: GainTable) -> list[Pair]:
    """Test every pair of contenders, seed by seed.

    Args:
        labels: The contenders.
        table: Gains whose sums have shape (num_seeds, num_contenders, num_prompts).
    """
    indices = list(itertools.combinations(range(len(labels)), 2))
    gains, sums, sizes = table.means, table.sums, table.sizes
    p_values = [signed_rank(gains[:, a], gains[:, b]) for a, b in indices]
    return [
        Pair(labels[a], labels[b], gain_interval(GainTable(sums[:, a] - sums[:, b], sizes)), p, corrected)
        for (a, b), p, corrected in zip(indices, p_values, holm(p_values), strict=True)
    ]


def average_ranks(gains: Array) -> Array:
    """Return each contender's mean rank over seeds; 1 is best, ties share the mean rank; shape (num_contenders,).

    Args:
        gains: The gain of each run, shape (num_seeds, num_contenders).
    """
    from scipy import stats

    ranks: Array = stats.rankdata(-gains, axis=1).mean(axis=0)
    return ranks


def critical_difference(num_contenders: int, num_seeds: int, significance: float = SIGNIFICANCE) -> float:
    """Return Nemenyi's critical difference: average ranks closer than it cannot be told apart.

    CD = q sqrt(k (k + 1) / 6 N) for k contenders and N seeds; q is the quantile of the studentized range statistic
    divided by sqrt 2 (Demsar 2006, section 3.2.2).
    """
    from scipy import stats

    quantile = float(stats.studentized_range.ppf(1 - significance, num_contenders, np.inf)) / math.sqrt(2)
    return quantile * math.sqrt(num_contenders * (num_contenders + 1) / (6 * num_seeds))


def ranking(labels: Sequence[str], gains: Array) -> Ranking | None:
    """Rank three or more contenders over two or more seeds; None if there are fewer.

    The p-value is Friedman's, with the correction for ties (Demsar 2006, section 3.2.2).

    Args:
        labels: The contenders.
        gains: The gain of each run, shape (num_seeds, num_contenders).
    """
    from scipy import stats

    num_seeds, num_contenders = gains.shape
    if num_contenders < 3 or num_seeds < 2:
        return None
    alike = bool(np.all(gains == gains[:, :1]))
    p = 1.0 if alike else float(stats.friedmanchisquare(*gains.T).pvalue)
    ranks = dict(zip(labels, map(float, average_ranks(gains)), strict=True))
    critical = critical_difference(num_contenders, num_seeds)
    return Ranking(ranks, p, critical, groups(ranks, critical), num_seeds)


def groups(ranks: Mapping[str, float], critical: float) -> tuple[tuple[str, ...], ...]:
    """Return the largest sets of contenders whose average ranks lie within the critical difference, best first."""
    ordered = sorted(ranks, key=lambda label: ranks[label])
    found: list[tuple[str, ...]] = []
    for index, label in enumerate(ordered):
        within = tuple(other for other in ordered[index:] if ranks[other] - ranks[label] <= critical)
        if len(within) > 1 and not any(set(within) <= set(other) for other in found):
            found.append(within)
    return tuple(found)
