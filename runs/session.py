"""Starting, resuming and finishing runs.

from trimpot.runs.session import start
finished = start(load_config("shapes"), Path("trimpot-runs"))
"""

from __future__ import annotations

import os
import warnings
from dataclasses import replace
from pathlib import Path

from ..engine.bucket import PromptSet
from ..engine.knobs import Setting
from ..engine.run import Run
from ..engine.watcher import Watcher
from ..ground.errors import Notice, StoreError, TrimpotError
from ..ground.folders import DEFAULT_STORE
from ..setup.assembly import MACHINE, NUMERIC_PACKAGES, assemble
from ..setup.config import Config, as_recorded, load_config
from ..setup.live import PREFIX, Live, lacking_sentence
from ..setup.overrides import Overrides
from ..setup.parts import check_parts
from ..setup.plugins import Plugins, plugins
from ..setup.telling import prompts_for
from ..storage import RunRow, SqliteStore
from ..storage.kept import IMAGES, Keeper
from ..workshops import hired
from .descent import parent_of
from .extending import added, extended, extension_of
from .results import Files, report
from .work import ENCODED, work


def start(
    config: Config, folder: Path = DEFAULT_STORE, watchers: tuple[Watcher, ...] = (), live: Live | None = None
) -> str:
    """Begin a run and work on it to the end.

    Args:
        config: The configuration of the run.
        folder: The store's folder.
        watchers: Are told of everything that is recorded, in addition to the plugins.
        live: The objects of this program that the configuration names.

    Returns:
        The run's name.

    Raises:
        TrimpotError: If the run cannot begin, or stops early; a run that stopped can be resumed.
    """
    known = parts_for(config, live)
    with hired(config, Keeper(folder / IMAGES), live=live, folder=folder / ENCODED) as crew:
        run = assemble("", config, known, sharing=crew.parts)
        with SqliteStore(folder) as store:
            prefix = config.name or config.adapter.name.removeprefix(PREFIX)
            dumped = config.model_dump(mode="json")
            parent = parent_of(config.start, folder)
            run_id = store.add_run(
                prefix, run.identity, dumped, run.versions, run.prompts, run.start, parts=run.parts, parent=parent
            )
            work(replace(run, id=run_id), store, known, watchers, workshop=crew.workshop)
    return run_id


def resume(
    run_id: str | None,
    folder: Path = DEFAULT_STORE,
    watchers: tuple[Watcher, ...] = (),
    overrides: Overrides = (),
    allow_drift: bool = False,
    live: Live | None = None,
) -> str:
    """Continue a run where it stopped, or beyond its end; if only its report is missing, write the report.

    The run uses the prompts and the start that the store recorded at its beginning, so their files may be gone.

    Args:
        run_id: The run's name, or None for the latest unfinished run.
        folder: The store's folder.
        watchers: Are told of everything that is recorded, in addition to the plugins.
        overrides: New values of keys that change no number, such as the address of a served reward or the new place
            of a model, and of keys that make the search longer, such as `generations=+200` (see `runs.extending`).
        allow_drift: Whether to continue although the backbone, rewards or prompts differ from those at the beginning,
            for example after a bug in a reward was fixed. Recorded evaluations stay as they are, new ones use the
            changed parts, and a notice says what differs.
        live: The objects of this program in the place of those that the run was begun with.

    Returns:
        The run's name.

    Raises:
        StoreError: If there is no such run, or its backbone, rewards or prompts have changed since it began.
        ConfigError: If an override would change the search other than by making it longer.
        PluginError: If a plugin file that its configuration names cannot be used any more.
        ReplayError: If the search asks for candidates that differ from the recorded ones.
    """
    with SqliteStore(folder, create=False) as store:
        row = store.run(run_id) if run_id else _latest_unfinished(store)
        overrides = added(row, overrides)
        extension = extension_of(row, overrides, live, store) if overrides else None
        if row.outcome is not None and extension is None:
            if overrides:  # nothing is left that they could change, but what they name must exist
                config = load_config(row.config, overrides, live)
                check_parts(config, plugins().joined(config.plugins, live))
            if row.unreported or not os.path.exists(Files.of(store.folder / row.id).report):
                with store.lock(row.id):
                    report(store, row.id)
            return row.id
        store.refuse_read_only()
        config = load_config(row.config, overrides, live)
        live = (live or Live()).remembering(config, store.prompts(row.id))
        if lacking := live.lacking(config):
            raise StoreError(lacking_sentence(row.id, lacking))
        known = parts_for(config, live)
        prompts, start = begun_with(row, store, known, config)
        with hired(config, store.keeper, prompts=prompts, start=start, live=live, folder=folder / ENCODED) as crew:
            run = assemble(row.id, config, known, sharing=crew.parts, prompts=prompts, start=start)
            begun = replace(run, config=extension.begun) if extension else run
            if allow_drift:
                _tell_of_drift(row, begun)
            else:
                same_as_begun(row, begun)
            with extended(store, row, run, extension, begun.identity != row.identity):
                work(run, store, known, watchers, workshop=crew.workshop)
        return row.id


