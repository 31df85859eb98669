"""Showing a run in experiment trackers. Nothing that a tracker does, or fails to do, stops or changes the run.

The x axis of every curve is the number of images that the search has made. It is counted in the same way when a run is
resumed, so that a tracker is given only the points that it does not have.
"""

from __future__ import annotations

import contextlib
import queue
import statistics
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from ..engine.alarm import Alarm, own_name
from ..engine.evaluation import Evaluation, Place
from ..engine.knobs import Setting, digest
from ..engine.loop import Outcome
from ..engine.nouns import noun
from ..engine.record import Check, Record, decisive
from ..engine.run import Run
from ..engine.statistics import paired_gain
from ..engine.tracker import TrackedRun, Tracker
from ..engine.vetting import told
from ..engine.watcher import Watcher
from ..ground.errors import Notice, TrimpotError
from ..setup.plugins import Plugins
from ..setup.recorded import record_of
from ..storage import SqliteStore
from .results import Files

if TYPE_CHECKING:
    from PIL.Image import Image

T = TypeVar("T")
SECONDS = 60.0  # how long a run waits for a tracker
SECONDS_TO_STOP = 5.0  # how long it waits if the run was stopped by Ctrl-C or an error
MOST_SINGLE = 16  # knobs without a depth that get a curve each
MOST_PICTURES = 8
GAP = 8  # pixels between neutral and calibrated


@contextmanager
def tracked(run: Run, store: SqliteStore, known: Plugins) -> Iterator[Tracking]:
    """Yield a watcher that shows a run in the trackers of its configuration, and close them at the end of the block.

    Args:
        run: The run, with its name in the store.
        store: The store that holds the run.
        known: The registered plugins, which make the trackers.

    Raises:
        TrimpotError: If a tracker cannot be made; `setup.parts.check_parts` refuses such a run before it begins.
    """
    made = {
        name: known.make("trackers", asked.name or name, asked.options) for name, asked in run.config.trackers.items()
    }
    tracking = Tracking(made, store, known)
    try:
        yield tracking
    except BaseException:
        tracking.end(finished=False, seconds=SECONDS_TO_STOP)
        raise
    tracking.end(finished=True)


class Tracking(Watcher):
    """A watcher that gives trackers the curves of a run.

    Args:
        trackers: The trackers by their names in the configuration.
        store: The store that holds the run.
        known: The plugins of the run.
    """

    def __init__(self, trackers: Mapping[str, Tracker], store: SqliteStore, known: Plugins) -> None:
        self._store, self._known = store, known
        self._held = {name: _Held(name, tracker) for name, tracker in trackers.items()}
        self._images = 0  # of the search so far, recorded or made
        self._made = 0  # images made since `_since`
        self._since = time.monotonic()

    def run_started(self, run: Run, work_done: int) -> None:
        """Open the run in every tracker."""
        if self._held:
            row = self._store.run(run.id)
            seen = TrackedRun(f"{run.id}-{digest([run.id, row.created])[:8]}", run.id, _facts(run), self._folder(run))
            for each in self._held.values():
                each.begin(seen)

    def evaluation_recorded(self, run: Run, place: Place, evaluation: Evaluation) -> None:
        """Count the outputs that were made now."""
        self._made += evaluation.num_images

    def generation_told(
        self, run: Run, generation: int, evaluations: Sequence[Evaluation], sigma: float | None
    ) -> None:
        """Show a generation: its fitness, the step size, and the speed if it was made now."""
        self._images += sum(evaluation.num_images for evaluation in evaluations)
        fitness = [evaluation.fitness for evaluation in evaluations]
        values = {
            "search/generation": generation + 1,
            "search/best": max(fitness),
            "search/mean": statistics.fmean(fitness),
            "search/median": statistics.median(fitness),
        }
        if sigma is not None:
            values["search/sigma"] = sigma
        now = time.monotonic()
        if self._made and now > self._since:
            values[f"search/{noun(run.adapter.makes)}_per_second"] = self._made / (now - self._since)
        self._made, self._since = 0, now
        self._log(values)

    def recommendation_judged(self, run: Run, check: Check) -> None:
        """Show a check: its score beside the neutral one, watched scores, and its knobs."""
        if not any(each.lacks("validation/score", self._images) for each in self._held.values()):
            return
        row = self._store.run(run.id)
        record = record_of(row, self._store.evaluations(run.id, decisive(row.config)), self._known)
        self._log(_of_check(record, check))
        by_name, single = _knobs(check.setting)
        self._log(single)
        for name, values in by_name.items():
            for each in self._held.values():
                each.log_spread(name, values, self._images)

    def alarm_raised(self, run: Run, alarm: Alarm) -> None:
        """Show an alarm as the change, in standard deviations, of the watched score."""
        path = ("alarm", alarm.prompts, own_name(alarm.objective, alarm.prompts))
        self._log({"/".join(filter(None, path)): alarm.change})

    def finished(self, run: Run, outcome: Outcome, files: Files) -> None:
        """Show the result of a run: its gains, and the pictures before and after."""
        if not self._held:
            return
        values: dict[str, float] = {}
        for measured in outcome.comparisons:
            first = measured is outcome.comparisons[0]
            group = "test" if first else f"test_at_{measured.num_steps}_steps"
            gain = measured.gain
            found = {"neutral": measured.neutral, "calibrated": measured.calibrated, "gain": gain.mean}
            found |= {"gain_low": gain.low, "gain_high": gain.high}
            values |= {f"{group}/{name}": value for name, value in found.items()}
        for seen in outcome.watched:
            group = f"watch_test/{seen.prompts}/{own_name(seen.objective, seen.prompts)}"
            values |= {f"{group}/neutral": seen.neutral, f"{group}/calibrated": seen.calibrated}
            values |= {f"{group}/gain": seen.gain.mean, f"{group}/gain_low": seen.gain.low}
            values |= {f"{group}/gain_high": seen.gain.high}
        for each in self._held.values():
            each.summarize(values, self._images)
            for name, picture, caption in _pictures(files, run.adapter.uses_seed):
                each.log_picture(name, picture, caption, self._images)

    def end(self, *, finished: bool, seconds: float | None = None) -> None:
        """Close the run in every tracker.

        Args:
            finished: Whether the run has its result.
            seconds: How long to wait for each tracker; None for as long as for any other call.
        """
        for each in self._held.values():
            each.end(finished, seconds)

    def _log(self, values: Mapping[str, float]) -> None:
        for each in self._held.values():
            each.log(values, self._images)

    def _folder(self, run: Run) -> Any:
        return self._store.run_folder(run.id)


