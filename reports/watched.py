"""Changes of scores from neutral to calibrated outputs, for watched scores and for rewards added after the run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from ..engine.alarm import own_name
from ..engine.record import TEST, Pair, Record
from ..engine.statistics import Gain, paired_gain

if TYPE_CHECKING:
    from ..storage import SqliteStore


class OnWatched(NamedTuple):
    """A score on watched prompts: by check, and on test prompts.

    Attributes:
        prompts: The name of the watched prompts.
        objective: The name of the objective in its set.
        course: The number of generations before each check to the mean score; 0 is the neutral setting.
        shown: The change on the validation prompts from the neutral setting to the one that is shown, if it is known.
        test: The change on the test prompts; None until it is measured.
        alarmed: Whether its fall raised an alarm.
    """

    prompts: str
    objective: str
    course: Mapping[int, float]
    shown: Moved | None
    test: Moved | None
    alarmed: bool


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


def on_watched(record: Record, generation: int) -> list[OnWatched]:
    """Return every score on watched prompts, by set and objective.

    Args:
        record: The record of the run.
        generation: The number of generations before the recommendation that is shown; 0 for the neutral setting.
    """
    alarmed = {(alarm.prompts, alarm.objective) for alarm in record.alarms}
    found = []
    for name, each in record.watched_sets.items():
        sides = (each.checks.get(0), each.checks.get(generation))
        at_check = movements((sides[0], sides[1])) if generation and sides[0] and sides[1] else {}
        on_test = movements(each.pair)
        for key in dict.fromkeys(key for check in (*each.checks.values(), *(each.pair or ())) for key in check.scores):
            course = {at: math.fsum(check.scores[key]) / len(check.bucket) for at, check in each.checks.items()}
            label, raised = own_name(key, name), (name, key) in alarmed
            found.append(OnWatched(name, label, course, at_check.get(key), on_test.get(key), raised))
    return found


def moved(before: Sequence[float], after: Sequence[float], prompts: Sequence[str]) -> Moved:
    """Return the change of a score on the same prompts and seeds.

    Args:
        before: Scores of the neutral outputs, shape (num_outputs,).
        after: Scores of the calibrated outputs, shape (num_outputs,).
        prompts: The prompt of each output.
    """
    return Moved(math.fsum(before) / len(before), math.fsum(after) / len(after), paired_gain(after, before, prompts))
