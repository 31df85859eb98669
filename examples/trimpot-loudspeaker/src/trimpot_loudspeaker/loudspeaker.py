"""The backbone: an equaliser in front of a small, crooked, slightly noisy loudspeaker."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from trimpot import Adapter, Bucket, Knob, KnobSpace

from .chords import FREQUENCIES, NUM_SAMPLES, sound

BANDS = (125, 250, 500, 1000, 2000, 4000)
RESPONSE = np.array([-9.0, -4.0, 2.0, 5.0, 3.0, -6.0])  # decibels: no bass, a nasal middle, dull treble
_SHAPES = np.stack([np.exp(-2 * np.log2(np.maximum(FREQUENCIES, 20) / band) ** 2) for band in BANDS])


class Loudspeaker(Adapter):
    """Plays chords through an equaliser whose gains are the knobs, in decibels."""

    space = KnobSpace([Knob(f"band.{band:04d}", low=-12, high=12, default=0, spread=8) for band in BANDS])

    def __init__(self, hiss: float) -> None:
        self.hiss = hiss

    def generate(self, population: np.ndarray, bucket: Bucket) -> Iterator[list[np.ndarray]]:
        for gains in population:
            response = 10 ** ((gains + RESPONSE) @ _SHAPES / 20)
            yield [self._play(response, *pair) for pair in zip(bucket.prompts, bucket.seeds, strict=True)]

    def _play(self, response: np.ndarray, chord: str, seed: int) -> np.ndarray:
        hiss = self.hiss * np.random.default_rng(seed).standard_normal(NUM_SAMPLES)
        return np.fft.irfft(np.fft.rfft(sound(chord) + hiss) * response, NUM_SAMPLES)

    def describe(self) -> dict[str, Any]:
        return {"id": "loudspeaker", "response": RESPONSE.tolist(), "hiss": self.hiss}
