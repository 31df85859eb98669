"""Grouped search: its equations, recomputed by another route, and what it promises of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from trimpot.engine.knobs import Knob, KnobSpace, Vector
from trimpot.engine.seams import Optimizer, Population
from trimpot.ground.errors import ConfigError
from trimpot.optimizers.grouped import GroupedSearch
from trimpot.setup.plugins import Plugins
from trimpot.testing import OptimizerContract

SPACE = KnobSpace([Knob(f"knob.{index}", low=-9, high=9, default=0, spread=1 + index / 4) for index in range(6)])


class TestGroupedSearch(OptimizerContract):
    """With its defaults."""

    def make(self, space: KnobSpace, start: Vector, seed: int) -> Optimizer:
        return GroupedSearch(space, start=start, seed=seed)


class TestSmallGroups(OptimizerContract):
    """With few candidates in groups of one pair."""

    num_generations = 100

    def make(self, space: KnobSpace, start: Vector, seed: int) -> Optimizer:
        return GroupedSearch(space, start=start, seed=seed, population_size=16, group_size=2)


def _search(**options: int) -> GroupedSearch:
    return GroupedSearch(SPACE, start=SPACE.defaults, seed=0, **options)


def _groups(search: GroupedSearch, population: Population) -> Population:
    assert search.group_size is not None
    return population.reshape(-1, search.group_size, len(SPACE))


def test_every_group_is_its_centre_and_pairs_that_mirror_each_other_about_it() -> None:
    search = _search(population_size=24, group_size=4)
    for _ in range(5):
        population = search.ask()
        assert population.shape == (24 + 6, len(SPACE))
        groups = _groups(search, population)
        centre = groups[0, 0]
        assert all(np.array_equal(group[0], centre) for group in groups)
        np.testing.assert_allclose(
            groups[:, 1::2] + groups[:, 2::2], np.broadcast_to(2 * centre, (6, 2, 6)), atol=1e-12
        )
        assert len(np.unique(population, axis=0)) == 24 + 1
        search.tell(population, -np.square(population - 1).sum(axis=1))


def test_the_first_population_has_the_widths_it_was_given() -> None:
    search = GroupedSearch(SPACE, start=np.full(6, 0.5), seed=0, sigma0=0.2, population_size=4000)
    groups = _groups(search, search.ask())
    assert np.array_equal(groups[:, 0], np.full((500, 6), 0.5))
    assert (groups[:, 1:] - 0.5).reshape(-1, 6).std(axis=0) == pytest.approx(0.2 * SPACE.spreads, rel=0.05)


def test_one_generation_is_what_its_equations_say() -> None:
    """Recomputed from the docstring with plain loops, in another order."""
    search = _search(population_size=8, group_size=4)
    population = search.ask()
    scores = [[3.0, 1.0, 2.5, 0.0, 2.0], [10.0, 8.0, 7.0, 11.5, 8.5]]  # centre first; the second prompt is easier
    search.tell(population, np.ravel(scores))

    worth = [
        (score - sum(row[1:]) / 4, group, place)
        for group, row in enumerate(scores)
        for place, score in enumerate(row)
        if place
    ]
    raw = [math.log(4.5) - math.log(rank) for rank in range(1, 9)]
    above, below = sum(value for value in raw if value > 0), -sum(value for value in raw if value < 0)
    weights = [value / above if value > 0 else value / below for value in raw]
    points = population.reshape(2, 5, 6)
    moved, squares = np.zeros(6), np.zeros(6)
    for weight, (_, group, place) in zip(weights, sorted(worth, reverse=True), strict=True):
        step = (points[group, place] - SPACE.defaults) / 0.25
        moved += weight * step
        squares += max(weight, 0) * step**2
    drop = ((3 - 5.5 / 4) + (10 - 35 / 4)) / 2
    halves = [(1 - 2.5) / 2, (0 - 2) / 2, (8 - 7) / 2, (11.5 - 8.5) / 2]
    steered = 0.25 * math.sqrt(sum(value**2 for value in halves) / 4) / drop
    np.testing.assert_allclose(search.ask()[0], steered * moved, rtol=1e-12)

    mass, size = 1 / sum(weight**2 for weight in weights if weight > 0), 6
    of_path = (4 + mass / size) / (size + 4 + 2 * mass / size)
    path = math.sqrt(of_path * (2 - of_path) / sum(weight**2 for weight in weights)) * moved
    of_one = min(0.05, 2 / ((size + 1.3) ** 2 + mass) * (size + 2) / 3)
    of_many = min(0.25, 2 * (mass - 2 + 1 / mass) / ((size + 2) ** 2 + mass) * (size + 2) / 3)
    widths = np.sqrt((1 - of_one - of_many) * SPACE.spreads**2 + of_one * path**2 + of_many * squares)
    np.testing.assert_allclose(search.sigma * search._widths, steered * widths, rtol=1e-12)
    assert search.sigma == pytest.approx(math.prod(search.sigma * search._widths / SPACE.spreads) ** (1 / 6), rel=1e-12)


def test_the_unit_of_the_scores_does_not_matter() -> None:
    one, other = _search(), _search()
    noise = np.random.default_rng(0)
    for _ in range(20):
        population = one.ask()
        np.testing.assert_allclose(other.ask(), population, rtol=0, atol=1e-9)
        fitness = noise.normal(-np.square(population - 1).sum(axis=1), 0.5)
        one.tell(population, fitness)
        other.tell(population, 1024 * fitness)


@pytest.mark.parametrize("sigma0", [0.01, 0.1, 1.0])
@pytest.mark.parametrize("noise_level", [0.1, 1.0])
def test_the_step_finds_itself(sigma0: float, noise_level: float) -> None:
    """On a noisy sphere, whatever the first step and the noise, candidates soon fall below the centre by `half`."""
    search = GroupedSearch(SPACE, start=SPACE.defaults + 1, seed=0, sigma0=sigma0)
    noise, ratios = np.random.default_rng(1), []
    for generation in range(80):
        population = search.ask()
        fitness = noise.normal(-np.square(population).sum(axis=1), noise_level)
        search.tell(population, fitness)
        groups = fitness.reshape(-1, 9)
        drop = (groups[:, 0] - groups[:, 1:].mean(axis=1)).mean()
        half = np.sqrt(np.square((groups[:, 1::2] - groups[:, 2::2]) / 2).mean())
        if generation >= 30:
            ratios.append(drop / half)
    assert 0.5 < np.mean(ratios) < 1.3


def test_a_long_first_step_moves_nothing_far() -> None:
    """The first generation already moves the mean by the step that it has found, not by the one that it tried."""
    search = GroupedSearch(SPACE, start=SPACE.defaults, seed=0, sigma0=2.0)
    population = search.ask()
    search.tell(population, -np.square(population - 0.1).sum(axis=1))
    assert search.sigma < 1.0
    assert np.abs(search.ask()[0]).max() < np.abs(population).max() / 4


def test_a_step_does_not_run_away_in_a_reward_that_has_broken_down() -> None:
    """Where all settings are equally bad, nothing drops below the centre: a step that follows at once would explode."""
    search, noise = _search(), np.random.default_rng(0)
    for generation in range(60):
        population = search.ask()
        height = -np.square(population - 1).sum(axis=1)
        scores = noise.normal(height if generation < 30 else np.zeros(len(population)), 0.5)
        search.tell(population, scores)
        if generation == 29:
            before = search.sigma
    assert search.sigma < 4 * before


def test_on_a_noiseless_sphere_the_step_size_goes_with_the_distance() -> None:
    search = _search()
    for _ in range(150):
        population = search.ask()
        search.tell(population, -np.square(population - 1).sum(axis=1))
    assert search.sigma < 0.25 / 20
    assert np.abs(search.ask()[0] - 1).max() < 0.02


def test_where_bounds_cut_candidates_off_the_mean_still_reaches_them_and_comes_back() -> None:
    space = KnobSpace([Knob(f"knob.{index}") for index in range(8)])
    search = GroupedSearch(space, start=space.defaults, seed=0)
    for towards, expected in ((5.0, 2.0), (0.5, 0.5)):
        for _ in range(150):
            population = search.ask()
            search.tell(population, -np.square(population - towards).sum(axis=1))
        assert search.ask()[0] == pytest.approx(np.full(8, expected), abs=0.1)


def test_a_reward_that_only_rises_lets_nothing_overflow() -> None:
    search = _search()
    with np.errstate(over="raise", invalid="raise"):
        for _ in range(2000):
            population = search.ask()
            search.tell(population, population.sum(axis=1))
    assert np.isfinite(search.sigma)
    assert search.recommend() == pytest.approx(np.full(6, 9.0), abs=0.5)


def test_under_noise_the_recommendation_is_nearer_than_the_mean() -> None:
    nearer = 0
    for seed in range(20):
        search, noise = GroupedSearch(SPACE, start=SPACE.defaults, seed=seed), np.random.default_rng(seed)
        for _ in range(30):
            population = search.ask()
            search.tell(population, noise.normal(-np.square(population - 1).sum(axis=1), 3.0))
        averaged, last = (np.square(point - 1).sum() for point in (search.recommend(), search.ask()[0]))
        nearer += bool(averaged < last)
    assert nearer >= 15


def test_steps_that_have_become_too_small_end_the_search_with_a_reason() -> None:
    search = GroupedSearch(SPACE, start=SPACE.defaults, seed=0, sigma0=1e-10)
    reason = search.stop_reason()
    assert reason is not None
    assert reason.startswith("grouped search stopped: ")


@pytest.mark.parametrize(("num_knobs", "candidates"), [(26, 64), (57, 128), (114, 128), (482, 256)])
def test_the_default_population_grows_with_the_knobs(num_knobs: int, candidates: int) -> None:
    space = KnobSpace([Knob(f"knob.{index}") for index in range(num_knobs)])
    search = GroupedSearch(space, start=space.defaults, seed=0)
    assert search.group_size == 9
    assert len(search.ask()) == candidates // 8 * 9


@pytest.mark.parametrize(
    "options", [{"group_size": 7, "population_size": 28}, {"group_size": 8, "population_size": 36}]
)
def test_groups_that_do_not_fit_the_population_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=rf"{options['population_size']} candidates into groups of") as caught:
        Plugins().make("optimizers", "grouped", options, SPACE, start=SPACE.defaults, seed=0)
    assert "\n" not in str(caught.value)
