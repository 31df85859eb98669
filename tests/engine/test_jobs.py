"""Jobs: a generation is cut by numbers that every machine knows, and no candidate is lost or doubled."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trimpot.engine.bucket import Bucket
from trimpot.engine.evaluation import Place
from trimpot.engine.jobs import Job, Piece, cut


def candidates(sizes: list[int], num_buckets: int = 0) -> list[Piece]:
    """Candidates on buckets of these sizes; consecutive ones share a bucket if sizes are equal and there are few."""
    pieces = []
    for position, size in enumerate(sizes):
        number = position // 3 if num_buckets == 0 else position % num_buckets
        bucket = Bucket(
            tuple(f"{number}.{index}" for index in range(size)), tuple(100 * number + i for i in range(size))
        )
        pieces.append(Piece(Place("search", 0, position), np.array([float(position)]), bucket))
    return pieces


@given(st.lists(st.integers(1, 40), min_size=1, max_size=12), st.integers(1, 24), st.booleans(), st.booleans())
def test_every_output_of_every_candidate_is_in_exactly_one_job(
    sizes: list[int], most: int, across: bool, whole: bool
) -> None:
    pieces = candidates(sizes)
    batches = list(cut(pieces, most, across=across, whole=whole))
    made = [
        (piece.place.position, seed) for jobs in batches for job in jobs for piece in job for seed in piece.bucket.seeds
    ]
    assert made == [(piece.place.position, seed) for piece in pieces for seed in piece.bucket.seeds]
    for jobs in batches:
        positions = [{piece.place.position for piece in job} for job in jobs]
        assert len(jobs) == 1 or all(each == positions[0] for each in positions), "several jobs are of one candidate"
        for job in jobs:
            assert sum(len(piece.bucket) for piece in job) <= most or (whole and len(job) == 1)
            assert across or len({piece.bucket for piece in job}) == 1


@pytest.mark.parametrize(("across", "expected"), [(True, [16, 16, 16, 16]), (False, [8] * 8)])
def test_groups_of_eight_fill_batches_of_sixteen_where_they_may_share_one(across: bool, expected: list[int]) -> None:
    """The default protocol: 64 candidates in groups of 8, one prompt and seed a group."""
    pieces = []
    for position in range(64):
        group = position // 8
        pieces.append(Piece(Place("search", 0, position), np.zeros(1), Bucket((f"{group}",), (group,))))
    assert [len(job) for [job] in cut(pieces, 16, across=across, whole=False)] == expected


def test_a_long_bucket_is_shared_out_evenly() -> None:
    [piece] = candidates([100])
    [jobs] = cut([piece], 16, across=True, whole=False)
    assert [len(part.bucket) for [part] in jobs] == [15, 15, 14, 14, 14, 14, 14]


def test_a_bucket_that_is_scored_as_a_set_stays_together() -> None:
    assert [len(job[0].bucket) for [job] in cut(candidates([100, 3]), 16, across=True, whole=True)] == [100, 3]


def test_a_job_is_named_by_its_first_candidate_and_prompt() -> None:
    pieces = tuple(candidates([2, 2]))
    for job in (Job(pieces[:1], None, ("height",)), Job(pieces, 8, ("height",))):
        assert str(job) == "search generation 0, candidate 0, on prompts such as '0.0'"
