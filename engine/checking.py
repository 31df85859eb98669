"""When recommendations are judged: every so many generations or outputs, or ever more rarely as a search goes on."""

from __future__ import annotations

import math
from collections.abc import Sequence

from .schema import Validation

STEP = 4  # geometric checks are after a multiple of so many generations


def is_geometric(generations: int) -> bool:
    """Return whether a geometric check is due after so many generations, at least 1, of a rung.

    The checks are four a doubling: at the powers of the fourth root of 2, each rounded up to a multiple of 4: 4, 8, 12,
    16, 20, 24, 28, 32, 40, 48, 56, 64, 80, and so on. They do not depend on how many generations will follow.
    """
    return generations == _at(_last_power(generations))


def num_checks(validation: Validation, rungs: Sequence[int], outputs: float) -> int:
    """Return how many recommendations a search judges at most, one at the end of each rung included.

    Args:
        validation: When they are judged.
        rungs: The generations of each rung.
        outputs: The outputs of the search.
    """
    if validation.every_images is not None:
        return math.ceil(outputs / validation.every_images) + len(rungs) - 1
    if validation.every == "geometric":
        return sum(_num_geometric(generations) for generations in rungs)
    return math.ceil(sum(rungs) / validation.every) + len(rungs) - 1


def _num_geometric(generations: int) -> int:
    """Return how many checks a rung of so many generations, at least 1, has, one at its end included."""
    due = {_at(power) for power in range(_last_power(generations) + 1)}
    return len({generations, *(each for each in due if each <= generations)})


def _last_power(generations: int) -> int:
    """Return the largest k for which 2^(k/4) is no more than a number of generations, without rounding."""
    return int(generations**4).bit_length() - 1


def _at(power: int) -> int:
    """Return 2^(power/4) rounded up to a multiple of `STEP`, without rounding before."""
    root = math.isqrt(math.isqrt(2**power - 1)) + 1
    return -(-root // STEP) * STEP
