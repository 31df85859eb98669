"""Statistics of pictures that need no model, to watch while another reward is optimised.

They show early whether a search finds brighter, flatter or more colourful pictures instead of better ones. Each
statistic lies between 0 and 1. Luma is that of ITU-R BT.601, 0.299 red + 0.587 green + 0.114 blue, from 0 to 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..engine.seams import Objective, Output
from .images import PICTURES, rgb

Pixels = NDArray[np.uint8]

EDGE = 0.1  # the smallest change of luma at an edge
DARK, BRIGHT = 0.1, 0.9  # luma below and above which a pixel is dark or bright


def edge_density(pixels: Pixels) -> float:
    """The share of pixels whose luma gradient is longer than 0.1.

    The gradient consists of the differences to the right and the lower neighbour. The last row and column lack a
    neighbour and are left out. A picture one pixel high or wide has no edges.
    """
    luma = _luma(pixels)
    if min(luma.shape) < 2:
        return 0.0
    right, down = np.diff(luma, axis=1)[:-1], np.diff(luma, axis=0)[:, :-1]
    return float(np.mean(np.hypot(right, down) > EDGE))


def entropy(pixels: Pixels) -> float:
    """The Shannon entropy of luma in 256 levels, divided by its maximum of 8 bits."""
    counts = np.bincount(np.rint(_luma(pixels) * 255).astype(np.int64).ravel(), minlength=256)
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log2(shares)).sum() / 8) + 0.0


def saturation(pixels: Pixels) -> float:
    """The mean HSV saturation of the pixels: (largest - smallest channel) / largest, 0 for black."""
    largest = pixels.max(-1).astype(np.float64)
    return float(np.mean((largest - pixels.min(-1)) / np.maximum(largest, 1)))


def dark_share(pixels: Pixels) -> float:
    """The share of pixels with luma below 0.1."""
    return float(np.mean(_luma(pixels) < DARK))


def bright_share(pixels: Pixels) -> float:
    """The share of pixels with luma above 0.9."""
    return float(np.mean(_luma(pixels) > BRIGHT))


STATISTICS: dict[str, Callable[[Pixels], float]] = {
    "edge-density": edge_density,
    "entropy": entropy,
    "saturation": saturation,
    "dark-share": dark_share,
    "bright-share": bright_share,
}
CONVENTION = 1  # increased whenever a change of a definition changes a score


class Statistic(Objective):
    """A statistic of pictures as an objective; it ignores the prompt.

    Args:
        name: A key of `STATISTICS`.
    """

    reads = PICTURES

    def __init__(self, name: str) -> None:
        self.name = name
        self._measure = STATISTICS[name]

    def score(self, outputs: Sequence[Output], prompts: Sequence[str]) -> NDArray[np.float64]:
        """Measure pictures. See `Objective.score`."""
        return np.array([self._measure(np.asarray(picture)) for picture in rgb(outputs)], dtype=np.float64)

    def describe(self) -> dict[str, Any]:
        """Describe the version of the definition and the range. See `Objective.describe`."""
        return {"convention": CONVENTION, "range": [0, 1]}


def _luma(pixels: Pixels) -> NDArray[np.float64]:
    return np.asarray(pixels @ np.array([0.299, 0.587, 0.114]) / 255)
