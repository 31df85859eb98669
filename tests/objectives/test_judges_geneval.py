"""GenEval: its grammar, its verdicts, and the contract on a tiny detector."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trimpot.engine.seams import Objective
from trimpot.ground.errors import ConfigError, ScoreError
from trimpot.objectives.judges.geneval_scenes import (
    NAMES,
    Scene,
    Tag,
    Wanted,
    benchmark,
    draw,
    parse,
    phrase,
    read_metadata,
    scene_of,
)
from trimpot.objectives.judges.geneval_verdict import Found, relations, verdict
from trimpot.proofs.rewards import _chats, _tiny, geneval
from trimpot.setup.plugins import Plugins
from trimpot.testing import ObjectiveContract

Example = tuple[Any, str]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("geneval")
    geneval.save_detector(home / "detector")
    _tiny.save_clip(home / "clip")
    return home


def make(checkpoints: Path, **options: Any) -> Any:
    places = {"detector": str(checkpoints / "detector"), "clip": str(checkpoints / "clip")}
    thresholds = {"threshold": geneval.LEAST, "counting_threshold": geneval.LEAST}
    return Plugins().make("objectives", "geneval", {**places, **thresholds, "device": "cpu", **options})


class TestGenEval(ObjectiveContract):
    tolerance = 1e-6

    @pytest.fixture
    def in_batches_of(self, checkpoints: Path) -> Callable[[int], Objective]:
        return lambda size: make(checkpoints, score="soft", batch_size=size)

    @pytest.fixture
    def objective(self, in_batches_of: Callable[[int], Objective]) -> Objective:
        return in_batches_of(2)

    @pytest.fixture
    def unscorable(self) -> list[Any]:
        return [np.zeros((8, 8, 3)), None]

    @pytest.fixture
    def examples(self) -> list[Example]:
        pictures = _chats.pictures((96, 64), (64, 64), (50, 70), (64, 64))
        prompts = ("a photo of three boats", "a photo of a kite", "a photo of a red boat", "a photo of nine boats")
        return [*zip(pictures, prompts, strict=True)]


@pytest.mark.parametrize(
    ("prompt", "scene"),
    [
        ("a photo of a bench", Scene("single_object", (Wanted("bench"),))),
        ("a photo of an orange", Scene("single_object", (Wanted("orange"),))),
        ("a photo of an orange orange", Scene("colors", (Wanted("orange", colour="orange"),))),
        ("a photo of two clocks", Scene("counting", (Wanted("clock", 2),), (("clock", 3),))),
        ("a photo of three skises", Scene("counting", (Wanted("skis", 3),), (("skis", 4),))),
        ("two people", Scene("counting", (Wanted("person", 2),), (("person", 3),))),
        ("A photo of a wine glass and a tv.", Scene("two_object", (Wanted("wine glass"), Wanted("tv")))),
        (
            "a photo of a dog left of a cat",
            Scene("position", (Wanted("cat"), Wanted("dog", relation="left of"))),
        ),
        (
            "a photo of a red apple and a green cup",
            Scene("color_attr", (Wanted("apple", colour="red"), Wanted("cup", colour="green"))),
        ),
    ],
)
def test_a_prompt_says_what_is_wanted(prompt: str, scene: Scene) -> None:
    assert parse(prompt) == scene


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [
        ("a photo of a dragon", "'dragon' is none of its objects"),
        ("a photo of a beautiful cat", "'beautiful cat' is none"),
        ("a photo of two clouds", "did you mean .*'clock'"),
        ("a photo of a cat and a dog and a cow", "more than two"),
        ("", "asks for"),
    ],
)
def test_a_prompt_that_cannot_be_understood_is_one_sentence(prompt: str, reason: str) -> None:
    with pytest.raises(ScoreError, match=reason):
        parse(prompt)


@given(st.sampled_from(get_args(Tag)), st.integers(0, 2**31))
def test_phrasing_and_parsing_are_inverse(tag: Any, seed: int) -> None:
    scene = draw(tag, np.random.default_rng(seed))
    assert parse(phrase(scene)) == scene


def test_the_benchmark_is_the_published_one() -> None:
    """The digest is that of the authors' generation_prompts.txt without its last line end."""
    prompts = benchmark()
    tags = Counter(parse(prompt).tag for prompt in prompts)
    assert tags == {
        "single_object": 80,
        "two_object": 99,
        "counting": 80,
        "colors": 94,
        "position": 100,
        "color_attr": 100,
    }
    digest = hashlib.sha256("\n".join(prompts).encode()).hexdigest()
    assert digest == "4de60dfc3c29f9d3db69ec45cf03a964627c2d82f2c224c3f75645e137f7126b"


