"""Comparisons in the store: what was compared, and which run is which contender and seed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..engine.bucket import PromptSet
from ..engine.knobs import Setting
from ..ground.errors import StoreError, near_misses
from .records import Row
from .runs import dump, now
from .sentences import decoding
from .store import SqliteStore, Step


@dataclass(frozen=True)
class ComparisonRow:
    """What the store knows of a comparison.

    Attributes:
        id: Its name.
        created: ISO time, UTC.
        identity: Fingerprint of what is compared.
        config: What was asked, whole.
    """

    id: str
    created: str
    identity: str
    config: dict[str, Any]


class Comparisons:
    """The comparisons of a store.

    Args:
        store: An open store.
    """

    def __init__(self, store: SqliteStore) -> None:
        self._store = store

    def add(self, prefix: str, identity: str, config: Mapping[str, Any]) -> str:
        """Begin a comparison named `prefix-N` with the next free N, and give back its name."""
        store = self._store
        with store._transaction():
            name = store._free_name(prefix)
            row = {"id": name, "created": now(), "identity": identity, "config": dump(config)}
            store.records.insert("comparisons", row)
        return name

    def get(self, name: str) -> ComparisonRow:
        """Look a comparison up.

        Raises:
            StoreError: If there is none of this name.
        """
        row = self._store.records.one("comparisons", id=name)
        if row is None:
            raise StoreError(f"no comparison {name!r} in {self._store.folder}; {near_misses(name, self.names())}")
        return self._row(row)

    def names(self) -> list[str]:
        """Every comparison, oldest first."""
        return [row["id"] for row in self._rows()]

    def of(self, identity: str) -> list[ComparisonRow]:
        """The comparisons with this identity, latest first."""
        return [self._row(row) for row in reversed(self._rows()) if row["identity"] == identity]

    def members(self, name: str) -> dict[tuple[str, int], str]:
        """Contender and seed to the run's name, for all that have been begun."""
        rows = self._store.records.whole("members", name)
        return {(row["contender"], row["seed"]): row["run"] for row in rows}

    def holding(self, run: str) -> str | None:
        """A comparison of which a run is a member."""
        return next((name for name in self.names() if run in self.members(name).values()), None)

    def join(self, name: str, contender: str, seed: int, run: str) -> None:
        """Make a run that exists a member."""
        with self._store._transaction():
            self._insert_member(name, contender, seed, run)

    def begin(
        self,
        name: str,
        contender: str,
        seed: int,
        prefix: str,
        identity: str,
        config: Mapping[str, Any],
        versions: Mapping[str, str],
        prompts: PromptSet | None = None,
        start: Setting | None = None,
        parts: Mapping[str, str] | None = None,
    ) -> str:
        """Begin a run and make it a member, both or neither.

        Args:
            name: The comparison.
            contender: Its label.
            seed: Of the run.
            prefix: Of the run's name.
            identity: Of the run.
            config: Of the run.
            versions: Of the run.
            prompts: Of the run.
            start: Of the run.
            parts: Of the run.

        Returns:
            The run's name.
        """
        store = self._store
        with store._transaction():
            run = store._insert_run(prefix, identity, config, versions, prompts, start, parts)
            self._insert_member(name, contender, seed, run)
        return run

    def finished_run(self, identity: str, versions: Mapping[str, str]) -> str | None:
        """A finished run that did the very same with the very same libraries, whoever asked for it."""
        rows = (row for row in self._store.runs() if row.outcome is not None and not row.continued)
        return next((row.id for row in rows if (row.identity, row.versions) == (identity, dict(versions))), None)

    def steps(self, run: str) -> list[Step]:
        """Everything recorded of a run, in the order in which it was recorded."""
        return self._store.steps(run)

    def _insert_member(self, name: str, contender: str, seed: int, run: str) -> None:
        row = {"comparison": name, "contender": contender, "seed": seed, "run": run}
        self._store.records.insert("members", row)

    def _rows(self) -> list[Row]:
        return sorted(self._store.records.whole("comparisons"), key=lambda row: str(row["created"]))

    def _row(self, row: Row) -> ComparisonRow:
        with decoding(self._store.path, f"comparisons {row['id']!r}"):
            return ComparisonRow(row["id"], row["created"], row["identity"], json.loads(row["config"]))
