"""The statistics of a comparison, each against an independent computation or a published example."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from trimpot.comparison.gains import (
    GainTable,
    average_ranks,
    band,
    critical_difference,
    expected_images,
    gain_interval,
    groups,
    holm,
    images_to,
    interquartile_mean,
    interval,
    level_at,
    pairs,
    ranking,
    restarted,
    share_reached,
    signed_rank,
    smallest_adjusted,
    targets_between,
)

# AUC of C4.5 and three variants on fourteen data sets: Demsar (2006), table 6. Of two values that the table rounds to
# 0.975, his ranks tell which was larger.
TREES = np.array(
    [
        [0.763, 0.768, 0.771, 0.798],
        [0.599, 0.591, 0.590, 0.569],
        [0.954, 0.971, 0.968, 0.967],
        [0.628, 0.661, 0.654, 0.657],
        [0.882, 0.888, 0.886, 0.898],
        [0.936, 0.931, 0.916, 0.931],
        [0.661, 0.668, 0.609, 0.685],
        [0.583, 0.583, 0.563, 0.625],
        [0.775, 0.838, 0.866, 0.875],
        [1.000, 1.000, 1.000, 1.000],
        [0.940, 0.962, 0.965, 0.962],
        [0.619, 0.666, 0.614, 0.669],
        [0.972, 0.981, 0.97501, 0.975],
        [0.957, 0.978, 0.946, 0.970],
    ]
)


def test_demsar_s_example_is_reproduced() -> None:
    """Average ranks 3.143, 2.000, 2.893, 1.964 and a critical difference of 1.25 (his section 3.2.2)."""
    assert average_ranks(TREES) == pytest.approx([3.143, 2.000, 2.893, 1.964], abs=6e-4)
    assert critical_difference(4, 14) == pytest.approx(1.25, abs=5e-3)
    assert critical_difference(4, 14, significance=0.10) == pytest.approx(1.12, abs=5e-3)
    found = ranking(["C4.5", "+m", "+cf", "+m+cf"], TREES)
    assert found is not None
    chi_squared = 12 * 14 / (4 * 5) * (sum(rank**2 for rank in found.ranks.values()) - 4 * 25 / 4)
    assert chi_squared == pytest.approx(9.28, abs=5e-3)
    ties = sum(count**3 - count for row in TREES for count in np.unique(row, return_counts=True)[1])
    corrected = chi_squared / (1 - ties / (14 * (4**3 - 4)))
    assert found.p == pytest.approx(stats.chi2.sf(corrected, 3))


def test_nemenyi_s_quantiles_are_the_published_ones() -> None:
    """Demsar (2006), table 5a: q at the 5 % level for two to ten classifiers."""
    published = [1.960, 2.343, 2.569, 2.728, 2.850, 2.949, 3.031, 3.102, 3.164]
    for count, quantile in enumerate(published, start=2):
        found = critical_difference(count, 10) / math.sqrt(count * (count + 1) / 60)
        assert found == pytest.approx(quantile, abs=1.2e-3)


def test_groups_are_the_largest_that_cannot_be_told_apart() -> None:
    ranks = {"d": 4.0, "a": 1.0, "b": 1.6, "c": 2.4}
    assert groups(ranks, 1.0) == (("a", "b"), ("b", "c"))
    assert groups(ranks, 1.5) == (("a", "b", "c"),)
    assert groups(ranks, 1.6) == (("a", "b", "c"), ("c", "d"))
    assert groups(ranks, 0.5) == ()
    assert groups(ranks, 3.0) == (("a", "b", "c", "d"),)


def test_two_contenders_or_one_seed_have_no_ranking() -> None:
    assert ranking(["a", "b"], TREES[:, :2]) is None
    assert ranking(["a", "b", "c"], TREES[:1, :3]) is None
    alike = ranking(["a", "b", "c"], np.ones((4, 3)))
    assert alike is not None and alike.p == 1.0 and set(alike.ranks.values()) == {2.0}


def test_holm_s_correction_on_a_small_case() -> None:
    """Sorted .005 .01 .03 .04 times 4 3 2 1, and none below the one before."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_rejects_what_the_step_down_procedure_rejects(p_values: list[float]) -> None:
    rejected, open_ = set(), sorted(range(len(p_values)), key=lambda index: p_values[index])
    while open_ and p_values[open_[0]] * len(open_) <= 0.05:
        rejected.add(open_.pop(0))
    assert {index for index, p in enumerate(holm(p_values)) if p <= 0.05} == rejected


