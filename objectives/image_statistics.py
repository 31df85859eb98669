"""Plain statistics of pictures: cheap, of no model, and good to watch while another reward is climbed.

A search that finds brighter, flatter or more colourful pictures, rather than better ones, shows here first. Each is
between 0 and 1. Luma is that of ITU-R BT.601, 0.299 red + 0.587 green + 0.114 blue, from 0 to 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..engine.seams import Objective, Output
from .images import rgb

Pixels = NDArray[np.uint8]

EDGE = 0.1  # luma that two pixels side by side must differ by to be an edge
DARK, BRIGHT = 0.1, 0.9  # luma below and above which a pixel is dark or bright


def edge_density(pixels: Pixels) -> float:
    """The share of pixels where luma changes by more than 0.1 to the right-hand or lower neighbour, taken together.

    The change is the Euclidean length of both differences; the last row and column, which lack a neighbour, do
    not count. A picture one pixel high or wide has no edges.
    """
    luma = _luma(pixels)
    if min(luma.shape) < 2:
        return 0.0
    right, down = np.diff(luma, axis=1)[:-1], np.diff(luma, axis=0)[:, :-1]
    return float(np.mean(np.hypot(right, down) > EDGE))


def entropy(pixels: Pixels) -> float:
    """Shannon entropy of luma in 256 levels, as a share of the most there can be, 8 bits."""
    counts = np.bincount(np.rint(_luma(pixels) * 255).astype(np.int64).ravel(), minlength=256)
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log2(shares)).sum() / 8) + 0.0


def saturation(pixels: Pixels) -> float:
    """The mean of a pixel's saturation as in HSV: (largest - smallest channel) / largest, 0 for black."""
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
CONVENTION = 1  # raised whenever a change of a definition changes a score


class Statistic(Objective):
    """One statistic as an objective, whatever the prompt.

    Args:
        name: One of `STATISTICS`.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._measure = STATISTICS[name]

    def score(self, outputs: Sequence[Output], prompts: Sequence[str]) -> NDArray[np.float64]:
        """Measure pictures. See `Objective.score`."""
        return np.array([self._measure(np.asarray(picture)) for picture in rgb(outputs)], dtype=np.float64)

    def describe(self) -> dict[str, Any]:
        """The definition's version. See `Objective.describe`."""
        return {"convention": CONVENTION, "range": [0, 1]}


def _luma(pixels: Pixels) -> NDArray[np.float64]:
    return np.asarray(pixels @ np.array([0.299, 0.587, 0.114]) / 255)
