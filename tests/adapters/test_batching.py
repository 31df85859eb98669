"""Batches are even, and shrink where memory does not suffice; images stay what they were."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerator import accelerator
from generated import candidates, pixels
from hypothesis import given
from hypothesis import strategies as st
from trimpot.adapters import make_sd3
from trimpot.adapters.loading import Loading, conflict
from trimpot.adapters.memory import advice, no_room
from trimpot.engine.batches import Batches
from trimpot.engine.bucket import Bucket
from trimpot.engine.errors import TrimpotError

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


FULL = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("GET was unable to find an engine to execute this computation"),
    RuntimeError("MPS backend out of memory (MPS allocated: 9.0 GB). Tried to allocate 1 GB on private pool."),
    RuntimeError("Invalid buffer size: 12.00 GB"),
    RuntimeError("XPU out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory"),
    MemoryError(),
    OSError(12, "Cannot allocate memory"),
]


@pytest.mark.parametrize("error", FULL, ids=lambda error: str(error)[:30])
def test_every_library_s_way_of_saying_so_halves_the_batch(error: Exception) -> None:
    sizes: list[int] = []

    def work(rows: Any) -> list[int]:
        sizes.append(len(rows))
        if len(rows) > 2:
            raise error
        return list(rows)

    assert Batches(8).map(range(8), work) == list(range(8))
    assert sizes == [8, 4, 2, 2, 2, 2]


def test_another_error_is_passed_on() -> None:
    def work(_rows: Any) -> list[int]:
        raise RuntimeError("shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="multiplied"):
        Batches(8).map(range(8), work)


@pytest.mark.parametrize("error", FULL, ids=lambda error: str(error)[:30])
def test_no_memory_for_a_single_row_is_one_sentence(error: Exception) -> None:
    def work(_rows: Any) -> list[int]:
        raise error

    with pytest.raises(TrimpotError, match="there is not enough memory for one output at a time") as caught:
        Batches(4).map(range(4), work)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("offload", ["none", "model", "group", "sequential"])
@pytest.mark.parametrize("quantization", [None, "torchao-int8"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("making", [True, False])
def test_what_is_chosen_already_is_not_recommended(offload: Any, quantization: Any, dtype: Any, making: bool) -> None:
    """And what is recommended would be accepted beside what is chosen."""
    with accelerator("cuda"):
        chosen = Loading(offload=offload, quantization=quantization, dtype=dtype, vae_tiling=making, device="cuda")
        if conflict(chosen):
            return
        sentence = str(no_room("for that", chosen, MemoryError(), making=making))
        found = advice(chosen, making=making)
    assert f"offload: {offload}" not in found and sentence.count("\n") == 0
    assert ("quantization" in found) == (quantization is None and offload != "sequential")
    assert ("dtype: bfloat16" in found) == (dtype == "float32")
    assert "vae_tiling" not in found
    if offload == "none":
        assert any(each.startswith("offload: model or group") for each in found)


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
