"""Combine the scores of several objectives into the values and the fitness that are optimised."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

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
        weights: The weight of every objective, by name; not 0.
    """

    def __init__(self, weights: Mapping[str, float]) -> None:
        self.weights = dict(weights)

    def values(self, scores: Scores, bucket: Bucket, pool: Evaluation | None) -> Values:
        """Return the weighted sum of every output's scores. See `Combination.values`."""
        return weighted_sum(scores, self.weights, len(bucket))


class WinRate(Combination):
    """The expected win rate against the neutral model's outputs for the same prompt (CaPO, arXiv 2502.02588).

    CaPO defines the win-rate calibrated reward of an output x as the mean of the Bradley-Terry probability
    sigmoid(R(x) - R(y)) over outputs y of the reference model for the same prompt: the N - 1 others of the N outputs
    compared. Here the outputs y are a fixed pool, made by the neutral model, and the difference is divided by a
    temperature, which is 1 in CaPO. The win rates of several rewards are averaged, as in CaPO. A win rate lies in
    [0, 1], grows with the reward, and does not change if a constant is added to the reward. It does depend on the
    reward's scale: give a reward with small differences a small temperature.

    With a frontier, the optimizer is told a candidate's non-dominated rank among the win rates of its group, as CaPO
    chooses the outputs to learn from by the frontier of all rewards; held-out settings are compared by the average.

    Args:
        weights: The share of every objective in the average, by name; positive.
        references: The number of neutral outputs for each prompt.
        temperature: One temperature for all rewards, or one for each objective by name (1 for those left out); in
            units of the score.
        frontier: Whether candidates are ranked by dominance.

    Raises:
        ConfigError: If a weight is negative, a temperature is not positive, or a temperature names no optimised
            objective.
    """

    def __init__(
        self,
        weights: Mapping[str, float],
        references: int,
        temperature: float | Mapping[str, float] = 1.0,
        frontier: bool = False,
    ) -> None:
        self.weights = dict(weights)
        self.references = references
        self.frontier = frontier
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
        """Return a bucket of every prompt with `references` seeds of its own. See `Combination.pool`."""
        prompts = dict.fromkeys(bucket.prompts)
        pairs = [(prompt, _seed(prompt, index)) for prompt in prompts for index in range(self.references)]
        return Bucket(tuple(prompt for prompt, _ in pairs), tuple(seed for _, seed in pairs))

    def values(self, scores: Scores, bucket: Bucket, pool: Evaluation | None) -> Values:
        """Return the weighted mean of the rewards' win rates, shape (num_outputs,). See `Combination.values`."""
        total = np.zeros(len(bucket))
        for name, rates in self._rates(scores, bucket, pool).items():
            total += self.weights[name] * rates
        return total / sum(self.weights.values())

    def fitness(self, evaluations: Sequence[Evaluation], pool: Evaluation | None) -> Values:
        """Rank candidates by their mean win rates if there is a frontier. See `pareto_fitness`."""
        if not self.frontier:
            return super().fitness(evaluations, pool)
        rates = [self._rates(each.scores, each.bucket, pool) for each in evaluations]
        return pareto_fitness(np.array([[each[name].mean() for name in self.weights] for each in rates]))

    def _rates(self, scores: Mapping[str, Any], bucket: Bucket, pool: Evaluation | None) -> dict[str, Values]:
        """Return the win rates of every output, by objective."""
        assert pool is not None
        rows = {prompt: index for index, prompt in enumerate(dict.fromkeys(pool.bucket.prompts))}
        own = [rows[prompt] for prompt in bucket.prompts]
        opponents = {name: np.asarray(pool.scores[name]).reshape(len(rows), self.references) for name in self.weights}
        return {
            name: win_rate(np.asarray(scores[name]), others[own], self.temperature[name])
            for name, others in opponents.items()
        }

    def describe(self) -> dict[str, object]:
        """Describe references, temperatures and the frontier if there is one. See `Combination.describe`."""
        frontier = {"frontier": True} if self.frontier else {}  # descriptions from before it existed stay as they were
        return {"references": self.references, "temperature": self.temperature, **frontier}


def win_rate(scores: Values, others: Values, temperature: float = 1.0) -> Values:
    """Compute the expected Bradley-Terry win rate, CaPO's calibrated reward: (1/M) sum_j sigmoid((R(x) - R(y_j)) / T).

    Args:
        scores: Scores R(x) of the outputs, shape (num_outputs,).
        others: Scores R(y_j) of each output's M opponents, shape (num_outputs, M).
        temperature: T, in units of the score.

    Returns:
        Shape (num_outputs,), in [0, 1].
    """
    from scipy.special import expit

    with np.errstate(over="ignore"):  # a quotient that overflows is a certain win or a certain loss
        rates: Values = expit((scores[:, None] - others) / temperature).mean(axis=1)
    return rates


