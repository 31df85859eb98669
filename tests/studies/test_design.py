"""What raters see: balanced, in an order of their own, the same whenever it is drawn again."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from studied import design
from trimpot.ground.errors import ConfigError
from trimpot.studies.design import NOISE, Design, drawn_checks, expected, num_checks, plan_for


def plans(made: Design, raters: int) -> list[list[dict[str, Any]]]:
    found: list[list[dict[str, Any]]] = []
    for number in range(1, raters + 1):
        found.append(plan_for(made, number, found))
    return found


@pytest.mark.parametrize("pairs", [1, 2, 7, 20, 30])
@pytest.mark.parametrize("entrants", [2, 3, 5])
def test_each_side_is_as_frequent_as_the_other_up_to_one_for_every_rater(pairs: int, entrants: int) -> None:
    made = design(30, pairs, entrants)
    for plan in plans(made, 6):
        left = Counter((shown["left"], shown["right"]) for shown in plan if shown["kind"] == "pair")
        assert sum(left.values()) == pairs
        for first, second in made.matches:
            assert abs(left[first, second] - left[second, first]) <= 1
        met = [left[first, second] + left[second, first] for first, second in made.matches]
        assert max(met) - min(met) <= 1


def test_all_pairs_are_rated_equally_often_up_to_one() -> None:
    for pairs, raters in ((20, 7), (30, 4), (1, 11)):
        seen = Counter(
            each["item"] for plan in plans(design(30, pairs), raters) for each in plan if "check" not in each
        )
        counts = [seen[item] for item in range(30)]
        assert max(counts) - min(counts) <= 1


def test_nobody_sees_a_pair_twice_and_everybody_sees_every_check() -> None:
    made = design(10, 30, entrants=3, checks=6)
    for plan in plans(made, 5):
        pairs = [(each["item"], *sorted((each["left"], each["right"]))) for each in plan if each["kind"] == "pair"]
        assert len(set(pairs)) == len(pairs) == 30
        assert sorted(each["check"] for each in plan if each["kind"] != "pair") == list(range(6))
        seen = Counter(item for item, *_ in pairs)
        assert set(seen.values()) == {3}, "a prompt comes again only after all others"


def test_orders_and_sides_differ_between_raters_and_are_drawn_again_from_the_seed() -> None:
    made = design(30, 30)
    first = plans(made, 4)
    assert first == plans(made, 4)
    assert first != plans(design(30, 30, seed=1), 4)
    assert len({str([each["item"] for each in plan]) for plan in first}) == 4
    assert len({str([(e["item"], e["left"]) for e in sorted(plan, key=lambda e: e["item"])]) for plan in first}) == 4


def test_the_place_of_a_pair_tells_nothing_of_its_sides() -> None:
    """Over many raters, the first entrant stands left half of the time at every place in the order."""
    made = design(20, 10, checks=0)
    found = plans(made, 100)
    for place in range(10):
        left = sum(plan[place]["left"] == 0 for plan in found)
        assert 25 < left < 75, "five standard deviations"


def test_neither_careless_habit_passes_the_checks() -> None:
    made = design(30, 20, checks=8)
    for plan in plans(made, 20):
        checks = [each for each in plan if each["kind"] != "pair"]
        for habit in ("left", "same", "right"):
            assert sum(expected(each) == habit for each in checks) <= len(checks) / 2
        noise = [each for each in checks if each["kind"] == "noise"]
        assert abs(sum(each["left"] == NOISE for each in noise) - sum(each["right"] == NOISE for each in noise)) <= 1
        assert {each["left"] == each["right"] for each in checks if each["kind"] == "same"} == {True}


def test_there_is_a_check_for_ten_pairs_and_one_alone_is_refused() -> None:
    assert [num_checks(pairs) for pairs in (1, 20, 60, 1000)] == [2, 2, 6, 100]
    with pytest.raises(ConfigError, match="a single check"):
        drawn_checks(2, 10, 1, 0)


def test_a_design_is_read_as_it_was_stored() -> None:
    made = design(5, 5, 3)
    assert Design.from_json(made.to_json()) == made
