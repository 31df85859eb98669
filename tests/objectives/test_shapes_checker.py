"""The checker must reward what people prefer, and nothing else."""

from __future__ import annotations

import time
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from trimpot.objectives.shapes import Scene, caption, check, drawing, parse, prompts
from trimpot.objectives.shapes.drawing import Picture, blur, cluttered_background, draw, dull, noisy, to_bytes
from trimpot.objectives.shapes.reward import ShapesReward
from trimpot.objectives.shapes.scenes import COLOURS, SHAPES, all_scenes

Bytes = NDArray[np.uint8]
TEXTS = prompts("validation")[:72]


def picture(text: str, seed: int = 0) -> Bytes:
    return to_bytes(draw(parse(text), np.random.default_rng(seed)))


def mean_score(change: object = None) -> float:
    scores = []
    for seed, text in enumerate(TEXTS):
        shown: Picture = draw(parse(text), np.random.default_rng(seed))
        scores.append(check(to_bytes(change(shown) if callable(change) else shown), text).score)
    return float(np.mean(scores))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.sampled_from(all_scenes()), st.integers(0, 2**31))
def test_a_clean_picture_of_any_scene_scores_near_one(scene: Scene, seed: int) -> None:
    verdict = check(to_bytes(draw(scene, np.random.default_rng(seed))), caption(scene))
    assert verdict.strict and verdict.score > 0.9


def test_clean_pictures_score_one_on_average() -> None:
    assert mean_score() > 0.97


def test_shuffled_prompts_score_next_to_nothing() -> None:
    shown = [picture(text, seed) for seed, text in enumerate(TEXTS)]
    scores = [check(shown[index - 7], text).score for index, text in enumerate(TEXTS)]
    assert np.mean(scores) < 0.08


@pytest.mark.parametrize(
    ("shown", "asked"),
    [
        ("a red circle", "a blue circle"),
        ("a red circle", "a red star"),
        ("a blue triangle", "a blue square"),
        ("a green cross", "a yellow diamond"),
        ("a small red circle", "a big red circle"),
        ("a big pink star", "a small pink star"),
        ("a red circle left of a blue square", "a red circle right of a blue square"),
        ("a red circle left of a blue square", "a blue square left of a red circle"),
        ("a red circle above a blue square", "a red circle below a blue square"),
        ("a red circle above a blue square", "a red circle left of a blue square"),
        ("a red circle and a blue square", "a red square and a blue circle"),
        ("a big red circle left of a small blue star", "a small red circle left of a big blue star"),
    ],
)
def test_the_wrong_thing_scores_low_and_is_never_strict(shown: str, asked: str) -> None:
    for seed in range(5):
        verdict = check(picture(shown, seed), asked)
        assert verdict.score < 0.3 and not verdict.strict


@pytest.mark.parametrize("asked", ["three red stars", "a red star", "four red stars"])
def test_a_wrong_count_costs_but_a_near_miss_costs_less_than_a_wrong_picture(asked: str) -> None:
    for seed in range(5):
        verdict = check(picture("two red stars", seed), asked)
        assert not verdict.strict
        assert check(picture("two blue stars", seed), asked).score < verdict.score < 0.75


def test_half_a_pair_scores_between_none_and_both() -> None:
    asked = "a red circle left of a blue square"
    scores = [check(picture(text), asked).score for text in ("a green star", "a red circle", asked)]
    assert scores[0] < 0.02 < scores[1] < 0.4 < 0.9 < scores[2]


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_is_told_from_every_other_in_every_size(shape: str) -> None:
    for size in ("", "small ", "big "):
        for other in SHAPES:
            verdict = check(picture(f"a {size}red {shape}", 3), f"a {size}red {other}")
            assert verdict.strict == (other == shape)


@pytest.mark.parametrize("colour", COLOURS)
def test_every_colour_is_told_from_every_other_dull_or_vivid(colour: str) -> None:
    for keep in (0.3, 1.0):
        shown = to_bytes(dull(draw(parse(f"a {colour} diamond"), np.random.default_rng(1)), keep))
        for other in COLOURS:
            assert check(shown, f"a {other} diamond").strict == (other == colour)


