"""The SQLite store.

One writer, write-ahead log, a commit for each call of the backbone. Numbers are kept as JSON with the shortest digits
that read back to the same float64, so what is found equals what was recorded, bit for bit.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from sqlite_utils import Database

from ..engine.bucket import Bucket
from ..engine.errors import StoreError, near_misses
from ..engine.evaluation import POOL, STAGES, Evaluation, Place
from ..engine.knobs import digest
from .images import read_image, write_image
from .migrations import migrations

FILE_NAME = "trimpot.sqlite"
IMAGES = "images"


@dataclass(frozen=True)
class RunRow:
    """What the store knows of a run.

    Attributes:
        id: Its name.
        created: ISO time, UTC.
        identity: Fingerprint of configuration, backbone and rewards.
        config: The configuration as it was validated.
        versions: Package versions it was begun with.
        seconds: Wall time spent on it, over all resumes.
        stop_reason: Why the search ended, or None.
        outcome: What it found, or None while it has not finished.
        error: Why it stopped last time, or None.
        locked: Whether a process is working on it now.
    """

    id: str
    created: str
    identity: str
    config: dict[str, Any]
    versions: dict[str, str]
    seconds: float
    stop_reason: str | None
    outcome: dict[str, Any] | None
    error: str | None
    locked: bool

    @property
    def status(self) -> str:
        """`running`, `finished`, `failed` or `interrupted`."""
        if self.outcome is not None:
            return "finished"
        if self.locked:
            return "running"
        return "failed" if self.error else "interrupted"


class SqliteStore:
    """Runs and evaluations in one folder: a database and a folder for each run's files.

    Args:
        folder: Where the database lies; made if absent.
        create: Whether to make the database if it is absent.

    Raises:
        StoreError: If the folder cannot be written or the file is corrupt, foreign or newer.
    """

    def __init__(self, folder: Path, *, create: bool = True) -> None:
        self.folder = folder
        self.path = folder / FILE_NAME
        if not create and not self.path.exists():
            raise StoreError(f"no runs in {folder}: {self.path} does not exist; start one with `trimpot calibrate`")
        with _sentences(f"cannot use {self.path}"):
            folder.mkdir(parents=True, exist_ok=True)
            _refuse_foreign(self.path)
            with FileLock(folder / ".trimpot.lock") if create else contextlib.nullcontext():
                self._db = Database(sqlite3.connect(self.path, timeout=30, isolation_level=None))
                self._db.conn.execute("PRAGMA journal_mode=WAL")
                self._db.conn.execute("PRAGMA synchronous=FULL")
                self._db.conn.execute("PRAGMA foreign_keys=ON")
                migrations.apply(self._db)  # under the lock: two processes may begin a store at once
            if create:
                with self._transaction():
                    pass  # a read-only file says so now, not at the first result

    def close(self) -> None:
        """Close the database."""
        self._db.conn.close()

    def __enter__(self) -> SqliteStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Runs

    def add_run(self, prefix: str, identity: str, config: Mapping[str, Any], versions: Mapping[str, str]) -> str:
        """Begin a run named `prefix-N` with the next free N, and give back its name."""
        with _sentences(f"cannot write {self.path}"), self._transaction():
            return self._insert_run(prefix, identity, config, versions)

    def _insert_run(self, prefix: str, identity: str, config: Mapping[str, Any], versions: Mapping[str, str]) -> str:
        run_id = self._free("runs", prefix)
        row = {"id": run_id, "created": _now(), "identity": identity}
        self._db.table("runs").insert({**row, "config": _dump(config), "versions": _dump(versions)})
        return run_id

    def _free(self, table: str, prefix: str) -> str:
        taken = {row["id"] for row in self._db.table(table).rows}
        return next(name for n in range(1, len(taken) + 2) if (name := f"{prefix}-{n}") not in taken)

    def run(self, run_id: str) -> RunRow:
        """Look a run up.

        Raises:
            StoreError: If there is none of this name.
        """
        rows = self._read("SELECT * FROM runs WHERE id = ?", [run_id])
        if not rows:
            known = [row["id"] for row in self._read("SELECT id FROM runs")]
            raise StoreError(f"no run {run_id!r} in {self.folder}; {near_misses(run_id, known)}")
        return self._row(rows[0])

    def runs(self) -> list[RunRow]:
        """Every run, oldest first."""
        return [self._row(row) for row in self._read("SELECT * FROM runs ORDER BY created, rowid")]

    def _row(self, row: Mapping[str, Any]) -> RunRow:
        with _decoding(row):
            return RunRow(
                id=row["id"],
                created=row["created"],
                identity=row["identity"],
                config=json.loads(row["config"]),
                versions=json.loads(row["versions"]),
                seconds=row["seconds"],
                stop_reason=row["stop_reason"],
                outcome=json.loads(row["outcome"]) if row["outcome"] else None,
                error=row["error"],
                locked=self._locked(row["id"]),
            )

    def update_run(self, run_id: str, **columns: Any) -> None:
        """Set columns of a run; mappings are kept as JSON."""
        values = {key: _dump(value) if isinstance(value, Mapping) else value for key, value in columns.items()}
        with _sentences(f"cannot write {self.path}"), self._transaction():
            self._db.table("runs").update(run_id, values)

    def run_folder(self, run_id: str) -> Path:
        """The folder of a run's files, made if absent."""
        folder = self.folder / run_id
        with _sentences(f"cannot write {folder}"):
            folder.mkdir(parents=True, exist_ok=True)
        return folder

    @contextlib.contextmanager
    def lock(self, run_id: str) -> Iterator[None]:
        """Hold a run, so that no second process works on it. The system lets go if this process dies.

        Raises:
            StoreError: If another process holds it.
        """
        lock = FileLock(self._lock_path(run_id))
        with _sentences(f"cannot lock run {run_id}"):
            try:
                lock.acquire(timeout=0)
            except Timeout:
                raise StoreError(f"another process is working on run {run_id}; wait for it or stop it") from None
        try:
            yield
        finally:
            lock.release()

    def _lock_path(self, run_id: str) -> Path:
        return self.folder / f".{run_id}.lock"

    def _locked(self, run_id: str) -> bool:
        if not self._lock_path(run_id).exists():
            return False
        lock = FileLock(self._lock_path(run_id))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return True
        except OSError:  # a read-only folder: nobody can be working in it
            return False
        lock.release()
        return False

    # Evaluations

    def recorded(self, run: str, stage: str, generation: int) -> dict[int, Evaluation]:
        """Evaluations recorded at a stage and generation of a run, by position."""
        rows = self._read(
            f"{_SELECT} WHERE run = ? AND stage = ? AND generation = ? ORDER BY position",
            [run, stage, generation],
        )
        return {row["position"]: _evaluation(row) for row in rows}

    def find(self, key: str) -> Evaluation | None:
        """An evaluation with this key, of any run."""
        rows = self._read(
            "SELECT e.*, b.prompts, b.seeds FROM evaluations e JOIN buckets b ON b.id = e.bucket WHERE key = ?",
            [key],
        )
        return next((_evaluation(row) for row in rows), None)

    def record(self, run: str, made: Sequence[tuple[Place, str, Evaluation]]) -> None:
        """Commit evaluations with their places and keys, all or none; durable when this returns."""
        with _sentences(f"cannot write {self.path}"), self._transaction():
            for place, key, evaluation in made:
                fresh = self._insert(key, evaluation)
                row = {"run": run, **place._asdict(), "evaluation": key, "fresh": int(fresh)}
                self._db.table("candidates").insert(row)

    def _insert(self, key: str, evaluation: Evaluation) -> bool:
        """Keep an evaluation and its bucket; whether it was not there yet."""
        bucket = evaluation.bucket
        row = {"id": bucket.fingerprint, "prompts": _dump(bucket.prompts), "seeds": _dump(bucket.seeds)}
        self._db.table("buckets").insert(row, ignore=True)
        if list(self._db.table("evaluations").rows_where("key = ?", [key])):
            return False
        self._db.table("evaluations").insert(
            {
                "key": key,
                "setting": _dump(evaluation.setting),
                "bucket": bucket.fingerprint,
                "num_steps": evaluation.num_steps,
                "scores": _dump(evaluation.scores),
                "generate_seconds": evaluation.generate_seconds,
                "score_seconds": evaluation.score_seconds,
                "recorded": _now(),
            }
        )
        return True

    def keep_outputs(self, key: str, outputs: Sequence[Any]) -> None:
        """Keep an evaluation's images below `images/`, by their content; once, however often they are made."""
        with _sentences(f"cannot write {self.folder / IMAGES}"):
            names = [write_image(self.folder / IMAGES, image) for image in outputs]
        rows = [{"evaluation": key, "position": position, "file": name} for position, name in enumerate(names)]
        with _sentences(f"cannot write {self.path}"), self._transaction():
            self._db.table("outputs").insert_all(rows, ignore=True)

    def outputs(self, key: str) -> list[Any]:
        """The kept images of an evaluation, in bucket order; none if they were not kept.

        Raises:
            StoreError: If a file is gone or damaged.
        """
        rows = self._read("SELECT file FROM outputs WHERE evaluation = ? ORDER BY position", [key])
        return [read_image(self.folder / IMAGES, row["file"]) for row in rows]

    def kept(self, run: str) -> list[tuple[Place, str]]:
        """Place and key of every evaluation of a run whose images were kept."""
        rows = self._read(
            "SELECT DISTINCT c.stage, c.generation, c.position, c.evaluation FROM candidates c "
            "JOIN outputs o ON o.evaluation = c.evaluation WHERE run = ? ORDER BY c.stage, c.generation, c.position",
            [run],
        )
        return [(Place(row["stage"], row["generation"], row["position"]), row["evaluation"]) for row in rows]

    def record_rescore(self, key: str, objective: str, fingerprint: str, scores: Sequence[float]) -> None:
        """Keep what a later reward gave an evaluation's kept images."""
        row = {"evaluation": key, "objective": objective, "fingerprint": fingerprint, "scores": _dump(scores)}
        with _sentences(f"cannot write {self.path}"), self._transaction():
            self._db.table("rescores").insert({**row, "recorded": _now()}, ignore=True)

    def rescore(self, key: str, objective: str, fingerprint: str) -> tuple[float, ...] | None:
        """What a later reward gave an evaluation's kept images, if it has scored them."""
        rows = self._read(
            "SELECT scores FROM rescores WHERE evaluation = ? AND objective = ? AND fingerprint = ?",
            [key, objective, fingerprint],
        )
        return next((tuple(json.loads(row["scores"])) for row in rows), None)

    def rescores(self, run: str) -> dict[tuple[str, str], dict[Place, tuple[float, ...]]]:
        """What later rewards gave the kept images of a run: reward and fingerprint to scores by place."""
        rows = self._read(
            "SELECT r.*, c.stage, c.generation, c.position FROM rescores r "
            "JOIN candidates c ON c.evaluation = r.evaluation WHERE run = ? ORDER BY r.recorded",
            [run],
        )
        found: dict[tuple[str, str], dict[Place, tuple[float, ...]]] = {}
        for row in rows:
            place = Place(row["stage"], row["generation"], row["position"])
            found.setdefault((row["objective"], row["fingerprint"]), {})[place] = tuple(json.loads(row["scores"]))
        return found

    def record_generation(self, run: str, generation: int, sigma: float | None) -> None:
        """Keep the step size after a generation; once, however often a run is replayed."""
        with _sentences(f"cannot write {self.path}"), self._transaction():
            self._db.table("generations").insert({"run": run, "generation": generation, "sigma": sigma}, ignore=True)

    def sigmas(self, run: str) -> dict[int, float | None]:
        """Generation to the optimizer's step size after it."""
        rows = self._read("SELECT * FROM generations WHERE run = ? ORDER BY generation", [run])
        return {row["generation"]: row["sigma"] for row in rows}

    def evaluations(self, run: str) -> Iterator[tuple[Place, Evaluation]]:
        """Every evaluation of a run with its place, in the order of stages, generations and positions."""
        stages = [name for stage in STAGES for name in (stage + POOL, stage)]
        order = " ".join(f"WHEN '{stage}' THEN {number}" for number, stage in enumerate(stages))
        rows = self._read(f"{_SELECT} WHERE run = ? ORDER BY CASE stage {order} END, generation, position", [run])
        for row in rows:
            yield Place(row["stage"], row["generation"], row["position"]), _evaluation(row)

    def totals(self, run: str) -> dict[str, Any]:
        """What a run amounts to.

        Returns:
            `digest` of all settings and scores in order, `num_evaluations`, `num_images`, and the seconds
            spent generating and scoring what this run did not find in the store.
        """
        entries = []
        num_images = 0
        for place, evaluation in self.evaluations(run):
            num_images += evaluation.num_images
            entries.append([*place, sorted(evaluation.setting.items()), evaluation.bucket.fingerprint,
                            {name: list(scores) for name, scores in evaluation.scores.items()}])  # fmt: skip
        [seconds] = self._read(
            "SELECT total(generate_seconds) AS generate, total(score_seconds) AS score "
            "FROM candidates JOIN evaluations ON key = evaluation WHERE run = ? AND fresh",
            [run],
        )
        return {
            "digest": digest(entries),
            "num_evaluations": len(entries),
            "num_images": num_images,
            "generate_seconds": seconds["generate"],
            "score_seconds": seconds["score"],
        }

    def _read(self, query: str, values: Sequence[str | int] = ()) -> list[dict[str, Any]]:
        with _sentences(f"cannot read {self.path}"):
            return list(self._db.query(query, list(values)))

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.conn.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.conn.execute("ROLLBACK")
            raise
        self._db.conn.execute("COMMIT")


