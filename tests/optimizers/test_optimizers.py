"""The searchers that ship: every promise of the contract, and CMA-ES is pycma's, number for number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_info
from trimpot.engine.knobs import Knob, KnobSpace, Vector
from trimpot.engine.seams import Optimizer
from trimpot.ground.errors import ConfigError
from trimpot.optimizers.cma_es import CmaEs, cma
from trimpot.optimizers.population import default_population_size
from trimpot.optimizers.random_search import RandomSearch
from trimpot.setup.plugins import Plugins
from trimpot.testing import OptimizerContract

SPACE = KnobSpace([Knob(f"knob.{index}", low=-1, high=2, spread=1 + index / 4) for index in range(6)])


class TestCmaEs(OptimizerContract):
    """CMA-ES with a full covariance."""

    def make(self, space: KnobSpace, start: Vector, seed: int) -> Optimizer:
        return CmaEs(space, start=start, seed=seed)


class TestDiagonalCmaEs(OptimizerContract):
    """CMA-ES with a diagonal covariance."""

    def make(self, space: KnobSpace, start: Vector, seed: int) -> Optimizer:
        return CmaEs(space, start=start, seed=seed, diagonal=True)


class TestMirroredCmaEs(OptimizerContract):
    """CMA-ES with a diagonal covariance and mirrored pairs."""

    def make(self, space: KnobSpace, start: Vector, seed: int) -> Optimizer:
        return CmaEs(space, start=start, seed=seed, diagonal=True, mirrored=True)


class TestPublishedCmaEs(OptimizerContract):
    """CMA-ES as published: it recommends its mean as it is."""

    def make(self, space: KnobSpace, start: Vector, seed: int) -> Optimizer:
        return CmaEs(space, start=start, seed=seed, average=False)


class TestRandomSearch(OptimizerContract):
    """Random search, which promises no climbing."""

    improves = False

    def make(self, space: KnobSpace, start: Vector, seed: int) -> Optimizer:
        return RandomSearch(space, start=start, seed=seed)


@pytest.mark.parametrize("diagonal", [False, True])
def test_cma_es_asks_what_pycma_asks_driven_by_hand_with_the_same_normal_numbers(diagonal: bool) -> None:
    ours = CmaEs(SPACE, start=SPACE.defaults, seed=5, sigma0=0.3, diagonal=diagonal)
    generator = np.random.default_rng(np.random.SeedSequence([5, len(SPACE)]))
    plain = cma.CMAEvolutionStrategy(
        list(SPACE.defaults),
        0.3,
        {
            "randn": lambda *shape: generator.standard_normal(shape),
            "seed": np.nan,
            "popsize": 9,
            "bounds": [-1, 2],
            "CMA_stds": [knob.spread for knob in SPACE],
            "CMA_diagonal": diagonal,
            "updatecovwait": 0,
            "verbose": -9,
        },
    )
    means = []
    for _ in range(30):
        asked, expected = ours.ask(), plain.ask()
        assert np.array_equal(asked, np.array(expected))
        loss = np.square(asked - 0.4).sum(axis=1)
        ours.tell(asked, -loss)
        plain.tell(expected, list(loss))
        assert ours.sigma == plain.sigma
        means.append(plain.result.xfavorite)
        later = means[len(means) // 2 :]
        np.testing.assert_allclose(ours.recommend(), sum(later) / len(later), rtol=0, atol=1e-14)


@pytest.mark.parametrize("population_size", [4, 7, 10])
@pytest.mark.parametrize("diagonal", [False, True])
def test_mirrored_steps_come_in_pairs(diagonal: bool, population_size: int) -> None:
    """Far from bounds, which pycma would bend them at, every pair has its mean in the middle."""
    space = KnobSpace([Knob(f"knob.{index}", low=-1e6, high=1e6, default=0) for index in range(6)])
    search = CmaEs(
        space, start=space.defaults, seed=5, population_size=population_size, diagonal=diagonal, mirrored=True
    )
    plain = CmaEs(space, start=space.defaults, seed=5, population_size=population_size, diagonal=diagonal)
    for _ in range(8):
        population = search.ask()
        assert population.shape == (population_size, 6)
        middle = (population[: population_size // 2 * 2 : 2] + population[1::2]) / 2
        np.testing.assert_allclose(middle, np.broadcast_to(search._es.mean, middle.shape), rtol=0, atol=1e-6)
        assert len(np.unique(population, axis=0)) == population_size
        search.tell(population, -np.square(population - 1).sum(axis=1))
        other = plain.ask()
        distances = np.abs((other[: population_size // 2 * 2 : 2] + other[1::2]) / 2 - plain._es.mean)
        assert distances.max() > 0.01
        plain.tell(other, -np.square(other - 1).sum(axis=1))


def test_without_averaging_the_mean_itself_is_recommended() -> None:
    averaged, as_published = (CmaEs(SPACE, start=SPACE.defaults, seed=5, average=average) for average in (True, False))
    for _ in range(10):
        for search in (averaged, as_published):
            population = search.ask()
            search.tell(population, -np.square(population - 0.4).sum(axis=1))
        assert np.array_equal(as_published.recommend(), averaged._means[-1])
    assert not np.array_equal(as_published.recommend(), averaged.recommend())


def test_under_noise_the_averaged_recommendation_is_nearer_than_the_mean() -> None:
    """On a noisy sphere, what is recommended mostly lies nearer to the optimum than where the search is."""
    space = KnobSpace([Knob(f"knob{index}") for index in range(12)])
    nearer = 0
    for seed in range(20):
        optimizer = CmaEs(space, start=space.defaults, seed=seed, sigma0=0.3)
        noise = np.random.default_rng(seed)
        for _ in range(40):
            asked = optimizer.ask()
            optimizer.tell(asked, noise.normal(-np.square(asked - 0.7).sum(axis=1), 2.0))
        averaged, last = (np.square(point - 0.7).sum() for point in (optimizer.recommend(), optimizer._means[-1]))
        nearer += bool(averaged < last)
    assert nearer >= 15


def test_a_population_told_as_a_copy_is_the_population_asked() -> None:
    one, other = (CmaEs(SPACE, start=SPACE.defaults, seed=5) for _ in range(2))
    for _ in range(10):
        population = one.ask()
        one.tell(population, -np.square(population).sum(axis=1))
        copied = np.array(other.ask().tolist())
        other.tell(copied, -np.square(copied).sum(axis=1))
    assert np.array_equal(one.ask(), other.ask())


@pytest.mark.parametrize(("num_knobs", "size"), [(57, 16), (114, 18), (216, 20), (482, 22)])
def test_population_sizes_are_those_of_the_paper(num_knobs: int, size: int) -> None:
    assert default_population_size(num_knobs) == size
    space = KnobSpace([Knob(f"knob.{index}") for index in range(num_knobs)])
    for optimizer in (CmaEs, RandomSearch):
        assert len(optimizer(space, start=space.defaults, seed=0).ask()) == size


@pytest.mark.parametrize(("num_knobs", "size"), [(26, 64), (57, 128), (114, 128), (216, 256), (482, 256)])
def test_a_large_population_can_be_split_into_groups_of_eight(num_knobs: int, size: int) -> None:
    space = KnobSpace([Knob(f"knob.{index}") for index in range(num_knobs)])
    options = {"population_size": "large", "mirrored": True}
    made = Plugins().make("optimizers", "cma-es", options, space, start=space.defaults, seed=0)
    assert len(made.ask()) == size


@pytest.mark.parametrize("size", ["larg", 1, True])
def test_a_population_size_that_is_none_is_said_in_one_sentence(size: object) -> None:
    with pytest.raises(
        ConfigError, match="'population_size': should be a whole number from 2 to 100,000, or 'large', not "
    ):
        Plugins().make("optimizers", "cma-es", {"population_size": size}, SPACE, start=SPACE.defaults, seed=0)


def test_a_single_knob_can_be_searched() -> None:
    space = KnobSpace([Knob("only")])
    for make in (CmaEs, RandomSearch):
        optimizer = make(space, start=space.defaults, seed=0)
        for _ in range(20):
            population = optimizer.ask()
            optimizer.tell(population, -np.square(population[:, 0] - 1.5))
        assert optimizer.recommend() == pytest.approx([1.5], abs=0.1)


def test_sigma0_is_in_units_of_each_knob_s_spread() -> None:
    space = KnobSpace([Knob("fine", spread=0.1), Knob("coarse", low=-99, high=99, spread=10)])
    for make in (CmaEs, RandomSearch):
        samples = make(space, start=space.defaults, seed=0, sigma0=0.5, population_size=2000).ask()
        assert samples.std(axis=0) == pytest.approx([0.05, 5.0], rel=0.1)


def test_the_first_population_surrounds_the_start_it_was_given() -> None:
    start = np.full(len(SPACE), 0.2)
    for make in (CmaEs, RandomSearch):
        population = make(SPACE, start=start, seed=0, sigma0=0.01, population_size=200).ask()
        assert population.mean(axis=0) == pytest.approx(start, abs=0.01)


def test_blas_is_held_to_one_thread_while_asking_and_telling_and_let_go_after(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[int]] = []

    def spy(method: Any) -> Any:
        def watched(*arguments: Any) -> Any:
            seen.append([library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"])
            return method(*arguments)

        return watched

    optimizer = CmaEs(SPACE, start=SPACE.defaults, seed=0)
    monkeypatch.setattr(optimizer._es, "ask", spy(optimizer._es.ask))
    monkeypatch.setattr(optimizer._es, "tell", spy(optimizer._es.tell))
    before = threadpool_info()
    population = optimizer.ask()
    optimizer.tell(population, population.sum(axis=1))
    assert len(seen) == 2
    assert all(threads == [1] * len(threads) and threads for threads in seen)
    assert threadpool_info() == before


def test_a_file_in_the_working_folder_does_not_change_the_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cma_signals.in").write_text('{"timeout": 0}')
    monkeypatch.chdir(tmp_path)
    optimizer = CmaEs(SPACE, start=SPACE.defaults, seed=0)
    population = optimizer.ask()
    optimizer.tell(population, population.sum(axis=1))
    assert optimizer.stop_reason() is None
    assert [path.name for path in tmp_path.iterdir()] == ["cma_signals.in"]


def test_a_search_that_has_converged_says_why_it_stops() -> None:
    optimizer = CmaEs(SPACE, start=SPACE.defaults, seed=0)
    for _ in range(2000):
        population = optimizer.ask()
        optimizer.tell(population, -np.square(population - 0.5).sum(axis=1))
        if reason := optimizer.stop_reason():
            break
    assert reason and reason.startswith("CMA-ES stopped: ")
    assert np.abs(optimizer.recommend() - 0.5).max() < 1e-6


def test_random_search_recommends_the_fittest_it_has_seen() -> None:
    optimizer = RandomSearch(SPACE, start=SPACE.defaults, seed=0)
    best, best_fitness = SPACE.defaults, -np.inf
    for _ in range(5):
        population = optimizer.ask()
        fitness = -np.square(population).sum(axis=1)
        optimizer.tell(population, fitness)
        if fitness.max() > best_fitness:
            best, best_fitness = population[fitness.argmax()], fitness.max()
        assert np.array_equal(optimizer.recommend(), best)
    assert optimizer.sigma is None


@pytest.mark.parametrize(
    ("name", "more", "num_rows"),
    [
        ("cma-es", {"mirrored": True, "average": False, "diagonal": True}, 6),
        ("random", {}, 6),
        ("grouped", {"group_size": 2, "fade": 30}, 9),
        ("nevergrad:DE", {"budget": 600}, 6),
    ],
)
def test_the_registered_factories_make_them(name: str, more: dict[str, Any], num_rows: int) -> None:
    options = {"sigma0": 0.1, "population_size": 6, **more}
    made = Plugins().make("optimizers", name, options, SPACE, start=SPACE.defaults, seed=1)
    assert made.ask().shape == (num_rows, len(SPACE))


def test_a_population_too_small_for_so_many_knobs_is_refused() -> None:
    """pycma would spend both of two candidates on finding its step size, and then fail."""
    space = KnobSpace([Knob(f"knob.{index}") for index in range(1000)])
    with pytest.raises(ConfigError, match="population_size of 3 or more for 1000 knobs"):
        CmaEs(space, start=space.defaults, seed=0, population_size=2)
    search = CmaEs(space, start=space.defaults, seed=0, population_size=3)
    for _ in range(3):
        population = search.ask()
        search.tell(population, -np.square(population - 0.9).sum(axis=1))
