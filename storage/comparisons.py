"""Comparisons in the store: the configuration of each, and the run of every contender and seed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..engine.bucket import PromptSet
from ..engine.knobs import Setting
from .named import NamedRows
from .records import Row
from .sentences import decoding
from .store import Step


@dataclass(frozen=True)
class ComparisonRow:
    """The stored record of a comparison.

    Attributes:
        id: Its name.
        created: ISO time, UTC.
        identity: Fingerprint of everything that can change a number of it.
        config: The whole configuration of the comparison.
    """

    id: str
    created: str
    identity: str
    config: dict[str, Any]


class Comparisons(NamedRows[ComparisonRow]):
    """The comparisons of a store."""

    table = "comparisons"

    def add(self, prefix: str, identity: str, config: Mapping[str, Any]) -> str:
        """Begin a comparison named `prefix-N` with the next free N, and return its name."""
        with self._store._transaction():
            return self._add(prefix, identity, config)

    def members(self, name: str) -> dict[tuple[str, int], str]:
        """Return a map from (contender, seed) to the name of its run, for every run that has begun."""
        rows = self._store.records.whole("members", name)
        return {(row["contender"], row["seed"]): row["run"] for row in rows}

    def holding(self, run: str) -> str | None:
        """Return a comparison that a run is a member of."""
        return next((name for name in self.names() if run in self.members(name).values()), None)

    def join(self, name: str, contender: str, seed: int, run: str) -> None:
        """Make an existing run a member of a comparison."""
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
        """Begin a run and make it a member of a comparison, both in one transaction.

        Args:
            name: The comparison.
            contender: The label of the contender.
            seed: The seed of the run.
            prefix: The prefix of the run's name.
            identity: See `Runs.add_run`, like all that follow.
            config: The run's configuration.
            versions: Package name to version.
            prompts: The run's prompts.
            start: The setting that the search begins from, or None.
            parts: Fingerprint of every part of the run.

        Returns:
            The run's name.
        """
        store = self._store
        with store._transaction():
            run = store._insert_run(prefix, identity, config, versions, prompts, start, parts)
            self._insert_member(name, contender, seed, run)
        return run

    def finished_run(self, identity: str, versions: Mapping[str, str]) -> str | None:
        """Return a finished run with this identity and these library versions, in any comparison or none, or None."""
        rows = (row for row in self._store.runs() if row.outcome is not None and not row.continued)
        return next((row.id for row in rows if (row.identity, row.versions) == (identity, dict(versions))), None)

    def steps(self, run: str) -> list[Step]:
        """Return the steps of a run in the order of recording; see `SqliteStore.steps`."""
        return self._store.steps(run)

    def _insert_member(self, name: str, contender: str, seed: int, run: str) -> None:
        row = {"comparison": name, "contender": contender, "seed": seed, "run": run}
        self._store.records.insert("members", row)

    def _row(self, row: Row) -> ComparisonRow:
        with decoding(self._store.path, f"comparisons {row['id']!r}"):
            return ComparisonRow(row["id"], row["created"], row["identity"], json.loads(row["config"]))
