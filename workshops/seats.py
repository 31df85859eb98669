"""Seats: the driver's handles of single workers, be they processes here or actors on other machines."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from ..engine.jobs import Scored
from ..ground.errors import ModelError, TrimpotError


class SeatLostError(Exception):
    """The worker of a seat has died or does not answer; the message says how."""


class Bench(Protocol):
    """The object, in a worker's own process, that answers the driver's calls."""

    def hello(self) -> Hello:
        """Return what identifies this worker's parts and device."""


@dataclass(frozen=True)
class Hello:
    """A worker's description of itself.

    Attributes:
        parts: Fingerprint of the worker's parts: weights, code and options.
        hardware: The name of the device, such as `NVIDIA H100 80GB HBM3`.
        versions: Package name to version, for all packages that can change a number.
    """

    parts: str
    hardware: str
    versions: Mapping[str, str]


class Done(NamedTuple):
    """A worker's answer to a job: the scores of its pieces, and the largest batch that fits its memory."""

    scored: Sequence[Scored]
    largest_batch: int | None = None


class Seat(ABC):
    """A handle of one worker, which can be started, called, killed and started again.

    Attributes:
        name: The worker's name for messages, such as `worker 2 (GPU 1)`.
    """

    name: str

    @abstractmethod
    def start(self) -> Hello:
        """Start the worker, and wait until it has made its parts.

        Raises:
            TrimpotError: If the worker cannot make its parts.
            SeatLostError: If the worker dies.
        """

    @abstractmethod
    def call(self, method: str, *args: Any, seconds: float | None = None) -> Any:
        """Call a method of the worker's bench, and wait for the answer.

        Args:
            method: The name of the bench's method.
            *args: The method's arguments, which can be pickled.
            seconds: The longest wait; None for as long as the worker lives.

        Raises:
            TrimpotError: If the method raises one.
            SeatLostError: If the worker dies, or does not answer in time.
        """

    def dismiss(self) -> None:  # noqa: B027  # a worker that leaves nothing behind need not be asked
        """Ask the worker to end after its current call, so that it can clean up."""

    @abstractmethod
    def kill(self, grace: float = 0.0) -> None:
        """End the worker, if it is running. May be called from any thread.

        Args:
            grace: Seconds for which a worker that was dismissed may still end by itself.
        """


Make = Callable[[], Bench]  # makes the bench, in the worker's process; can be pickled


def answer(bench: object, method: str, args: tuple[Any, ...]) -> tuple[bool, Any]:
    """Call a method of a bench, and return True and the result, or False and the error.

    An error is of a class of `ground.errors`, since a plugin's own class need not survive the way to the driver.
    """
    try:
        return True, getattr(bench, method)(*args)
    except TrimpotError as error:
        known = next(kind for kind in type(error).__mro__ if kind.__module__ == TrimpotError.__module__)
        return False, known(str(error))
    except (Exception, SystemExit) as error:  # a plugin's code may fail in any way
        return False, ModelError(f"a worker failed: {type(error).__name__}: {error}")
