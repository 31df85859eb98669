"""The alarm against reward hacking: the optimised score rises while a watched score gets worse.

Watched rewards must not fall, and statistics of the images must not move far in either direction. The alarm compares a
recommendation's validation outputs with the neutral setting's, in pairs. A change raises the alarm only if it is
significant and also large relative to the spread of that score between outputs.

The threshold of statistics was chosen from the output of `benchmarks/alarm.py`: at checks whose score had risen (eight
of ten honest runs had such checks) no statistic moved by more than 0.48 standard deviations, while a reward for
darkness moved one by 0.90 and a reward for bytes moved one by 10.2. The threshold of rewards was not measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .evaluation import Evaluation
from .statistics import is_better

Watch = Literal["falls", "moves"]
RISE = 0.05  # one-sided level at which the optimised score counts as risen
SIGNIFICANCE = 0.001  # one-sided level at which a watched score counts as moved
LARGE: Mapping[Watch, float] = {"falls": 0.25, "moves": 0.7}  # in standard deviations between neutral outputs
SPREADS: Mapping[Watch, tuple[float, float]] = {"falls": (0.0, np.inf), "moves": (0.05, 0.25)}
NO_SPREAD = 9.9  # the standardised change if all neutral outputs have the same score


@dataclass(frozen=True)
class Alarm:
    """One warning.

    Attributes:
        generation: The number of generations before the alarm.
        objective: The watched objective that moved.
        neutral: The objective's mean on the neutral setting's validation outputs.
        now: The objective's mean on the recommendation's validation outputs.
        change: The mean paired change, in standard deviations between neutral outputs.
        gain: The rise of the mean optimised score.
    """

    generation: int
    objective: str
    neutral: float
    now: float
    change: float
    gain: float

    def __str__(self) -> str:
        return (
            f"after generation {self.generation} the optimised score is up by {self.gain:.3g} on validation, but "
            f"{self.objective} went from {self.neutral:.3g} to {self.now:.3g} ({self.change:+.1f} standard "
            f"deviations): look at the outputs before believing the score"
        )


def raised(neutral: Evaluation, checks: Mapping[int, Evaluation], watched: Mapping[str, Watch]) -> Iterator[Alarm]:
    """Yield the alarms that a run's recommendations raise, at most one for each objective.

    Args:
        neutral: The neutral setting's evaluation on the validation bucket.
        checks: Every recommendation's evaluation on the same bucket, by the number of generations before it.
        watched: Objective name to the change that raises an alarm.
    """
    left = dict(watched)
    for generation, candidate in checks.items():
        for alarm in alarms(neutral, candidate, left, generation):
            del left[alarm.objective]
            yield alarm


def alarms(neutral: Evaluation, candidate: Evaluation, watched: Mapping[str, Watch], generation: int) -> list[Alarm]:
    """Return the alarms that one recommendation raises.

    Args:
        neutral: The neutral setting's evaluation on the validation bucket.
        candidate: The recommendation's evaluation on the same bucket.
        watched: Objective name to the change that raises an alarm.
        generation: The number of generations before the recommendation.
    """
    prompts = neutral.bucket.prompts
    if not is_better(candidate.values, neutral.values, prompts, RISE):
        return []
    gain, found = candidate.fitness - neutral.fitness, []
    for name, kind in watched.items():
        before, after = np.asarray(neutral.scores[name]), np.asarray(candidate.scores[name])
        fell, rose = (is_better(*pair, prompts, SIGNIFICANCE) for pair in ((before, after), (after, before)))
        away = fell or (kind == "moves" and rose)
        change = standardised(before, after, kind)
        if away and abs(change) > LARGE[kind]:
            found.append(Alarm(generation, name, float(before.mean()), float(after.mean()), change, gain))
    return found


def standardised(before: NDArray[np.float64], after: NDArray[np.float64], kind: Watch) -> float:
    """Return the mean change in units of the standard deviation between neutral outputs.

    The standard deviation of a statistic, which lies between 0 and 1, is clipped to [0.05, 0.25]: otherwise a tiny
    change would count if all neutral pictures are alike, and no change if half of them are black and half are white.

    Args:
        before: Scores of the neutral outputs, shape (num_outputs,).
        after: Scores of the recommendation's outputs, on the same prompts and seeds.
        kind: The change that raises an alarm.
    """
    change = float((after - before).mean())
    spread = float(np.clip(before.std(ddof=1), *SPREADS[kind]))
    return change / spread if spread else float(np.copysign(NO_SPREAD, change)) * (change != 0)
