"""The reward: a listener who knows how the chord should sound."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from trimpot import Objective

from .chords import FREQUENCIES, sound

EDGES = 88.0 * 2.0 ** np.arange(7)  # six octaves


class Fidelity(Objective):
    """1 for the spectrum of the chord itself, falling to 0 with its distance in decibels."""

    def score(self, outputs: Sequence[Any], prompts: Sequence[str]) -> NDArray[np.float64]:
        distances = [
            np.abs(loudness(output) - loudness(sound(chord))).mean()
            for output, chord in zip(outputs, prompts, strict=True)
        ]
        return np.exp(-np.array(distances) / 6)

    def describe(self) -> dict[str, Any]:
        return {"edges": EDGES.tolist(), "range": [0, 1]}


def loudness(samples: NDArray[np.float64]) -> NDArray[np.float64]:
    """Decibels in each octave, shape (6,)."""
    power = np.abs(np.fft.rfft(samples)) ** 2
    octave = np.digitize(FREQUENCIES, EDGES)
    return 10 * np.log10(np.array([power[octave == index].mean() for index in range(1, 7)]) + 1.0)
