"""The schema, step by step. Steps are only ever added; a file of any older version is brought up to date.

runs          one row per run: configuration, versions, identity, outcome, start, parts, and states before extensions
prompts       the prompts of runs, by fingerprint, so that a run can go on without its prompt files
buckets       prompts and seeds, by fingerprint
names         lists of knob names and of objective names, by fingerprint
evaluations   one row per setting and bucket: the score of every output by every objective; see `packed`
candidates    the place of an evaluation in a run; two runs may share an evaluation
generations   the optimizer's step size after each generation
outputs       the image files of an evaluation's kept outputs, named by content
rescores      scores of an evaluation's kept outputs by rewards added after the run
comparisons   one row per comparison of contenders: its configuration and its fingerprint
members       the run of each contender and seed of a comparison; comparisons may share a run
analyses      one row per analysis: its kind, its configuration, its fingerprint, its findings
analysed      the place of an evaluation in an analysis; runs and analyses may share an evaluation
studies       one row per human study: what is shown, and the rules that were set before
raters        the raters of a study: the token of each one's link, and the pairs in the order shown
answers       one row per rater, pair and question
pictures      pictures that were made for studies, by a digest of all that determines them
tallies       the number of rows that belong together, and the sum of their checksums; see `records`
plain_…       views for other programs; see `views`

Every row has a checksum. A step that fills a column of existing rows must compute their checksums again.
"""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from pathlib import Path

from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

from ..engine.knobs import digest
from ..ground.errors import StoreError
from .packed import Names, pack_scores, pack_setting
from .records import KEYS, Records
from .sentences import decoding
from .views import put

migrations = Migrations("trimpot")
_LATER = {"names", "analyses", "analysed", "studies", "raters", "answers", "pictures"}  # added by steps after m004


@migrations()
def m001_runs_and_evaluations(db: Database) -> None:
    """The first schema."""
    db.table("runs").create(
        {
            "id": str,
            "created": str,
            "identity": str,
            "config": str,
            "versions": str,
            "seconds": float,
            "stop_reason": str,
            "outcome": str,
            "error": str,
        },
        pk="id",
        not_null={"created", "identity", "config", "versions", "seconds"},
        defaults={"seconds": 0.0},
    )
    db.table("buckets").create({"id": str, "prompts": str, "seeds": str}, pk="id", not_null={"prompts", "seeds"})
    db.table("evaluations").create(
        {
            "key": str,
            "setting": str,
            "bucket": str,
            "num_steps": int,
            "scores": str,
            "generate_seconds": float,
            "score_seconds": float,
            "recorded": str,
        },
        pk="key",
        not_null={"setting", "bucket", "scores", "generate_seconds", "score_seconds", "recorded"},
        foreign_keys=[("bucket", "buckets", "id")],
    )
    db.table("candidates").create(
        {"run": str, "stage": str, "generation": int, "position": int, "evaluation": str, "fresh": int},
        pk=("run", "stage", "generation", "position"),
        not_null={"evaluation", "fresh"},
        foreign_keys=[("run", "runs", "id"), ("evaluation", "evaluations", "key")],
    )
    db.table("generations").create(
        {"run": str, "generation": int, "sigma": float},
        pk=("run", "generation"),
        foreign_keys=[("run", "runs", "id")],
    )


@migrations()
def m002_outputs_and_rescores(db: Database) -> None:
    """Kept images, and their scores by rewards added after the run."""
    db.table("outputs").create(
        {"evaluation": str, "position": int, "file": str},
        pk=("evaluation", "position"),
        not_null={"file"},
    )
    db.table("rescores").create(
        {"evaluation": str, "objective": str, "fingerprint": str, "scores": str, "recorded": str},
        pk=("evaluation", "objective", "fingerprint"),
        not_null={"scores", "recorded"},
        foreign_keys=[("evaluation", "evaluations", "key")],
    )


@migrations()
def m003_comparisons(db: Database) -> None:
    """Comparisons of contenders, and their runs."""
    db.table("comparisons").create(
        {"id": str, "created": str, "identity": str, "config": str},
        pk="id",
        not_null={"created", "identity", "config"},
    )
    db.table("members").create(
        {"comparison": str, "contender": str, "seed": int, "run": str},
        pk=("comparison", "contender", "seed"),
        not_null={"run"},
        foreign_keys=[("comparison", "comparisons", "id"), ("run", "runs", "id")],
    )


@migrations()
def m004_checksums_and_prompts(db: Database) -> None:
    """A checksum for every row; a run's prompts, start and library versions; whether its report is still missing."""
    path = _path(db)
    for row in db.query("SELECT * FROM buckets"):  # the only rows so far that a digest, their id, can verify
        with decoding(path, f"buckets {row['id']!r}"):
            if digest([json.loads(row["prompts"]), json.loads(row["seeds"])]) != row["id"]:
                raise ValueError("it is not what its name says")
    for column in ("prompts", "start", "continued"):
        db.execute(f"ALTER TABLE runs ADD COLUMN {column} TEXT")
    db.execute("ALTER TABLE runs ADD COLUMN unreported INTEGER")
    db.execute("ALTER TABLE candidates ADD COLUMN number INTEGER")
    numbers: Counter[str] = Counter()
    for row in list(db.query("SELECT rowid, run FROM candidates ORDER BY rowid")):
        db.execute("UPDATE candidates SET number = ? WHERE rowid = ?", [numbers[row["run"]], row["rowid"]])
        numbers[row["run"]] += 1
    db.table("prompts").create(
        {"id": str, "train": str, "validation": str, "test": str, "metadata": str},
        pk="id",
        not_null={"train", "validation", "test", "metadata"},
    )
    db.table("tallies").create(
        {"counted": str, "owner": str, "number": int, "sum": str},
        pk=("counted", "owner"),
        not_null={"number", "sum"},
    )
    tables = [table for table in KEYS if table not in _LATER]
    for table in tables:
        db.execute(f"ALTER TABLE {table} ADD COLUMN checksum TEXT")
    Records(db.conn, path).seal(tables)


