"""The contract of combinations."""

from __future__ import annotations

import json

import numpy as np
import pytest
from numpy.typing import NDArray

from ..engine.bucket import Bucket
from ..engine.evaluation import COMBINED, Evaluation
from ..engine.identity import described
from ..engine.seams import Combination

Scores = dict[str, NDArray[np.float64]]
PROMPTS = ("a", "b", "b", "c", "d")
BUCKET = Bucket(PROMPTS, (1, 2, 3, 4, 5))


class CombinationContract:
    """Tests of a combination. Inherit, and override the fixture `combination`.

    Attributes:
        weights: The weights of the optimised objectives that the combination is made with.
    """

    weights: dict[str, float] = {"first": 1.0, "second": 0.5}  # noqa: RUF012  # overridden, never changed

    @pytest.fixture
    def combination(self) -> Combination:
        """The combination, made with `weights`."""
        raise NotImplementedError("override the fixture `combination`")

    def test_every_output_is_worth_one_finite_number(self, combination: Combination) -> None:
        """Values have the shape (num_outputs,) and are finite."""
        values = combination.values(self._scores(combination, 0), BUCKET, self._pool(combination))
        assert values.shape == (len(BUCKET),)
        assert np.all(np.isfinite(values))

    def test_an_output_s_value_does_not_depend_on_its_neighbours(self, combination: Combination) -> None:
        """An output has the same value alone and among others, so that buckets of any size can be compared."""
        scores, together = self._scores(combination, 1), self._values(combination, 1)
        for index, (prompt, seed) in enumerate(zip(BUCKET.prompts, BUCKET.seeds, strict=True)):
            alone = Bucket((prompt,), (seed,))
            one = {name: values[index : index + 1] for name, values in scores.items()}
            np.testing.assert_allclose(
                combination.values(one, alone, self._pool(combination, alone)), together[index : index + 1], rtol=1e-12
            )

    def test_a_better_score_is_never_worth_less(self, combination: Combination) -> None:
        """No value falls when a score with positive weight rises, or a score with negative weight falls."""
        scores, before = self._scores(combination, 2), self._values(combination, 2)
        for name, weight in self.weights.items():
            better = {**scores, name: scores[name] + np.sign(weight)}
            after = combination.values(better, BUCKET, self._pool(combination))
            assert np.all(after >= before)

    def test_every_candidate_is_worth_one_finite_number(self, combination: Combination) -> None:
        """Fitness has the shape (num_candidates,) and is finite, equal candidates included."""
        fitness = self._fitness(combination, [0, 1, 2, 2])
        assert fitness.shape == (4,)
        assert np.all(np.isfinite(fitness))
        assert fitness[2] == fitness[3]

    def test_fitness_does_not_depend_on_the_order_of_candidates(self, combination: Combination) -> None:
        """Candidates in another order have the same fitness."""
        np.testing.assert_allclose(
            self._fitness(combination, [3, 1, 0, 2])[[2, 1, 3, 0]], self._fitness(combination, [0, 1, 2, 3]), rtol=1e-12
        )

    def test_a_candidate_that_is_better_in_everything_is_worth_more(self, combination: Combination) -> None:
        """A candidate that beats another by every objective on every output has the higher fitness."""
        scores = self._scores(combination, 4)
        shift = {name: 1.0 if self.weights.get(name, 1.0) > 0 else -1.0 for name in scores}
        better = {name: values + shift[name] for name, values in scores.items()}
        pool = self._pool(combination)
        low, high = combination.fitness([self._made(combination, each, pool) for each in (scores, better)], pool)
        assert high > low

    def test_the_pool_is_frozen(self, combination: Combination) -> None:
        """The pool of a bucket depends on the bucket alone, so that a resumed run uses the same pool."""
        assert combination.pool(BUCKET) == combination.pool(Bucket(BUCKET.prompts, BUCKET.seeds))

    def test_what_is_much_better_in_everything_may_be_chosen(self, combination: Combination) -> None:
        """A setting far above the neutral setting by every objective may be chosen."""
        pool, scores = self._pool(combination), self._scores(combination, 5)
        shift = {name: 1e3 if self.weights.get(name, 1.0) > 0 else -1e3 for name in scores}
        better = {name: values + shift[name] for name, values in scores.items()}
        assert combination.admits(self._made(combination, better, pool), self._made(combination, scores, pool))

    def test_its_description_is_json_like(self, combination: Combination) -> None:
        """The description can be part of a fingerprint, and is the same in every process."""
        assert self._says(combination) == self._says(combination)

    def _says(self, combination: Combination) -> str:
        return json.dumps(described("combination", None, combination, None), sort_keys=True, allow_nan=False)

    def _names(self, combination: Combination) -> list[str]:
        return [*self.weights, *(name for name in combination.uses if name not in self.weights)]

    def _scores(self, combination: Combination, seed: int, size: int = len(BUCKET)) -> Scores:
        generator = np.random.default_rng(seed)
        return {name: generator.normal(size=size) for name in self._names(combination)}

    def _pool(self, combination: Combination, bucket: Bucket = BUCKET) -> Evaluation | None:
        """Make a pool whose scores depend on prompt and seed alone."""
        wanted = combination.pool(bucket)
        if wanted is None:
            return None
        rows = [
            np.random.default_rng([seed, *prompt.encode()])
            for prompt, seed in zip(wanted.prompts, wanted.seeds, strict=True)
        ]
        table = np.array([row.normal(size=8) for row in rows])
        scores = {name: tuple(table[:, column]) for column, name in enumerate(self._names(combination))}
        return Evaluation({}, wanted, None, scores, self.weights)

    def _made(self, combination: Combination, scores: Scores, pool: Evaluation | None) -> Evaluation:
        kept = {name: tuple(map(float, values)) for name, values in scores.items()}
        kept[COMBINED] = tuple(map(float, combination.values(scores, BUCKET, pool)))
        return Evaluation({}, BUCKET, None, kept, self.weights)

    def _values(self, combination: Combination, seed: int) -> NDArray[np.float64]:
        return combination.values(self._scores(combination, seed), BUCKET, self._pool(combination))

    def _fitness(self, combination: Combination, seeds: list[int]) -> NDArray[np.float64]:
        pool = self._pool(combination)
        made = [self._made(combination, self._scores(combination, seed), pool) for seed in seeds]
        return combination.fitness(made, pool)
