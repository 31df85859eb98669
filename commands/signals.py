"""Wishes to end: Ctrl-C, SIGTERM of a scheduler or a spot machine, SIGHUP of a terminal that was closed."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


class Stopped(KeyboardInterrupt):  # as KeyboardInterrupt is: a wish, and no error
    """Somebody wants the process to end.

    Args:
        number: Of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def status_of(stop: KeyboardInterrupt) -> int:
    """The exit status by which a shell knows the signal."""
    return 128 + (stop.number if isinstance(stop, Stopped) else signal.SIGINT)


@contextlib.contextmanager
def stopping_cleanly() -> Iterator[None]:
    """Have SIGTERM and SIGHUP raise `Stopped` where the main thread is, as Ctrl-C raises KeyboardInterrupt.

    A signal that the process was told to ignore, as `nohup` does, stays ignored.
    """

    def stop(number: int, _frame: FrameType | None) -> None:
        raise Stopped(number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {}
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) == signal.SIG_DFL:
            before[number] = signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
