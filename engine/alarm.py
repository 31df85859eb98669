"""The alarm against reward hacking: the optimised score rises while a watched score gets worse.

Watched rewards must not fall, and statistics of the outputs must not move far in either direction. The alarm compares a
recommendation's validation outputs with the neutral setting's, in pairs. A change raises the alarm only if it is
significant and also large relative to the spread of that score between outputs. Objectives of watched prompts are held
to the same: they must not fall there while the optimised score rises on validation.

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
        objective: The watched objective that moved, or the objective that fell on watched prompts.
        neutral: The objective's mean on the neutral setting's validation outputs.
        now: The objective's mean on the recommendation's validation outputs.
        change: The mean paired change, in standard deviations between neutral outputs.
        gain: The rise of the mean optimised score.
        prompts: The name of the watched prompts on which it fell; empty for the validation prompts.
    """

    generation: int
    objective: str
    neutral: float
    now: float
    change: float
    gain: float
    prompts: str = ""

    def __str__(self) -> str:
        return self.told()

    def told(self, outputs: str = "outputs") -> str:
        """Return the alarm as a sentence; `outputs` is what the outputs of the run are called."""
        advice = f"look at the {outputs} before believing the score"
        if self.prompts:
            advice = f"what is gained there is lost on {self.prompts}"
        return (
            f"after generation {self.generation} the optimised score is up by {self.gain:.3g} on validation, but "
            f"{self.what} went from {self.neutral:.3g} to {self.now:.3g} ({self.change:+.1f} standard "
            f"deviations): {advice}"
        )

    @property
    def what(self) -> str:
        """What moved, such as `exact-match on cities`."""
        return f"{own_name(self.objective, self.prompts)} on {self.prompts}" if self.prompts else self.objective


def own_name(objective: str, prompts: str) -> str:
    """Return the name of an objective in its set of watched prompts: `perplexity` for `cities/perplexity`."""
    return objective.removeprefix(f"{prompts}/")


def raised(
    neutral: Evaluation,
    checks: Mapping[int, Evaluation],
    watched: Mapping[str, Watch],
    prompts: str = "",
    seen: Mapping[int, Evaluation] | None = None,
) -> Iterator[Alarm]:
    """Yield the alarms that a run's recommendations raise, at most one for each objective.

    Args:
        neutral: The neutral setting's evaluation on the validation bucket.
        checks: Every recommendation's evaluation on the same bucket, by the number of generations before it.
        watched: Objective name to the change that raises an alarm.
        prompts: The name of the watched prompts that `seen` is of.
        seen: The evaluations on watched prompts, by the number of generations; 0 is the neutral setting. None watches
            the validation outputs themselves.
    """
    left = dict(watched)
    for generation, candidate in checks.items():
        pair = (neutral, candidate) if seen is None else (seen.get(0), seen.get(generation))
        if pair[0] is None or pair[1] is None:  # not scored yet
            continue
        for alarm in alarms(neutral, candidate, left, generation, prompts, (pair[0], pair[1])):
            del left[alarm.objective]
            yield alarm


def alarms(
    neutral: Evaluation,
    candidate: Evaluation,
    watched: Mapping[str, Watch],
    generation: int,
    prompts: str = "",
    pair: tuple[Evaluation, Evaluation] | None = None,
) -> list[Alarm]:
    """Return the alarms that one recommendation raises.

    Args:
        neutral: The neutral setting's evaluation on the validation bucket.
        candidate: The recommendation's evaluation on the same bucket.
        watched: Objective name to the change that raises an alarm.
        generation: The number of generations before the recommendation.
        prompts: The name of the watched prompts that `pair` is of.
        pair: Evaluations of the neutral setting and the recommendation, whose scores are watched; None for the
            validation outputs themselves.
    """
    if not is_better(candidate.values, neutral.values, neutral.bucket.prompts, RISE):
        return []
    gain, found = candidate.fitness - neutral.fitness, []
    first, second = pair or (neutral, candidate)
    for name, kind in watched.items():
        before, after = np.asarray(first.scores[name]), np.asarray(second.scores[name])
        units = first.bucket.prompts
        fell, rose = (is_better(*sides, units, SIGNIFICANCE) for sides in ((before, after), (after, before)))
        away = fell or (kind == "moves" and rose)
        change = standardised(before, after, kind)
        if away and abs(change) > LARGE[kind]:
            found.append(Alarm(generation, name, float(before.mean()), float(after.mean()), change, gain, prompts))
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
