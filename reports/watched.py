"""Changes of scores from neutral to calibrated outputs, for watched scores and for rewards added after the run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from ..engine.record import TEST, Pair, Record
from ..engine.statistics import Gain, paired_gain

if TYPE_CHECKING:
    from ..storage import SqliteStore


class Moved(NamedTuple):
    """The mean of a score on neutral and on calibrated outputs, and the paired difference."""

    neutral: float
    calibrated: float
    change: Gain


def rescored_in(store: SqliteStore, run_id: str, record: Record, generation: int) -> dict[str, dict[str, Moved]]:
    """Return the changes of rewards that scored the kept outputs after the run: reward to stage to change.

    Args:
        store: The store of the run.
        run_id: The name of the run.
        record: The record of the run.
        generation: The number of generations after which the compared recommendation was made.
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
    """Return the changes of scores from the neutral to the calibrated outputs of a pair, of all scores unless named."""
    if pair is None:
        return {}
    before, after = pair
    return {
        name: moved(before.scores[name], after.scores[name], after.bucket.prompts)
        for name in (before.scores if names is None else names)
        if name in before.scores and name in after.scores
    }


def moved(before: Sequence[float], after: Sequence[float], prompts: Sequence[str]) -> Moved:
    """Return the change of a score on the same prompts and seeds.

    Args:
        before: Scores of the neutral outputs, shape (num_outputs,).
        after: Scores of the calibrated outputs, shape (num_outputs,).
        prompts: The prompt of each output.
    """
    return Moved(math.fsum(before) / len(before), math.fsum(after) / len(after), paired_gain(after, before, prompts))