_SELECT = (
    "SELECT c.stage, c.generation, c.position, e.*, b.prompts, b.seeds FROM candidates c "
    "JOIN evaluations e ON e.key = c.evaluation JOIN buckets b ON b.id = e.bucket"
)


def _evaluation(row: Mapping[str, Any]) -> Evaluation:
    """Rebuild an evaluation; weights belong to the run and are set by whoever asks."""
    with _decoding(row):
        scores = {name: tuple(values) for name, values in json.loads(row["scores"]).items()}
        return Evaluation(
            setting=json.loads(row["setting"]),
            bucket=Bucket(tuple(json.loads(row["prompts"])), tuple(json.loads(row["seeds"]))),
            num_steps=row["num_steps"],
            scores=scores,
            weights=dict.fromkeys(scores, 1.0),
            generate_seconds=row["generate_seconds"],
            score_seconds=row["score_seconds"],
        )


def _refuse_foreign(path: Path) -> None:
    """Refuse, untouched, a file that is not ours."""
    if not path.exists() or path.stat().st_size == 0:
        return
    with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        tables = {name for (name,) in names if not name.startswith("sqlite_")}
        applied = set()
        if "_sqlite_migrations" in tables:
            steps = connection.execute("SELECT name FROM _sqlite_migrations WHERE migration_set = 'trimpot'")
            applied = {name for (name,) in steps}
    if tables - {"_sqlite_migrations"} and not applied:  # with no tables at all, a process died as it made the file
        raise StoreError(f"{path} is a database of something else; choose another folder with --store")
    known = {migration.name for migration in migrations._migrations}
    if newer := sorted(applied - known):
        raise StoreError(f"{path} was written by a newer trimpot (schema step {newer[0]}); upgrade trimpot")


@contextlib.contextmanager
def _sentences(what: str) -> Iterator[None]:
    """Turn what the disk or SQLite says into one sentence."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        hint = "it is corrupt or no SQLite database" if type(error) is sqlite3.DatabaseError else str(error)
        raise StoreError(f"{what}: {hint}") from error
    except UnicodeDecodeError as error:  # SQLite's own complaint quotes damaged text
        raise StoreError(f"{what}: it is corrupt") from error
    except OSError as error:
        raise StoreError(f"{what}: {error.strerror}") from error


@contextlib.contextmanager
def _decoding(row: Mapping[str, Any]) -> Iterator[None]:
    """Turn a row that SQLite reads and nobody can understand into one sentence."""
    try:
        yield
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        name = row.get("key", row.get("id"))
        raise StoreError(f"the record {name!r} of the store is damaged ({error}); restore the file") from error


def _dump(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="microseconds")