def test_wilcoxon_s_p_value_is_the_count_of_sign_patterns() -> None:
    """Under the null every pattern of signs is as likely; counted out for six differences without ties."""
    difference = np.array([0.3, -0.1, 0.7, 0.2, 0.9, 0.45])
    ranks = stats.rankdata(np.abs(difference))
    observed = ranks[difference > 0].sum()
    sums = [sum(r for r, up in zip(ranks, signs, strict=True) if up) for signs in itertools.product((0, 1), repeat=6)]
    tail = sum(total >= observed for total in sums) / len(sums)
    assert signed_rank(difference, np.zeros(6)) == pytest.approx(2 * tail)
    assert signed_rank(difference, difference) == 1.0
    assert signed_rank([*difference, 1.0], [*np.zeros(6), 1.0]) == pytest.approx(2 * tail)


@pytest.mark.parametrize(("num_seeds", "num_contenders"), [(5, 2), (6, 2), (6, 3), (9, 5)])
def test_the_smallest_p_is_what_a_clean_sweep_gives(num_seeds: int, num_contenders: int) -> None:
    seeds = np.random.default_rng(0).uniform(0, 0.1, (num_seeds, num_contenders))
    labels = [f"c{number}" for number in range(num_contenders)]
    sums = np.repeat((seeds + np.arange(num_contenders))[:, :, None], 4, axis=2)
    swept = pairs(labels, GainTable(sums, np.ones(4)))
    assert min(pair.adjusted for pair in swept) == pytest.approx(smallest_adjusted(num_seeds, num_contenders))
    assert all(pair.difference.value < 0 for pair in swept)


def test_the_interquartile_mean_leaves_out_both_ends() -> None:
    assert interquartile_mean([1, 2, 3, 4, 100]) == 3
    assert interquartile_mean([5, -90, 1, 3, 7, 3, 900, 4]) == pytest.approx((3 + 3 + 4 + 5) / 4)
    assert interquartile_mean([2.0, 4.0]) == 3.0


def test_the_interval_is_a_percentile_bootstrap_of_runs() -> None:
    """Against scipy's own bootstrap, with its own random numbers."""
    values = np.random.default_rng(3).gamma(2.0, size=12)
    found = interval(values)
    other = stats.bootstrap((values,), interquartile_mean, method="percentile", vectorized=True,
                            n_resamples=20_000, rng=np.random.default_rng(7)).confidence_interval  # fmt: skip
    width = other.high - other.low
    assert found.value == interquartile_mean(values)
    assert found.low == pytest.approx(other.low, abs=0.04 * width)
    assert found.high == pytest.approx(other.high, abs=0.04 * width)


def test_where_prompts_agree_the_interval_of_gains_is_that_of_runs() -> None:
    gains = np.random.default_rng(3).gamma(2.0, size=12)
    alike = gain_interval(GainTable(np.repeat(gains[:, None], 40, axis=1) * 3, np.full(40, 3.0)))
    found = interval(gains)
    width = found.high - found.low
    assert alike.value == pytest.approx(found.value)
    assert (alike.low, alike.high) == pytest.approx((found.low, found.high), abs=0.05 * width)


