"""The gain's interval: it holds the truth as often as it says, prompts are its unit, and any scores have one."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from trimpot.engine.statistics import FEW_PROMPTS, few, is_better, paired_gain, sums_by_prompt

Array = NDArray[np.float64]
scores = st.floats(-1e6, 1e6, allow_subnormal=False)
NUM_IMAGES = 256

SHAPES: dict[str, Callable[[np.random.Generator, int], Array]] = {  # of mean 0 and some spread
    "normal": lambda generator, size: generator.normal(size=size),
    "skewed": lambda generator, size: generator.exponential(size=size) - 1,
    "graded": lambda generator, size: generator.choice([0.0, 0.25, 0.5, -0.25], size, p=[0.6, 0.2, 0.1, 0.1]) - 0.075,
}


def names(count: int, num_images: int = NUM_IMAGES) -> list[str]:
    """Prompts of images when a pool of `count` is used over and over."""
    return [f"prompt {index % count}" for index in range(num_images)]


def coverage(count: int, shape: str, num_trials: int) -> float:
    """How often the interval holds the true gain, 0, with equal spread between prompts and within them."""
    generator, draw, prompts = np.random.default_rng(count), SHAPES[shape], names(count)
    covered = 0
    for _ in range(num_trials):
        difference = np.resize(draw(generator, count), NUM_IMAGES) + draw(generator, NUM_IMAGES)
        base = generator.normal(size=NUM_IMAGES)  # what both sides share must not widen the interval
        gain = paired_gain(base + difference, base, prompts, num_resamples=499)
        covered += gain.low <= 0 <= gain.high
    return covered / num_trials


@pytest.mark.parametrize("count", [20, 50, 256])
def test_the_interval_holds_the_true_gain_at_least_93_times_in_100(count: int) -> None:
    assert 0.93 <= coverage(count, "normal", 1000) <= 0.975


@pytest.mark.parametrize("shape", ["skewed", "graded"])
@pytest.mark.parametrize("count", [20, 34])
def test_it_nearly_does_so_for_scores_of_other_shapes(count: int, shape: str) -> None:
    assert 0.90 <= coverage(count, shape, 400) <= 0.985


def test_images_taken_one_by_one_would_have_claimed_far_too_much() -> None:
    """What the unit is for: on the same data the interval of independent images holds the truth half as often."""
    generator, prompts, covered = np.random.default_rng(0), names(20), 0
    for _ in range(400):
        difference = np.resize(generator.normal(size=20), NUM_IMAGES) + generator.normal(size=NUM_IMAGES)
        alone = paired_gain(difference, np.zeros(NUM_IMAGES), [str(n) for n in range(NUM_IMAGES)], num_resamples=299)
        covered += alone.low <= 0 <= alone.high
    assert covered / 400 < 0.6
    assert len(set(prompts)) == 20


@pytest.mark.parametrize("count", [2, 5, 19])
def test_with_few_prompts_the_interval_is_student_s_of_their_means(count: int) -> None:
    """Against scipy's own interval, where every prompt has as many images."""
    difference = np.random.default_rng(count).normal(0.3, 1, size=(4, count))
    gain = paired_gain(difference.ravel(), np.zeros(4 * count), names(count, 4 * count))
    low, high = stats.ttest_1samp(difference.mean(axis=0), 0).confidence_interval(0.95)
    assert (gain.low, gain.high) == pytest.approx((low, high))
    assert (gain.num_prompts, gain.num_images) == (count, 4 * count)


def test_from_twenty_prompts_on_prompts_are_resampled() -> None:
    """Student's interval is the same however a lopsided sample is turned round; one by resampling is not."""
    for count, resampled in ((19, False), (20, True)):
        difference = np.random.default_rng(0).exponential(size=count)
        gain = paired_gain(difference, np.zeros(count), names(count, count))
        below, above = gain.mean - gain.low, gain.high - gain.mean
        assert (above > 1.1 * below) is resampled


def test_with_many_prompts_it_is_the_accelerated_bootstrap_of_whole_prompts() -> None:
    """Against scipy's own with its own random numbers, for skewed prompts of unlike size and at the widened level."""
    generator = np.random.default_rng(0)
    sizes = np.array([1] * 30 + [12] * 10)
    prompts = [str(index) for index, size in enumerate(sizes) for _ in range(size)]
    difference = np.repeat(sizes / 6 + 2 * generator.exponential(size=40), sizes) + generator.normal(size=len(prompts))
    sums, _ = sums_by_prompt(difference, prompts)
    gain = paired_gain(difference, np.zeros(len(prompts)), prompts, num_resamples=60_000)

    widened = np.sqrt(40 / 39) * stats.t.ppf(0.975, 39)
    level = 1 - 2 * stats.norm.sf(widened)
    other = stats.bootstrap(
        (sums, sizes), lambda total, count, axis: total.sum(axis=axis) / count.sum(axis=axis), paired=True,
        vectorized=True, confidence_level=level, n_resamples=60_000, rng=np.random.default_rng(1),
    ).confidence_interval  # fmt: skip
    width = other.high - other.low
    assert gain.mean == pytest.approx(difference.mean())
    assert gain.low == pytest.approx(other.low, abs=0.02 * width)
    assert gain.high == pytest.approx(other.high, abs=0.02 * width)


def test_the_order_of_images_and_the_names_of_prompts_change_nothing_but_the_draw() -> None:
    difference, prompts = np.random.default_rng(0).normal(size=60), names(12, 60)
    order = np.random.default_rng(1).permutation(60)
    gain = paired_gain(difference, np.zeros(60), prompts)
    other = paired_gain(difference[order], np.zeros(60), [prompts[index] + "!" for index in order])
    assert (gain.mean, gain.low, gain.high) == pytest.approx((other.mean, other.low, other.high))


