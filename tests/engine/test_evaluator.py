"""Evaluating: what is known is found, what is bad is refused by name, what was recorded stays."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from closed_form import Height, Hill, MemoryStore, Notes, hill_run
from numpy.typing import NDArray
from trimpot.engine.bucket import Bucket
from trimpot.engine.evaluator import Evaluator
from trimpot.engine.loop import calibrate
from trimpot.engine.seams import Objective
from trimpot.ground.errors import ModelError, ReplayError, ScoreError, TrimpotError

POPULATION = np.linspace(0.5, 1.5, 20).reshape(4, 5)


class FailsAt(Height):
    """Scores like `Height` until a call number is reached; then something is done to the scores."""

    def __init__(self, call: int, harm: Callable[[NDArray[np.float64]], Any]) -> None:
        self.call = call
        self.harm = harm

    def score(self, outputs: Sequence[Any], prompts: Sequence[str]) -> Any:
        self.call -= 1
        scores = super().score(outputs, prompts)
        return self.harm(scores) if self.call < 0 else scores


def _with_nan(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    scores[1] = np.nan
    return scores


def _raise(scores: NDArray[np.float64]) -> Any:
    raise RuntimeError("the reward's server is away")


def _exit(scores: NDArray[np.float64]) -> Any:
    sys.exit(3)


HARMS = {
    "nan": (_with_nan, "returned nan"),
    "infinite": (lambda scores: scores / 0, "returned -inf"),
    "too few": (lambda scores: scores[:-1], r"its list of scores must have shape \(3,\), not \(2,\)"),
    "one number": (lambda scores: scores.mean(), r"must have shape \(3,\), not \(\)"),
    "a column": (lambda scores: scores[:, None], r"must have shape \(3,\), not \(3, 1\)"),
    "nothing": (lambda scores: None, r"must have shape \(3,\), not \(\)"),
    "words": (lambda scores: ["good"] * len(scores), "must hold real numbers, not values of type"),
    "missing": (lambda scores: [None, *scores[1:]], "must hold real numbers, not values of type object"),
    "a part": (lambda scores: scores + 1j, "must hold real numbers, not complex numbers"),
    "masked": (lambda scores: np.ma.array(scores, mask=scores == scores[0]), "has masked values"),
    "huge": (lambda scores: scores * 0 + 1e308, r"returned 1e\+308 .* at most 1e\+100 in size"),
    "the end": (_exit, "failed on prompts such as .*SystemExit: 3"),
    "an error": (_raise, "failed on prompts such as .*RuntimeError: the reward's server is away"),
}


@pytest.fixture(scope="module")
def undisturbed() -> tuple[Any, str]:
    """The outcome and the digest of a run that nothing happens to."""
    store = MemoryStore()
    return calibrate(hill_run(), store, Notes()), store.digest("hill-1")


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_a_bad_score_names_candidate_prompt_and_objective_and_loses_nothing(
    undisturbed: tuple[Any, str], harm: str
) -> None:
    done, said = HARMS[harm]
    store, objective = MemoryStore(), FailsAt(9, done)
    with pytest.raises(ScoreError, match=said) as caught:
        calibrate(hill_run(objective=objective), store, Notes())
    message = str(caught.value)
    assert "\n" not in message
    assert "search generation 0, candidate 7" in message
    assert "objective 'height'" in message
    assert "'view " in message
    assert len(store.keys) == 9

    objective.call = 10_000  # the reward is mended
    resumed = calibrate(hill_run(objective=objective), store, Notes())
    assert (resumed, store.digest("hill-1")) == undisturbed


def test_a_failing_backbone_is_said_with_its_place() -> None:
    class Fragile(Hill):
        def generate(self, population: NDArray[np.float64], bucket: Bucket) -> Iterator[list[float]]:
            raise MemoryError("out of memory")

    with pytest.raises(ModelError, match=r"baseline generation 0, candidate 0: .*'view .*MemoryError: out of memory"):
        calibrate(hill_run(adapter=Fragile()), MemoryStore(), Notes())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda made: [*made, made[0]], "outputs of 2 candidates, not 1"),
        (lambda made: [], "outputs of 0 candidates, not 1"),
        (lambda made: [made[0][:-1]], "2 outputs for 3 prompts"),
        (lambda made: [[*made[0], 0.0]], "4 outputs for 3 prompts"),
    ],
)
def test_a_backbone_that_miscounts_is_refused(change: Callable[[list[list[float]]], Any], said: str) -> None:
    class Miscounting(Hill):
        def generate(self, population: NDArray[np.float64], bucket: Bucket) -> Iterator[list[float]]:
            return iter(change(list(super().generate(population, bucket))))

    run = hill_run(adapter=Miscounting())
    with pytest.raises(ModelError, match=said):
        Evaluator(run, MemoryStore(), Notes()).evaluate("search", 0, POPULATION[:1], run.bucket(0))


@pytest.mark.parametrize(("outputs", "together"), [(3, 1), (11, 3), (300, 4)])
def test_what_was_evaluated_before_is_found_instead_of_generated(outputs: int, together: int) -> None:
    adapter, store = Hill(outputs), MemoryStore()
    run = hill_run(adapter=adapter)
    first = Evaluator(run, store, Notes()).evaluate("search", 0, POPULATION, run.bucket(0))
    assert sum(adapter.calls) == 4
    assert max(adapter.calls) == together

    other = hill_run(adapter=adapter, run_id="hill-2")
    again = Evaluator(other, store, notes := Notes()).evaluate("validation", 5, POPULATION, run.bucket(0))
    assert sum(adapter.calls) == 4
    assert again == first
    assert notes.heard == [f"validation 5.{position}" for position in range(4)]


def test_another_bucket_or_backbone_or_reward_is_another_evaluation() -> None:
    class OtherHill(Hill):
        def describe(self) -> dict[str, Any]:
            return {"id": "hill", "revision": 2}

    class OtherHeight(Height):
        def describe(self) -> dict[str, Any]:
            return {"floor": 0}

    store, adapter = MemoryStore(), OtherHill()
    run = hill_run()
    Evaluator(run, store, Notes()).evaluate("search", 0, POPULATION, run.bucket(0))
    Evaluator(run, store, Notes()).evaluate("search", 1, POPULATION, run.bucket(1))
    for number, other in enumerate([hill_run(adapter=adapter), hill_run(objective=OtherHeight())]):
        Evaluator(other, store, Notes()).evaluate("test", number, POPULATION, run.bucket(0))
    assert len(store.evaluations) == 16
    assert sum(adapter.calls) == 4


def test_a_watched_objective_is_scored_where_recommendations_are_judged_and_never_told() -> None:
    run = hill_run({"objectives": {"height": {"weight": 2}, "watched": {"name": "height", "weight": 0}}})
    store = MemoryStore()
    searched = Evaluator(run, store, Notes()).evaluate("search", 0, POPULATION, run.bucket(0))
    judged = Evaluator(run, store, Notes()).evaluate("validation", 0, POPULATION, run.bucket(0))
    assert all(set(evaluation.scores) == {"height"} for evaluation in searched)
    for evaluation in judged:
        assert evaluation.scores["height"] == evaluation.scores["watched"]
        assert evaluation.fitness == pytest.approx(2 * np.mean(evaluation.scores["height"]))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda population, bucket: (np.nextafter(population, 2), bucket), "knob.0"),
        (lambda population, bucket: (population, Bucket(bucket.prompts, bucket.seeds[::-1])), "the prompts or seeds"),
    ],
)
def test_a_replay_that_disagrees_stops_naming_place_knob_and_versions(change: Any, said: str) -> None:
    run, store = hill_run(), MemoryStore()
    bucket = run.bucket(0)
    Evaluator(run, store, Notes()).evaluate("search", 4, POPULATION, bucket)
    before = store.digest("hill-1")
    with pytest.raises(ReplayError) as caught:
        Evaluator(run, store, Notes()).evaluate("search", 4, *change(POPULATION, bucket))
    message = str(caught.value)
    assert "run hill-1" in message
    assert "search generation 4, candidate 0" in message
    assert said in message
    assert f"numpy {np.__version__}" in message
    assert store.digest("hill-1") == before


def test_an_error_of_a_plugin_s_own_making_is_passed_on_as_it_is() -> None:
    class Polite(Objective):
        def score(self, outputs: Sequence[Any], prompts: Sequence[str]) -> NDArray[np.float64]:
            raise ScoreError("install reward[server] first")

    with pytest.raises(TrimpotError, match=r"^install reward\[server\] first$"):
        calibrate(hill_run(objective=Polite()), MemoryStore(), Notes())
