"""The combination's contract catches what breaks it: each kind of breach, by the test made for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from trimpot.engine.bucket import Bucket
from trimpot.ground.errors import TrimpotError
from trimpot.objectives.combining import Constrained, Pareto, Weighted, WinRate
from trimpot.testing import CombinationContract

WEIGHTS = CombinationContract.weights


class _Relative(Weighted):
    """Values are standardised within the bucket, so none stands for itself."""

    def values(self, scores: Any, bucket: Any, pool: Any) -> Any:
        values = super().values(scores, bucket, pool)
        return values - values.mean()


class _Upside(Weighted):
    """The worse the better."""

    def values(self, scores: Any, bucket: Any, pool: Any) -> Any:
        return -super().values(scores, bucket, pool)


class _Flat(Weighted):
    """Everything is worth the same."""

    def fitness(self, evaluations: Any, pool: Any) -> Any:
        return np.zeros(len(evaluations))


class _Queue(Pareto):
    """Who comes first is better off."""

    def fitness(self, evaluations: Any, pool: Any) -> Any:
        return super().fitness(evaluations, pool) - 1e-3 * np.arange(len(evaluations))


class _Fresh(WinRate):
    """Other opponents every time."""

    def pool(self, bucket: Bucket) -> Bucket:
        wanted = super().pool(bucket)
        return Bucket(
            wanted.prompts, tuple(int(seed) for seed in np.random.default_rng().integers(99, size=len(wanted)))
        )


class _Broken(Weighted):
    """Divides by nothing."""

    def values(self, scores: Any, bucket: Any, pool: Any) -> Any:
        return super().values(scores, bucket, pool) * np.nan


class _Stern(Constrained):
    """Refuses everything."""

    def admits(self, candidate: Any, neutral: Any) -> bool:
        return False


class _Unspeakable(Weighted):
    """Its description cannot be written down."""

    def describe(self) -> Any:
        return {"weights": np.float32}


@pytest.mark.parametrize(
    ("combination", "promise"),
    [
        (_Relative(WEIGHTS), "test_an_output_s_value_does_not_depend_on_its_neighbours"),
        (_Upside(WEIGHTS), "test_a_better_score_is_never_worth_less"),
        (_Flat(WEIGHTS), "test_a_candidate_that_is_better_in_everything_is_worth_more"),
        (_Queue(WEIGHTS), "test_fitness_does_not_depend_on_the_order_of_candidates"),
        (_Queue(WEIGHTS), "test_every_candidate_is_worth_one_finite_number"),
        (_Fresh(WEIGHTS, 4), "test_the_pool_is_frozen"),
        (_Broken(WEIGHTS), "test_every_output_is_worth_one_finite_number"),
        (_Stern(WEIGHTS, {"guard": 0.0}, 1.0), "test_what_is_much_better_in_everything_may_be_chosen"),
        (_Unspeakable(WEIGHTS), "test_its_description_is_json_like"),
    ],
)
def test_a_combination_that_breaks_a_promise_is_caught(combination: Any, promise: str) -> None:
    with pytest.raises((AssertionError, TrimpotError, pytest.fail.Exception)):
        getattr(CombinationContract(), promise)(combination)
