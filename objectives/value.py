"""The value of an output that is a number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..engine.seams import Objective, Output
from ..ground.errors import ScoreError


class Value(Objective):
    """Returns outputs themselves, for adapters whose outputs are scores already."""

    def score(self, outputs: Sequence[Output], prompts: Sequence[str]) -> NDArray[np.float64]:
        """See `Objective.score`.

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
        """It has nothing that could change a score."""
        return {"id": "value"}
