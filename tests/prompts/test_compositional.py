"""The grammar of compositional prompts: always the same, apart by pairs of objects, and English that reads right."""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import subprocess
import sys
from typing import Any

import pytest
from trimpot.engine.bucket import PromptSet
from trimpot.ground.errors import ConfigError
from trimpot.objectives.judges.geneval_scenes import NAMES, scene_of
from trimpot.prompts.compositional import DEFAULT, MOST
from trimpot.prompts.draws import VERSION
from trimpot.prompts.grammar import CATEGORIES
from trimpot.prompts.vocabulary import ACTIONS, COLOURS, NAMED_BY_GENEVAL, NOUNS, PEOPLE
from trimpot.setup.plugins import plugins

SPLITS = ("train", "validation", "test")
#: Of the prompts of each split, in order. They may change only together with `VERSION`.
DIGESTS = {1: {"train": "38bef7ced3e4b582", "validation": "55c49bddcc4a6986", "test": "8c59cc2fe3da4316"}}


def make(**options: Any) -> PromptSet:
    made: PromptSet = plugins().make("prompts", "compositional", options)
    return made


@pytest.fixture(scope="module")
def prompts() -> PromptSet:
    return make()


def digest(pool: tuple[str, ...]) -> str:
    return hashlib.sha256("\n".join(pool).encode()).hexdigest()[:16]


def test_the_prompts_are_the_same_for_ever(prompts: PromptSet) -> None:
    assert {split: digest(getattr(prompts, split)) for split in SPLITS} == DIGESTS[VERSION]


