"""Ladders over knobs that differ: a coarse knob is its members' mean, inside the bounds of all of them."""

from __future__ import annotations

import numpy as np
import pytest
from closed_form import Hill, MemoryStore, Notes, Ridge, hill_run, ridge_score
from hypothesis import given
from hypothesis import strategies as st
from trimpot.engine.knobs import Knob
from trimpot.engine.ladder import rungs_of
from trimpot.engine.loop import calibrate
from trimpot.ground.errors import ConfigError, ModelError

BLOCKS, OWN = rungs_of(Ridge(), {"block": 3, "own": 5}, 99)
LOW, HIGH = Ridge.space.bounds


def test_a_coarse_knob_has_the_narrowest_bounds_and_the_mean_default_and_spread() -> None:
    assert list(BLOCKS.space) == [
        Knob("one", low=0.5, high=2.0, default=1.25, spread=0.75),
        Knob("two", low=-2.0, high=1.25, default=-0.25, spread=2.875),
        Knob("guidance", low=1.0, high=12.0, default=3.0, spread=2.0),
    ]
    assert BLOCKS.parents.tolist() == [0, 0, 1, 1, 2]
    assert (BLOCKS.generations, OWN.generations) == (3, 5)
    assert list(OWN.space) == list(Ridge.space)


def test_without_a_ladder_there_is_one_rung_of_the_adapter_s_own_knobs() -> None:
    [rung] = rungs_of(Ridge(), {}, 7)
    assert (rung.space, rung.parents.tolist(), rung.generations) == (Ridge.space, [0, 1, 2, 3, 4], 7)


@given(st.lists(st.floats(0, 1), min_size=5, max_size=5))
def test_any_point_is_lowered_inside_the_bounds_of_the_rung_and_of_all_it_lifts_to(shares: list[float]) -> None:
    vector = LOW + (HIGH - LOW) * np.array(shares)
    lowered = BLOCKS.lower(vector)
    low, high = BLOCKS.space.bounds
    assert np.all((lowered >= low) & (lowered <= high))
    means = [vector[:2].mean(), vector[2:4].mean(), vector[4]]
    np.testing.assert_allclose(lowered, np.clip(means, low, high), rtol=1e-12, atol=1e-12)
    [lifted] = BLOCKS.lift(lowered[None])
    assert np.all((lifted >= LOW) & (lifted <= HIGH))
    np.testing.assert_array_equal(OWN.lower(vector), vector)
    np.testing.assert_array_equal(OWN.lift(vector[None])[0], vector)


@pytest.mark.parametrize(
    ("vector", "lowered"),
    [
        ([1.0, 1.5, 0.0, -0.5, 3.0], [1.25, -0.25, 3.0]),
        ([-1.0, 0.5, -20.0, -2.0, 1.0], [0.5, -2.0, 1.0]),  # the means lie below: -0.25 and -11
        ([2.0, 4.0, 1.25, 2.5, 12.0], [2.0, 1.25, 12.0]),  # and above: 3 and 1.875
    ],
)
def test_a_mean_that_some_member_could_not_take_is_cut_off_at_the_bound(
    vector: list[float], lowered: list[float]
) -> None:
    assert BLOCKS.lower(np.array(vector)).tolist() == lowered


def test_every_candidate_of_every_rung_lies_inside_each_knob_s_own_bounds() -> None:
    """Even with steps that reach past all of them."""
    config = {
        "ladder": {"block": 4, "own": 4},
        "optimizer": {"name": "random", "population_size": 12, "sigma0": 4},
        "sensitivity": {"num_prompts": 2, "most": 9},
    }
    calibrate(hill_run(config, adapter=Ridge()), MemoryStore(), notes := Notes())
    tied = {0: set[int](), 1: set[int]()}
    at_a_bound = 0
    for each in notes.evaluations:
        vector = Ridge.space.to_vector(each.evaluation.setting)
        assert np.all((vector >= LOW) & (vector <= HIGH)), each.place
        at_a_bound += int(((vector == LOW) | (vector == HIGH)).any())
        if each.place.stage == "search":
            tied[int(each.place.generation >= 4)].add(len(set(vector.tolist())))
    assert at_a_bound > 10, "the bounds were not tried"
    assert max(tied[0]) == 3 and max(tied[1]) == 5


