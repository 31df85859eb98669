"""The display of a working run: a live bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from ..engine.alarm import Alarm, own_name
from ..engine.evaluation import Evaluation, Place, watched_at
from ..engine.record import Check
from ..engine.run import Run
from ..engine.schema import Config
from ..engine.watcher import Watcher
from ..setup.plan import planned_work
from .nouns import noun
from .standing import standing_of
from .words import caution, silence, taken_on

SECONDS_BETWEEN_LINES = 10.0
STAGE_TITLES = {
    "baseline": "choosing the best neutral setting",
    "sensitivity": "turning one knob at a time",
    "search": "searching",
    "test": "measuring on test prompts",
}


class ProgressWatcher(Watcher):
    """A watcher that shows the progress of a run, the time left, and the best validation score so far.

    Attributes:
        run_id: The name of the run, or None before it begins.

    Args:
        console: The console to write to.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeRemainingColumn(elapsed_when_finished=True),
            TextColumn("{task.fields[facts]}"),
            console=console,
            transient=True,
        )
        self._task: TaskID | None = None
        self._total = self._done = self._found = self._images = self._test_work = 0
        self._begun = self._last_line = time.monotonic()
        self._facts = ""
        self._stage = ""
        self._best = float("-inf")
        self.run_id: str | None = None

    def __enter__(self) -> ProgressWatcher:
        return self

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._progress.stop()

    def run_started(self, run: Run, work_done: int) -> None:
        """Announce the run and start the bar."""
        self.run_id = run.id
        self._begun = time.monotonic()
        self._done, self._total = work_done, max(planned_work(run), 1)
        self._found = work_done  # by an earlier process, so it does not count for this one's speed
        space, steps = run.adapter.space, run.adapter.num_steps
        resumed = f", {work_done / self._total:.0%} done already" if work_done else ""
        self._console.print(
            f"[bold]{escape(run.id)}[/]: {space.searched.sum()} knobs of {escape(run.config.adapter.name)}"
            + (f" at {steps} steps" if steps else "")
            + (", measuring a given setting" if run.config.measures else _search(run.config))
            + resumed
        )
        if self._console.is_terminal:
            self._progress.start()
            self._task = self._progress.add_task("starting", total=self._total, completed=work_done, facts="")

    def stage_started(self, run: Run, stage: str) -> None:
        """Show the name of the stage."""
        watched = watched_at(stage)
        self._stage = f"measuring on watched prompts, {watched}" if watched else STAGE_TITLES.get(stage, stage)
        self._show()

    def evaluation_recorded(self, run: Run, place: Place, evaluation: Evaluation) -> None:
        """Move the bar."""
        self._done += evaluation.work
        self._images += evaluation.num_images
        self._show()

    def generation_told(
        self, run: Run, generation: int, evaluations: Sequence[Evaluation], sigma: float | None
    ) -> None:
        """Show the generation, its mean fitness, the step size and the best validation score."""
        fitness = [evaluation.fitness for evaluation in evaluations]
        self._facts = f"generation {generation + 1}/{run.config.generations}, mean {sum(fitness) / len(fitness):.3f}"
        if sigma is not None:
            self._facts += f", sigma {sigma:.3g}"
        if self._best > float("-inf"):
            self._facts += f", best on validation {self._best:.3f}"
        self._show()

    def recommendation_judged(self, run: Run, check: Check) -> None:
        """Remember the best validation score of an admitted recommendation."""
        if check.admitted:
            self._best = max(self._best, check.score)

    def alarm_raised(self, run: Run, alarm: Alarm) -> None:
        """Print the alarm at once."""
        self._console.print(f"[bold red]ALARM:[/] {escape(alarm.told(noun(run.adapter.makes)))}")

    def _show(self) -> None:
        if self._task is not None:
            self._progress.update(
                self._task,
                completed=min(self._done, self._total),
                description=self._stage,
                facts=self._facts,
            )
            return
        now = time.monotonic()
        if self._console.is_terminal or now - self._last_line < SECONDS_BETWEEN_LINES:
            return
        self._last_line = now
        share = min(self._done / self._total, 1.0)
        facts = f": {self._facts}" if self._facts else ""
        made, left = self._done - self._found, ""
        if made > 0:
            seconds = (now - self._begun) * max(self._total - self._done, 0) / made
            left = f" (at most {duration(seconds)} left)"
        self._console.print(f"{share:4.0%}  {self._stage}{facts}{left}", highlight=False)