def test_a_gain_is_the_same_whenever_it_is_computed() -> None:
    data = np.random.default_rng(0).normal(size=(2, 30))
    first = paired_gain(*data, names(30, 30))
    np.random.seed(1)
    assert paired_gain(*data, names(30, 30)) == first
    assert first.num_images == first.num_prompts == 30


def test_swapping_the_sides_turns_the_gain_round() -> None:
    calibrated, neutral = np.random.default_rng(0).normal(size=(2, 50))
    gain, loss = (paired_gain(*pair, names(50, 50)) for pair in ((calibrated, neutral), (neutral, calibrated)))
    assert gain.mean == pytest.approx(-loss.mean)
    assert gain.low == pytest.approx(-loss.high, abs=0.02)


def test_an_even_sample_of_whole_scores_has_an_even_interval() -> None:
    """As many prompts better as worse and most alike: many resamples have a mean of exactly 0, half of them below."""
    difference = np.repeat([-1.0, 0.0, 1.0], [5, 20, 5])
    gain = paired_gain(difference, np.zeros(30), names(30, 30))
    assert gain.mean == 0
    assert gain.low == pytest.approx(-gain.high, abs=0.02) != 0


@pytest.mark.parametrize("count", [2, 16, 40])
@pytest.mark.parametrize("difference", [0.0, 0.2, 1e-12, 1e9])
def test_equal_differences_have_a_point_for_an_interval_whatever_their_rounding(count: int, difference: float) -> None:
    """Scores of two decimals differ by 0.2 in a dozen roundings; such a run used to be lost after all its work."""
    for draw in range(20):
        neutral = np.random.default_rng(draw).integers(0, 100, size=2 * count) / 100
        gain = paired_gain(neutral + difference, neutral, names(count, 2 * count))
        assert gain.mean == pytest.approx(difference)
        assert gain.low == pytest.approx(gain.mean, abs=1e-12, rel=1e-9)
        assert gain.high == pytest.approx(gain.mean, abs=1e-12, rel=1e-9)


def test_a_single_prompt_bounds_nothing() -> None:
    gain = paired_gain([0.5, 0.7, 0.9], [0.1, 0.2, 0.3], ["a"] * 3)
    assert gain.mean == pytest.approx(0.5)
    assert (gain.low, gain.high, gain.num_prompts) == (-math.inf, math.inf, 1)


@settings(max_examples=60)
@given(st.lists(st.tuples(scores, scores, st.sampled_from("abc")), min_size=2, max_size=12))
def test_any_finite_scores_have_an_interval_in_order(rows: list[tuple[float, float, str]]) -> None:
    calibrated, neutral, prompts = zip(*rows, strict=True)
    for count in (1, 20):  # few prompts, and enough to resample
        labels = [f"{prompt}{copy}" for copy in range(count) for prompt in prompts]
        gain = paired_gain(calibrated * count, neutral * count, labels, num_resamples=199)
        assert gain.low <= gain.high and not math.isnan(gain.low) and not math.isnan(gain.high)
        assert math.isfinite(gain.low) == math.isfinite(gain.high) == (gain.num_prompts > 1)
        assert (gain.low <= gain.mean + 1e-6 and gain.high >= gain.mean - 1e-6) or gain.num_prompts >= 20


@pytest.mark.parametrize("count", [16, 64])
def test_one_prompt_that_differs_among_many_that_do_not_is_no_proof(count: int) -> None:
    gain = paired_gain([1.0] + [0.0] * (count - 1), [0.0] * count, names(count, count))
    assert gain.mean > 0
    assert gain.low <= 0


def test_differences_are_summed_by_prompt_whatever_their_order() -> None:
    sums, sizes = sums_by_prompt([1.0, 2.0, 4.0, 8.0], ["b", "a", "b", "a\0"])
    assert sums.tolist() == [5.0, 2.0, 8.0] and sizes.tolist() == [2.0, 1.0, 1.0]


def test_better_is_a_one_sided_paired_t_test_of_prompts() -> None:
    generator = np.random.default_rng(1)
    for count, shift in itertools.product((3, 5, 30), (0.05, 0.2, 0.5, 1.0, 2.0)):
        one, other = generator.normal(size=(2, count)) + shift, generator.normal(size=(2, count))
        p = stats.ttest_rel(one.mean(axis=0), other.mean(axis=0), alternative="greater").pvalue
        for level in (0.3, 0.1, 0.03, 0.01, 0.001):
            assert is_better(one.ravel(), other.ravel(), names(count, 2 * count), level) == (p < level)
    assert is_better(np.ones(3), np.zeros(3), names(3, 3), 0.001)
    assert not is_better(np.ones(3), np.ones(3), names(3, 3), 0.5)
    assert not is_better([1.0, 1.1], [0.0, 0.0], ["a", "a"], 0.5), "one prompt shows nothing"


def test_repeating_images_of_a_prompt_adds_no_evidence() -> None:
    difference = np.random.default_rng(3).normal(0.3, 1, size=10)
    once = is_better(difference, np.zeros(10), names(10, 10), 0.1)
    for repeats in (2, 10, 100):
        many = np.tile(difference, repeats)
        assert is_better(many, np.zeros(len(many)), names(10, len(many)), 0.1) == once


def test_too_few_prompts_are_said() -> None:
    assert few(FEW_PROMPTS) == ""
    assert "only 29 different prompts" in few(29) and "single prompt" in few(1)
