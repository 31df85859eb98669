"""What benchmarks of searches share: many of them at once, their images, and medians with quartiles."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from trimpot.engine.evaluation import Evaluation, Place

Task = TypeVar("Task")


def in_processes(
    work: Callable[[Task, Path], dict[str, Any]], tasks: Iterable[Task], folder: Path, processes: int
) -> dict[Task, dict[str, Any]]:
    """Do every task in a process of its own, several at a time, and say how many are done."""
    folder.mkdir(parents=True, exist_ok=True)
    found: dict[Task, dict[str, Any]] = {}
    with ProcessPoolExecutor(processes) as pool:
        waiting = {pool.submit(work, task, folder): task for task in tasks}
        for done in as_completed(waiting):
            found[waiting[done]] = done.result()
            print(f"\r{len(found)} of {len(waiting)} searches", end="", flush=True)
    return found


def images_spent(evaluations: Iterable[tuple[Place, Evaluation]], num_generations: int) -> list[int]:
    """Images of the search by the number of generations told, shape (num_generations + 1,)."""
    images = np.zeros(num_generations + 1, dtype=int)
    for place, evaluation in evaluations:
        if place.stage == "search":
            images[place.generation + 1] += evaluation.num_images
    return [int(spent) for spent in np.cumsum(images)]


def images_to(curve: Sequence[Sequence[float]], level: float) -> float | None:
    """Images from which on every recommendation is at least at `level`; a lucky one does not count.

    Args:
        curve: Images and value of every recommendation, in order; further columns are not looked at.
        level: The value.
    """
    below = [index for index, (images, value, *_) in enumerate(curve) if not images or value < level]
    return curve[below[-1] + 1][0] if below[-1] + 1 < len(curve) else None


def quartiles(values: Iterable[float | None], form: str, missing: float) -> str:
    """Median and quartiles; what was not reached counts as `missing`, and is written as a dash."""
    numbers = [missing if value is None else value for value in values]
    points = np.quantile(numbers, (0.25, 0.5, 0.75), method="inverted_cdf")
    low, middle, high = (format(point, form) if np.isfinite(point) and point != missing else "-" for point in points)
    return f"{middle} [{low}, {high}]"
