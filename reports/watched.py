"""How scores moved from the neutral to the calibrated outputs: those watched, and those of rewards that came later."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from ..engine.record import TEST, Pair, Record
from ..engine.statistics import Gain, paired_gain

if TYPE_CHECKING:
    from ..storage import SqliteStore


class Moved(NamedTuple):
    """A score of the neutral and the calibrated outputs: both means and the paired difference."""

    neutral: float
    calibrated: float
    change: Gain


def rescored_in(store: SqliteStore, run_id: str, record: Record, generation: int) -> dict[str, dict[str, Moved]]:
    """What rewards gave the kept outputs later: reward to neutral against calibrated, by stage.

    Args:
        store: Where the run is kept.
        run_id: The run.
        record: What it recorded.
        generation: After how many generations the recommendation was made that is held against the neutral setting.
    """
    pairs = {"validation": (record.place_of(0), record.place_of(generation)), "test": TEST}
    found: dict[str, dict[str, Moved]] = {}
    for (objective, fingerprint), scores in store.rescores(run_id).items():
        label = objective if objective not in found else f"{objective} ({fingerprint[:6]})"
        for stage, (before, after) in pairs.items():
            if before in scores and after in scores:
                prompts = record.evaluations[after].bucket.prompts
                found.setdefault(label, {})[stage] = moved(scores[before], scores[after], prompts)
    return found


def movements(pair: Pair | None, names: Sequence[str] | None = None) -> dict[str, Moved]:
    """How scores moved from the neutral to the calibrated outputs of a pair; all of them unless named."""
    if pair is None:
        return {}
    before, after = pair
    return {
        name: moved(before.scores[name], after.scores[name], after.bucket.prompts)
        for name in (before.scores if names is None else names)
        if name in before.scores and name in after.scores
    }


def moved(before: Sequence[float], after: Sequence[float], prompts: Sequence[str]) -> Moved:
    """How a score moved on the same prompts and seeds.

    Args:
        before: Scores of the neutral outputs, shape (num_outputs,).
        after: Scores of the others, shape (num_outputs,).
        prompts: The prompt of each.
    """
    return Moved(math.fsum(before) / len(before), math.fsum(after) / len(after), paired_gain(after, before, prompts))
