"""Protocols around the optimizer: groups, adaptive buckets, ladders, sensitivity, budgets, warm starts."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from closed_form import TOP, Height, Hill, MemoryStore, Notes, hill_run, true_gain
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from trimpot.engine import stopping
from trimpot.engine.bucket_sizing import BucketSizer
from trimpot.engine.calibration import calibration_of
from trimpot.engine.evaluator import Evaluator
from trimpot.engine.heldout import best_neutral
from trimpot.engine.judge import Judge
from trimpot.engine.ladder import rungs_of
from trimpot.engine.loop import calibrate
from trimpot.engine.noise import estimate_noise, f_ratio
from trimpot.engine.schema import Budget
from trimpot.engine.stopping import exhausted, plateau
from trimpot.ground.errors import ConfigError, ScoreError
from trimpot.reports.words import silence
from trimpot.setup.plan import plan

FIXED = {"name": "cma-es", "population_size": 6}


class Told:
    """Writes down what an optimizer is told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from trimpot.optimizers.cma_es import CmaEs

        self.fitness: list[NDArray[np.float64]] = []
        tell = CmaEs.tell

        def note(optimizer: Any, population: Any, fitness: NDArray[np.float64]) -> None:
            self.fitness.append(fitness.copy())
            tell(optimizer, population, fitness)

        monkeypatch.setattr(CmaEs, "tell", note)


# Groups


