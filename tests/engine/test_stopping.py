"""Stopping: time as it was recorded, patience for each rung, and no other reason than the one that is said."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from closed_form import Height, Hill, MemoryStore, Notes, Ridge, hill_run
from numpy.typing import NDArray
from trimpot.engine.evaluator import Evaluator
from trimpot.engine.jobs import Job, Scored
from trimpot.engine.loop import Outcome, calibrate
from trimpot.engine.run import Run
from trimpot.engine.schema import Budget
from trimpot.engine.stopping import exhausted, plateau
from trimpot.engine.worker import Worker

FIXED = {"name": "cma-es", "population_size": 6}


class Clocked:
    """A workshop whose clock is exact: each candidate takes 1.5 seconds to generate and 0.5 to score."""

    width = 1

    def __init__(self, run: Run) -> None:
        self._worker = Worker(run.adapter, run.objectives)

    def submit(self, job: Job) -> Future[Sequence[Scored]]:
        future: Future[Sequence[Scored]] = Future()
        future.set_result([replace(each, generate_seconds=1.5, score_seconds=0.5) for each in self._worker.do(job)])
        return future

    def close(self) -> None:
        """There is nothing to stop."""


TIMED = {
    "generations": 9,
    "optimizer": FIXED,
    "validation": {"num_prompts": 4, "every": 50},
    "test": {"num_prompts": 4},
}


def timed(budget: dict[str, Any], store: MemoryStore, patience: int | None = None) -> Outcome:
    """A run of 2 seconds a candidate: 4 for the baseline and the reference, 12 a generation."""
    run = hill_run({**TIMED, "budget": budget})
    return calibrate(run, store, Notes(patience), Clocked(run))


BUDGETS = [
    ({"seconds": 4}, 0, "4 seconds"),
    ({"seconds": 4.1}, 1, "4.1 seconds"),
    ({"seconds": 28}, 2, "28 seconds"),
    ({"seconds": 28.5}, 3, "28.5 seconds"),
    ({"gpu_hours": 28 / 3600}, 2, "0.00777778 GPU-hours"),
    ({"gpu_hours": 4 * 28 / 3600, "devices": 4}, 2, "0.0311111 GPU-hours"),
    ({"gpu_hours": 4 * 28.5 / 3600, "devices": 4}, 3, "0.0316667 GPU-hours"),
    ({"gpu_hours": 1.0, "seconds": 28}, 2, "28 seconds"),
]


@pytest.mark.parametrize(("budget", "generations", "said"), BUDGETS)
def test_no_generation_is_begun_once_the_time_is_spent(budget: dict[str, Any], generations: int, said: str) -> None:
    """Seconds of generating and of scoring, over all stages."""
    outcome = timed(budget, MemoryStore())
    assert outcome.num_generations == generations
    assert outcome.stop_reason == f"the budget of {said} is spent"


@pytest.mark.parametrize("moment", [1, 2, 7, 13, 14])
def test_time_spent_before_an_interruption_counts_as_it_was_recorded(moment: int) -> None:
    """However long ago, and however little time finding it takes."""
    store, budget = MemoryStore(), {"seconds": 28}
    with pytest.raises(KeyboardInterrupt):
        timed(budget, store, moment)
    assert timed(budget, store) == timed(budget, MemoryStore())


def test_seconds_are_those_of_every_evaluation_found_or_made() -> None:
    run, store = hill_run(), MemoryStore()
    evaluator = Evaluator(run, store, Notes(), Clocked(run))
    population = np.linspace(0.5, 1.5, 20).reshape(4, 5)
    evaluator.evaluate("search", 0, population, run.bucket(0))
    evaluator.evaluate("test", 0, population[:1], run.test_bucket)
    assert evaluator.seconds == 10
    again = Evaluator(run, store, Notes(), Clocked(run))
    again.evaluate("search", 0, population, run.bucket(0))
    assert again.seconds == 8
    assert (evaluator.images, again.images) == ({"search": 12, "test": 5}, {"search": 12})


@pytest.mark.parametrize(
    ("budget", "seconds", "said"),
    [
        ({"seconds": 60}, 59.999, ""),
        ({"seconds": 60}, 60.0, "the budget of 60 seconds is spent"),
        ({"gpu_hours": 2, "devices": 4}, 1799.999, ""),
        ({"gpu_hours": 2, "devices": 4}, 1800.0, "the budget of 2 GPU-hours is spent"),
        ({}, 1e12, ""),
    ],
)
def test_time_is_spent_at_its_end_and_not_before(budget: dict[str, Any], seconds: float, said: str) -> None:
    assert exhausted(Budget(**budget), 10**12, 10**12, seconds) == said


# Patience


class Blind(Height):
    """Scores everything alike."""

    def score(self, outputs: Sequence[Any], prompts: Sequence[str]) -> NDArray[np.float64]:
        return np.zeros(len(outputs))


@pytest.mark.parametrize("patience", [1, 2, 3])
def test_every_rung_has_a_patience_of_its_own(patience: int) -> None:
    """A coarse rung that gains nothing takes none of it from the next."""
    config = {
        "optimizer": FIXED,
        "ladder": {"one": 20, "pairs": 20, "own": 20},
        "validation": {"num_prompts": 4, "every": 1, "patience": patience},
    }
    outcome = calibrate(hill_run(config, objective=Blind()), MemoryStore(), Notes())
    assert outcome.num_generations == 3 * patience
    assert [check.generation for check in outcome.checks] == list(range(3 * patience + 1))
    assert outcome.stop_reason == f"no gain beyond noise in {patience} check{'s' * (patience > 1)}"


def test_what_a_rung_gains_over_the_one_before_counts_as_a_gain_of_its_own() -> None:
    """Judged from the last check before it on: patience is not spent by what came earlier, nor is old progress new."""
    config = {
        "optimizer": FIXED,
        "ladder": {"block": 3, "own": 30},
        "bucket_size": 8,
        "validation": {"num_prompts": 20, "every": 1, "patience": 3},
    }
    notes = Notes()
    outcome = calibrate(hill_run(config, adapter=Ridge()), MemoryStore(), notes)
    judged = [each.evaluation for each in notes.evaluations if each.place.stage in ("baseline", "validation")]
    values = {tuple(sorted(each.setting.items())): each.values for each in judged}
    checks = [values[tuple(sorted(check.setting.items()))] for check in outcome.checks]
    prompts = judged[0].bucket.prompts
    stops = [plateau(checks[3 : index + 1], prompts, 3, 0.1) for index in range(4, len(checks))]
    assert outcome.num_generations > 6
    assert outcome.stop_reason == stops[-1] != ""
    assert not any(stops[:-1])


def test_failures_in_a_row_are_counted_from_the_last_gain() -> None:
    base, prompts = np.arange(40.0), [str(index) for index in range(40)]
    checks = [base, base + 1, base + 1, base + 1]
    assert plateau(checks, prompts, 3, 0.1) == ""
    assert plateau([*checks, base + 0.5], prompts, 3, 0.1) == "no further gain beyond noise in 3 checks"
    assert plateau(checks[:1] + [base] * 3, prompts, 3, 0.1) == "no gain beyond noise in 3 checks"
    assert plateau(checks[:1] + [base] * 2, prompts, 3, 0.1) == ""
    assert plateau([*checks, base + 2], prompts, 1, 0.1) == ""
    assert plateau([base], prompts, 1, 0.1) == ""
    recovered = [base, base + 1, base + 0.2, base + 0.9]  # better than the last, not than the best
    assert plateau(recovered, prompts, 2, 0.1) == "no further gain beyond noise in 2 checks"


def test_a_gain_at_the_level_of_the_test_is_a_gain_and_below_it_none() -> None:
    """The level is the configuration's: what a strict test calls noise, a lenient one calls a gain."""
    difference = np.random.default_rng(0).normal(size=40)
    difference += 0.25 - difference.mean()  # p about 0.06
    values, prompts = [np.zeros(40), difference], [str(index) for index in range(40)]
    assert plateau(values, prompts, 1, 0.1) == ""
    assert plateau(values, prompts, 1, 0.01) == "no gain beyond noise in 1 check"


@pytest.mark.parametrize(("significance", "said"), [(0.4, "no further gain"), (1e-9, "no gain beyond noise in 3")])
def test_a_run_s_own_level_decides_what_a_check_shows(significance: float, said: str) -> None:
    """The hill is climbed in both."""
    validation = {"num_prompts": 4, "every": 1, "patience": 3, "significance": significance}
    outcome = calibrate(hill_run({"generations": 30, "validation": validation}), MemoryStore(), Notes())
    assert outcome.chosen.generation > 0
    assert outcome.stop_reason.startswith(said)


def test_a_search_ends_with_its_last_generation_and_says_so() -> None:
    outcome = calibrate(hill_run({"generations": 4, "optimizer": FIXED}, adapter=Hill()), MemoryStore(), Notes())
    assert (outcome.num_generations, outcome.stop_reason) == (4, "all 4 generations are done")