def test_another_process_makes_the_same_prompts(prompts: PromptSet) -> None:
    """Whatever the seed of Python's hashes."""
    code = "from trimpot.prompts import make_compositional_prompts as make; print(make().fingerprint)"
    environment = {**os.environ, "PYTHONHASHSEED": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == prompts.fingerprint


def test_there_are_enough_prompts_of_every_category_and_all_differ(prompts: PromptSet) -> None:
    sizes = [len(getattr(prompts, split)) for split in SPLITS]
    assert sizes[0] >= 5000 and sizes[1] >= 500 and sizes[2] >= 1000
    assert len({prompt.casefold() for prompt in prompts.all}) == sum(sizes)
    for split in SPLITS:
        categories = [prompts.metadata[prompt]["category"] for prompt in getattr(prompts, split)]
        assert categories[:8] == list(CATEGORIES)  # they alternate, so the first prompts are of all
        assert {categories.count(each) for each in CATEGORIES} == {DEFAULT[split]}


def _pairs(prompts: PromptSet, split: str) -> set[Any]:
    """Every pair of objects in a split's prompts, and every object that stands alone, with its number."""
    found: set[Any] = set()
    for prompt in getattr(prompts, split):
        objects = prompts.metadata[prompt]["objects"]
        found |= {frozenset(pair) for pair in itertools.combinations([each["name"] for each in objects], 2)}
        found |= {(each["name"], each["count"]) for each in objects if len(objects) == 1}
    return found


def test_no_split_shares_a_pair_of_objects_with_another(prompts: PromptSet) -> None:
    """So no combination of two objects and their attributes is searched on and reported on."""
    pairs = {split: _pairs(prompts, split) for split in SPLITS}
    assert all(len(found) > 300 for found in pairs.values())
    for first, second in itertools.combinations(SPLITS, 2):
        assert not pairs[first] & pairs[second]
    assert all(len(pair) == 2 for found in pairs.values() for pair in found)  # nothing stands beside itself


def test_the_prompts_read_as_english(prompts: PromptSet) -> None:
    for prompt in prompts.all:
        assert re.fullmatch(r"[a-z][a-z -]*(, with [a-z -]+ nearby,[a-z ]+)?", prompt), prompt
        assert not re.search(r"\b(a|an) (a|an|the)\b|\b(\w+) \3\b|  |\ba [aeiou]|\ban [^aeiou]", prompt), prompt
        assert prompt == prompt.strip() and 2 <= len(prompt.split()) <= 30, prompt


def test_the_metadata_say_what_the_prompt_says(prompts: PromptSet) -> None:
    for prompt in prompts.all:
        about = prompts.metadata[prompt]
        for each in about["objects"]:
            noun = NOUNS.get(each["name"]) or PEOPLE[each["name"]]
            assert (noun.plural if each.get("count", 1) > 1 else noun.name) in prompt
            assert set(each) <= {"name", "count", "color", "shape", "texture"}
            for kind, known in (("color", noun.colours), ("shape", noun.shapes), ("texture", noun.textures)):
                if kind in each:
                    assert each[kind] in known and re.search(rf"\b{each[kind]}\b.*\b{noun.name}\b", prompt)
        if "relation" in about:
            assert f" {about['relation']} " in prompt
        if about["category"] in ("color", "shape", "texture"):
            first, second = (each[about["category"]] for each in about["objects"])
            assert first != second  # else mixing them up would be no mistake


def test_geneval_s_reward_can_use_its_metadata(prompts: PromptSet) -> None:
    """Its own reader takes them, and finds that they agree with the words, where it can read these."""
    tags: dict[str, int] = {}
    for prompt, about in prompts.metadata.items():
        if "include" in about:
            scene = scene_of(prompt, about)
            assert scene is not None and len(scene.wanted) == len(about["objects"])
            tags[scene.tag] = tags.get(scene.tag, 0) + 1
            if scene.tag == "position":
                target, figure = scene.wanted
                said = prompt.split(f" {about['relation']} ")
                assert said[0].endswith(_shown(figure.name)) and said[1].endswith(_shown(target.name))
    assert set(tags) == {"color_attr", "counting", "position"} and min(tags.values()) >= 20
    assert set(NAMED_BY_GENEVAL) <= set(NOUNS) and set(NAMED_BY_GENEVAL.values()) <= set(NAMES)


def _shown(name: str) -> str:
    return next(shown for shown, known in NAMED_BY_GENEVAL.items() if known == name)


@pytest.mark.parametrize("category", CATEGORIES)
def test_a_category_can_be_had_alone(prompts: PromptSet, category: str) -> None:
    made = make(categories=[category])
    for split in SPLITS:
        place = CATEGORIES.index(category)
        assert getattr(made, split) == getattr(prompts, split)[place :: len(CATEGORIES)]
    assert {about["category"] for about in made.metadata.values()} == {category}


def test_fewer_prompts_are_the_first_of_more(prompts: PromptSet) -> None:
    fewer = make(num_train=33, num_validation=7, num_test=1)
    assert fewer.train == prompts.train[:33] and fewer.validation == prompts.validation[:7]
    assert fewer.test == prompts.test[:1] and set(fewer.metadata) == set(fewer.all)
    more = make(num_train=8 * 700)
    assert [prompt for prompt in more.train if prompt in set(prompts.train)] == list(prompts.train)
    assert make(categories=["shape", "color"]) == make(categories=["color", "shape"])  # in the order of the grammar


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_train": MOST * 8 + 1}, f"at most {MOST} train prompts of a category"),
        ({"categories": ["shape"], "num_validation": MOST}, r"have \d+ validation prompts of shape, not 5000; set"),
        ({"categories": []}, "categories is empty; give some of color, shape"),
        ({"categories": ["colour"]}, "have no category 'colour'; did you mean 'color'"),
        ({"num_test": 0}, "num_test"),
        ({"source": "x"}, "takes no option 'source'"),
    ],
)
def test_what_cannot_be_made_is_one_sentence(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        make(**options)
    assert "\n" not in str(error.value)


def test_the_words_of_the_tables_are_known() -> None:
    """Each object of an action is a noun, each colour is GenEval's, and each plural is a word."""
    for action in ACTIONS:
        assert set(action.objects) <= set(NOUNS) and set(action.subjects) <= {*NOUNS, *PEOPLE}
        assert action.places and all(place.islower() for place in action.places)
    for name, noun in NOUNS.items():
        assert set(noun.colours) <= set(COLOURS) and 1 <= noun.size <= 4
        assert noun.roles <= {"flies", "hangs", "surface", "outdoors", "animal"}
        assert noun.plural != name or name in ("sheep", "deer")
        assert not re.search(r"([^aeiou]ys|chs|shs|xs|fs)$", noun.plural)
    irregular = {"mouse": "mice", "strawberry": "strawberries", "bush": "bushes", "loaf of bread": "loaves of bread"}
    assert {name: NOUNS[name].plural for name in irregular} == irregular
