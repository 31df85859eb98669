"""Default population sizes."""

from __future__ import annotations

import math


def default_population_size(num_knobs: int) -> int:
    """Return 4 + floor(3 ln num_knobs) (Hansen 2016; Calibri, section 4)."""
    return 4 + math.floor(3 * math.log(num_knobs))


def large_population_size(num_knobs: int) -> int:
    """Return 64, 128 from 50 knobs on, or 256 from 200 on, for searches in small groups (docs/searching.md).

    Noise shortens the step of CMA-ES by a share in each generation. Generations of more candidates are less noisy, and
    fewer for the same outputs.
    """
    return 64 if num_knobs < 50 else 128 if num_knobs < 200 else 256
