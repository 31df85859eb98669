"""Runs that are begun from Python in no time: a built-in backbone without pictures, and ones that make pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import trimpot
from PIL import Image
from small_sphere import SPHERE

CAMERA = Path(__file__).parents[2] / "examples" / "one-file" / "camera.yaml"
SIZES = {key: SPHERE[key] for key in ("optimizer", "generations", "validation", "test", "bucket_size")}


@trimpot.adapter([trimpot.Knob("light", low=0, high=3)], makes="image")
def lamp(setting, prompt, seed):  # type: ignore[no-untyped-def]
    return _lit(setting["light"], seed)


@trimpot.adapter([trimpot.Knob("light", low=0, high=3)], makes="video")
def film(setting, prompt, seed):  # type: ignore[no-untyped-def]
    return [_lit(setting["light"], seed)] * 3


@trimpot.adapter([trimpot.Knob("light", low=0, high=3)])
def words(setting, prompt, seed):  # type: ignore[no-untyped-def]
    return "light " * (int(10 * setting["light"]) + seed % 5)


def _lit(light: float, seed: int) -> Image.Image:
    return Image.fromarray((np.arange(16).reshape(4, 4) + 60 * light + seed % 5).astype(np.uint8))


def bright(outputs, prompts):  # type: ignore[no-untyped-def]
    return [float(np.mean(np.asarray(each))) / 255 for each in outputs]


def long(outputs, prompts):  # type: ignore[no-untyped-def]
    return [float(len(each)) for each in outputs]


def hostile_prompts(texts: list[str]) -> trimpot.PromptSet:
    """Prompts that each begin with one of these texts."""
    parts = [tuple(f"{texts[n % len(texts)]} {part} {n}" for n in range(20)) for part in ("train", "validate", "test")]
    return trimpot.PromptSet(*parts)
