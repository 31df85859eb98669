"""Work on rows in batches of equal size that fit in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from .devices import first_sentence, free_memory, shortage
from .errors import TrimpotError

Row = TypeVar("Row")
Made = TypeVar("Made")


def no_room(error: BaseException) -> TrimpotError:
    """Make the error for a single row that does not fit in memory, if the caller knows no option that would help."""
    return TrimpotError(f"there is not enough memory for one output at a time ({first_sentence(error)})")


class Batches:
    """A batch size that is found by trial: it starts at a given number and is halved when memory runs out.

    Rows are divided evenly: 17 rows at a batch size of 16 become batches of 9 and 8. So a row is rarely computed
    alone; a batch of one row uses other kernels, and its results differ in the last bits. After a batch has run out
    of memory, the smaller size is kept for all later batches. Rows do not depend on each other, so the batch size
    changes at most the order of additions inside a kernel, and a run resumed with more or less memory differs in
    nothing else.

    Args:
        size: The largest number of rows in a batch.
        refusal: Makes the error to raise if a single row runs out of memory.
        tidy: A function to call after a batch has failed and before the next attempt.

    Attributes:
        size: The largest number of rows in a batch.
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
        """Apply `work` to the rows, batch by batch, and return the results in the order of the rows.

        Raises:
            TrimpotError: The error that `refusal` makes, if there is not enough memory for a single row.
        """
        made: list[Made] = []
        while len(made) < len(rows):
            left = rows[len(made) :]
            batch = left[: _even_share(len(left), self.size)]
            try:
                made.extend(work(batch))
                continue
            except Exception as error:  # libraries report a lack of memory with many classes of error
                if shortage(error) is None:
                    raise
                refused = self._refusal(error) if len(batch) == 1 else None
            # The memory of the failed attempt is released only after the `except` block.
            self._tidy()
            free_memory()
            if refused is not None:
                raise refused
            self.size = len(batch) // 2
        return made


def _even_share(num_rows: int, most: int) -> int:
    """Return the size of the first share when rows are divided into as few nearly equal shares as possible."""
    num_batches = -(-num_rows // most)
    return -(-num_rows // num_batches)
