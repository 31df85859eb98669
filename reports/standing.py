"""What a result allows: the one rule that the terminal, the report and the menu follow before they say *apply it*."""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import Enum
from typing import Any


class Standing(Enum):
    """Where a calibrated setting stands against the neutral one, by the 95 % interval of its gain on test prompts."""

    BETTER = "better"
    UNCERTAIN = "uncertain"
    WORSE = "worse"
    NEUTRAL = "neutral"

    @property
    def may_be_applied(self) -> bool:
        """Whether the result is worth applying: it is better, beyond noise."""
        return self is Standing.BETTER

    @property
    def sentence(self) -> str:
        """What is said of the result, beyond its numbers; empty for a gain."""
        return _SENTENCES[self]


_SENTENCES = {
    Standing.BETTER: "",
    Standing.UNCERTAIN: (
        "This is no gain beyond noise: the 95 % interval includes 0. Do not apply it yet; more generations or more "
        "test prompts may tell."
    ),
    Standing.WORSE: "The calibrated setting is worse than the neutral one: do not use it.",
    Standing.NEUTRAL: (
        "No recommendation of the search beat the neutral setting on validation prompts, so the calibration is the "
        "neutral setting itself: there is nothing to apply."
    ),
}


def standing_of(outcome: Mapping[str, Any]) -> Standing:
    """Return where the result of a finished run stands.

    Args:
        outcome: The recorded outcome, with `comparisons`, of which the first is at the calibrated number of steps, and
            the settings `calibrated` and `baseline`.
    """
    baseline = outcome.get("baseline") or {}
    if "setting" in baseline and outcome.get("calibrated") == baseline["setting"]:
        return Standing.NEUTRAL
    return standing(outcome["comparisons"][0]["gain"])


def standing(gain: Mapping[str, Any]) -> Standing:
    """Return where a gain with its interval stands; without an interval, nothing is certain."""
    low, high = float(gain["low"]), float(gain["high"])
    if not (math.isfinite(low) and math.isfinite(high)):
        return Standing.UNCERTAIN
    if low > 0:
        return Standing.BETTER
    return Standing.WORSE if high < 0 else Standing.UNCERTAIN
