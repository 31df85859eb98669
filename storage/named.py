"""What comparisons, analyses and studies have in common: rows with a name, the latest of which are asked for first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Generic, TypeVar

from ..ground.errors import StoreError, near_misses
from .names import OWNED_AS
from .records import Row
from .runs import dump, now
from .store import SqliteStore

Named = TypeVar("Named")


class NamedRows(Generic[Named]):
    """The named rows of one table of a store.

    Attributes:
        table: The table, one of `names.NAMED`.

    Args:
        store: An open store.
    """

    table: ClassVar[str]

    def __init__(self, store: SqliteStore) -> None:
        self._store = store

    def get(self, name: str) -> Named:
        """Return a row by name.

        Raises:
            StoreError: If no row has this name.
        """
        row = self._store.records.one(self.table, id=name)
        if row is None:
            known = near_misses(name, self.names())
            raise StoreError(f"no {OWNED_AS[self.table]} {name!r} in {self._store.folder}; {known}")
        return self._row(row)

    def names(self) -> list[str]:
        """Return all names, oldest first."""
        return [row["id"] for row in self._rows()]

    def all(self) -> list[Named]:
        """Return all rows, oldest first."""
        return [self._row(row) for row in self._rows()]

    def of(self, identity: str) -> list[Named]:
        """Return the rows with this identity, latest first."""
        return [self._row(row) for row in reversed(self._rows()) if row["identity"] == identity]

    def _add(self, prefix: str, identity: str, config: Mapping[str, Any], **columns: Any) -> str:
        """Insert a row named `prefix-N` with the next free N, and return its name; call this in a transaction."""
        name = self._store._free_name(prefix)
        row = {"id": name, "created": now(), "identity": identity, "config": dump(config), **columns}
        self._store.records.insert(self.table, row)
        return name

    def _rows(self) -> list[Row]:
        return sorted(self._store.records.whole(self.table), key=lambda row: str(row["created"]))

    def _row(self, row: Row) -> Named:
        raise NotImplementedError