class _Held:
    """A tracker that may fail: it is asked in a thread of its own, and after its first failure never again."""

    def __init__(self, name: str, tracker: Tracker) -> None:
        self._name, self._tracker = name, tracker
        self._last: Mapping[str, int] | int = {}
        self._calls: queue.SimpleQueue[tuple[Callable[[], Any], queue.SimpleQueue[Any]] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._said: set[str] = set()
        self._failed = False

    def begin(self, run: TrackedRun) -> None:
        """See `Tracker.begin`."""
        found = self._ask(lambda: _last(self._tracker.begin(run)))
        if found is not None:
            self._last = found

    def lacks(self, name: str, step: int) -> bool:
        """Whether a curve has no point at a step, or later, yet."""
        last = self._last if isinstance(self._last, int) else self._last.get(name, -1)
        return not self._failed and step > last

    def log(self, values: Mapping[str, float], step: int) -> None:
        """See `Tracker.log`; points that the tracker has, and numbers that are not finite, are left out."""
        lacking = {
            name: float(value) for name, value in values.items() if self.lacks(name, step) and np.isfinite(value)
        }
        if lacking:
            self._ask(lambda: self._tracker.log(lacking, step))

    def log_spread(self, name: str, values: Any, step: int) -> None:
        """See `Tracker.log_spread`."""
        if self.lacks(name, step):
            self._ask(lambda: self._tracker.log_spread(name, values, step))

    def log_picture(self, name: str, picture: Image, caption: str, step: int) -> None:
        """See `Tracker.log_picture`."""
        if self.lacks(name, step):
            self._ask(lambda: self._tracker.log_picture(name, picture, caption, step))

    def summarize(self, values: Mapping[str, float], step: int) -> None:
        """See `Tracker.summarize`; a run that was stopped right after it is not summarized twice."""
        if isinstance(self._last, int) or any(self.lacks(name, step) for name in values):
            self._ask(lambda: self._tracker.summarize(dict(values), step))

    def end(self, finished: bool, seconds: float | None) -> None:
        """See `Tracker.end`; a tracker that failed is closed too, as far as it can be."""
        self._ask(lambda: self._tracker.end(finished), seconds)
        self._calls.put(None)

    def _ask(self, call: Callable[[], T], seconds: float | None = None) -> T | None:
        """Make a call in the tracker's thread, and return its result; None if it failed, or had failed before."""
        if self._failed:
            return None
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=f"tracker {self._name}", daemon=True)
            self._thread.start()
        answer: queue.SimpleQueue[Any] = queue.SimpleQueue()
        seconds = SECONDS if seconds is None else seconds
        with _quietly() as heard:
            self._calls.put((call, answer))
            try:
                good, result = answer.get(timeout=seconds)
            except queue.Empty:
                good, result = False, TimeoutError(f"it did not answer for {seconds:.0f} s")
        for message in [text for text in heard if text not in self._said]:
            self._said.add(message)
            warnings.warn(f"tracker {self._name!r}: {message}", Notice, stacklevel=2)
        if good:
            value: T = result
            return value
        self._failed = True
        self._calls.put((lambda: self._tracker.end(False), queue.SimpleQueue()))
        said = str(result) if isinstance(result, (TrimpotError, TimeoutError)) else told(result)
        warnings.warn(
            f"tracker {self._name!r} failed and is told no more; the run goes on: {said}", Notice, stacklevel=2
        )
        return None

    def _work(self) -> None:
        while (asked := self._calls.get()) is not None:
            call, answer = asked
            try:
                answer.put((True, call()))
            except BaseException as error:  # a tracker may raise anything, even SystemExit
                answer.put((False, error))


