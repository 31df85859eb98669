"""The nouns: what an analysis is, and the findings that it returns."""

from __future__ import annotations

import csv
import io
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from ..engine.schema import Section
from ..ground.plain import plain

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from ..storage import SqliteStore
    from .bench import Bench
    from .target import Target

Cell = str | int | float | bool | None


@dataclass(frozen=True)
class Table:
    """A table of numbers, which is a CSV file and, in few words, a table of the page.

    Attributes:
        name: The name of the CSV file, without its ending.
        columns: The names of the columns.
        rows: One value a column; None where there is no value.
        shown: The headings and rows of the page's table as text; empty to show none.
        main: The index of the page's column that is emphasised.
    """

    name: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    shown: tuple[Sequence[str], Sequence[Sequence[str]]] | None = None
    main: int | None = None

    def as_csv(self) -> str:
        """Return the table as CSV text; a number that is not finite is an empty cell."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows([_written(cell) for cell in row] for row in self.rows)
        return text.getvalue()


def _written(cell: Cell) -> Cell:
    return None if isinstance(cell, float) and not math.isfinite(cell) else cell


@dataclass(frozen=True)
class Part:
    """A section of the page.

    Attributes:
        title: The heading.
        note: What the pictures show and how the intervals are made.
        figures: The pictures: plotly figures as JSON text.
        tables: The tables below them.
    """

    title: str
    note: str
    figures: Sequence[str] = ()
    tables: Sequence[Table] = ()


@dataclass(frozen=True)
class Findings:
    """What an analysis found, as plain values.

    Attributes:
        headline: The answer in one sentence.
        parts: The sections of the page.
        sentences: What else has to be said: what "neutral" is, how many prompts, what cannot be told.
        cautions: Warnings, such as of too few prompts.
        stats: Numbers for the head of the page, by name.
        numbers: The findings for programs, JSON-like.
        files: Further files for the analysis's folder: name to text.
        runs: The runs that it rests on.
        outputs: What the outputs are called that it evaluated.
    """

    headline: str
    parts: Sequence[Part]
    sentences: Sequence[str] = ()
    cautions: Sequence[str] = ()
    stats: Mapping[str, str] = field(default_factory=dict)
    numbers: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    runs: Sequence[str] = ()
    outputs: str = "images"

    def to_json(self) -> dict[str, Any]:
        """Return the findings as JSON-like values, with numbers that are not finite as None."""
        found: dict[str, Any] = plain(_finite(_fields(self)), "the findings")
        return found

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Findings:
        """Return the findings that `to_json` returned."""
        parts = [Part(**{**part, "tables": [Table(**table) for table in part["tables"]]}) for part in found["parts"]]
        return cls(**{**found, "parts": parts})


def _fields(value: Any) -> Any:
    if isinstance(value, (Findings, Part, Table)):
        return {name: _fields(each) for name, each in vars(value).items()}
    if isinstance(value, Mapping):
        return {str(name): _fields(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_fields(each) for each in value]
    return value


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def drawn(figure: go.Figure) -> str:
    """Return a figure as the text that `Part.figures` holds."""
    return str(figure.to_json())


class Analysis(ABC):
    """One kind of analysis, asked of its targets.

    Attributes:
        kind: Its name on the command line.
        question: What it answers, in one sentence.
        Options: Its options, as `key=value` gives them.
        wants: What a target is: `backbone` (a run, a preset, a configuration or a model, as `calibrate` takes them; or
            a calibration, which says what it is of), `calibration` (a run with a result, a file, a folder, a hub id),
            or `store` (there are no targets: it reads what the store holds).
        several: Whether more than one target can be given.
        searches: Whether it calibrates, so that the keys of a search count; otherwise they are refused.
        instead: Keys of a configuration that an option of the analysis sets, to the option.
        lasting: Whether what it found stays true; if not, it is made anew whenever it is asked for.

    Args:
        targets: What is analysed; empty if it wants the store.
        options: The options, of type `Options`.
    """

    kind: ClassVar[str]
    question: ClassVar[str]
    Options: ClassVar[type[Section]]
    wants: ClassVar[Literal["backbone", "calibration", "store"]] = "backbone"
    several: ClassVar[bool] = False
    searches: ClassVar[bool] = False
    instead: ClassVar[Mapping[str, str]] = {}
    lasting: ClassVar[bool] = True

    def __init__(self, targets: Sequence[Target], options: Section) -> None:
        self.targets = tuple(targets)
        self.options = options

    def check(self, store: SqliteStore) -> None:  # noqa: B027  # most find out as they begin
        """Refuse what cannot be done as asked, before the analysis is in the store; nothing is loaded here.

        Args:
            store: The open store.

        Raises:
            TrimpotError: If it cannot be done.
        """

    @abstractmethod
    def examine(self, bench: Bench) -> Findings:
        """Evaluate what has not been evaluated yet, and return what was found.

        Raises:
            TrimpotError: If it cannot be done as asked; what was evaluated stays recorded.
        """
