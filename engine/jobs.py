"""Jobs: the outputs of one call of the backbone, to be made and scored. A job can be sent to another process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ..ground.plain import quoted
from .bucket import Bucket
from .evaluation import Place
from .knobs import Vector
from .seams import Population


@dataclass(frozen=True)
class Group:
    """Candidates that share a bucket.

    Attributes:
        population: Shape (group_size, num_knobs).
        bucket: The prompts and seeds that every candidate gets.
    """

    population: Population
    bucket: Bucket


@dataclass(frozen=True)
class Piece:
    """A candidate on its bucket, or on a consecutive part of its bucket.

    Attributes:
        place: The candidate's place in the run.
        vector: The values of its knobs, shape (num_knobs,).
        bucket: The prompts and seeds.
    """

    place: Place
    vector: Vector
    bucket: Bucket


@dataclass(frozen=True)
class Job:
    """Pieces that one call of the backbone generates, and that are then scored and kept.

    Attributes:
        pieces: The pieces, in the order of their candidates.
        num_steps: Denoising steps an image; None for the adapter's own number.
        objectives: The names of the objectives that score the outputs.
        keep: Whether the outputs are written to files.
    """

    pieces: tuple[Piece, ...]
    num_steps: int | None
    objectives: tuple[str, ...]
    keep: bool = False

    def __str__(self) -> str:
        first = self.pieces[0]
        return f"{first.place}, on prompts such as {quoted(first.bucket.prompts[0])}"


@dataclass(frozen=True)
class Scored:
    """The result of a piece.

    Attributes:
        scores: Objective name to one score an output.
        kept: The names of the files that hold the piece's outputs, if outputs are kept.
        generate_seconds: The piece's share of the time of the backbone's call.
        score_seconds: The piece's share of the time of the rewards' calls.
        black: How many of the piece's outputs are scored as black pictures; see `engine.outputs`.
        why: Why the first such output is; empty if none is.
    """

    scores: Mapping[str, tuple[float, ...]]
    kept: tuple[str, ...]
    generate_seconds: float
    score_seconds: float
    black: int = 0
    why: str = ""


def cut(pieces: Sequence[Piece], most: int, *, across: bool, whole: bool) -> Iterator[tuple[tuple[Piece, ...], ...]]:
    """Cut candidates into jobs. The cut depends only on the arguments, so that it is the same on every machine.

    Consecutive candidates share a job as long as they fit. A bucket too large for one job is split evenly over the
    smallest number of jobs that can hold it.

    Args:
        pieces: Candidates on their whole buckets.
        most: The largest number of outputs in a job.
        across: Whether candidates on different buckets may share a job.
        whole: Whether a bucket must stay together, since an objective scores a prompt's outputs as a set.

    Yields:
        A tuple of jobs, each a tuple of pieces: one job of whole candidates, or the several jobs of one candidate.
    """
    job: list[Piece] = []
    room = most
    for piece in pieces:
        fits = len(piece.bucket) <= room and (across or not job or job[-1].bucket == piece.bucket)
        if job and not fits:
            yield (tuple(job),)
            job, room = [], most
        if len(piece.bucket) <= most or whole:
            job.append(piece)
            room -= len(piece.bucket)
        else:
            yield tuple((Piece(piece.place, piece.vector, part),) for part in _shares(piece.bucket, most))
    if job:
        yield (tuple(job),)


def _shares(bucket: Bucket, most: int) -> Iterator[Bucket]:
    """Split a bucket into the fewest consecutive, nearly equal parts of at most `most` outputs."""
    num_shares, begin = -(-len(bucket) // most), 0
    for left in range(num_shares, 0, -1):
        end = begin + -(-(len(bucket) - begin) // left)
        yield Bucket(bucket.prompts[begin:end], bucket.seeds[begin:end])
        begin = end