@migrations()
def m005_packed_numbers(db: Database) -> None:
    """Settings and scores as bytes, the number of images of an evaluation, and the digest of a finished run.

    A damaged evaluation is left unchanged, and refused when it is read.
    """
    db.table("names").create({"id": str, "names": str, "checksum": str}, pk="id", not_null={"names"})
    for column, kind in (("knobs", "TEXT"), ("objectives", "TEXT"), ("num_images", "INTEGER")):
        db.execute(f"ALTER TABLE evaluations ADD COLUMN {column} {kind}")
    db.execute("ALTER TABLE runs ADD COLUMN digest TEXT")
    records = Records(db.conn, _path(db))
    names = Names(records)
    sizes: dict[str, int] = {}
    for (key,) in db.execute("SELECT key FROM evaluations").fetchall():
        with contextlib.suppress(StoreError, ValueError, TypeError, AttributeError):
            row = records.named("that is asked for", "evaluations", key=key)
            setting, scores = json.loads(row["setting"]), json.loads(row["scores"])
            if row["bucket"] not in sizes:
                bucket = records.named(f"evaluations {key!r}", "buckets", id=row["bucket"])
                sizes[row["bucket"]] = len(json.loads(bucket["seeds"]))
            num_images = sizes[row["bucket"]]
            records.update(
                "evaluations",
                row,
                setting=pack_setting(setting),
                scores=pack_scores(scores, num_images),
                knobs=names.keep(setting),
                objectives=names.keep(scores),
                num_images=num_images,
            )


@migrations()
def m006_descent_and_extensions(db: Database) -> None:
    """The run whose result another run started from, the fingerprints of a run's parts, and its extensions."""
    for column in ("parent", "parts", "extended"):
        db.execute(f"ALTER TABLE runs ADD COLUMN {column} TEXT")


@migrations()
def m007_views(db: Database) -> None:
    """Views that show every number in a column of its own."""
    put(db.conn)


@migrations()
def m008_analyses(db: Database) -> None:
    """Analyses, and the places of their evaluations."""
    db.table("analyses").create(
        {
            "id": str,
            "created": str,
            "identity": str,
            "kind": str,
            "config": str,
            "prompts": str,
            "versions": str,
            "seconds": float,
            "outcome": str,
            "error": str,
            "checksum": str,
        },
        pk="id",
        not_null={"created", "identity", "kind", "config", "versions", "seconds"},
        foreign_keys=[("prompts", "prompts", "id")],
    )
    db.table("analysed").create(
        {
            "analysis": str,
            "stage": str,
            "generation": int,
            "position": int,
            "number": int,
            "evaluation": str,
            "fresh": int,
            "checksum": str,
        },
        pk=("analysis", "stage", "generation", "position"),
        not_null={"number", "evaluation", "fresh"},
        foreign_keys=[("analysis", "analyses", "id"), ("evaluation", "evaluations", "key")],
    )
    Records(db.conn, _path(db)).seal(["analyses", "analysed"])


@migrations()
def m009_studies(db: Database) -> None:
    """Human studies: what is shown, who rates, what was answered, and the pictures made for them."""
    db.table("studies").create(
        {"id": str, "created": str, "identity": str, "config": str, "checksum": str},
        pk="id",
        not_null={"created", "identity", "config"},
    )
    db.table("raters").create(
        {"id": str, "study": str, "number": int, "token": str, "plan": str, "created": str, "checksum": str},
        pk="id",
        not_null={"study", "number", "token", "plan", "created"},
        foreign_keys=[("study", "studies", "id")],
    )
    db.table("answers").create(
        {
            "rater": str,
            "position": int,
            "question": str,
            "answer": str,
            "seconds": float,
            "answered": str,
            "checksum": str,
        },
        pk=("rater", "position", "question"),
        not_null={"answer", "answered"},
        foreign_keys=[("rater", "raters", "id")],
    )
    db.table("pictures").create({"key": str, "file": str, "recorded": str, "checksum": str}, pk="key")
    Records(db.conn, _path(db)).seal(("studies", "pictures"))


@migrations()
def m010_watched_prompts(db: Database) -> None:
    """The watched prompts of a run beside its other prompts, and their view."""
    db.execute("ALTER TABLE prompts ADD COLUMN watched TEXT")
    put(db.conn)


def _path(db: Database) -> Path:
    return Path(next(row["file"] for row in db.query("PRAGMA database_list") if row["name"] == "main"))
