"""Chords such as `C4 major`: how they sound, and which of them are for searching, choosing and measuring."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from trimpot import PromptSet

SAMPLE_RATE = 16_000
NUM_SAMPLES = 2048
FREQUENCIES = np.fft.rfftfreq(NUM_SAMPLES, 1 / SAMPLE_RATE)

_NOTES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
_QUALITIES = {"major": (0, 4, 7), "minor": (0, 3, 7), "diminished": (0, 3, 6), "augmented": (0, 4, 8)}


def sound(chord: str) -> NDArray[np.float64]:
    """The samples of a chord: three notes with eight harmonics each, shape (NUM_SAMPLES,)."""
    root, quality = chord.split()
    octave, note = int(root[-1]), _NOTES.index(root[:-1])
    time = np.arange(NUM_SAMPLES) / SAMPLE_RATE
    samples = np.zeros(NUM_SAMPLES)
    for interval in _QUALITIES[quality]:
        pitch = 440 * 2 ** (octave - 4 + (note + interval - 9) / 12)
        for harmonic in range(1, 9):
            samples += np.sin(2 * np.pi * pitch * harmonic * time) / harmonic
    return samples


def chords() -> PromptSet:
    """192 chords in three disjoint parts."""
    names = [f"{note}{octave} {quality}" for octave in (2, 3, 4, 5) for note in _NOTES for quality in _QUALITIES]
    return PromptSet(tuple(names[0::2]), tuple(names[1::4]), tuple(names[3::4]), source="prompts 'chords'")
