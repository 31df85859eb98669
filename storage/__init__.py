"""The SQLite store: every evaluation of every run, committed one by one."""

from .comparisons import ComparisonRow, Comparisons
from .runs import RunRow
from .store import SqliteStore

__all__ = ["ComparisonRow", "Comparisons", "RunRow", "SqliteStore"]
