"""Batches are even, and shrink where memory does not suffice; images stay what they were."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from generated import candidates, pixels
from hypothesis import given
from hypothesis import strategies as st
from trimpot.adapters import make_sd3
from trimpot.engine.batches import Batches
from trimpot.engine.bucket import Bucket
from trimpot.engine.errors import ModelError

BUCKET = Bucket(("a cat", "two dogs", "a red circle"), (11, 12, 13))


@given(st.integers(1, 60), st.integers(1, 20))
def test_batches_are_even_and_keep_the_order(num_rows: int, size: int) -> None:
    """As few batches as possible, none larger than allowed, none more than one row larger than another."""
    seen: list[int] = []

    def work(rows: Any) -> list[int]:
        seen.append(len(rows))
        return [10 * row for row in rows]

    assert Batches(size).map(range(num_rows), work) == [10 * row for row in range(num_rows)]
    assert len(seen) == -(-num_rows // size)
    assert max(seen) <= size and max(seen) - min(seen) <= 1


@given(st.integers(1, 60), st.integers(1, 32), st.integers(1, 8))
def test_batches_shrink_to_what_fits(num_rows: int, size: int, fits: int) -> None:
    """Every row is done once, in order, and the size is remembered: later rows are not tried too large again."""
    refused = []

    def work(rows: Any) -> list[int]:
        if len(rows) > fits:
            refused.append(len(rows))
            raise torch.OutOfMemoryError("no more")
        return list(rows)

    batches = Batches(size)
    assert batches.map(range(num_rows), work) == list(range(num_rows))
    assert len(refused) <= 6  # halvings of 32
    before = len(refused)
    batches.map(range(num_rows), work)
    assert len(refused) == before


def test_no_memory_for_a_single_row_is_one_sentence() -> None:
    """There is nothing left to halve, but there are options that help."""

    def work(_rows: Any) -> list[int]:
        raise torch.OutOfMemoryError("no more")

    with pytest.raises(ModelError, match="one output at a time; choose offload"):
        Batches(4).map(range(4), work)


def test_a_model_out_of_memory_makes_the_same_images(sd3_folder: Path) -> None:
    """A forward pass that refuses more than eight rows is met with smaller batches; calls stay what they were."""
    adapter = make_sd3(model=str(sd3_folder), dtype="float32", device="cpu", num_inference_steps=2, batch_size=9)
    population = candidates(adapter)
    expected = adapter.generate(population, BUCKET)

    def refuse(_model: Any, _args: Any, kwargs: dict[str, Any]) -> None:
        if len(kwargs["hidden_states"]) > 8:  # rows of both members
            raise torch.OutOfMemoryError("no more")

    adapter.pipe.transformer.register_forward_pre_hook(refuse, with_kwargs=True)
    for one, other in zip(adapter.generate(population, BUCKET), expected, strict=True):
        for image, before in zip(pixels(one), pixels(other), strict=True):
            assert np.abs(image - before).max() <= 1
    assert adapter._batches.size == 4
    assert adapter.candidates_per_call(3) == 3
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
