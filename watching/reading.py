"""What the page knows of a folder: read in short looks, at most once a second, whoever asks and however many."""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from ..engine.record import TEST, Record
from ..ground.errors import Notice, StoreError, TrimpotError
from ..reports.facts import Facts
from ..reports.gallery import read_pictures
from ..storage import Analyses, AnalysisRow, Comparisons, Look, RunRow
from ..storage.database import FILE_NAME
from ..storage.looking import NothingYetError, stamp
from .course import Course
from .progress import Progress, progress_of

PACE = 1.0  # seconds between two looks, at least
SHARE = 0.05  # of the time is spent on looking, at most
NUM_PICTURES = 8
RENEWED = 10.0  # seconds after which a page is made again though nothing was recorded, since time passes in it


class Pair(NamedTuple):
    """The pictures of a prompt and seed, neutral and calibrated: addresses under `/`, and values if known."""

    prompt: str
    neutral: str
    calibrated: str
    values: tuple[float, float] | None


@dataclass(frozen=True)
class View:
    """A run as the page shows it.

    Attributes:
        row: The run.
        course: What it has recorded.
        facts: What sentences are made of.
        progress: How far it is.
        pictures: The latest pictures, neutral beside calibrated.
        pictured: What the pictures are of.
        notes: What else must be said of it.
    """

    row: RunRow
    course: Course
    facts: Facts
    progress: Progress
    pictures: tuple[Pair, ...]
    pictured: str
    notes: tuple[str, ...]


@dataclass
class Scene:
    """What is known of a folder.

    Attributes:
        rows: The readable runs by name, oldest first.
        views: The runs that were looked into.
        wrong: Run to the sentence on why it cannot be looked into.
        told: Sentences on what cannot be read at all.
        comparisons: Comparison to contender and seed to run.
        analyses: The analyses, oldest first, each with the number of its evaluations so far.
        problem: Why nothing can be read, or None.
        absent: Whether there is no database yet.
    """

    rows: dict[str, RunRow] = field(default_factory=dict)
    views: dict[str, View] = field(default_factory=dict)
    wrong: dict[str, str] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)
    comparisons: dict[str, dict[tuple[str, int], str]] = field(default_factory=dict)
    analyses: list[tuple[AnalysisRow, int]] = field(default_factory=list)
    problem: str | None = None
    absent: bool = False


