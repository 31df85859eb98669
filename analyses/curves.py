"""Scores by numbers of steps, and the fewest steps at which a calibration equals the uncalibrated model at its best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ..engine.statistics import Gain, paired_gain
from .differences import Difference, corrected, difference

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Point:
    """One kind of model at one number of steps, on the test outputs.

    Attributes:
        steps: Denoising steps.
        passes: Passes of the transformer for an image (NFE): steps times members of the ensemble; None if unknown.
        values: The values of every output, for each seed, of shape (num_seeds, num_outputs).
        seconds: Seconds of generating an image, measured, averaged over seeds, of one worker.
        label: The neutral setting that was chosen at these steps; empty for a calibration.
        validation: Its score on validation prompts; None for a calibration.
    """

    steps: int
    passes: int | None
    values: Array
    seconds: float
    label: str = ""
    validation: float | None = None

    @property
    def mean(self) -> Array:
        """The values averaged over seeds, shape (num_outputs,)."""
        mean: Array = self.values.mean(axis=0)
        return mean

    @property
    def score(self) -> float:
        """The mean score."""
        return float(self.values.mean())


@dataclass(frozen=True)
class Curves:
    """Neutral and calibrated models by numbers of steps, all on the same prompts and seeds.

    Attributes:
        prompts: The prompt of each output.
        neutral: The best neutral setting at each number of steps, chosen on validation prompts.
        calibrated: Points by number of steps, for each kind by its name.
        margin: How much worse than neutral at its best still counts as equal; 0 for no margin.
    """

    prompts: tuple[str, ...]
    neutral: Mapping[int, Point]
    calibrated: Mapping[str, Mapping[int, Point]]
    margin: float = 0.0

    @cached_property
    def best(self) -> Point:
        """Neutral at the number of steps that is best on validation prompts; the fewest of equals."""
        return max(self.neutral.values(), key=lambda point: (point.validation or 0.0, -point.steps))

    @cached_property
    def to_best(self) -> dict[tuple[str, int], Gain]:
        """The paired difference of every point of every kind to neutral at its best; `neutral` is a kind too."""
        kinds = {"neutral": self.neutral, **self.calibrated}
        return {
            (kind, steps): paired_gain(point.mean, self.best.mean, self.prompts)
            for kind, points in kinds.items()
            for steps, point in points.items()
        }

    @cached_property
    def gains(self) -> dict[tuple[str, int], Difference]:
        """The paired difference of each calibration to neutral at the same steps, with Holm's correction for all."""
        found = {
            (kind, steps): difference(point.mean, self.neutral[steps].mean, self.prompts)
            for kind, points in self.calibrated.items()
            for steps, point in points.items()
        }
        return dict(zip(found, corrected(list(found.values())), strict=True))

    def between(self, kind: str, other: str) -> dict[int, Difference]:
        """Return the paired difference of one kind to another at every number of steps, with Holm's correction."""
        one, two = self.calibrated[kind], self.calibrated[other]
        found = {steps: difference(one[steps].mean, two[steps].mean, self.prompts) for steps in one if steps in two}
        return dict(zip(found, corrected(list(found.values())), strict=True))

    def equals_best(self, kind: str) -> int | None:
        """Return the fewest steps at which a kind equals neutral at its best, or None.

        Equal is the first number of steps whose paired difference to neutral at its best has a 95 % interval that
        reaches 0 or lies above it; with a margin, an interval that lies above minus the margin.
        """
        return next((steps for steps in self._ascending(kind) if self._equal(self.to_best[kind, steps])), None)

    def beats_best(self, kind: str) -> int | None:
        """Return the fewest steps at which the whole interval lies above 0, or None."""
        return next((steps for steps in self._ascending(kind) if self.to_best[kind, steps].low > 0), None)

    def _equal(self, gain: Gain) -> bool:
        return gain.low > -self.margin if self.margin else gain.high >= 0

    def _ascending(self, kind: str) -> Sequence[int]:
        return sorted(self.neutral if kind == "neutral" else self.calibrated[kind])