@pytest.mark.parametrize("size", [2, 3])
def test_groups_have_buckets_of_their_own_and_are_told_less_their_means(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    told, notes = Told(monkeypatch), Notes()
    calibrate(hill_run({"optimizer": FIXED, "group_size": size, "bucket_size": 1}), MemoryStore(), notes)
    first = [each for each in notes.evaluations if each.place[:2] == ("search", 0)]
    assert [each.place.position for each in first] == list(range(6))
    groups = [first[begin : begin + size] for begin in range(0, 6, size)]
    assert all(len({each.evaluation.bucket.fingerprint for each in group}) == 1 for group in groups)
    assert len({group[0].evaluation.bucket.fingerprint for group in groups}) == len(groups)
    raw = np.array([[each.evaluation.fitness for each in group] for group in groups])
    np.testing.assert_array_equal(told.fitness[0].reshape(raw.shape), raw - raw.mean(axis=1, keepdims=True))


@pytest.mark.parametrize("config", [{}, {"group_size": 6}])
def test_a_population_on_one_bucket_is_told_its_fitness_as_it_is(
    config: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    told, notes = Told(monkeypatch), Notes()
    calibrate(hill_run({"optimizer": FIXED, **config}), MemoryStore(), notes)
    first = [each.evaluation.fitness for each in notes.evaluations if each.place[:2] == ("search", 0)]
    assert told.fitness[0].tolist() == first


def test_a_population_that_cannot_be_split_is_refused_before_the_run_begins() -> None:
    with pytest.raises(ConfigError, match="a population of 6 cannot be split into groups of 4"):
        hill_run({"optimizer": FIXED, "group_size": 4})


class OfEven(Height):
    """Scores only outputs of prompts with an even number; of the others all have the same."""

    def score(self, outputs: Sequence[Any], prompts: Sequence[str]) -> NDArray[np.float64]:
        even = np.array([int(prompt.split()[-1]) % 2 == 0 for prompt in prompts])
        return np.where(even, super().score(outputs, prompts), 0.0)


def test_a_search_says_how_many_of_its_groups_told_it_nothing() -> None:
    config, notes = {"optimizer": FIXED, "group_size": 2, "bucket_size": 1}, Notes()
    outcome = calibrate(hill_run(config, objective=OfEven()), MemoryStore(), notes)
    searched = [each.evaluation.bucket.prompts[0] for each in notes.evaluations if each.place.stage == "search"]
    assert outcome.silent == sum(int(prompt.split()[-1]) % 2 for prompt in searched) / len(searched) > 0.25
    assert calibrate(hill_run(config), MemoryStore(), Notes()).silent == 0
    assert f"{outcome.silent:.0%} of the groups told the search nothing" in silence({"silent": outcome.silent})
    assert silence({"silent": 0.2}) == silence({}) == silence(None) == ""


# Adaptive buckets


def test_the_f_ratio_is_that_of_a_two_way_analysis_of_variance() -> None:
    """Against sums of squares taken the long way: total, candidates, prompts, remainder."""
    values = np.random.default_rng(0).normal(size=(7, 5)) + np.arange(5) * 10
    grand = values.mean()
    candidates = 5 * sum((row.mean() - grand) ** 2 for row in values)
    prompts = 7 * sum((column.mean() - grand) ** 2 for column in values.T)
    remainder = ((values - grand) ** 2).sum() - candidates - prompts
    assert f_ratio(values) == pytest.approx((candidates / 6) / (remainder / (6 * 4)))


def test_noise_is_split_into_the_parts_it_was_made_of() -> None:
    generator = np.random.default_rng(0)
    made = [
        0.3 * generator.normal(size=(20, 1))
        + 2.0 * generator.normal(size=(1, 15))
        + 0.7 * generator.normal(size=(20, 15))
        for _ in range(400)
    ]
    noise = estimate_noise(made)
    assert (noise.candidates, noise.prompts, noise.scatter) == pytest.approx((0.3, 2.0, 0.7), rel=0.05)
    assert noise.of_a_mean(49) == pytest.approx(0.1, rel=0.05)


def test_a_noisy_reward_grows_the_bucket_and_a_clear_one_shrinks_it() -> None:
    generator = np.random.default_rng(0)
    noisy, clear = BucketSizer(8, largest=20), BucketSizer(8)
    for _ in range(40):
        noisy.update(generator.normal(size=(12, noisy.size)))
        clear.update(generator.normal(size=(12, clear.size)) + 10 * generator.normal(size=(12, 1)))
    assert (noisy.size, clear.size) == (20, 2)


def test_an_adaptive_bucket_replays_wherever_it_is_interrupted() -> None:
    config = {"adaptive_bucket": {"rate": 0.5, "largest": 12}, "bucket_size": 2, "generations": 5, "optimizer": FIXED}
    undisturbed, notes = MemoryStore(), Notes()
    expected = calibrate(hill_run(config), undisturbed, notes)
    sizes = {len(each.evaluation.bucket) for each in notes.evaluations if each.place.stage == "search"}
    for moment in range(1, len(notes.evaluations), 5):
        store = MemoryStore()
        with pytest.raises(KeyboardInterrupt):
            calibrate(hill_run(config), store, Notes(patience=moment))
        assert calibrate(hill_run(config), store, Notes()) == expected
        assert store.digest("hill-1") == undisturbed.digest("hill-1")
    assert sizes


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"adaptive_bucket": {}, "bucket_size": 1}, "bucket_size must lie between 2 and"),
        ({"adaptive_bucket": {}, "group_size": 2}, "leave group_size empty"),
        ({"bucket_size": 3, "seeds_per_prompt": 2}, "multiple of seeds_per_prompt"),
    ],
)
def test_protocols_that_contradict_each_other_are_refused(config: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        hill_run(config)


def test_a_prompt_can_have_several_seeds() -> None:
    bucket = hill_run({"bucket_size": 6, "seeds_per_prompt": 3}).bucket(0)
    assert [len(list(same)) for _, same in itertools.groupby(bucket.prompts)] == [3, 3]
    assert len(set(bucket.seeds)) == 6


# Ladders


@given(st.lists(st.floats(-1, 2), min_size=3, max_size=3))
def test_lifting_keeps_every_value_and_lowering_undoes_it(values: list[float]) -> None:
    rung = rungs_of(Hill(), {"pairs": 1, "own": 1}, 1)[0]
    lifted = rung.lift(np.array([values]))[0]
    assert lifted.tolist() == [values[0], values[0], values[1], values[1], values[2]]
    np.testing.assert_allclose(rung.lower(lifted), values, rtol=1e-15)


def test_a_ladder_climbs_from_coarse_to_fine_and_lifting_changes_no_output() -> None:
    notes = Notes()
    config = {"ladder": {"one": 2, "pairs": 3, "own": 4}, "validation": {"num_prompts": 4, "every": 50}}
    outcome = calibrate(hill_run(config), MemoryStore(), notes)
    assert outcome.num_generations == 9
    for each in notes.evaluations:
        if each.place.stage == "search":
            distinct = len(set(each.evaluation.setting.values()))
            assert distinct == (1 if each.place.generation < 2 else 3 if each.place.generation < 5 else 5)
    assert [check.generation for check in outcome.checks] == [0, 2, 5, 9]
    assert set(outcome.calibrated) == set(Hill.space.names)


def test_a_ladder_finds_the_top_too() -> None:
    config = {
        "ladder": {"pairs": 10, "own": 30},
        "bucket_size": 8,
        "validation": {"num_prompts": 20, "every": 5},
        "test": {"num_prompts": 20},
    }
    outcome = calibrate(hill_run(config), MemoryStore(), Notes())
    assert true_gain(outcome.calibrated) > 0.9 * true_gain(dict(zip(Hill.space.names, TOP, strict=True)))


@pytest.mark.parametrize(
    ("ladder", "said"),
    [
        ({"own": 2, "pairs": 2}, "'pairs' does not refine 'own'; order it from coarse to fine"),
        ({"one": 2, "pairs": 2}, "it ends at 'pairs' with 3 knobs, the adapter has 5"),
        ({"blocks": 2, "own": 2}, "knows no granularity 'blocks'"),
    ],
)
def test_a_ladder_out_of_order_is_refused(ladder: dict[str, int], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        hill_run({"ladder": ladder})


# Sensitivity


def test_sensitivity_widens_what_matters_little_and_keeps_the_geometric_mean() -> None:
    class Slope(Hill):
        def generate(self, population: Any, bucket: Any) -> Any:
            for vector in population:
                yield [float(vector @ [8.0, 4.0, 2.0, 1.0, 0.5]) for _ in bucket.prompts]

    spaces = []
    run = hill_run({"sensitivity": {"num_prompts": 3, "most": 100}}, adapter=Slope())
    make = run.optimizer

    def note(space: Any, start: Any) -> Any:
        spaces.append(space)
        return make(space, start)

    notes = Notes()
    calibrate(replace(run, optimizer=note), MemoryStore(), notes)
    assert spaces[0].spreads == pytest.approx([0.25, 0.5, 1, 2, 4])
    assert sum(each.place.stage == "sensitivity" for each in notes.evaluations) == 11


# Stopping


def test_a_plateau_is_seen_through_luck_and_slow_progress_adds_up() -> None:
    generator = np.random.default_rng(0)
    base = generator.normal(size=200)
    flat = [base + 0.1 * generator.normal(size=200) for _ in range(7)]
    slow = [base + 0.02 * step + 0.1 * generator.normal(size=200) for step in range(30)]
    prompts = [str(index) for index in range(200)]
    assert plateau(flat, prompts, 6, 0.01) == "no gain beyond noise in 6 checks"
    assert not any(plateau(slow[:stop], prompts, 6, 0.1) for stop in range(1, 31))
    risen = [*slow[:10], *(slow[9] - 1e-3 * step for step in range(1, 7))]
    assert plateau(risen, prompts, 6, 0.1).startswith("no further gain beyond noise in ")


def test_failures_in_a_row_are_counted_and_a_gain_begins_anew() -> None:
    prompts = [str(index) for index in range(50)]
    better = [step + 0.01 * np.random.default_rng(step).normal(size=50) for step in range(4)]
    worse = better[0] - 1
    course = [better[0], worse, worse, better[1], worse, worse, better[2], worse, worse, worse]
    said = [plateau(course[:stop], prompts, 3, 0.05) for stop in range(1, len(course) + 1)]
    assert said == [""] * 9 + ["no further gain beyond noise in 3 checks"]
    assert plateau([better[0], worse, worse], prompts, 2, 0.05) == "no gain beyond noise in 2 checks"


def test_a_judge_sees_a_plateau_from_any_check_on_and_tests_each_check_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tests, tested = Counter[int](), stopping.is_better
    monkeypatch.setattr(
        stopping, "is_better", lambda values, *rest: tests.update([id(values)]) or tested(values, *rest)
    )
    run = hill_run({"validation": {"num_prompts": 20, "patience": 3}})
    evaluator = Evaluator(run, MemoryStore(), Notes())
    _, tried = best_neutral(evaluator)
    [reference] = evaluator.evaluate("reference", 0, run.adapter.space.defaults[None], run.bucket(0))
    generator, judge = np.random.default_rng(0), Judge(evaluator, tried, reference)
    prompts, significance = run.validation_bucket.prompts, run.config.validation.significance
    said = []
    for distances in (0.5 * 0.7 ** np.arange(12), 0.1 + 0.05 * np.arange(12), np.full(12, 0.2)):  # rungs of a ladder
        since = judge.latest
        tests.clear()
        for distance in distances:
            judge.check(judge.latest + 1, np.clip(TOP + distance * generator.normal(size=len(TOP)), -1, 2))
            said.append(judge.plateau(since))
            before = tests.copy()
            assert said[-1] == plateau(judge._values[since:], prompts, 3, significance)
            tests = before
        assert set(tests.values()) == {1}
    assert {reason.partition(" gain")[0] for reason in said} == {"", "no", "no further"}


@pytest.mark.parametrize(
    ("budget", "spent", "said"),
    [
        ({"images": 100}, (90, 11, 0.0), "the budget of 100 outputs is spent"),
        ({"images": 100}, (90, 10, 0.0), ""),
        ({"seconds": 60}, (0, 1, 60.0), "the budget of 60 seconds is spent"),
        ({"gpu_hours": 2, "devices": 4}, (0, 1, 1800.0), "the budget of 2 GPU-hours is spent"),
        ({"gpu_hours": 2, "devices": 4}, (0, 1, 1799.0), ""),
    ],
)
def test_a_budget_is_never_exceeded(budget: dict[str, Any], spent: tuple[int, int, float], said: str) -> None:
    assert exhausted(Budget(**budget), *spent) == said


def test_a_budget_of_images_ends_the_search_and_judges_where_it_stands() -> None:
    notes = Notes()
    config = {
        "generations": 50,
        "optimizer": FIXED,
        "budget": {"images": 100},
        "validation": {"num_prompts": 4, "every": 50},
    }
    outcome = calibrate(hill_run(config), MemoryStore(), notes)
    searched = sum(len(e.evaluation.bucket) for e in notes.evaluations if e.place.stage in ("reference", "search"))
    assert outcome.stop_reason == "the budget of 100 outputs is spent"
    assert searched == 3 + 5 * 18  # the reference, and as many generations of 6 times 3 as fit
    assert outcome.checks[-1].generation == outcome.num_generations == 5


def test_a_budget_below_one_generation_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"budget.outputs 17 is smaller than one generation: 6 candidates on 3 prompts"
    ):
        hill_run({"optimizer": FIXED, "budget": {"images": 17}})


# Warm start


def test_a_search_starts_from_a_calibration_file_or_a_coarser_one(tmp_path: Path) -> None:
    run = hill_run()
    outcome = calibrate(run, MemoryStore(), Notes())
    path = tmp_path / "calibration.json"
    calibration_of(run, outcome, {"digest": "", "num_evaluations": 1, "num_images": 1}).save(path)
    warm, notes = hill_run({"start": str(tmp_path)}), Notes()
    assert warm.start == dict(outcome.calibrated)
    calibrate(warm, MemoryStore(), notes)
    [reference] = [each.evaluation for each in notes.evaluations if each.place.stage == "reference"]
    assert dict(reference.setting) == dict(outcome.calibrated)
    text = json.loads(path.read_text())
    text["setting"] = {"other": 1.0}
    del text["checksum"]
    path.write_text(json.dumps(text))
    with pytest.raises(ConfigError, match="is a calibration of hill with other knobs"):
        hill_run({"start": str(path)})


# Overlap


def test_scoring_overlaps_generating_and_records_in_order() -> None:
    import threading

    class Elsewhere(Height):
        def __init__(self) -> None:
            self.threads: set[str] = set()

        def score(self, outputs: Sequence[Any], prompts: Sequence[str]) -> NDArray[np.float64]:
            self.threads.add(threading.current_thread().name)
            return super().score(outputs, prompts)

    plain, overlapped, notes, objective = MemoryStore(), MemoryStore(), Notes(), Elsewhere()
    expected = calibrate(hill_run(), plain, Notes())
    assert calibrate(hill_run(objective=objective), overlapped, notes) == expected
    assert overlapped.digest("hill-1") == plain.digest("hill-1")
    assert all(name.startswith("scoring") for name in objective.threads)


def test_what_was_generated_before_a_failure_is_still_recorded_when_scoring_overlaps() -> None:
    class Tired(Hill):
        def generate(self, population: Any, bucket: Any) -> Any:
            if len(self.calls) == 8:
                raise RuntimeError("tired")
            return super().generate(population, bucket)

    store = MemoryStore()
    with pytest.raises(Exception, match="tired"):
        calibrate(hill_run(adapter=Tired()), store, Notes())
    assert len(store.keys) == 5


def test_an_objective_that_fails_in_its_thread_is_one_sentence() -> None:
    class Elsewhere(Height):
        def score(self, outputs: Sequence[Any], prompts: Sequence[str]) -> NDArray[np.float64]:
            raise ConnectionError("gone")

    with pytest.raises(ScoreError, match=r"objective .height. .*failed .*ConnectionError: gone"):
        calibrate(hill_run(objective=Elsewhere()), MemoryStore(), Notes())


# Plans


def test_a_plan_is_what_is_then_generated() -> None:
    """A run without early stops generates exactly what was planned."""
    config = {
        "sensitivity": {"num_prompts": 3},
        "ladder": {"pairs": 2, "own": 2},
        "optimizer": FIXED,
        "validation": {"num_prompts": 4, "every": 2},
    }
    run, notes = hill_run(config), Notes()
    calibrate(run, MemoryStore(), notes)
    made: dict[str, int] = {}
    for each in notes.evaluations:
        made[each.place.stage] = made.get(each.place.stage, 0) + len(each.evaluation.bucket)
    assert plan(run).images == pytest.approx({**made, "validation": plan(run).images["validation"]})
    assert made["validation"] <= plan(run).images["validation"]
