"""Search spaces with a known best setting, for comparing searchers and for tests without a model.

An output is a number. The objective `value` returns this number, and the prompts `numbers` fit all of these spaces.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ...engine.bucket import PromptSet
from ...engine.hooks import Register, hookimpl
from ...engine.seams import Adapter

NumKnobs = Annotated[int, Field(ge=1, le=2000)]
Noise = Annotated[float, Field(ge=0, le=1e30)]
Variant = Literal[
    "default", "noisy", "quiet", "flat", "steep", "sparse", "dense", "separable", "coupled", "rugged"
]  # fmt: skip
NUM_PROMPTS = (5600, 1000, 2000)


def make_sphere(*, num_knobs: NumKnobs = 57, noise: Noise = 0.1, world: int = 0) -> Adapter:
    """A sphere: all knobs matter equally."""
    from .closed_forms import sphere

    return sphere(num_knobs, noise, world)


def make_ellipsoid(
    *,
    num_knobs: NumKnobs = 57,
    noise: Noise = 0.1,
    world: int = 0,
    condition: Annotated[float, Field(ge=1, le=1e12)] = 1e3,
) -> Adapter:
    """A rotated ellipsoid: knobs interact, and some directions matter far more than others."""
    from .closed_forms import ellipsoid

    return ellipsoid(num_knobs, noise, world, condition)


def make_low_effective_dimension(
    *, num_knobs: NumKnobs = 114, noise: Noise = 0.1, world: int = 0, effective: NumKnobs = 8
) -> Adapter:
    """A sphere in a few directions of many knobs; all other directions change nothing."""
    from .closed_forms import low_effective_dimension

    return low_effective_dimension(num_knobs, noise, world, effective)


def make_simulated(
    *, num_knobs: Literal[57, 76, 114, 216, 482] = 114, variant: Variant = "default", world: int = 0
) -> Adapter:
    """The simulated reward of a calibrated model, with the effects of prompts and seeds on its scores."""
    from .simulated import SimulatedReward

    return SimulatedReward(num_knobs, variant, world)


def make_bounded(*, num_knobs: Literal[57, 76, 114, 216, 482] = 114, world: int = 0) -> Adapter:
    """A simulated reward from 0 to 1 that saturates and breaks down far from neutral, with prompts that disagree."""
    from .bounded import BoundedReward

    return BoundedReward(num_knobs, world)


def make_numbers() -> PromptSet:
    """Prompts for spaces without images: 5,600 to train on, 1,000 to validate and 2,000 to test."""
    train, validation, test = NUM_PROMPTS
    names = tuple(f"number {number}" for number in range(train + validation + test))
    return PromptSet(
        names[:train], names[train : train + validation], names[train + validation :], source="prompts 'numbers'"
    )


@hookimpl
def register_adapters(register: Register) -> None:
    """Register the spaces by name."""
    register("sphere", make_sphere)
    register("ellipsoid", make_ellipsoid)
    register("low-effective-dimension", make_low_effective_dimension)
    register("simulated", make_simulated)
    register("simulated-bounded", make_bounded)


@hookimpl
def register_prompts(register: Register) -> None:
    """Register the prompts of these spaces by name."""
    register("numbers", make_numbers)
