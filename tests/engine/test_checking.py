"""When recommendations are judged: ever more rarely, wherever the search ends, or as often as an old run was told."""

from __future__ import annotations

from typing import Any

import pytest
from closed_form import Hill, MemoryStore, Notes, Ridge, hill_run
from hypothesis import given
from hypothesis import strategies as st
from trimpot.engine.checking import is_geometric, num_checks
from trimpot.engine.loop import calibrate
from trimpot.engine.schema import MOST_IMAGES, Validation
from trimpot.ground.errors import ConfigError
from trimpot.setup.config import as_recorded, load_config

FIRST = [4, 8, 12, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 92, 108, 128, 156, 184, 216, 256]
FIXED = {"name": "cma-es", "population_size": 6}
GEOMETRIC = {"num_prompts": 4, "every": "geometric", "patience": 1000}


def test_geometric_checks_become_rarer() -> None:
    """The powers of 2^(1/4), rounded up to multiples of 4, by whole numbers."""
    assert [number for number in range(1, 257) if is_geometric(number)] == FIRST
    for number in range(1, 3000):
        powers = [k for k in range(50) if (number - 4) ** 4 < 2**k <= number**4 or (k == 0 and number == 4)]
        assert is_geometric(number) == (number % 4 == 0 and bool(powers)), number


@given(st.integers(4, 40))
def test_there_are_four_checks_a_doubling(power: int) -> None:
    """So that a patience of four checks is a doubling, however long the search."""
    checks = [num_checks(Validation(), [2**each], 0) for each in (power, power + 1)]
    assert checks[1] - checks[0] == 4


@given(st.integers(1, MOST_IMAGES))
def test_a_check_at_the_end_is_one_more_unless_it_is_due_anyway(generations: int) -> None:
    found = num_checks(Validation(), [generations], 0)
    before = num_checks(Validation(), [generations - 1], 0) if generations > 1 else 0
    ended = generations > 1 and not is_geometric(generations - 1)  # then the shorter search has one at its own end
    assert found - before == 1 - ended
    if generations < 300:
        assert found == len({generations, *(each for each in FIRST if each <= generations)})


@pytest.mark.parametrize(("generations", "due"), [(3, [3]), (4, [4]), (35, [*FIRST[:8], 35]), (41, [*FIRST[:9], 41])])
def test_a_search_is_judged_where_checks_are_due_and_at_its_end(generations: int, due: list[int]) -> None:
    config = {"optimizer": FIXED, "generations": generations, "validation": GEOMETRIC}
    outcome = calibrate(hill_run(config), MemoryStore(), Notes())
    assert [check.generation for check in outcome.checks] == [0, *due]


def test_every_rung_counts_from_its_own_beginning() -> None:
    """A finer space is a new search, whose first generations change the most."""
    config = {"optimizer": FIXED, "ladder": {"one": 5, "pairs": 13, "own": 9}, "validation": GEOMETRIC}
    outcome = calibrate(hill_run(config), MemoryStore(), Notes())
    assert [check.generation for check in outcome.checks] == [0, 4, 5, 9, 13, 17, 18, 22, 26, 27]


@pytest.mark.parametrize("moment", [1, 25, 60, 110, 140])
def test_a_run_that_was_interrupted_between_checks_is_judged_where_it_would_have_been(moment: int) -> None:
    run, store = hill_run({"optimizer": FIXED, "generations": 22, "validation": GEOMETRIC}), MemoryStore()
    with pytest.raises(KeyboardInterrupt):
        calibrate(run, store, Notes(moment))
    whole = MemoryStore()
    assert calibrate(run, store, Notes()) == calibrate(run, whole, Notes())
    assert store.digest(run.id) == whole.digest(run.id)


def test_a_longer_search_is_judged_at_the_same_places() -> None:
    """Only the check at the end of the shorter one is not among those of the longer one."""

    def judged(generations: int) -> list[tuple[int, float]]:
        config = {"optimizer": FIXED, "generations": generations, "validation": GEOMETRIC}
        outcome = calibrate(hill_run(config, adapter=Ridge()), MemoryStore(), Notes())
        return [(check.generation, check.score) for check in outcome.checks]

    longest = judged(50)
    for generations in (10, 28, 37):
        shorter = judged(generations)
        assert set(shorter[:-1]) < set(longest) and shorter[-1][0] == generations


def test_checks_are_geometric_unless_a_configuration_says_otherwise() -> None:
    """Also of runs with a protocol, a preset's own key, and a validation of other sizes."""
    base = {"adapter": "sphere", "objectives": "value", "prompts": "numbers"}
    for more in ({}, {"protocol": "published"}, {"validation": {"num_prompts": 9}}, {"validation": None}):
        assert load_config({**base, **more}).validation.every == "geometric"
    assert load_config({**base, "validation": {"every": 7}}).validation.every == 7
    assert load_config(base, ["validation.every=7"]).validation.every == 7
    assert load_config(load_config(base).model_dump(mode="json")) == load_config(base)


#: What runs were told before checks could be geometric, and the digests of these configurations then.
BEFORE: list[tuple[dict[str, Any], str]] = [
    ({"every": 4, "patience": 6, "significance": 0.1}, "5b9c8359de783fb9"),
    ({"every": 9, "patience": 6, "significance": 0.1}, "5efbf24b4b85780b"),
    ({"every": 4, "every_images": 100, "patience": 6, "significance": 0.1}, "c4c5d95a08a88ede"),
    ({"every": 3, "patience": 2, "significance": 0.2}, "9b034b437dbb3c86"),
]


@pytest.mark.parametrize(("validation", "fingerprint"), BEFORE)
def test_a_run_of_before_is_the_run_that_it_was(validation: dict[str, Any], fingerprint: str) -> None:
    values = {"adapter": "sphere", "objectives": "value", "prompts": "numbers", "optimizer": "cma-es"}
    config = load_config({**values, "validation": validation})
    assert config.fingerprint == fingerprint
    assert as_recorded(config.model_dump(mode="json")).fingerprint == fingerprint


def test_a_run_of_before_is_judged_as_often_as_it_was() -> None:
    """Counted from the first generation, through all rungs."""
    config = {
        "optimizer": FIXED,
        "ladder": {"one": 4, "own": 7},
        "validation": {"num_prompts": 4, "every": 3, "patience": 50},
    }
    outcome = calibrate(hill_run(config, adapter=Hill()), MemoryStore(), Notes())
    assert [check.generation for check in outcome.checks] == [0, 3, 4, 6, 9, 11]


REFUSED = [0, -4, 2.5, True, "geometrical", "Geometric", "4 generations", "", [4], {"every": 4}, "nan", 10**7]


@pytest.mark.parametrize("value", REFUSED, ids=repr)
def test_what_is_no_distance_of_checks_is_refused_in_one_sentence(value: Any) -> None:
    values = {"adapter": "sphere", "objectives": "value", "prompts": "numbers"}
    with pytest.raises(ConfigError, match=r"'validation.every': ") as refused:
        load_config({**values, "validation": {"every": value}})
    assert "'geometric'" in str(refused.value) and "\n" not in str(refused.value)
