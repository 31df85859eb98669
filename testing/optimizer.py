"""The contract of optimizers."""

from __future__ import annotations

import random
from typing import ClassVar

import numpy as np
import pytest

from ..engine.knobs import Knob, KnobSpace, Vector
from ..engine.seams import Optimizer, Population
from ..engine.vetting import HeldOptimizer

SPACE = KnobSpace([Knob(f"knob.{index}", spread=1 + index / 10) for index in range(8)])


class OptimizerContract:
    """Tests of an optimizer. Inherit, and override `make`.

    Attributes:
        improves: Whether the optimizer claims to climb a noisy hill; a plain sampler does not.
        num_generations: Generations within which the optimizer should have climbed the hill.
        fewest_knobs: The smallest number of knobs that the optimizer searches; its factory refuses fewer.
    """

    improves: ClassVar[bool] = True
    fewest_knobs: ClassVar[int] = 1
    num_generations: ClassVar[int] = 60

    def make(self, space: KnobSpace, start: Vector, seed: int) -> Optimizer:
        """Make a new optimizer that starts at `start`, shape (num_knobs,)."""
        raise NotImplementedError("override make()")

    def test_populations_have_the_right_shape_and_lie_inside_the_bounds(self) -> None:
        """Every population has the shape (population_size, num_knobs), finite and in bounds, even from a corner."""
        space = KnobSpace([Knob(f"knob.{index}", low=0.9, high=1.0, spread=2.0) for index in range(4)])
        optimizer = self.make(space, space.defaults, 0)
        low, high = space.bounds
        sizes = set()
        for generation in range(10):
            population = optimizer.ask()
            sizes.add(population.shape)
            assert population.dtype == np.float64
            assert np.all(np.isfinite(population))
            assert np.all((population >= low) & (population <= high))
            optimizer.tell(population, population.sum(axis=1) + generation)
        [(population_size, num_knobs)] = sizes
        assert population_size >= 2
        assert num_knobs == len(space)

    def test_the_same_seed_and_fitness_ask_the_same_populations(self) -> None:
        """Populations are bit-identical, because resuming replays the search."""
        assert np.array_equal(self._history(self._fresh(seed=3)), self._history(self._fresh(seed=3)))

    def test_another_seed_asks_other_populations(self) -> None:
        """The seed reaches the generator, including the seed 0."""
        first = self._fresh(seed=0).ask()
        assert not np.array_equal(first, self._fresh(seed=1).ask())
        assert np.array_equal(first, self._fresh(seed=0).ask())

    def test_two_optimizers_do_not_disturb_each_other(self) -> None:
        """Interleaved with another, an optimizer asks the same populations as alone."""
        alone = self._history(self._fresh(seed=3))
        optimizer, other = self._fresh(seed=3), self._fresh(seed=4)
        together = []
        for _ in range(5):
            population, distraction = optimizer.ask(), other.ask()
            together.append(population)
            other.tell(distraction, distraction.sum(axis=1))
            optimizer.tell(population, _hill(population))
        assert np.array_equal(alone, np.stack(together))

    def test_global_random_state_is_neither_read_nor_written(self) -> None:
        """The global state of `random` and `numpy.random` belongs to the caller."""
        python_state, numpy_state = random.getstate(), np.random.get_state()
        try:
            histories = []
            for seed in (1, 2):
                random.seed(seed)
                np.random.seed(seed)
                before = random.getstate(), str(np.random.get_state())
                histories.append(self._history(self._fresh(seed=3)))
                assert (random.getstate(), str(np.random.get_state())) == before
            assert np.array_equal(histories[0], histories[1])
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)

    def test_the_recommendation_is_a_point_inside_the_bounds(self) -> None:
        """At any time, before and after `tell`, `recommend` returns a valid setting."""
        optimizer = self._fresh(seed=0)
        low, high = SPACE.bounds
        for _ in range(5):
            recommended = optimizer.recommend()
            assert recommended.shape == (len(SPACE),)
            assert np.all((recommended >= low) & (recommended <= high))
            population = optimizer.ask()
            optimizer.tell(population, _hill(population))

    def test_the_first_recommendation_is_the_start(self) -> None:
        """Before the first `tell`, the recommendation equals the start."""
        assert np.allclose(self._fresh(seed=0).recommend(), SPACE.defaults, rtol=0, atol=1e-12)

    def test_recommending_changes_nothing(self) -> None:
        """Calling `recommend` at any time does not change the search."""
        optimizer = self._fresh(seed=3)
        looked_at = []
        for _ in range(5):
            optimizer.recommend()
            optimizer.stop_reason()
            looked_at.append(population := optimizer.ask())
            optimizer.recommend()[:] = 0  # the recommendation is a copy
            optimizer.tell(population, _hill(population))
        assert np.array_equal(np.stack(looked_at), self._history(self._fresh(seed=3)))

    def test_as_many_fitness_values_as_candidates_are_required(self) -> None:
        """A length mismatch is an error that names both lengths."""
        optimizer = self._fresh(seed=0)
        population = optimizer.ask()
        with pytest.raises(ValueError, match=rf"{len(population)}.*{len(population) - 1}"):
            optimizer.tell(population, np.zeros(len(population) - 1))

    def test_it_is_told_what_it_asked_and_once(self) -> None:
        """Telling without asking, telling twice, or telling another population is an error and changes nothing.

        A run checks this for every optimizer (`HeldOptimizer`), so that an optimizer need not check it.
        """
        held = HeldOptimizer(self._fresh(seed=3), SPACE, "the optimizer")
        populations = []
        for _ in range(5):
            with pytest.raises(ValueError, match="told without being asked"):
                held.tell(np.zeros((4, len(SPACE))), np.zeros(4))
            populations.append(population := held.ask())
            fitness = _hill(population)
            for other in (population[::-1], population[:-1], population + 1e-9, population[:, :-1]):
                with pytest.raises(ValueError, match="told another population than it asked for"):
                    held.tell(other, fitness[: len(other)])
            for wrong in (fitness[:-1], np.append(fitness, 0.0), fitness[:, None]):
                with pytest.raises(ValueError, match=f"{len(population)} candidates need as many"):
                    held.tell(population, wrong)
            for lost in (np.nan, np.inf):
                with pytest.raises(ValueError, match="not finite"):
                    held.tell(population, np.append(fitness[:-1], lost))
            held.tell(population.copy(), fitness)
            with pytest.raises(ValueError, match="told without being asked"):
                held.tell(population, fitness)
        assert np.array_equal(np.stack(populations), self._history(self._fresh(seed=3)))

    def test_there_is_no_reason_to_stop_before_the_first_generation(self) -> None:
        """A new optimizer has no reason to stop."""
        assert self._fresh(seed=0).stop_reason() is None

    def test_a_flat_reward_never_breaks_it(self) -> None:
        """A reward that gives all candidates the same score may end the search with a reason, but raises no error."""
        optimizer = self._fresh(seed=0)
        for _ in range(40):
            population = optimizer.ask()
            optimizer.tell(population, np.zeros(len(population)))
            reason = optimizer.stop_reason()
            assert reason is None or (isinstance(reason, str) and reason)

    def test_a_population_is_a_whole_number_of_groups(self) -> None:
        """If the optimizer has a group size, it is at least 2 and divides the population size."""
        optimizer = self._fresh(seed=0)
        size = optimizer.group_size
        if size is None:
            pytest.skip("this optimizer has one group")
        for _ in range(3):
            population = optimizer.ask()
            assert 2 <= size <= len(population)
            assert len(population) % size == 0
            assert optimizer.group_size == size
            optimizer.tell(population, _hill(population))

    def test_what_all_of_a_group_have_in_common_changes_nothing(self) -> None:
        """Adding a constant to the fitness of a whole group, such as a prompt's difficulty, changes no population."""
        size = self._fresh(seed=0).group_size
        if size is None:
            pytest.skip("this optimizer has one group")
        plain, shifted = self._fresh(seed=3), self._fresh(seed=3)
        for generation in range(5):
            population, other = plain.ask(), shifted.ask()
            np.testing.assert_allclose(other, population, rtol=0, atol=1e-9)
            luck = np.random.default_rng(generation).standard_normal(len(population) // size)
            plain.tell(population, _hill(population))
            shifted.tell(other, _hill(other) + np.repeat(luck, size))

    def test_it_climbs_a_noisy_hill(self) -> None:
        """From a start at distance 0.8, the optimizer comes much closer to the top than noise alone would bring it."""
        if not self.improves:
            pytest.skip("this optimizer does not claim to improve")
        for seed in range(3):
            noise = np.random.default_rng(seed)
            optimizer = self._fresh(seed)
            for _ in range(self.num_generations):
                population = optimizer.ask()
                fitness = _hill(population) + 0.02 * noise.standard_normal(len(population))
                optimizer.tell(population, _centred(fitness, optimizer.group_size))
            before, after = _hill(np.stack([SPACE.defaults, optimizer.recommend()]))
            assert before < after
            assert after > 0.1 * before, f"seed {seed}: from {before:.3f} only to {after:.3f}, the top is 0"

    @pytest.mark.parametrize("num_knobs", [1, 2, 3])
    @pytest.mark.parametrize("top", [0.2, 0.7, 1.5], ids=["at the lower bound", "within", "at the upper bound"])
    def test_few_knobs_are_searched_to_either_bound(self, num_knobs: int, top: float) -> None:
        """With one to three knobs and the top anywhere, candidates stay in bounds and, if it climbs, it comes near."""
        if num_knobs < self.fewest_knobs:
            pytest.skip("this optimizer does not claim to search so few knobs")
        space = KnobSpace([Knob(f"knob.{index}", low=0.2, high=1.5) for index in range(num_knobs)])
        optimizer = self.make(space, space.defaults, 0)
        for _ in range(self.num_generations):
            population = optimizer.ask()
            assert population.shape[1] == num_knobs and np.all((population >= 0.2) & (population <= 1.5))
            fitness: Vector = -np.square(population - top).sum(axis=1)
            optimizer.tell(population, _centred(fitness, optimizer.group_size))
            if optimizer.stop_reason():
                break
        recommended = optimizer.recommend()
        assert np.all((recommended >= 0.2) & (recommended <= 1.5))
        assert not self.improves or np.all(abs(recommended - top) < 0.2), recommended

    def _fresh(self, seed: int) -> Optimizer:
        return self.make(SPACE, SPACE.defaults, seed)

    def _history(self, optimizer: Optimizer) -> Population:
        populations = []
        for _ in range(5):
            populations.append(population := optimizer.ask())
            optimizer.tell(population, _hill(population))
        return np.stack(populations)


def _hill(population: Population) -> Vector:
    """Score a sphere whose top has the alternating coordinates 1.2 and 0.6; returns shape (population_size,)."""
    top = np.where(np.arange(population.shape[1]) % 2 == 0, 1.2, 0.6)
    fitness: Vector = -np.square(population - top).sum(axis=1)
    return fitness


def _centred(fitness: Vector, group_size: int | None) -> Vector:
    """Return fitness as the engine tells it: with several groups, minus the mean of each group."""
    if group_size is None:
        return fitness
    groups = fitness.reshape(-1, group_size)
    return np.ravel(groups - groups.mean(axis=1, keepdims=True))
