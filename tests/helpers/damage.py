"""Damage to files, as disks and copies do it; and everything that a store says, to hold it against what it said."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any

from trimpot.ground.errors import StoreError
from trimpot.storage import Analyses, Comparisons, SqliteStore, Studies
from trimpot.storage.database import FILE_NAME


def flip(content: bytes, generator: Random) -> bytes:
    """The same with one byte, anywhere, changed to any other; seldom one of the many that are zero."""
    damaged, at = bytearray(content), 0
    for _ in range(10):
        at = generator.randrange(len(content))
        if content[at]:
            break
    damaged[at] ^= generator.randrange(1, 256)
    return bytes(damaged)


def mutate(content: bytes, generator: Random) -> bytes:
    """The same with a byte flipped, a stretch overwritten, taken out, doubled or zeroed, or the end cut off."""
    kind = generator.choice(["flip", "flip", "bits", "overwrite", "zero", "remove", "double", "cut"])
    if kind == "flip":
        return flip(content, generator)
    start = generator.randrange(len(content))
    end = start + generator.choice([1, 2, 20, 400, 4096])
    stretch = content[start:end]
    if kind == "bits":
        return content[:start] + bytes([content[start] ^ (1 << generator.randrange(8))]) + content[start + 1 :]
    if kind == "cut":
        return content[:start]
    new = {"overwrite": generator.randbytes(len(stretch)), "zero": bytes(len(stretch)), "remove": b""}
    return content[:start] + new.get(kind, stretch + stretch) + content[end:]


def put(folder: Path, content: bytes) -> None:
    """Make it the folder's database, with no log beside it."""
    for leftover in folder.glob(f"{FILE_NAME}*"):
        leftover.unlink()
    (folder / FILE_NAME).write_bytes(content)


def edit(folder: Path, change: str) -> None:
    """Execute one SQL statement on the folder's database, as another program would."""
    with contextlib.closing(sqlite3.connect(folder / FILE_NAME)) as connection:
        connection.execute(change)
        connection.commit()


def told(folder: Path) -> dict[str, Any] | StoreError:
    """Everything that can be read of a store, or the sentence with which it refuses."""
    try:
        with SqliteStore(folder, create=False) as store:
            return dict(_everything(store))
    except StoreError as error:
        assert "\n" not in str(error), error
        return error


def _everything(store: SqliteStore) -> Iterator[tuple[str, Any]]:
    for row in store.runs():
        run = row.id
        yield f"run {run}", asdict(row)
        yield f"totals of {run}", store.totals(run)
        yield f"work of {run}", store.work(run)
        yield f"checks of {run}", [place for place, _ in store.evaluations(run, ("validation",))]
        yield f"evaluations of {run}", [(place, _exact(each)) for place, each in store.evaluations(run)]
        yield f"first generation of {run}", list(store.recorded(run, "search", 0))
        yield f"sigmas of {run}", store.sigmas(run)
        yield f"kept of {run}", store.kept(run)
        yield f"rescores of {run}", store.rescores(run)
        yield f"prompts of {run}", store.prompts(run)
        yield f"steps of {run}", Comparisons(store).steps(run)
    comparisons = Comparisons(store)
    for name in comparisons.names():
        yield f"comparison {name}", (comparisons.get(name), comparisons.members(name))
    studies = Studies(store)
    for name in studies.names():
        raters = studies.raters(name)
        yield f"study {name}", (studies.get(name), raters, [studies.answers(rater.id) for rater in raters])
    if drawn := sorted(store.records.whole("pictures"), key=lambda row: str(row["key"])):
        yield "pictures", drawn
    analyses = Analyses(store)
    for name in analyses.names():
        yield f"analysis {name}", (analyses.get(name), analyses.prompts(name), analyses.history(name))


def _exact(evaluation: Any) -> list[Any]:
    return [evaluation, evaluation.generate_seconds, evaluation.score_seconds]
