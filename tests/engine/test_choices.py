"""Knobs that no search changes: choices that neutral settings make, and everything afterwards keeps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
from closed_form import Hill, MemoryStore, Notes, hill_run
from numpy.typing import NDArray
from trimpot.analyses.groups import groups_of
from trimpot.engine.bucket import Bucket
from trimpot.engine.knobs import Knob, KnobSpace, digest
from trimpot.engine.ladder import rungs_of
from trimpot.engine.loop import calibrate
from trimpot.engine.record import _labels
from trimpot.reports.words import neutral_side
from trimpot.setup.plan import plan

WORTH = {1.0: 0.0, 2.5: 0.5, 3.0: 0.25}  # between them is no way


class Forked(Hill):
    """A hill on which one of three ways is better than the others, whatever the knobs are; two numbers are tried."""

    space = KnobSpace([*list(Hill.space)[:3], Knob("way", 1.0, 3.0, 1.0, searched=False), *list(Hill.space)[3:]])

    def generate(self, population: NDArray[np.float64], bucket: Bucket) -> Iterator[list[float]]:
        at = self.space.names.index("way")
        for vector, made in zip(population, super().generate(np.delete(population, at, axis=1), bucket), strict=True):
            yield [value + WORTH[float(vector[at])] for value in made]  # any other number is no way

    def neutrals(self) -> dict[str, dict[str, float]]:
        flat = self.space.to_setting(self.space.defaults)
        return {
            f"way {way:g}, knob.0 {first:g}": {**flat, "way": way, "knob.0": first}
            for way in WORTH
            for first in (1.0, 1.1)
        }

    def tied(self, granularity: str) -> dict[str, list[str]]:
        return {**super().tied(granularity), "way": ["way"]}


@pytest.mark.parametrize(
    "further",
    [{}, {"sensitivity": {"num_prompts": 3}}, {"ladder": {"pairs": 2, "own": 2}}, {"generations": 4, "group_size": 4}],
)
def test_the_best_choice_is_made_before_the_search_and_kept_by_all_of_it(further: Any) -> None:
    run, store = hill_run({"optimizer": {"name": "cma-es", "population_size": 8}, **further}, Forked()), MemoryStore()
    outcome = calibrate(run, store, Notes())
    assert outcome.baseline.label == "way 2.5, knob.0 1.1" and len(outcome.baseline.grid) == 6
    made = {place: store.evaluations[key].weighed(run.config.weights) for (_, place), key in store.keys.items()}
    found = {place.stage: set[float]() for place in made}
    for place, evaluation in made.items():
        found[place.stage].add(evaluation.setting["way"])
    assert found.pop("baseline") == set(WORTH)
    assert all(ways == {2.5} for ways in found.values()), found
    assert outcome.calibrated["way"] == 2.5
    # The gain is over the best neutral setting: what the way alone is worth is none.
    before, after = (made[place] for place in sorted(made) if place.stage == "test")
    assert before.setting == outcome.baseline.setting
    assert outcome.comparisons[0].gain.mean == pytest.approx(after.fitness - before.fitness)
    images = sum(evaluation.num_images for place, evaluation in made.items() if place.stage == "baseline")
    assert plan(run).images["baseline"] == images == 6 * 4


def test_a_search_that_begins_elsewhere_keeps_the_choice_it_begins_with() -> None:
    [rung] = rungs_of(Forked(), {}, 3)
    assert [knob.name for knob in rung.space] == [f"knob.{n}" for n in range(5)]
    start = np.array([1.1, 1.2, 1.3, 3.0, 1.4, 1.5])
    held = rung.holding(start)
    np.testing.assert_array_equal(held.lift(held.lower(start)[None])[0], start)
    coarse, own = (each.holding(start) for each in rungs_of(Forked(), {"one": 1, "own": 1}, 3))
    np.testing.assert_array_equal(coarse.lift(np.full((2, 1), 0.5)), [[0.5, 0.5, 0.5, 3.0, 0.5, 0.5]] * 2)
    np.testing.assert_array_equal(own.lift(own.lower(start)[None])[0], start)


def test_a_choice_is_no_knob_to_scale() -> None:
    assert "way" not in {group.name for group in groups_of(Forked(), "knob")}


def test_knobs_that_are_searched_are_the_knobs_they_were() -> None:
    """Runs of before find their evaluations; a choice is another space than a knob that is searched."""
    knobs = [asdict(knob) for knob in Hill.space]
    assert Hill.space.fingerprint == digest([{k: v for k, v in knob.items() if k != "searched"} for knob in knobs])
    searched = KnobSpace([Knob(knob.name, knob.low, knob.high, knob.default) for knob in Forked.space])
    assert searched.fingerprint != Forked.space.fingerprint


def test_every_neutral_setting_of_an_unfinished_run_has_a_label_of_its_own() -> None:
    class Tried:
        def __init__(self, setting: dict[str, float]) -> None:
            self.setting = setting

    grid: Any = [Tried(setting) for setting in Forked().neutrals().values()]
    assert len(set(_labels(grid))) == 6
    assert _labels(grid)[1] == "knob.0 1.1, way 1"
    guided: Any = [Tried({"a": 1.0, "one": each, "two": 1 - each}) for each in (3.0, 4.0)]
    assert _labels(guided) == ["one 3", "one 4"]
    twice: Any = [Tried({"a": 1.0}), Tried({"a": 1.0})]
    assert len(set(_labels(twice))) == 2


@pytest.mark.parametrize(
    ("label", "said"),
    [
        ("guidance 3", "neutral at its best guidance (3)"),
        ("shots 2, format 1", "neutral at its best (shots 2, format 1)"),
        ("plain", "neutral at its best (plain)"),
    ],
)
def test_the_neutral_side_is_called_what_it_is(label: str, said: str) -> None:
    assert neutral_side({"baseline": {"label": label, "grid": {label: 1.0, "another": 0.0}}}) == said
