"""Scoring outputs, and refusing what an optimizer must not be told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from .bucket import Bucket
from .errors import ModelError, ScoreError, TrimpotError
from .evaluation import Place
from .seams import Objective, Output


def score_outputs(
    objectives: Mapping[str, Objective], outputs: Sequence[Output], bucket: Bucket, place: Place
) -> dict[str, tuple[float, ...]]:
    """Score a candidate's outputs by every objective.

    Raises:
        ModelError: If there are not as many outputs as prompts.
        ScoreError: If an objective raises, or returns something else than one finite number an output.
    """
    if len(outputs) != len(bucket):
        raise ModelError(f"{place}: the adapter made {len(outputs)} outputs for {len(bucket)} prompts")
    return {name: _score(name, objective, outputs, bucket, place) for name, objective in objectives.items()}


def _score(
    name: str, objective: Objective, outputs: Sequence[Output], bucket: Bucket, place: Place
) -> tuple[float, ...]:
    try:
        scores: NDArray[np.float64] = np.asarray(objective.score(outputs, bucket.prompts), dtype=np.float64)
    except TrimpotError:
        raise
    except Exception as error:  # somebody else's reward may fail in any way
        raise ScoreError(
            f"{place}: objective {name!r} failed on prompts such as {bucket.prompts[0]!r}: "
            f"{type(error).__name__}: {error}"
        ) from error
    if scores.shape != (len(bucket),):
        raise ScoreError(
            f"{place}: objective {name!r} returned shape {scores.shape} for {len(bucket)} outputs, "
            f"first prompt {bucket.prompts[0]!r}; it must return one score an output"
        )
    for index in np.flatnonzero(~np.isfinite(scores)):
        raise ScoreError(
            f"{place}: objective {name!r} returned {scores[index]} for prompt {bucket.prompts[index]!r} "
            f"(seed {bucket.seeds[index]}); scores must be finite"
        )
    return tuple(float(score) for score in scores)