def test_the_next_rung_begins_where_the_last_one_ended() -> None:
    """What a coarse rung recommends is lifted, and the first sample of the next surrounds it by each knob's spread."""
    config = {
        "ladder": {"block": 6, "own": 1},
        "optimizer": {"name": "cma-es", "population_size": 200, "sigma0": 0.01},
        "bucket_size": 2,
        "validation": {"num_prompts": 4, "every": 50},
    }
    outcome = calibrate(hill_run(config, adapter=Ridge()), MemoryStore(), notes := Notes())
    [ended] = [check.setting for check in outcome.checks if check.generation == 6]
    population = np.array(
        [
            Ridge.space.to_vector(each.evaluation.setting)
            for each in notes.evaluations
            if each.place[:2] == ("search", 6)
        ]
    )
    centre, spreads = Ridge.space.to_vector(ended), Ridge.space.spreads
    assert (population.mean(axis=0) - centre) / spreads == pytest.approx(np.zeros(5), abs=0.003)
    assert population.std(axis=0) / spreads == pytest.approx(np.full(5, 0.01), rel=0.2)
    assert len(set(centre.tolist())) == 3


def test_a_ladder_finds_the_ridge_s_top() -> None:
    config = {
        "ladder": {"block": 10, "own": 30},
        "bucket_size": 8,
        "validation": {"num_prompts": 20, "every": 5},
        "test": {"num_prompts": 20},
    }
    outcome = calibrate(hill_run(config, adapter=Ridge()), MemoryStore(), Notes())
    neutral, top = Ridge.space.to_vector(outcome.baseline.setting), np.array([1.4, 1.3, -1.5, 0.25, 3.0])
    gained = ridge_score(Ridge.space.to_vector(outcome.calibrated), 8) - ridge_score(neutral, 8)
    assert gained > 0.9 * (ridge_score(top, 8) - ridge_score(neutral, 8))


@pytest.mark.parametrize(
    ("ladder", "said"),
    [
        ({"own": 2, "block": 2}, "'block' does not refine 'own'; order it from coarse to fine"),
        ({"block": 2}, "it ends at 'block' with 3 knobs, the adapter has 5"),
        ({"layer": 2, "own": 2}, "the ridge knows no granularity 'layer'"),
    ],
)
def test_a_ladder_that_cannot_be_climbed_is_refused(ladder: dict[str, int], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        hill_run({"ladder": ladder}, adapter=Ridge())


@pytest.mark.parametrize(
    "ties",
    [
        {"a": ["knob.0", "knob.1"], "b": ["knob.2", "knob.3"]},
        {"a": ["knob.0", "knob.1", "knob.2", "knob.3", "knob.4", "knob.0"]},
        {"a": ["knob.0", "knob.1", "knob.2", "knob.3", "knob.4", "knob.5"]},
        {"a": ["knob.0", "knob.1", "knob.2", "knob.3", "knob.4"], "b": []},
    ],
)
def test_an_adapter_that_ties_wrongly_is_one_sentence(ties: dict[str, list[str]]) -> None:
    class Careless(Hill):
        def tied(self, granularity: str) -> dict[str, list[str]]:
            return ties if granularity == "pairs" else super().tied(granularity)

    with pytest.raises(
        ModelError, match=r"adapter 'hill' .* ties .* wrongly at granularity 'pairs'; let tied\(\) name every"
    ):
        hill_run({"ladder": {"pairs": 1, "own": 1}}, adapter=Careless())
