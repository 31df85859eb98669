"""Sample a calibrated pipeline: each prompt with each seed, and the same images of the neutral model beside them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch

from ..ground.errors import CalibrationError, first_line
from .applied import AppliedCalibration


class Sample(NamedTuple):
    """The images of one prompt and seed; `neutral` is None unless a comparison was asked for."""

    prompt: str
    seed: int
    neutral: Any | None
    calibrated: Any


def samples(
    pipe: Any, applied: AppliedCalibration, prompts: Sequence[str], seeds: Sequence[int], *, compare: bool = False
) -> Iterator[Sample]:
    """Yield one sample for each prompt and seed, made with the calibration's recommended call.

    Args:
        pipe: The pipeline, with the calibration applied to it.
        applied: The calibration. Its strength is that of the calibrated images; neutral images have strength 0, which
            is the neutral model at its best guidance.
        prompts: The prompts.
        seeds: The seeds of each prompt.
        compare: Whether to make the neutral images as well.

    Raises:
        CalibrationError: If the pipeline fails, or makes no images.
    """
    strength = applied.strength
    for prompt in prompts:
        for seed in seeds:
            neutral = None
            try:
                if compare:
                    applied.strength = 0.0
                    neutral = _image(pipe, applied, prompt, seed)
            finally:
                applied.strength = strength
            yield Sample(prompt, seed, neutral, _image(pipe, applied, prompt, seed))


def _image(pipe: Any, applied: AppliedCalibration, prompt: str, seed: int) -> Any:
    generator = torch.Generator().manual_seed(seed)  # on the CPU, as in every run
    try:
        result = pipe(prompt=prompt, generator=generator, output_type="pil", **applied.recommended)
    except torch.OutOfMemoryError:
        raise CalibrationError("the device has no memory left for an image; set offload to model or group") from None
    except (TypeError, ValueError) as error:
        raise CalibrationError(f"the pipeline cannot be called as recommended: {first_line(error)}") from error
    images = getattr(result, "images", None)
    if not images:
        raise CalibrationError(f"a {type(pipe).__name__} makes no images, so there is nothing to show on a sheet")
    return images[0]
