"""The knobs of a transformer: ensemble members, tied sites and weights, and the tables of scales they stand for.

A space of M members over d knobs has M * d scales and, from two members on, M weights.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..engine.knobs import Knob, KnobSpace, Setting
from ..engine.seams import Population
from ..ground.errors import ModelError
from .sites import Granularity, Site, tie

WEIGHT_BOUND = 20.0
LARGEST = 100.0  # bound on the size of scales and weights: far above useful values, far below overflow
MOST_MEMBERS = 64
LONGEST_PROMPT = 8192  # tokens
LONGEST_EMPTY = 1000  # characters of the prompt for no prompt
GRANULARITIES: tuple[Granularity, ...] = ("block", "layer", "gate")  # from coarse to fine
Sees = Literal["conditional", "unconditional", "all"]


class Layout:
    """The knobs of a transformer, and the sites or member weight that each knob sets.

    Args:
        sites: The transformer's sites.
        members: What each member of the ensemble sees. `all` is the only member for a pipeline that guides by
            itself: all its rows have the candidate's scales.
        guidance: Neutral guidance g of a guided model, which gives the neutral weights (g, 1 - g, 0, ...); None for
            (1, 0, ...).
        granularity: How sites are tied into knobs.
        tie_members: Whether all members share their scales.
        low: Lower bound of every scale.
        high: Upper bound of every scale.
        dead: Indices of sites that cannot reach the output; a knob with only dead sites is frozen at 1.
        output_weight: Whether a single member has a weight too.
        others: Knobs that scale nothing, which the adapter reads itself.

    Attributes:
        names: The names of the scales of one member, dead ones included, in order.
        space: The knobs, with those that scale nothing at the end.
        frozen: Names of the knobs that are not searched.
    """

    def __init__(
        self,
        sites: Sequence[Site],
        members: Sequence[Sees],
        *,
        guidance: float | None = None,
        granularity: Granularity = "gate",
        tie_members: bool = False,
        low: float = -1.0,
        high: float = 2.0,
        dead: Collection[int] = (),
        output_weight: bool = False,
        others: Sequence[Knob] = (),
    ) -> None:
        self.sites = tuple(sites)
        self.members = tuple(members)
        self.granularity = granularity
        self._tied = tie(sites, granularity)
        self.names = tuple(self._tied)
        self._scopes = _scopes(len(self.members), tie_members)
        self._weights = tuple(f"member{member + 1}.weight" for member in range(len(self.members)))
        if len(self.members) == 1 and not output_weight:
            self._weights = ()
        scopes, lifeless = dict.fromkeys(self._scopes), set(dead)
        frozen = [name for name, indices in self._tied.items() if lifeless.issuperset(indices)]
        self.frozen = tuple(scope + name for scope in scopes for name in frozen)
        scales = [Knob(scope + name, low, high) for scope in scopes for name in self._tied if name not in frozen]
        neutral = zip(self._weights, neutral_weights(self.members, guidance), strict=False)
        weights = [Knob(name, -WEIGHT_BOUND, WEIGHT_BOUND, at) for name, at in neutral]
        self._others = tuple(knob.name for knob in others)
        self.space = KnobSpace([*scales, *weights, *others])

    def tables(self, population: Population) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Expand knob values to one scale per member and site, and one weight per member.

        Args:
            population: Shape (population_size, num_knobs).

        Returns:
            Scales of shape (population_size, num_members, num_sites) and weights of shape
            (population_size, num_members).
        """
        column = {name: index for index, name in enumerate(self.space.names)}
        scales = np.ones((len(population), len(self.members), len(self.sites)))
        for member, scope in enumerate(self._scopes):
            for knob, indices in self._tied.items():
                if scope + knob in column:
                    scales[:, member, indices] = population[:, [column[scope + knob]]]
        weights = np.ones((len(population), len(self.members)))
        if self._weights:
            weights = population[:, [column[name] for name in self._weights]]
        return scales, weights

    def tied(self, granularity: str) -> dict[str, list[str]]:
        """Map each knob of a coarser granularity to the knobs of this space that it ties; others map to themselves.

        Raises:
            ModelError: If `granularity` is unknown or finer than this layout's.
        """
        if granularity not in GRANULARITIES:
            raise ModelError(f"no granularity {granularity!r}; choose block, layer or gate")
        coarser = GRANULARITIES[: GRANULARITIES.index(self.granularity) + 1]
        if granularity not in coarser:
            raise ModelError(
                f"knobs of one {self.granularity} each cannot be split into {granularity}s; "
                f"set adapter.granularity to {granularity}"
            )
        coarse = {index: name for name, indices in tie(self.sites, granularity).items() for index in indices}
        groups: dict[str, list[str]] = {}
        for scope in dict.fromkeys(self._scopes):
            for knob, indices in self._tied.items():
                if scope + knob not in self.frozen:
                    groups.setdefault(scope + coarse[indices[0]], []).append(scope + knob)
        return {**groups, **{name: [name] for name in (*self._weights, *self._others)}}

    def recipe(self, setting: Setting, neutral: Setting) -> list[dict[str, Any]]:
        """Return each member's weight and its scales by module address, for a calibration file."""
        scales, weights = self.tables(self.space.to_vector(setting)[None])
        _, neutral_weights = self.tables(self.space.to_vector(neutral)[None])
        return [
            {
                "sees": sees,
                "weight": float(weights[0, member]),
                "neutral_weight": float(neutral_weights[0, member]),
                "scales": {site.address: float(scales[0, member, index]) for index, site in enumerate(self.sites)},
            }
            for member, sees in enumerate(self.members)
        ]

    def guided(self, guidance: float) -> dict[str, float]:
        """Return the neutral setting at a given guidance."""
        neutral = self.space.to_setting(self.space.defaults)
        weights = neutral_weights(self.members, guidance)
        return {**neutral, **dict(zip(self._weights, weights, strict=False))}


def neutral_weights(members: Sequence[Sees], guidance: float | None) -> tuple[float, ...]:
    """Return the member weights at which an ensemble equals the untouched model.

    The first conditional member has weight g and the first unconditional member 1 - g, which is classifier-free
    guidance. All other members have weight 0. Without guidance or without an unconditional member, g is 1.
    """
    guided = guidance is not None and {"conditional", "unconditional"} <= set(members)
    share = guidance if guidance is not None and guided else 1.0
    weights = [0.0] * len(members)
    weights[next((index for index, sees in enumerate(members) if sees != "unconditional"), 0)] = share
    if guided:
        weights[members.index("unconditional")] = 1 - share
    return tuple(weights)


def check_members(members: Sequence[Sees]) -> None:
    """Refuse an ensemble in which no member sees the prompt.

    Raises:
        ModelError: If no member is conditional.
    """
    if "conditional" not in members:
        raise ModelError("members must hold at least one 'conditional', or no member would see the prompt")


def _scopes(num_members: int, tied: bool) -> tuple[str, ...]:
    """Return the name prefix of each member's scale knobs: empty for a single member or for shared scales."""
    if num_members == 1 or tied:
        return ("",) * num_members
    return tuple(f"member{member + 1}." for member in range(num_members))
