"""Rows in batches: as many as fit, shared out evenly."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from ..engine.errors import ModelError

Row = TypeVar("Row")
Made = TypeVar("Made")


class Batches:
    """How many rows fit a batch; found out by trying, from a given number downwards.

    Rows are shared out evenly, 17 at 16 a batch as 9 and 8, so that hardly ever one is computed alone: batches of
    one run through other kernels, and their results differ in the last bits. A batch that runs out of memory is
    halved, and later ones stay that small. Rows do not know each other, so that changes the order of additions
    inside a kernel at most; a resumed run with more or less memory is equal but for that.

    Attributes:
        size: The most rows a batch.
    """

    def __init__(self, size: int) -> None:
        self.size = size

    def map(self, rows: Sequence[Row], work: Callable[[Sequence[Row]], Sequence[Made]]) -> list[Made]:
        """Do work on rows, batch by batch.

        Raises:
            ModelError: If there is not enough memory for a single row.
        """
        made: list[Made] = []
        while len(made) < len(rows):
            left = rows[len(made) :]
            batch = left[: _even_share(len(left), self.size)]
            try:
                made += work(batch)
                continue
            except torch.OutOfMemoryError:
                pass  # memory held by the failed attempt is free only out of this block
            if len(batch) == 1:
                raise ModelError(
                    "there is not enough memory for one output at a time; choose offload: model or group, "
                    "quantization, vae_tiling, or a smaller height and width"
                )
            self.size = len(batch) // 2
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        return made


def _even_share(num_rows: int, most: int) -> int:
    """The first of as many nearly equal shares as are needed."""
    num_batches = -(-num_rows // most)
    return -(-num_rows // num_batches)
