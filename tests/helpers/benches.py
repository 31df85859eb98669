"""Benches for workers: they answer what a test wants to know, or die of what it asks."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from trimpot.engine.bucket import Bucket
from trimpot.engine.evaluation import Place
from trimpot.engine.jobs import Job, Piece, Scored
from trimpot.ground.errors import ModelError
from trimpot.workshops.seats import Done, Hello
from waiting import LONG, until


def job(position: int, num_outputs: int = 1) -> Job:
    """A job of one candidate."""
    bucket = Bucket(tuple(f"view {n}" for n in range(num_outputs)), tuple(range(num_outputs)))
    return Job((Piece(Place("search", 0, position), np.array([float(position)]), bucket),), None, ("height",))


@dataclass(frozen=True)
class Bench:
    """Scores a candidate by its position, and does as it is told before that.

    Attributes:
        deadly: Position of a candidate to how many workers die of it.
        hangs: Positions at which a worker sleeps until it is ended, the first time.
        meet: Groups of positions; each job of a group ends once all have begun, which takes as many workers.
        folder: Where it notes who did what.
        parts: What it says of itself, as `hardware` is.
        refuses: The sentence with which it cannot be made.
        dies_at_start: How many workers die of making it.
        making: The seconds that making it takes.
        batch: The largest for which its memory suffices.
    """

    folder: Path
    deadly: Mapping[int, int] = field(default_factory=dict)
    hangs: tuple[int, ...] = ()
    meet: tuple[tuple[int, ...], ...] = ()
    parts: str = "parts"
    hardware: str = "device"
    refuses: str = ""
    dies_at_start: int = 0
    making: float = 0.0
    batch: int = 16

    def __call__(self) -> Bench:
        if self.refuses:
            raise ModelError(self.refuses)
        if self._count("starts") <= self.dies_at_start:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(self.making)
        return self

    def hello(self) -> Hello:
        return Hello(self.parts, self.hardware, {"numpy": np.__version__})

    def do(self, asked: Job, largest_batch: int | None) -> Done:
        position = asked.pieces[0].place.position
        count = self._count(f"job-{position}")
        if count <= self.deadly.get(position, 0):
            os.kill(os.getpid(), signal.SIGKILL)
        if position in self.hangs and count == 1:
            time.sleep(10 * LONG)
        if position == 666:
            raise ModelError("this candidate is cursed")
        if position == 668:
            raise OddError("this class", "stays here")
        if position == 667:
            raise ZeroDivisionError("nobody foresaw this")
        for group in self.meet:
            if position in group:
                until(lambda group=group: all((self.folder / f"job-{other}").exists() for other in group))  # type: ignore[misc]
        halved = self.batch if largest_batch is None else min(self.batch, largest_batch)
        (self.folder / f"batch-{position}").write_text(str(halved))
        return Done([Scored({"height": (float(position),)}, (), 0.0, 0.0)], halved)

    def secret(self) -> Any:
        return lambda: "a function cannot be sent"

    def whoami(self) -> tuple[int, Any]:
        return os.getpid(), os.environ.get("TRIMPOT_TEST")

    def _count(self, what: str) -> int:
        """How often this has happened, in whatever process."""
        note = self.folder / what
        with note.open("a") as file:
            file.write("x")
        return len(note.read_text())


class OddError(ModelError):
    """An error of a plugin's own that cannot be unpickled."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} {second}")
