"""Starting, resuming and finishing runs: where the rooms are wired together.

from trimpot.runs.session import start
finished = start(load_config("shapes"), Path("trimpot-runs"))
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ..engine.alarm import Alarm
from ..engine.bucket import PromptSet
from ..engine.calibration import calibration_of
from ..engine.evaluation import Evaluation, Place
from ..engine.loop import calibrate
from ..engine.run import Run
from ..engine.watcher import Watcher
from ..ground.errors import Notice, StoreError, TrimpotError
from ..setup.assembly import assemble
from ..setup.config import Config, load_config
from ..setup.plugins import Plugins, plugins
from ..storage import RunRow, SqliteStore

DEFAULT_FOLDER = Path("trimpot-runs")


@dataclass(frozen=True)
class Files:
    """Where a run's results lie.

    Attributes:
        calibration: The artifact.
        report: The self-contained page.
        images: Before-and-after pictures.
    """

    calibration: Path
    report: Path
    images: Path

    @classmethod
    def of(cls, folder: Path) -> Files:
        """The files of a run's folder."""
        return cls(folder / "calibration.json", folder / "report.html", folder / "images")


def start(config: Config, folder: Path = DEFAULT_FOLDER, watchers: tuple[Watcher, ...] = ()) -> str:
    """Begin a run and work on it to the end.

    Args:
        config: What to do.
        folder: Where the store lies.
        watchers: Told of everything recorded, beside the plugins.

    Returns:
        The run's name.

    Raises:
        TrimpotError: If it cannot be begun, or stops; what was recorded can be resumed.
    """
    known = plugins()
    run = assemble("", config, known)
    with SqliteStore(folder) as store:
        prefix = config.name or config.adapter.name
        dumped = config.model_dump(mode="json")
        run_id = store.add_run(prefix, run.identity, dumped, run.versions, run.prompts, run.start)
        work(replace(run, id=run_id), store, known, watchers)
    return run_id


def resume(
    run_id: str | None,
    folder: Path = DEFAULT_FOLDER,
    watchers: tuple[Watcher, ...] = (),
    overrides: Sequence[str] = (),
    allow_drift: bool = False,
) -> str:
    """Go on with a run where it stopped; with one that lacks only its report, write that.

    The prompts, and the setting that the search began from, are those that were recorded as the run began; their
    files need not be there any more.

    Args:
        run_id: Its name, or None for the latest that has not finished.
        folder: Where the store lies.
        watchers: Told of everything recorded, beside the plugins.
        overrides: Keys that have changed and change no number, such as the address of a served reward, or where
            the model lies now.
        allow_drift: Whether to go on although the backbone, rewards or prompts are not those it was begun with,
            such as a reward that was mended: what was recorded stays as it is, and what follows is made anew.

    Returns:
        The run's name.

    Raises:
        StoreError: If there is no such run, or the backbone, rewards or prompts are not those it was begun with.
        ReplayError: If the search asks for other candidates than those recorded.
    """
    known = plugins()
    with SqliteStore(folder, create=False) as store:
        row = store.run(run_id) if run_id else _latest_unfinished(store)
        if row.outcome is not None:
            if row.unreported or not os.path.exists(Files.of(store.folder / row.id).report):
                with store.lock(row.id):
                    report(store, row.id)
            return row.id
        store.refuse_read_only()
        run = again(row, store, known, overrides)
        if not allow_drift:
            same_as_begun(row, run)
        work(run, store, known, watchers)
        return row.id


def again(row: RunRow, store: SqliteStore, known: Plugins, overrides: Sequence[str] = ()) -> Run:
    """Assemble a run that was begun before, on what was recorded as it began.

    Where prompt files say something else by now, a warning says that they are not used.

    Args:
        row: The run.
        store: Where it is kept.
        known: Where parts are found by name.
        overrides: Keys that have changed; where they change the prompts or the start, those are made anew.
    """
    config, begun = load_config(row.config, overrides), load_config(row.config)
    prompts = store.prompts(row.id) if config.prompts == begun.prompts else None
    start = row.start if config.start == begun.start else None
    now = _prompts_now(row, known) if prompts else None
    if prompts and now and now.fingerprint != prompts.fingerprint:
        warnings.warn(
            f"the prompts of run {row.id} have changed since it was begun; it goes on with those recorded",
            Notice,
            stacklevel=3,
        )
    return assemble(row.id, config, known, prompts=prompts, start=start)


def prompts_of(row: RunRow, store: SqliteStore, known: Plugins) -> PromptSet | None:
    """The prompts of a run: those recorded, or what its files say where none were; None where those are gone."""
    return store.prompts(row.id) or _prompts_now(row, known)


def _prompts_now(row: RunRow, known: Plugins) -> PromptSet | None:
    """The prompts that a run would be begun with today, or None where its files are gone or spoilt."""
    try:
        prompts = load_config(row.config).prompts
        made: PromptSet = known.make("prompts", prompts.name, prompts.options)
    except TrimpotError:
        return None
    return made


def report(store: SqliteStore, run_id: str) -> Files:
    """Write a run's report, and note that it is written.

    Raises:
        StoreError: If there is no such run, or the note cannot be written.
        CalibrationError: If the report cannot be written; a finished run is then `unreported`.
    """
    from ..reports import write_report

    files = Files.of(store.run_folder(run_id))
    write_report(store, run_id, files)
    if store.run(run_id).unreported:
        store.update_run(run_id, unreported=None, error=None)
    return files


