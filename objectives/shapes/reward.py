"""The checker as an objective."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ...engine.seams import Objective, Output
from .checker import check

CONVENTION = 1  # increased whenever a change of the checker changes a score


class ShapesReward(Objective):
    """The checker's score of a picture of the shapes world, from 0 to 1 (see `checker`)."""

    def score(self, outputs: Sequence[Output], prompts: Sequence[str]) -> NDArray[np.float64]:
        """Check every picture. See `Objective.score`."""
        return np.array([check(image, prompt).score for image, prompt in zip(outputs, prompts, strict=True)])

    def describe(self) -> dict[str, object]:
        """Describe the version of the checker and the range. See `Objective.describe`."""
        return {"convention": CONVENTION, "range": [0, 1]}
