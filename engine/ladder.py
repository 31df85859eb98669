"""Searching from coarse to fine: first in spaces of tied knobs, last in the adapter's own space.

A rung ties knobs of the adapter's space into coarser knobs. Its candidates are lifted before they are evaluated: each
knob takes the value of its coarser knob. All recorded candidates are therefore points of the adapter's own space.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..ground.errors import ConfigError, ModelError
from .knobs import Knob, KnobSpace, Vector
from .seams import Adapter, Population
from .vetting import who_made


@dataclass(frozen=True)
class Rung:
    """One space of a ladder.

    Attributes:
        space: The rung's knobs.
        parents: For each knob of the adapter's space, the index of its knob in the rung, shape (num_knobs,); -1 for
            a knob that is not searched.
        generations: The number of generations to search.
        held: The values of the knobs that are not searched, in a vector of shape (num_knobs,).
    """

    space: KnobSpace
    parents: NDArray[np.intp]
    generations: int
    held: Vector

    def lift(self, population: Population) -> Population:
        """Lift candidates to the adapter's space: (population_size, rung knobs) to (population_size, num_knobs)."""
        lifted: Population = np.where(self.parents < 0, self.held, population[:, self.parents])
        return lifted

    def holding(self, vector: Vector) -> Rung:
        """Return the same rung with the knobs that are not searched at the values of a vector, shape (num_knobs,)."""
        return replace(self, held=vector)

    def summed(self, values: NDArray[Any]) -> Vector:
        """Sum values of the adapter's knobs, shape (num_knobs,), over those that each of the rung's knobs ties."""
        tied = self.parents >= 0
        return np.bincount(self.parents[tied], values[tied].astype(np.float64), len(self.space)).astype(np.float64)

    def lower(self, vector: Vector) -> Vector:
        """Return the rung's nearest point to a vector of shape (num_knobs,): each knob is its tied knobs' mean."""
        low, high = self.space.bounds
        lowered: Vector = np.clip(self.summed(vector) / self.summed(np.ones(len(self.parents))), low, high)
        return lowered

    def spread(self, factors: Vector) -> Rung:
        """Return the same rung with every knob's spread multiplied by a factor; factors have shape (rung knobs,)."""
        knobs = [
            replace(knob, spread=knob.spread * float(factor)) for knob, factor in zip(self.space, factors, strict=True)
        ]
        return replace(self, space=KnobSpace(knobs))


def rungs_of(adapter: Adapter, ladder: Mapping[str, int], generations: int) -> tuple[Rung, ...]:
    """Make the rungs of a ladder, coarse to fine.

    Args:
        adapter: The backbone.
        ladder: Granularity to generations; empty for a search in the adapter's own space only.
        generations: The number of generations of the search in the adapter's own space, if `ladder` is empty.

    Raises:
        ConfigError: If a rung is not coarser than the next, or the last is not the adapter's own space.
    """
    if not ladder:
        return (_own(adapter.space, generations),)
    rungs = []
    for granularity, length in ladder.items():
        try:
            tied = adapter.tied(granularity)
        except ModelError as error:
            raise ConfigError(f"ladder: {error}") from None
        _refuse_untied(adapter, granularity, tied)
        rungs.append(tie_knobs(adapter.space, tied, length))
    for (coarse_name, coarse), (fine_name, fine) in zip(
        zip(ladder, rungs, strict=True), list(zip(ladder, rungs, strict=True))[1:], strict=False
    ):
        pairs = set(zip(fine.parents.tolist(), coarse.parents.tolist(), strict=True)) - {(-1, -1)}
        if len(pairs) > len(fine.space) or len(coarse.space) >= len(fine.space):
            raise ConfigError(f"ladder: {fine_name!r} does not refine {coarse_name!r}; order it from coarse to fine")
    num_searched = int(adapter.space.searched.sum())
    if len(rungs[-1].space) != num_searched:
        raise ConfigError(
            f"ladder: it ends at {list(ladder)[-1]!r} with {len(rungs[-1].space)} knobs, the adapter has "
            f"{num_searched}; end it at the adapter's own granularity, or give the adapter this one"
        )
    return tuple(rungs)


def _refuse_untied(adapter: Adapter, granularity: str, tied: Mapping[str, Sequence[str]]) -> None:
    """Refuse ties that do not hold every knob exactly once, since the adapter may be another author's."""
    counts = Counter(name for members in tied.values() for name in members)
    strange = sorted(set(counts) ^ set(adapter.space.names)) or [name for name, count in counts.items() if count > 1]
    if strange or not all(tied.values()):
        raise ModelError(
            f"{who_made(adapter, 'the adapter')} ties {strange[0] if strange else 'nothing'} wrongly at granularity "
            f"{granularity!r}; let tied() name every knob exactly once, and no knob without members"
        )


def _own(space: KnobSpace, generations: int) -> Rung:
    """Return the rung of all knobs of a space that are searched."""
    searched = space.searched
    knobs = space if searched.all() else KnobSpace([knob for knob in space if knob.searched])
    return Rung(knobs, np.where(searched, np.cumsum(searched) - 1, -1), generations, space.defaults)


def tie_knobs(space: KnobSpace, tied: Mapping[str, Sequence[str]], generations: int) -> Rung:
    """Make a rung from the ties between knobs.

    Args:
        space: The adapter's space.
        tied: The name of each coarse knob to the names of the knobs that it replaces; every knob occurs exactly once.
            A knob that is not searched stands alone, and is left out.
        generations: The number of generations to search.
    """
    index = {name: position for position, name in enumerate(space.names)}
    parents = np.full(len(space), -1, dtype=np.intp)
    knobs: list[Knob] = []
    for name, members in tied.items():
        parts = [space[index[member]] for member in members]
        if not all(part.searched for part in parts):
            continue
        parents[[index[member] for member in members]] = len(knobs)
        knobs.append(
            Knob(
                name,
                low=max(part.low for part in parts),
                high=min(part.high for part in parts),
                default=float(np.mean([part.default for part in parts])),
                spread=float(np.mean([part.spread for part in parts])),
            )
        )
    return Rung(KnobSpace(knobs), parents, generations, space.defaults)
