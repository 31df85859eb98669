"""Starting, resuming and finishing runs: where the rooms are wired together.

from trimpot.runs.session import start
finished = start(load_config("shapes"), Path("trimpot-runs"))
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..engine.bucket import PromptSet
from ..engine.knobs import Setting
from ..engine.run import Run
from ..engine.watcher import Watcher
from ..ground.errors import Notice, StoreError, TrimpotError
from ..setup.assembly import assemble
from ..setup.config import Config, load_config
from ..setup.plugins import Plugins, plugins
from ..storage import RunRow, SqliteStore
from ..storage.images import IMAGES, Keeper
from ..workshops import hired
from .results import Files, report
from .work import ENCODED, work

DEFAULT_FOLDER = Path("trimpot-runs")


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
    with hired(config, Keeper(folder / IMAGES), folder=folder / ENCODED) as crew:
        run = assemble("", config, known, sharing=crew.parts)
        with SqliteStore(folder) as store:
            prefix = config.name or config.adapter.name
            dumped = config.model_dump(mode="json")
            run_id = store.add_run(prefix, run.identity, dumped, run.versions, run.prompts, run.start)
            work(replace(run, id=run_id), store, known, watchers, workshop=crew.workshop)
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
        config = load_config(row.config, overrides)
        prompts, start = begun_with(row, store, known, config)
        with hired(config, store.keeper, prompts=prompts, start=start, folder=folder / ENCODED) as crew:
            run = assemble(row.id, config, known, sharing=crew.parts, prompts=prompts, start=start)
            if not allow_drift:
                same_as_begun(row, run)
            work(run, store, known, watchers, workshop=crew.workshop)
        return row.id


def begun_with(
    row: RunRow, store: SqliteStore, known: Plugins, config: Config
) -> tuple[PromptSet | None, Setting | None]:
    """The prompts and the start that were recorded as a run began; None for one that has been changed since.

    Where prompt files say something else by now, a warning says that they are not used.

    Args:
        row: The run.
        store: Where it is kept.
        known: Where parts are found by name.
        config: With which it goes on.
    """
    begun = load_config(row.config)
    prompts = store.prompts(row.id) if config.prompts == begun.prompts else None
    start = row.start if config.start == begun.start else None
    now = _prompts_now(row, known) if prompts else None
    if prompts and now and now.fingerprint != prompts.fingerprint:
        warnings.warn(
            f"the prompts of run {row.id} have changed since it was begun; it goes on with those recorded",
            Notice,
            stacklevel=3,
        )
    return prompts, start


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
