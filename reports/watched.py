"""What a run watched beside its score: how it moved, and the alarms that this set off."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from ..engine.alarm import Alarm, Watch, raised
from ..engine.evaluation import COMBINED, Evaluation, Place
from ..engine.statistics import Gain, paired_gain

if TYPE_CHECKING:
    from ..storage import RunRow, SqliteStore

Places = Mapping[Place, Evaluation]
Pair = tuple[Evaluation, Evaluation]


class Moved(NamedTuple):
    """A score of the neutral and the calibrated outputs: both means and the paired difference."""

    neutral: float
    calibrated: float
    change: Gain


def places_of(store: SqliteStore, row: RunRow, stages: Collection[str] | None = None) -> dict[Place, Evaluation]:
    """The evaluations of a run, of some stages or all; the store keeps scores, what they weigh belongs to the run."""
    weights = {name: reward["weight"] for name, reward in row.config["objectives"].items() if reward["weight"]}
    return {place: replace(evaluation, weights=weights) for place, evaluation in store.evaluations(row.id, stages)}


def neutral_place(places: Places) -> Place | None:
    """Where the best neutral setting was judged on the validation outputs, as far as it is known."""
    tried = [place for place in places if (place.stage, place.generation) == ("baseline", 0)]
    return max(tried, key=lambda place: places[place].fitness, default=None)


def neutral_of(places: Places) -> Evaluation | None:
    """The best neutral setting on the validation outputs, as far as it is known."""
    place = neutral_place(places)
    return places[place] if place else None


def checks_of(places: Places) -> dict[int, Evaluation]:
    """Every judged recommendation by the number of generations after which it was made."""
    return {place.generation: each for place, each in places.items() if place.stage == "validation"}


def watched_in(places: Places, rewards: Iterable[str]) -> dict[str, Watch]:
    """What was watched: what scores the outputs that judge, but not those that the search learns from.

    Args:
        places: The run's evaluations.
        rewards: Objectives of its configuration; whatever else was scored is a statistic.
    """
    neutral, reference = neutral_of(places), places.get(Place("reference", 0, 0))
    if neutral is None or reference is None:
        return {}
    configured = set(rewards)
    return {
        name: "falls" if name in configured else "moves"
        for name in neutral.scores
        if name not in reference.scores and name != COMBINED
    }


def alarms_in(places: Places, watched: Mapping[str, Watch]) -> list[Alarm]:
    """The alarms that a run's checks set off, as they were raised."""
    neutral = neutral_of(places)
    return list(raised(neutral, checks_of(places), watched)) if neutral else []


def alarms_of(store: SqliteStore, row: RunRow) -> list[Alarm]:
    """The alarms of a run, finished or not."""
    places = places_of(store, row, ("baseline", "reference", "validation"))
    return alarms_in(places, watched_in(places, row.config["objectives"]))


def rescored_in(store: SqliteStore, run_id: str, places: Places, chosen: int) -> dict[str, dict[str, Moved]]:
    """What rewards gave the kept outputs later: reward to neutral against calibrated, by stage.

    Args:
        store: Where the run is kept.
        run_id: The run.
        places: Its evaluations.
        chosen: After how many generations the chosen recommendation was made.
    """
    neutral = neutral_place(places)
    pairs = {
        "validation": (neutral, Place("validation", chosen, 0)),
        "test": (Place("test", 0, 0), Place("test", 0, 1)),
    }
    found: dict[str, dict[str, Moved]] = {}
    for (objective, fingerprint), scores in store.rescores(run_id).items():
        label = objective if objective not in found else f"{objective} ({fingerprint[:6]})"
        for stage, (before, after) in pairs.items():
            if before in scores and after in scores:
                found.setdefault(label, {})[stage] = moved(scores[before], scores[after], places[after].bucket.prompts)
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
