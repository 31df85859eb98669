"""Find out which of nevergrad's optimizers can search here, and why the others cannot.

    for row in listing(num_knobs=57, population_size=16):
        print(row.method, row.reason or "can run")

A method must return a whole population before it is told any fitness, ask the same populations again when told the
same fitness, and need reasonable time. Nevergrad does not document which methods do, so each method is tried for a few
generations. If a method behaves differently later, the replay of a resumed run detects it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..engine.knobs import Knob, KnobSpace
from ..engine.seams import Population
from ..ground.errors import ConfigError
from .nevergrad_search import GlobalState, Nevergrad, registry

NUM_GENERATIONS = 6
IMPORT_SECONDS = 60.0


@dataclass(frozen=True)
class Row:
    """The result of probing one method.

    Attributes:
        method: The method's name in nevergrad's registry.
        reason: Why the method cannot search here, or None if it can.
        seconds: Seconds to ask and tell one generation, or None if no generation was completed.
    """

    method: str
    reason: str | None
    seconds: float | None = None


def probe(method: str, space: KnobSpace, population_size: int, seed: int = 0) -> str | None:
    """Run a method for a few generations, twice.

    Args:
        method: The method's name in nevergrad's registry.
        space: The space to search.
        population_size: Candidates per generation.
        seed: The seed of the search.

    Returns:
        Why the method cannot search here, or None if it can.
    """
    return _try(method, space, population_size, seed, NUM_GENERATIONS).reason


def refusal(method: str, space: KnobSpace, population_size: int | None, budget: int | None) -> str | None:
    """Run the cheap part of `probe` at the beginning of a run: ask for the first population, twice.

    Returns:
        Why the method cannot search here, or None if it can.

    Raises:
        ConfigError: If there is no such method, or it cannot be created.
    """
    try:
        first, second = (
            Nevergrad(
                space, start=space.defaults, seed=0, method=method, population_size=population_size, budget=budget
            ).ask()
            for _ in range(2)
        )
    except ConfigError:
        raise
    except Exception as error:  # hundreds of methods, each with limits of its own
        return _ask_failed(error)
    return None if np.array_equal(first, second) else "does not ask the same again"


def listing(
    num_knobs: int, population_size: int, *, methods: Sequence[str] = (), seconds: float = 2.0
) -> Iterator[Row]:
    """Probe nevergrad's methods in a separate process, which is killed if a method takes too long.

    Args:
        num_knobs: Number of knobs to search.
        population_size: Candidates per generation.
        methods: Names of the methods; empty for all methods.
        seconds: The most seconds that a generation may take.
    """
    worker = _Worker(num_knobs, population_size)
    try:
        for method in methods or sorted(registry()):
            answer = worker.ask(method, 2 * NUM_GENERATIONS * seconds)
            if answer is None:
                yield Row(method, worker.end(seconds))
                worker = _Worker(num_knobs, population_size)
            else:
                row = Row(**answer)
                slow = row.reason is None and row.seconds is not None and row.seconds > seconds
                yield Row(method, f"takes over {seconds:g} s a generation", row.seconds) if slow else row
    finally:
        worker.end(seconds)


def _try(method: str, space: KnobSpace, population_size: int, seed: int, num_generations: int) -> Row:
    begun, histories = time.perf_counter(), []
    for caller in (1, 2):  # two callers with different global states
        with GlobalState(np.random.SeedSequence(caller)).in_place():
            history = _history(method, space, population_size, seed, num_generations)
        if isinstance(history, str):
            return Row(method, history)
        histories.append(history)
    seconds = (time.perf_counter() - begun) / (2 * num_generations)
    same = np.array_equal(histories[0], histories[1])
    return Row(method, None if same else "does not ask the same again", seconds)


def _history(method: str, space: KnobSpace, population_size: int, seed: int, num_generations: int) -> Population | str:
    """Return all populations and recommendations of a method, or the reason for its failure."""
    budget = num_generations * population_size
    try:
        search = Nevergrad(
            space, start=space.defaults, seed=seed, method=method, population_size=population_size, budget=budget
        )
    except ConfigError as error:
        return str(error).removeprefix(f"nevergrad's {method} ")
    history: list[Population] = []
    for _ in range(num_generations):
        try:
            history.append(population := search.ask())
        except Exception as error:  # hundreds of methods, each with limits of its own
            return _ask_failed(error)
        if not np.all(np.isfinite(population)):
            return "asks for values that are not finite"
        try:
            search.tell(population, -np.square(population - 0.4 * space.spreads).sum(axis=1))
            history.append(search.recommend()[None])
        except Exception as error:  # likewise
            return f"fails when told scores: {_said(error)}"
    return np.concatenate(history)


def _ask_failed(error: Exception) -> str:
    if isinstance(error, ImportError):
        return f"needs something that is not installed: {_said(error)}"
    return f"fails when asked for a population: {_said(error)}"


def _said(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


class _Worker:
    """A process that probes one method after another."""

    def __init__(self, num_knobs: int, population_size: int) -> None:
        code = f"from trimpot.optimizers.nevergrad_probe import _serve; _serve({num_knobs}, {population_size})"
        self._process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._answered = False

    def ask(self, method: str, seconds: float) -> dict[str, Any] | None:
        """Return the result of probing a method, or None if the process does not answer in time."""
        assert self._process.stdin and self._process.stdout
        timer = threading.Timer(seconds if self._answered else seconds + IMPORT_SECONDS, self._process.kill)
        timer.start()
        try:
            self._process.stdin.write(method + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            timer.cancel()
        self._answered = True
        answer: dict[str, Any] | None = json.loads(line) if line else None
        return answer

    def end(self, seconds: float) -> str:
        """End the process, and return why it did not answer."""
        code = self._process.poll()
        self._process.kill()
        self._process.communicate()
        killed = code is None or code == -9
        return f"takes over {seconds:g} s a generation" if killed else f"ends the process with status {code}"


def _serve(num_knobs: int, population_size: int) -> None:
    """Probe the methods named on standard input, and write only the answers to standard output."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # some methods print
    space = KnobSpace([Knob(f"knob.{index}") for index in range(num_knobs)])
    for line in sys.stdin:
        row = _try(line.rstrip("\n"), space, population_size, 0, NUM_GENERATIONS)
        answers.write(json.dumps(asdict(row)) + "\n")
        answers.flush()