def test_prompts_to_search_on_are_not_the_benchmarks() -> None:
    pools = Plugins().make("prompts", "geneval", {"train": 30, "validation": 10})
    assert (len(pools.train), len(pools.validation), len(pools.test)) == (150, 50, 553)
    assert pools == Plugins().make("prompts", "geneval", {"train": 30, "validation": 10})
    counting = Plugins().make("prompts", "geneval", {"tags": ["counting"]})
    assert {parse(prompt).tag for prompt in (*counting.train, *counting.test)} == {"counting"}


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"tags": ["single_object"]}, "name another tag"),
        ({"tags": ["counting"], "train": 500}, "more prompts of counting"),
    ],
)
def test_prompts_that_cannot_be_drawn_are_one_sentence(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        Plugins().make("prompts", "geneval", options)


def at(left: float, top: float, side: float = 20) -> Found:
    return Found((left, top, left + side, top + side), np.ones((1, 1), dtype=np.bool_))


@pytest.mark.parametrize(
    ("other", "holds"),
    [
        (at(100, 0), {"left of"}),
        (at(-100, 0), {"right of"}),
        (at(0, 100), {"above"}),
        (at(0, -100), {"below"}),
        (at(100, 100), {"left of", "above"}),
        (at(3, 3), set()),  # within a tenth of the sizes: neither
        (at(100, 30), {"left of"}),
        (at(0, 0), set()),
    ],
)
def test_relations(other: Found, holds: set[str]) -> None:
    assert relations(at(0, 0), other) == holds


def colours(name: str, seen: Any) -> list[str]:
    """By place: what lies left of 50 is red."""
    return ["red" if one.box[0] < 50 else "blue" for one in seen]


@pytest.mark.parametrize(
    ("prompt", "found", "official", "strict", "soft"),
    [
        ("a photo of a dog", {"dog": [at(0, 0)]}, 1, 1, 1),
        ("a photo of a dog", {}, 0, 0, 0),
        ("a photo of a dog", {"dog": [at(0, 0), at(0, 50)]}, 1, 0, 0),
        ("a photo of a dog", {"dog": [at(0, 0)] * 3}, 1, 0, -1),
        ("a photo of three dogs", {"dog": [at(0, 0)] * 4}, 0, 0, 2 / 3),
        ("a photo of a dog and a cat", {"dog": [at(0, 0)]}, 0, 0, 1 / 2),
        ("a photo of a red dog", {"dog": [at(0, 0)]}, 1, 1, 1),
        ("a photo of a red dog", {"dog": [at(90, 0)]}, 0, 0, 1 / 2),
        ("a photo of a red dog", {"dog": [at(0, 0), at(90, 0)]}, 1, 0, 0),
        ("a photo of a blue dog", {"dog": [at(0, 0), at(90, 0)]}, 0, 0, 0),  # only the surest counts
        ("a photo of a dog left of a cat", {"dog": [at(0, 0)], "cat": [at(90, 0)]}, 1, 1, 1),
        ("a photo of a dog left of a cat", {"dog": [at(90, 0)], "cat": [at(0, 0)]}, 0, 0, 3 / 4),
        ("a photo of a dog left of a cat", {"dog": [at(0, 0)]}, 0, 0, 1 / 3),
        ("a photo of a dog left of a cat", {"cat": [at(0, 0)]}, 0, 0, 1 / 3),
    ],
)
def test_verdicts(prompt: str, found: dict[str, list[Found]], official: float, strict: float, soft: float) -> None:
    scene = parse(prompt)
    assert verdict(scene, found, colours, "official") == official
    assert verdict(scene, found, colours, "strict") == strict
    assert verdict(scene, found, colours, "soft") == pytest.approx(soft)


def test_counting_takes_surer_objects_only(checkpoints: Path) -> None:
    objective = make(checkpoints, score="soft", counting_threshold=0.99)
    picture = _chats.pictures((64, 64))
    assert objective.score(picture, ["a photo of four boats"]) == [0]
    assert objective.score(picture, ["a photo of a boat"]) != [0]


def test_scores_can_be_broken_down_by_tag(checkpoints: Path) -> None:
    objective = make(checkpoints)
    assert [objective.tag(prompt) for prompt in ("a photo of a cat", "a photo of two cats")] == [
        "single_object",
        "counting",
    ]


def test_metadata_says_what_the_grammar_cannot(checkpoints: Path, tmp_path: Path) -> None:
    entry = {"tag": "mine", "include": [{"class": "boat", "count": 2}], "prompt": "Venice"}
    path = tmp_path / "metadata.jsonl"
    path.write_text(json.dumps(entry) + "\n\n")
    objective = make(checkpoints, metadata=path)
    assert objective.scene("Venice") == Scene("mine", (Wanted("boat", 2),))
    assert objective.describe()["metadata"] != make(checkpoints).describe()["metadata"]


ONE = {"class": "boat", "count": 1}
WRONG = [
    ("x", {"include": [{"class": "dragon", "count": 1}]}, "knows no object 'dragon'; "),
    ("x", {"include": [{"class": "boat"}]}, "it lacks the key 'count'"),
    ("x", {"include": [{**ONE, "count": 2.5}]}, "'count' must be a number from 1 to 1000, not 2.5"),
    ("x", {"include": [{**ONE, "count": True}]}, "'count' must be a number from 1 to 1000, not True"),
    ("x", {"include": [{**ONE, "count": -1}]}, "'count' must be a number from 1 to 1000, not -1"),
    ("x", {"include": [{**ONE, "color": "mauve"}]}, "knows no colour 'mauve'"),
    ("x", {"include": [{**ONE, "position": ["left of", 0]}]}, "the number of an earlier object"),
    ("x", {"include": [ONE, {**ONE, "position": ["beside", 0]}]}, "'position' must be one of left of, right of"),
    ("x", {"include": [ONE, {**ONE, "position": ["above", "0"]}]}, "are not GenEval's"),
    ("x", {"include": []}, "'include' names nothing"),
    ("x", {"include": "boat"}, "are not GenEval's"),
    ("x", {"include": 3}, "are not GenEval's"),
    ("x", {"exclude": [ONE]}, "'include' names nothing"),
    ("x", {"include": [ONE], "tag": 3}, "'tag' must be a string, not 3"),
    ("a photo of two boats", {"include": [ONE]}, "ask for something else than its words"),
    ("a photo of a red boat", {"include": [ONE]}, "ask for something else than its words"),
    ("a photo of a dog", {"include": [ONE]}, "ask for something else than its words"),
    (
        "a photo of a dog above a boat",
        {"include": [ONE, {"class": "dog", "count": 1, "position": ["below", 0]}]},
        "ask for something else than its words",
    ),
    (
        "a photo of two boats",
        {"include": [{"class": "boat", "count": 2}], "exclude": [{"class": "boat", "count": 4}]},
        "ask for something else than its words",
    ),
]


@pytest.mark.parametrize(("prompt", "about", "sentence"), WRONG)
def test_metadata_that_cannot_be_used_are_one_sentence(
    tmp_path: Path, checkpoints: Path, prompt: str, about: dict[str, Any], sentence: str
) -> None:
    """Whether they come with the prompts or in a file of their own."""
    entry = {"tag": "any", **about}
    with pytest.raises(ConfigError, match=sentence):
        scene_of(prompt, entry)
    path = tmp_path / "metadata.jsonl"
    path.write_text(json.dumps({**entry, "prompt": prompt}))
    with pytest.raises(ConfigError, match=rf"metadata\.jsonl: .*{sentence}"):
        read_metadata(path)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('{"prompt": "x"}', "is not GenEval metadata: it does not say what 'x' includes"),
        ("no json", "is not valid JSON in line 1"),
        ('{"tag": "a"}', "has no column 'prompt'"),
        (None, "No such file"),
        (
            '{"tag": "a", "prompt": "x", "include": [{"class": "boat", "count": 1}]}\n'
            '{"tag": "a", "prompt": "x", "include": [{"class": "boat", "count": 2}]}',
            "holds two different entries for the prompt 'x'",
        ),
    ],
)
def test_a_file_of_metadata_that_cannot_be_read_is_one_sentence(
    checkpoints: Path, tmp_path: Path, text: str | None, sentence: str
) -> None:
    path = tmp_path / "metadata.jsonl"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=sentence):
        make(checkpoints, metadata=path)


