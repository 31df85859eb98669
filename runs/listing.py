"""The runs of a store as a list: which are asked for, in which order, and with comparisons folded into a line each."""

from __future__ import annotations

import datetime
import fnmatch
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..ground.errors import ConfigError, near_misses
from ..storage import RunRow

STATUSES = ("running", "finished", "unreported", "failed", "interrupted")
_SPANS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


@dataclass(frozen=True)
class Filters:
    """What is asked of a run; None asks nothing.

    Attributes:
        status: One of `STATUSES`.
        adapter: The adapter's name.
        model: The adapter's `model`, its last part, or a pattern with `*` and `?`.
        since: An ISO date or time, UTC unless it has a zone, or a span back from now, such as `12h`, `3d` or `2w`.
        name: A pattern of the run's name, with `*` and `?`.
    """

    status: str | None = None
    adapter: str | None = None
    model: str | None = None
    since: str | None = None
    name: str | None = None

    def of(self, rows: Sequence[RunRow]) -> list[RunRow]:
        """Return the rows that are asked for.

        Raises:
            ConfigError: If a value is none that any run could have, or none that a run of these has.
        """
        tests: list[Callable[[RunRow], bool]] = []
        if self.status is not None:
            if self.status not in STATUSES:
                raise ConfigError(f"--status: no status {self.status!r}; {near_misses(self.status, STATUSES)}")
            tests.append(lambda row: row.status == self.status)
        if self.since is not None:
            begin = moment(self.since)
            tests.append(lambda row: datetime.datetime.fromisoformat(row.created) >= begin)
        for option, asked, names in (
            ("adapter", self.adapter, lambda row: {str(row.config["adapter"]["name"])}),
            ("model", self.model, _models),
            ("name", self.name, lambda row: {row.id}),
        ):
            if asked is not None:
                tests.append(_matching(option, asked, rows, names))
        return [row for row in rows if all(test(row) for test in tests)]


def _matching(
    option: str, asked: str, rows: Sequence[RunRow], names: Callable[[RunRow], set[str]]
) -> Callable[[RunRow], bool]:
    """Return whether a row has the name or fits the pattern; refuse a name that no row has."""

    def fits(row: RunRow) -> bool:
        return any(name == asked or fnmatch.fnmatchcase(name, asked) for name in names(row))

    if rows and not any(map(fits, rows)):
        known = {name for row in rows for name in names(row)}
        raise ConfigError(f"--{option}: no run with {asked!r}; {near_misses(asked, known)}")
    return fits


def _models(row: RunRow) -> set[str]:
    model = row.config["adapter"].get("model")
    return {str(model), re.split(r"[\\/]", str(model).rstrip("/\\"))[-1]} if model else set()


def moment(text: str) -> datetime.datetime:
    """Return the time that a date, a time or a span back from now names.

    Raises:
        ConfigError: If the text is none of these.
    """
    now = datetime.datetime.now(datetime.timezone.utc)
    try:
        if span := re.fullmatch(r"(\d{1,6})([mhdw])", text):
            return now - datetime.timedelta(**{_SPANS[span[2]]: int(span[1])})
        found = datetime.datetime.fromisoformat(re.sub("Z$", "+00:00", text))
    except (ValueError, OverflowError):
        raise ConfigError(
            f"--since: {text!r} is no time; write a date, such as 2026-05-31, or a span, such as 12h, 3d, 2w"
        ) from None
    return found if found.tzinfo else found.replace(tzinfo=datetime.timezone.utc)


@dataclass
class Line:
    """A run, or a comparison whose runs are folded into one line.

    Attributes:
        rows: The run, or the runs of the comparison that are asked for.
        comparison: The name of the comparison that the runs belong to, or None.
        folded: Whether the line stands for the comparison.
    """

    rows: list[RunRow] = field(default_factory=list)
    comparison: str | None = None
    folded: bool = False

    @property
    def name(self) -> str:
        """The name of the run or the comparison."""
        return str(self.comparison) if self.folded else self.rows[0].id

    @property
    def status(self) -> str:
        """The status of the run; of a comparison, the number of runs that have finished."""
        if not self.folded:
            return self.rows[0].status
        return f"{self.num_finished} of {len(self.rows)} finished"

    @property
    def num_finished(self) -> int:
        """How many runs of the line have a result."""
        return sum(row.outcome is not None for row in self.rows)

    @property
    def gain(self) -> Mapping[str, float] | None:
        """The gain of the run at the calibrated steps, or None."""
        return None if self.folded else gain_of(self.rows[0])

    @property
    def seconds(self) -> float:
        """The time spent on all runs of the line."""
        return math.fsum(row.seconds for row in self.rows)


def gain_of(row: RunRow) -> dict[str, float] | None:
    """Return the gain of a finished run, at the calibrated steps; None for another run."""
    found: list[Any] = row.outcome["comparisons"] if row.outcome else []
    return dict(found[0]["gain"]) if found else None


def lines_of(rows: Iterable[RunRow], comparison_of: Mapping[str, str], *, fold: bool) -> list[Line]:
    """Return a line for every run, or for every comparison of several runs, at the place of its first run.

    Args:
        rows: Runs in the order of the list.
        comparison_of: The comparison that a run belongs to, by the run's name.
        fold: Whether to fold comparisons.
    """
    lines: list[Line] = []
    folded: dict[str, Line] = {}
    for row in rows:
        comparison = comparison_of.get(row.id)
        if not fold or comparison is None:
            lines.append(Line([row], comparison))
            continue
        if comparison not in folded:
            folded[comparison] = Line([], comparison, folded=True)
            lines.append(folded[comparison])
        folded[comparison].rows.append(row)
    return lines


#: The orders of a list: what of a line is compared, and whether the largest comes first.
ORDERS: Mapping[str, tuple[Callable[[Line], Any], bool]] = {
    "created": (lambda line: line.rows[0].created, False),
    "gain": (lambda line: line.gain["mean"] if line.gain else -math.inf, True),
    "time": (lambda line: line.seconds, True),
    "name": (lambda line: re.sub(r"\d+", lambda digits: digits[0].zfill(12), line.name), False),
}


def ordered(lines: Sequence[Line], order: str | None, limit: int | None) -> list[Line]:
    """Return lines in an order, at most so many; without an order, the latest, oldest first.

    Raises:
        ConfigError: If there is no such order.
    """
    if order is None:
        return list(lines if limit is None else lines[-limit:])
    if order not in ORDERS:
        raise ConfigError(f"--sort: no order {order!r}; {near_misses(order, ORDERS)}")
    key, reverse = ORDERS[order]
    return sorted(lines, key=key, reverse=reverse)[:limit]
