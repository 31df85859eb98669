"""Analyses in the store: what each was asked, the places of its evaluations, and what it found."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..engine.bucket import PromptSet
from ..engine.evaluation import Evaluation, Place
from ..engine.seams import Output
from ..ground.errors import StoreError, near_misses
from .places import Places
from .records import Row
from .runs import dump, now
from .sentences import decoding
from .store import Recorded, SqliteStore


@dataclass(frozen=True)
class AnalysisRow:
    """The stored record of an analysis.

    Attributes:
        id: Its name.
        created: ISO time, UTC.
        identity: Fingerprint of everything that can change a number of it.
        kind: The kind of the analysis, such as `ablation`.
        config: What it was asked: its targets, options, and the command line.
        versions: Package versions at its beginning.
        seconds: Wall time spent on it, over all sessions.
        outcome: What it found, or None until it has finished.
        error: Why it stopped last time, or None.
        locked: Whether a process is working on it now.
    """

    id: str
    created: str
    identity: str
    kind: str
    config: dict[str, Any]
    versions: dict[str, str]
    seconds: float
    outcome: dict[str, Any] | None
    error: str | None
    locked: bool

    @property
    def status(self) -> str:
        """`finished`, `running`, `failed` or `interrupted`."""
        if self.outcome is not None:
            return "finished"
        if self.locked:
            return "running"
        return "failed" if self.error else "interrupted"


class Analyses:
    """The analyses of a store.

    Args:
        store: An open store.
    """

    def __init__(self, store: SqliteStore) -> None:
        self._store = store

    def add(
        self,
        prefix: str,
        identity: str,
        kind: str,
        config: Mapping[str, Any],
        versions: Mapping[str, str],
        prompts: PromptSet | None = None,
    ) -> str:
        """Begin an analysis named `prefix-N` with the next free N, and return its name.

        Args:
            prefix: The prefix of the name.
            identity: Fingerprint of everything that can change a number.
            kind: The kind of the analysis.
            config: What it was asked.
            versions: Package name to version.
            prompts: All prompts of its first target, so that it can go on without the prompt files.
        """
        store = self._store
        with store._transaction():
            name = store._free_name(prefix)
            store._insert_prompts(prompts)
            row = {"id": name, "created": now(), "identity": identity, "kind": kind, "seconds": 0.0}
            row |= {"config": dump(config), "versions": dump(versions), "prompts": prompts and prompts.fingerprint}
            store.records.insert("analyses", row)
        return name

    def get(self, name: str) -> AnalysisRow:
        """Return an analysis by name.

        Raises:
            StoreError: If no analysis has this name.
        """
        row = self._store.records.one("analyses", id=name)
        if row is None:
            raise StoreError(f"no analysis {name!r} in {self._store.folder}; {near_misses(name, self.names())}")
        return self._row(row)

    def names(self) -> list[str]:
        """Return the names of all analyses, oldest first."""
        return [row["id"] for row in self._rows()]

    def all(self) -> list[AnalysisRow]:
        """Return all analyses, oldest first."""
        return [self._row(row) for row in self._rows()]

    def of(self, identity: str) -> str | None:
        """Return the latest analysis with this identity, or None."""
        return next((row["id"] for row in reversed(self._rows()) if row["identity"] == identity), None)

    def prompts(self, name: str) -> PromptSet | None:
        """Return the prompts that an analysis was begun with, or None if it has none."""
        return self._store._prompts_of("analyses", name)

    def history(self, name: str) -> list[Recorded]:
        """Return all evaluations of an analysis, in the order of recording.

        Raises:
            StoreError: If any record of the analysis is damaged or lost.
        """
        rows = sorted(self._store.records.whole("analysed", name), key=lambda row: int(row["number"]))
        return list(self._store._evaluated(rows))

    def update(self, name: str, **columns: Any) -> None:
        """Set columns of an analysis; mappings are stored as JSON.

        Raises:
            StoreError: If no analysis has this name, or it cannot be written.
        """
        values = {key: dump(value) if isinstance(value, Mapping) else value for key, value in columns.items()}
        with self._store._transaction():
            row = self._store.records.named("that is asked for", "analyses", id=name)
            self._store.records.update("analyses", row, **values)

    def take_back(self, name: str) -> bool:
        """Remove an analysis that has evaluated nothing and begun no run; return whether it was one."""
        store = self._store
        with store._transaction():
            begun = any(row["id"].startswith(f"{name}.") for row in store.records.whole("runs"))
            if begun or store.records.whole("analysed", name):
                return False
            row = store.records.named("that is asked for", "analyses", id=name)
            tally = store.records.named(f"analyses {name!r}", "tallies", counted="analysed", owner=name)
            store.records.delete("tallies", tally)
            store.records.delete("analyses", row)
        return True

    def _rows(self) -> list[Row]:
        return sorted(self._store.records.whole("analyses"), key=lambda row: str(row["created"]))

    def _row(self, row: Row) -> AnalysisRow:
        with decoding(self._store.path, f"analyses {row['id']!r}"):
            return AnalysisRow(
                id=row["id"],
                created=row["created"],
                identity=row["identity"],
                kind=row["kind"],
                config=json.loads(row["config"]),
                versions=json.loads(row["versions"]),
                seconds=row["seconds"],
                outcome=json.loads(row["outcome"]) if row["outcome"] else None,
                error=row["error"],
                locked=self._store.locked(row["id"]),
            )


class AnalysisPlaces:
    """The store as an analysis's evaluator sees it: the places are the analysis's, the evaluations are everybody's.

    Every record also adds the time since the one before to the analysis's.

    Args:
        store: An open store.
    """

    def __init__(self, store: SqliteStore) -> None:
        self._store = store
        self._places = Places(store.records, "analysed")
        self._clock = time.perf_counter()

    def recorded(self, run: str, stage: str, generation: int) -> Mapping[int, Evaluation]:
        """Return the evaluations recorded at a stage and generation of an analysis, by position."""
        return self._store._recorded_at(self._places, run, stage, generation)

    def find(self, key: str) -> Evaluation | None:
        """Return the evaluation with this key, whichever run or analysis made it, or None."""
        return self._store.find(key)

    def record(self, run: str, made: Sequence[tuple[Place, str, Evaluation]]) -> None:
        """Commit evaluations with their places in one transaction; they are durable when this returns."""
        store = self._store
        with store._transaction():
            store._record_at(self._places, run, made)
            row = store.records.named("that is asked for", "analyses", id=run)
            store.records.update("analyses", row, seconds=row["seconds"] + self.elapsed())

    def elapsed(self) -> float:
        """Return the seconds since this was called last, or since the work began."""
        before, self._clock = self._clock, time.perf_counter()
        return self._clock - before

    @property
    def keeper(self) -> Callable[[Sequence[Output]], Sequence[str]]:
        """See `SqliteStore.keeper`."""
        return self._store.keeper

    def record_outputs(self, key: str, files: Sequence[str]) -> None:
        """See `SqliteStore.record_outputs`."""
        self._store.record_outputs(key, files)

    def record_generation(self, run: str, generation: int, sigma: float | None) -> None:
        """Do nothing: an analysis searches nothing itself."""
