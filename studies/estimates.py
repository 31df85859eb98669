"""What raters' answers say, with intervals: shares, strengths, agreement.

Answers are not independent: a rater has a taste, and a prompt has pictures. So every interval counts raters and
prompts, not answers.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import beta, t

LEVEL = 0.95
RESAMPLES = 999
_BATCH = 100
_ENOUGH, _MOST_STEPS = 1e-9, 5000  # of the iteration for strengths
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval.

    Attributes:
        value: The number.
        low: Lower end of the interval.
        high: Upper end of the interval.
        num_answers: Answers that it was computed from.
    """

    value: float
    low: float
    high: float
    num_answers: int


def share(chosen: ArrayLike, raters: Sequence[Hashable], prompts: Sequence[Hashable]) -> Estimate:
    """Estimate a share of answers, as for any rater and any prompt.

    The variance is clustered by rater and by prompt (Cameron, Gelbach and Miller 2011, Journal of Business & Economic
    Statistics 29); where the sum of its terms is smaller than one of the two, the larger counts. The interval is that
    of Korn and Graubard (1998, Survey Methodology 24): Clopper and Pearson's, for as many independent answers as would
    have this variance, and for the degrees of freedom of the fewer clusters. It stays between 0 and 1, and has a width
    even if all answers agree.

    Args:
        chosen: Whether each answer counts, shape (num_answers,).
        raters: The rater of each answer.
        prompts: The prompt of each answer.
    """
    values = np.asarray(chosen, dtype=np.float64)
    number, mean = len(values), float(values.mean())
    variance, freedom = _variance(values, raters, prompts)
    if freedom < 1:
        return Estimate(mean, 0.0, 1.0, number)
    independent = min(number, mean * (1 - mean) / variance) if variance > 0 and 0 < mean < 1 else float(number)
    tail = (1 + LEVEL) / 2
    independent *= float(t.ppf(tail, max(number - 1, 1)) / t.ppf(tail, freedom)) ** 2
    hits = mean * independent
    low = float(beta.ppf(1 - tail, hits, independent - hits + 1)) if mean > 0 else 0.0
    high = float(beta.ppf(tail, hits + 1, independent - hits)) if mean < 1 else 1.0
    return Estimate(mean, low, high, number)


def mean(values: ArrayLike, raters: Sequence[Hashable], prompts: Sequence[Hashable]) -> tuple[Estimate, float]:
    """Estimate a mean over answers by Student's interval, with the variance of `share`.

    Returns:
        The estimate, and the two-sided p-value of the mean being 0; an unbounded interval and 1 for a single cluster.
    """
    array = np.asarray(values, dtype=np.float64)
    found, number = float(array.mean()), len(array)
    variance, freedom = _variance(array, raters, prompts)
    if freedom < 1:
        return Estimate(found, -math.inf, math.inf, number), 1.0
    if variance == 0:  # all answers agree: as if one more had been 0
        variance = (found / (number + 1)) ** 2
    error = math.sqrt(variance)
    reach = float(t.ppf((1 + LEVEL) / 2, freedom)) * error
    p = float(2 * t.sf(abs(found) / error, freedom)) if error else 1.0
    return Estimate(found, found - reach, found + reach, number), p


def holm(p: Sequence[float]) -> list[float]:
    """Adjust p-values of several tests by Holm's method, so that one false alarm among them is as rare as asked."""
    order = np.argsort(p, kind="stable")
    adjusted, largest = [1.0] * len(p), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, p[index] * (len(p) - rank)))
        adjusted[index] = largest
    return adjusted


def strengths(wins: ArrayLike) -> Array:
    """Estimate the strengths of the Bradley-Terry model by maximum likelihood.

    The probability that i is chosen over j is 1 / (1 + exp(s_j - s_i)). A tie is half a win for each, and one tie
    between every two entrants is added, so that the strengths are finite even if one always wins. The iteration is
    that of Hunter (2004, The Annals of Statistics 32), which increases the likelihood in every step.

    Args:
        wins: Shape (..., num_entrants, num_entrants): how often the one in the row was chosen over that in the column.

    Returns:
        Shape (..., num_entrants): log-odds, minus those of the last entrant.
    """
    counts = np.asarray(wins, dtype=np.float64)
    size = counts.shape[-1]
    counts = counts + 0.5 * (1 - np.eye(size))
    met, won = counts + np.swapaxes(counts, -1, -2), counts.sum(axis=-1)
    worth = np.ones_like(won)
    for _ in range(_MOST_STEPS):
        better = won / (met / (worth[..., :, None] + worth[..., None, :])).sum(axis=-1)
        better /= np.exp(np.log(better).mean(axis=-1, keepdims=True))
        moved = float(np.abs(np.log(better / worth)).max(initial=0))
        worth = better
        if moved < _ENOUGH:
            break
    logs = np.log(worth)
    return np.asarray(logs - logs[..., -1:], dtype=np.float64)


