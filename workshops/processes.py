"""Workers as processes on this machine, one per GPU."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from typing import Any

from ..ground.errors import ConfigError, ModelError
from .seats import Hello, Make, Seat, SeatLostError, answer

UNGUARDED = 76  # the exit status of a worker whose program begins a run as it is imported
_SPAWN = multiprocessing.get_context("spawn")  # a fork would copy locks and the GPU's state
_SPAWNING = threading.Lock()  # several seats are started at once


def refuse_while_imported() -> None:
    """End this process if it is a worker's that is just importing the program which asked for it.

    Spawned processes import that program, and a call outside of its guard would begin the run once more.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        sys.exit(UNGUARDED)


class ProcessSeat(Seat):
    """A spawned process that waits for calls on a pipe.

    Args:
        name: The worker's name for messages.
        make: Makes the bench, in the worker's process.
        environment: Environment variables of the process, such as `CUDA_VISIBLE_DEVICES`.
        threads: Number of CPU threads for arithmetic; None leaves the number to the libraries.
    """

    def __init__(
        self, name: str, make: Make, environment: Mapping[str, str] | None = None, threads: int | None = None
    ) -> None:
        self.name = name
        self._make, self._environment, self._threads = make, dict(environment or {}), threads
        self._process: Any = None
        self._pipe: Connection | None = None

    def start(self) -> Hello:
        """See `Seat.start`."""
        self._pipe, theirs = _SPAWN.Pipe()
        self._process = _SPAWN.Process(
            target=_serve, args=(theirs, self._make, self._environment, self._threads), name=self.name, daemon=True
        )
        with _SPAWNING, _script_hidden(self._make):
            self._process.start()
        theirs.close()
        try:
            hello = self._answer(None)
        except SeatLostError:
            if self._process.exitcode == UNGUARDED:
                raise ConfigError(
                    "workers import the program that asks for them, which would begin the run again; "
                    "write the call under `if __name__ == '__main__':`"
                ) from None
            raise
        assert isinstance(hello, Hello)
        return hello

    def call(self, method: str, *args: Any, seconds: float | None = None) -> Any:
        """See `Seat.call`."""
        if self._pipe is None:
            raise SeatLostError("was ended")
        try:
            self._pipe.send((method, args))
        except OSError:
            raise self._death() from None
        return self._answer(seconds)

    def _answer(self, seconds: float | None) -> Any:
        assert self._pipe is not None
        try:
            if not self._pipe.poll(seconds):
                raise SeatLostError(f"has not answered for {seconds:.0f} s")
            good, result = self._pipe.recv()
        except (EOFError, OSError):
            raise self._death() from None
        if good:
            return result
        raise result

    def _death(self) -> SeatLostError:
        if self._process is None:
            return SeatLostError("was ended")
        with contextlib.suppress(ValueError, AssertionError):
            self._process.join(5)
            code = self._process.exitcode
            if code is not None and code < 0:
                return SeatLostError(f"was killed by {signal.Signals(-code).name}")
            return SeatLostError(f"ended with status {code}")
        return SeatLostError("was ended")

    def dismiss(self) -> None:
        """See `Seat.dismiss`."""
        with contextlib.suppress(OSError, ValueError, AttributeError):
            self._pipe.send(None)  # type: ignore[union-attr]  # a seat that was never taken has no pipe

    def kill(self, grace: float = 0.0) -> None:
        """See `Seat.kill`."""
        process = self._process
        if process is not None:
            with contextlib.suppress(ValueError, AttributeError, AssertionError):
                deadline = time.monotonic() + 5
                while process.ident is None and time.monotonic() < deadline:
                    time.sleep(0.01)  # another thread is starting it at this moment, and it cannot be joined yet
                process.join(grace)
                process.kill()
                process.join(5)


@contextlib.contextmanager
def _script_hidden(make: Make) -> Iterator[None]:
    """Let processes spawned in this block not run this process's script, unless they need something that it defines.

    They would run it to its end if it lacks the guard `if __name__ == "__main__"`, and so try to start workers again.
    """
    main = sys.modules["__main__"]
    if b"__main__" in bytes(ForkingPickler.dumps(make)):
        yield
        return
    path, spec = getattr(main, "__file__", None), main.__spec__
    main.__file__ = main.__spec__ = None
    try:
        yield
    finally:
        main.__spec__ = spec
        if path is None:
            del main.__file__
        else:
            main.__file__ = path


def _serve(pipe: Connection, make: Make, environment: Mapping[str, str], threads: int | None) -> None:
    """Run a worker's process: make the bench, introduce the worker, and answer calls until the pipe is closed."""
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the driver, which ends its workers
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    if threads is not None:
        _use_threads(threads)
    with contextlib.suppress(EOFError, OSError):
        bench = None
        good, found = answer(_Making(make), "made", ())
        if good:
            bench = found
            good, found = answer(bench, "hello", ())
        _send(pipe, (good, found))
        while bench is not None:
            call = pipe.recv()
            if call is None:
                return
            _send(pipe, answer(bench, *call))


def _send(pipe: Connection, found: tuple[bool, Any]) -> None:
    """Send an answer, or the reason why it cannot be sent."""
    try:
        pipe.send(found)
    except OSError:
        raise
    except Exception as error:  # a plugin may answer with what cannot be pickled; nothing of it was sent
        pipe.send((False, ModelError(f"a worker's answer cannot be sent: {type(error).__name__}: {error}")))


def _end_with_parent() -> None:
    """End this process when its parent dies, because a killed driver cannot end its workers."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "a worker is a child"
    parent.join()
    os._exit(1)


@dataclass(frozen=True)
class _Making:
    """A stand-in for the bench whose method makes it, so that errors are answered like those of any call."""

    make: Make

    def made(self) -> Any:
        return self.make()


def _use_threads(number: int) -> None:
    """Set the number of CPU threads of libraries that are already loaded, and of those loaded later."""
    from threadpoolctl import threadpool_limits

    os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(number)))
    threadpool_limits(number)
