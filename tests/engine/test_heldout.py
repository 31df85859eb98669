"""The honest side: at every number of steps, against the neutral setting that is best there."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from closed_form import MemoryStore, Notes, Ridge, hill_run, ridge_score
from trimpot.engine.bucket import Bucket
from trimpot.engine.evaluation import Place
from trimpot.engine.heldout import Measured
from trimpot.engine.loop import Outcome, calibrate
from trimpot.engine.run import Run

CONFIG = {
    "generations": 6,
    "validation": {"num_prompts": 9, "every": 3},
    "test": {"num_prompts": 11},
    "by_steps": {"steps": [2, 8, 4, 16], "num_prompts": 7, "num_validation": 5},
}
BEST = {8: "guidance 3", 4: "guidance 4", 2: "guidance 6", 16: "guidance 3"}


@pytest.fixture(scope="module", params=[1, 3], ids=["one seed a prompt", "three seeds a prompt"])
def finished(request: pytest.FixtureRequest) -> tuple[Run, Outcome, Notes]:
    """A run on the ridge, compared at three numbers of steps besides its own."""
    config = {**CONFIG, "bucket_size": 2 * request.param, "seeds_per_prompt": request.param}
    run, notes = hill_run(config, adapter=Ridge()), Notes()
    return run, calibrate(run, MemoryStore(), notes), notes


def scores(setting: Any, num_steps: int, bucket: Bucket) -> np.ndarray[Any, Any]:
    """Of a setting's outputs, worked out without an adapter, an evaluator or a store."""
    vector = np.array([setting[name] for name in Ridge.space.names])
    return np.array([ridge_score(vector, num_steps, seed) for seed in bucket.seeds])


def of_steps(outcome: Outcome) -> dict[int | None, Measured]:
    return {each.num_steps: each for each in outcome.comparisons}


def test_a_comparison_is_made_at_the_calibrated_steps_first_and_then_once_at_every_other(
    finished: tuple[Run, Outcome, Notes],
) -> None:
    _, outcome, notes = finished
    assert [each.num_steps for each in outcome.comparisons] == [8, 2, 4, 16]
    held_out = [each for each in notes.evaluations if each.place.stage in ("baseline", "test")]
    assert [each.evaluation.num_steps for each in held_out if each.place.generation == 0] == [8] * 6
    assert {each.place.generation: each.evaluation.num_steps for each in held_out} == {0: 8, 1: 2, 2: 4, 3: 16}


def test_the_neutral_side_is_the_best_of_its_own_number_of_steps(finished: tuple[Run, Outcome, Notes]) -> None:
    run, outcome, _ = finished
    validation = run.validation_bucket
    for num_steps, comparison in of_steps(outcome).items():
        assert num_steps is not None
        bucket = validation if num_steps == 8 else validation.head(5 * run.config.seeds_per_prompt)
        neutrals = run.adapter.with_steps(num_steps).neutrals()
        grid = {name: scores(each, num_steps, bucket).mean() for name, each in neutrals.items()}
        assert comparison.baseline.label == BEST[num_steps]
        assert comparison.baseline.grid == pytest.approx(grid, rel=1e-12)
        assert comparison.baseline.score == max(comparison.baseline.grid.values())
        assert comparison.baseline.setting == neutrals[BEST[num_steps]]


def test_gains_are_taken_here_against_there_on_the_first_test_prompts(finished: tuple[Run, Outcome, Notes]) -> None:
    """At the same steps, and calibrated at its own steps against neutral at the others."""
    run, outcome, _ = finished
    for num_steps, comparison in of_steps(outcome).items():
        assert num_steps is not None
        bucket = run.test_bucket if num_steps == 8 else run.test_bucket.head(7 * run.config.seeds_per_prompt)
        neutral = scores(comparison.baseline.setting, num_steps, bucket)
        there, here = scores(outcome.calibrated, num_steps, bucket), scores(outcome.calibrated, 8, bucket)
        assert comparison.neutral == pytest.approx(neutral.mean(), rel=1e-12)
        assert comparison.calibrated == pytest.approx(there.mean(), rel=1e-12)
        for gain, calibrated in ((comparison.gain, there), (comparison.gain_at_calibrated_steps, here)):
            assert gain.mean == pytest.approx((calibrated - neutral).mean(), rel=1e-9)
            assert (gain.num_prompts, gain.num_images) == (len(set(bucket.prompts)), len(bucket))
            assert gain.low <= gain.mean <= gain.high


def test_calibrated_here_against_neutral_there_is_worth_what_steps_are_worth(
    finished: tuple[Run, Outcome, Notes],
) -> None:
    """On average over all seeds, by the closed form: fewer steps cost the neutral side, and more help it."""
    run, outcome, _ = finished
    calibrated = Ridge.space.to_vector(outcome.calibrated)
    by_steps = of_steps(outcome)
    assert by_steps[8].gain_at_calibrated_steps == by_steps[8].gain
    for num_steps in (2, 4, 16):
        neutral = Ridge.space.to_vector(run.adapter.neutrals()[BEST[num_steps]])
        found = by_steps[num_steps]
        at_same = ridge_score(calibrated, num_steps) - ridge_score(neutral, num_steps)
        at_own = ridge_score(calibrated, 8) - ridge_score(neutral, num_steps)
        assert found.gain.mean == pytest.approx(at_same, abs=0.2)
        assert found.gain_at_calibrated_steps.mean == pytest.approx(at_own, abs=0.2)
        assert abs(at_own - at_same) > 0.25, "the two would be mistaken for each other"
    means = {steps: each.gain_at_calibrated_steps.mean for steps, each in by_steps.items()}
    assert means[2] > means[4] > means[8] > means[16]


def test_all_are_validated_and_tested_on_the_same_prompts_and_fewer_at_other_steps(
    finished: tuple[Run, Outcome, Notes],
) -> None:
    run, _, notes = finished
    repeats = run.config.seeds_per_prompt
    buckets: dict[Place, Bucket] = {each.place: each.evaluation.bucket for each in notes.evaluations}
    for place, bucket in buckets.items():
        own = place.generation == 0
        if place.stage == "baseline":
            assert bucket == (run.validation_bucket if own else run.validation_bucket.head(5 * repeats))
        elif place.stage == "test":
            assert bucket == (run.test_bucket if own else run.test_bucket.head(7 * repeats))
    assert len(run.validation_bucket) == 9 * repeats and run.validation_bucket.num_prompts == 9
    assert len(run.test_bucket) == 11 * repeats and run.test_bucket.num_prompts == 11


def test_each_stage_draws_by_a_seed_of_its_own() -> None:
    """So that runs with other seeds are judged on the same prompts, and either held-out bucket can be drawn again."""

    def drawn(config: dict[str, Any]) -> tuple[Bucket, Bucket, Bucket]:
        run = hill_run({**CONFIG, **config}, adapter=Ridge())
        return run.bucket(0), run.validation_bucket, run.test_bucket

    first = drawn({})
    others = ({"seed": 5}, {"validation": {"num_prompts": 9, "seed": 5}}, {"test": {"num_prompts": 11, "seed": 5}})
    for place, config in enumerate(others):
        same = [one == other for one, other in zip(first, drawn(config), strict=True)]
        assert same == [index != place for index in range(3)]
