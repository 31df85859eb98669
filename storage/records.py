"""Records: rows that carry a checksum, and tallies of rows that belong together.

A checksum covers every column of a row, so any change of a row is noticed. A tally holds the number of rows that belong
together and the sum of their checksums, so a lost or misplaced row is noticed. Both are written with the row and
checked whenever the row is read: damage raises an error and never changes a result in silence.
"""

from __future__ import annotations

import hashlib
import json
import math
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..ground.errors import StoreError
from .sentences import damaged, sentences

Row = dict[str, Any]

#: Table to the column whose values have a tally each, or "" if the whole table has one tally.
#: A table that is not listed here is only read by key, and the key comes from another record.
TALLIED = {
    "runs": "",
    "comparisons": "",
    "prompts": "",
    "outputs": "",
    "rescores": "",
    "studies": "",
    "pictures": "",
    "candidates": "run",
    "generations": "run",
    "members": "comparison",
    "analyses": "",
    "analysed": "analysis",
    "raters": "study",
    "answers": "rater",
}
#: Table to the tables that get a new tally for every row of it; the row's id is the tally's owner.
OWNERS = {
    "runs": ("candidates", "generations"),
    "comparisons": ("members",),
    "analyses": ("analysed",),
    "studies": ("raters",),
    "raters": ("answers",),
}
KEYS = {
    "runs": ("id",),
    "comparisons": ("id",),
    "prompts": ("id",),
    "buckets": ("id",),
    "names": ("id",),
    "evaluations": ("key",),
    "outputs": ("evaluation", "position"),
    "rescores": ("evaluation", "objective", "fingerprint"),
    "candidates": ("run", "stage", "generation", "position"),
    "generations": ("run", "generation"),
    "members": ("comparison", "contender", "seed"),
    "analyses": ("id",),
    "analysed": ("analysis", "stage", "generation", "position"),
    "studies": ("id",),
    "raters": ("id",),
    "answers": ("rater", "position", "question"),
    "pictures": ("key",),
    "tallies": ("counted", "owner"),
}
_RANGE = 2**64
_AT_ONCE = 500  # rows looked up by one query
_encoded = json.JSONEncoder(separators=(",", ":")).encode