@pytest.mark.parametrize(
    "worsen",
    [
        lambda amount: lambda shown: dull(shown, 1.0 - amount),
        lambda amount: lambda shown: blur(shown, 1.8 * amount + 0.01),
        lambda amount: lambda shown: noisy(shown, 0.09 * amount, np.random.default_rng(0)),
    ],
    ids=["dull", "blurred", "noisy"],
)
def test_a_fault_costs_more_the_stronger_it_is(worsen: object) -> None:
    assert callable(worsen)
    scores = [mean_score(worsen(amount)) for amount in (0.15, 0.3, 0.45, 0.6, 0.75)]
    assert all(better > worse + 0.01 for better, worse in pairwise(scores))
    assert 0.15 < scores[-1] < 0.8


def test_clutter_costs_quality_but_not_faithfulness() -> None:
    rng = np.random.default_rng(0)
    placed = drawing.layout(parse("a red circle and a blue star"), rng)
    verdict = check(to_bytes(drawing.render(placed, cluttered_background(rng))), "a red circle and a blue star")
    assert verdict.strict and verdict.clean < 0.7 and 0.1 <= verdict.score < 0.7


def test_a_bitten_object_scores_less_than_a_whole_one() -> None:
    placed = drawing.layout(parse("a big red circle"), np.random.default_rng(0))
    bitten = [replace(thing, bite=0.5) for thing in placed]
    whole, hurt = (
        check(to_bytes(drawing.render(p, (1.0, 1.0, 1.0))), "a big red circle").score for p in (placed, bitten)
    )
    assert hurt < 0.95 * whole


@pytest.mark.parametrize("level", [0, 127, 255])
def test_a_blank_picture_scores_zero(level: int) -> None:
    for text in TEXTS[:12]:
        assert check(np.full((32, 32, 3), level, np.uint8), text).score == 0.0


def test_noise_scores_nothing() -> None:
    rng = np.random.default_rng(0)
    for text in TEXTS:
        assert check(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8), text).score < 0.02


def test_an_image_and_an_array_are_alike_and_larger_pictures_are_reduced() -> None:
    shown = picture("four blue stars")
    once = check(shown, "four blue stars")
    assert check(Image.fromarray(shown), "four blue stars") == once
    assert check(shown.repeat(4, axis=0).repeat(4, axis=1), "four blue stars") == once


@pytest.mark.parametrize("bad", [np.zeros((32, 32), np.uint8), np.zeros((32, 32, 3)), np.zeros((32, 32, 4), np.uint8)])
def test_a_wrong_array_is_refused(bad: NDArray[np.generic]) -> None:
    with pytest.raises(ValueError, match="uint8"):
        check(bad, "a red circle")


def test_a_word_prompt_is_refused() -> None:
    with pytest.raises(ValueError, match="no scene caption"):
        check(picture("a red circle"), "the word CAT")


def test_the_checker_is_cheap() -> None:
    shown = picture("four blue stars")
    check(shown, "four blue stars")
    began = time.process_time()
    for _ in range(50):
        check(shown, "four blue stars")
    # Measured well under one millisecond; the bound leaves room for a slow machine.
    assert (time.process_time() - began) / 50 < 0.006


def test_the_reward_is_the_score_or_one_factor_of_the_verdict() -> None:
    """Each factor can be a reward of its own, described as such, so that what lifts one can be measured by others."""
    shown = [picture(text, seed) for seed, text in enumerate(TEXTS[:4])]
    verdicts = [check(image, text) for image, text in zip(shown, TEXTS, strict=False)]
    for factor in (None, "faithful", "strict", "vivid", "crisp", "clean"):
        reward = ShapesReward(factor)
        expected = [float(getattr(verdict, factor or "score")) for verdict in verdicts]
        assert reward.score([Image.fromarray(image) for image in shown], TEXTS[:4]).tolist() == expected
        assert reward.describe().get("factor") == factor
