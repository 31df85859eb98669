"""Working on a comparison: every contender with every seed, one after the other, in one store.

Each is an ordinary run. A finished run is left unchanged, an unfinished one goes on, and the backbone and the rewards
are loaded once for all runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple, Protocol

from ..engine.bucket import PromptSet
from ..engine.knobs import Setting
from ..engine.run import Run
from ..engine.watcher import Watcher
from ..engine.workshop import Workshop
from ..ground.errors import ReplayError, StoreError, TrimpotError
from ..runs.session import same_as_begun
from ..runs.work import work
from ..setup.assembly import Parts, assemble
from ..setup.plugins import Plugins
from ..setup.telling import prompts_for
from ..storage import Comparisons, SqliteStore
from ..storage.database import FILE_NAME
from ..storage.kept import IMAGES, Keeper
from ..workshops import hired
from .design import Design, check, said_by, slug


class ComparisonWatcher(Protocol):
    """A watcher of a comparison; its methods are called as the comparison proceeds."""

    @property
    def watcher(self) -> Watcher:
        """The watcher of each run."""

    def comparison_started(self, comparison: str, design: Design, firsts: Sequence[Run]) -> None:
        """Called when work begins; `firsts` are the assembled runs of the first seed, one per contender."""

    def member_started(self, contender: str, seed: int) -> None:
        """Called when a run begins or goes on."""

    def member_ended(self, contender: str, seed: int, error: str | None) -> None:
        """Called when a run has finished, had finished before, or has failed."""


@dataclass
class Worked:
    """The outcome of working on a comparison.

    Attributes:
        comparison: The name of the comparison.
        failures: Contender and seed of every failed run to its error message.
    """

    comparison: str
    failures: dict[tuple[str, int], str] = field(default_factory=dict)


def compare(
    design: Design,
    folder: Path,
    watch: ComparisonWatcher,
    *,
    illustrated: bool = False,
    command: str = "",
    name: str | None = None,
) -> Worked:
    """Begin a comparison or go on with it, to the end.

    If a run fails, its error is reported and the other runs go on; the next call tries the failed run again.

    Args:
        design: The comparison. If the store has one with the same identity and the same prompts, that one goes on.
        folder: The folder of the store.
        watch: The watcher that is told of all progress.
        illustrated: Whether every run gets a report and pictures of its own.
        command: The command line, to be stored.
        name: The stored comparison to go on with, even if its prompt files have changed since.

    Raises:
        TrimpotError: If the comparison cannot begin as designed (nothing is left behind then), or if the store fails.
    """
    known, begun = design.plugins, _Begun(None, {})
    check(design, known)
    if (folder / FILE_NAME).exists():
        with SqliteStore(folder, create=False) as store:
            name = name or find(store, design, known)
            if name and not _unfinished(store, name, design):
                return Worked(name)
            begun = _begun(store, name) if name else begun
    label, first = next(iter(design.contenders.items()))
    with hired(first, Keeper(folder / IMAGES), prompts=begun.prompts, start=begun.starts.get(label)) as crew:
        firsts = _assembled(design, known, begun, crew.parts)
        with SqliteStore(folder) as store:
            comparisons = Comparisons(store)
            config = {**design.asked, "command": command}
            name = name or comparisons.add(design.name, design.identity(known), config)
            with store.lock(name):
                watch.comparison_started(name, design, firsts)
                starts = dict(zip(design.contenders, (run.start for run in firsts), strict=True))
                members = _Members(design, name, store, known, firsts[0], starts, illustrated, crew.workshop)
                return _all(members, watch)


class _Begun(NamedTuple):
    """The prompts that the runs of a comparison began with, and the setting that each contender started from."""

    prompts: PromptSet | None
    starts: Mapping[str, Setting | None]


def _begun(store: SqliteStore, name: str) -> _Begun:
    members = Comparisons(store).members(name)
    rows = {label: store.run(run) for (label, _), run in members.items()}
    prompts = next((store.prompts(row.id) for row in rows.values()), None)
    return _Begun(prompts, {label: row.start for label, row in rows.items()})


def find(store: SqliteStore, design: Design, known: Plugins) -> str | None:
    """Return the latest comparison in the store with the same design and the same prompts, or None.

    If the prompts of the design cannot be read, for example because a file is gone, any stored prompts match.
    """
    try:
        prompts: PromptSet | None = prompts_for(next(iter(design.contenders.values())), known)
    except TrimpotError:
        prompts = None
    for row in Comparisons(store).of(design.identity(known)):
        recorded = _begun(store, row.id).prompts
        if prompts is None or recorded is None or recorded.fingerprint == prompts.fingerprint:
            return row.id
    return None


def _assembled(design: Design, known: Plugins, begun: _Begun, parts: Parts | None = None) -> list[Run]:
    """Assemble a run of every contender before any begins, so that errors appear now; parts are shared if possible."""
    runs: list[Run] = []
    for label, config in design.contenders.items():
        sharing, start = runs[0] if runs else parts, begun.starts.get(label)
        with said_by(label):
            run = assemble("", config, known, sharing=sharing, prompts=begun.prompts, start=start)
        runs.append(run)
    return runs


def _unfinished(store: SqliteStore, name: str, design: Design) -> list[tuple[str, int]]:
    members = Comparisons(store).members(name)
    return [each for each in design.members if each not in members or store.run(members[each]).outcome is None]


@dataclass(frozen=True)
class _Members:
    """The runs of a comparison, and the parts that they share."""

    design: Design
    name: str
    store: SqliteStore
    known: Plugins
    sharing: Run
    starts: Mapping[str, Setting | None]
    illustrated: bool
    workshop: Workshop | None

    def work_on(self, contender: str, seed: int, watcher: Watcher) -> None:
        """Do one run, unless it has finished."""
        comparisons = Comparisons(self.store)
        config = self.design.config(contender, seed)
        run = assemble("", config, self.known, sharing=self.sharing, start=self.starts[contender])
        run_id = comparisons.members(self.name).get((contender, seed))
        if run_id is None:
            run_id = comparisons.finished_run(run.identity, run.versions)
            if run_id is not None:
                comparisons.join(self.name, contender, seed, run_id)
        if run_id is None:
            prefix = f"{self.name}.{slug(contender)}"
            dumped = config.model_dump(mode="json")
            run_id = comparisons.begin(
                self.name,
                contender,
                seed,
                prefix,
                run.identity,
                dumped,
                run.versions,
                run.prompts,
                run.start,
                run.parts,
            )
        row = self.store.run(run_id)
        if row.outcome is not None:
            return
        same_as_begun(row, run)
        try:
            work(
                replace(run, id=run_id),
                self.store,
                self.known,
                (watcher,),
                illustrated=self.illustrated,
                workshop=self.workshop,
            )
        except TrimpotError:
            raise
        except Exception as error:  # an optimizer of a plugin may raise anything
            reason = f"it stopped with {type(error).__name__}: {' '.join(str(error).split())}"
            self.store.update_run(run_id, error=reason)
            raise _FailedError(reason) from error


class _FailedError(TrimpotError):
    """A run failed with an exception other than a TrimpotError."""


def _all(members: _Members, watch: ComparisonWatcher) -> Worked:
    worked = Worked(members.name)
    for contender, seed in members.design.members:
        watch.member_started(contender, seed)
        reason = None
        try:
            members.work_on(contender, seed, watch.watcher)
        except TrimpotError as error:
            if isinstance(error, StoreError) and not isinstance(error, ReplayError):
                raise  # the other runs would fail too
            reason = worked.failures[contender, seed] = str(error)
        watch.member_ended(contender, seed, reason)
    return worked
