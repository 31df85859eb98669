"""Paired differences by prompt, over several buckets, with p-values that are corrected for their number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..comparison.gains import SIGNIFICANCE, holm
from ..engine.statistics import Gain, paired_gain, paired_p
from ..reports.drawing import GREY
from ..reports.words import signed

Array = NDArray[np.float64]
COLUMNS = ("difference", "low", "high", "p", "p_holm", "beyond_noise")  # of a table
DECIMALS = 4


@dataclass(frozen=True)
class Difference:
    """A paired difference with its test.

    Attributes:
        gain: The mean difference with its 95 % interval by prompt.
        p: Two-sided p-value of the paired t-test whose unit is the prompt.
        adjusted: The p-value after Holm's correction for all differences that were tested together.
    """

    gain: Gain
    p: float
    adjusted: float

    @property
    def beyond_noise(self) -> bool:
        """Whether the corrected p-value is below 5 %."""
        return self.adjusted < SIGNIFICANCE

    @property
    def text(self) -> str:
        """The mean with its interval."""
        gain = self.gain
        if not np.isfinite(gain.low):
            return signed(gain.mean, DECIMALS)
        return f"{signed(gain.mean, DECIMALS)} [{signed(gain.low, DECIMALS)}, {signed(gain.high, DECIMALS)}]"

    @property
    def told(self) -> str:
        """The corrected p-value, with a star where it is below 5 %."""
        return p_text(self.adjusted) + (" *" if self.beyond_noise else "")

    @property
    def cells(self) -> list[float | bool]:
        """The numbers of `COLUMNS`."""
        gain = self.gain
        return [gain.mean, gain.low, gain.high, self.p, self.adjusted, self.beyond_noise]

    @property
    def symbol(self) -> str:
        """The mark of a picture: full where the difference is beyond noise."""
        return "circle" if self.beyond_noise else "circle-open"

    def to_json(self) -> dict[str, Any]:
        """Return the numbers by name."""
        return {**asdict(self.gain), "p": self.p, "p_holm": self.adjusted, "beyond_noise": self.beyond_noise}


def difference(values: ArrayLike, others: ArrayLike, prompts: Sequence[str]) -> Difference:
    """Return the paired difference of values minus others, not corrected yet.

    Args:
        values: Shape (num_images,).
        others: Shape (num_images,), on the same prompts and seeds.
        prompts: The prompt of each.
    """
    p = paired_p(values, others, prompts)
    return Difference(paired_gain(values, others, prompts), p, p)


def corrected(tested: Sequence[Difference]) -> list[Difference]:
    """Return differences that were tested together, with Holm's correction for their number."""
    return [replace(each, adjusted=p) for each, p in zip(tested, holm([each.p for each in tested]), strict=True)]


def error_bars(tested: Sequence[Difference], unit: float = 1.0) -> dict[str, Any]:
    """Return the intervals of differences as error bars of a figure; an unbounded interval has none."""
    gains = [each.gain for each in tested]
    above = [(gain.high - gain.mean) * unit if np.isfinite(gain.high) else 0.0 for gain in gains]
    below = [(gain.mean - gain.low) * unit if np.isfinite(gain.low) else 0.0 for gain in gains]
    style = {"color": GREY, "thickness": 1.2, "width": 0}
    return {"type": "data", "symmetric": False, "array": above, "arrayminus": below, **style}


def p_text(value: float) -> str:
    """Return a p-value as text with two significant digits."""
    return "<\N{NO-BREAK SPACE}0.0001" if value < 0.0001 else f"{value:.2g}"
