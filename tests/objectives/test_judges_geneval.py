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
from trimpot.engine.errors import ConfigError, ScoreError
from trimpot.engine.plugins import Plugins
from trimpot.engine.seams import Objective
from trimpot.objectives.judges.geneval_scenes import NAMES, Scene, Tag, Wanted, benchmark, draw, parse, phrase
from trimpot.objectives.judges.geneval_verdict import Found, relations, verdict
from trimpot.testing import ObjectiveContract
from trimpot.testing.rewards import _chats, _tiny, geneval

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


@pytest.mark.parametrize(
    "line", ['{"prompt": "x"}', "no json", '{"tag": "a", "prompt": "x", "include": [{"class": "dragon", "count": 1}]}']
)
def test_metadata_that_cannot_be_read_is_one_sentence(checkpoints: Path, tmp_path: Path, line: str) -> None:
    path = tmp_path / "metadata.jsonl"
    path.write_text(line)
    with pytest.raises(ConfigError, match=r"line 1 of .* is not GenEval metadata"):
        make(checkpoints, metadata=path)
    with pytest.raises(ConfigError, match="cannot read the metadata file"):
        make(checkpoints, metadata=tmp_path / "nowhere.jsonl")


def test_options_and_weights_are_checked(checkpoints: Path) -> None:
    with pytest.raises(ConfigError, match="confidence from 0 to 1"):
        make(checkpoints, threshold=30)
    with pytest.raises(ScoreError, match="is no Mask2FormerForUniversalSegmentation: it lacks"):
        make(checkpoints, detector=str(checkpoints / "clip"))
    assert len(NAMES) == len(set(NAMES)) == 80
