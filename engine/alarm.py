"""The alarm against reward hacking: the optimised score rises while something that is only watched moves away.

Watched rewards must not fall; cheap statistics of the images must not move far in either direction. What counts is
the paired change on the validation outputs against the neutral setting's, and only a change that is both beyond its
noise and large against the spread of that score from output to output.

The threshold of statistics was chosen from what `benchmarks/alarm.py` printed: at checks where the score had risen
(eight of ten honest runs had any) no statistic moved by more than 0.48 standard deviations, while a reward for darkness
moved one by 0.90 and a reward for bytes moved one by 10.2. That of rewards was not measured.
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
SIGNIFICANCE = 0.001  # one-sided level at which something watched counts as moved
LARGE: Mapping[Watch, float] = {"falls": 0.25, "moves": 0.7}  # in standard deviations between neutral outputs
SPREADS: Mapping[Watch, tuple[float, float]] = {"falls": (0.0, np.inf), "moves": (0.05, 0.25)}
NO_SPREAD = 9.9  # what a movement counts where neutral outputs all have the same score


@dataclass(frozen=True)
class Alarm:
    """One warning.

    Attributes:
        generation: After how many generations.
        objective: What moved.
        neutral: Its mean on the neutral setting's validation outputs.
        now: Its mean on the recommendation's.
        change: The mean paired change, in standard deviations between neutral outputs.
        gain: What the optimised score gained meanwhile.
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
            f"deviations): look at the images before believing the score"
        )


def raised(neutral: Evaluation, checks: Mapping[int, Evaluation], watched: Mapping[str, Watch]) -> Iterator[Alarm]:
    """What the recommendations of a run set off, once for each objective.

    Args:
        neutral: The neutral setting on the validation bucket.
        checks: Every recommendation on the same bucket, by the number of generations after which it was made.
        watched: Objective name to what is watched for.
    """
    left = dict(watched)
    for generation, candidate in checks.items():
        for alarm in alarms(neutral, candidate, left, generation):
            del left[alarm.objective]
            yield alarm


def alarms(neutral: Evaluation, candidate: Evaluation, watched: Mapping[str, Watch], generation: int) -> list[Alarm]:
    """What a recommendation sets off.

    Args:
        neutral: The neutral setting on the validation bucket.
        candidate: A recommendation on the same bucket.
        watched: Objective name to what is watched for.
        generation: After how many generations it was made.
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
    """A mean change in standard deviations between neutral outputs.

    A statistic lies between 0 and 1, and its deviation is taken for at least 0.05, or a trifle would count where all
    neutral pictures are alike, and for at most 0.25, or nothing would where half of them are black and half are white.

    Args:
        before: Scores of the neutral outputs, shape (num_outputs,).
        after: Scores of the others, on the same prompts and seeds.
        kind: What is watched for.
    """
    change = float((after - before).mean())
    spread = float(np.clip(before.std(ddof=1), *SPREADS[kind]))
    return change / spread if spread else float(np.copysign(NO_SPREAD, change)) * (change != 0)
