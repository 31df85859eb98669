"""Random search, a baseline for comparisons."""

from __future__ import annotations

import numpy as np

from ..engine.knobs import KnobSpace, Vector
from ..engine.seams import Optimizer, Population
from .population import default_population_size


class RandomSearch(Optimizer):
    """Independent normal samples around the start, clipped to the bounds.

    The recommendation is the fittest sample so far, because there is no distribution with a mean. Under noise, luck
    therefore affects this optimizer most.

    Args:
        space: Bounds and spreads.
        start: Centre of the samples, shape (num_knobs,).
        seed: Seeds a private generator.
        sigma0: Standard deviation in units of the spreads.
        population_size: Candidates per generation; by default as for CMA-ES.
    """

    def __init__(
        self,
        space: KnobSpace,
        *,
        start: Vector,
        seed: int,
        sigma0: float = 0.25,
        population_size: int | None = None,
    ) -> None:
        self._generator = np.random.default_rng(np.random.SeedSequence([seed, len(space)]))
        self._low, self._high = space.bounds
        self._start = np.array(start, dtype=np.float64)
        self._width = sigma0 * space.spreads
        self._size = population_size or default_population_size(len(space))
        self._best: Vector = self._start
        self._best_fitness = -np.inf

    def ask(self) -> Population:
        """Sample around the start. See `Optimizer.ask`."""
        steps = self._generator.standard_normal((self._size, len(self._start)))
        population: Population = np.clip(self._start + steps * self._width, self._low, self._high)
        return population

    def tell(self, population: Population, fitness: Vector) -> None:
        """Remember the fittest. See `Optimizer.tell`."""
        if len(population) != len(fitness):
            raise ValueError(f"{len(population)} candidates need as many fitness values, not {len(fitness)}")
        best = int(np.argmax(fitness))
        if fitness[best] > self._best_fitness:
            self._best, self._best_fitness = np.array(population[best]), float(fitness[best])

    def recommend(self) -> Vector:
        """Return the fittest sample. See `Optimizer.recommend`."""
        return np.array(self._best, dtype=np.float64)
