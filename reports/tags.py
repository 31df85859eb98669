"""Scores by kind of prompt, where an objective knows kinds."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..engine.statistics import paired_gain
from .watched import Moved, Pair


def movements_by_tag(pair: Pair | None, tags: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, Moved]]:
    """How every objective with tags moved, by tag; tags with a single output are left out.

    Args:
        pair: Neutral and calibrated on the test bucket.
        tags: Objective to prompt to tag.
    """
    if pair is None:
        return {}
    before, after = pair
    found: dict[str, dict[str, Moved]] = {}
    for name, tag_of in tags.items():
        if name not in before.scores:
            continue
        own = np.array([tag_of.get(prompt, "") for prompt in before.bucket.prompts])
        neutral, calibrated = np.asarray(before.scores[name]), np.asarray(after.scores[name])
        found[name] = {
            tag: Moved(
                float(neutral[own == tag].mean()),
                float(calibrated[own == tag].mean()),
                paired_gain(calibrated[own == tag], neutral[own == tag]),
            )
            for tag in sorted(set(own) - {""})
            if (own == tag).sum() > 1
        }
    return found