def strengths_with_intervals(
    pairs: Sequence[tuple[int, int]],
    values: ArrayLike,
    raters: Sequence[Hashable],
    prompts: Sequence[Hashable],
    num_entrants: int,
) -> list[Estimate]:
    """Estimate strengths with intervals over raters and prompts.

    Raters and prompts are resampled at once and independently (the pigeonhole bootstrap of Owen 2007, The Annals of
    Applied Statistics 1, whose intervals are wide enough); with a single rater, only prompts are. The interval is
    that of the percentiles. The resamples' seed is fixed, so that reports are reproducible.

    Args:
        pairs: The two entrants of each answer.
        values: 1 if the first was chosen, -1 if the second, 0 for no difference; shape (num_answers,).
        raters: The rater of each answer.
        prompts: The prompt of each answer.
        num_entrants: The number of entrants.

    Returns:
        Log-odds against the last entrant, which has 0.
    """
    shares = (np.asarray(values, dtype=np.float64) + 1) / 2
    first, second = np.array(pairs).T
    table = np.zeros((len(shares), num_entrants, num_entrants))
    table[np.arange(len(shares)), first, second] = shares
    table[np.arange(len(shares)), second, first] = 1 - shares
    flat = table.reshape(len(shares), -1)
    (rater, num_raters), (prompt, num_prompts) = _codes(raters), _codes(prompts)
    generator = np.random.default_rng(0)
    drawn = []
    for begin in range(0, RESAMPLES, _BATCH):
        number = min(_BATCH, RESAMPLES - begin)
        weights = _resampled(generator, num_prompts, number)[:, prompt]
        if num_raters > 1:
            weights = weights * _resampled(generator, num_raters, number)[:, rater]
        drawn.append(strengths((weights @ flat).reshape(number, num_entrants, num_entrants)))
    low, high = np.quantile(np.concatenate(drawn), [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    found = strengths(table.sum(axis=0))
    numbers = [int(((first == each) | (second == each)).sum()) for each in range(num_entrants)]
    return [
        Estimate(float(value), float(least), float(most), number)
        for value, least, most, number in zip(found, low, high, numbers, strict=True)
    ]


def alpha(units: Sequence[Sequence[int]]) -> float | None:
    """Return Krippendorff's alpha of ordered values: 1 is agreement, 0 is what chance gives.

    Values differ by how many values lie between them (the ordinal metric). Units with fewer than two values do not
    count. Source: Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011), sections C and D.

    Args:
        units: The values that raters gave each unit.

    Returns:
        None if no unit has two values, or all values are equal.
    """
    known = sorted({value for unit in units if len(unit) > 1 for value in unit})
    if len(known) < 2:
        return None
    counts = np.array([[unit.count(value) for value in known] for unit in map(list, units) if len(unit) > 1], float)
    sizes = counts.sum(axis=1)
    together = np.einsum("uc,ud->cd", counts / (sizes - 1)[:, None], counts)
    together -= np.diag((counts / (sizes - 1)[:, None]).sum(axis=0))
    totals = together.sum(axis=1)
    middle = np.cumsum(totals) - totals / 2
    apart = np.square(middle[:, None] - middle[None, :])
    expected = float(totals @ apart @ totals)
    return 1 - (float(totals.sum()) - 1) * float((together * apart).sum()) / expected


def same_answers(units: Sequence[Sequence[int]]) -> tuple[float, int]:
    """Return the share of pairs of raters of a unit that gave equal values, and the number of such pairs."""
    same = total = 0
    for unit in units:
        total += len(unit) * (len(unit) - 1) // 2
        same += sum(unit.count(value) * (unit.count(value) - 1) // 2 for value in set(unit))
    return (same / total if total else math.nan), total


def _variance(values: Array, raters: Sequence[Hashable], prompts: Sequence[Hashable]) -> tuple[float, int]:
    """Return the variance of a mean, clustered by rater and prompt, and its degrees of freedom; 0 if it has none.

    With a single rater it is clustered by prompt alone, and the other way round.
    """
    residuals = values - values.mean()
    (rater, num_raters), (prompt, num_prompts) = _codes(raters), _codes(prompts)
    by_rater, by_prompt = (_clustered(residuals, *each) for each in ((rater, num_raters), (prompt, num_prompts)))
    if min(num_raters, num_prompts) == 1:
        return max(by_rater, by_prompt), max(num_raters, num_prompts) - 1
    both = _clustered(residuals, *_codes(list(zip(rater.tolist(), prompt.tolist(), strict=True))))
    return max(by_rater + by_prompt - both, by_rater, by_prompt), min(num_raters, num_prompts) - 1


def _clustered(residuals: Array, codes: NDArray[np.int64], number: int) -> float:
    if number < 2:
        return 0.0
    sums = np.bincount(codes, residuals, minlength=number)
    return float(np.square(sums).sum()) * number / (number - 1) / len(residuals) ** 2


def _codes(names: Sequence[Hashable]) -> tuple[NDArray[np.int64], int]:
    order: dict[Hashable, int] = {}
    codes = np.array([order.setdefault(name, len(order)) for name in names], dtype=np.int64)
    return codes, len(order)


def _resampled(generator: np.random.Generator, size: int, number: int) -> Array:
    """Return how often each of `size` things is drawn in each of `number` resamples, shape (number, size)."""
    return np.asarray(generator.multinomial(size, np.full(size, 1 / size), number), dtype=np.float64)
