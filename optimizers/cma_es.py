"""CMA-ES through pycma, behind the ask/tell seam.

This is the one place where the sign flips: pycma minimises.
"""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

from ..engine.knobs import KnobSpace, Vector
from ..engine.seams import Optimizer, Population
from .population import default_population_size
from .quiet import quietly

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # pycma warns on import where matplotlib is not installed
    import cma


class CmaEs(Optimizer):
    """The covariance matrix adaptation evolution strategy (Hansen and Ostermeier 2001; pycma).

    Args:
        space: Bounds and spreads; a knob's first standard deviation is `sigma0` times its spread.
        start: First mean, shape (num_knobs,).
        seed: Drives a generator of its own; pycma's global seeding is switched off.
        sigma0: First step size, in units of the spreads. The paper's is 0.25 (Calibri, section 4).
        population_size: Candidates a generation; by default 4 + floor(3 ln num_knobs).
        diagonal: Adapt a diagonal covariance only (sep-CMA-ES, Ros and Hansen 2008).
        mirrored: Sample pairs of opposite steps, next to each other (Brockhoff et al. 2010, PPSN XI). They mirror
            each other where no bound is near; there, pycma bends both.
        average: Recommend an average of the mean over later generations; otherwise the mean as it is, as published.
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
        if mirrored:
            options["CMA_mirrors"] = 0  # pycma's own, of the worst candidates of small populations
        with quietly():
            self._es = cma.CMAEvolutionStrategy(np.array(start), sigma0, options)
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
        self._means.append(np.array(self._es.result.xfavorite, dtype=np.float64))

    def recommend(self) -> Vector:
        """The distribution's mean, averaged over the later half of the generations. See `Optimizer.recommend`.

        Under noise the mean wanders about the optimum; the average of where it has been lies nearer (Polyak and
        Juditsky 1992).
        """
        if not self._means or not self._average:
            return np.array(self._es.result.xfavorite, dtype=np.float64)
        return np.array(np.mean(self._means[len(self._means) // 2 :], axis=0), dtype=np.float64)

    def stop_reason(self) -> str | None:
        """Reasons of pycma itself: numerical limits of step size and covariance."""
        reasons = self._es.stop()
        return "CMA-ES stopped: " + ", ".join(f"{name} {value}" for name, value in reasons.items()) if reasons else None

    @property
    def sigma(self) -> float:
        """Step size, in units of the spreads."""
        return float(self._es.sigma)


class _Mirrored:
    """Normal numbers of which every second row is the one before with its sign turned."""

    def __init__(self, generator: np.random.Generator) -> None:
        self._generator = generator

    def __call__(self, *shape: int) -> NDArray[np.float64]:
        if len(shape) != 2:
            return self._generator.standard_normal(shape)
        half = self._generator.standard_normal(((shape[0] + 1) // 2, shape[1]))
        return np.stack([half, -half], axis=1).reshape(-1, shape[1])[: shape[0]]
