"""Working on a run until it has finished, failed or is interrupted."""

from __future__ import annotations

import contextlib
import warnings
from dataclasses import asdict
from typing import Any

from ..engine.alarm import Alarm
from ..engine.calibration import calibration_of
from ..engine.evaluation import Evaluation, Place
from ..engine.loop import calibrate
from ..engine.record import Check
from ..engine.run import Run
from ..engine.watcher import Watcher
from ..engine.workshop import Workshop
from ..ground.errors import Notice, StoreError, TrimpotError
from ..setup.plugins import Plugins
from ..storage import SqliteStore
from .descent import with_descent
from .results import Files, report
from .tracking import tracked

ENCODED = "encoded-prompts"  # the folder beside the database for `Adapter.keep_in`


def work(
    run: Run,
    store: SqliteStore,
    known: Plugins,
    watchers: tuple[Watcher, ...] = (),
    *,
    illustrated: bool = True,
    workshop: Workshop | None = None,
) -> None:
    """Work on a run until it has finished, failed or is interrupted, and record which in the store.

    Args:
        run: The run, with its name in the store.
        store: The store that holds the run.
        known: Plugins, which are told of everything that is recorded.
        watchers: Are told of everything as well.
        illustrated: Whether to make the before-and-after pictures and the report.
        workshop: Generates and scores; with None, this process does so with the run's own parts.

    Raises:
        TrimpotError: If the run stops early; it can be resumed.
    """
    from ..reports import write_images

    files = Files.of(store.run_folder(run.id))
    with store.working_on(run.id):
        store.update_run(run.id, error=None)
        store.note_versions(run.id, run.versions)
        try:
            with tracked(run, store, known) as tracking:
                watch = Announcer(known, (*watchers, tracking))
                watch.run_started(run, store.work(run.id))
                run.adapter.keep_in(store.folder / ENCODED)
                outcome = calibrate(run, store, watch, workshop)
                if illustrated:
                    write_images(run.adapter, outcome, run.test_bucket, files.images)
                tracking.finished(run, outcome, files)
                totals = store.totals(run.id)
                made = calibration_of(run, outcome, totals)
                with_descent(made, run.config, store.run(run.id).parent).save(files.calibration)
                found = {
                    **asdict(outcome),
                    "tags": tags_of(run),
                    "makes": run.adapter.makes,
                    "uses_seed": run.adapter.uses_seed,
                }
                store.update_run(
                    run.id, outcome=found, stop_reason=outcome.stop_reason, unreported=1 if illustrated else None
                )
                if illustrated:
                    report(store, run.id)
        except Exception as problem:
            said = str(problem) if isinstance(problem, TrimpotError) else f"{type(problem).__name__}: {problem}"
            _note(store, run.id, " ".join(said.split()))
            raise
        except BaseException:  # Ctrl-C or another request to stop is no failure
            _note(store, run.id, None)
            raise
    store.settle()


def _note(store: SqliteStore, run_id: str, error: str | None) -> None:
    """Record why a run stopped. If the store fails too, ignore that: the first error is more important."""
    with contextlib.suppress(StoreError):
        store.update_run(run_id, error=error)


def tags_of(run: Run) -> dict[str, dict[str, str]]:
    """Return, for each objective with kinds of prompts, test prompt to kind.

    Where an objective names no kind, the `tag` of the prompt's metadata counts for every objective that the
    configuration names.
    """
    said = {prompt: about["tag"] for prompt, about in run.prompts.metadata.items() if isinstance(about.get("tag"), str)}
    found: dict[str, dict[str, str]] = {}
    for name, objective in run.scored("test").items():
        known = said if name in run.config.objectives else {}
        tags = {prompt: objective.tag(prompt) or known.get(prompt) for prompt in run.test_bucket.prompts}
        found[name] = {prompt: tag for prompt, tag in tags.items() if tag is not None}
    return {name: tags for name, tags in found.items() if tags}


class Announcer(Watcher):
    """Tells watchers and plugins what a run does.

    A plugin that fails, or a watcher that cannot write, is told nothing more; the run continues.
    """

    def __init__(self, known: Plugins, watchers: tuple[Watcher, ...] = ()) -> None:
        self._known = known
        self._watchers = watchers

    def run_started(self, run: Run, work_done: int) -> None:
        """See `Watcher.run_started`."""
        self._tell("run_started", run=run, work_done=work_done)

    def stage_started(self, run: Run, stage: str) -> None:
        """See `Watcher.stage_started`."""
        self._tell("stage_started", run=run, stage=stage)

    def evaluation_recorded(self, run: Run, place: Place, evaluation: Evaluation) -> None:
        """See `Watcher.evaluation_recorded`."""
        self._tell("evaluation_recorded", run=run, place=place, evaluation=evaluation)

    def generation_told(self, run: Run, generation: int, evaluations: Any, sigma: float | None) -> None:
        """See `Watcher.generation_told`."""
        self._tell("generation_told", run=run, generation=generation, evaluations=evaluations, sigma=sigma)

    def recommendation_judged(self, run: Run, check: Check) -> None:
        """See `Watcher.recommendation_judged`."""
        self._tell("recommendation_judged", run=run, check=check)

    def alarm_raised(self, run: Run, alarm: Alarm) -> None:
        """See `Watcher.alarm_raised`."""
        self._tell("alarm_raised", run=run, alarm=alarm)

    def _tell(self, event: str, **facts: Any) -> None:
        for watcher in self._watchers:
            try:
                getattr(watcher, event)(**facts)
            except (OSError, SystemExit) as error:  # its file or pipe is full or closed; rich exits then
                self._watchers = tuple(other for other in self._watchers if other is not watcher)
                warnings.warn(
                    f"{type(watcher).__name__} cannot write and is told no more: {error}", Notice, stacklevel=2
                )
        self._known.announce(event, facts)