def _latest_unfinished(store: SqliteStore) -> RunRow:
    rows = [row for row in store.runs() if row.status in ("interrupted", "failed", "unreported")]
    if not rows:
        hint = store.unknown_folders() or "`trimpot runs` lists them"
        raise StoreError(f"every run in {store.folder} has finished; {hint}")
    return rows[-1]


def same_as_begun(row: RunRow, run: Run) -> None:
    """Refuse to go on with a run on other parts than it was begun with.

    Raises:
        StoreError: If the backbone, rewards or prompts are others.
    """
    if run.identity != row.identity:
        raise StoreError(
            f"run {row.id} was begun with another backbone, reward or prompts ({_difference(row, run)}); "
            f"restore it, start a new run, or go on all the same with --allow-drift"
        )


def _difference(row: RunRow, run: Run) -> str:
    if "machine" not in row.versions:
        return "an earlier trimpot recorded it, which knew parts by less of their code"
    changed = [
        f"{name} {old} then, {run.versions.get(name)} now"
        for name, old in row.versions.items()
        if run.versions.get(name) != old
    ]
    return "; ".join(changed) or "library versions are the same, so weights, code, options or prompts changed"


def work(
    run: Run, store: SqliteStore, known: Plugins, watchers: tuple[Watcher, ...] = (), *, illustrated: bool = True
) -> None:
    """Work on a run until it has finished, failed or is interrupted; whichever it is, the store says so.

    Args:
        run: What is to be done, under its name in the store.
        store: Where it is kept.
        known: Told of everything recorded.
        watchers: Told too.
        illustrated: Whether to make the before-and-after pictures and the report.

    Raises:
        TrimpotError: If it stops; what was recorded can be resumed.
    """
    from ..reports import write_images

    files = Files.of(store.run_folder(run.id))
    with store.working_on(run.id):
        store.update_run(run.id, error=None)
        store.note_versions(run.id, run.versions)
        try:
            watch = Announcer(known, watchers)
            watch.run_started(run, sum(evaluation.work for _, evaluation in store.evaluations(run.id)))
            outcome = calibrate(run, store, watch)
            if illustrated:
                write_images(run.adapter, outcome, run.test_bucket, files.images)
            totals = store.totals(run.id)
            calibration_of(run, outcome, totals).save(files.calibration)
            found = {**asdict(outcome), "tags": tags_of(run)}
            store.update_run(
                run.id, outcome=found, stop_reason=outcome.stop_reason, unreported=1 if illustrated else None
            )
            if illustrated:
                report(store, run.id)
        except Exception as problem:
            said = str(problem) if isinstance(problem, TrimpotError) else f"{type(problem).__name__}: {problem}"
            _note(store, run.id, " ".join(said.split()))
            raise
        except BaseException:  # Ctrl-C, or another wish to end: not a failure
            _note(store, run.id, None)
            raise
    store.settle()


def _note(store: SqliteStore, run_id: str, error: str | None) -> None:
    """Record why a run stopped, and how long it took; if that cannot be, the reason itself is more important."""
    with contextlib.suppress(StoreError):
        store.update_run(run_id, error=error)


def tags_of(run: Run) -> dict[str, dict[str, str]]:
    """Objective to test prompt to the kind of prompt it is, where the objective knows kinds."""
    found = {
        name: {prompt: tag for prompt in run.test_bucket.prompts if (tag := objective.tag(prompt)) is not None}
        for name, objective in run.objectives.items()
    }
    return {name: tags for name, tags in found.items() if tags}


def summary(store: SqliteStore, row: RunRow) -> dict[str, Any]:
    """What `trimpot show --json` says of a run."""
    from ..reports.watched import alarms_of

    files = Files.of(store.folder / row.id)
    comparisons = row.outcome["comparisons"] if row.outcome else []
    totals = store.totals(row.id)
    spent = totals.pop("generate_seconds") + totals.pop("score_seconds")
    return {
        "run": row.id,
        "status": row.status,
        "created": row.created,
        **totals,
        "seconds": row.seconds,
        "engine_share": max(0.0, 1 - spent / row.seconds) if row.outcome and row.seconds else None,
        "gain": comparisons[0]["gain"] if comparisons else None,
        "stop_reason": row.stop_reason,
        "error": row.error,
        "alarms": [{**asdict(alarm), "text": str(alarm)} for alarm in alarms_of(store, row)],
        "calibration": str(files.calibration) if os.path.exists(files.calibration) else None,
        "report": str(files.report) if os.path.exists(files.report) else None,
        "outcome": row.outcome,
        "config": row.config,
        "versions": row.versions,
        "continued": row.continued,
    }


class Announcer(Watcher):
    """Tells watchers and plugins what a run does.

    A plugin that fails is told no more, as is a watcher that cannot write; the run goes on.
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

    def alarm_raised(self, run: Run, alarm: Alarm) -> None:
        """See `Watcher.alarm_raised`."""
        self._tell("alarm_raised", run=run, alarm=alarm)

    def _tell(self, event: str, **facts: Any) -> None:
        for watcher in self._watchers:
            try:
                getattr(watcher, event)(**facts)
            except (OSError, SystemExit) as error:  # what it writes to is full or has gone; rich exits then
                self._watchers = tuple(other for other in self._watchers if other is not watcher)
                warnings.warn(
                    f"{type(watcher).__name__} cannot write and is told no more: {error}", Notice, stacklevel=2
                )
        self._known.announce(event, facts)
