"""A crew: several workers that share one queue. If a worker dies, only the job in progress is repeated."""

from __future__ import annotations

import logging
import statistics
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from ..engine.jobs import Job
from ..engine.workshop import Result
from ..ground.errors import ModelError, TrimpotError
from .seats import Done, Hello, Seat, SeatLostError

_log = logging.getLogger("trimpot")

MOST_LOST = 2  # workers that may die during the same job before the job fails
GRACE = 2.0  # seconds for workers to end by themselves
MOST_STARTS = 4  # failed starts in a row before a worker is given up
LEAST_DEADLINE, FACTOR = 600.0, 10.0  # the minimum in seconds, and the factor on the median duration


@dataclass
class _Task:
    """A call that any worker can answer."""

    method: str
    args: tuple[Any, ...]
    future: Future[Any]
    lost: int = 0
    begun: bool = False

    @property
    def size(self) -> int:
        """The number of outputs that the call generates."""
        return sum(len(piece.bucket) for job in self.args if isinstance(job, Job) for piece in job.pieces)


class Crew:
    """Distributes jobs to workers in the order of their submission.

    If a worker dies, or needs far longer than other jobs of the same size did, it is killed and started again, and its
    job goes to the front of the queue. A job during which two workers die fails. A job that raises an error fails at
    once.

    Args:
        seats: The seats of the workers; the others are compared with the first.
        mixed: Whether workers may be on devices of different names.
        least_deadline: The minimum number of seconds before a worker counts as hanging.
        rest: Seconds before a worker is started again; doubled after each failure.
    """

    def __init__(
        self,
        seats: Sequence[Seat],
        *,
        mixed: bool = False,
        least_deadline: float = LEAST_DEADLINE,
        rest: float = 1.0,
    ) -> None:
        self._seats = list(seats)
        self._mixed, self._least_deadline, self._rest = mixed, least_deadline, rest
        self._queue: deque[_Task] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._problem: TrimpotError | None = None
        self._paces: deque[float] = deque(maxlen=101)  # seconds per output
        self._hello: Hello | None = None
        self._largest_batch: int | None = None  # if one worker had to halve a batch, all workers do

    @property
    def width(self) -> int:
        """The number of jobs that can run at once."""
        return len(self._seats)

    def open(self) -> Hello:
        """Start all workers at once, and return as soon as the first one is ready.

        Raises:
            TrimpotError: If a worker cannot make its parts before that, or dies repeatedly while making them.
        """
        for seat in self._seats:
            threading.Thread(target=self._man, args=(seat,), name=seat.name, daemon=True).start()
        with self._changed:
            self._changed.wait_for(lambda: self._hello or self._problem)
            if self._hello is None:
                assert self._problem is not None
                raise self._problem
            return self._hello

    def submit(self, job: Job) -> Future[Result]:
        """Add a job to the queue. See `Workshop.submit`."""
        return self._queued(_Task("do", (job,), Future()))

    def call(self, method: str, *args: Any) -> Future[Any]:
        """Queue a call of a bench's method, for any worker to answer."""
        return self._queued(_Task(method, args, Future()))

    def _queued(self, task: _Task) -> Future[Any]:
        with self._changed:
            if self._problem is not None:
                task.future.set_exception(self._problem)
            else:
                self._queue.append(task)
                self._changed.notify()
        return task.future

    def close(self) -> None:
        """End all workers, even during a job, and cancel everything in the queue."""
        with self._changed:
            self._closed = True
            for task in self._queue:
                task.future.cancel()
            self._queue.clear()
            self._changed.notify_all()
        for seat in self._seats:
            seat.dismiss()
        patience = time.monotonic() + (GRACE if self._hello else 0.0)  # until one is ready, none has begun to work
        for seat in self._seats:
            seat.kill(max(0.0, patience - time.monotonic()))

    def _man(self, seat: Seat) -> None:
        """Serve one seat until the crew is closed."""
        running = False
        try:
            while not self._closed:
                if not running:
                    self._started(seat)
                    running = True
                task = self._next()
                if task is None:
                    break
                running = self._answered(seat, task)
        except TrimpotError as error:
            self._fail(error)
        except BaseException as error:  # nobody waits for this thread, so pass the error to the waiting jobs
            self._fail(ModelError(f"{seat.name} failed: {type(error).__name__}: {error}"))

    def _next(self) -> _Task | None:
        with self._changed:
            while True:
                while not self._queue and not self._closed:
                    self._changed.wait()
                if self._closed:
                    return None
                task = self._queue.popleft()
                if task.begun or task.future.set_running_or_notify_cancel():
                    task.begun = True
                    return task

    def _answered(self, seat: Seat, task: _Task) -> bool:
        """Let a worker answer a task, and return whether the worker survived."""
        begun = time.monotonic()
        try:
            agreed = (self._largest_batch,) if task.size else ()
            result = seat.call(task.method, *task.args, *agreed, seconds=self._deadline(task))
        except TrimpotError as error:
            task.future.set_exception(error)
            return True
        except SeatLostError as loss:
            seat.kill()
            if not self._closed:
                self._lost(seat, task, loss)
            return False
        except Exception as error:  # an answer that cannot be read; whoever waits for it must hear of that
            task.future.set_exception(ModelError(f"{seat.name} failed: {type(error).__name__}: {error}"))
            return True
        if isinstance(result, Done):
            with self._changed:
                self._paces.append((time.monotonic() - begun) / task.size)
                known = [each for each in (self._largest_batch, result.largest_batch) if each is not None]
                self._largest_batch = min(known, default=None)
            result = result.scored
        task.future.set_result(result)
        return True

    def _lost(self, seat: Seat, task: _Task, loss: SeatLostError) -> None:
        task.lost += 1
        what = next((str(each) for each in task.args if isinstance(each, Job)), task.method)
        if task.lost < MOST_LOST:
            _log.warning("%s %s during %s; it is started again, and the job is repeated", seat.name, loss, what)
            with self._changed:
                self._queue.appendleft(task)
                self._changed.notify()
        else:
            task.future.set_exception(
                ModelError(f"{what}: {task.lost} workers were lost during this job (the last, {seat.name}, {loss})")
            )

    def _deadline(self, task: _Task) -> float | None:
        """Return the seconds after which a worker counts as hanging, from the median duration of outputs."""
        with self._changed:
            if not task.size or len(self._paces) < 2 * len(self._seats):
                return None  # the first jobs may include compilation
            return max(self._least_deadline, FACTOR * statistics.median(self._paces) * task.size)

    def _started(self, seat: Seat) -> Hello:
        """Start a worker, and check that it has the same parts and device as the others.

        Raises:
            TrimpotError: If the worker cannot make its parts, dies repeatedly, or differs from the others.
        """
        for attempt in range(MOST_STARTS):
            try:
                hello = seat.start()
                break
            except SeatLostError as loss:
                seat.kill()
                if not self._closed:
                    _log.warning("%s %s as it started", seat.name, loss)
                problem = ModelError(f"{seat.name} could not be started {MOST_STARTS} times: it {loss}")
            if self._wait(self._rest * 2**attempt):
                break
        else:
            raise problem
        if self._closed:  # while it started, so that nobody has ended it
            seat.kill()
            raise ModelError("the crew is closed")
        self._compare(seat, hello)
        return hello

    def _compare(self, seat: Seat, hello: Hello) -> None:
        first = self._first(seat, hello)
        if hello.hardware != first.hardware and not self._mixed:
            raise ModelError(
                f"{seat.name} works on {hello.hardware}, but the first on {first.hardware}: their results differ in "
                f"the last bits, so a run could not be repeated; use devices of one kind, or set workers.mixed: true"
            )
        known = {*first.versions, *hello.versions} - {"machine", "gpu"}
        differ = [name for name in sorted(known) if first.versions.get(name) != hello.versions.get(name)]
        if differ or hello.parts != first.parts:
            named = ", ".join(
                f"{name} {hello.versions.get(name)} and not {first.versions.get(name)}" for name in differ
            )
            raise ModelError(
                f"{seat.name} has other parts than the first worker ({named or 'weights or code differ'}); "
                f"install the same versions, code and weights for all workers"
            )

    def _first(self, seat: Seat, hello: Hello) -> Hello:
        """Return what the first worker said when it was first started, for which the others wait."""
        with self._changed:
            if self._hello is None and seat is self._seats[0]:
                self._hello = hello
                self._changed.notify_all()
            self._changed.wait_for(lambda: self._hello or self._problem or self._closed)
            return self._hello or hello

    def _wait(self, seconds: float) -> bool:
        """Wait for some seconds, and return whether the crew was closed in the meantime."""
        with self._changed:
            return self._changed.wait_for(lambda: self._closed, seconds)

    def _fail(self, error: TrimpotError) -> None:
        """Give up, and fail all current and later jobs with this error."""
        with self._changed:
            if self._closed or self._problem is not None:
                return
            self._problem = error
            waiting, self._queue = list(self._queue), deque()
            self._changed.notify_all()
        for task in waiting:
            if task.begun or task.future.set_running_or_notify_cancel():
                task.future.set_exception(error)
