"""What differences between contenders are worth: intervals, tests, and images to a target.

Sources: interquartile mean and bootstrap intervals as in rliable (Agarwal et al. 2021, "Deep reinforcement learning at
the edge of the statistical precipice", NeurIPS); runs drawn together with prompts as in Owen (2007, "The pigeonhole
bootstrap", Annals of Applied Statistics 1); tests and ranks as in Demsar (2006, "Statistical comparisons of
classifiers over multiple data sets", JMLR 7); images to a target as in COCO (Hansen et al. 2016, "COCO: performance
assessment", arXiv:1605.03560). Random numbers come from fixed seeds, so that a page can be made again.
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
FEWEST_RUNS = 3  # of two, the interval would be from the one to the other
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
        first: A label.
        second: Another.
        difference: Interquartile mean of first minus second, with its interval over seeds and prompts.
        p: Two-sided p-value of Wilcoxon's signed-rank test, seed by seed: of these searches on these prompts.
        adjusted: The same after Holm's correction for all pairs.
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
        p: Of Friedman's test that all contenders are alike.
        critical: Nemenyi's critical difference of two average ranks at the 5 % level.
        groups: Largest sets of contenders, best first, that it cannot tell apart.
        num_seeds: Over how many seeds.
    """

    ranks: Mapping[str, float]
    p: float
    critical: float
    groups: tuple[tuple[str, ...], ...]
    num_seeds: int


def interquartile_mean(values: ArrayLike, axis: int = 0) -> Any:
    """The mean without the lowest and the highest quarter (a quarter of few values is rounded down)."""
    from scipy import stats

    return stats.trim_mean(np.asarray(values, dtype=np.float64), 0.25, axis=axis)


def interval(values: ArrayLike, statistic: Callable[..., Any] = interquartile_mean) -> Interval:
    """A statistic of runs with its percentile bootstrap interval over runs (Agarwal et al. 2021, section 4.1).

    There is one task here, so the stratified bootstrap has one stratum. With one run or two there is no interval.

    Args:
        values: Shape (num_runs,).
        statistic: Takes values and `axis`.
    """
    values = np.asarray(values, dtype=np.float64)
    low, value, high = (float(each[0]) for each in band(values[:, None], statistic))
    return Interval(value, low, high)


def band(values: Array, statistic: Callable[..., Any] = interquartile_mean) -> tuple[Array, Array, Array]:
    """The same for curves: whole runs are resampled.

    Args:
        values: Shape (num_runs, num_points).
        statistic: Takes values and `axis`.

    Returns:
        Low, the statistic itself, and high, each of shape (num_points,).
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
    """Gains of runs on one test bucket, by prompt.

    Attributes:
        sums: Paired differences summed over each prompt's images, shape (..., num_prompts).
        sizes: Images of each prompt, shape (num_prompts,).
    """

    sums: Array
    sizes: Array

    @property
    def means(self) -> Array:
        """The gain of each run, shape (...)."""
        means: Array = self.sums.sum(axis=-1) / self.sizes.sum()
        return means


def gain_interval(table: GainTable) -> Interval:
    """The interquartile mean of runs' gains, with the percentile interval of runs and prompts drawn together.

    Runs are crossed with prompts: all were measured on the same. Both are drawn with replacement in each resample
    (Owen 2007), so the interval says how much other seeds and other prompts would move it; it is a little too wide
    rather than too narrow. With one run or two there is no interval.

    Args:
        table: Sums of shape (num_runs, num_prompts).
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
    """A step function: the value of the latest check that had been made at each number of images.

    Args:
        images: When checks were made, ascending, the first at 0.
        values: What they found.
        grid: Shape (num_points,).
    """
    index = np.searchsorted(np.asarray(images), np.asarray(grid), side="right") - 1
    return np.asarray(values, dtype=np.float64)[index]


def targets_between(start: float, best: float, count: int = 50) -> Array:
    """Targets at equal steps from just above `start` up to `best`, shape (count,).

    COCO spaces targets by the logarithm of the distance to a known optimum; here none is known.
    """
    return np.linspace(start, best, count + 1)[1:]


def images_to(images: Sequence[int], values: Sequence[float], targets: Array) -> Array:
    """Images until each target was first reached, infinite where it never was; shape (num_targets,).

    Args:
        images: When checks were made.
        values: Best so far, ascending.
        targets: Shape (num_targets,).
    """
    index = np.searchsorted(np.asarray(values), targets - 1e-12 * np.abs(targets), side="left")
    padded = np.append(np.asarray(images, dtype=np.float64), np.inf)
    return padded[index]


