"""Ways of combining several objectives into what is optimised."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, FiniteFloat

from ..engine.bucket import Bucket
from ..engine.evaluation import Evaluation, weighted_sum
from ..engine.hooks import Register, hookimpl
from ..engine.seams import Combination
from ..ground.errors import ConfigError, near_misses

Scores = Mapping[str, NDArray[np.float64]]
Values = NDArray[np.float64]


class Weighted(Combination):
    """The weighted sum of the scores.

    Args:
        weights: Objective name to its weight, none of them 0.
    """

    def __init__(self, weights: Mapping[str, float]) -> None:
        self.weights = dict(weights)

    def values(self, scores: Scores, bucket: Bucket, pool: Evaluation | None) -> Values:
        """See `Combination.values`."""
        return weighted_sum(scores, self.weights, len(bucket))


class WinRate(Combination):
    """The expected rate of wins against the neutral model's outputs of the same prompt (CaPO, arXiv 2502.02588).

    CaPO's win-rate calibrated reward of an output x is the mean of the Bradley-Terry probability
    sigmoid(R(x) - R(y)) over outputs y of the reference model for the same prompt: the N - 1 others of the N that are
    compared. Here the y are a pool that never changes, outputs of the neutral model, and the difference is divided by
    a temperature, which is 1 in CaPO. As there, several rewards are averaged. A rate lies in [0, 1] whatever the
    reward, does not change when the reward is shifted, and grows with it; but it does change when the reward is
    multiplied: give one whose differences are small a small temperature.

    Args:
        weights: Objective name to its share in the average; positive.
        references: Neutral outputs a prompt.
        temperature: Of every reward, or by objective, 1 where none is given; in units of the score.

    Raises:
        ConfigError: If a weight is negative, or a temperature is not positive or belongs to no optimised objective.
    """

    def __init__(
        self, weights: Mapping[str, float], references: int, temperature: float | Mapping[str, float] = 1.0
    ) -> None:
        self.weights = dict(weights)
        self.references = references
        for name, weight in self.weights.items():
            if weight < 0:
                raise ConfigError(
                    f"objective {name!r} has weight {weight:g}, but shares in an average of win rates are positive; "
                    f"choose another combination than winrate, or turn the objective round"
                )
        given = temperature if isinstance(temperature, Mapping) else dict.fromkeys(self.weights, temperature)
        for name, value in given.items():
            if not 0 < value < math.inf:
                raise ConfigError(f"combine.temperature of {name!r} is {value:g}; it must be positive and finite")
            if name not in self.weights:
                raise ConfigError(
                    f"combine.temperature names {name!r}, which is not among the optimised objectives; "
                    f"{near_misses(name, self.weights)}"
                )
        self.temperature = {name: float(given.get(name, 1.0)) for name in self.weights}

    def pool(self, bucket: Bucket) -> Bucket:
        """Every prompt of the bucket once, with seeds of its own. See `Combination.pool`."""
        prompts = dict.fromkeys(bucket.prompts)
        pairs = [(prompt, _seed(prompt, index)) for prompt in prompts for index in range(self.references)]
        return Bucket(tuple(prompt for prompt, _ in pairs), tuple(seed for _, seed in pairs))

    def values(self, scores: Scores, bucket: Bucket, pool: Evaluation | None) -> Values:
        """The weighted mean of the rewards' win rates, shape (num_outputs,). See `Combination.values`."""
        assert pool is not None
        rows = {prompt: index for index, prompt in enumerate(dict.fromkeys(pool.bucket.prompts))}
        own = [rows[prompt] for prompt in bucket.prompts]
        total = np.zeros(len(bucket))
        for name, weight in self.weights.items():
            others = np.asarray(pool.scores[name]).reshape(len(rows), self.references)[own]
            total += weight * win_rate(scores[name], others, self.temperature[name])
        return total / sum(self.weights.values())

    def describe(self) -> dict[str, object]:
        """See `Combination.describe`."""
        return {"references": self.references, "temperature": self.temperature}


def win_rate(scores: Values, others: Values, temperature: float = 1.0) -> Values:
    """Expected Bradley-Terry rate of wins: CaPO's calibrated reward, (1/M) sum_j sigmoid((R(x) - R(y_j)) / T).

    Args:
        scores: Shape (num_outputs,).
        others: Scores of each output's opponents, shape (num_outputs, num_opponents).
        temperature: In units of the score.

    Returns:
        Shape (num_outputs,), in [0, 1].
    """
    from scipy.special import expit

    with np.errstate(over="ignore"):  # a difference far beyond a tiny temperature is a certain win
        rates: Values = expit((scores[:, None] - others) / temperature).mean(axis=1)
    return rates


class Pareto(Weighted):
    """Non-dominated rank of a generation's candidates, and crowding within a rank (NSGA-II, Deb et al. 2002).

    A candidate dominates another if no mean score of its is worse and one is better; of a weight, the sign alone says
    which way is better. Held-out settings are compared by the weighted sum.
    """

    def fitness(self, evaluations: Sequence[Evaluation], pool: Evaluation | None) -> Values:
        """Minus the rank, plus a share for standing apart. See `pareto_fitness` and `Combination.fitness`."""
        signs = {name: np.sign(weight) for name, weight in self.weights.items()}
        points = np.array([[sign * np.mean(each.scores[name]) for name, sign in signs.items()] for each in evaluations])
        return pareto_fitness(points)


