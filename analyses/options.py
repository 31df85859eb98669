"""Options of several values, as a command line gives them: `steps=4,8` or `steps=[4,8]`."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field

from ..engine.schema import Count, Seed, listed


def several(value: object) -> object:
    """Take the words of a text apart at its commas, and wrap a single value in a list."""
    return _apart(value) if isinstance(value, str) else listed(value)


def _apart(value: object) -> object:
    return [word.strip() for word in value.split(",")] if isinstance(value, str) else value


#: How many searches, or the seed of each.
Seeds = Annotated[Count | Annotated[tuple[Seed, ...], Field(min_length=1)], BeforeValidator(_apart)]
Words = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], BeforeValidator(several)]
