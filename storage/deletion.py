"""Deleting runs, comparisons, analyses and studies: their records in one transaction, then their files.

Before the transaction is committed, a note in the store's folder names the files that go. A process that dies before
the commit has deleted nothing. One that dies after it leaves the note, and the next deletion finishes the work.

Evaluations, prompts and kept images that another run, an analysis or a study uses stay. Lists of names stay as well: a
process that works on another run may have read them.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ..ground.errors import StoreError, near_misses
from .comparisons import Comparisons
from .database import FILE_NAME
from .kept_images import IMAGES
from .names import NAMED, NOTE
from .records import Row
from .sentences import decoding, sentences
from .store import SqliteStore
from .studies import Studies


@dataclass(frozen=True)
class Loss:
    """What a deletion takes away.

    Attributes:
        names: The runs, comparisons, analyses and studies as asked for, each once.
        runs: All runs that go: those asked for, and the runs of comparisons asked for.
        analyses: The analyses that go. The runs that an analysis began are runs like others, and stay.
        num_evaluations: Evaluations that no other run or analysis uses.
        num_shared: Evaluations that others use; they stay.
        num_images: Images whose scores go.
        num_studies: Studies that go.
        num_answers: Answers of raters that go.
        num_kept_images: Kept image files that go.
        num_bytes: Bytes of the runs' files, of the kept images and, about, of the records.
        descendants: Runs that began at the result of a run that goes. They hold the numbers of their start themselves.
    """

    names: tuple[str, ...]
    runs: tuple[str, ...]
    num_evaluations: int
    num_shared: int
    num_images: int
    num_studies: int
    num_answers: int
    num_kept_images: int
    num_bytes: int
    descendants: tuple[str, ...]
    analyses: tuple[str, ...] = ()


@dataclass(frozen=True)
class Left:
    """What a deletion could not take away yet, because another run of the store is being worked on.

    Attributes:
        num_kept_images: Kept image files that stay until the next deletion.
        num_bytes: Bytes by which the files of the store have shrunk.
        compact: Whether the database file was made smaller; else later records use its free pages.
    """

    num_kept_images: int
    num_bytes: int
    compact: bool


@dataclass(frozen=True)
class _Part:
    """A run, a comparison with its runs, an analysis, or a study, that is deleted in one transaction."""

    name: str
    runs: tuple[str, ...]
    table: str

    @property
    def owners(self) -> tuple[str, ...]:
        """The names that have a folder and a lock file."""
        return (*(() if self.table == "runs" else (self.name,)), *self.runs)

    @property
    def analyses(self) -> tuple[str, ...]:
        """The analysis, if it is one."""
        return (self.name,) if self.table == "analyses" else ()


class Deletion:
    """The deletion of runs, comparisons, analyses and studies of a store.

    Args:
        store: An open store.
        names: Runs, comparisons, analyses and studies. A comparison goes with its runs, except those that another
            comparison has too.

    Raises:
        StoreError: If a name is unknown, a run belongs to a comparison that stays, or a process works on one of them.
    """

    def __init__(self, store: SqliteStore, names: Sequence[str]) -> None:
        store.refuse_read_only()
        self._store = store
        self._comparisons = Comparisons(store)
        self._studies = Studies(store)
        self._names = tuple(dict.fromkeys(names))
        self._known = {row["id"] for row in store.records.whole("runs")}
        self._analyses = {row["id"] for row in store.records.whole("analyses")}
        self._members = {name: set(self._comparisons.members(name).values()) for name in self._comparisons.names()}
        self._parts = self._found()
        self._refuse()

    def loss(self) -> Loss:
        """Return what will be gone; nothing is deleted.

        Raises:
            StoreError: If a record is damaged.
        """
        store, runs = self._store, self._runs
        analyses = tuple(each for part in self._parts for each in part.analyses)
        gone, shared = self._evaluations(runs, analyses)
        found = list(store.records.by_key("evaluations", gone).values())
        files = self._kept(gone, self._gone_studies)
        raters = [rater.id for name in self._gone_studies for rater in self._studies.raters(name)]
        sizes = [_size(store.folder / IMAGES / file) for file in files]
        sizes += [_size(path) for part in self._parts for name in part.owners for path in _below(store.folder / name)]
        sizes += [len(value) for row in found for value in row.values() if isinstance(value, (str, bytes))]
        rows = [row for row in store.records.whole("runs") if row["id"] not in runs and row["parent"]]
        children = [row["id"] for row in rows if "path" not in _parent(row) and _parent(row)["run"] in runs]
        return Loss(
            names=self._names,
            runs=runs,
            num_evaluations=len(gone),
            num_shared=shared,
            num_images=sum(row["num_images"] or 0 for row in found),
            num_studies=len(self._gone_studies),
            num_answers=sum(len(self._studies.answers(rater)) for rater in raters),
            num_kept_images=len(files),
            num_bytes=sum(sizes),
            descendants=tuple(children),
            analyses=analyses,
        )

    def carry_out(self) -> Left:
        """Delete everything; a second call, also in another process, finishes one that was cut short.

        Raises:
            StoreError: If a process has begun to work on one of the runs meanwhile, or the disk fails.
        """
        store = self._store
        before = _database_size(store.folder)
        with _alone(store.folder):
            freed = 0
            for part in self._parts:
                with contextlib.ExitStack() as locks:
                    for name in part.owners:
                        locks.enter_context(store.lock(name))
                    self._forget(part)
            waiting = 0
            for note in sorted(store.folder.glob(f".*{NOTE}")):
                stayed, removed = self._finish(note)
                waiting, freed = waiting + stayed, freed + removed
            compact = not self._busy() and _compact(store)
        return Left(waiting, freed + max(0, before - _database_size(store.folder)), compact)

    @property
    def _runs(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(run for part in self._parts for run in part.runs))

    @property
    def _gone_studies(self) -> set[str]:
        return {part.name for part in self._parts if part.table == "studies"}

    def _found(self) -> list[_Part]:
        """Return what is to be deleted; a name of which only files are left is finished without a part."""
        staying = {run for other, runs in self._members.items() if other not in self._names for run in runs}
        parts, covered, studies = list[_Part](), set[str](), self._studies.names()
        for name in sorted(self._names, key=lambda name: name not in self._members):  # comparisons first
            if name in self._members:
                runs = self._members[name] - staying - covered
                covered |= runs
                parts.append(_Part(name, tuple(sorted(runs)), "comparisons"))
            elif name in self._known - covered:
                parts.append(_Part(name, (name,), "runs"))
            elif name in self._analyses:
                parts.append(_Part(name, (), "analyses"))
            elif name in studies:
                parts.append(_Part(name, (), "studies"))
            elif name not in covered and not self._note(name).exists():
                known = [*self._known, *self._members, *self._analyses, *studies]
                said = f"no run, comparison, analysis or study {name!r} in {self._store.folder}"
                raise StoreError(f"{said}; {near_misses(name, known)}")
        return parts

    def _refuse(self) -> None:
        store, runs = self._store, self._runs
        for part in self._parts:
            for name in part.owners:
                if store.locked(name):
                    raise StoreError(f"another process is working on {name}; stop it or wait for it, then delete")
        for comparison, members in self._members.items():
            if comparison not in self._names and (own := sorted(members & set(runs))):
                raise StoreError(
                    f"run {own[0]} belongs to comparison {comparison}, whose statistics need all of its runs; "
                    f"`trimpot delete {comparison}` deletes the comparison with its runs"
                )

    def _forget(self, part: _Part) -> None:
        """Delete the records of a part, after its files have been noted."""
        store, records = self._store, self._store.records
        with store._transaction():
            runs = [row for row in records.whole("runs") if row["id"] in part.runs]
            gone, _ = self._evaluations(part.runs, part.analyses)
            self._write_note(part, self._kept(gone, {part.name} if part.table == "studies" else set()))
            prompts = {run["prompts"] for run in runs if run["prompts"]}
            if part.table == "studies":
                self._forget_study(part.name)
            if part.table == "analyses":
                prompts |= {records.named("that is asked for", "analyses", id=part.name)["prompts"]} - {None}
                for row in records.whole("analysed", part.name):
                    records.delete("analysed", row)
                self._delete_owner("analyses", part.name, ("analysed",))
            if part.table == "comparisons":
                for row in records.whole("members", part.name):
                    records.delete("members", row)
                self._delete_owner("comparisons", part.name, ("members",))
            for run in runs:
                for table in ("candidates", "generations"):
                    for row in records.whole(table, run["id"]):
                        records.delete(table, row)
            for table in ("outputs", "rescores"):
                for row in records.whole(table):
                    if row["evaluation"] in set(gone):
                        records.delete(table, row)
            found = records.by_key("evaluations", gone)
            for row in found.values():
                records.delete("evaluations", row)
            for run in runs:
                self._delete_owner("runs", run["id"], ("candidates", "generations"))
            self._delete_unused("buckets", {row["bucket"] for row in found.values()}, ("evaluations",), "bucket")
            self._delete_unused("prompts", prompts, ("runs", "analyses"), "prompts")

    def _forget_study(self, name: str) -> None:
        """Delete the records of a study, and of the pictures made for it that no other study shows."""
        records = self._store.records
        alone = self._studies.files(name) - self._shown(staying_without={name})
        for rater in self._studies.raters(name):
            for row in records.whole("answers", rater.id):
                records.delete("answers", row)
            records.delete("raters", records.named("that is asked for", "raters", id=rater.id))
            tally = records.named(f"raters {rater.id!r}", "tallies", counted="answers", owner=rater.id)
            records.delete("tallies", tally)
        self._delete_owner("studies", name, ("raters",))
        for row in records.whole("pictures"):
            if row["file"] in alone:
                records.delete("pictures", row)

    def _shown(self, staying_without: Collection[str] = ()) -> set[str]:
        """Return the image files that studies show, except those of some studies."""
        return {
            file for name in self._studies.names() if name not in staying_without for file in self._studies.files(name)
        }

    def _delete_owner(self, table: str, name: str, owned: Iterable[str]) -> None:
        records = self._store.records
        for counted in owned:
            records.delete("tallies", records.named(f"{table} {name!r}", "tallies", counted=counted, owner=name))
        records.delete(table, records.named("that is asked for", table, id=name))

    def _delete_unused(self, table: str, keys: Collection[str], users: Collection[str], column: str) -> None:
        """Delete the rows with these keys that no row of other tables uses."""
        for key in sorted(keys):
            if not any(self._store._read(f"SELECT 1 FROM {user} WHERE {column} = ? LIMIT 1", (key,)) for user in users):
                self._store.records.delete(table, self._store.records.named("that is asked for", table, id=key))

    def _evaluations(self, runs: Collection[str], analyses: Collection[str]) -> tuple[list[str], int]:
        """Return the evaluations that only these runs and analyses use, and how many of theirs others use too.

        A run that was extended also uses the evaluations that it set aside; see `extensions`.
        """
        own, others = set[str](), set[str]()
        for row in self._store.records.whole("runs"):
            users = own if row["id"] in runs else others
            with decoding(self._store.path, f"runs {row['id']!r}"):
                for state in json.loads(row["extended"] or "[]"):
                    users.update(each["evaluation"] for each in state["forgotten"])
        for run in runs:
            own.update(row["evaluation"] for row in self._store.records.whole("candidates", run))
        for row in self._store._read("SELECT DISTINCT run, evaluation FROM candidates"):
            if row["run"] not in runs:
                others.add(row["evaluation"])
        for name in (row["id"] for row in self._store.records.whole("analyses")):
            users = own if name in analyses else others
            users.update(row["evaluation"] for row in self._store.records.whole("analysed", name))
        return sorted(own - others), len(own & others)

    def _kept(self, gone: Sequence[str], studies: Collection[str]) -> list[str]:
        """Return the image files that only these evaluations kept and these studies show."""
        rows, gone_ones = self._store.records.whole("outputs"), set(gone)
        kept = {row["file"] for row in rows if row["evaluation"] not in gone_ones}
        own = {row["file"] for row in rows if row["evaluation"] in gone_ones}
        shown = {file for name in studies for file in self._studies.files(name)}
        drawn = {row["file"] for row in self._store.records.whole("pictures")} - shown  # for a study that is to begin
        return sorted((own | shown) - kept - drawn - self._shown(staying_without=studies))

    def _note(self, name: str) -> Path:
        return self._store.folder / f".{name}{NOTE}"

    def _write_note(self, part: _Part, files: Sequence[str]) -> None:
        """Write which folders and image files are to be removed; a note of an earlier, failed attempt is replaced."""
        path = self._note(part.name)
        draft = path.with_name(f"{path.name}.part")
        with sentences(f"cannot write {path}"):
            with draft.open("w", encoding="utf-8") as file:
                json.dump({"owners": part.owners, "files": list(files)}, file)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)

    def _finish(self, note: Path) -> tuple[int, int]:
        """Remove the files that a note names, as far as no record names them.

        Returns:
            The number of images left because a run is being worked on, which may be about to keep the same ones; and
            the bytes removed.
        """
        store, freed = self._store, 0
        with sentences(f"cannot read {note}"):
            try:
                noted = json.loads(note.read_text(encoding="utf-8"))
                owners, files = [str(each) for each in noted["owners"]], [str(each) for each in noted["files"]]
            except (ValueError, LookupError, TypeError):
                raise StoreError(
                    f"{note} is damaged; remove that file, and by hand the folder it is named for"
                ) from None
        known = {row["id"] for table in NAMED for row in store.records.whole(table)}
        with sentences(f"cannot remove the files of {note.name.removesuffix(NOTE)[1:]}"):
            for owner in owners:
                if owner not in known and _is_name(owner):
                    freed += sum(map(_size, _below(store.folder / owner)))
                    if (store.folder / owner).is_dir():
                        shutil.rmtree(store.folder / owner)
                    store._lock_path(owner).unlink(missing_ok=True)
            rows = [row for table in ("outputs", "pictures") for row in store.records.whole(table)]
            used = {row["file"] for row in rows} | self._shown()
            unused = [store.folder / IMAGES / file for file in files if file not in used and _is_image(file)]
            present = [path for path in unused if path.exists()]
            if present and self._busy():
                return len(present), freed
            for path in present:
                freed += _size(path)
                path.unlink(missing_ok=True)
                with contextlib.suppress(OSError):  # it still holds other images
                    path.parent.rmdir()
            note.unlink(missing_ok=True)
        return 0, freed

    def _busy(self) -> bool:
        """Return whether a process works on any run or analysis of the store."""
        records = self._store.records
        return any(self._store.locked(row["id"]) for table in ("runs", "analyses") for row in records.whole(table))


def _compact(store: SqliteStore) -> bool:
    """Make the database file as small as its records; return whether that was possible."""
    try:
        store._db.conn.execute("VACUUM")
        store._db.conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.Error:  # another program reads it, or the disk has no room for the copy that SQLite makes
        return False
    return True


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    lock = FileLock(folder / ".deleting.lock")
    with sentences(f"cannot lock {folder}"):
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise StoreError(f"another process is deleting runs of {folder}; wait for it") from None
    try:
        yield
    finally:
        lock.release()


def _parent(row: Row) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(row["parent"])
    return found


def _is_name(owner: str) -> bool:
    """Return whether a name read from a note names a folder right below the store's."""
    return bool(owner) and Path(owner).name == owner and not owner.startswith(".")


def _is_image(file: str) -> bool:
    return len(Path(file).parts) == 2 and ".." not in Path(file).parts and file.endswith(".png")


def _below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()] if folder.is_dir() else []


def _size(path: Path) -> int:
    with contextlib.suppress(OSError):
        return path.lstat().st_size
    return 0


def _database_size(folder: Path) -> int:
    return sum(_size(folder / f"{FILE_NAME}{ending}") for ending in ("", "-wal"))
