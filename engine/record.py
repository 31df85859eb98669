"""Reading a recorded run: its best neutral setting, its checks, what was admitted, chosen and watched, and its alarms.

Whoever asks this of a run asks a `Record`: the judge as the run goes, its report, a comparison, a reward that comes
later and a surrogate. So no two of them can disagree.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import accumulate, islice
from typing import Any

from .alarm import Alarm, Watch, raised
from .evaluation import COMBINED, Evaluation, Place
from .knobs import Setting

REFERENCE = Place("reference", 0, 0)
DECISIVE = ("baseline", "reference", "validation", "test")  # stages that all of a record but the search follows from
TEST = (Place("test", 0, 0), Place("test", 0, 1))  # neutral and calibrated, at the calibrated steps
Pair = tuple[Evaluation, Evaluation]


@dataclass(frozen=True)
class Check:
    """A recommendation judged on the validation bucket.

    Attributes:
        generation: After how many generations; 0 is the best neutral setting.
        setting: Knob name to value.
        score: Mean validation value.
        admitted: Whether the combination lets it be chosen.
    """

    generation: int
    setting: Setting
    score: float
    admitted: bool = True


class Record:
    """What a run has recorded, and what follows from it.

    Attributes:
        evaluations: By place, with the run's weights.
        judged: Validation evaluations by the number of generations after which they were recommended; the best neutral
            setting is 0. Empty until a neutral setting has been evaluated.

    Args:
        evaluations: What is recorded: neutral settings and reference at least, or what there is of them.
        weights: Objective name to its weight in the run.
        rewards: Objectives that the run's configuration names.
        admits: Whether a recommendation may be chosen, judged beside the best neutral setting.
        outcome: What the run kept of itself when it finished; what it admitted then stands.
    """

    def __init__(
        self,
        evaluations: Iterable[tuple[Place, Evaluation]],
        weights: Mapping[str, float],
        rewards: Collection[str],
        admits: Callable[[Evaluation, Evaluation], bool],
        outcome: Mapping[str, Any] | None = None,
    ) -> None:
        self.evaluations = {place: each.weighed(weights) for place, each in evaluations}
        self._rewards, self._admits, self._outcome = rewards, admits, outcome or {}
        decided = self._outcome.get("checks", ())
        self._decided = {check["generation"]: bool(check.get("admitted", True)) for check in decided}
        self._checks: list[Check] = []
        self._alarms: list[Alarm] = []
        self._heard = 1  # of what was judged; the neutral setting sets nothing off
        self.neutral_place = best_of(self._tried().get(0, {}))
        self.judged = {0: self.evaluations[self.neutral_place]} if self.neutral_place else {}
        for place in sorted(place for place in self.evaluations if place.stage == "validation"):
            self.judged[place.generation] = self.evaluations[place]

    def add(self, generation: int, judged: Evaluation) -> Check:
        """Add a recommendation that was judged after so many generations."""
        self.evaluations[self.place_of(generation)] = self.judged[generation] = judged
        return self.checks[-1]

    def place_of(self, generation: int) -> Place:
        """Where the outputs of a check are recorded."""
        if generation:
            return Place("validation", generation, 0)
        assert self.neutral_place is not None, "no neutral setting has been evaluated"
        return self.neutral_place

    @property
    def neutral(self) -> Evaluation | None:
        """The best neutral setting on the validation bucket, as far as it is known."""
        return self.judged.get(0)

    @property
    def reference(self) -> Evaluation | None:
        """The setting that the search began from, on the first training bucket."""
        return self.evaluations.get(REFERENCE)

    @property
    def pair(self) -> Pair | None:
        """The neutral and the calibrated setting on the test bucket, once both are known."""
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
        """What would have been chosen after each check: the best admitted until then, the earliest of equals."""
        return tuple(accumulate(self.checks, lambda best, check: max(best, check, key=_worth)))

    @property
    def chosen(self) -> Check | None:
        """The run's result, or what it would be if it ended now. The neutral setting takes part."""
        return self.leading[-1] if self.judged else None

    @property
    def recommended(self) -> Check | None:
        """The best admitted check that the search recommended."""
        return max((check for check in self.checks if check.generation and check.admitted), key=_worth, default=None)

    @property
    def watched(self) -> dict[str, Watch]:
        """What was watched, and for what; see `watched_among`."""
        if self.neutral is None or self.reference is None:
            return {}
        return watched_among(self.neutral.scores, self.reference.scores, self._rewards)

    @property
    def alarms(self) -> tuple[Alarm, ...]:
        """What the recommendations have set off, once for each objective."""
        if self.neutral and self._heard < len(self.judged):
            known = {alarm.objective for alarm in self._alarms}
            left = {name: kind for name, kind in self.watched.items() if name not in known}
            self._alarms += raised(self.neutral, dict(islice(self.judged.items(), self._heard, None)), left)
            self._heard = len(self.judged)
        return tuple(self._alarms)

    @property
    def grids(self) -> dict[int | None, dict[str, float]]:
        """Validation score of every neutral setting by label, by number of steps; the calibrated steps first.

        Labels are the adapter's and are kept with the outcome; before, settings are told apart by the knobs in which
        they differ.
        """
        if self._outcome:
            return {each["num_steps"]: each["baseline"]["grid"] for each in self._outcome["comparisons"]}
        tried = [list(each.values()) for _, each in sorted(self._tried().items())]
        return {
            each[0].num_steps: dict(zip(_labels(each), (one.fitness for one in each), strict=True)) for each in tried
        }

    def _tried(self) -> dict[int, dict[Place, Evaluation]]:
        """The neutral settings by comparison, in the order of their positions."""
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
    """Where the best of the neutral settings that were tried stands, the first of equals; None if there are none."""
    return max(tried, key=lambda place: tried[place].fitness, default=None)


def watched_among(scored: Iterable[str], learned: Collection[str], rewards: Collection[str]) -> dict[str, Watch]:
    """What is watched: what scores the outputs that judge, but not those that the search learns from.

    Args:
        scored: What scores the outputs that judge.
        learned: What scores those that the search learns from.
        rewards: Objectives that the configuration names; whatever else is scored is a statistic.
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
    return [", ".join(f"{name} {setting[name]:g}" for name in differ[:1]) for setting in settings]
