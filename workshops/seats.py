"""Seats: where one worker sits, be it a process here or an actor on another machine."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from ..engine.jobs import Scored
from ..ground.errors import ModelError, TrimpotError


class SeatLostError(Exception):
    """The worker of a seat has died or does not answer; says how."""


class Bench(Protocol):
    """What a worker works with, in its own process."""

    def hello(self) -> Hello:
        """Who is there."""


@dataclass(frozen=True)
class Hello:
    """What a worker says of itself.

    Attributes:
        parts: Fingerprint of its parts: weights, code and options.
        hardware: The name of the device, such as `NVIDIA H100 80GB HBM3`.
        versions: Package name to version, of all that can change a number.
    """

    parts: str
    hardware: str
    versions: Mapping[str, str]


class Done(NamedTuple):
    """What a worker answers to a job: the scores of its pieces, and the largest batch for which its memory suffices."""

    scored: Sequence[Scored]
    largest_batch: int | None = None


class Seat(ABC):
    """One worker, which can be asked, killed and started again.

    Attributes:
        name: What to call it in a sentence, such as `worker 2 (GPU 1)`.
    """

    name: str

    @abstractmethod
    def start(self) -> Hello:
        """Start the worker, and wait until it has made its parts.

        Raises:
            TrimpotError: If it cannot make them.
            SeatLostError: If it dies.
        """

    @abstractmethod
    def call(self, method: str, *args: Any, seconds: float | None = None) -> Any:
        """Ask the worker's bench, and wait for the answer.

        Args:
            method: Of the bench.
            *args: Its arguments; they can be pickled.
            seconds: How long to wait; None for as long as the worker lives.

        Raises:
            TrimpotError: If the bench says so.
            SeatLostError: If the worker dies, or does not answer in time.
        """

    @abstractmethod
    def kill(self) -> None:
        """End the worker at once, if there is one; from any thread."""


Make = Callable[[], Bench]  # makes the bench, in the worker's process; can be pickled


def answer(bench: object, method: str, args: tuple[Any, ...]) -> tuple[bool, Any]:
    """What a bench answers: whether it could, and the result or the error."""
    try:
        return True, getattr(bench, method)(*args)
    except TrimpotError as error:
        return False, error
    except (
        Exception,
        SystemExit,
    ) as error:  # a stranger's code may fail in any way, and the error may not be picklable
        return False, ModelError(f"a worker failed: {type(error).__name__}: {error}")
