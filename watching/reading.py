"""What the page knows of a folder: read in short looks, at most once a second, whoever asks and however many."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from ..engine.answer import text_of
from ..engine.record import TEST, Record
from ..ground.errors import StoreError, TrimpotError
from ..reports.facts import Facts
from ..reports.gallery import read_answers, read_pictures
from ..storage import Analyses, AnalysisRow, Comparisons, Look, RunRow
from ..storage.database import FILE_NAME
from ..storage.kept import IMAGES, JSON, read_output
from ..storage.looking import NothingYetError, stamp
from .course import Course
from .progress import Progress, progress_of

PACE = 1.0  # seconds between two looks, at least
SHARE = 0.02  # of the time of one core is spent on looking and drawing, at most
NUM_PICTURES = 8
RENEWED = 10.0  # seconds after which a page is made again though nothing was recorded, since time passes in it


class Pair(NamedTuple):
    """The pictures or answers of a prompt, neutral and calibrated, and their values if known.

    A picture is an address under `/`; an answer is its text, and `said` is true.
    """

    prompt: str
    neutral: str
    calibrated: str
    values: tuple[float, float] | None
    said: bool = False


@dataclass(frozen=True)
class View:
    """A run as the page shows it.

    Attributes:
        row: The run.
        course: What it has recorded.
        facts: What sentences are made of.
        progress: How far it is.
        pictures: The latest pictures or answers, neutral beside calibrated.
        pictured: What the pictures are of.
        notes: What else must be said of it.
        drawn: The parts of its page as they were drawn last, each with what it was drawn from.
    """

    row: RunRow
    course: Course
    facts: Facts
    progress: Progress
    pictures: tuple[Pair, ...]
    pictured: str
    notes: tuple[str, ...]
    drawn: dict[str, tuple[object, str]] = field(default_factory=dict, compare=False, repr=False)


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
        self._due = self._looked = self._spent = 0.0
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
        with self._lock, self._measured():
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

    @contextlib.contextmanager
    def _measured(self) -> Iterator[None]:
        """Put the next look off by what this work takes: by the time of a core, since a busy machine must not be it."""
        begun = time.thread_time()
        try:
            yield
        finally:
            self._spent += time.thread_time() - begun
            self._due = self._looked + max(self.pace, self._spent / SHARE)

    def _look(self) -> None:
        if time.monotonic() < self._due:
            return
        self._looked, self._spent = time.monotonic(), 0.0
        seen = stamp(self.path)
        if seen != self._stamp or self._scene.problem:
            self._stamp = seen
            self._read()
            self._version += 1
        else:
            self._look_at_locks()

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
        facts, notes = course.facts(row), course.decided(row).notes
        if known is not None and known.facts.record is facts.record and known.pictures:
            pictures, pictured = known.pictures, known.pictured
        else:
            pictures, pictured = _pictures(look, course, facts.record)
            if not pictures and row.outcome is not None:
                pictures, pictured = _before_and_after(look.folder, row, facts.record), "test prompts"
        drawn = known.drawn if known is not None else {}
        return View(row, course, facts, progress_of(row, course), pictures, pictured, notes, drawn)

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
    pairs = [
        Pair(prompt, _shown(look.folder, one), _shown(look.folder, other), (float(b), float(a)), one.endswith(JSON))
        for prompt, one, other, b, a in islice(rows, NUM_PICTURES)
    ]
    return tuple(pairs), f"validation prompts, after generation {latest}"


def _shown(folder: Path, name: str) -> str:
    """Return the address of a kept picture, or the text of a kept answer; of a damaged one, what is said of it."""
    if not name.endswith(JSON):
        return f"image/{name}"
    try:
        return text_of(read_output(folder / IMAGES, name))
    except StoreError as error:
        return f"({error})"


def _before_and_after(folder: Path, row: RunRow, record: Record) -> tuple[Pair, ...]:
    """Return the pictures that a finished run made of its first test prompts."""
    values: Mapping[tuple[int, str], tuple[float, float]] = {}
    if all(place in record.evaluations for place in TEST):
        before, after = (record.evaluations[place] for place in TEST)
        scored = zip(before.bucket.prompts, before.values, after.values, strict=True)
        values = {(number, prompt): (float(b), float(a)) for number, (prompt, b, a) in enumerate(scored)}
    if answers := read_answers(folder / row.id / "images"):
        return tuple(
            Pair(each.prompt, each.neutral, each.calibrated, values.get((number, each.prompt)), said=True)
            for number, each in enumerate(answers[:NUM_PICTURES])
        )
    return tuple(
        Pair(
            each.prompt,
            f"picture/{row.id}/{each.neutral.name}",
            f"picture/{row.id}/{each.calibrated.name}",
            values.get((number, each.prompt)),
        )
        for number, each in enumerate(read_pictures(folder / row.id / "images")[:NUM_PICTURES])
    )
