"""The caption grammar and the splits of the embedded world."""

from __future__ import annotations

import numpy as np
import pytest
from trimpot.objectives.shapes import Item, Scene, caption, parse, prompts
from trimpot.objectives.shapes.drawing import draw, draw_word, to_bytes, weblike
from trimpot.objectives.shapes.scenes import KINDS, WORDS, all_scenes, scenes_of, split_of

SPLITS = ("train", "validation", "test")


def test_a_caption_says_what_the_scene_holds() -> None:
    assert caption(Scene((Item(1, None, "red", "circle"),))) == "a red circle"
    assert caption(Scene((Item(4, None, "pink", "cross"),))) == "four pink crosses"
    pair = (Item(1, "small", "green", "triangle"), Item(1, "big", "yellow", "star"))
    assert caption(Scene(pair, "left of")) == "a small green triangle left of a big yellow star"


def test_every_scene_survives_the_round_trip() -> None:
    for scene in all_scenes():
        assert parse(caption(scene)) == scene


def test_parse_is_blind_to_case_and_spacing() -> None:
    assert parse("  Two RED   circles ") == Scene((Item(2, None, "red", "circle"),))


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("a red cirle", "circle"),
        ("the word CAT", "unknown word"),
        ("", "no scene caption"),
        ("two red circle", "no scene caption"),
        ("a red circle and a red square", "different colours"),
        ("two red circles and a blue square", "single objects"),
        ("a small red circle and a big blue square", "sizes"),
        ("a small red circle left of a blue square", "sizes"),
        ("two small red circles", "no scene caption"),
        ("a red circle left of", "no scene caption"),
    ],
)
def test_what_is_no_caption_is_refused_in_one_sentence(text: str, hint: str) -> None:
    with pytest.raises(ValueError, match=hint):
        parse(text)


def test_no_combination_is_in_two_splits() -> None:
    combinations = {split: {parse(text).combination for text in prompts(split)} for split in SPLITS}
    whole = {split: {scene.combination for scenes in scenes_of(split).values() for scene in scenes} for split in SPLITS}
    for held in (combinations, whole):
        assert not held["train"] & held["validation"]
        assert not held["train"] & held["test"]
        assert not held["validation"] & held["test"]


def test_a_rephrased_pair_stays_in_its_split() -> None:
    one = parse("a red circle left of a blue square")
    other = parse("a small blue square above a big red circle")
    assert split_of(one.combination) == split_of(other.combination)


@pytest.mark.parametrize("split", SPLITS)
def test_prompts_are_repeatable_unique_and_of_every_kind(split: str) -> None:
    texts = prompts(split)
    assert texts == prompts(split)
    assert len(set(texts)) == len(texts) >= 100
    assert {parse(text).kind for text in texts} == set(KINDS)
    assert {parse(text).kind for text in texts[:60]} == set(KINDS), "any stretch should be a fair mixture"


def test_words_are_split_too() -> None:
    held = [set(prompts(split, "words")) for split in SPLITS]
    assert sum(map(len, held)) == len(set().union(*held)) == len(WORDS)
    assert all(text.startswith("the word ") for texts in held for text in texts)


def test_unknown_split_or_domain() -> None:
    with pytest.raises(ValueError, match="valid"):
        prompts("valid")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="cats"):
        prompts("train", "cats")  # type: ignore[arg-type]


def test_a_seed_is_a_picture() -> None:
    scene = parse("three green stars")
    for painter in (draw, weblike):
        once, again = (painter(scene, np.random.default_rng(3)) for _ in range(2))
        assert once.shape == (32, 32, 3) and np.array_equal(once, again)
    assert not np.array_equal(draw(scene, np.random.default_rng(3)), draw(scene, np.random.default_rng(4)))


def test_a_word_fills_the_picture_with_ink_and_paper() -> None:
    picture = to_bytes(draw_word("CAT", np.random.default_rng(0)))
    assert picture.dtype == np.uint8 and np.ptp(picture.astype(int).mean(axis=2)) > 80
