"""Ask/tell searchers. They work in vectors and know nothing of models."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ..engine.hooks import Register, hookimpl
from ..engine.knobs import KnobSpace, Vector
from ..engine.seams import Optimizer

PopulationSize = Annotated[int, Field(ge=2)]


def make_cma_es(
    space: KnobSpace,
    *,
    start: Vector,
    seed: int,
    sigma0: Annotated[float, Field(gt=0)] = 0.25,
    population_size: PopulationSize | None = None,
    diagonal: bool = False,
) -> Optimizer:
    """CMA-ES by pycma, with the paper's defaults: sigma0 0.25, population size 4 + floor(3 ln d)."""
    from .cma_es import CmaEs

    return CmaEs(space, start=start, seed=seed, sigma0=sigma0, population_size=population_size, diagonal=diagonal)


def make_random_search(
    space: KnobSpace,
    *,
    start: Vector,
    seed: int,
    sigma0: Annotated[float, Field(gt=0)] = 0.25,
    population_size: PopulationSize | None = None,
) -> Optimizer:
    """Samples around the start with a fixed spread: the baseline that every comparison needs."""
    from .random_search import RandomSearch

    return RandomSearch(space, start=start, seed=seed, sigma0=sigma0, population_size=population_size)


@hookimpl
def register_optimizers(register: Register) -> None:
    """Name the built-in searchers."""
    register("cma-es", make_cma_es)
    register("random", make_random_search)
