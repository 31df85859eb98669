"""Workshops: where jobs are done, and by whom."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Protocol

from .jobs import Job, Scored
from .worker import Outputs, Worker, calls_at_once

Result = Sequence[Scored]


class Workshop(Protocol):
    """Takes jobs, and gives each to whoever is free.

    What a job's result is never depends on who does it, nor on what else is being done.

    Attributes:
        width: How many jobs are generated at once.

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
        """How many jobs are generated at once."""

    def submit(self, job: Job) -> Future[Result]:
        """Take a job. It may be done before this returns; an error is the future's."""

    def close(self) -> None:
        """Stop, whatever is under way."""


class Here:
    """This process: the thread that submits generates, and others score what was generated before.

    An objective that must wait its turn (`Objective.waits`) is called by the thread that generates.

    Args:
        worker: Does the work.
    """

    width = 1

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        behind = [each for each in worker.objectives.values() if not each.waits]
        # One job more than can be scored at once may hold its outputs in memory.
        self._room = threading.Semaphore(sum(calls_at_once(each) for each in behind) or 1)

    def submit(self, job: Job) -> Future[Result]:
        """Generate at once, and have it scored behind the next job. See `Workshop.submit`."""
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
        else:  # nobody waits for this thread when the process is told to end
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
