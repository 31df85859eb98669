"""Noise: the formulas of a two-way analysis of variance, digit for digit, and a bucket that follows them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from trimpot.engine.bucket_sizing import BucketSizer
from trimpot.engine.noise import Noise, estimate_noise, f_ratio, mean_squares


def the_long_way(values: NDArray[np.float64]) -> tuple[float, float, float]:
    """Mean squares by sums over single cells, as a textbook's table has them."""
    rows, columns = values.shape
    grand = sum(values.ravel().tolist()) / values.size
    of_rows = [sum(row) / columns for row in values.tolist()]
    of_columns = [sum(column) / rows for column in values.T.tolist()]
    remainder = sum(
        (values[i, j] - of_rows[i] - of_columns[j] + grand) ** 2 for i in range(rows) for j in range(columns)
    )
    return (
        columns * sum((mean - grand) ** 2 for mean in of_rows) / (rows - 1),
        rows * sum((mean - grand) ** 2 for mean in of_columns) / (columns - 1),
        remainder / ((rows - 1) * (columns - 1)),
    )


def scattered(num_candidates: int, num_prompts: int, seed: int = 0) -> NDArray[np.float64]:
    """Values whose candidates, prompts and rest all differ."""
    generator = np.random.default_rng(seed)
    return (
        3.0 * generator.normal(size=(num_candidates, 1))
        + 5.0 * generator.normal(size=(1, num_prompts))
        + generator.normal(size=(num_candidates, num_prompts))
    )


@given(st.integers(2, 9), st.integers(2, 9), st.integers(0, 999))
def test_mean_squares_are_those_of_the_textbook(num_candidates: int, num_prompts: int, seed: int) -> None:
    values = scattered(num_candidates, num_prompts, seed)
    between, prompts, scatter = the_long_way(values)
    assert mean_squares(values) == pytest.approx((between, prompts, scatter), rel=1e-9, abs=1e-12)
    assert f_ratio(values) == pytest.approx(between / scatter, rel=1e-9)


def test_a_table_small_enough_for_paper() -> None:
    """Candidates 0 and 6 apart from the mean by 3, prompts by 1, and a remainder of one half in every cell."""
    values = np.array([[0.5, 1.5], [5.5, 8.5]])
    assert mean_squares(values) == (36.0, 4.0, 1.0)
    assert f_ratio(values) == 36.0
    assert estimate_noise([values]) == Noise(math.sqrt(35 / 2), math.sqrt(3 / 2), 1.0)


def test_parts_of_the_noise_are_what_is_expected_of_mean_squares_and_averaged_over_generations() -> None:
    """E[between] = scatter + num_prompts * candidates, and the same with candidates and prompts exchanged."""
    generations = [scattered(4, 7, 1), scattered(9, 3, 2), scattered(5, 12, 3)]
    candidates, prompts, scatter = [], [], []
    for values in generations:
        between, along, rest = the_long_way(values)
        candidates.append((between - rest) / values.shape[1])
        prompts.append((along - rest) / values.shape[0])
        scatter.append(rest)
    expected = [math.sqrt(sum(part) / 3) for part in (candidates, prompts, scatter)]
    noise = estimate_noise(generations)
    assert [noise.candidates, noise.prompts, noise.scatter] == pytest.approx(expected, rel=1e-9)


def test_a_part_that_comes_out_negative_is_none_at_all() -> None:
    """Candidates alike but for a remainder: the mean square between them is 0, and less the scatter negative."""
    assert estimate_noise([np.array([[1.0, -1.0], [-1.0, 1.0]])]) == Noise(0.0, 0.0, 2.0)


def test_candidates_that_never_scatter_are_told_apart_without_end() -> None:
    assert f_ratio(np.array([[1.0, 1.0], [2.0, 2.0]])) == math.inf


@pytest.mark.parametrize(("num_prompts", "expected"), [(1, 0.7), (49, 0.1), (100, 0.07)])
def test_a_mean_over_a_bucket_scatters_less_by_the_root_of_its_size(num_prompts: int, expected: float) -> None:
    assert Noise(9.0, 9.0, 0.7).of_a_mean(num_prompts) == pytest.approx(expected, rel=1e-12)


def with_ratio(ratio: float) -> NDArray[np.float64]:
    """Two candidates on two prompts whose F ratio is this."""
    apart = math.sqrt(ratio) / 2
    return np.array([[0.5 - apart, -0.5 - apart], [-0.5 + apart, 0.5 + apart]])


@pytest.mark.parametrize(
    ("ratio", "sizes"),
    [
        (1.0, [16, 25, 39, 40, 40]),  # 16, 25, 39.06, then the largest
        (1.9, [16, 25, 39, 40, 40]),
        (2.1, [16, 10, 7, 4, 3, 2, 2]),  # 16, 10.24, 6.55, 4.19, 2.68, then the smallest
    ],
)
def test_a_bucket_grows_below_its_band_and_shrinks_above_by_a_rate(ratio: float, sizes: list[int]) -> None:
    """Its exact size is remembered between generations, and rounded only where it is asked for."""
    assert f_ratio(with_ratio(ratio)) == pytest.approx(ratio)
    sizer, found = BucketSizer(16, low=2.0, high=2.0, rate=0.5625, largest=40), [16]
    for _ in sizes[1:]:
        sizer.update(with_ratio(ratio))
        found.append(sizer.size)
    assert found == sizes


def test_inside_its_band_a_bucket_stays() -> None:
    sizer = BucketSizer(16, low=1.0, high=4.0, rate=0.5)
    for ratio in (1.01, 2.0, 3.99):
        sizer.update(with_ratio(ratio))
    assert sizer.size == 16
    sharp = BucketSizer(16, low=4.0, high=4.0, rate=0.5)
    sharp.update(with_ratio(4.0))
    assert (f_ratio(with_ratio(4.0)), sharp.size) == (4.0, 16)