def described(prompt: str) -> dict[str, Any]:
    """The benchmark's own form of what a prompt of its grammar asks for."""
    scene = parse(prompt)
    include = [
        {"class": each.name, "count": each.count}
        | ({"color": each.colour} if each.colour else {})
        | ({"position": [each.relation, each.target]} if each.relation else {})
        for each in scene.wanted
    ]
    exclude = [{"class": name, "count": count} for name, count in scene.excluded]
    return {"tag": scene.tag, "include": include, **({"exclude": exclude} if exclude else {})}


def test_metadata_of_the_whole_benchmark_agree_with_its_words() -> None:
    for prompt in benchmark():
        assert scene_of(prompt, described(prompt)) == parse(prompt)
        assert scene_of(prompt, {"Category": "Abstract"}) is None


def test_metadata_of_the_prompts_say_what_is_asked_and_are_described(checkpoints: Path, tmp_path: Path) -> None:
    entry = {"tag": "mine", "include": [{"class": "boat", "count": 2}]}
    objective = make(checkpoints)
    before = objective.describe()
    objective.prepare({"Venice": entry, "a photo of a dog": {"Category": "Animals"}})
    assert objective.scene("Venice") == Scene("mine", (Wanted("boat", 2),))
    assert objective.scene("a photo of a dog") == parse("a photo of a dog")
    assert objective.describe() != before
    objective.prepare({})
    assert objective.describe() == before
    (tmp_path / "metadata.jsonl").write_text(json.dumps({**entry, "prompt": "Venice"}))
    both = make(checkpoints, metadata=tmp_path / "metadata.jsonl")
    both.prepare({"Venice": entry})
    assert both.describe() == make(checkpoints, metadata=tmp_path / "metadata.jsonl").describe()
    with pytest.raises(ConfigError, match="the prompt file and geneval's option metadata ask for different things"):
        both.prepare({"Venice": {**entry, "tag": "yours"}})


def test_options_and_weights_are_checked(checkpoints: Path) -> None:
    with pytest.raises(ConfigError, match="confidence from 0 to 1"):
        make(checkpoints, threshold=30)
    with pytest.raises(ScoreError, match="is no Mask2FormerForUniversalSegmentation: it lacks"):
        make(checkpoints, detector=str(checkpoints / "clip"))
    assert len(NAMES) == len(set(NAMES)) == 80
