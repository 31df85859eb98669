"""Judging recommendations on validation outputs while the search runs: what is chosen, when to stop, what alarms."""

from __future__ import annotations

from dataclasses import dataclass

from .alarm import Alarm, alarms
from .evaluation import Evaluation
from .evaluator import Evaluator
from .heldout import Baseline
from .knobs import Setting, Vector
from .stopping import Plateau


@dataclass(frozen=True)
class Check:
    """A recommendation judged on the validation bucket.

    Attributes:
        generation: After how many generations; 0 is the setting that the search began from.
        setting: Knob name to value.
        score: Mean validation value.
        admitted: Whether the combination lets it be chosen.
    """

    generation: int
    setting: Setting
    score: float
    admitted: bool = True


class Judge:
    """Keeps the checks of a run.

    Attributes:
        checks: Every recommendation judged so far, the neutral setting first.
        alarms: What they set off, once for each objective.

    Args:
        evaluator: Of the run.
        baseline: The best neutral setting.
        neutral: Its evaluation on the validation bucket.
    """

    def __init__(self, evaluator: Evaluator, baseline: Baseline, neutral: Evaluation) -> None:
        self.checks = [Check(0, baseline.setting, baseline.score)]
        self.alarms: list[Alarm] = []
        self._evaluator = evaluator
        self._neutral = neutral
        self._values = [neutral.values]
        self._plateau: Plateau
        self._since = -1  # the first check that the plateau has seen, and the next that it has not
        self._seen = 0

    @property
    def latest(self) -> int:
        """Index of the latest check."""
        return len(self.checks) - 1

    @property
    def chosen(self) -> Check:
        """The admitted check with the best validation score, the earliest of equals. The neutral setting takes part."""
        return max((check for check in self.checks if check.admitted), key=lambda check: check.score)

    def check(self, generation: int, recommended: Vector) -> None:
        """Judge a recommendation of shape (num_knobs,), unless one of this generation has been."""
        if generation == self.checks[-1].generation:
            return
        run = self._evaluator.run
        [made] = self._evaluator.evaluate("validation", generation, recommended[None], run.validation_bucket)
        admitted = run.combination.admits(made, self._neutral)
        self.checks.append(Check(generation, made.setting, made.fitness, admitted))
        self._values.append(made.values)
        known = {alarm.objective for alarm in self.alarms}
        watched = {name: kind for name, kind in run.watched.items() if name not in known}
        for alarm in alarms(self._neutral, made, watched, generation):
            self.alarms.append(alarm)
            self._evaluator.watch.alarm_raised(run=run, alarm=alarm)

    def plateau(self, since: int) -> str:
        """The reason to stop if checks from index `since` on have stopped getting better, else an empty string."""
        if since != self._since:
            validation, prompts = self._evaluator.run.config.validation, self._evaluator.run.validation_bucket.prompts
            self._since, self._seen = since, since
            self._plateau = Plateau(prompts, validation.patience, validation.significance)
        for values in self._values[self._seen :]:  # each is tested once, however many checks there are
            self._plateau.add(values)
        self._seen = len(self._values)
        return self._plateau.reason
