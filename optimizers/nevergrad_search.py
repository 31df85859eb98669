"""The optimizers of nevergrad, behind the ask/tell interface (Rapin and Teytaud 2018).

The sign of the fitness is flipped only here, because nevergrad minimises.
"""

from __future__ import annotations

import copy
import random
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..engine.knobs import KnobSpace, Vector
from ..engine.seams import Optimizer, Population
from ..ground.errors import ConfigError, near_misses
from ..ground.extras import require
from .population import default_population_size
from .quiet import quietly

_alone = threading.RLock()  # there is one global random state in a process


class Nevergrad(Optimizer):
    """One of nevergrad's optimizers, by name.

    The search space is an array around the start, in units of the spreads, with bounds enforced by nevergrad. Several
    methods draw from numpy's global generator. While nevergrad runs, a private state replaces the global state, so that
    the caller's state is neither read nor written.

    Args:
        space: Bounds and spreads.
        start: Start of the search, shape (num_knobs,).
        seed: Seeds the private random states.
        method: The method's name in nevergrad's registry.
        sigma0: First standard deviation, in units of the spreads, for methods that have one.
        population_size: Candidates per generation, passed to nevergrad as the number of workers; by default
            4 + floor(3 ln num_knobs).
        budget: Total number of evaluations, if known. Some methods adapt to the budget or require it.

    Raises:
        ConfigError: If there is no such method, or it cannot work on a population.
    """

    def __init__(
        self,
        space: KnobSpace,
        *,
        start: Vector,
        seed: int,
        method: str,
        sigma0: float = 0.25,
        population_size: int | None = None,
        budget: int | None = None,
    ) -> None:
        self._size = population_size or default_population_size(len(space))
        self._low, self._high = space.bounds
        self._start, self._unit = np.array(start, dtype=np.float64), space.spreads
        sequence = np.random.SeedSequence([seed, len(space)])
        self._state = GlobalState(sequence)
        self._told = False
        self._asked: list[Any] = []
        self._population: Population = np.empty((0, len(space)))
        kind = copy.deepcopy(registered(method))  # a search of one knob would change the methods that all share
        if kind.no_parallelization:
            raise ConfigError(
                f"nevergrad's {method} evaluates one candidate at a time; "
                f"choose a method that can search a population, such as 'nevergrad:DiagonalCMA'"
            )
        with self._state.in_place():
            import nevergrad

            array = nevergrad.p.Array(init=np.zeros(len(space))).set_mutation(sigma=sigma0)
            below, above = (self._low - self._start) / self._unit, (self._high - self._start) / self._unit
            array.set_bounds(below, above, full_range_sampling=False)
            array.random_state = np.random.RandomState(sequence.generate_state(2)[1])
            try:
                self._search = kind(parametrization=array, budget=budget, num_workers=self._size)
            except Exception as error:  # hundreds of methods, each with limits of its own
                raise ConfigError(_sentence(method, "cannot be made", error)) from error

    def ask(self) -> Population:
        """Ask for as many candidates as there are workers. See `Optimizer.ask`."""
        with self._state.in_place():
            self._asked = [self._search.ask() for _ in range(self._size)]
        values = np.array([candidate.value for candidate in self._asked], dtype=np.float64)
        self._population = self._inside(values)
        return np.array(self._population)

    def tell(self, population: Population, fitness: Vector) -> None:
        """Tell each candidate's loss. See `Optimizer.tell`."""
        if len(population) != len(fitness):
            raise ValueError(f"{len(population)} candidates need as many fitness values, not {len(fitness)}")
        assert np.array_equal(population, self._population), "nevergrad can be told only what it asked"
        with self._state.in_place():
            for candidate, value in zip(self._asked, fitness, strict=True):
                self._search.tell(candidate, -float(value))
        self._told = True

    def recommend(self) -> Vector:
        """Return the method's recommendation; for many methods, under noise, the luckiest point.

        See `Optimizer.recommend`.
        """
        if not self._told:
            return np.array(self._start)
        with self._state.in_place(keep=False):
            value = self._search.provide_recommendation().value
        return self._inside(np.asarray(value, dtype=np.float64))

    def _inside(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Convert values of nevergrad's array to knob values, clipped to the bounds that rounding may exceed."""
        inside: NDArray[np.float64] = np.clip(self._start + self._unit * values, self._low, self._high)
        return inside


class GlobalState:
    """A private state of the global generators of `random` and numpy."""

    def __init__(self, sequence: np.random.SeedSequence) -> None:
        self._python = random.Random(int(sequence.generate_state(1)[0])).getstate()
        self._numpy: Any = np.random.RandomState(sequence.generate_state(1)[0]).get_state()

    @contextmanager
    def in_place(self, keep: bool = True) -> Iterator[None]:
        """Replace the caller's state by this one within the block; with `keep`, this state advances."""
        with _alone, quietly():
            python, numpy = random.getstate(), np.random.get_state()
            random.setstate(self._python)
            np.random.set_state(self._numpy)
            try:
                yield
            finally:
                if keep:
                    self._python, self._numpy = random.getstate(), np.random.get_state()
                random.setstate(python)
                np.random.set_state(numpy)


def registry() -> Any:
    """Return nevergrad's optimizers by name.

    A few optimizers are composed from random numbers while nevergrad is imported, so the import has its own state.

    Raises:
        MissingError: If nevergrad is not installed.
    """
    require("optimizer 'nevergrad'", "nevergrad")
    if "nevergrad" in sys.modules:
        import nevergrad
    else:
        with GlobalState(np.random.SeedSequence(0)).in_place():
            import nevergrad
    from nevergrad.optimization import metamodel

    metamodel.float = _number
    return nevergrad.optimizers.registry


def _number(value: Any) -> float:
    """Return an array's only element; nevergrad 1.0.12 passes such arrays to `float`, which numpy 2.4 refuses."""
    return float(np.asarray(value).item())


def registered(method: str) -> Any:
    """Find an optimizer of nevergrad.

    Raises:
        ConfigError: If there is no such optimizer; the message lists similar names.
    """
    known = registry()
    if method not in known:
        others = known if get_close_matches(method, known) else ("CMA", "DE", "DiagonalCMA", "NGOpt", "PSO", "TBPSA")
        raise ConfigError(f"nevergrad has no optimizer {method!r}; {near_misses(method, others)}")
    return known[method]


def _sentence(method: str, what: str, error: Exception) -> str:
    reason = " ".join(str(error).split()) or type(error).__name__
    return f"nevergrad's {method} {what} here: {reason}"
