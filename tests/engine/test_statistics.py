"""The gain's interval: it holds the truth as often as it says, and survives degenerate data."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from trimpot.engine.statistics import paired_gain

scores = st.floats(-1e6, 1e6, allow_subnormal=False)


@pytest.mark.parametrize("shape", ["normal", "skewed", "graded"])
def test_the_interval_holds_the_true_gain_about_95_times_in_100(shape: str) -> None:
    generator = np.random.default_rng(0)
    draws = {
        "normal": lambda: (generator.normal(0.05, 0.2, 80), 0.05),
        "skewed": lambda: (generator.exponential(0.1, 80), 0.1),
        "graded": lambda: (generator.choice([0.0, 0.25, 0.5, -0.25], 80, p=[0.6, 0.2, 0.1, 0.1]), 0.075),
    }
    num_trials, covered = 300, 0
    for _ in range(num_trials):
        difference, truth = draws[shape]()
        base = generator.normal(0.5, 1.0, 80)  # what both sides share must not widen the interval
        gain = paired_gain(base + difference, base, num_resamples=599)
        covered += gain.low <= truth <= gain.high
        assert gain.high - gain.low < 0.2
    assert 0.90 <= covered / num_trials <= 0.985


def test_a_gain_is_the_same_whenever_it_is_computed() -> None:
    data = np.random.default_rng(0).normal(size=(2, 30))
    first = paired_gain(*data)
    np.random.seed(1)
    assert paired_gain(*data) == first
    assert first.num_images == 30


def test_swapping_the_sides_turns_the_gain_round() -> None:
    calibrated, neutral = np.random.default_rng(0).normal(size=(2, 50))
    gain, loss = paired_gain(calibrated, neutral), paired_gain(neutral, calibrated)
    assert gain.mean == -loss.mean
    assert gain.low == pytest.approx(-loss.high, abs=0.02)


@pytest.mark.parametrize(
    ("calibrated", "neutral"),
    [
        ([0.5], [0.25]),
        ([0.5, 0.75], [0.25, 0.5]),
        ([0.0] * 8, [0.0] * 8),
        ([0.3, 0.6, 0.9], [0.1, 0.4, 0.7]),  # equal but for rounding
    ],
)
def test_equal_differences_have_a_point_for_an_interval(calibrated: list[float], neutral: list[float]) -> None:
    gain = paired_gain(calibrated, neutral)
    assert gain.low == pytest.approx(gain.mean, abs=1e-12)
    assert gain.high == pytest.approx(gain.mean, abs=1e-12)


@settings(max_examples=60)
@given(st.lists(st.tuples(scores, scores), min_size=1, max_size=12))
def test_any_finite_scores_have_a_finite_interval_in_order(pairs: list[tuple[float, float]]) -> None:
    sides: NDArray[np.float64] = np.array(pairs).T
    gain = paired_gain(*sides, num_resamples=199)
    assert all(math.isfinite(number) for number in (gain.mean, gain.low, gain.high))
    assert gain.low <= gain.high


def test_one_image_that_differs_among_many_that_do_not_is_no_proof() -> None:
    gain = paired_gain([1.0] + [0.0] * 63, [0.0] * 64)
    assert gain.mean > 0
    assert gain.low <= 0
