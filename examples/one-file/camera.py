"""A backbone and a reward of one's own, as two functions in one file: `trimpot calibrate camera.yaml`."""

import numpy as np
import trimpot
from PIL import Image

PAINTS = {
    "red": (200, 40, 40), "green": (40, 170, 60), "blue": (50, 80, 200),
    "yellow": (210, 190, 50), "cyan": (60, 180, 190), "pink": (210, 90, 170),
}  # fmt: skip
KNOBS = [trimpot.Knob("exposure", low=0, high=3), trimpot.Knob("warmth", low=-1, high=1, default=0)]


def paint_of(prompt):
    return np.array(next(PAINTS[word] for word in prompt.split() if word in PAINTS))


@trimpot.adapter(KNOBS, makes="image")
def camera(setting, prompt, seed):
    """A camera that takes the colour of a prompt too dark and too cold, until its knobs are set right."""
    grain = np.random.default_rng(seed).normal(0, 8, (24, 24, 3))
    tint = np.array([0.8 + 0.5 * setting["warmth"], 0.9, 1.1 - 0.5 * setting["warmth"]])
    light = 0.6 * setting["exposure"] * tint * paint_of(prompt) + grain
    return Image.fromarray(light.clip(0, 255).astype(np.uint8))


@trimpot.objective
def faithful(outputs, prompts):
    """How near the colour of a picture is to the colour that its prompt names; 0 is exactly that colour."""
    seen = [np.asarray(picture).mean(axis=(0, 1)) for picture in outputs]
    return [-np.abs(colour - paint_of(prompt)).mean() / 255 for colour, prompt in zip(seen, prompts, strict=True)]
