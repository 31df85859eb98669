"""Scoring outputs, and refusing what an optimizer must not be told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..ground.errors import ScoreError, TrimpotError
from ..ground.plain import LARGEST, real_numbers
from .bucket import Bucket
from .evaluation import Evaluation, Place
from .seams import Combination, Objective, Output
from .vetting import blamed, who_made


def score_outputs(
    objectives: Mapping[str, Objective], outputs: Sequence[Output], bucket: Bucket, place: Place
) -> dict[str, tuple[float, ...]]:
    """Score a candidate's outputs by every objective.

    Raises:
        ScoreError: If an objective raises, or returns something else than one finite number an output.
    """
    return {name: _score(name, objective, outputs, bucket, place) for name, objective in objectives.items()}


def combined_values(
    combination: Combination,
    scores: Mapping[str, tuple[float, ...]],
    bucket: Bucket,
    pool: Evaluation | None,
    place: Place,
) -> tuple[float, ...]:
    """What a combination makes of a candidate's scores, one value an output.

    Raises:
        ScoreError: If it returns something else than one finite number an output.
    """
    values = combination.values({name: np.asarray(each) for name, each in scores.items()}, bucket, pool)
    return _in_range(values, len(bucket), f"{place}: the combination of objectives")


def fitness_of(
    combination: Combination, evaluations: Sequence[Evaluation], pool: Evaluation | None, place: Place
) -> NDArray[np.float64]:
    """What candidates of a group are worth to the optimizer, shape (group_size,).

    Args:
        combination: Of the run's objectives.
        evaluations: The group's candidates on their bucket.
        pool: The neutral model's outputs that they are judged against.
        place: Of the first of them.

    Raises:
        ScoreError: If one is no finite number; the optimizer must not be told.
    """
    worth = combination.fitness(evaluations, pool)
    return np.array(_in_range(worth, len(evaluations), f"{place}: the fitness of its group"))


def admits(combination: Combination, candidate: Evaluation, neutral: Evaluation) -> bool:
    """Whether a combination lets a setting be chosen, judged on validation outputs beside the neutral setting's.

    Raises:
        PluginError: If the combination fails.
    """
    with blamed(who_made(combination, "the combination")):
        return bool(combination.admits(candidate, neutral))


def _in_range(values: ArrayLike, length: int, who: str) -> tuple[float, ...]:
    numbers = real_numbers(values, length, who, ScoreError)
    for number in numbers[~(np.abs(numbers) <= LARGEST)]:
        raise ScoreError(f"{who} is {number:g}; it must be finite, and at most {LARGEST:g} in size: lower the weights")
    return tuple(float(number) for number in numbers)


def _score(
    name: str, objective: Objective, outputs: Sequence[Output], bucket: Bucket, place: Place
) -> tuple[float, ...]:
    who = f"{place}: {who_made(objective, f'objective {name!r}')}"
    try:
        returned = objective.score(outputs, bucket.prompts)
        scores = real_numbers(
            returned, len(bucket), f"{who}, first prompt {bucket.prompts[0]!r}: its list of scores", ScoreError
        )
    except TrimpotError:
        raise
    except (Exception, SystemExit) as error:  # somebody else's reward may fail in any way, or try to end the process
        raise ScoreError(
            f"{who} failed on prompts such as {bucket.prompts[0]!r}: {type(error).__name__}: {error}"
        ) from error
    for index in np.flatnonzero(~(np.abs(scores) <= LARGEST)):
        raise ScoreError(
            f"{who} returned {scores[index]:g} for prompt {bucket.prompts[index]!r} "
            f"(seed {bucket.seeds[index]}); scores must be finite, and at most {LARGEST:g} in size"
        )
    return tuple(float(score) for score in scores)