class Folder:
    """A folder that is looked at; safe to be used by several threads.

    Args:
        path: The folder of the store; it may be absent.
        pace: Seconds between two looks, at least.
    """

    def __init__(self, path: Path, pace: float = PACE) -> None:
        self.path = path
        self.pace = pace
        self._lock = threading.Lock()
        self._scene = Scene()
        self._version = 0
        self._stamp: object = None
        self._due = 0.0
        self._wanted: set[str] = set()
        self._courses: dict[str, Course] = {}
        self._made: dict[tuple[str, str], tuple[int, float, dict[str, str]]] = {}

    def made(self, kind: str, name: str, make: Callable[[Scene], dict[str, str]]) -> dict[str, str]:
        """Return the parts of a page, which are made once for all who look at it.

        Args:
            kind: The kind of page.
            name: What the page is about; the run of a page of kind `run` is looked into.
            make: Makes the parts.
        """
        with self._lock:
            self._look()
            if kind == "run" and name in self._scene.rows and name not in self._wanted:
                self._wanted.add(name)
                if name not in self._scene.views and name not in self._scene.wrong:
                    self._due, self._stamp = 0.0, None  # a finished run, which nobody has asked for until now
                    self._look()
            if name and name not in self._scene.rows and name not in self._scene.comparisons:
                return make(self._scene)  # nothing is remembered of what is not there
            version, until, parts = self._made.get((kind, name), (-1, 0.0, {}))
            if version != self._version or time.monotonic() > until:
                parts = make(self._scene)
                self._made[(kind, name)] = (self._version, time.monotonic() + RENEWED, parts)
            return parts

    def _look(self) -> None:
        begun = time.monotonic()
        if begun < self._due:
            return
        seen = stamp(self.path)
        if seen != self._stamp or self._scene.problem:
            self._stamp = seen
            self._read()
            self._version += 1
        else:
            self._look_at_locks()
        self._due = time.monotonic() + max(self.pace, (time.monotonic() - begun) / SHARE)

    def _read(self) -> None:
        if not (self.path / FILE_NAME).exists():
            self._scene, self._courses = Scene(absent=True), {}
            return
        for _ in range(3):  # a file that is changed in place meanwhile is read again
            try:
                with Look(self.path) as look:
                    scene = self._taken(look)
                    overtaken = look.overtaken
            except NothingYetError:
                self._scene = Scene(absent=True)
                return
            except StoreError as error:
                self._scene = Scene(problem=str(error))
                return
            self._scene = scene
            if not overtaken:
                return

    def _taken(self, look: Look) -> Scene:
        rows, wrong = look.readable_runs()
        scene = Scene(rows={row.id: row for row in rows}, told=[str(error) for error in wrong])
        try:
            comparisons = Comparisons(look)
            scene.comparisons = {name: comparisons.members(name) for name in comparisons.names()}
            scene.analyses = [(row, look.records.tally("analysed", row.id)[0]) for row in Analyses(look).all()]
        except StoreError as error:
            scene.told.append(str(error))
        self._courses = {name: course for name, course in self._courses.items() if name in scene.rows}
        for row in rows:
            if row.outcome is None or row.id in self._wanted:
                try:
                    scene.views[row.id] = self._view(look, row)
                except TrimpotError as error:
                    scene.wrong[row.id] = str(error)
                except (LookupError, TypeError, ValueError, AttributeError) as error:  # of another version
                    scene.wrong[row.id] = f"it cannot be read by this version ({type(error).__name__}: {error})"
                if row.id in scene.wrong:
                    self._courses.pop(row.id, None)
        return scene

    def _view(self, look: Look, row: RunRow) -> View:
        known, course = self._scene.views.get(row.id), self._courses.setdefault(row.id, Course(row))
        before = course.state
        course.read(look)
        if known is not None and known.course is course and course.state == before and known.row == row:
            return known
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always", Notice)
            facts = course.facts(row)
            record, alarms = facts.record, facts.record.alarms  # computed here, where what they say is heard
        notes = tuple(str(each.message) for each in said if issubclass(each.category, Notice))
        pictures, pictured = _pictures(look, course, record)
        if not pictures and row.outcome is not None:
            pictures, pictured = _before_and_after(look.folder, row, record), "test prompts"
        assert alarms is not None
        return View(row, course, facts, progress_of(row, course), pictures, pictured, notes)

    def _look_at_locks(self) -> None:
        """Notice that a run or analysis has begun or ended to be worked on, which changes nothing in the database."""
        from ..storage.runs import held

        for index, (asked, count) in enumerate(self._scene.analyses):
            locked = asked.outcome is None and held(self.path / f".{asked.id}.lock")
            if locked != asked.locked:
                self._scene.analyses[index] = (replace(asked, locked=locked), count)
                self._version += 1
        for name, row in self._scene.rows.items():
            locked = held(self.path / f".{name}.lock") if row.status != "finished" else row.locked
            if locked != row.locked:
                changed = replace(row, locked=locked)
                self._scene.rows[name] = changed
                if (view := self._scene.views.get(name)) is not None:
                    self._scene.views[name] = replace(view, row=changed, facts=replace(view.facts, row=changed))
                self._version += 1


def _pictures(look: Look, course: Course, record: Record) -> tuple[tuple[Pair, ...], str]:
    """Return the kept pictures of the latest recommendation beside the neutral setting's."""
    latest = max(record.judged, default=0)
    if not latest:
        return (), ""
    places = (record.place_of(0), record.place_of(latest))
    before, after = (record.evaluations[place] for place in places)
    files = [look.files(course.keys[place]) for place in places]
    if before.bucket.fingerprint != after.bucket.fingerprint or not all(files):
        return (), ""
    rows = zip(before.bucket.prompts, *files, before.values, after.values, strict=False)
    pairs = [Pair(prompt, f"image/{one}", f"image/{other}", (float(b), float(a))) for prompt, one, other, b, a in rows]
    return tuple(pairs[:NUM_PICTURES]), f"validation prompts, after generation {latest}"


def _before_and_after(folder: Path, row: RunRow, record: Record) -> tuple[Pair, ...]:
    """Return the pictures that a finished run made of its first test prompts."""
    values: Mapping[tuple[int, str], tuple[float, float]] = {}
    if all(place in record.evaluations for place in TEST):
        before, after = (record.evaluations[place] for place in TEST)
        scored = zip(before.bucket.prompts, before.values, after.values, strict=True)
        values = {(number, prompt): (float(b), float(a)) for number, (prompt, b, a) in enumerate(scored)}
    return tuple(
        Pair(
            each.prompt,
            f"picture/{row.id}/{each.neutral.name}",
            f"picture/{row.id}/{each.calibrated.name}",
            values.get((number, each.prompt)),
        )
        for number, each in enumerate(read_pictures(folder / row.id / "images")[:NUM_PICTURES])
    )
