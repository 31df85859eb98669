"""The SQLite store: every evaluation of every run, committed one by one."""

from .store import RunRow, SqliteStore

__all__ = ["RunRow", "SqliteStore"]
