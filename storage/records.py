"""Records: rows that carry a checksum, and tallies of rows that belong together.

A row that has changed, wherever in it, no longer has its checksum. A row that can no longer be found, or that is found
where it does not belong, is missed by its tally: how many rows there are, and the sum of their checksums. Both are
written with the row, and looked at whenever it is read; so damage is said, and never another result.
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

#: Table to the column by which rows are tallied: each value of it apart, or "" for the whole table.
#: What is not here is only ever read by its key, from a record that names it.
TALLIED = {
    "runs": "",
    "comparisons": "",
    "prompts": "",
    "outputs": "",
    "rescores": "",
    "candidates": "run",
    "generations": "run",
    "members": "comparison",
}
#: Table to those whose tallies begin with a row of it, under the row's id.
OWNERS = {"runs": ("candidates", "generations"), "comparisons": ("members",)}
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
    "tallies": ("counted", "owner"),
}
_RANGE = 2**64
_AT_ONCE = 500  # rows looked up by one query
_encoded = json.JSONEncoder(separators=(",", ":")).encode


class Records:
    """The rows of a database, checked.

    Args:
        connection: To the database.
        path: Of its file, for sentences.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path

    def read(self, table: str, **equals: str | int) -> list[Row]:
        """The rows whose columns have these values, in no certain order.

        Raises:
            StoreError: If one is damaged, or the file cannot be read.
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

    def readable(self, table: str) -> tuple[list[Row], list[StoreError]]:
        """The rows of a table that are as they were written, and what is wrong with the others.

        Rows that are missing, which nobody else would notice, are told where all others are whole.
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
        """The rows that have these keys, of a table with a key of one column; keys of no row are left out.

        Raises:
            StoreError: If one is damaged, or the file cannot be read.
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
            for row in rows:  # under its own key, should a damaged index lead to a row that was not asked for
                self._check(table, row)
                found[row[column]] = row
        return found

    def one(self, table: str, **equals: str | int) -> Row | None:
        """The row with this key, or None."""
        return next(iter(self.read(table, **equals)), None)

    def named(self, by: str, table: str, **equals: str | int) -> Row:
        """The row with this key that another record, `by`, names.

        Raises:
            StoreError: If there is none.
        """
        row = self.one(table, **equals)
        if row is None:
            raise damaged(self._path, by, f"{name_of(table, equals)}, which it names, is gone")
        return row

    def whole(self, table: str, owner: str = "") -> list[Row]:
        """Every row of a table, or of an owner in it; in no certain order.

        Raises:
            StoreError: If one is damaged, or some are missing.
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
        """How many rows there should be, and the sum of their checksums."""
        tally = self._tally(table, owner)
        return tally["number"], tally["sum"]

    def insert(self, table: str, row: Mapping[str, Any], *, ignore: bool = False) -> bool:
        """Write a row; call it in a transaction.

        Args:
            table: Where.
            row: Its columns.
            ignore: Whether to leave a row of the same key alone.

        Returns:
            Whether it was written.
        """
        written = self._write(table, row, "INSERT OR IGNORE" if ignore else "INSERT")
        if written is None:
            return False
        self._count(table, row, 1, int(written, 16))
        for owned in OWNERS.get(table, ()):
            self.insert("tallies", {"counted": owned, "owner": row["id"], "number": 0, "sum": f"{0:016x}"})
        return True

    def insert_all(self, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write rows of one owner; call it in a transaction."""
        sums = [int(self._write(table, row, "INSERT") or "0", 16) for row in rows]
        if rows:
            self._count(table, rows[0], len(rows), sum(sums))

    def _write(self, table: str, row: Mapping[str, Any], verb: str) -> str | None:
        """Write a row, and give back its checksum; None if it was not written."""
        full = {**row, "checksum": checksum(table, row)}
        query = f"{verb} INTO {table} ({', '.join(full)}) VALUES ({', '.join('?' * len(full))})"
        written = self._connection.execute(query, list(full.values())).rowcount == 1
        return str(full["checksum"]) if written else None

    def update(self, table: str, row: Mapping[str, Any], **columns: Any) -> None:
        """Change columns of a row that has been read; call it in the same transaction."""
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
        """Take out a row that has been read; call it in the same transaction."""
        where = " AND ".join(f"{column} = ?" for column in KEYS[table])
        self._connection.execute(f"DELETE FROM {table} WHERE {where}", [row[column] for column in KEYS[table]])
        self._count(table, row, -1, -int(row["checksum"], 16))

    def seal(self, tables: Iterable[str]) -> None:
        """Give every row of a database that has none yet its checksum, and write the tallies."""
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
        """Whose rows of a table are tallied apart."""
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
    """A digest of a row's columns, 16 hexadecimal digits; columns without a value do not count."""
    columns = sorted((column, _canonical(value)) for column, value in row.items() if column != "checksum")
    filled = [[column, value] for column, value in columns if value is not None]
    return hashlib.blake2b(_encoded([table, filled]).encode(), digest_size=8).hexdigest()


def name_of(table: str, row: Mapping[str, Any]) -> str:
    """What to call a row in a sentence."""
    return " ".join([table, *(repr(row.get(column)) for column in KEYS[table] if column in row)])


def _canonical(value: object) -> object:
    """A value as it will be read: SQLite knows no bool, and gives 2 as 2.0 where it keeps floats."""
    if isinstance(value, (int, float)):
        return None if math.isnan(value) else float(value)
    return value.hex() if isinstance(value, bytes) else value


def _sum(rows: Iterable[Mapping[str, Any]]) -> str:
    return f"{sum(int(row['checksum'], 16) for row in rows) % _RANGE:016x}"
