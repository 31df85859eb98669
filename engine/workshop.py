"""Workshops take jobs and have them done; `Here` does them in this process."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Protocol

from .jobs import Job, Scored
from .worker import Outputs, Worker, calls_at_once

Result = Sequence[Scored]


class Workshop(Protocol):
    """Takes jobs, and gives each to a free worker.

    The result of a job must not depend on which worker does it, nor on the other jobs under way.

    Attributes:
        width: How many jobs can be generated at the same time.

    Example:
        >>> class OneByOne:
        ...     width = 1
        ...     def __init__(self, worker):
        ...         self.worker = worker
        ...     def submit(self, job):
        ...         future = Future()
        ...         try:
        ...             future.set_result(self.worker.do(job))
        ...         except Exception as error:
        ...             future.set_exception(error)
        ...         return future
        ...     def close(self):
        ...         pass
    """

    @property
    def width(self) -> int:
        """How many jobs can be generated at the same time."""

    def submit(self, job: Job) -> Future[Result]:
        """Take a job, and return a future of its result or error; the job may be done before this returns."""

    def close(self) -> None:
        """Stop at once, without waiting for jobs under way."""


class Here:
    """Does jobs in this process: the submitting thread generates, while other threads score earlier outputs.

    An objective that must not run while the backbone generates (`Objective.waits`) is called by the submitting thread.

    Args:
        worker: Generates and scores.
    """

    width = 1

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        behind = [each for each in worker.objectives.values() if not each.waits]
        # Bounds the jobs whose outputs are in memory: those being scored, and the one just generated.
        self._room = threading.Semaphore(sum(calls_at_once(each) for each in behind) or 1)

    def submit(self, job: Job) -> Future[Result]:
        """Generate before returning; score in a thread while the next job is generated. See `Workshop.submit`."""
        future: Future[Result] = Future()
        objectives = self._worker.objectives
        try:
            outputs, seconds = self._worker.generate(job)
            waiting = [name for name in job.objectives if objectives[name].waits]
            known = self._worker.scores(job, outputs, waiting)
        except Exception as error:
            future.set_exception(error)
            return future
        self._room.acquire()
        work = (job, outputs, seconds, known, future)
        if len(known) == len(job.objectives):
            self._score(*work)
        else:  # a daemon, so that the process can end without waiting for it
            threading.Thread(target=self._score, args=work, name="scoring", daemon=True).start()
        return future

    def _score(
        self,
        job: Job,
        outputs: Outputs,
        seconds: float,
        known: dict[str, list[tuple[float, ...]]],
        future: Future[Result],
    ) -> None:
        try:
            future.set_result(self._worker.score(job, outputs, seconds, known))
        except BaseException as error:
            future.set_exception(error)
        finally:
            self._room.release()

    def close(self) -> None:
        """See `Workshop.close`."""