def pareto_fitness(points: Values) -> Values:
    """Rank points by dominance, larger coordinates being better.

    Args:
        points: Shape (num_points, num_objectives).

    Returns:
        Shape (num_points,): minus the non-dominated rank, from 0, plus 0.5 crowding / (1 + crowding) of the point
        within its rank. A dominating point is at least 0.5 above those it dominates, and equal points are equal.
    """
    import moocore

    ranks = np.asarray(moocore.pareto_rank(points, maximise=True), dtype=np.float64)
    crowding = np.empty(len(points))
    for rank in np.unique(ranks):
        members = np.flatnonzero(ranks == rank)
        crowding[members] = crowding_distance(points[members])
    return -ranks + 0.5 * (1 - 1 / (1 + crowding))


def crowding_distance(points: Values) -> Values:
    """How far apart each point's neighbours are, summed over objectives (Deb et al. 2002, section III-B).

    Where points share a coordinate, neighbours are the next larger and smaller coordinates, so that the order in
    which points come decides nothing.

    Args:
        points: Shape (num_points, num_objectives), of one rank.

    Returns:
        Shape (num_points,); infinite at the ends of an objective's range.
    """
    distance = np.zeros(len(points))
    for column in points.T:
        levels, level = np.unique(column, return_inverse=True)
        if len(levels) > 1:
            gaps = np.full(len(levels), np.inf)
            gaps[1:-1] = (levels[2:] / 2 - levels[:-2] / 2) / (levels[-1] / 2 - levels[0] / 2)
            distance += gaps[level]
    return distance


class Constrained(Weighted):
    """The weighted sum, while other objectives must not fall below the neutral model's.

    A candidate's shortfall in each of those, against the neutral model on the same prompts and seeds and in standard
    deviations between its outputs, is taken off its fitness. Beside the best neutral setting on the validation prompts,
    a setting that falls short cannot be chosen, whatever its value; the neutral setting always can.

    Args:
        weights: Objective name to its weight.
        floors: Objectives that must not fall, with how much they must gain (negative: may lose), in their own unit.
        penalty: What a standard deviation of shortfall costs, in standard deviations of the neutral values.
    """

    pool_in_search_only = True

    def __init__(self, weights: Mapping[str, float], floors: Mapping[str, float], penalty: float) -> None:
        super().__init__(weights)
        self.floors = dict(floors)
        self.penalty = penalty
        self.uses = tuple(floors)

    def pool(self, bucket: Bucket) -> Bucket:
        """The same prompts and seeds. See `Combination.pool`."""
        return bucket

    def fitness(self, evaluations: Sequence[Evaluation], pool: Evaluation | None) -> Values:
        """See `Combination.fitness`."""
        assert pool is not None
        unit = float(np.std(weighted_sum(pool.scores, self.weights, len(pool.bucket)))) or 1.0
        worth = super().fitness(evaluations, pool)
        for name, margin in self.floors.items():
            neutral = np.asarray(pool.scores[name])
            spread = float(neutral.std()) or 1.0
            for index, each in enumerate(evaluations):
                shortfall = neutral.mean() + margin - np.mean(each.scores[name])
                worth[index] -= self.penalty * unit * max(0.0, shortfall) / spread
        return worth

    def admits(self, candidate: Evaluation, neutral: Evaluation) -> bool:
        """See `Combination.admits`."""
        return all(
            np.mean(candidate.scores[name]) >= np.mean(neutral.scores[name]) + margin
            for name, margin in self.floors.items()
        )

    def describe(self) -> dict[str, object]:
        """See `Combination.describe`."""
        return {"floors": self.floors, "penalty": self.penalty}


def _seed(prompt: str, index: int) -> int:
    """The seed of a prompt's reference output: the same in every bucket, below 2**31."""
    return int.from_bytes(hashlib.sha256(f"{index}\0{prompt}".encode()).digest()[:4], "big") >> 1


def make_weighted(weights: Mapping[str, float]) -> Combination:
    """The weighted sum of the scores."""
    return Weighted(weights)


def make_winrate(
    weights: Mapping[str, float],
    *,
    references: Annotated[int, Field(ge=1)] = 8,
    temperature: float | dict[str, float] = 1.0,
) -> Combination:
    """The expected rate of wins against the neutral model's images of the same prompt, averaged over rewards (CaPO)."""
    return WinRate(weights, references, temperature)


def make_pareto(weights: Mapping[str, float]) -> Combination:
    """Non-dominated rank of a generation's candidates with crowding; the weighted sum on held-out prompts."""
    return Pareto(weights)


def make_constrained(
    weights: Mapping[str, float],
    *,
    floors: Annotated[dict[str, FiniteFloat], Field(min_length=1)],
    penalty: Annotated[float, Field(gt=0)] = 10.0,
) -> Combination:
    """The weighted sum, while the objectives named in floors must not fall below the neutral model's."""
    return Constrained(weights, floors, penalty)


@hookimpl
def register_combinations(register: Register) -> None:
    """Name the built-in combinations."""
    register("weighted", make_weighted)
    register("winrate", make_winrate)
    register("pareto", make_pareto)
    register("constrained", make_constrained)
