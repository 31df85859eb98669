"""Functions shared by benchmarks of searches: parallel searches, counts of images, medians with quartiles."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from trimpot.engine.checking import is_geometric
from trimpot.engine.evaluation import Evaluation, Place

Task = TypeVar("Task")
VALIDATION = 64  # images of a check


def in_processes(
    work: Callable[[Task, Path], dict[str, Any]], tasks: Iterable[Task], folder: Path, processes: int
) -> dict[Task, dict[str, Any]]:
    """Do every task in a process of its own, several at a time, and print how many are done."""
    folder.mkdir(parents=True, exist_ok=True)
    found: dict[Task, dict[str, Any]] = {}
    with ProcessPoolExecutor(processes) as pool:
        waiting = {pool.submit(work, task, folder): task for task in tasks}
        for done in as_completed(waiting):
            found[waiting[done]] = done.result()
            print(f"\r{len(found)} of {len(waiting)} searches", end="", flush=True)
    return found


def images_spent(evaluations: Iterable[tuple[Place, Evaluation]], num_generations: int) -> list[int]:
    """Return the images of the search by number of generations told, shape (num_generations + 1,)."""
    images = np.zeros(num_generations + 1, dtype=int)
    for place, evaluation in evaluations:
        if place.stage == "search":
            images[place.generation + 1] += evaluation.num_images
    return [int(spent) for spent in np.cumsum(images)]


def with_validation(curve: Sequence[Sequence[float]], generations: Sequence[int]) -> list[list[float]]:
    """Return a curve whose images are those of the search and of the default's ever rarer checks until then.

    Args:
        curve: Images of the search and value of every recommendation, in order; further columns are kept.
        generations: The number of generations before each recommendation.
    """
    due = np.cumsum([0, *(is_geometric(done) for done in range(1, max(generations) + 1))])
    return [
        [images + VALIDATION * int(due[done]), *values]
        for (images, *values), done in zip(curve, generations, strict=True)
    ]


def images_to(curve: Sequence[Sequence[float]], level: float) -> float | None:
    """Return the number of images from which every recommendation reaches `level`; an earlier lucky one does not count.

    Args:
        curve: Images and value of every recommendation, in order; further columns are ignored.
        level: The value to reach.
    """
    below = [index for index, (images, value, *_) in enumerate(curve) if not images or value < level]
    return curve[below[-1] + 1][0] if below[-1] + 1 < len(curve) else None


def quartiles(values: Iterable[float | None], form: str, missing: float) -> str:
    """Return median and quartiles as text; None counts as `missing`, and `missing` is written as a dash."""
    numbers = [missing if value is None else value for value in values]
    points = np.quantile(numbers, (0.25, 0.5, 0.75), method="inverted_cdf")
    low, middle, high = (format(point, form) if np.isfinite(point) and point != missing else "-" for point in points)
    return f"{middle} [{low}, {high}]"
