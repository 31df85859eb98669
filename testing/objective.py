"""What every objective promises."""

from __future__ import annotations

import json

import numpy as np
import pytest
from numpy.typing import NDArray

from ..engine.seams import Objective, Output


class ObjectiveContract:
    """Inherit, and override the two fixtures.

    Attributes:
        tolerance: How far a score may move with its neighbours; 0 unless a model's batch arithmetic shows.
    """

    tolerance: float = 0.0

    @pytest.fixture
    def objective(self) -> Objective:
        """The objective."""
        raise NotImplementedError("override the fixture `objective`")

    @pytest.fixture
    def examples(self) -> list[tuple[Output, str]]:
        """At least three outputs, each with its prompt, that do not all deserve the same score."""
        raise NotImplementedError("override the fixture `examples`")

    def test_every_output_gets_one_finite_score(self, objective: Objective, examples: list[tuple[Output, str]]) -> None:
        """As many scores as outputs, and none of them NaN or infinite."""
        scores = _score(objective, examples)
        assert scores.shape == (len(examples),)
        assert np.all(np.isfinite(scores))

    def test_outputs_are_told_apart(self, objective: Objective, examples: list[tuple[Output, str]]) -> None:
        """A reward that gives everything the same score is worth no search."""
        assert np.ptp(_score(objective, examples)) > 0

    def test_scoring_is_deterministic(self, objective: Objective, examples: list[tuple[Output, str]]) -> None:
        """The same outputs get the same scores, bit for bit, or a resumed run would be another one."""
        assert np.array_equal(_score(objective, examples), _score(objective, examples))

    def test_a_score_does_not_depend_on_the_order(
        self, objective: Objective, examples: list[tuple[Output, str]]
    ) -> None:
        """Reversed outputs get reversed scores."""
        assert self._close(_score(objective, examples[::-1])[::-1], _score(objective, examples))

    def test_a_score_does_not_depend_on_its_neighbours(
        self, objective: Objective, examples: list[tuple[Output, str]]
    ) -> None:
        """An output gets the same score alone as among others."""
        alone = np.array([_score(objective, [example])[0] for example in examples])
        assert self._close(alone, _score(objective, examples))

    def test_its_description_is_json_like(self, objective: Objective) -> None:
        """What can change a score goes into fingerprint and calibration file, the same each time."""
        described = json.dumps(dict(objective.describe()), sort_keys=True, allow_nan=False)
        assert json.loads(described) == json.loads(json.dumps(dict(objective.describe())))

    def _close(self, first: NDArray[np.float64], second: NDArray[np.float64]) -> bool:
        return bool(np.allclose(first, second, rtol=0, atol=self.tolerance))


def _score(objective: Objective, examples: list[tuple[Output, str]]) -> NDArray[np.float64]:
    return np.asarray(objective.score([output for output, _ in examples], [prompt for _, prompt in examples]))
