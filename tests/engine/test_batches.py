"""Batches are even, and shrink where memory does not suffice."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from trimpot.ground.batches import Batches
from trimpot.ground.errors import ScoreError, TrimpotError


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


def test_what_an_array_holds_is_a_row_each() -> None:
    assert Batches(2).map(range(3), lambda rows: np.array(rows) * 2) == [0, 2, 4]


def test_what_failed_is_tidied_before_anything_else_is_tried() -> None:
    told: list[str] = []

    def work(rows: Any) -> list[int]:
        told.append(f"try {len(rows)}")
        if len(rows) > 1:
            raise MemoryError
        return list(rows)

    Batches(2, tidy=lambda: told.append("tidy")).map(range(2), work)
    assert told == ["try 2", "tidy", "try 1", "try 1"]


def test_a_single_row_without_room_is_refused_as_was_said() -> None:
    def work(_rows: Any) -> list[int]:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    with pytest.raises(TrimpotError, match="not enough memory for one output at a time"):
        Batches(4).map(range(4), work)
    with pytest.raises(ScoreError, match="no room"):
        Batches(4, lambda _: ScoreError("no room")).map(range(4), work)


def test_other_errors_are_left_alone() -> None:
    seen = []

    def work(rows: Any) -> list[int]:
        seen.append(len(rows))
        raise RuntimeError("shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="shapes"):
        Batches(4).map(range(4), work)
    assert seen == [4]
