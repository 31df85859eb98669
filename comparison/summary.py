"""The numbers that summarise the results of a comparison, for the page, the terminal and programs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .gains import (
    Array,
    GainTable,
    Interval,
    Pair,
    Ranking,
    expected_images,
    gain_interval,
    images_to,
    pairs,
    ranking,
)
from .results import Results

SHARES = (0.5, 0.75, 0.9)


@dataclass(frozen=True)
class Summary:
    """The summary of a comparison; every number is computed when it is first used.

    Attributes:
        results: The results of the comparison.
    """

    results: Results

    @cached_property
    def gains(self) -> dict[str, Interval]:
        """Interquartile mean of the gain on test prompts, by contender, best first."""
        found = {label: gain_interval(self.results.by_prompt(label)) for label in self.results.ranked}
        return dict(sorted(found.items(), key=lambda item: -item[1].value))

    @cached_property
    def leader(self) -> str | None:
        """The contender with the largest gain, or None before any run has finished."""
        return next(iter(self.gains), None)

    @cached_property
    def pairs(self) -> list[Pair]:
        """The tests of every pair of contenders, on the seeds that all contenders have finished."""
        return pairs(list(self.gains), self._paired) if self._paired and self.num_paired > 1 else []

    @cached_property
    def ranking(self) -> Ranking | None:
        """Average ranks, or None with fewer than three contenders."""
        return ranking(list(self.gains), self._paired.means) if self._paired else None

    @cached_property
    def _paired(self) -> GainTable | None:
        return self.results.paired(list(self.gains))

    @cached_property
    def start(self) -> float | None:
        """The validation score that all contenders begin from: that of the best neutral setting."""
        starts = [course.validation[0] for label in self.results.ranked for course in self.results.of(label)]
        return starts[0] if starts else None

    @cached_property
    def best(self) -> float | None:
        """The best validation score that any run reached."""
        found = [course.chosen[-1] for label in self.results.ranked for course in self.results.of(label)]
        return max(found, default=None)

    def target(self, share: float) -> float | None:
        """Return the validation score at a share of the way from the common start to the best that was reached."""
        if self.start is None or self.best is None or self.best <= self.start:
            return None
        return self.start + share * (self.best - self.start)

    def times(self, label: str, targets: Array) -> Array:
        """Return the images until each run of a contender reached each target, shape (num_runs, num_targets)."""
        return np.stack([images_to(each.images, each.chosen, targets) for each in self.results.of(label)])

    def spent(self, label: str) -> Array:
        """Return the images of search of each run of a contender, shape (num_runs,)."""
        return np.array([each.spent for each in self.results.of(label)], dtype=np.float64)

    def expected(self, label: str, share: float) -> tuple[float, int] | None:
        """Return the expected images to a target with restarts, and the number of runs that reached it."""
        target = self.target(share)
        if target is None:
            return None
        times = self.times(label, np.array([target]))[:, 0]
        return expected_images(times, self.spent(label)), int(np.isfinite(times).sum())

    @property
    def num_finished(self) -> int:
        """Number of runs that have a result."""
        return sum(course.finished for course in self.results.courses.values())

    @property
    def num_paired(self) -> int:
        """Number of seeds on which contenders are compared pair by pair."""
        return len(self._paired.sums) if self._paired else 0

    @property
    def num_prompts(self) -> int | None:
        """Number of different test prompts behind the gains, or None before any run has finished."""
        return len(self.results.by_prompt(self.leader).sizes) if self.leader else None


def as_numbers(found: Interval) -> Mapping[str, float | None]:
    """Return an interval as JSON values; a number that does not exist is null."""
    return {name: finite(value) for name, value in vars(found).items()}


def finite(value: float) -> float | None:
    """Return the number, or None if it is infinite or NaN."""
    return value if math.isfinite(value) else None
