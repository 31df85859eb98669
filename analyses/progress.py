"""The display of a working analysis: one bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, SpinnerColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from ..engine.evaluation import Evaluation, Place
from ..engine.run import Run
from ..engine.watcher import Watcher
from ..reports.console import SECONDS_BETWEEN_LINES, duration


class Progress(Watcher):
    """A watcher that shows how much of an analysis's work is done, and the time left.

    Attributes:
        analysis: The name of the analysis, or None before it begins.

    Args:
        console: The console to write to; None shows nothing.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.analysis: str | None = None
        self._console = console
        self._bar: Bar | None = None
        self._task: TaskID | None = None
        self._total = self._done = self._found = 0
        self._begun = self._last_line = time.monotonic()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def begun(self, analysis: str, said: str) -> None:
        """Announce the analysis."""
        self.analysis, self._begun = analysis, time.monotonic()
        if self._console is not None:
            self._console.print(f"[bold]{escape(analysis)}[/]: {escape(said)}", soft_wrap=True)

    def expect(self, work: int, done: int) -> None:
        """Set the work in all, and how much of it is recorded already."""
        self._total, self._done = max(work, 1), max(done, self._done)
        self._found = max(self._found, done)
        if self._console is not None and self._console.is_terminal and self._bar is None:
            columns = (
                SpinnerColumn(),
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.percentage:>3.0f} %"),
                TimeRemainingColumn(elapsed_when_finished=True),
            )
            self._bar = Bar(*columns, console=self._console, transient=True)
            self._bar.start()
            self._task = self._bar.add_task("evaluating", total=self._total)
        self._show()

    def passed(self, work: int) -> None:
        """Count work that was done before."""
        self._found += work
        self._done += work
        self._show()

    def run_started(self, run: Run, work_done: int) -> None:
        """Count what a run of the analysis has done already."""
        self.passed(work_done)

    def evaluation_recorded(self, run: Run, place: Place, evaluation: Evaluation) -> None:
        """Move the bar."""
        self._done += evaluation.work
        self._show()

    def _show(self) -> None:
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=min(self._done, self._total), total=self._total)
            return
        now = time.monotonic()
        if self._console is None or not self._total or now - self._last_line < SECONDS_BETWEEN_LINES:
            return
        self._last_line = now
        made, left = self._done - self._found, ""
        if made > 0:
            seconds = (now - self._begun) * max(self._total - self._done, 0) / made
            left = f" (about {duration(seconds)} left)"
        self._console.print(f"{min(self._done / self._total, 1.0):4.0%}  evaluating{left}", highlight=False)
