"""The record of a run: its best neutral setting, its checks, the chosen one, the watched objectives, the alarms.

The judge of a running search, reports, comparisons, later rewards and surrogates all read a run through `Record`, so
that they cannot disagree.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import accumulate, islice
from typing import Any

from .alarm import Alarm, Watch, raised
from .evaluation import COMBINED, Evaluation, Place, watched_at, watching_stages
from .knobs import Setting

REFERENCE = Place("reference", 0, 0)
GIVEN = 1  # stands for the number of generations where the check of a given setting is recorded
DECISIVE = ("baseline", "reference", "validation", "test")  # the stages that a record's results depend on
TEST = (Place("test", 0, 0), Place("test", 0, 1))  # neutral and calibrated setting, at the calibrated number of steps
Pair = tuple[Evaluation, Evaluation]


def decisive(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the stages that the results of a run with this configuration depend on."""
    return (*DECISIVE, *(stage for name in config.get("watch") or () for stage in watching_stages(name)))


@dataclass(frozen=True)
class WatchedSet:
    """What is known of a set of watched prompts.

    Attributes:
        checks: The evaluation of every judged recommendation by the number of generations before it; 0 is neutral.
        pair: Evaluations of the neutral and the calibrated setting on the test bucket; None until both are recorded.
    """

    checks: Mapping[int, Evaluation]
    pair: Pair | None


@dataclass(frozen=True)
class Check:
    """A recommendation judged on the validation bucket.

    Attributes:
        generation: The number of generations before the check; 0 is the best neutral setting.
        setting: Knob name to value.
        score: Mean value over the validation outputs.
        admitted: Whether the combination allows the setting to be chosen.
    """

    generation: int
    setting: Setting
    score: float
    admitted: bool = True