def expected_images(times: ArrayLike, spent: ArrayLike) -> float:
    """Expected images to a target with restarts: all that was spent for it over the runs that reached it.

    COCO's ERT (Hansen et al. 2016, section 3.1; Auger and Hansen 2005): runs that failed count with all they spent.
    Infinite if none reached it.

    Args:
        times: Images to the target, infinite where it was not reached, shape (num_runs,).
        spent: Images of the whole run, shape (num_runs,).
    """
    times = np.asarray(times, dtype=np.float64)
    reached = np.isfinite(times)
    if not reached.any():
        return math.inf
    return float(np.where(reached, times, np.asarray(spent)).sum() / reached.sum())


def restarted(times: ArrayLike, spent: ArrayLike, size: int, generator: np.random.Generator) -> Array:
    """Images to a target of a search that is restarted until it gets there, simulated; shape (size,).

    COCO's simulated restarts (Hansen et al. 2016, section 3.1.2): runs are drawn with replacement until one that
    reached the target is; those that failed before count with all they spent.

    Args:
        times: Images to the target, infinite where it was not reached, shape (num_runs,).
        spent: Images of the whole run, shape (num_runs,).
        size: How many searches.
        generator: Draws the runs.
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
    """The empirical cumulative distribution of images to targets, shape (num_points,).

    Args:
        times: Of every run and target, any shape; infinite where never reached.
        grid: Numbers of images, shape (num_points,).
    """
    ordered = np.sort(times, axis=None)
    return np.searchsorted(ordered, np.asarray(grid, dtype=np.float64), side="right") / ordered.size


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction (Holm 1979): p-values that may be compared with the level as they are.

    The i-th smallest of m is multiplied by m - i + 1, and none becomes smaller than one before it.
    """
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def signed_rank(first: ArrayLike, second: ArrayLike) -> float:
    """Two-sided p-value of Wilcoxon's signed-rank test (Demsar 2006, section 3.1.3); 1 if nothing differs.

    Seeds on which two contenders are equal are left out (Wilcoxon 1945).
    """
    from scipy import stats

    difference = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    difference = difference[difference != 0]
    if not len(difference):
        return 1.0
    return float(stats.wilcoxon(difference).pvalue)


def smallest_adjusted(num_seeds: int, num_contenders: int) -> float:
    """The smallest p-value that the tests of all pairs can give, after correction: with few seeds it is large."""
    return min(1.0, 2.0 ** (1 - num_seeds) * math.comb(num_contenders, 2))


def pairs(labels: Sequence[str], table: GainTable) -> list[Pair]:
    """Every two contenders, tested seed by seed.

    Args:
        labels: The contenders.
        table: Sums of shape (num_seeds, num_contenders, num_prompts).
    """
    indices = list(itertools.combinations(range(len(labels)), 2))
    gains, sums, sizes = table.means, table.sums, table.sizes
    p_values = [signed_rank(gains[:, a], gains[:, b]) for a, b in indices]
    return [
        Pair(labels[a], labels[b], gain_interval(GainTable(sums[:, a] - sums[:, b], sizes)), p, corrected)
        for (a, b), p, corrected in zip(indices, p_values, holm(p_values), strict=True)
    ]


def average_ranks(gains: Array) -> Array:
    """Mean over seeds of each contender's rank, 1 being best and ties sharing; shape (num_contenders,).

    Args:
        gains: Shape (num_seeds, num_contenders).
    """
    from scipy import stats

    ranks: Array = stats.rankdata(-gains, axis=1).mean(axis=0)
    return ranks


def critical_difference(num_contenders: int, num_seeds: int, significance: float = SIGNIFICANCE) -> float:
    """Nemenyi's: average ranks that differ by less cannot be told apart (Demsar 2006, section 3.2.2).

    CD = q sqrt(k (k + 1) / 6 N), q the quantile of the studentized range statistic over sqrt 2.
    """
    from scipy import stats

    quantile = float(stats.studentized_range.ppf(1 - significance, num_contenders, np.inf)) / math.sqrt(2)
    return quantile * math.sqrt(num_contenders * (num_contenders + 1) / (6 * num_seeds))


def ranking(labels: Sequence[str], gains: Array) -> Ranking | None:
    """Rank at least three contenders over at least two seeds; None if there are fewer.

    Friedman's test with the correction for ties (Demsar 2006, section 3.2.2).

    Args:
        labels: The contenders.
        gains: Shape (num_seeds, num_contenders).
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
    """Largest sets of contenders whose average ranks lie within the critical difference, best first."""
    ordered = sorted(ranks, key=lambda label: ranks[label])
    found: list[tuple[str, ...]] = []
    for index, label in enumerate(ordered):
        within = tuple(other for other in ordered[index:] if ranks[other] - ranks[label] <= critical)
        if len(within) > 1 and not any(set(within) <= set(other) for other in found):
            found.append(within)
    return tuple(found)
