"""The checker as an objective."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ...engine.seams import Objective, Output
from ..images import PICTURES
from .checker import check

CONVENTION = 1  # increased whenever a change of the checker changes a score


class ShapesReward(Objective):
    """The checker's score of a picture of the shapes world, from 0 to 1 (see `checker`).

    Args:
        factor: A number of the checker's verdict to return instead of the whole score: `faithful` and `strict` are
            about the prompt, `vivid`, `crisp` and `clean` about the picture alone.
    """

    reads = PICTURES

    def __init__(self, factor: str | None = None) -> None:
        self._factor = factor

    def score(self, outputs: Sequence[Output], prompts: Sequence[str]) -> NDArray[np.float64]:
        """Check every picture. See `Objective.score`."""
        verdicts = [check(image, prompt) for image, prompt in zip(outputs, prompts, strict=True)]
        return np.array([float(getattr(verdict, self._factor or "score")) for verdict in verdicts])

    def describe(self) -> dict[str, object]:
        """Describe the version of the checker and the range. See `Objective.describe`."""
        factor = {"factor": self._factor} if self._factor else {}
        return {"convention": CONVENTION, "range": [0, 1], **factor}
