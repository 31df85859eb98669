"""Ask/tell optimizers. They work on vectors and know nothing about models."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from ..engine.hooks import Register, hookimpl
from ..engine.knobs import KnobSpace, Vector
from ..engine.seams import Optimizer
from ..ground.errors import ConfigError

MOST = 100_000  # candidates per generation
PopulationSize = Annotated[int, Field(ge=2, le=MOST)]
Sigma0 = Annotated[float, Field(ge=1e-9, le=1e6)]  # in units of the spreads; outside, rounding errors swallow a step
Positive = Annotated[float, Field(ge=1e-9, le=1e9)]


def _large_or_size(value: object) -> object:
    if value is None or value == "large" or (type(value) is int and 2 <= value <= MOST):
        return value
    raise ValueError(f"should be a whole number from 2 to {MOST:,}, or 'large'")


LargeOrSize = Annotated[int | Literal["large"], BeforeValidator(_large_or_size)]


def _known(method: str) -> str:
    from .nevergrad_search import registered

    registered(method)
    return method


def make_cma_es(
    space: KnobSpace,
    *,
    start: Vector,
    seed: int,
    sigma0: Sigma0 = 0.25,
    population_size: LargeOrSize | None = None,
    population_factor: Annotated[int, Field(ge=1, le=1000)] = 1,
    diagonal: bool = False,
    mirrored: bool = False,
    average: bool = True,
) -> Optimizer:
    """CMA-ES by pycma, with the paper's defaults: sigma0 0.25, population 4 + floor(3 ln d); `large` is 64 to 256."""
    from .cma_es import CmaEs
    from .population import default_population_size, large_population_size

    if population_size == "large":
        population_size = large_population_size(len(space))
    return CmaEs(
        space,
        start=start,
        seed=seed,
        sigma0=sigma0,
        population_size=population_size or population_factor * default_population_size(len(space)),
        diagonal=diagonal,
        mirrored=mirrored,
        average=average,
    )


def make_grouped(
    space: KnobSpace,
    *,
    start: Vector,
    seed: int,
    sigma0: Sigma0 = 0.25,
    population_size: PopulationSize | None = None,
    group_size: PopulationSize = 8,
    fade: Positive | None = None,
    drop: Positive = 1.0,
) -> Optimizer:
    """Grouped search: many small groups, each on its own prompt; use it with bucket_size 1."""
    from .grouped import GroupedSearch

    return GroupedSearch(
        space,
        start=start,
        seed=seed,
        sigma0=sigma0,
        population_size=population_size,
        group_size=group_size,
        fade=fade,
        drop=drop,
    )


def make_nevergrad(
    space: KnobSpace,
    *,
    start: Vector,
    seed: int,
    method: Annotated[str, AfterValidator(_known)],
    sigma0: Sigma0 = 0.25,
    population_size: PopulationSize | None = None,
    budget: Annotated[int, Field(ge=1)] | None = None,
) -> Optimizer:
    """Any optimizer of nevergrad that can search with a population, such as `nevergrad:TwoPointsDE`."""
    from .nevergrad_probe import refusal
    from .nevergrad_search import Nevergrad

    if reason := refusal(method, space, population_size, budget):
        if budget is None and refusal(method, space, population_size, 1000) is None:
            raise ConfigError(
                f"optimizer 'nevergrad:{method}' needs the option 'budget', the total number of evaluations: "
                f"generations times population_size"
            )
        raise ConfigError(f"nevergrad's {method} cannot search here, because it {reason}; choose another method")
    return Nevergrad(
        space, start=start, seed=seed, method=method, sigma0=sigma0, population_size=population_size, budget=budget
    )


def make_random_search(
    space: KnobSpace,
    *,
    start: Vector,
    seed: int,
    sigma0: Sigma0 = 0.25,
    population_size: PopulationSize | None = None,
) -> Optimizer:
    """Random samples around the start with a fixed spread: a baseline for comparisons."""
    from .random_search import RandomSearch

    return RandomSearch(space, start=start, seed=seed, sigma0=sigma0, population_size=population_size)


@hookimpl
def register_optimizers(register: Register) -> None:
    """Register the built-in optimizers by name."""
    register("cma-es", make_cma_es)
    register("grouped", make_grouped)
    register("nevergrad", make_nevergrad)
    register("random", make_random_search)
