"""Paired differences by prompt, over several buckets, with p-values that are corrected for their number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..comparison.gains import SIGNIFICANCE, holm
from ..engine.statistics import Gain, paired_gain, paired_p

Array = NDArray[np.float64]


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
