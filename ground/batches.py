"""Rows in batches: as many as fit, shared out evenly."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from .devices import first_sentence, free_memory, shortage
from .errors import TrimpotError

Row = TypeVar("Row")
Made = TypeVar("Made")


def no_room(error: BaseException) -> TrimpotError:
    """The sentence for a single row that does not fit, where no option is known that would help."""
    return TrimpotError(f"there is not enough memory for one output at a time ({first_sentence(error)})")


class Batches:
    """How many rows fit a batch; found out by trying, from a given number downwards.

    Rows are shared out evenly, 17 at 16 a batch as 9 and 8, so that hardly ever one is computed alone: batches of
    one run through other kernels, and their results differ in the last bits. A batch that runs out of memory is
    halved, and later ones stay that small. Rows do not know each other, so that changes the order of additions
    inside a kernel at most; a resumed run with more or less memory is equal but for that.

    Args:
        size: The most rows a batch.
        refusal: Makes the error to raise where a single row runs out of memory.
        tidy: What must be called after a batch has failed, before another is tried.

    Attributes:
        size: The most rows a batch.
    """

    def __init__(
        self,
        size: int,
        refusal: Callable[[BaseException], TrimpotError] = no_room,
        tidy: Callable[[], object] = lambda: None,
    ) -> None:
        self.size = size
        self._refusal, self._tidy = refusal, tidy

    def map(self, rows: Sequence[Row], work: Callable[[Sequence[Row]], Iterable[Made]]) -> list[Made]:
        """Do work on rows, batch by batch.

        Raises:
            TrimpotError: As `refusal` makes it, if there is not enough memory for a single row.
        """
        made: list[Made] = []
        while len(made) < len(rows):
            left = rows[len(made) :]
            batch = left[: _even_share(len(left), self.size)]
            try:
                made.extend(work(batch))
                continue
            except Exception as error:  # memory runs out in many classes
                if shortage(error) is None:
                    raise
                refused = self._refusal(error) if len(batch) == 1 else None
            # Memory held by the failed attempt is free only out of that block.
            self._tidy()
            free_memory()
            if refused is not None:
                raise refused
            self.size = len(batch) // 2
        return made


def _even_share(num_rows: int, most: int) -> int:
    """The first of as many nearly equal shares as are needed."""
    num_batches = -(-num_rows // most)
    return -(-num_rows // num_batches)
