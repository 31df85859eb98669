"""Runs in the store: their configuration, their status, and the locks of the processes that work on them."""

from __future__ import annotations

import contextlib
import datetime
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ..engine.bucket import PromptSet
from ..engine.knobs import Setting
from ..ground.errors import StoreError, near_misses
from .database import StoreFile
from .filesystems import warn_of_network
from .kept import IMAGES
from .names import NAMED, NOTE, free_name, results_in
from .records import Row
from .sentences import decoding, sentences

POOLS = ("train", "validation", "test")
LOOKED_AT = 0.2  # seconds; whoever looks whether a run is worked on holds its lock for an instant


@dataclass(frozen=True)
class RunRow:
    """The stored record of a run.

    Attributes:
        id: The name of the run.
        created: ISO time, UTC.
        identity: Fingerprint of configuration, backbone and rewards.
        config: The validated configuration.
        versions: Package versions at the beginning of the run.
        continued: Package versions of later resumes, as far as they differed.
        start: The setting that the search began from, if a file named one.
        parent: The run whose result `start` is: `run`, `digest`, and `path` if that run is in another store; or None.
        parts: Fingerprint of every part at the beginning of the run, by the part's name; empty for old runs.
        extended: The state of the run before each extension; see `storage.extensions`.
        seconds: Wall time spent on the run, over all resumes.
        stop_reason: Why the search ended, or None.
        outcome: The result of the run, or None until it has finished.
        unreported: Whether the report is still to be written.
        error: Why the run stopped last time, or None.
        locked: Whether a process is working on the run now.
    """

    id: str
    created: str
    identity: str
    config: dict[str, Any]
    versions: dict[str, str]
    continued: list[dict[str, str]]
    start: dict[str, float] | None
    parent: dict[str, Any] | None
    parts: dict[str, str]
    extended: list[dict[str, Any]]
    seconds: float
    stop_reason: str | None
    outcome: dict[str, Any] | None
    unreported: bool
    error: str | None
    locked: bool

    @property
    def status(self) -> str:
        """`running`, `finished`, `unreported` (finished, but without its report), `failed` or `interrupted`."""
        if self.outcome is not None and not self.unreported:
            return "finished"
        if self.locked:
            return "running"
        if self.outcome is not None:
            return "unreported"
        return "failed" if self.error else "interrupted"


