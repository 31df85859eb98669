"""What every objective promises."""

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
    """Inherit, and override the fixtures `objective` and `examples`; the others where they apply.

    An objective that scores sets (`Objective.scores_sets`) is held to the same, a prompt's outputs taken together.

    Attributes:
        tolerance: How far a score may move with its neighbours; 0 unless a model's batch arithmetic shows.
    """

    tolerance: float = 0.0

    @pytest.fixture
    def objective(self) -> Objective:
        """The objective."""
        raise NotImplementedError("override the fixture `objective`")

    @pytest.fixture
    def examples(self) -> Examples:
        """At least three outputs, each with its prompt, that do not all deserve the same score.

        For an objective that scores sets: two prompts at least, each with two outputs at least.
        """
        raise NotImplementedError("override the fixture `examples`")

    @pytest.fixture
    def in_batches_of(self) -> Callable[[int], Objective]:
        """The objective made again with another batch size, where it has one."""
        pytest.skip("the objective has no batch size")

    @pytest.fixture
    def others(self) -> Sequence[Objective]:
        """The objective made again with other weights, or with other options that change a score: one change each."""
        pytest.skip("no other weights or options are named")

    @pytest.fixture
    def unscorable(self) -> Sequence[Output]:
        """Outputs that it must refuse, such as sounds for a reward of pictures."""
        pytest.skip("no output is named that it must refuse")

    def test_every_output_gets_one_finite_score(self, objective: Objective, examples: Examples) -> None:
        """As many scores as outputs, and none of them NaN or infinite."""
        scores = _score(objective, examples)
        assert scores.shape == (len(examples),)
        assert np.all(np.isfinite(scores))

    def test_outputs_are_told_apart(self, objective: Objective, examples: Examples) -> None:
        """A reward that gives everything the same score is worth no search."""
        assert np.ptp(_score(objective, examples)) > 0

    def test_scoring_is_deterministic(self, objective: Objective, examples: Examples) -> None:
        """The same outputs get the same scores, bit for bit, or a resumed run would be another one."""
        assert np.array_equal(_score(objective, examples), _score(objective, examples))

    def test_a_score_does_not_depend_on_the_order(self, objective: Objective, examples: Examples) -> None:
        """Reversed outputs get reversed scores."""
        assert self._close(_score(objective, examples[::-1])[::-1], _score(objective, examples))

    def test_a_score_does_not_depend_on_its_neighbours(self, objective: Objective, examples: Examples) -> None:
        """An output gets the same score alone as among others; where sets are scored, a prompt's outputs do."""
        alone, together = np.empty(len(examples)), _score(objective, examples)
        for places in _judged_alone(objective, examples):
            alone[places] = _score(objective, [examples[place] for place in places])
        assert self._close(alone, together)

    def test_a_score_does_not_depend_on_the_batch_size(
        self, objective: Objective, in_batches_of: Callable[[int], Objective], examples: Examples
    ) -> None:
        """One at a time, two at a time, all at once: a batch size is a matter of memory."""
        for size in (1, 2, len(examples) + 1):
            assert self._close(_score(in_batches_of(size), examples), _score(objective, examples))

    def test_what_it_cannot_score_is_refused_in_one_sentence(
        self, objective: Objective, examples: Examples, unscorable: Sequence[Output]
    ) -> None:
        """An output of another kind is an error that the command line can print, not a number."""
        for output in unscorable:
            with pytest.raises(TrimpotError) as caught:
                _score(objective, [*examples, (output, examples[0][1])])
            assert len(str(caught.value).splitlines()) == 1

    def test_a_set_of_one_is_refused_in_one_sentence(self, objective: Objective, examples: Examples) -> None:
        """Where a score is of a set, an output alone has none."""
        if not objective.scores_sets:
            pytest.skip("it scores outputs, not sets")
        with pytest.raises(TrimpotError) as caught:
            _score(objective, examples[:1])
        assert len(str(caught.value).splitlines()) == 1

    def test_its_description_is_json_like(self, objective: Objective) -> None:
        """What can change a score goes into fingerprint and calibration file, the same in every process."""
        assert self._says(objective) == self._says(objective)

    def test_its_description_does_not_change_with_use(self, objective: Objective, examples: Examples) -> None:
        """What it says before it has scored anything, it says afterwards: a resumed run must know it again."""
        before = self._says(objective)
        _score(objective, examples)
        assert self._says(objective) == before

    def test_what_scores_otherwise_describes_itself_otherwise(
        self, objective: Objective, others: Sequence[Objective]
    ) -> None:
        """Two that differ have two identities, or one is given the other's scores from the store."""
        says = [self._says(each) for each in (objective, *others)]
        assert len(set(says)) == len(says)

    def _says(self, objective: Objective) -> str:
        return json.dumps(described("objective", None, objective, None), sort_keys=True, allow_nan=False)

    def _close(self, first: NDArray[np.float64], second: NDArray[np.float64]) -> bool:
        return bool(np.allclose(first, second, rtol=0, atol=self.tolerance))


def _score(objective: Objective, examples: Examples) -> NDArray[np.float64]:
    return np.asarray(objective.score([output for output, _ in examples], [prompt for _, prompt in examples]))


def _judged_alone(objective: Objective, examples: Examples) -> list[list[int]]:
    """Places of what gets its score by itself: each output, or each prompt's outputs."""
    if not objective.scores_sets:
        return [[place] for place in range(len(examples))]
    prompts = [prompt for _, prompt in examples]
    sets = [[place for place, other in enumerate(prompts) if other == prompt] for prompt in dict.fromkeys(prompts)]
    assert len(sets) > 1, "an objective that scores sets needs examples of two prompts"
    return sets
