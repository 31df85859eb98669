"""The loop: it finds a known optimum, reports a known gain, and can be stopped anywhere."""

from __future__ import annotations

import random

import numpy as np
import pytest
from closed_form import TOP, Height, Hill, MemoryStore, Notes, Ridge, hill_run, true_gain
from trimpot.engine.loop import calibrate

LONG = {
    "generations": 40,
    "bucket_size": 8,
    "validation": {"num_prompts": 20, "every": 5},
    "test": {"num_prompts": 20},
}


def test_a_run_finds_a_known_optimum_and_reports_its_true_gain() -> None:
    covered = 0
    for seed in range(5):
        outcome = calibrate(
            hill_run({**LONG, "seed": seed, "test": {"num_prompts": 20, "seed": 100 + seed}}), MemoryStore(), Notes()
        )
        [comparison] = outcome.comparisons
        truth = true_gain(outcome.calibrated)
        assert np.abs(Hill.space.to_vector(outcome.calibrated) - TOP).max() < 0.15
        assert truth > 0.9 * true_gain(dict(zip(Hill.space.names, TOP, strict=True)))
        assert comparison.gain.mean == pytest.approx(truth, abs=0.08)
        assert comparison.gain.mean == pytest.approx(comparison.calibrated - comparison.neutral)
        assert comparison.gain.low > 0
        covered += comparison.gain.low <= truth <= comparison.gain.high
    assert covered >= 4


def test_the_calls_come_in_the_promised_order() -> None:
    run, store, notes = hill_run({"optimizer": {"name": "cma-es", "population_size": 2}}), MemoryStore(), Notes()
    calibrate(run, store, notes)
    assert notes.heard == [
        "begin baseline",
        "baseline 0.0",
        "reference 0.0",
        "begin search",
        "search 0.0",
        "search 0.1",
        "told 0",
        "search 1.0",
        "search 1.1",
        "told 1",
        "validation 2.0",
        "search 2.0",
        "search 2.1",
        "told 2",
        "validation 3.0",
        "begin test",
        "test 0.0",
        "test 0.1",
    ]
    assert [generation for _, generation in store.sigmas] == [0, 1, 2]


def test_every_evaluation_is_recorded_before_anyone_hears_of_it() -> None:
    store = MemoryStore()

    class Witness(Notes):
        def evaluation_recorded(self, run: object, place: object, evaluation: object) -> None:
            assert ("hill-1", place) in store.keys

    calibrate(hill_run(), store, Witness())


def test_candidates_of_a_generation_share_a_bucket_and_stages_share_no_prompt() -> None:
    notes = Notes()
    calibrate(hill_run(), MemoryStore(), notes)
    buckets: dict[tuple[str, int], set[str]] = {}
    prompts: dict[str, set[str]] = {"train": set(), "validation": set(), "test": set()}
    pools = {"reference": "train", "search": "train", "baseline": "validation"}
    for each in notes.evaluations:
        stage = each.place.stage
        buckets.setdefault((stage, each.place.generation), set()).add(each.evaluation.bucket.fingerprint)
        prompts[pools.get(stage, stage)] |= set(each.evaluation.bucket.prompts)
    assert all(len(shared) == 1 for shared in buckets.values())
    assert len({buckets["search", generation].pop() for generation in range(3)}) == 3
    assert not prompts["train"] & prompts["validation"]
    assert not (prompts["train"] | prompts["validation"]) & prompts["test"]


@pytest.mark.parametrize("together", [1, 3])
def test_interrupted_at_any_evaluation_a_run_resumes_to_the_same_end(together: int) -> None:
    undisturbed, notes = MemoryStore(), Notes()
    expected = calibrate(hill_run(adapter=Hill(5 * together)), undisturbed, notes)
    total = len(notes.evaluations)
    assert total > 25
    for moment in range(1, total + 1):
        store = MemoryStore()
        with pytest.raises(KeyboardInterrupt):
            calibrate(hill_run(adapter=Hill(5 * together)), store, Notes(patience=moment))
        safe = len(store.keys)
        assert safe >= moment if together > 1 else safe == moment
        after = Notes()
        assert calibrate(hill_run(adapter=Hill(5 * together)), store, after) == expected
        assert store.digest("hill-1") == undisturbed.digest("hill-1")
        assert len(after.evaluations) == total - safe


