"""Following a run as it proceeds."""

from __future__ import annotations

from collections.abc import Sequence

from .alarm import Alarm
from .evaluation import Evaluation, Place
from .record import Check
from .run import Run


class Watcher:
    """Follows a run. Each method does nothing until it is overridden; hooks in `engine.hooks` have the same names.

    Example:
        >>> class Log(Watcher):
        ...     def __init__(self):
        ...         self.lines = []
        ...     def generation_told(self, run, generation, evaluations, sigma):
        ...         self.lines.append(f"generation {generation}: best {max(each.fitness for each in evaluations):.3f}")
    """

    def run_started(self, run: Run, work_done: int) -> None:
        """Work on a run begins; `work_done` denoising steps of it are recorded already."""

    def stage_started(self, run: Run, stage: str) -> None:
        """A stage begins: `baseline`, `sensitivity`, `search` or `test`."""

    def evaluation_recorded(self, run: Run, place: Place, evaluation: Evaluation) -> None:
        """An evaluation has been committed."""

    def generation_told(
        self, run: Run, generation: int, evaluations: Sequence[Evaluation], sigma: float | None
    ) -> None:
        """A generation has been told to the optimizer."""

    def recommendation_judged(self, run: Run, check: Check) -> None:
        """A recommendation has been judged on validation outputs, now or before the run was resumed."""

    def alarm_raised(self, run: Run, alarm: Alarm) -> None:
        """The optimised score has risen on validation while a watched score got worse."""
