"""A worker generates, scores and keeps outputs. It needs no store, so it can work in any process."""

from __future__ import annotations

import operator
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import SupportsIndex

import numpy as np

from ..ground.errors import ModelError, TrimpotError
from ..ground.plain import quoted, short
from .bucket import Bucket
from .jobs import Job, Scored
from .knobs import Vector
from .outputs import checked, not_finite, shown
from .proof import prove
from .scoring import score_outputs
from .seams import Adapter, Objective, Output
from .vetting import blamed, told, who_made

Outputs = Sequence[Sequence[Output]]


class Worker:
    """Does jobs with one backbone and its rewards.

    Args:
        adapter: The backbone.
        objectives: The rewards by name.
        keeper: Writes images to files named by content and returns the names; None if no image is kept.
        proof: Prompts and seeds on which to prove, before the first job, that an output depends only on candidate,
            prompt and seed (see `engine.proof`); None to skip the proof.
    """

    def __init__(
        self,
        adapter: Adapter,
        objectives: Mapping[str, Objective],
        keeper: Callable[[Sequence[Output]], Sequence[str]] | None = None,
        proof: Bucket | None = None,
    ) -> None:
        self.objectives = objectives
        self._adapters: dict[int | None, Adapter] = {None: adapter}
        self._keeper = keeper
        self._proof = proof
        self._turns = {name: threading.BoundedSemaphore(calls_at_once(each)) for name, each in objectives.items()}

    def do(self, job: Job) -> list[Scored]:
        """Generate and score a job, keep its images if the job says so, and return a result for each piece.

        Raises:
            ModelError: If the adapter fails.
            ScoreError: If an objective fails.
        """
        outputs, seconds = self.generate(job)
        return self.score(job, outputs, seconds, {})

    def generate(self, job: Job) -> tuple[Outputs, float]:
        """Generate the outputs of every piece; return them with the seconds taken.

        Raises:
            ModelError: If the adapter fails, or an output is not valid (see `engine.outputs.checked`).
        """
        adapter = self._adapters.get(job.num_steps)
        if adapter is None:
            adapter = self._adapters[job.num_steps] = self._adapters[None].with_steps(job.num_steps or 0)
        if self._proof is not None:
            proof, self._proof, own = self._proof, None, self._adapters[None]
            prove(own, proof, lambda rows, bucket: _made(own, list(rows), [bucket] * len(rows), job))
        begun = time.perf_counter()
        outputs = _made(adapter, [piece.vector for piece in job.pieces], [piece.bucket for piece in job.pieces], job)
        seconds = time.perf_counter() - begun
        with blamed(who_made(adapter, "the adapter")):
            looked_at = [
                checked(adapter, made, piece.bucket, piece.place)
                for piece, made in zip(job.pieces, outputs, strict=True)
            ]
        return looked_at, seconds

    def score(
        self, job: Job, outputs: Outputs, generate_seconds: float, known: Mapping[str, Sequence[tuple[float, ...]]]
    ) -> list[Scored]:
        """Score outputs, and keep them in files if the job says so.

        Args:
            job: The job that made the outputs.
            outputs: The outputs of every piece.
            generate_seconds: The time that generating them took.
            known: Objective name to the scores of every piece, for objectives that were called already.

        Raises:
            ScoreError: If an objective fails.
        """
        failed = [not_finite(made) for made in outputs]
        kept = [tuple(self._keeper(shown(made))) if job.keep and self._keeper else () for made in outputs]
        begun = time.perf_counter()
        scores = {**known, **self.scores(job, outputs, [name for name in job.objectives if name not in known])}
        num_outputs = sum(len(piece.bucket) for piece in job.pieces)
        seconds = time.perf_counter() - begun
        return [
            Scored(
                {name: scores[name][index] for name in job.objectives},
                kept[index],
                generate_seconds * len(piece.bucket) / num_outputs,
                seconds * len(piece.bucket) / num_outputs,
                len(failed[index]),
                failed[index][0].why if failed[index] else "",
            )
            for index, piece in enumerate(job.pieces)
        ]

    def scores(self, job: Job, outputs: Outputs, names: Sequence[str]) -> dict[str, list[tuple[float, ...]]]:
        """Score every piece by the named objectives.

        An objective is called once for all pieces together, or once for each piece if it scores sets. At most
        `calls_at_once` calls of an objective run at the same time.

        Args:
            job: The job that made the outputs.
            outputs: The outputs of every piece.
            names: The names of the objectives.
        """
        together = Bucket(
            tuple(prompt for piece in job.pieces for prompt in piece.bucket.prompts),
            tuple(seed for piece in job.pieces for seed in piece.bucket.seeds),
        )
        outputs = [shown(made) for made in outputs]
        everything = [output for made in outputs for output in made]
        ends = np.cumsum([len(piece.bucket) for piece in job.pieces]).tolist()
        found: dict[str, list[tuple[float, ...]]] = {}
        seeded = self._adapters[None].uses_seed
        for name in names:
            objective = {name: self.objectives[name]}
            with self._turns[name]:
                if objective[name].scores_sets:
                    found[name] = [
                        score_outputs(objective, made, piece.bucket, piece.place, seeded=seeded)[name]
                        for piece, made in zip(job.pieces, outputs, strict=True)
                    ]
                else:
                    first = job.pieces[0].place
                    scores = score_outputs(objective, everything, together, first, seeded=seeded)[name]
                    found[name] = [scores[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]
        return found


def outputs_per_call(adapter: Adapter) -> int:
    """Return how many outputs an adapter makes in one call.

    Raises:
        ModelError: If its `outputs_per_call` is no whole number of at least 1.
    """
    return _at_least_one(adapter, "the adapter", "outputs_per_call")


def calls_at_once(objective: Objective) -> int:
    """Return how many calls of an objective may run at the same time.

    Raises:
        ModelError: If its `calls_at_once` is no whole number of at least 1.
    """
    return _at_least_one(objective, "the objective", "calls_at_once")


def _at_least_one(part: object, default: str, name: str) -> int:
    """Return a whole number that a plugin's part says of itself: with none, candidates would be lost."""
    who = who_made(part, default)
    with blamed(who):
        number: object = getattr(part, name)
    if not isinstance(number, bool) and isinstance(number, SupportsIndex) and operator.index(number) >= 1:
        return operator.index(number)
    raise ModelError(f"{who} has {name} {short(number)}; let {name} be 1 or more")


def _made(adapter: Adapter, vectors: Sequence[Vector], buckets: Sequence[Bucket], job: Job) -> Outputs:
    """Return an adapter's outputs for candidates, each on its bucket."""
    try:
        outputs = [list(each) for each in adapter.generate_each(np.stack(vectors), buckets)]
    except TrimpotError:
        raise
    except (Exception, SystemExit) as error:  # somebody else's backbone may fail in any way
        raise ModelError(
            f"{job.pieces[0].place}: {who_made(adapter, 'the adapter')} failed on prompts such as "
            f"{quoted(buckets[0].prompts[0])}: {told(error)}"
        ) from error
    if len(outputs) != len(vectors):
        who = who_made(adapter, "the adapter")
        raise ModelError(f"{job.pieces[0].place}: {who} made outputs of {len(outputs)} candidates, not {len(vectors)}")
    return outputs