def test_a_run_with_steps_rungs_and_unlike_knobs_resumes_to_the_same_end() -> None:
    config = {
        "ladder": {"block": 2, "own": 2},
        "sensitivity": {"num_prompts": 2},
        "by_steps": {"steps": [4, 16], "num_prompts": 3, "num_validation": 2},
    }
    undisturbed, notes = MemoryStore(), Notes()
    expected = calibrate(hill_run(config, adapter=Ridge()), undisturbed, notes)
    total = len(notes.evaluations)
    assert [each.num_steps for each in expected.comparisons] == [8, 4, 16]
    for moment in range(1, total + 1, 6):
        store, after = MemoryStore(), Notes()
        with pytest.raises(KeyboardInterrupt):
            calibrate(hill_run(config, adapter=Ridge()), store, Notes(patience=moment))
        safe = len(store.keys)
        assert calibrate(hill_run(config, adapter=Ridge()), store, after) == expected
        assert store.digest("hill-1") == undisturbed.digest("hill-1")
        assert len(after.evaluations) == total - safe


def test_interrupted_again_and_again_it_still_arrives() -> None:
    undisturbed = MemoryStore()
    expected = calibrate(hill_run(), undisturbed, Notes())
    store, stops = MemoryStore(), 0
    while True:
        try:
            found = calibrate(hill_run(), store, Notes(patience=1))
            break
        except KeyboardInterrupt:
            stops += 1
    assert stops == len(store.keys) == len(undisturbed.keys)
    assert found == expected


def test_a_finished_run_replayed_generates_nothing() -> None:
    store, adapter = MemoryStore(), Hill()
    expected = calibrate(hill_run(), store, Notes())
    assert calibrate(hill_run(adapter=adapter), store, Notes()) == expected
    assert adapter.calls == []


def test_the_same_seed_gives_the_same_result_whatever_the_global_random_state() -> None:
    outcomes = []
    for seed in (1, 2):
        random.seed(seed)
        np.random.seed(seed)
        outcomes.append(calibrate(hill_run(), MemoryStore(), Notes()))
    assert outcomes[0] == outcomes[1]
    assert calibrate(hill_run({"seed": 1}), MemoryStore(), Notes()) != outcomes[0]


def test_a_search_that_gains_nothing_stops_on_its_plateau_and_ships_the_neutral_setting() -> None:
    class Blind(Height):
        def score(self, outputs, prompts):  # type: ignore[no-untyped-def]
            return np.zeros(len(outputs))

    run = hill_run({"generations": 500, "validation": {"num_prompts": 2, "every": 1, "patience": 3}}, objective=Blind())
    outcome = calibrate(run, MemoryStore(), Notes())
    assert outcome.stop_reason == "no gain beyond noise in 3 checks"
    assert outcome.num_generations == 3
    assert outcome.calibrated == outcome.baseline.setting
    [comparison] = outcome.comparisons
    assert (comparison.gain.low, comparison.gain.mean, comparison.gain.high) == (0, 0, 0)


def test_the_gain_is_measured_against_the_best_of_the_neutral_settings() -> None:
    class Guided(Hill):
        def neutrals(self):  # type: ignore[no-untyped-def]
            flat = dict.fromkeys(self.space.names, 1.0)
            return {"low": {**flat, "knob.0": 0.8}, "middle": flat, "high": {**flat, "knob.0": 1.25}}

    outcome = calibrate(hill_run({"validation": {"num_prompts": 20}}, adapter=Guided()), MemoryStore(), Notes())
    assert outcome.baseline.label == "high"
    assert set(outcome.baseline.grid) == {"low", "middle", "high"}
    assert outcome.baseline.score == max(outcome.baseline.grid.values())
    assert outcome.comparisons[0].baseline == outcome.baseline
    assert outcome.checks[0].setting == outcome.baseline.setting
