"""When to stop: no improvement that a test can see, or no means left. Every stop has its reason in words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .schema import Budget
from .statistics import is_better


def plateau(values: Sequence[NDArray[np.float64]], prompts: Sequence[str], patience: int, significance: float) -> str:
    """The reason to stop if recommendations have stopped getting better, else an empty string.

    A recommendation counts as better only if a one-sided paired test on the same prompts and seeds says so against
    the last that did; slow progress therefore adds up until it shows, and luck does not.

    Args:
        values: Of every recommendation judged so far, in order, the starting point first: each of shape
            (num_images,).
        prompts: The prompt of each image.
        patience: How many in a row may fail.
        significance: Level of the test.
    """
    best = 0
    for index in range(1, len(values)):
        if is_better(values[index], values[best], prompts, significance):
            best = index
    failed = len(values) - 1 - best
    if failed < patience:
        return ""
    if best == 0:
        return f"no gain beyond noise in {failed} check{'s' * (failed > 1)}"
    return f"no further gain beyond noise in {failed} check{'s' * (failed > 1)}"


def exhausted(budget: Budget, images: int, next_images: int, seconds: float) -> str:
    """The reason to stop if the next generation would exceed the budget, else an empty string.

    Args:
        budget: What may be spent.
        images: Generated for the search so far.
        next_images: Of the next generation.
        seconds: Spent on generating and scoring so far, over all stages.
    """
    if budget.images is not None and images + next_images > budget.images:
        return f"the budget of {budget.images:,} images is spent"
    if budget.seconds is not None and seconds >= budget.seconds:
        return f"the budget of {budget.seconds:g} seconds is spent"
    if budget.gpu_hours is not None and seconds * budget.devices / 3600 >= budget.gpu_hours:
        return f"the budget of {budget.gpu_hours:g} GPU-hours is spent"
    return ""
