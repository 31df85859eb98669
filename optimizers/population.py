"""Default population sizes."""

from __future__ import annotations

import math


def default_population_size(num_knobs: int) -> int:
    """Return 4 + floor(3 ln num_knobs) (Hansen 2016; Calibri, section 4)."""
    return 4 + math.floor(3 * math.log(num_knobs))


def large_population_size(num_knobs: int) -> int:
    """Return 64, or 128 from 200 knobs on, for searches in small groups (measured in docs/searching.md)."""
    return 64 if num_knobs < 200 else 128
