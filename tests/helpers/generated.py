"""What adapters and stock pipelines make, in a form that can be compared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from trimpot.engine.bucket import Bucket
from trimpot.engine.seams import Adapter

Pixels = NDArray[np.int16]


def candidates(adapter: Adapter, number: int = 3, spread: float = 0.3) -> NDArray[np.float64]:
    """Settings around the neutral one, shape (number, num_knobs)."""
    generator = np.random.default_rng(0)
    moved = adapter.space.defaults + generator.normal(0, spread, (number, len(adapter.space)))
    return np.clip(moved, *adapter.space.bounds)


def pixels(outputs: Sequence[Any]) -> list[Pixels]:
    """Images or videos as numbers that can be subtracted."""
    return [np.asarray(output).astype(np.int16) for output in outputs]


def one_by_one(adapter: Adapter, setting: NDArray[np.float64], bucket: Bucket) -> list[Pixels]:
    """What an adapter makes prompt by prompt, so that both sides of a comparison compute in batches of one size."""
    made = []
    for prompt, seed in zip(bucket.prompts, bucket.seeds, strict=True):
        [outputs] = adapter.generate(setting[None], Bucket((prompt,), (seed,)))
        made += pixels(outputs)
    return made


def drawn(pipe: Any, bucket: Bucket, **call: Any) -> list[Pixels]:
    """What a stock pipeline makes of a bucket, prompt by prompt, called as anybody would call it."""
    made = []
    for prompt, seed in zip(bucket.prompts, bucket.seeds, strict=True):
        made += pixels(pipe(prompt=prompt, generator=torch.Generator().manual_seed(seed), **call).images)
    return made


@contextmanager
def latents(pipe: Any) -> Iterator[list[Tensor]]:
    """Collect the latents after every denoising step that a pipeline makes."""
    seen: list[Tensor] = []
    step = pipe.scheduler.step

    def watched(*args: Any, **kwargs: Any) -> Any:
        result = step(*args, **kwargs)
        seen.append(result[0])
        return result

    pipe.scheduler.step = watched
    try:
        yield seen
    finally:
        pipe.scheduler.step = step
