"""Reasons to stop: no significant gain in several checks, or a spent budget. Each reason is a text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from .schema import Budget
from .statistics import is_better

#: Configuration key to the reason to stop that a larger value of the key removes.
_TAKEN_AWAY = {
    "generations": r"all \d+ generations? (is|are) done",
    "budget.images": r"the budget of \S+ (?:images|videos|answers|outputs) is spent",
    "budget.seconds": r"the budget of \S+ seconds? is spent",
    "budget.gpu_hours": r"the budget of \S+ GPU-hours? is spent",
    "validation.patience": r"no (further )?gain beyond noise in \d+ checks?",
}


def taken_away_by(reason: str) -> str:
    """Return the configuration key whose increase removes a reason to stop; empty for an optimizer's own reason."""
    return next((key for key, said in _TAKEN_AWAY.items() if re.fullmatch(said, reason)), "")


class Plateau:
    """Detects that recommendations no longer get better.

    A recommendation counts as better only if it is significantly better, by a one-sided paired test on the same prompts
    and seeds, than the last one that counted as better. Slow progress therefore adds up until the test detects it.

    Args:
        prompts: The prompt of each output.
        patience: How many recommendations in a row without a gain end the search.
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
        """Add the next judged recommendation; the first call adds the starting point.

        Args:
            values: Shape (num_outputs,).
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
    """Return the reason to stop if recommendations no longer get better, else an empty string; see `Plateau`.

    Args:
        values: Values of the starting point, then of every judged recommendation in order, each of shape
            (num_outputs,).
        prompts: The prompt of each output.
        patience: How many recommendations in a row without a gain end the search.
        significance: Level of the test.
    """
    found = Plateau(prompts, patience, significance)
    for each in values:
        found.add(each)
    return found.reason


def exhausted(budget: Budget, images: int, next_images: int, seconds: float, outputs: str = "outputs") -> str:
    """Return the reason to stop if the next generation would exceed the budget, else an empty string.

    Args:
        budget: The configured budget.
        images: The number of outputs generated for the search so far.
        next_images: The number of outputs of the next generation.
        seconds: The time spent on generating and scoring so far, over all stages.
        outputs: What the outputs are called.
    """
    if budget.images is not None and images + next_images > budget.images:
        return f"the budget of {budget.images:,} {outputs} is spent"
    if budget.seconds is not None and seconds >= budget.seconds:
        return f"the budget of {budget.seconds:g} seconds is spent"
    if budget.gpu_hours is not None and seconds * budget.devices / 3600 >= budget.gpu_hours:
        return f"the budget of {budget.gpu_hours:g} GPU-hours is spent"
    return ""
