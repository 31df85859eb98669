"""Rewards, and ways of combining them."""

from __future__ import annotations

from ..engine.bucket import PromptSet
from ..engine.hooks import Register, hookimpl
from ..engine.seams import Objective


def make_shapes() -> Objective:
    """How well a picture of the shapes world shows its prompt, from 0 to 1."""
    from .shapes.reward import ShapesReward

    return ShapesReward()


def make_shapes_prompts() -> PromptSet:
    """The disjoint prompts of the shapes world."""
    from .shapes.scenes import prompts

    return PromptSet(
        tuple(prompts("train")),
        tuple(prompts("validation")),
        tuple(prompts("test")),
        source="prompts 'shapes'",
    )


@hookimpl
def register_objectives(register: Register) -> None:
    """Name the built-in rewards."""
    register("shapes", make_shapes)


@hookimpl
def register_prompts(register: Register) -> None:
    """Name the built-in prompts."""
    register("shapes", make_shapes_prompts)
