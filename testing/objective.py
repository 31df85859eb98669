"""The contract of objectives."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from ..engine.identity import described
from ..engine.seams import Objective, Output
from ..ground.errors import TrimpotError

Examples = list[tuple[Output, str]]


class ObjectiveContract:
    """Tests of an objective. Inherit, override the fixtures `objective` and `examples`, and others if they apply.

    For an objective that scores sets (`Objective.scores_sets`), the outputs of a prompt are treated as one.

    Attributes:
        tolerance: The largest change of a score when other outputs of its batch change; 0 unless the model's
            arithmetic depends on the batch.
    """

    tolerance: float = 0.0

    @pytest.fixture
    def objective(self) -> Objective:
        """The objective."""
        raise NotImplementedError("override the fixture `objective`")

    @pytest.fixture
    def examples(self) -> Examples:
        """At least three outputs with their prompts, which do not all get the same score.

        For an objective that scores sets: at least two prompts with at least two outputs each.
        """
        raise NotImplementedError("override the fixture `examples`")

    @pytest.fixture
    def in_batches_of(self) -> Callable[[int], Objective]:
        """A function that makes the objective with a given batch size, if it has one."""
        pytest.skip("the objective has no batch size")

    @pytest.fixture
    def others(self) -> Sequence[Objective]:
        """Variants of the objective, each with other weights or with one other option that changes a score."""
        pytest.skip("the fixture `others` gives no variants")

    @pytest.fixture
    def unscorable(self) -> Sequence[Output]:
        """Outputs that the objective must refuse, such as sounds for a reward of pictures."""
        pytest.skip("the fixture `unscorable` gives no outputs")

    def test_every_output_gets_one_finite_score(self, objective: Objective, examples: Examples) -> None:
        """There are as many scores as outputs, and all are finite."""
        scores = _score(objective, examples)
        assert scores.shape == (len(examples),)
        assert np.all(np.isfinite(scores))

    def test_outputs_are_told_apart(self, objective: Objective, examples: Examples) -> None:
        """Not all outputs get the same score, or there would be nothing to search for."""
        assert np.ptp(_score(objective, examples)) > 0

    def test_scoring_is_deterministic(self, objective: Objective, examples: Examples) -> None:
        """The same outputs get bit-identical scores, so that a resumed run is the same run."""
        assert np.array_equal(_score(objective, examples), _score(objective, examples))

    def test_a_score_does_not_depend_on_the_order(self, objective: Objective, examples: Examples) -> None:
        """Reversed outputs get reversed scores."""
        assert self._close(_score(objective, examples[::-1])[::-1], _score(objective, examples))

    def test_a_score_does_not_depend_on_its_neighbours(self, objective: Objective, examples: Examples) -> None:
        """An output (or, if sets are scored, the outputs of a prompt) gets the same score alone and among others."""
        alone, together = np.empty(len(examples)), _score(objective, examples)
        for places in _judged_alone(objective, examples):
            alone[places] = _score(objective, [examples[place] for place in places])
        assert self._close(alone, together)

    def test_a_score_does_not_depend_on_the_batch_size(
        self, objective: Objective, in_batches_of: Callable[[int], Objective], examples: Examples
    ) -> None:
        """Scores are the same one at a time, two at a time and all at once: a batch size only affects memory."""
        for size in (1, 2, len(examples) + 1):
            assert self._close(_score(in_batches_of(size), examples), _score(objective, examples))

    def test_what_it_cannot_score_is_refused_in_one_sentence(
        self, objective: Objective, examples: Examples, unscorable: Sequence[Output]
    ) -> None:
        """An output of another kind raises an error that the command line can print, instead of getting a score."""
        for output in unscorable:
            with pytest.raises(TrimpotError) as caught:
                _score(objective, [*examples, (output, examples[0][1])])
            assert len(str(caught.value).splitlines()) == 1

    def test_a_set_of_one_is_refused_in_one_sentence(self, objective: Objective, examples: Examples) -> None:
        """If sets are scored, a single output has no score and is refused."""
        if not objective.scores_sets:
            pytest.skip("the objective scores single outputs, not sets")
        with pytest.raises(TrimpotError) as caught:
            _score(objective, examples[:1])
        assert len(str(caught.value).splitlines()) == 1

    def test_its_description_is_json_like(self, objective: Objective) -> None:
        """The description can be part of a fingerprint and a calibration file, and is the same in every process."""
        assert self._says(objective) == self._says(objective)

    def test_its_description_does_not_change_with_use(self, objective: Objective, examples: Examples) -> None:
        """The description is the same before and after scoring: a resumed run must recognize the objective."""
        before = self._says(objective)
        _score(objective, examples)
        assert self._says(objective) == before

    def test_what_scores_otherwise_describes_itself_otherwise(
        self, objective: Objective, others: Sequence[Objective]
    ) -> None:
        """Objectives that differ have different identities; otherwise the store would mix up their scores."""
        says = [self._says(each) for each in (objective, *others)]
        assert len(set(says)) == len(says)

    def _says(self, objective: Objective) -> str:
        return json.dumps(described("objective", None, objective, None), sort_keys=True, allow_nan=False)

    def _close(self, first: NDArray[np.float64], second: NDArray[np.float64]) -> bool:
        return bool(np.allclose(first, second, rtol=0, atol=self.tolerance))


def _score(objective: Objective, examples: Examples) -> NDArray[np.float64]:
    return np.asarray(objective.score([output for output, _ in examples], [prompt for _, prompt in examples]))


def _judged_alone(objective: Objective, examples: Examples) -> list[list[int]]:
    """Return the positions that are scored together: one output each, or the outputs of one prompt each."""
    if not objective.scores_sets:
        return [[place] for place in range(len(examples))]
    prompts = [prompt for _, prompt in examples]
    sets = [[place for place, other in enumerate(prompts) if other == prompt] for prompt in dict.fromkeys(prompts)]
    assert len(sets) > 1, "an objective that scores sets needs examples of two prompts"
    return sets