class Pareto(Weighted):
    """The non-dominated rank of a generation's candidates, with crowding within a rank (NSGA-II, Deb et al. 2002).

    Candidate A dominates candidate B if none of A's mean scores is worse than B's and at least one is better. The sign
    of a weight says whether larger or smaller scores are better; its size does not matter here. Settings are compared
    by the weighted sum on held-out prompts.
    """

    def fitness(self, evaluations: Sequence[Evaluation], pool: Evaluation | None) -> Values:
        """Rank candidates by their mean scores. See `pareto_fitness` and `Combination.fitness`."""
        signs = {name: np.sign(weight) for name, weight in self.weights.items()}
        points = np.array([[sign * np.mean(each.scores[name]) for name, sign in signs.items()] for each in evaluations])
        return pareto_fitness(points)


def pareto_fitness(points: Values) -> Values:
    """Rank points by dominance, and points of the same rank by crowding distance. Larger coordinates are better.

    Args:
        points: Shape (num_points, num_objectives).

    Returns:
        Shape (num_points,): minus the non-dominated rank, which begins at 0, plus 0.5 d / (1 + d), where d is the
        point's crowding distance within its rank. A point is at least 0.5 above the points that it dominates, and equal
        points get equal values.
    """
    import moocore

    ranks = np.asarray(moocore.pareto_rank(points, maximise=True), dtype=np.float64)
    crowding = np.empty(len(points))
    for rank in np.unique(ranks):
        members = np.flatnonzero(ranks == rank)
        crowding[members] = crowding_distance(points[members])
    return -ranks + 0.5 * (1 - 1 / (1 + crowding))


def crowding_distance(points: Values) -> Values:
    """Sum over objectives the gap between the coordinates next to each point's (Deb et al. 2002, section III-B).

    A gap is divided by the range of its objective. If points share a coordinate, the gap reaches from the next smaller
    to the next larger coordinate, so that the result does not depend on the order of the points.

    Args:
        points: The points of one rank, shape (num_points, num_objectives).

    Returns:
        Shape (num_points,); infinite for points at an end of an objective's range.
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
    """The weighted sum, under the constraint that other objectives do not fall below the neutral model's scores.

    A candidate's shortfall in a constrained objective is measured against the neutral model on the same prompts and
    seeds, in standard deviations of the neutral model's scores, and `penalty` times the shortfall is subtracted from
    the fitness. A setting that falls short on the validation prompts is never chosen, whatever its value; the neutral
    setting can always be chosen.

    Args:
        weights: The weight of every objective, by name.
        floors: The gain that each constrained objective must reach at least, in its own unit; a negative number allows
            a loss.
        penalty: The cost of a shortfall of one standard deviation, in standard deviations of the neutral values.
    """

    pool_in_search_only = True

    def __init__(self, weights: Mapping[str, float], floors: Mapping[str, float], penalty: float) -> None:
        super().__init__(weights)
        self.floors = dict(floors)
        self.penalty = penalty
        self.uses = tuple(floors)

    def pool(self, bucket: Bucket) -> Bucket:
        """Return the bucket itself: the neutral model gets the same prompts and seeds. See `Combination.pool`."""
        return bucket

    def fitness(self, evaluations: Sequence[Evaluation], pool: Evaluation | None) -> Values:
        """Return the weighted sums minus the penalties for shortfalls. See `Combination.fitness`."""
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
        """Tell whether a setting keeps every constraint. See `Combination.admits`."""
        return all(
            np.mean(candidate.scores[name]) >= np.mean(neutral.scores[name]) + margin
            for name, margin in self.floors.items()
        )

    def describe(self) -> dict[str, object]:
        """Describe floors and penalty. See `Combination.describe`."""
        return {"floors": self.floors, "penalty": self.penalty}


def _seed(prompt: str, index: int) -> int:
    """Return the seed of a prompt's reference output: the same in every bucket, below 2**31."""
    return int.from_bytes(hashlib.sha256(f"{index}\0{prompt}".encode()).digest()[:4], "big") >> 1


def make_weighted(weights: Mapping[str, float]) -> Combination:
    """The weighted sum of the scores."""
    return Weighted(weights)


def make_winrate(
    weights: Mapping[str, float],
    *,
    references: Annotated[int, Field(ge=1)] = 8,
    temperature: float | dict[str, float] = 1.0,
    frontier: bool = False,
) -> Combination:
    """The expected win rate against the neutral model's images of the same prompt, averaged over rewards (CaPO)."""
    return WinRate(weights, references, temperature, frontier)


def make_pareto(weights: Mapping[str, float]) -> Combination:
    """The non-dominated rank of a generation's candidates with crowding; the weighted sum on held-out prompts."""
    return Pareto(weights)


def make_constrained(
    weights: Mapping[str, float],
    *,
    floors: Annotated[dict[str, FiniteFloat], Field(min_length=1)],
    penalty: Annotated[float, Field(gt=0)] = 10.0,
) -> Combination:
    """The weighted sum, while the objectives in `floors` must not fall below the neutral model's scores."""
    return Constrained(weights, floors, penalty)


@hookimpl
def register_combinations(register: Register) -> None:
    """Register the built-in combinations."""
    register("weighted", make_weighted)
    register("winrate", make_winrate)
    register("pareto", make_pareto)
    register("constrained", make_constrained)
