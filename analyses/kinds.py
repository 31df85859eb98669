"""The kinds of analyses, by name; a kind is imported when it is used."""

from __future__ import annotations

import importlib

from ..ground.errors import ConfigError, near_misses
from .analysis import Analysis

#: Kind to the module that holds it, and its class there.
KINDS = {
    "ablation": ("ablation", "Ablation"),
    "cost": ("cost", "Cost"),
    "diversity": ("diversity", "Diversity"),
    "granularity": ("granularity", "Granularity"),
    "rewards": ("rewards", "Rewards"),
    "steps": ("steps", "Steps"),
}


def kind_named(name: str) -> type[Analysis]:
    """Return the class of a kind of analysis.

    Raises:
        ConfigError: If there is no such kind.
    """
    if name not in KINDS:
        raise ConfigError(f"no analysis {name!r}; {near_misses(name, KINDS)}")
    module, cls = KINDS[name]
    found: type[Analysis] = getattr(importlib.import_module(f".{module}", __package__), cls)
    return found
