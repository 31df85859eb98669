"""The sets of questions and texts for language models: always the same, apart, and with true answers."""

from __future__ import annotations

import hashlib
import re
from typing import Any

import pytest
from trimpot.adapters.language.items import item_of
from trimpot.engine.bucket import PromptSet
from trimpot.ground.errors import ConfigError
from trimpot.prompts.records import checked_fields
from trimpot.prompts.sums import MOST_SHOTS, WORDINGS
from trimpot.prompts.watchable import CAPITALS, NUM_OPTIONS
from trimpot.setup.plugins import plugins

SPLITS = ("train", "validation", "test")
SETS = ("addition", "capitals", "prose")
ADDITIONS: list[dict[str, Any]] = [
    {},
    *({"digits": digits} for digits in (1, 2, 3, 9)),
    *({"shots": shots} for shots in (0, 1, 2, MOST_SHOTS)),
    *({"wording": wording} for wording in WORDINGS),
]
#: Of all prompts with their metadata: results that were published were measured on these.
DIGESTS = {"addition": "336daca5ec9684bd", "capitals": "18528ad5c661a127", "prose": "2a6c3d7ce8afeba5"}


def make(name: str, **options: Any) -> PromptSet:
    made: PromptSet = plugins().make("prompts", name, options)
    return made


def sums(pool: tuple[str, ...]) -> list[tuple[int, int]]:
    """The numbers that each prompt asks to add: the last two in it."""
    return [(int(a), int(b)) for *_, a, b in (re.findall(r"\d+", prompt) for prompt in pool)]


@pytest.mark.parametrize("name", SETS)
def test_the_questions_are_the_same_for_ever(name: str) -> None:
    made = make(name)
    said = [(prompt, sorted(made.metadata.get(prompt, {}).items())) for prompt in made.all]
    assert hashlib.sha256(repr(said).encode()).hexdigest()[:16] == DIGESTS[name]


@pytest.mark.parametrize("name", SETS)
def test_every_record_can_be_asked_of_a_language_model(name: str) -> None:
    made = make(name)
    assert all(prompt == prompt.strip() and len(prompt) > 10 for prompt in made.all)
    for prompt, about in made.metadata.items():
        item = item_of(prompt, checked_fields(about, "the set"))
        assert item.answer is not None and item.answer.startswith(" ")


@pytest.mark.parametrize("options", ADDITIONS, ids=str)
def test_answers_of_sums_are_right_and_no_sum_stands_in_two_sets(options: dict[str, Any]) -> None:
    made = make("addition", **options)
    seen: set[frozenset[int]] = set()
    for split in SPLITS:
        pool = sums(getattr(made, split))
        both = {frozenset(each) for each in pool}
        assert len(both) == len(pool) and not both & seen, "whichever number stands first, a sum is asked once"
        seen |= both
        answers = [int(made.metadata[prompt]["answer"]) for prompt in getattr(made, split)]
        assert answers == [a + b for a, b in pool]
        digits = options.get("digits", 2)
        assert all(len(str(number)) == digits for each in pool for number in each)


@pytest.mark.parametrize("wording", WORDINGS)
def test_examples_are_right_and_are_never_asked(wording: str) -> None:
    made = make("addition", wording=wording, shots=8)
    asked = {frozenset(each) for each in sums(made.all)}
    numbers = [int(each) for each in re.findall(r"\d+", made.test[0])][:-2]
    examples = list(zip(*[iter(numbers)] * 3, strict=True))
    assert len(examples) == 8 and all(a + b == total for a, b, total in examples)
    assert not {frozenset(each[:2]) for each in examples} & asked


def test_wordings_ask_the_same_sums() -> None:
    first, *others = (sums(make("addition", wording=wording).test) for wording in WORDINGS)
    assert all(each == first for each in others)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"digits": 1, "num_test": 200}, "test questions of 1 digits, not 200; set num_test to at most"),
        ({"num_train": 10**6}, "have 2445 train questions of 2 digits, not 1000000; set num_train to at most 2445"),
    ],
)
def test_more_sums_than_there_are_is_one_sentence(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        make("addition", **options)


def test_every_capital_is_asked_both_ways_among_four_different_options() -> None:
    made = make("capitals")
    assert len(made.metadata) == len(made.all) == 2 * len(CAPITALS) and len(set(CAPITALS.values())) == len(CAPITALS)
    places = [about["options"].index(about["answer"]) for about in made.metadata.values()]
    assert {len(about["options"]) for about in made.metadata.values()} == {NUM_OPTIONS}
    assert all(places.count(place) > len(places) / 8 for place in range(NUM_OPTIONS)), "the place tells nothing"


def test_a_country_and_its_capital_stand_in_one_set() -> None:
    made = make("capitals")
    pools = [" ".join(getattr(made, split)) for split in SPLITS]
    for country, capital in CAPITALS.items():
        asked = (f"The capital of {country} is", f"The city of {capital} is the capital of")
        assert {tuple(each in pool for each in asked) for pool in pools} == {(True, True), (False, False)}
