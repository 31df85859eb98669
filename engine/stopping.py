"""When to stop: no improvement that a test can see, or no means left. Every stop has its reason in words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from .schema import Budget
from .statistics import is_better

#: Key of a configuration to the reason that a larger value of it takes away.
_TAKEN_AWAY = {
    "generations": r"all \d+ generations? (is|are) done",
    "budget.images": r"the budget of \S+ images? is spent",
    "budget.seconds": r"the budget of \S+ seconds? is spent",
    "budget.gpu_hours": r"the budget of \S+ GPU-hours? is spent",
    "validation.patience": r"no (further )?gain beyond noise in \d+ checks?",
}


def taken_away_by(reason: str) -> str:
    """The key of a configuration that takes a reason to stop away if it is larger; empty for an optimizer's own."""
    return next((key for key, said in _TAKEN_AWAY.items() if re.fullmatch(said, reason)), "")


class Plateau:
    """Whether recommendations have stopped getting better.

    A recommendation counts as better only if a one-sided paired test on the same prompts and seeds says so against
    the last that did; slow progress therefore adds up until it shows, and luck does not.

    Args:
        prompts: The prompt of each image.
        patience: How many in a row may fail.
        significance: Level of the test.
    """

    def __init__(self, prompts: Sequence[str], patience: int, significance: float) -> None:
        self._prompts = prompts
        self._patience = patience
        self._significance = significance
        self._best: NDArray[np.float64] | None = None
        self._gained = False
        self._failed = 0

    def add(self, values: NDArray[np.float64]) -> None:
        """Take note of the next recommendation that was judged, or of the starting point before the first.

        Args:
            values: Shape (num_images,).
        """
        if self._best is None:
            self._best = values
        elif is_better(values, self._best, self._prompts, self._significance):
            self._best, self._gained, self._failed = values, True, 0
        else:
            self._failed += 1

    @property
    def reason(self) -> str:
        """The reason to stop, or an empty string."""
        if self._failed < self._patience:
            return ""
        checks = "1 check" if self._failed == 1 else f"{self._failed} checks"
        return f"no {'further ' if self._gained else ''}gain beyond noise in {checks}"


def plateau(values: Iterable[NDArray[np.float64]], prompts: Sequence[str], patience: int, significance: float) -> str:
    """The reason to stop if recommendations have stopped getting better, else an empty string; see `Plateau`.

    Args:
        values: Of every recommendation judged so far, in order, the starting point first: each of shape
            (num_images,).
        prompts: The prompt of each image.
        patience: How many in a row may fail.
        significance: Level of the test.
    """
    found = Plateau(prompts, patience, significance)
    for each in values:
        found.add(each)
    return found.reason


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