def parts_for(config: Config, live: Live | None = None) -> Plugins:
    """Return the parts that a configuration can name: what is installed, its plugin files, and live objects."""
    return plugins().joined(config.plugins, live)


def begun_with(
    row: RunRow, store: SqliteStore, known: Plugins, config: Config
) -> tuple[PromptSet | None, Setting | None]:
    """Return the prompts and the start recorded at a run's beginning; None for a key that `config` has changed.

    If the prompt files have changed since, a notice says that the recorded prompts are used.

    Args:
        row: The run.
        store: The store that holds the run.
        known: The registered parts.
        config: The configuration that the run continues with.
    """
    begun = as_recorded(row.config)
    prompts = store.prompts(row.id) if _prompts_in(config) == _prompts_in(begun) else None
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
    """Return a run's recorded prompts, else those of its prompt files, else None."""
    return store.prompts(row.id) or _prompts_now(row, known)


def _prompts_now(row: RunRow, known: Plugins) -> PromptSet | None:
    """Return the prompts that a run's files hold now, or None if the files are gone or invalid."""
    try:
        return prompts_for(as_recorded(row.config), known)
    except TrimpotError:
        return None


def _prompts_in(config: Config) -> list[object]:
    """Return the parts of a configuration that say which prompts there are."""
    return [config.prompts, {name: each.prompts for name, each in config.watch.items()}]


def _latest_unfinished(store: SqliteStore) -> RunRow:
    rows = [row for row in store.runs() if row.status in ("interrupted", "failed", "unreported")]
    if not rows:
        hint = store.unknown_folders() or "`trimpot runs` lists them"
        raise StoreError(f"every run in {store.folder} has finished; {hint}")
    return rows[-1]


def same_as_begun(row: RunRow, run: Run) -> None:
    """Refuse to continue a run whose parts have changed since it began.

    Raises:
        StoreError: If the backbone, rewards or prompts have changed.
    """
    if run.identity != row.identity:
        raise StoreError(
            f"run {row.id} was begun with another backbone, reward or prompts ({_difference(row, run)}); restore it, "
            f"begin a new run, at this one's result with `trimpot calibrate CONFIG --from {row.id}`, "
            f"or go on all the same with --allow-drift (from Python: allow_drift=True)"
        )


def _tell_of_drift(row: RunRow, run: Run) -> None:
    """Warn about the parts and versions that have changed since a run began."""
    if run.identity != row.identity or _changed_versions(row, run):
        warnings.warn(
            f"run {row.id} goes on although not everything is what it was ({_difference(row, run)}); "
            f"what was recorded stays as it is, and what follows is made anew",
            Notice,
            stacklevel=3,
        )


def _difference(row: RunRow, run: Run) -> str:
    if "machine" not in row.versions:
        return "an earlier trimpot recorded it, which knew parts by less of their code"
    others = [name for name in {**row.parts, **run.parts} if row.parts.get(name) != run.parts.get(name)]
    told = [f"{' and '.join(others)} differ{'s' if len(others) == 1 else ''}"] if row.parts and others else []
    said = "; ".join([*told, *_changed_versions(row, run)])
    return said or "library versions are the same, so weights, code, options or prompts changed"


def _changed_versions(row: RunRow, run: Run) -> list[str]:
    """List packages whose versions differ from those that a run last used, without packages that it does not use."""
    last = [row.versions, *row.continued][-1]
    own = [name for name in (*MACHINE, *NUMERIC_PACKAGES) if name in run.versions]
    return [
        f"{name} {last.get(name, 'absent')} then, {run.versions.get(name, 'absent')} now"
        for name in dict.fromkeys([*last, *own])
        if run.versions.get(name) != last.get(name)
    ]
