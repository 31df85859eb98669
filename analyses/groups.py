"""Groups of knobs that are scaled together: the blocks, layers or gates of a backbone, in all its members."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from ..engine.seams import Adapter
from ..ground.errors import ConfigError, ModelError
from ..reports.knob_groups import group_knobs

Granularity = Literal["block", "layer", "gate", "knob"]
_MEMBER = re.compile(r"member\d+\.(?=.)")


@dataclass(frozen=True)
class Group:
    """Knobs that are scaled together.

    Attributes:
        name: The block, layer or gate, such as `double.07`.
        knobs: The names of the knobs.
        depth: Where it stands in the backbone, counted from 0.
        line: What it is at its depth, such as `attn.image`; of a block its kind.
    """

    name: str
    knobs: tuple[str, ...]
    depth: int
    line: str


def groups_of(adapter: Adapter, granularity: Granularity) -> tuple[Group, ...]:
    """Return the groups of a backbone's knobs, in the order of their depth.

    The same block of several members of an ensemble, such as of guidance, is one group: it is one block of the model.
    Weights of members belong to no block and are left out.

    Args:
        adapter: The backbone.
        granularity: What is scaled together; `knob` stands for every knob alone.

    Raises:
        ConfigError: If the backbone has no such groups.
    """
    if granularity == "knob":
        placed = {knob.name: place for place, knob in enumerate(adapter.space) if knob.searched}
        return tuple(Group(name, (name,), place, "knob") for name, place in placed.items())
    try:
        tied = adapter.tied(granularity)
    except ModelError as error:
        coarser = "cannot be split" in str(error)
        instead = "" if coarser else "; granularity=knob scales one knob at a time"
        raise ConfigError(f"no {granularity}s to scale: {error if coarser else _none(adapter)}{instead}") from None
    members: dict[str, list[str]] = {}
    for name, knobs in tied.items():
        members.setdefault(_MEMBER.sub("", name, count=1), []).extend(knobs)
    depths = {
        name: (depth, line)
        for lines in group_knobs(members).by_depth.values()
        for line, points in lines.items()
        for depth, name in points
    }
    if not depths:
        raise ConfigError(f"no {granularity}s to scale: {_none(adapter)}; granularity=knob scales one knob at a time")
    found = [Group(name, tuple(members[name]), *place) for name, place in depths.items()]
    return tuple(sorted(found, key=lambda group: (group.depth, list(members).index(group.name))))


def _none(adapter: Adapter) -> str:
    return f"the knobs of {adapter.describe().get('id') or type(adapter).__name__} belong to no blocks of a model"