def test_the_interval_of_gains_holds_the_truth_of_other_seeds_and_prompts() -> None:
    """Runs share their test prompts, so that an interval over runs alone would miss what the prompts have in common."""
    generator = np.random.default_rng(0)
    held = alone = 0
    for _ in range(200):
        prompts = generator.normal(size=30)
        sums = generator.normal(size=(10, 1)) * 0.1 + prompts + 0.3 * generator.normal(size=(10, 30))
        table = GainTable(sums, np.ones(30))
        with_prompts, without = gain_interval(table), interval(table.means)
        held += with_prompts.low <= 0 <= with_prompts.high
        alone += without.low <= 0 <= without.high
    assert held / 200 >= 0.9
    assert alone / 200 < 0.6


@pytest.mark.parametrize("values", [[0.5], [0.4, 0.6]])
def test_one_run_or_two_have_no_interval(values: list[float]) -> None:
    found = interval(values)
    assert found.value == pytest.approx(0.5) and math.isnan(found.low) and math.isnan(found.high)
    table = gain_interval(GainTable(np.array(values)[:, None] * [1.0, 1.0], np.ones(2)))
    assert table.value == pytest.approx(0.5) and math.isnan(table.low) and math.isnan(table.high)


def test_bands_resample_whole_runs() -> None:
    """Runs that differ by a constant give bands of the same width everywhere."""
    runs = np.linspace(0, 1, 7)[:, None] + np.array([0.0, 5.0, -3.0])
    low, middle, high = band(runs)
    assert high - low == pytest.approx((high - low)[0])
    assert middle == pytest.approx([0.5, 5.5, -2.5])


COURSES = st.integers(1, 8).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(1, 500), min_size=n - 1, max_size=n - 1, unique=True).map(lambda x: [0, *sorted(x)]),
        st.lists(st.floats(-5, 5), min_size=n, max_size=n).map(lambda x: list(np.maximum.accumulate(x))),
    )
)


@given(COURSES, st.lists(st.integers(0, 600), min_size=1, max_size=5))
def test_a_level_is_that_of_the_latest_check(course: tuple[list[int], list[float]], grid: list[int]) -> None:
    images, values = course
    by_hand = [[value for at, value in zip(images, values, strict=True) if at <= point][-1] for point in grid]
    assert level_at(images, values, grid) == pytest.approx(by_hand)


@given(COURSES, st.lists(st.floats(-6, 6), min_size=1, max_size=5))
def test_a_target_is_reached_at_the_first_check_that_is_as_good(
    course: tuple[list[int], list[float]], targets: list[float]
) -> None:
    images, values = course
    by_hand = [
        next((at for at, value in zip(images, values, strict=True) if value >= target - 1e-12 * abs(target)), math.inf)
        for target in targets
    ]
    assert list(images_to(images, values, np.array(targets))) == by_hand


def test_targets_lie_between_start_and_best() -> None:
    assert targets_between(1.0, 2.0, 4) == pytest.approx([1.25, 1.5, 1.75, 2.0])


def test_expected_images_are_what_restarts_take_on_average() -> None:
    """COCO's identity: mean of successes + (1 - p)/p times the mean of failures; and the mean of simulated restarts."""
    times, spent = np.array([100.0, math.inf, 300.0, math.inf, math.inf]), np.array([500.0, 400, 500, 450, 500])
    by_formula = 200 + (3 / 5) / (2 / 5) * 450
    assert expected_images(times, spent) == pytest.approx(by_formula)
    drawn = restarted(times, spent, 200_000, np.random.default_rng(1))
    assert drawn.mean() == pytest.approx(by_formula, rel=0.01)
    assert set(np.unique(drawn[drawn <= 400])) == {100.0, 300.0}


def test_a_target_that_nobody_reached_is_infinitely_far() -> None:
    assert expected_images([math.inf, math.inf], [10, 10]) == math.inf
    assert np.all(np.isinf(restarted([math.inf], [10], 3, np.random.default_rng(0))))


def test_the_share_reached_counts_runs_and_targets() -> None:
    times = np.array([[10.0, 20.0, math.inf], [10.0, math.inf, math.inf]])
    assert share_reached(times, [5, 10, 15, 20, 1e9]) == pytest.approx([0, 2 / 6, 2 / 6, 3 / 6, 3 / 6])
