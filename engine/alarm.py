"""The alarm against reward hacking: the optimised score rises while something that is only watched moves away.

Watched rewards must not fall; cheap statistics of the images must not move far in either direction. What counts is
the paired change on the validation outputs against the neutral setting's, and only a change that is both beyond its
noise and large against the spread of that score from output to output.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from .evaluation import Evaluation
from .stopping import is_better

Watch = Literal["falls", "moves"]
SIGNIFICANCE = 0.001
LARGE: Mapping[Watch, float] = {"falls": 0.25, "moves": 1.0}  # in standard deviations between neutral outputs


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


def alarms(
    neutral: Evaluation, candidate: Evaluation, watched: Mapping[str, Watch], generation: int
) -> Iterable[Alarm]:
    """What a recommendation sets off.

    Args:
        neutral: The neutral setting on the validation bucket.
        candidate: A recommendation on the same bucket.
        watched: Objective name to what is watched for.
        generation: After how many generations it was made.
    """
    if not is_better(candidate.values, neutral.values, SIGNIFICANCE):
        return
    for name, kind in watched.items():
        before, after = np.asarray(neutral.scores[name]), np.asarray(candidate.scores[name])
        fallen = is_better(before, after, SIGNIFICANCE)
        risen = kind == "moves" and is_better(after, before, SIGNIFICANCE)
        spread = float(before.std(ddof=1))
        change = float((after - before).mean())
        if (fallen or risen) and abs(change) > LARGE[kind] * spread:
            yield Alarm(
                generation,
                name,
                float(before.mean()),
                float(after.mean()),
                change / spread if spread else float(np.copysign(9.9, change)),
                candidate.fitness - neutral.fitness,
            )
