"""The display of a working comparison: one bar over all runs, and a line for each run that ends."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeRemainingColumn

from ..engine.evaluation import Evaluation, Place
from ..engine.nouns import noun
from ..engine.run import Run
from ..engine.watcher import Watcher
from ..reports.console import SECONDS_BETWEEN_LINES, duration
from ..setup.plan import planned_work
from ..surrogate.adapter import belief
from .design import Design


class ComparisonProgress:
    """A watcher that shows the progress of a comparison and the time left.

    Attributes:
        comparison: The name of the comparison, or None before it begins.

    Args:
        console: The console to write to.
    """

    def __init__(self, console: Console) -> None:
        self.comparison: str | None = None
        self._console = console
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=console,
            transient=True,
        )
        self._task: TaskID | None = None
        self._title, self._seed = "", "seed"
        self._planned: dict[str, int] = {}
        self._ended = self._within = self._skipped = 0
        self._begun = self._last_line = time.monotonic()

    def __enter__(self) -> ComparisonProgress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._progress.stop()

    @property
    def watcher(self) -> Watcher:
        """The watcher of each run."""
        return _Counter(self)

    def comparison_started(self, comparison: str, design: Design, firsts: Sequence[Run]) -> None:
        """Announce the comparison and start the bar."""
        self.comparison, self._begun = comparison, time.monotonic()
        self._planned = {label: planned_work(run) for label, run in zip(design.contenders, firsts, strict=True)}
        self._seed = "seed" if firsts[0].adapter.uses_seed else "search"
        self._total = len(design.seeds) * sum(self._planned.values())
        self._console.print(
            f"[bold]{escape(comparison)}[/]: {escape(', '.join(design.contenders))} on "
            f"{len(firsts[0].adapter.space)} knobs of {escape(firsts[0].config.adapter.name)}, {len(design.seeds)} "
            f"{'seeds' if self._seed == 'seed' else 'searches'} each, {design.asked['images']:,} "
            f"{noun(firsts[0].adapter.makes)} a search",
            soft_wrap=True,
        )
        if told := belief(firsts[0].adapter.describe()):
            self._console.print(told, style="dim", soft_wrap=True)
        if self._console.is_terminal:
            self._progress.start()
            self._task = self._progress.add_task("starting", total=self._total)

    def member_started(self, contender: str, seed: int) -> None:
        """Show contender and seed of the run."""
        self._title, self._within = f"{contender}, {self._seed} {seed}", 0
        self._fresh = False
        self._show()

    def member_ended(self, contender: str, seed: int, error: str | None) -> None:
        """Count the run as done, and print the error if it failed."""
        self._ended += self._planned[contender]
        if not self._fresh:
            self._skipped += self._planned[contender]  # it took no time, so it does not count for the pace
        self._within = 0
        if error:
            self._console.print(
                f"[yellow]{escape(contender)}, {self._seed} {seed}, failed:[/] {escape(error)}", soft_wrap=True
            )
        self._show()

    def run_started(self, work_done: int) -> None:
        """Count the work of the run that was recorded earlier."""
        self._within, self._fresh = work_done, True
        self._skipped += work_done

    def work_recorded(self, work: int) -> None:
        """Move the bar."""
        self._within += work
        self._show()

    def _show(self) -> None:
        done = self._ended + self._within
        if self._task is not None:
            self._progress.update(self._task, completed=min(done, self._total), description=escape(self._title))
            return
        now = time.monotonic()
        if self._console.is_terminal or now - self._last_line < SECONDS_BETWEEN_LINES:
            return
        self._last_line = now
        share = min(done / self._total, 1.0)
        made, left = done - self._skipped, ""
        if made > self._total / 100:  # the pace before is that of loading and encoding
            left = f" (about {duration((now - self._begun) / made * max(self._total - done, 0))} left)"
        self._console.print(f"{share:4.0%}  {escape(self._title)}{left}", highlight=False)


class _Counter(Watcher):
    def __init__(self, progress: ComparisonProgress) -> None:
        self._progress = progress

    def run_started(self, run: Run, work_done: int) -> None:
        self._progress.run_started(work_done)

    def evaluation_recorded(self, run: Run, place: Place, evaluation: Evaluation) -> None:
        self._progress.work_recorded(evaluation.work)
