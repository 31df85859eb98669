"""Comparisons in the store: what was compared, and which run is which contender and seed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..engine.errors import StoreError, near_misses
from .store import SqliteStore, _decoding, _dump, _now, _sentences


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


class Step(NamedTuple):
    """A recorded evaluation of a run: stage, generation, fingerprint of its bucket, and how many outputs it has."""

    stage: str
    generation: int
    bucket: str
    num_images: int


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
        with _sentences(f"cannot write {store.path}"), store._transaction():
            name = store._free("comparisons", prefix)
            row = {"id": name, "created": _now(), "identity": identity, "config": _dump(config)}
            store._db.table("comparisons").insert(row)
        return name

    def get(self, name: str) -> ComparisonRow:
        """Look a comparison up.

        Raises:
            StoreError: If there is none of this name.
        """
        rows = self._store._read("SELECT * FROM comparisons WHERE id = ?", [name])
        if not rows:
            raise StoreError(f"no comparison {name!r} in {self._store.folder}; {near_misses(name, self.names())}")
        return _row(rows[0])

    def names(self) -> list[str]:
        """Every comparison, oldest first."""
        return [row["id"] for row in self._store._read("SELECT id FROM comparisons ORDER BY rowid")]

    def find(self, identity: str) -> ComparisonRow | None:
        """The latest comparison with this identity."""
        rows = self._store._read("SELECT * FROM comparisons WHERE identity = ? ORDER BY rowid DESC", [identity])
        return _row(rows[0]) if rows else None

    def members(self, name: str) -> dict[tuple[str, int], str]:
        """Contender and seed to the run's name, for all that have been begun."""
        rows = self._store._read("SELECT * FROM members WHERE comparison = ?", [name])
        return {(row["contender"], row["seed"]): row["run"] for row in rows}

    def join(self, name: str, contender: str, seed: int, run: str) -> None:
        """Make a run that exists a member."""
        store = self._store
        with _sentences(f"cannot write {store.path}"), store._transaction():
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

        Returns:
            The run's name.
        """
        store = self._store
        with _sentences(f"cannot write {store.path}"), store._transaction():
            run = store._insert_run(prefix, identity, config, versions)
            self._insert_member(name, contender, seed, run)
        return run

    def finished_run(self, identity: str, versions: Mapping[str, str]) -> str | None:
        """A finished run that did the very same with the very same libraries, whoever asked for it."""
        query = "SELECT id FROM runs WHERE identity = ? AND versions = ? AND outcome IS NOT NULL ORDER BY rowid"
        rows = self._store._read(query, [identity, _dump(versions)])
        return rows[0]["id"] if rows else None

    def steps(self, run: str) -> list[Step]:
        """Everything recorded of a run, in the order in which it was recorded."""
        rows = self._store._read(
            "SELECT c.stage, c.generation, e.bucket, json_array_length(b.seeds) AS images FROM candidates c "
            "JOIN evaluations e ON e.key = c.evaluation JOIN buckets b ON b.id = e.bucket "
            "WHERE c.run = ? ORDER BY c.rowid",
            [run],
        )
        return [Step(row["stage"], row["generation"], row["bucket"], row["images"]) for row in rows]

    def _insert_member(self, name: str, contender: str, seed: int, run: str) -> None:
        row = {"comparison": name, "contender": contender, "seed": seed, "run": run}
        self._store._db.table("members").insert(row)


def _row(row: Mapping[str, Any]) -> ComparisonRow:
    with _decoding(row):
        return ComparisonRow(row["id"], row["created"], row["identity"], json.loads(row["config"]))
