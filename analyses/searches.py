"""The searches and measurements that an analysis rests on: ordinary runs of one store, each made once.

A run with the same parts, keys, prompts and library versions that has finished is taken as it is, whoever began it; one
that was stopped goes on; only what is left is begun. The backbone and its workers are kept as long as the next run uses
the same parts.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

from ..comparison.design import equal_keys, merged
from ..engine.run import Run
from ..engine.watcher import Watcher
from ..runs.descent import parent_of
from ..runs.session import parts_for
from ..runs.work import ENCODED, work
from ..setup.assembly import assemble
from ..setup.config import Config, expanded, load_config
from ..storage import RunRow, SqliteStore
from ..storage.kept_images import IMAGES, Keeper
from ..workshops import hired
from ..workshops.hiring import Hired

CHECKS = 16


def on_equal_images(
    values: Mapping[str, Any], images: int, seed: int, changes: Mapping[str, Any] | None = None
) -> Config:
    """Return a configuration whose search makes so many images, and stops for no other reason.

    Args:
        values: The keys of a configuration.
        images: Number of images of the search.
        seed: The seed of the search.
        changes: Other changes, by dotted keys.

    Raises:
        ConfigError: If the configuration cannot be run.
    """
    known = expanded({key: value for key, value in values.items() if value is not None})
    known = merged(known, {**(changes or {}), **equal_keys(images, CHECKS, seed)})
    if known.get("ladder"):  # the last rung goes on until the images are spent
        known["ladder"] = {**known["ladder"], list(known["ladder"])[-1]: images}
    return load_config(known)


class Searches:
    """Works on runs one after the other; used as a context manager, which ends the workers.

    Args:
        folder: The folder of the store.
        watchers: Are told of everything that is recorded.
    """

    def __init__(self, folder: Path, watchers: tuple[Watcher, ...] = ()) -> None:
        self._folder, self._watchers = folder, watchers
        self._stack = ExitStack()
        self._shared: tuple[Hired, Run] | None = None

    def __enter__(self) -> Searches:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def finished(self, config: Config, prefix: str) -> str:
        """Return the name of the finished run of a configuration, after working on it if need be.

        Args:
            config: The configuration.
            prefix: The prefix of the run's name, if it has to be begun.

        Raises:
            TrimpotError: If the run cannot begin, or stops early; it goes on at the next call.
        """
        known = parts_for(config)
        crew, run = self._assembled(config)
        with SqliteStore(self._folder) as store:
            row = same_run(store, run)
            if row is not None and row.outcome is not None:
                return row.id
            name = row.id if row else None
            if name is None:
                name = store.add_run(
                    prefix,
                    run.identity,
                    config.model_dump(mode="json"),
                    run.versions,
                    run.prompts,
                    run.start,
                    parts=run.parts,
                    parent=parent_of(config.start, self._folder),
                )
            work(replace(run, id=name), store, known, self._watchers, illustrated=False, workshop=crew.workshop)
        return name

    def _assembled(self, config: Config) -> tuple[Hired, Run]:
        """Return the workers and the run of a configuration; both hold the parts of the last one if they are equal."""
        known = parts_for(config)
        if self._shared is None or not _share(self._shared[1].config, config):
            self._stack.close()  # before others are hired: memory may hold one backbone
            self._shared = None
            keeper = Keeper(self._folder / IMAGES)
            crew = self._stack.enter_context(hired(config, keeper, folder=self._folder / ENCODED))
            self._shared = crew, assemble("", config, known, sharing=crew.parts)
            return self._shared
        crew, first = self._shared
        return crew, assemble("", config, known, sharing=first)


def same_run(store: SqliteStore, run: Run) -> RunRow | None:
    """Return the run of a store that is what `run` would be: a finished one, else one that was stopped, else None.

    A finished one counts only if it was made with the same library versions throughout.
    """
    rows = [row for row in store.runs() if row.identity == run.identity]
    for row in rows:
        if row.outcome is not None and not row.continued and row.versions == dict(run.versions):
            return row
    return next((row for row in reversed(rows) if row.outcome is None), None)


def _share(one: Config, other: Config) -> bool:
    """Tell whether two configurations name the same parts, made by the same workers."""
    return _parts_of(one) == _parts_of(other)


def _parts_of(config: Config) -> tuple[Any, ...]:
    rewards = {name: (reward.name, reward.options) for name, reward in config.objectives.items()}
    return config.adapter, rewards, config.combine, config.prompts, config.plugins, config.workers


