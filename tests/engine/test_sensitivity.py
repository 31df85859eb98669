"""Sensitivity: each knob is turned both ways inside its bounds, and spreads are divided by what that changes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from closed_form import MemoryStore, Notes, Ridge, hill_run
from numpy.typing import NDArray
from trimpot.engine.bucket import Bucket
from trimpot.engine.evaluator import Evaluator
from trimpot.engine.ladder import Rung
from trimpot.engine.sensitivity import spread_by_sensitivity


def spread(
    start: NDArray[np.float64], adapter: Any = None, ladder: dict[str, int] | None = None, **options: Any
) -> tuple[Rung, Rung, Notes]:
    """The first rung before and after, and what was evaluated."""
    config = {"bucket_size": 6, "sensitivity": {"num_prompts": 4, **options}, "ladder": ladder or {}}
    run, notes = hill_run(config, adapter=adapter or Ridge()), Notes()
    evaluator = Evaluator(run, MemoryStore(), notes)
    return run.rungs[0], spread_by_sensitivity(evaluator, run.rungs[0], 0, start), notes


def turned(notes: Notes) -> NDArray[np.float64]:
    return np.array([Ridge.space.to_vector(each.evaluation.setting) for each in notes.evaluations])


def test_every_knob_is_turned_up_and_down_by_a_share_of_its_own_spread() -> None:
    start = np.array([1.0, 1.5, -3.0, 0.0, 4.0])
    _, _, notes = spread(start, step=0.5)
    steps = np.diag(0.5 * Ridge.space.spreads)
    np.testing.assert_array_equal(turned(notes), np.concatenate([start[None], start + steps, start - steps]))
    assert {len(each.evaluation.bucket) for each in notes.evaluations} == {4}
    assert len({each.evaluation.bucket for each in notes.evaluations}) == 1


def test_no_knob_is_turned_past_a_bound() -> None:
    """From a corner each knob has one way to go; the candidate that cannot move stays at the bound itself."""
    low, high = Ridge.space.bounds
    for corner, inwards in ((low, 1), (high, -1)):
        _, _, notes = spread(corner, step=0.5)
        population = turned(notes)
        assert np.all((population >= low) & (population <= high))
        moved = corner + inwards * np.diag(0.5 * Ridge.space.spreads)
        outside, inside = (population[1:6], population[6:]) if inwards < 0 else (population[6:], population[1:6])
        np.testing.assert_array_equal(outside, np.repeat(corner[None], 5, axis=0))
        np.testing.assert_array_equal(inside, moved)
    _, _, notes = spread(Ridge.space.defaults, step=1e6)
    turns = turned(notes)[1:] - Ridge.space.defaults
    np.testing.assert_array_equal(turns[:5].diagonal(), high - Ridge.space.defaults)
    np.testing.assert_array_equal(turns[5:].diagonal(), low - Ridge.space.defaults)


class Slopes(Ridge):
    """Every knob changes an output by its slope a spread, and a prompt has a factor of its own."""

    slopes = np.array([8.0, 4.0, 2.0, 1.0, 0.5])

    def generate(self, population: NDArray[np.float64], bucket: Bucket) -> Iterator[list[float]]:
        for vector in population:
            height = float((vector / self.space.spreads) @ self.slopes)
            yield [height * (1 + index % 2) for index in range(len(bucket))]


def factors(before: Rung, after: Rung) -> NDArray[np.float64]:
    return np.asarray(after.space.spreads / before.space.spreads)


def test_spreads_are_divided_by_what_a_turn_changes_and_nothing_else_changes() -> None:
    before, after, _ = spread(Ridge.space.defaults, Slopes(), most=100)
    assert factors(before, after) == pytest.approx([0.25, 0.5, 1, 2, 4], rel=1e-12)
    assert after.space.names == before.space.names
    np.testing.assert_array_equal(after.space.bounds, before.space.bounds)
    np.testing.assert_array_equal(after.space.defaults, before.space.defaults)
    assert after.generations == before.generations
    np.testing.assert_array_equal(after.parents, before.parents)


def test_the_widest_and_the_narrowest_factor_are_each_other_s_inverse() -> None:
    before, after, _ = spread(Ridge.space.defaults, Slopes(), most=3)
    assert factors(before, after) == pytest.approx([1 / 3, 0.5, 1, 2, 3], rel=1e-12)
    before, after, _ = spread(Ridge.space.defaults, Slopes(), most=1)
    assert factors(before, after).tolist() == [1] * 5


def test_a_knob_that_changes_nothing_gets_the_widest_and_does_not_count_in_the_mean() -> None:
    class Deaf(Slopes):
        slopes = np.array([8.0, 0.0, 2.0, 0.0, 0.5])

    before, after, _ = spread(Ridge.space.defaults, Deaf(), most=10)
    assert factors(before, after) == pytest.approx([0.25, 10, 1, 10, 4], rel=1e-12)

    class Still(Slopes):
        slopes = np.zeros(5)

    before, after, _ = spread(Ridge.space.defaults, Still(), most=10)
    assert after == before


def test_a_sensitivity_is_a_root_mean_square_over_both_ways_and_all_prompts() -> None:
    """On the ridge, whose outputs bend, worked out from scores alone."""
    before, after, notes = spread(Ridge.space.defaults, most=1000, step=0.3)
    values = [list(each.evaluation.scores["height"]) for each in notes.evaluations]
    change = []
    for knob in range(5):
        squares = [(row[i] - values[0][i]) ** 2 for row in (values[1 + knob], values[6 + knob]) for i in range(4)]
        change.append((sum(squares) / 8) ** 0.5)
    middle = np.prod(change) ** (1 / 5)
    assert factors(before, after) == pytest.approx([middle / each for each in change], rel=1e-9)


def test_a_coarse_rung_turns_all_knobs_of_a_block_at_once() -> None:
    before, after, notes = spread(np.array([1.25, 0.0, 3.0]), Slopes(), ladder={"block": 1, "own": 1}, step=1, most=100)
    start = np.array([1.25, 1.25, 0.0, 0.0, 3.0])
    population = turned(notes)
    assert len(population) == 7
    np.testing.assert_array_equal(population[0], start)
    np.testing.assert_allclose(population[1] - start, [0.75, 0.75, 0, 0, 0], rtol=1e-12)
    np.testing.assert_allclose(population[2] - start, [0, 0, 1.25, 1.25, 0], rtol=1e-12)  # its bounds end there
    assert len(factors(before, after)) == 3


def given(measured: dict[str, float], ladder: dict[str, int] | None = None, most: float = 100) -> tuple[Rung, Rung]:
    """The first rung before and after, with what was measured before; nothing may be evaluated."""
    run, notes = hill_run({"sensitivity": {"measured": measured, "most": most}, "ladder": ladder or {}}), Notes()
    after = spread_by_sensitivity(Evaluator(run, MemoryStore(), notes), run.rungs[0], 0, run.rungs[0].space.defaults)
    assert not notes.evaluations
    return run.rungs[0], after


def test_what_was_measured_before_spreads_as_if_it_were_measured_now() -> None:
    before, after = given({f"knob.{n}": value for n, value in enumerate((1.0, 2.0, 4.0, 8.0, 16.0))})
    np.testing.assert_allclose(after.space.spreads / before.space.spreads, [4, 2, 1, 0.5, 0.25])


def test_knobs_that_move_nothing_spread_most_and_those_not_measured_keep_their_spread() -> None:
    before, after = given({"knob.0": 2.0, "knob.1": 8.0, "knob.2": 0.0}, most=3)
    np.testing.assert_allclose(after.space.spreads / before.space.spreads, [2, 0.5, 3, 1, 1])
    before, after = given({"knob.0": 0.0})
    np.testing.assert_array_equal(after.space.spreads, before.space.spreads)


def test_tied_knobs_move_an_output_together() -> None:
    before, after = given({"knob.0": 3.0, "knob.1": 4.0, "knob.2": 5.0, "knob.4": 5.0}, {"pairs": 2, "own": 2})
    np.testing.assert_allclose(after.space.spreads / before.space.spreads, [1, 1, 1])
