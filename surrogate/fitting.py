"""Fitting a smooth function of the setting to a run's scores, and measuring how well it predicts.

The model is fitted to the differences between candidates that shared a bucket, so the difficulty of a bucket does not
matter. The model is a kernel ridge regression (Rasmussen and Williams 2006, "Gaussian processes for machine learning",
section 2.2) with a linear, a quadratic and a radial part:

    f(x) = sum_i a_i k(r z, z_i) - c (|z| - R)^2 where |z| > R
    k(z, z') = l z.z' + q (z.z')^2 + exp(-|z - z'|^2 / 2 h^2)

z is x minus the centre of the data, in units of the data's scatter. R is the radius within which nearly all data lie,
and r = min(1, R / |z|). Nothing is known beyond R, so f falls there, and no search can win by leaving the data.
Cross-validation over whole buckets chooses l, q, h and the ridge.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from ..engine.evaluation import Evaluation
from ..engine.knobs import KnobSpace, Vector
from ..ground.errors import ModelError

Array = NDArray[np.float64]
MOST_ROWS = 800
FOLDS = 5
TRENDS = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0))  # l and q
LENGTHS, RIDGES = (0.4, 0.8, 1.6), (0.01, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
WITHIN = 0.95  # share of the data inside R
FALL = 1.0  # c, in units of the scatter of scores


@dataclass(frozen=True)
class Table:
    """The data to fit: a row for every candidate that shared a bucket with another.

    Attributes:
        vectors: The candidates, shape (num_rows, num_knobs).
        values: Mean value of each candidate minus the mean of its bucket, shape (num_rows,).
        buckets: Number of each row's bucket, from 0; shape (num_rows,).
        sizes: Number of outputs of each row, shape (num_rows,).
        noise: Standard deviation of an output's value, without the effects of its candidate and its prompt.
        prompts: Standard deviation of the effect of a prompt and seed.
    """

    vectors: Array
    values: Vector
    buckets: NDArray[np.int64]
    sizes: Vector
    noise: float
    prompts: float

    @property
    def reliability(self) -> float:
        """The share of the variance between candidates that is not noise: the most that a model can explain."""
        own = np.arange(self.buckets.max() + 1)
        first = np.searchsorted(self.buckets, own)
        noise = self.noise**2 / self.sizes[first] * (np.bincount(self.buckets) - 1)
        return max(1 - _average_share(noise, self.totals), 0.0)

    @property
    def totals(self) -> Vector:
        """The sum of squared `values` of each bucket, shape (num_buckets,)."""
        return np.asarray(np.bincount(self.buckets, weights=np.square(self.values)), dtype=np.float64)


@dataclass(frozen=True)
class Fit:
    """A fitted model; the module's docstring has the formula.

    Attributes:
        centre: The centre of the data, shape (num_knobs,).
        units: The units of z, shape (num_knobs,).
        anchors: z of the data, shape (num_rows, num_knobs).
        weights: a, shape (num_rows,).
        kernel: l, q and h.
        radius: R.
        fall: c.
        r_squared: Share of the variance between candidates that the model explains in buckets left out, on average.
    """

    centre: Vector
    units: Vector
    anchors: Array
    weights: Vector
    kernel: tuple[float, float, float]
    radius: float
    fall: float
    r_squared: float

    def at(self, vector: Vector) -> float:
        """Return the value of one candidate, shape (num_knobs,), computed alone so that no other can influence it."""
        point = (vector - self.centre) / self.units
        reach = float(np.sqrt(np.square(point).sum()))
        inside = point * min(1.0, self.radius / reach) if reach else point
        products = (self.anchors * inside).sum(axis=1)
        distances = np.square(self.anchors - inside).sum(axis=1)
        linear, quadratic, length = self.kernel
        kernel = linear * products + quadratic * products**2 + np.exp(-distances / (2 * length**2))
        return float((self.weights * kernel).sum() - self.fall * max(reach - self.radius, 0.0) ** 2)


def table_of(evaluations: Iterable[Evaluation], space: KnobSpace) -> Table:
    """Arrange evaluations by bucket into a table to fit.

    Raises:
        ModelError: If too few candidates shared a bucket.
    """
    shared: dict[str, dict[tuple[float, ...], Vector]] = {}
    for evaluation in evaluations:
        key = tuple(float(value) for value in space.to_vector(evaluation.setting))
        shared.setdefault(evaluation.bucket.fingerprint, {})[key] = evaluation.values
    groups = _thinned([group for group in shared.values() if len(group) > 1])
    if len(groups) < 2 or sum(map(len, groups)) < 2 * FOLDS:
        raise ModelError("a surrogate needs a run with a few generations; this one has recorded too little")
    noise, prompts = _scatter([np.stack(list(group.values())) for group in groups])
    vectors, values, buckets, sizes = [], [], [], []
    for number, group in enumerate(groups):
        means = np.array([scores.mean() for scores in group.values()])
        vectors += list(group)
        values += list(means - means.mean())
        buckets += [number] * len(group)
        sizes += [len(scores) for scores in group.values()]
    return Table(
        np.array(vectors), np.array(values), np.array(buckets), np.array(sizes, dtype=np.float64), noise, prompts
    )


def fit(table: Table, spreads: Vector) -> Fit:
    """Fit the model; cross-validation over buckets chooses its kernel and ridge.

    Args:
        table: The candidates and their values.
        spreads: The spreads of the knobs, shape (num_knobs,).
    """
    centre = table.vectors.mean(axis=0)
    moves = (table.vectors - centre) / spreads
    reach = float(np.sqrt(np.square(moves).sum(axis=1).mean())) or 1.0
    points = moves / reach
    with threadpool_limits(limits=1, user_api="blas"):
        shapes = [((*trend, length), ridge) for trend in TRENDS for length in LENGTHS for ridge in RIDGES]
        scores = [_cross_validated(table, points, *shape) for shape in shapes]
        best = int(np.argmax(scores))
        kernel, ridge = shapes[best]
        weights = _solved(table, points, np.arange(len(points)), kernel, ridge)
    radius = float(np.quantile(np.sqrt(np.square(points).sum(axis=1)), WITHIN))
    fall = FALL * float(table.values.std())
    return Fit(centre, spreads * reach, points, weights, kernel, radius, fall, scores[best])


def _cross_validated(table: Table, points: Array, kernel: tuple[float, float, float], ridge: float) -> float:
    """Return R squared on buckets left out, averaged over buckets."""
    folds = table.buckets % FOLDS
    missed = np.zeros(len(table.totals))
    for fold in range(FOLDS):
        kept, left = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        if not len(left) or not len(kept):
            continue
        found = _kernel(points[left], points[kept], *kernel) @ _solved(table, points, kept, kernel, ridge)
        squares = np.square(table.values[left] - _centred(found, table.buckets[left]))
        missed += np.bincount(table.buckets[left], weights=squares, minlength=len(missed))
    return 1 - _average_share(missed, table.totals)


def _average_share(parts: Vector, totals: Vector) -> float:
    """Return the mean over buckets of part / total, so that one bucket with a large total does not decide alone."""
    counted = totals > 0
    return float((parts[counted] / totals[counted]).mean()) if counted.any() else 1.0


def _solved(
    table: Table, points: Array, rows: NDArray[np.int64], kernel: tuple[float, float, float], ridge: float
) -> Vector:
    """Solve for the weights of some rows; rows with more outputs are penalised less."""
    buckets, sizes = table.buckets[rows], table.sizes[rows]
    products = _kernel(points[rows], points[rows], *kernel)
    products = _centred(_centred(products, buckets).T, buckets)
    penalty = np.diag(ridge * sizes.mean() / sizes)
    weights: Vector = np.asarray(np.linalg.solve(products + penalty, table.values[rows]), dtype=np.float64)
    return _centred(weights, buckets)


def _kernel(left: Array, right: Array, linear: float, quadratic: float, length: float) -> Array:
    products = left @ right.T
    squares = np.square(left).sum(axis=1)[:, None] + np.square(right).sum(axis=1) - 2 * products
    radial = np.exp(-np.maximum(squares, 0) / (2 * length**2))
    result: Array = linear * products + quadratic * products**2 + radial
    return result


def _centred(values: Array, buckets: NDArray[np.int64]) -> Array:
    """Subtract the mean of its bucket from each value, along the first axis."""
    _, index, counts = np.unique(buckets, return_inverse=True, return_counts=True)
    member = np.zeros((len(counts), len(buckets)))
    member[index, np.arange(len(buckets))] = 1.0
    means = (member @ values.reshape(len(values), -1)) / counts[:, None]
    return np.asarray(values - means[index].reshape(values.shape))


def _scatter(groups: Sequence[Array]) -> tuple[float, float]:
    """Estimate `Table.noise` and `Table.prompts`, pooled over buckets.

    A two-way analysis of variance of candidates by prompts, without repeats (Fisher 1925).
    """
    squares, freedom, between, count = 0.0, 0, 0.0, 0
    for scores in groups:
        num_candidates, num_prompts = scores.shape
        if num_prompts < 2:
            continue
        means = scores.mean(axis=0)
        centred = scores - means
        squares += float(np.square(centred - centred.mean(axis=1)[:, None]).sum())
        freedom += (num_candidates - 1) * (num_prompts - 1)
        between += float(np.square(means - means.mean()).sum())
        count += num_prompts - 1
    if not freedom:
        raise ModelError(
            "a surrogate needs a run whose candidates were scored on two prompts at once, at least now and then"
        )
    noise = squares / freedom
    sizes = float(np.mean([len(scores) for scores in groups if scores.shape[1] > 1]))
    return float(np.sqrt(noise)), float(np.sqrt(max(between / count - noise / sizes, 0.0)))


def _thinned(groups: list[dict[tuple[float, ...], Vector]]) -> list[dict[tuple[float, ...], Vector]]:
    """Select whole buckets, evenly over the run, with about MOST_ROWS candidates in all."""
    total = sum(map(len, groups))
    every = max(1.0, total / MOST_ROWS)
    return [groups[int(number)] for number in np.arange(0, len(groups), every)]
