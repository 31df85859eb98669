"""Batches shrink where memory does not suffice; images stay what they were."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from generated import candidates, pixels
from trimpot.adapters import make_sd3
from trimpot.engine.bucket import Bucket

BUCKET = Bucket(("a cat", "two dogs", "a red circle"), (11, 12, 13))


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_a_model_out_of_memory_makes_the_same_images(sd3_folder: Path, error: Exception) -> None:
    """A forward pass that refuses more than eight rows is met with smaller batches; calls stay what they were."""
    adapter = make_sd3(model=str(sd3_folder), dtype="float32", device="cpu", num_inference_steps=2, batch_size=9)
    population = candidates(adapter)
    expected = adapter.generate(population, BUCKET)

    def refuse(_model: Any, _args: Any, kwargs: dict[str, Any]) -> None:
        if len(kwargs["hidden_states"]) > 8:  # rows of both members
            raise error

    adapter.pipe.transformer.register_forward_pre_hook(refuse, with_kwargs=True)
    for one, other in zip(adapter.generate(population, BUCKET), expected, strict=True):
        for image, before in zip(pixels(one), pixels(other), strict=True):
            assert np.abs(image - before).max() <= 1
    assert adapter._batches.size == 4
    assert adapter.outputs_per_call == 9
    assert adapter.with_steps(3)._batches.size == 4


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_the_batch_size_is_a_matter_of_memory(sd3_folder: Path, batch_size: int) -> None:
    """Not of results: in any batches, images are the same to the last digit of the arithmetic."""
    one, other = (
        make_sd3(model=str(sd3_folder), dtype="float32", device="cpu", num_inference_steps=2, batch_size=size)
        for size in (16, batch_size)
    )
    population = candidates(one, 2)
    for images, others in zip(one.generate(population, BUCKET), other.generate(population, BUCKET), strict=True):
        for image, same in zip(pixels(images), pixels(others), strict=True):
            assert np.abs(image - same).max() <= 1