class Record:
    """A run's recorded evaluations, and the results computed from them.

    Attributes:
        evaluations: The evaluations by place, with the run's weights.
        judged: The evaluation of every judged recommendation by the number of generations before it; the best neutral
            setting is 0. Empty until a neutral setting has been evaluated.

    Args:
        evaluations: The recorded evaluations with their places, at least those of stages `baseline` and `reference`.
        weights: Objective name to its weight in the run.
        rewards: The objectives that the run's configuration names.
        admits: Takes the evaluations of a recommendation and of the best neutral setting, and returns whether the
            recommendation may be chosen.
        outcome: The stored outcome of a finished run; its decisions on `admitted` are kept, not made again.
        given: Whether the run measures a given setting, which is the result whatever it is worth.
    """

    def __init__(
        self,
        evaluations: Iterable[tuple[Place, Evaluation]],
        weights: Mapping[str, float],
        rewards: Collection[str],
        admits: Callable[[Evaluation, Evaluation], bool],
        outcome: Mapping[str, Any] | None = None,
        *,
        given: bool = False,
    ) -> None:
        self.evaluations = {
            place: each.weighed(None if watched_at(place.stage) else weights) for place, each in evaluations
        }
        self._rewards, self._admits, self._outcome, self._given = rewards, admits, outcome or {}, given
        decided = self._outcome.get("checks", ())
        self._decided = {check["generation"]: bool(check.get("admitted", True)) for check in decided}
        self._checks: list[Check] = []
        self._alarms: list[Alarm] = []
        self._heard = 1  # how many of `judged` were searched for alarms; the neutral setting raises none
        self.neutral_place = best_of(self._tried().get(0, {}))
        self.judged = {0: self.evaluations[self.neutral_place]} if self.neutral_place else {}
        for place in sorted(place for place in self.evaluations if place.stage == "validation"):
            self.judged[place.generation] = self.evaluations[place]

    def add(self, generation: int, judged: Evaluation) -> Check:
        """Add the evaluation of a recommendation made after `generation` generations, and return its check."""
        self.evaluations[self.place_of(generation)] = self.judged[generation] = judged
        return self.checks[-1]

    def note(self, place: Place, evaluation: Evaluation) -> None:
        """Add an evaluation on watched prompts."""
        self.evaluations[place] = evaluation

    def place_of(self, generation: int) -> Place:
        """Return the place at which the evaluation of a check is recorded."""
        if generation:
            return Place("validation", generation, 0)
        assert self.neutral_place is not None, "no neutral setting has been evaluated"
        return self.neutral_place

    @property
    def neutral(self) -> Evaluation | None:
        """The evaluation of the best neutral setting on the validation bucket; None before any is evaluated."""
        return self.judged.get(0)

    @property
    def reference(self) -> Evaluation | None:
        """The evaluation, on the first training bucket, of the setting that the search began from; None before it."""
        return self.evaluations.get(REFERENCE)

    @property
    def pair(self) -> Pair | None:
        """Evaluations of the neutral and the calibrated setting on the test bucket; None until both are recorded."""
        before, after = map(self.evaluations.get, TEST)
        return (before, after) if before and after else None

    @property
    def checks(self) -> tuple[Check, ...]:
        """Every recommendation judged so far, the best neutral setting first."""
        for generation, each in islice(self.judged.items(), len(self._checks), None):
            self._checks.append(Check(generation, each.setting, each.fitness, self._admitted(generation, each)))
        return tuple(self._checks)

    @property
    def leading(self) -> tuple[Check, ...]:
        """For each check, the best admitted check up to and including it (the earliest of equals)."""
        return tuple(accumulate(self.checks, lambda best, check: max(best, check, key=_worth)))

    @property
    def chosen(self) -> Check | None:
        """The best admitted check, which is the result if the run ends now. The neutral setting can be chosen too.

        Of a run that measures a given setting, this is the check of that setting.
        """
        if self._given and GIVEN in self.judged:
            return self.checks[-1]
        return self.leading[-1] if self.judged else None

    @property
    def recommended(self) -> Check | None:
        """The best admitted check, without the neutral setting; None if the search has no admitted check."""
        return max((check for check in self.checks if check.generation and check.admitted), key=_worth, default=None)

    @property
    def watched(self) -> dict[str, Watch]:
        """The watched objectives, and whether each must not fall or must not move; see `watched_among`."""
        if self.neutral is None or self.reference is None:
            return {}
        return watched_among(self.neutral.scores, self.reference.scores, self._rewards)

    @property
    def watched_sets(self) -> dict[str, WatchedSet]:
        """What is known of each set of watched prompts, in order of name."""
        names = sorted({name for place in self.evaluations if (name := watched_at(place.stage))})
        return {name: self._watched_set(*watching_stages(name)) for name in names}

    def _watched_set(self, checked: str, tested: str) -> WatchedSet:
        checks = {place.generation: each for place, each in self.evaluations.items() if place.stage == checked}
        before, after = (self.evaluations.get(Place(tested, 0, position)) for position in (0, 1))
        return WatchedSet(dict(sorted(checks.items())), (before, after) if before and after else None)

    @property
    def alarms(self) -> tuple[Alarm, ...]:
        """The alarms that the recommendations have raised, at most one for each objective on each set of prompts."""
        if self.neutral and self._heard < len(self.judged):
            fresh, known = dict(islice(self.judged.items(), self._heard, None)), self._alarmed
            left = {name: kind for name, kind in self.watched.items() if ("", name) not in known}
            found = list(raised(self.neutral, fresh, left))
            for name, each in self.watched_sets.items():
                keys = each.checks[0].scores if 0 in each.checks else ()
                falling: dict[str, Watch] = {key: "falls" for key in keys if (name, key) not in known}
                found += raised(self.neutral, fresh, falling, name, each.checks)
            self._alarms += sorted(found, key=lambda alarm: alarm.generation)
            self._heard = len(self.judged)
        return tuple(self._alarms)

    @property
    def _alarmed(self) -> set[tuple[str, str]]:
        return {(alarm.prompts, alarm.objective) for alarm in self._alarms}

    @property
    def grids(self) -> dict[int | None, dict[str, float]]:
        """Number of steps to the validation score of every neutral setting by label; the calibrated steps come first.

        A finished run has the adapter's labels in its outcome. For an unfinished run, a label gives the values of the
        first knobs in which the settings differ.
        """
        if self._outcome:
            return {each["num_steps"]: each["baseline"]["grid"] for each in self._outcome["comparisons"]}
        tried = [list(each.values()) for _, each in sorted(self._tried().items())]
        return {
            each[0].num_steps: dict(zip(_labels(each), (one.fitness for one in each), strict=True)) for each in tried
        }

    def _tried(self) -> dict[int, dict[Place, Evaluation]]:
        """Return the neutral settings' evaluations by comparison and place, in the order of their positions."""
        found: dict[int, dict[Place, Evaluation]] = {}
        for place in sorted(place for place in self.evaluations if place.stage == "baseline"):
            found.setdefault(place.generation, {})[place] = self.evaluations[place]
        return found

    def _admitted(self, generation: int, judged: Evaluation) -> bool:
        if not generation:
            return True
        decided = self._decided.get(generation)
        return self._admits(judged, self.judged[0]) if decided is None else decided


def best_of(tried: Mapping[Place, Evaluation]) -> Place | None:
    """Return the place of the best neutral setting (the first of equals); None if `tried` is empty."""
    return max(tried, key=lambda place: tried[place].fitness, default=None)


def watched_among(scored: Iterable[str], learned: Collection[str], rewards: Collection[str]) -> dict[str, Watch]:
    """Return the watched objectives: those that score validation outputs but not the outputs of the search.

    Args:
        scored: Objectives that score validation outputs.
        learned: Objectives that score the outputs of the search.
        rewards: Objectives that the configuration names; every other objective is a statistic of the images.

    Returns:
        Objective name to `falls` for a reward, which must not fall, or `moves` for a statistic, which must not move.
    """
    return {
        name: "falls" if name in rewards else "moves" for name in scored if name not in learned and name != COMBINED
    }


def _worth(check: Check) -> float:
    return check.score if check.admitted else float("-inf")


def _labels(tried: Collection[Evaluation]) -> list[str]:
    settings = [evaluation.setting for evaluation in tried]
    if len(settings) == 1:
        return ["neutral"]
    differ = [name for name in settings[0] if len({setting[name] for setting in settings}) > 1]
    for size in range(1, len(differ) + 1):  # of guidance, one of two weights tells them apart
        labels = [", ".join(f"{name} {setting[name]:g}" for name in differ[:size]) for setting in settings]
        if len(set(labels)) == len(labels):
            return labels
    return [f"neutral {position}" for position in range(1, len(settings) + 1)]
