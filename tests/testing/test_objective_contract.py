"""The contract of rewards catches what breaks it where batches, sets and strange outputs are concerned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from trimpot.engine.seams import Objective
from trimpot.ground.errors import ScoreError
from trimpot.testing import ObjectiveContract

SPREAD = [(0.5, "a"), (-1.0, "b"), (2.0, "a"), (4.0, "b"), (3.0, "a")]


class Spread(Objective):
    """How far a number is from its prompt's other numbers."""

    scores_sets = True

    def score(self, outputs: Sequence[Any], prompts: Sequence[str]) -> NDArray[np.float64]:
        if not all(isinstance(output, float) for output in outputs):
            raise ScoreError("this reward scores numbers")
        if min(map(prompts.count, prompts)) < 2:
            raise ScoreError("a number alone is not spread")
        return np.array(
            [self._spread(output, self._others(place, outputs, prompts)) for place, output in enumerate(outputs)]
        )

    def _others(self, place: int, outputs: Sequence[Any], prompts: Sequence[str]) -> list[Any]:
        return [x for other, x in enumerate(outputs) if other != place and prompts[other] == prompts[place]]

    def _spread(self, output: float, others: Sequence[float]) -> float:
        return float(np.mean([abs(output - other) for other in others]))


class TestSpread(ObjectiveContract):
    """A reward of sets that keeps the contract."""

    tolerance = 1e-12

    @pytest.fixture
    def objective(self) -> Objective:
        return Spread()

    @pytest.fixture
    def examples(self) -> list[tuple[Any, str]]:
        return SPREAD

    @pytest.fixture
    def in_batches_of(self) -> Callable[[int], Objective]:
        return lambda size: Spread()

    @pytest.fixture
    def unscorable(self) -> Sequence[Any]:
        return ["a word", None]


class _Shared(Spread):
    """Forgets whose numbers they are."""

    def _others(self, place: int, outputs: Sequence[Any], prompts: Sequence[str]) -> list[Any]:
        return [x for other, x in enumerate(outputs) if other != place]


class _Hopeful(Spread):
    """Scores anything, and a number alone 0."""

    def score(self, outputs: Sequence[Any], prompts: Sequence[str]) -> NDArray[np.float64]:
        return np.zeros(len(outputs))


class _Talkative(Spread):
    """Refuses at length."""

    def score(self, outputs: Sequence[Any], prompts: Sequence[str]) -> NDArray[np.float64]:
        raise ScoreError("no\nbecause")


class _Batched(Objective):
    """Normalises within a batch."""

    def __init__(self, size: int = 2) -> None:
        self.size = size

    def score(self, outputs: Sequence[Any], prompts: Sequence[str]) -> NDArray[np.float64]:
        batches = [outputs[begin : begin + self.size] for begin in range(0, len(outputs), self.size)]
        return np.concatenate([np.array(batch) - np.mean(batch) for batch in batches])


@pytest.mark.parametrize(
    ("objective", "promise", "given"),
    [
        (_Shared(), "test_a_score_does_not_depend_on_its_neighbours", ()),
        (_Hopeful(), "test_a_set_of_one_is_refused_in_one_sentence", ()),
        (_Talkative(), "test_a_set_of_one_is_refused_in_one_sentence", ()),
        (_Hopeful(), "test_what_it_cannot_score_is_refused_in_one_sentence", (["a word"],)),
        (_Talkative(), "test_what_it_cannot_score_is_refused_in_one_sentence", (["a word"],)),
    ],
)
def test_a_reward_that_breaks_a_promise_is_caught(objective: Objective, promise: str, given: tuple[Any, ...]) -> None:
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        getattr(TestSpread(), promise)(objective, SPREAD, *given)


def test_a_reward_that_depends_on_its_batch_size_is_caught() -> None:
    with pytest.raises(AssertionError):
        TestSpread().test_a_score_does_not_depend_on_the_batch_size(_Batched(), _Batched, SPREAD)