class Runs(StoreFile):
    """The runs of a store, each with a folder of its own beside the database."""

    def __init__(self, folder: Path, *, create: bool = True) -> None:
        super().__init__(folder, create=create)
        self._clocks: dict[str, float] = {}

    def add_run(
        self,
        prefix: str,
        identity: str,
        config: Mapping[str, Any],
        versions: Mapping[str, str],
        prompts: PromptSet | None = None,
        start: Setting | None = None,
        *,
        parts: Mapping[str, str] | None = None,
        parent: Mapping[str, Any] | None = None,
    ) -> str:
        """Begin a run.

        Args:
            prefix: The run is named `prefix-N` with the next free N.
            identity: Fingerprint of configuration, backbone and rewards.
            config: The validated configuration.
            versions: Package name to version.
            prompts: All prompts of the run, stored so that it can go on without the prompt files.
            start: The setting that the search begins from, if a file names one; stored for the same reason.
            parts: Fingerprint of every part, by the part's name.
            parent: The run whose result `start` is; see `RunRow.parent`.

        Returns:
            The name of the run.
        """
        with self._transaction():
            return self._insert_run(prefix, identity, config, versions, prompts, start, parts, parent)

    def _insert_run(
        self,
        prefix: str,
        identity: str,
        config: Mapping[str, Any],
        versions: Mapping[str, str],
        prompts: PromptSet | None,
        start: Setting | None,
        parts: Mapping[str, str] | None = None,
        parent: Mapping[str, Any] | None = None,
    ) -> str:
        row = {"id": self._free_name(prefix), "created": now(), "identity": identity, "seconds": 0.0}
        row |= {"config": dump(config), "versions": dump(versions)}
        row |= {"start": None if start is None else dump(start), "prompts": prompts and prompts.fingerprint}
        row |= {"parts": dump(parts) if parts else None, "parent": dump(parent) if parent else None}
        self._insert_prompts(prompts)
        self.records.insert("runs", row)
        return str(row["id"])

    def _insert_prompts(self, prompts: PromptSet | None) -> None:
        """Write the prompts of a run or an analysis unless they are there already; call this in a transaction."""
        if prompts:
            kept: Row = {pool: dump(getattr(prompts, pool)) for pool in POOLS}
            kept |= {"id": prompts.fingerprint, "metadata": dump(prompts.metadata)}
            kept |= {"watched": dump(_watched(prompts)) if prompts.watched else None}
            self.records.insert("prompts", kept, ignore=True)

    def _free_name(self, prefix: str) -> str:
        """Return a name that nothing in the store's folder has yet, nor a deleted run that another one began at."""
        rows = self.records.whole("runs")
        known = [row["id"] for table in NAMED for row in self.records.whole(table)]
        known += [json.loads(row["parent"])["run"] for row in rows if row["parent"]]
        return free_name(prefix, [*known, *(path.name for path in self.folder.iterdir())])

    def run(self, run_id: str) -> RunRow:
        """Return a run by name.

        Raises:
            StoreError: If no run has this name.
        """
        row = self.records.one("runs", id=run_id)
        if row is None:
            known = [row["id"] for table in ("runs", "analyses") for row in self.records.whole(table)]
            missing = f"the name of a run is missing before the key {run_id}" if "=" in run_id else ""
            hint = missing or (self.unknown_folders() if not known else "")
            raise StoreError(f"no run {run_id!r} in {self.folder}; {hint or near_misses(run_id, known)}")
        return self._row(row)

    def runs(self) -> list[RunRow]:
        """Return every run, oldest first."""
        return [self._row(row) for row in sorted(self.records.whole("runs"), key=_created)]

    def readable_runs(self) -> tuple[list[RunRow], list[StoreError]]:
        """Return every readable run, oldest first, and an error for each of the others."""
        rows, wrong = self.records.readable("runs")
        found = []
        for row in sorted(rows, key=_created):
            try:
                found.append(self._row(row))
            except StoreError as error:
                wrong.append(error)
        return found, wrong

    def _row(self, row: Row) -> RunRow:
        with decoding(self.path, f"runs {row['id']!r}"):
            return RunRow(
                id=row["id"],
                created=row["created"],
                identity=row["identity"],
                config=json.loads(row["config"]),
                versions=json.loads(row["versions"]),
                continued=json.loads(row["continued"] or "[]"),
                start=json.loads(row["start"]) if row["start"] else None,
                parent=json.loads(row["parent"]) if row["parent"] else None,
                parts=json.loads(row["parts"] or "{}"),
                extended=json.loads(row["extended"] or "[]"),
                seconds=row["seconds"],
                stop_reason=row["stop_reason"],
                outcome=json.loads(row["outcome"]) if row["outcome"] else None,
                unreported=bool(row["unreported"]),
                error=row["error"],
                locked=self.locked(row["id"]),
            )

    def prompts(self, run_id: str) -> PromptSet | None:
        """Return the prompts that a run was begun with; None for a run of an old version, which did not store them."""
        return self._prompts_of("runs", run_id)

    def _prompts_of(self, table: str, name: str) -> PromptSet | None:
        owner = self.records.named("that is asked for", table, id=name)
        if owner["prompts"] is None:
            return None
        row = self.records.named(f"{table} {name!r}", "prompts", id=owner["prompts"])
        with decoding(self.path, f"prompts {row['id']!r}"):
            train, validation, test = (tuple(json.loads(row[pool])) for pool in POOLS)
            watched = {
                name: PromptSet(
                    tuple(each["train"]), tuple(each["validation"]), tuple(each["test"]), metadata=each["metadata"]
                )
                for name, each in json.loads(row["watched"] or "{}").items()
            }
            return PromptSet(train, validation, test, metadata=json.loads(row["metadata"]), watched=watched)

    def update_run(self, run_id: str, **columns: Any) -> None:
        """Set columns of a run, and the time spent on it; mappings and lists are stored as JSON.

        Raises:
            StoreError: If no run has this name, or it cannot be written.
        """
        with self._transaction():
            self._update_run(run_id, **columns)

    def _update_run(self, run_id: str, **columns: Any) -> None:
        row = self.records.named("that is asked for", "runs", id=run_id)
        values = {key: dump(value) if isinstance(value, (Mapping, list)) else value for key, value in columns.items()}
        if run_id in self._clocks:
            begun, self._clocks[run_id] = self._clocks[run_id], time.perf_counter()
            values.setdefault("seconds", row["seconds"] + self._clocks[run_id] - begun)
        self.records.update("runs", row, **values)

    def note_versions(self, run_id: str, versions: Mapping[str, str]) -> None:
        """Store the library versions that a run goes on with, if they differ from those it had until now."""
        row = self.run(run_id)
        if dict(versions) != [row.versions, *row.continued][-1]:
            self.update_run(run_id, continued=[*row.continued, dict(versions)])

    def run_folder(self, run_id: str) -> Path:
        """Return the folder of a run's files; make it if it is absent."""
        folder = self.folder / run_id
        with sentences(f"cannot write {folder}"):
            if not folder.is_dir():
                self.refuse_read_only()
                folder.mkdir(parents=True, exist_ok=True)
        return folder

    def unknown_folders(self) -> str:
        """Return a sentence that names result folders without a run in this database, or "" if there are none."""
        known = {row["id"] for table in NAMED for row in self.records.whole(table)}
        with sentences(f"cannot read {self.folder}"):
            found = [name for name in results_in(self.folder) if name not in {*known, IMAGES}]
        if not found:
            return ""
        if cut_short := [name for name in found if (self.folder / f".{name}{NOTE}").exists()]:
            return f"the deletion of {cut_short[0]} was cut short; `trimpot delete {cut_short[0]}` finishes it"
        others = f" and {len(found) - 1} more" if len(found) > 1 else ""
        return (
            f"results of {found[0]}{others} lie in {self.folder}, of which {self.path} knows nothing: it is another "
            f"store's, or was copied without its -wal file; `trimpot backup` copies a store whole"
        )

    @contextlib.contextmanager
    def working_on(self, run_id: str) -> Iterator[None]:
        """Hold a run's lock and measure the time; every record of the run updates the time spent on it.

        Raises:
            StoreError: If another process holds the lock.
        """
        with self.lock(run_id):
            self._clocks[run_id] = time.perf_counter()
            try:
                yield
            finally:
                del self._clocks[run_id]

    @contextlib.contextmanager
    def lock(self, run_id: str) -> Iterator[None]:
        """Hold a run's lock, so that no second process works on the run; the system frees it if this process dies.

        Raises:
            StoreError: If another process holds the lock.
        """
        self.refuse_read_only()
        warn_of_network(self.folder)
        lock = FileLock(self._lock_path(run_id))
        with sentences(f"cannot lock run {run_id}"):
            try:
                lock.acquire(timeout=LOOKED_AT, poll_interval=0.02)
            except Timeout:
                raise StoreError(f"another process is working on run {run_id}; wait for it or stop it") from None
        try:
            yield
        finally:
            lock.release()

    def _lock_path(self, run_id: str) -> Path:
        return self.folder / f".{run_id}.lock"

    def locked(self, run_id: str) -> bool:
        """Return whether a process is working on a run or a comparison now."""
        lock = FileLock(self._lock_path(run_id))
        try:
            if not self._lock_path(run_id).exists():
                return False
            lock.acquire(timeout=0)
        except Timeout:
            return True
        except OSError:  # the lock file may not be written, or its name is not a valid file name
            return held(self._lock_path(run_id))
        lock.release()
        return False


def _watched(prompts: PromptSet) -> dict[str, Any]:
    """Return the watched prompts of a run as they are stored."""
    return {
        name: {**{pool: getattr(each, pool) for pool in POOLS}, "metadata": each.metadata}
        for name, each in prompts.watched.items()
    }


def _created(row: Row) -> str:
    return str(row["created"])


def held(path: Path) -> bool:
    """Return whether another process holds a lock file that this process may only read."""
    try:
        import fcntl

        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except (ImportError, OSError):  # no lock file, so no process works on it; or Windows, which has no fcntl
        return False
    return False


def dump(value: object) -> str:
    """Return a value as JSON; its numbers have the shortest digits that read back exactly.

    Raises:
        StoreError: If a number is not finite.
    """
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except ValueError as error:
        raise StoreError(f"cannot record a number that is not finite ({error}); nothing was written") from None


def now() -> str:
    """Return the ISO time, UTC."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="microseconds")
