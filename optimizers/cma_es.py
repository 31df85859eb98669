"""CMA-ES by pycma, behind the ask/tell interface.

The sign of the fitness is flipped only here, because pycma minimises.
"""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

from ..engine.knobs import KnobSpace, Vector
from ..engine.seams import Optimizer, Population
from ..ground.errors import ConfigError
from .population import default_population_size
from .quiet import quietly

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # pycma warns on import if matplotlib is not installed
    import cma


class CmaEs(Optimizer):
    """The covariance matrix adaptation evolution strategy (Hansen and Ostermeier 2001; pycma).

    Args:
        space: Bounds and spreads; a knob's first standard deviation is `sigma0` times its spread.
        start: First mean, shape (num_knobs,).
        seed: Seeds a private generator; pycma's global seeding is switched off.
        sigma0: First step size, in units of the spreads. The paper uses 0.25 (Calibri, section 4).
        population_size: Candidates per generation; by default 4 + floor(3 ln num_knobs).
        diagonal: Adapt only a diagonal covariance (sep-CMA-ES, Ros and Hansen 2008).
        mirrored: Sample adjacent pairs of opposite steps (Brockhoff et al. 2010, PPSN XI). Near a bound, pycma bends
            both steps, so that they are no longer exact mirror images.
        average: Recommend an average of the means of later generations; otherwise the current mean, as published.

    Raises:
        ConfigError: If the population is too small for so many knobs.
    """

    def __init__(
        self,
        space: KnobSpace,
        *,
        start: Vector,
        seed: int,
        sigma0: float = 0.25,
        population_size: int | None = None,
        diagonal: bool = False,
        mirrored: bool = False,
        average: bool = True,
    ) -> None:
        generator = np.random.default_rng(np.random.SeedSequence([seed, len(space)]))
        size = population_size or default_population_size(len(space))
        low, high = space.bounds
        options = {
            "popsize": size,
            "bounds": [low.tolist(), high.tolist()],
            "CMA_stds": space.spreads,
            "CMA_diagonal": diagonal,
            "randn": _Mirrored(generator) if mirrored else lambda *shape: generator.standard_normal(shape),
            "seed": np.nan,  # leave numpy's global state alone
            "verbose": -9,
            "verb_log": 0,
            "signals_filename": "",  # a file in the working folder must not change the search
            "maxiter": np.inf,  # stopping early is the loop's decision
            "tolflatfitness": np.inf,
            "tolfun": 0,
            "tolfunhist": 0,
            "tolstagnation": np.inf,
            "updatecovwait": 0,  # decompose by count, never by clock
        }
        self._widest = float((high - low)[0]) / 3 if len(space) == 1 else None
        if self._widest is not None:
            options["maxstd"] = np.inf  # pycma's own limit, a third of the bounds, fails with one knob; see `tell`
        if mirrored:
            options["CMA_mirrors"] = 0  # switch off pycma's own mirroring of the worst candidates of small populations
        with quietly():
            self._es = cma.CMAEvolutionStrategy(np.array(start), sigma0, options)
        if self._es.mean_shift_samples and size < 3:  # of two, pycma would take both for its step size
            raise ConfigError(f"optimizer 'cma-es' needs a population_size of 3 or more for {len(space)} knobs")
        self._average = average
        self._asked: list[Vector] = []
        self._means: list[Vector] = []

    def ask(self) -> Population:
        """Sample the population. See `Optimizer.ask`."""
        with quietly():
            self._asked = self._es.ask()
        return np.array(self._asked, dtype=np.float64)

    def tell(self, population: Population, fitness: Vector) -> None:
        """Move mean, step size and covariance. See `Optimizer.tell`."""
        if len(population) != len(fitness):
            raise ValueError(f"{len(population)} candidates need as many fitness values, not {len(fitness)}")
        asked = self._asked if np.array_equal(population, np.array(self._asked)) else list(population)
        with quietly():
            self._es.tell(asked, [-float(value) for value in fitness])
            if self._widest is not None:
                self._es.sigma *= min(1.0, self._widest / float(self._es.stds[0]))
        self._means.append(np.array(self._es.result.xfavorite, dtype=np.float64))

    def recommend(self) -> Vector:
        """Return the distribution's mean, averaged over the later half of the generations. See `Optimizer.recommend`.

        Under noise, the mean wanders around the optimum, and the average of past means is closer to the optimum (Polyak
        and Juditsky 1992).
        """
        if not self._means or not self._average:
            return np.array(self._es.result.xfavorite, dtype=np.float64)
        return np.array(np.mean(self._means[len(self._means) // 2 :], axis=0), dtype=np.float64)

    def stop_reason(self) -> str | None:
        """Return pycma's own reasons to stop, which are numerical limits of step size and covariance, or None."""
        reasons = self._es.stop()
        return "CMA-ES stopped: " + ", ".join(f"{name} {value}" for name, value in reasons.items()) if reasons else None

    @property
    def sigma(self) -> float:
        """The step size, in units of the spreads."""
        return float(self._es.sigma)


class _Mirrored:
    """A source of normal numbers in which every second row is the negative of the row before."""

    def __init__(self, generator: np.random.Generator) -> None:
        self._generator = generator

    def __call__(self, *shape: int) -> NDArray[np.float64]:
        if len(shape) != 2:
            return self._generator.standard_normal(shape)
        half = self._generator.standard_normal(((shape[0] + 1) // 2, shape[1]))
        return np.stack([half, -half], axis=1).reshape(-1, shape[1])[: shape[0]]
