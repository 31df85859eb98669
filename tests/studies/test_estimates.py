"""Estimates against other routes to the same numbers, and against raters whose preferences are known."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import beta, norm, t
from trimpot.studies.estimates import alpha, holm, mean, same_answers, share, strengths, strengths_with_intervals


def rated(generator: np.random.Generator, raters: int, prompts: int, spread: float, aim: float = 0.2):  # type: ignore[no-untyped-def]
    """Every rater rates every prompt; both have tastes of their own."""
    who, what = (each.ravel() for each in np.meshgrid(range(raters), range(prompts), indexing="ij"))
    latent = aim + generator.normal(0, spread, raters)[who] + generator.normal(0, spread, prompts)[what]
    latent += generator.normal(size=len(who))
    return (latent > 0.3).astype(int) - (latent < -0.3).astype(int), who.tolist(), what.tolist()


@pytest.mark.parametrize(("raters", "prompts", "spread"), [(5, 40, 0.0), (5, 60, 0.4), (20, 10, 0.3)])
def test_intervals_hold_what_they_promise(raters: int, prompts: int, spread: float) -> None:
    generator, aim, trials = np.random.default_rng(3), 0.2, 120
    total = np.sqrt(1 + 2 * spread**2)
    wins, losses = norm.sf((0.3 - aim) / total), norm.cdf((-0.3 - aim) / total)
    held = np.zeros(3)
    for _ in range(trials):
        values, who, what = rated(generator, raters, prompts, spread, aim)
        for at, (found, truth) in enumerate((
            (share(values > 0, who, what), wins),
            (share(values < 0, who, what), losses),
            (mean(values, who, what)[0], wins - losses),
        )):  # fmt: skip
            assert found.low <= found.value <= found.high
            held[at] += found.low <= truth <= found.high
    assert (held / trials >= 0.91).all(), held / trials  # 0.95, less twice the error of 120 trials


def test_an_interval_that_counts_answers_would_not_hold() -> None:
    """The clusters matter: the same answers, taken as independent, miss far too often."""
    generator, missed, spread = np.random.default_rng(4), 0, 1.0
    truth = norm.sf(0.1 / np.sqrt(1 + 2 * spread**2))
    for _ in range(100):
        values, who, _ = rated(generator, 5, 40, spread)
        found = share(values > 0, list(range(len(who))), list(range(len(who))))
        missed += not found.low <= truth <= found.high
    assert missed > 40


def test_with_a_cluster_for_every_answer_the_interval_is_clopper_and_pearson_s() -> None:
    chosen = np.arange(40) < 13
    found = share(chosen, list(range(40)), list(range(40)))
    independent = 40 * 39 / 40  # the variance divides by 39
    assert found.low == pytest.approx(beta.ppf(0.025, 13 / 40 * independent, independent * 27 / 40 + 1))
    assert found.high == pytest.approx(beta.ppf(0.975, 13 / 40 * independent + 1, independent * 27 / 40))


def test_the_variance_is_that_of_three_one_way_clusterings() -> None:
    """Cameron, Gelbach and Miller's formula, written out."""
    values, who, what = rated(np.random.default_rng(5), 6, 15, 0.8)
    residuals = values - values.mean()

    def one_way(names: list[object]) -> float:
        sums = [residuals[[each == name for each in names]].sum() for name in set(names)]
        return len(sums) / (len(sums) - 1) * sum(each**2 for each in sums) / len(values) ** 2

    variance = one_way(who) + one_way(what) - one_way(list(zip(who, what, strict=True)))
    found, p = mean(values, who, what)
    assert found.high - found.value == pytest.approx(t.ppf(0.975, 5) * np.sqrt(variance))
    assert p == pytest.approx(2 * t.sf(abs(found.value) / np.sqrt(variance), 5))


