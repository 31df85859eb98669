"""Separate noise for each row: schedulers that draw noise use the row's generator, never the global generator.

Most pipelines use their generator for the first latents only, and a stochastic scheduler then draws from torch's
global generator: the same candidate, prompt and seed would give another image each time.
"""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def schedulers(pipe: Any) -> dict[str, Any]:
    """Return a pipeline's schedulers by component name."""
    return {name: part for name, part in pipe.components.items() if name.endswith("scheduler") and part is not None}


@contextmanager
def row_noise(pipe: Any, generators: Sequence[torch.Generator]) -> Iterator[None]:
    """Within the block, let every scheduler's `step` draw from the rows' generators, unless its caller passes others.

    Args:
        pipe: The pipeline.
        generators: One generator for each row, in its state after drawing the row's latents.
    """
    with ExitStack() as stack:
        for scheduler in schedulers(pipe).values():
            stack.enter_context(_drawing_from(scheduler, list(generators)))
        yield


@contextmanager
def _drawing_from(scheduler: Any, generators: list[torch.Generator]) -> Iterator[None]:
    if (
        "generator" not in inspect.signature(scheduler.step).parameters
    ):  # each run proves that such a scheduler draws no noise
        yield
        return
    scheduler.step = _Step(scheduler.step, generators)
    try:
        yield
    finally:
        del scheduler.step


class _Step:
    """A scheduler's `step` that draws from the rows' generators; a copy of the scheduler gets its own `step`."""

    def __init__(self, step: Any, generators: list[torch.Generator]) -> None:
        functools.update_wrapper(self, step)
        self._step, self._generators = step, generators
        self._signature = inspect.signature(step)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        given = self._signature.bind_partial(*args, **kwargs).arguments
        if given.get("generator") is None:
            kwargs["generator"] = self._generators
        return self._step(*args, **kwargs)

    def __deepcopy__(self, memo: dict[int, Any]) -> _Step:
        return _Step(copy.deepcopy(self._step, memo), self._generators)  # pipelines copy schedulers within a call