@contextmanager
def _quietly() -> Iterator[list[str]]:
    """Collect what a tracker's libraries warn of, keep what they print from the results, and silence their threads."""
    heard: list[str] = []
    hook = threading.excepthook
    threading.excepthook = lambda _: None  # a writer's thread that fails is noticed at the next call
    try:
        with warnings.catch_warnings(record=True) as caught, contextlib.redirect_stdout(sys.stderr):
            warnings.simplefilter("always")
            yield heard
    finally:
        threading.excepthook = hook
    heard += [" ".join(str(each.message).split())[:300] for each in caught if each.category in (UserWarning,)]


def _last(found: object) -> Mapping[str, int] | int:
    """Check what a tracker says of the points that it has."""
    if isinstance(found, Mapping):
        return {str(name): int(step) for name, step in found.items()}
    if isinstance(found, int) and not isinstance(found, bool):
        return found
    raise TypeError(f"its begin returned {found!r}; let it return a mapping of curves to their last steps")


def _facts(run: Run) -> dict[str, Any]:
    """Return the configuration of a run, and what it says of the backbone."""
    values = run.config.model_dump(mode="json", exclude={"trackers"})
    return {**values, "num_knobs": len(run.adapter.space), "num_steps": run.adapter.num_steps}


def _of_check(record: Record, check: Check) -> dict[str, float]:
    neutral, judged = record.neutral, record.judged.get(check.generation)
    if neutral is None or judged is None:
        return {"validation/score": check.score}
    gain = paired_gain(judged.values, neutral.values, judged.bucket.prompts)
    chosen = record.leading[[each.generation for each in record.checks].index(check.generation)]
    values = {
        "validation/score": check.score,
        "validation/best": chosen.score,
        "validation/neutral": neutral.fitness,
        "validation/difference": gain.mean,
        "validation/difference_low": gain.low,
        "validation/difference_high": gain.high,
    }
    for name, scores in judged.scores.items():
        group = "watched" if name in record.watched else "objectives"
        values[f"{group}/{name}"] = statistics.fmean(scores)
        if name in neutral.scores:
            values[f"{group}/{name}_neutral"] = statistics.fmean(neutral.scores[name])
    for prompts, seen in record.watched_sets.items():
        for generation, end in ((check.generation, ""), (0, "_neutral")):
            for name, scores in seen.checks[generation].scores.items() if generation in seen.checks else ():
                values[f"watch/{prompts}/{own_name(name, prompts)}{end}"] = statistics.fmean(scores)
    return values


def _knobs(setting: Setting) -> tuple[dict[str, Any], dict[str, float]]:
    """Return the scales by kind of site, in order of depth, and the few knobs that have no depth."""
    from ..reports.knob_groups import group_knobs

    groups = group_knobs(setting)
    spread = {
        "knobs/" + ".".join(filter(None, (panel, line))): np.array([setting[knob] for _, knob in points])
        for panel, lines in groups.by_depth.items()
        for line, points in lines.items()
    }
    if len(groups.single) > MOST_SINGLE:
        spread["knobs/all"] = np.array([setting[name] for name in groups.single])
        return spread, {}
    return spread, {f"knobs/{name}": setting[name] for name in groups.single}


def _pictures(files: Files, seeded: bool) -> Iterator[tuple[str, Image, str]]:
    """Yield name, picture and caption of the first test prompts: neutral on the left, calibrated on the right."""
    from PIL import Image

    from ..reports.gallery import read_pictures

    for number, each in enumerate(read_pictures(files.images)[:MOST_PICTURES]):
        with Image.open(each.neutral) as before, Image.open(each.calibrated) as after:
            width = before.width + GAP + after.width
            pair = Image.new("RGB", (width, max(before.height, after.height)), "white")
            pair.paste(before.convert("RGB"), (0, 0))
            pair.paste(after.convert("RGB"), (before.width + GAP, 0))
        seed = f"seed {each.seed}; " if seeded else ""
        yield f"pictures/{number}", pair, f"{each.prompt} ({seed}neutral left, calibrated right)"
