"""An objective whose score is the output itself, a number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..engine.seams import Objective, Output
from ..ground.errors import ScoreError


class Value(Objective):
    """The output itself as the score, for adapters whose outputs are numbers."""

    reads = ("number",)

    def score(self, outputs: Sequence[Output], prompts: Sequence[str]) -> NDArray[np.float64]:
        """Return the outputs as float64. See `Objective.score`.

        Raises:
            ScoreError: If an output is no number.
        """
        try:
            scores = np.array([float(output) for output in outputs], dtype=np.float64)
        except (TypeError, ValueError):
            kind = type(outputs[0]).__name__
            raise ScoreError(
                f"objective 'value' needs an adapter whose outputs are numbers, not {kind}; choose another objective"
            ) from None
        return scores

    def describe(self) -> Mapping[str, Any]:
        """Return the name alone, since no option changes a score."""
        return {"id": "value"}
