"""What trimpot is told of this package."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from trimpot import Adapter, Objective, hookimpl

from .chords import chords


def loudspeaker(*, hiss: Annotated[float, Field(ge=0)] = 0.05) -> Adapter:
    """A crooked loudspeaker behind a six-band equaliser."""
    from .loudspeaker import Loudspeaker

    return Loudspeaker(hiss)


def fidelity() -> Objective:
    """How much it sounds like the chord, from 0 to 1."""
    from .fidelity import Fidelity

    return Fidelity()


@hookimpl
def register_adapters(register):
    register("loudspeaker", loudspeaker)


@hookimpl
def register_objectives(register):
    register("fidelity", fidelity)


@hookimpl
def register_prompts(register):
    register("chords", chords)
