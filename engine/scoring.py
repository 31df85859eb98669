"""Scoring outputs, and refusing scores that an optimizer must not be told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..ground.errors import ScoreError, TrimpotError
from ..ground.plain import LARGEST, quoted, real_numbers
from .bucket import Bucket
from .evaluation import Evaluation, Place
from .seams import Combination, Objective, Output
from .vetting import blamed, who_made


def score_outputs(
    objectives: Mapping[str, Objective],
    outputs: Sequence[Output],
    bucket: Bucket,
    place: Place,
    *,
    seeded: bool = True,
) -> dict[str, tuple[float, ...]]:
    """Score a candidate's outputs by every objective.

    Args:
        objectives: The objectives by name.
        outputs: The outputs, one a prompt.
        bucket: The prompts and seeds.
        place: The candidate's place, for an error message.
        seeded: Whether outputs depend on their seeds, so that an error message names them.

    Raises:
        ScoreError: If an objective raises, or does not return one finite number an output.
    """
    return {name: _score(name, objective, outputs, bucket, place, seeded) for name, objective in objectives.items()}


def combined_values(
    combination: Combination,
    scores: Mapping[str, tuple[float, ...]],
    bucket: Bucket,
    pool: Evaluation | None,
    place: Place,
) -> tuple[float, ...]:
    """Combine a candidate's scores into one value an output.

    Raises:
        ScoreError: If the combination does not return one finite number an output.
    """
    values = combination.values({name: np.asarray(each) for name, each in scores.items()}, bucket, pool)
    return _in_range(values, len(bucket), f"{place}: the combination of objectives")


def fitness_of(
    combination: Combination, evaluations: Sequence[Evaluation], pool: Evaluation | None, place: Place
) -> NDArray[np.float64]:
    """Return the fitness of a group's candidates, shape (group_size,).

    Args:
        combination: The combination of the run's objectives.
        evaluations: The evaluations of the group's candidates.
        pool: The evaluation of the neutral outputs that they are compared with, or None.
        place: The place of the first candidate.

    Raises:
        ScoreError: If a fitness is no finite number.
    """
    worth = combination.fitness(evaluations, pool)
    return np.array(_in_range(worth, len(evaluations), f"{place}: the fitness of its group"))


def admits(combination: Combination, candidate: Evaluation, neutral: Evaluation) -> bool:
    """Return whether a combination allows a setting to be chosen, given its and the neutral validation evaluations.

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
    name: str, objective: Objective, outputs: Sequence[Output], bucket: Bucket, place: Place, seeded: bool
) -> tuple[float, ...]:
    who = f"{place}: {who_made(objective, f'objective {name!r}')}"
    try:
        returned = objective.score(outputs, bucket.prompts)
        scores = real_numbers(
            returned, len(bucket), f"{who}, first prompt {quoted(bucket.prompts[0])}: its list of scores", ScoreError
        )
    except TrimpotError:
        raise
    except (Exception, SystemExit) as error:  # somebody else's reward may fail in any way, or try to end the process
        raise ScoreError(
            f"{who} failed on prompts such as {quoted(bucket.prompts[0])}: {type(error).__name__}: {error}"
        ) from error
    for index in np.flatnonzero(~(np.abs(scores) <= LARGEST)):
        seed = f" (seed {bucket.seeds[index]})" if seeded else ""
        raise ScoreError(
            f"{who} returned {scores[index]:g} for prompt {quoted(bucket.prompts[index])}{seed}; "
            f"scores must be finite, and at most {LARGEST:g} in size"
        )
    return tuple(float(score) for score in scores)