class Records:
    """Access to the rows of a database; every row read is checked.

    Args:
        connection: The connection to the database.
        path: The database file, for error messages.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path

    def read(self, table: str, **equals: str | int) -> list[Row]:
        """Return the rows whose columns have these values, in no particular order.

        Raises:
            StoreError: If a row is damaged, or the file cannot be read.
        """
        where = " AND ".join(f"{column} = ?" for column in equals)
        query = f"SELECT * FROM {table}" + (f" WHERE {where}" if where else "")
        with sentences(f"cannot read {self._path}"):
            cursor = self._connection.execute(query, list(equals.values()))
            names = [column for column, *_ in cursor.description]
            # What is looked for is put in place of what is found, in case a damaged index leads to another row.
            rows = [{**dict(zip(names, values, strict=True)), **equals} for values in cursor]
        for row in rows:
            self._check(table, row)
        return rows

    def later(self, table: str, owner: str, number: int) -> list[Row]:
        """Return the rows of one owner whose `number` is this or a later one, in no particular order.

        Raises:
            StoreError: If a row is damaged, or the file cannot be read.
        """
        query = f"SELECT * FROM {table} WHERE {TALLIED[table]} = ? AND number >= ?"
        with sentences(f"cannot read {self._path}"):
            cursor = self._connection.execute(query, [owner, number])
            names = [column for column, *_ in cursor.description]
            rows = [dict(zip(names, values, strict=True)) for values in cursor]
        for row in rows:
            self._check(table, row)
        return rows

    def readable(self, table: str) -> tuple[list[Row], list[StoreError]]:
        """Return the intact rows of a table, and an error for each of the others.

        If no row is damaged, missing rows are looked for, and reported as one error.
        """
        rows, wrong = [], []
        with sentences(f"cannot read {self._path}"):
            numbers = [number for (number,) in self._connection.execute(f"SELECT rowid FROM {table}").fetchall()]
        for number in numbers:
            try:
                with sentences(f"cannot read {table} of {self._path}"):
                    cursor = self._connection.execute(f"SELECT * FROM {table} WHERE rowid = ?", [number])
                    names = [column for column, *_ in cursor.description]
                    row = dict(zip(names, cursor.fetchone(), strict=True))
                self._check(table, row)
                rows.append(row)
            except StoreError as error:
                wrong.append(error)
        if not wrong:
            try:
                self.whole(table)
            except StoreError as error:
                wrong.append(error)
        return rows, wrong

    def _check(self, table: str, row: Row) -> None:
        if row.get("checksum") != checksum(table, row):
            raise damaged(self._path, name_of(table, row), "its checksum is another")

    def by_key(self, table: str, keys: Sequence[str]) -> dict[str, Row]:
        """Return the rows that have these keys, by key; a key without a row is left out.

        The table's key must be a single column.

        Raises:
            StoreError: If a row is damaged, or the file cannot be read.
        """
        [column] = KEYS[table]
        found: dict[str, Row] = {}
        for first in range(0, len(keys), _AT_ONCE):
            asked = keys[first : first + _AT_ONCE]
            query = f"SELECT * FROM {table} WHERE {column} IN ({', '.join('?' * len(asked))})"
            with sentences(f"cannot read {self._path}"):
                cursor = self._connection.execute(query, asked)
                names = [name for name, *_ in cursor.description]
                rows = [dict(zip(names, values, strict=True)) for values in cursor]
            for row in rows:  # by the row's own key: a damaged index may lead to a row that was not asked for
                self._check(table, row)
                found[row[column]] = row
        return found

    def one(self, table: str, **equals: str | int) -> Row | None:
        """Return the row with this key, or None."""
        return next(iter(self.read(table, **equals)), None)

    def named(self, by: str, table: str, **equals: str | int) -> Row:
        """Return the row with this key, which another record, `by`, refers to.

        Raises:
            StoreError: If no row has this key.
        """
        row = self.one(table, **equals)
        if row is None:
            raise damaged(self._path, by, f"{name_of(table, equals)}, which it names, is gone")
        return row

    def whole(self, table: str, owner: str = "") -> list[Row]:
        """Return every row of a table, or every row of one owner, in no particular order, and check the tally.

        Raises:
            StoreError: If a row is damaged or missing.
        """
        column = TALLIED[table]
        rows = self.read(table, **({column: owner} if column else {}))
        number, total = self.tally(table, owner)
        if (len(rows), _sum(rows)) != (number, total):
            what = f"{table} of {owner}" if column else table
            raise StoreError(
                f"{self._path} has lost records: of the {what} there should be {number}, and "
                f"{len(rows)} are found that were not all written so; restore the file from a backup"
            )
        return rows

    def tally(self, table: str, owner: str = "") -> tuple[int, str]:
        """Return how many rows a table, or one owner, should have, and the sum of their checksums."""
        tally = self._tally(table, owner)
        return tally["number"], tally["sum"]

    def insert(self, table: str, row: Mapping[str, Any], *, ignore: bool = False) -> bool:
        """Write a row; call this in a transaction.

        Args:
            table: The table to write to.
            row: Column to value.
            ignore: Whether to do nothing, instead of failing, if a row has the same key.

        Returns:
            Whether the row was written.
        """
        written = self._write(table, row, "INSERT OR IGNORE" if ignore else "INSERT")
        if written is None:
            return False
        self._count(table, row, 1, int(written, 16))
        for owned in OWNERS.get(table, ()):
            self.insert("tallies", {"counted": owned, "owner": row["id"], "number": 0, "sum": f"{0:016x}"})
        return True

    def insert_all(self, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write rows of one owner; call this in a transaction."""
        sums = [int(self._write(table, row, "INSERT") or "0", 16) for row in rows]
        if rows:
            self._count(table, rows[0], len(rows), sum(sums))

    def _write(self, table: str, row: Mapping[str, Any], verb: str) -> str | None:
        """Write a row and return its checksum, or None if the row was not written."""
        full = {**row, "checksum": checksum(table, row)}
        query = f"{verb} INTO {table} ({', '.join(full)}) VALUES ({', '.join('?' * len(full))})"
        written = self._connection.execute(query, list(full.values())).rowcount == 1
        return str(full["checksum"]) if written else None

    def update(self, table: str, row: Mapping[str, Any], **columns: Any) -> None:
        """Change columns of a row that was read in this same transaction."""
        changed = {**row, **columns}
        changed["checksum"] = checksum(table, changed)
        key = KEYS[table]
        assigned = ", ".join(f"{column} = ?" for column in changed if column not in key)
        where = " AND ".join(f"{column} = ?" for column in key)
        values = [value for column, value in changed.items() if column not in key]
        self._connection.execute(
            f"UPDATE {table} SET {assigned} WHERE {where}", [*values, *(row[column] for column in key)]
        )
        self._count(table, changed, 0, int(changed["checksum"], 16) - int(row["checksum"], 16))

    def delete(self, table: str, row: Mapping[str, Any]) -> None:
        """Delete a row that was read in this same transaction."""
        where = " AND ".join(f"{column} = ?" for column in KEYS[table])
        self._connection.execute(f"DELETE FROM {table} WHERE {where}", [row[column] for column in KEYS[table]])
        self._count(table, row, -1, -int(row["checksum"], 16))

    def seal(self, tables: Iterable[str]) -> None:
        """Compute the checksum of every row of the tables, and write the tallies."""
        for table in tables:
            sums: dict[str, list[str]] = {}
            for (rowid,) in self._connection.execute(f"SELECT rowid FROM {table}").fetchall():
                cursor = self._connection.execute(f"SELECT * FROM {table} WHERE rowid = ?", [rowid])
                row = dict(zip([column for column, *_ in cursor.description], cursor.fetchone(), strict=True))
                found = checksum(table, row)
                self._connection.execute(f"UPDATE {table} SET checksum = ? WHERE rowid = ?", [found, rowid])
                if table in TALLIED:
                    sums.setdefault(row[TALLIED[table]] if TALLIED[table] else "", []).append(found)
            for owner in self._owners(table):
                rows = [{"checksum": each} for each in sums.get(owner, [])]
                self.insert("tallies", {"counted": table, "owner": owner, "number": len(rows), "sum": _sum(rows)})

    def _owners(self, table: str) -> list[str]:
        """Return the owners that have a tally of their own in a table; [""] if the whole table has one tally."""
        if table not in TALLIED:
            return []
        owner = next((name for name, owned in OWNERS.items() if table in owned), None)
        return [""] if owner is None else [name for (name,) in self._connection.execute(f"SELECT id FROM {owner}")]

    def _tally(self, table: str, owner: str) -> Row:
        name = f"{table} of {owner}" if owner else table
        return self.named(f"that counts the {name}", "tallies", counted=table, owner=owner)

    def _count(self, table: str, row: Mapping[str, Any], number: int, difference: int) -> None:
        if table not in TALLIED:
            return
        owner = row[TALLIED[table]] if TALLIED[table] else ""
        tally = self._tally(table, owner)
        total = (int(tally["sum"], 16) + difference) % _RANGE
        self.update("tallies", tally, number=tally["number"] + number, sum=f"{total:016x}")


def checksum(table: str, row: Mapping[str, Any]) -> str:
    """Return a digest of a row's columns, 16 hexadecimal digits; columns without a value do not count."""
    columns = sorted((column, _canonical(value)) for column, value in row.items() if column != "checksum")
    filled = [[column, value] for column, value in columns if value is not None]
    return hashlib.blake2b(_encoded([table, filled]).encode(), digest_size=8).hexdigest()


def name_of(table: str, row: Mapping[str, Any]) -> str:
    """Return the name of a row in an error message: its table and its key."""
    return " ".join([table, *(repr(row.get(column)) for column in KEYS[table] if column in row)])


def _canonical(value: object) -> object:
    """Return a value in the form in which SQLite returns it: bools and integers as floats."""
    if isinstance(value, (int, float)):
        return None if math.isnan(value) else float(value)
    return value.hex() if isinstance(value, bytes) else value


def _sum(rows: Iterable[Mapping[str, Any]]) -> str:
    return f"{sum(int(row['checksum'], 16) for row in rows) % _RANGE:016x}"