def print_result(console: Console, summary: Mapping[str, Any]) -> None:
    """Print the result of a finished run, and the commands to use next.

    Args:
        console: The console to write to.
        summary: What `runs.results.summary` returned.
    """
    comparisons = summary["outcome"]["comparisons"]
    gain, named = summary["gain"], noun(summary.get("makes"))
    steps = comparisons[0]["num_steps"]
    at_steps = f" at {steps} steps" if steps else ""
    unseen = "" if summary.get("config", {}).get("generations") == 0 else " that the search never saw"
    console.print(
        f"\n[bold]{signed(gain['mean'])} {interval(gain)}[/] on {taken_on(gain, named)}{unseen}{at_steps}:\n"
        f"neutral ({escape(comparisons[0]['baseline']['label'])}, its best) "
        f"{comparisons[0]['neutral']:.3f}, calibrated {comparisons[0]['calibrated']:.3f}"
    )
    stands = standing_of(summary["outcome"])
    if stands.sentence:
        console.print(f"[yellow]{stands.sentence}[/]")
    if rough := caution(gain):
        console.print(f"[yellow]{rough}[/]")
    if silent := silence(summary["outcome"]):
        console.print(f"[yellow]{silent}[/]")
    print_alarms(console, summary)
    if len(comparisons) > 1:
        console.print(steps_table(comparisons))
    if watched := summary["outcome"].get("watched"):
        console.print(watched_table(watched))
    console.print(
        f"stopped: {escape(summary['stop_reason'])}; {summary['num_images']:,} {named} in "
        f"{duration(summary['seconds'])}"
    )
    console.print(
        f"calibration  {escape(summary['calibration'])}\n"
        f"report       {escape(summary['report'] or 'trimpot report ' + summary['run'])}",
        soft_wrap=True,
    )
    if steps and stands.may_be_applied:
        doubt = f"once you have looked at the {named}: " if summary["alarms"] else ""
        console.print(
            f"\napply it     {doubt}[bold]trimpot.load_calibration(pipe, {summary['calibration']!r})[/]",
            soft_wrap=True,
        )


def print_alarms(console: Console, summary: Mapping[str, Any]) -> None:
    """Print the alarms of a run.

    Args:
        console: The console to write to.
        summary: What `runs.results.summary` returned.
    """
    for alarm in summary["alarms"]:
        console.print(f"[bold red]ALARM:[/] {escape(alarm['text'])}")


def steps_table(comparisons: Sequence[Mapping[str, Any]]) -> Table:
    """Return a table of neutral and calibrated scores and their gain by number of steps."""
    first = comparisons[0]["num_steps"]
    table = Table(box=None, pad_edge=False)
    for heading in ("steps", "neutral", "calibrated", "gain", f"calibrated at {first} against neutral here"):
        table.add_column(heading, justify="right")
    for each in sorted(comparisons, key=lambda comparison: comparison["num_steps"] or 0):
        gain, across = each["gain"], each["gain_at_calibrated_steps"]
        table.add_row(
            str(each["num_steps"]),
            f"{each['neutral']:.3f}",
            f"{each['calibrated']:.3f}",
            f"{signed(gain['mean'])} {interval(gain)}",
            f"{signed(across['mean'])} {interval(across)}",
        )
    return table


def watched_table(watched: Sequence[Mapping[str, Any]]) -> Table:
    """Return a table of neutral and calibrated scores and their change on watched prompts."""
    table = Table(box=None, pad_edge=False)
    for heading in ("watched prompts", "objective"):
        table.add_column(heading)
    for heading in ("neutral", "calibrated", "change"):
        table.add_column(heading, justify="right")
    for each in watched:
        table.add_row(
            escape(each["prompts"]),
            escape(own_name(each["objective"], each["prompts"])),
            f"{each['neutral']:.3f}",
            f"{each['calibrated']:.3f}",
            f"{signed(each['gain']['mean'])} {interval(each['gain'])}",
        )
    return table


def _search(config: Config) -> str:
    return f", {escape(config.optimizer.name)}, up to {config.generations} generations"


def signed(value: float) -> str:
    """Return a number with its sign and three decimals."""
    return f"{value:+.3f}"


def interval(gain: Mapping[str, float]) -> str:
    """Return a 95 % interval as text, escaped for rich."""
    return escape(f"[{gain['low']:+.3f}, {gain['high']:+.3f}]")


def duration(seconds: float) -> str:
    """Return a duration as text, in seconds, minutes or hours."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