def test_few_or_equal_answers_promise_little() -> None:
    alone = share([True], [1], ["x"])
    assert (alone.low, alone.high) == (0, 1)
    assert mean([1], [1], ["x"])[1] == 1 and mean([1], [1], ["x"])[0].high == np.inf
    all_won = share([True] * 12, [n % 3 for n in range(12)], [n // 3 for n in range(12)])
    assert all_won.high == 1 and 0.3 < all_won.low < 0.8
    one_rater = share([n % 2 == 0 for n in range(30)], [1] * 30, list(range(30)))
    assert 0.3 < one_rater.low < 0.5 < one_rater.high < 0.7
    found, p = mean([1] * 12, [n % 3 for n in range(12)], [n // 3 for n in range(12)])
    assert found.low < 1 < found.high and 0 < p < 0.05


def test_strengths_maximise_the_likelihood() -> None:
    """By another route: the likelihood, written out, and a general optimizer."""
    wins = np.array([[0, 12.5, 30, 9], [7.5, 0, 20, 11], [4, 9, 0, 6], [3, 8, 9, 0]])
    counts = wins + 0.5 * (1 - np.eye(4))

    def loss(free: np.ndarray) -> float:
        value = np.append(free, 0.0)
        return float((counts * np.logaddexp(0, value[None, :] - value[:, None])).sum())

    best = minimize(loss, np.zeros(3), method="BFGS", options={"gtol": 1e-9})
    assert strengths(wins) == pytest.approx([*best.x, 0], abs=1e-5)
    two = strengths([[0, 30], [10, 0]])
    assert two == pytest.approx([np.log(30.5 / 10.5), 0])


def test_strengths_are_finite_if_one_always_wins_and_0_if_all_are_equal() -> None:
    assert np.isfinite(strengths([[0, 20, 20], [0, 0, 20], [0, 0, 0]])).all()
    assert strengths(np.zeros((3, 3))) == pytest.approx([0, 0, 0])
    several = strengths(np.stack([np.zeros((2, 2)), [[0, 30], [10, 0]]]))
    assert several.shape == (2, 2) and several[1] == pytest.approx(strengths([[0, 30], [10, 0]]))


def test_intervals_of_strengths_hold_known_ones() -> None:
    truth, trials, held = np.array([1.0, 0.4, 0.0]), 8, np.zeros(3)
    generator = np.random.default_rng(6)
    matches = list(itertools.combinations(range(3), 2))
    for _ in range(trials):
        rows = [(match, rater, prompt) for rater in range(8) for prompt in range(20) for match in matches]
        shift = {rater: generator.normal(0, 0.3, 3) for rater in range(8)}
        values = []
        for (first, second), rater, _ in rows:
            gap = (truth + shift[rater])[first] - (truth + shift[rater])[second]
            values.append(1 if generator.random() < 1 / (1 + np.exp(-gap)) else -1)
        found = strengths_with_intervals(
            [row[0] for row in rows], values, [row[1] for row in rows], [row[2] for row in rows], 3
        )
        held += [each.low - 1e-9 <= value <= each.high + 1e-9 for each, value in zip(found, truth, strict=True)]
    assert (held >= 0.8 * trials).all(), held / trials


def test_alpha_is_krippendorff_s_of_his_own_example() -> None:
    """Four observers, twelve units, some lacking: 0.815 with the ordinal metric, as he prints it."""
    lines = (
        "123321412...",
        "123322412 5.3".replace(" ", ""),
        ".333234225 1.".replace(" ", ""),
        "1233244125 1.".replace(" ", ""),
    )
    units = [[int(line[at]) for line in lines if line[at] != "."] for at in range(12)]
    assert alpha(units) == pytest.approx(0.815, abs=5e-4)


def test_alpha_is_1_for_agreement_about_0_for_chance_and_nothing_for_one_value() -> None:
    assert alpha([[1, 1], [0, 0], [-1, -1, -1]]) == 1
    generator = np.random.default_rng(7)
    assert abs(alpha(generator.integers(-1, 2, (3000, 3)).tolist()) or 0) < 0.04
    assert alpha([[1, 1], [1, 1]]) is None and alpha([[1], [0]]) is None and alpha([]) is None
    assert same_answers([[1, 1, 0], [1], [0, 0]]) == (0.5, 4)


def test_holm_s_adjustment_is_his() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == pytest.approx([1.0, 1.0]) and holm([]) == []
