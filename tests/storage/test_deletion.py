"""Deleting runs: what only they have goes, what others use stays, and a death in the middle harms nothing."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from damage import told
from PIL import Image
from sessions import HELPERS
from trimpot.ground.errors import StoreError
from trimpot.runs import session
from trimpot.setup.config import load_config
from trimpot.storage import Comparisons, SqliteStore
from trimpot.storage.database import FILE_NAME
from trimpot.storage.deletion import Deletion
from unwritable import unwritable

CONFIG = {
    "adapter": {"name": "sphere", "num_knobs": 4},
    "objectives": "value",
    "prompts": "numbers",
    "optimizer": {"name": "cma-es", "population_size": 4},
    "generations": 2,
    "validation": {"num_prompts": 4},
    "test": {"num_prompts": 8},
    "bucket_size": 2,
}
PICTURES = {"sphere-1": (5, 6), "sphere-2": (6, 7)}  # sizes of the kept images; one picture is kept by both


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs that share what does not depend on the search's seed, a third that has all of the first's."""
    folder = tmp_path_factory.mktemp("deletion") / "runs"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trimpot.reports.write_report", lambda store, run, files: files.report.write_text(run))
        for change in ({}, {"seed": 1}, {"name": "again"}):
            session.start(load_config({**CONFIG, **change}), folder)
        longer = load_config({**CONFIG, "name": "child", "start": str(folder / "sphere-1" / "calibration.json")})
        session.start(longer, folder)
    with SqliteStore(folder) as store:
        for run, sizes in PICTURES.items():
            key = _own(store, run)
            store.record_outputs(key, store.keeper([Image.new("RGB", (size, size)) for size in sizes]))
            store.record_rescore(key, "later", "f00d", [0.5, 0.25])
    return folder


def _own(store: SqliteStore, run: str) -> str:
    """An evaluation that belongs to the search of a run."""
    return str(store.records.read("candidates", run=run, stage="search", generation=1, position=0)[0]["evaluation"])


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "runs")
    return tmp_path / "runs"


def delete(folder: Path, *names: str) -> Any:
    with SqliteStore(folder, create=False) as store:
        deletion = Deletion(store, names)
        loss = deletion.loss()
        deletion.carry_out()
    return loss


def of(run: str, found: Any) -> dict[str, Any]:
    """What a store says of one run."""
    assert not isinstance(found, StoreError), found
    return {key: value for key, value in found.items() if key.split()[-1] == run}


def images(folder: Path) -> int:
    return len(list((folder / "images").rglob("*.png")))


def test_what_only_the_run_has_goes_and_all_else_stays(folder: Path) -> None:
    before, size = told(folder), (folder / FILE_NAME).stat().st_size
    loss = delete(folder, "sphere-2")
    after = told(folder)
    for run in ("sphere-1", "again-1", "child-1"):
        assert of(run, after) == of(run, before)
    assert not of("sphere-2", after)
    assert not (folder / "sphere-2").exists() and not (folder / ".sphere-2.lock").exists()
    assert not list(folder.glob(".*.deleting"))
    assert images(folder) == 2  # of three: one was its own
    assert (loss.num_kept_images, loss.descendants) == (1, ())
    assert loss.num_shared and loss.num_evaluations and loss.num_images > loss.num_evaluations
    assert (folder / FILE_NAME).stat().st_size < size
    with closing(sqlite3.connect(folder / FILE_NAME)) as connection:
        for table, column in (("candidates", "run"), ("generations", "run"), ("tallies", "owner"), ("runs", "id")):
            query = f"SELECT count(*) FROM {table} WHERE {column} = 'sphere-2'"
            assert connection.execute(query).fetchone() == (0,), table
        [[stray]] = connection.execute(
            "SELECT count(*) FROM evaluations WHERE key NOT IN (SELECT evaluation FROM candidates)"
        )
        [[bucket]] = connection.execute("SELECT count(*) FROM buckets WHERE id NOT IN (SELECT bucket FROM evaluations)")
        assert (stray, bucket) == (0, 0)
        assert connection.execute("PRAGMA freelist_count").fetchone() == (0,)
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []


def test_a_run_whose_every_evaluation_another_one_has_takes_nothing_with_it(folder: Path) -> None:
    before = told(folder)
    loss = delete(folder, "again-1")
    assert (loss.num_evaluations, loss.num_images, loss.num_kept_images) == (0, 0, 0)
    assert of("sphere-1", told(folder)) == of("sphere-1", before)


def test_all_runs_can_go_at_once_and_the_store_is_as_new(folder: Path) -> None:
    loss = delete(folder, "sphere-1", "again-1", "sphere-2", "child-1", "sphere-1")
    assert loss.num_shared == 0
    assert told(folder) == {}
    assert images(folder) == 0
    with closing(sqlite3.connect(folder / FILE_NAME)) as connection:
        for table in ("runs", "prompts", "buckets", "evaluations", "candidates", "generations", "outputs", "rescores"):
            assert connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,), table
    with SqliteStore(folder) as store:
        assert store.unknown_folders() == ""


def test_a_run_goes_on_though_the_one_it_began_at_is_gone(folder: Path, short_reports: None) -> None:
    before = of("child-1", told(folder))
    assert delete(folder, "sphere-1").descendants == ("child-1",)
    assert of("child-1", told(folder)) == before
    session.resume("child-1", folder, overrides=["generations=+1"])
    with SqliteStore(folder, create=False) as store:
        parent = store.run("child-1").parent
        assert parent and parent["run"] == "sphere-1"
        assert store.add_run("sphere", "identity", {}, {}) == "sphere-3"  # the name of a parent is not given again


def test_evaluations_that_an_extended_run_set_aside_stay_for_it_and_go_with_it(
    folder: Path, short_reports: None
) -> None:
    session.resume("again-1", folder, overrides=["generations=+1"])
    with SqliteStore(folder, create=False) as store:
        aside = {each["evaluation"] for each in store.run("again-1").extended[0]["forgotten"]}
    delete(folder, "sphere-1", "child-1")
    with SqliteStore(folder, create=False) as store:
        assert aside and all(store.find(key) for key in aside)
    delete(folder, "again-1", "sphere-2")
    with SqliteStore(folder, create=False) as store:
        assert not any(store.find(key) for key in aside)


def test_a_member_goes_with_its_comparison_only(folder: Path) -> None:
    with SqliteStore(folder) as store:
        comparisons = Comparisons(store)
        for name, runs in (("night", ("sphere-1", "sphere-2")), ("day", ("sphere-1",))):
            begun = comparisons.add(name, "identity", {})
            (folder / begun).mkdir()
            for seed, run in enumerate(runs):
                comparisons.join(begun, "random", seed, run)
    with pytest.raises(StoreError, match=r"sphere-2 belongs to comparison night-1, .*`trimpot delete night-1`"):
        delete(folder, "sphere-2")
    assert delete(folder, "night-1").runs == ("sphere-2",)  # the other one belongs to another night's day
    assert not (folder / "night-1").exists()
    with SqliteStore(folder, create=False) as store:
        assert [row.id for row in store.runs()] == ["sphere-1", "again-1", "child-1"]
        assert Comparisons(store).names() == ["day-1"]
    assert delete(folder, "sphere-1", "day-1").runs == ("sphere-1",)


def test_what_cannot_be_deleted_is_said_before_anything_goes(folder: Path) -> None:
    before = told(folder)
    for names, said in (
        (["sphere-1", "spher-2"], r"no run, comparison, analysis or study 'spher-2' in .*did you mean 'sphere-2'"),
        ([""], "no run, comparison, analysis or study ''"),
        (["../runs"], "no run, comparison, analysis or study '../runs'"),
        (["images"], "no run, comparison, analysis or study 'images'"),
    ):
        with pytest.raises(StoreError, match=said):
            delete(folder, *names)
    busy = pytest.raises(StoreError, match="another process is working on sphere-2")
    with SqliteStore(folder) as store, store.lock("sphere-2"), busy:
        delete(folder, "sphere-1", "sphere-2")
    with unwritable(folder) as locked, pytest.raises(StoreError, match="may only be read here"):
        delete(locked, "sphere-1")
    assert told(folder) == before


def test_a_damaged_run_is_not_deleted_by_guess(folder: Path) -> None:
    with closing(sqlite3.connect(folder / FILE_NAME)) as connection, connection:
        connection.execute("UPDATE candidates SET fresh = 2 WHERE run = 'sphere-2' AND stage = 'test'")
    with pytest.raises(StoreError, match="is damaged"):
        delete(folder, "sphere-2")
    assert (folder / "sphere-2").exists()


def test_images_wait_until_no_run_may_be_about_to_keep_the_same_ones(folder: Path) -> None:
    with SqliteStore(folder, create=False) as store:
        with SqliteStore(folder) as other, other.lock("sphere-1"):
            left = Deletion(store, ["sphere-2"]).carry_out()
            assert (left.num_kept_images, left.compact, images(folder)) == (1, False, 3)
            assert not (folder / "sphere-2").exists()
        left = Deletion(store, ["sphere-2"]).carry_out()
        assert (left.num_kept_images, left.compact, images(folder)) == (0, True, 2)
        with pytest.raises(StoreError, match="no run, comparison, analysis or study 'sphere-2'"):
            Deletion(store, ["sphere-2"])


def test_a_note_names_nothing_outside_of_the_store(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "a.png").touch()
    note = '{"owners": ["../precious", "", ".", "..", "/"], "files": ["../../precious/a.png", "../precious/a.png"]}'
    (folder / ".evil.deleting").write_text(note)
    delete(folder, "sphere-2")
    assert (tmp_path / "precious" / "a.png").exists() and (folder / FILE_NAME).exists()
    (folder / ".evil.deleting").write_text("{")
    with pytest.raises(StoreError, match="is damaged; remove that file"):
        delete(folder, "sphere-1")


DYING = """
import os, shutil, sys
from pathlib import Path
from damage import told
from trimpot.storage import SqliteStore, deletion
from trimpot.storage.records import Records

source, work = Path(sys.argv[1]), Path(sys.argv[2])

def delete(folder):
    with SqliteStore(folder, create=False) as store:
        deletion.Deletion(store, ["sphere-2"]).carry_out()

def dies(folder, left):
    child = os.fork()
    if not child:
        def deadly(owner, name):
            real = getattr(owner, name)
            def wrapper(*given, **named):
                nonlocal left
                left -= 1
                if left < 0:
                    os._exit(9)
                return real(*given, **named)
            setattr(owner, name, wrapper)
        for owner, name in ((Records, "delete"), (deletion.os, "fsync"), (Path, "replace"), (Path, "unlink"),
                            (deletion.shutil, "rmtree"), (os, "unlink"), (Path, "rmdir"), (deletion, "_compact")):
            deadly(owner, name)
        delete(folder)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

def files(folder):
    found = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    return [name for name in found if not name.endswith((".lock", "-wal", "-shm"))]

before = told(source)
whole = work / "whole"
shutil.copytree(source, whole)
delete(whole)
expected = told(whole), files(whole)
steps = kept = 0
while True:
    folder = work / str(steps)
    shutil.copytree(source, folder)
    status = dies(folder, steps)
    assert status in (0, 9), status
    found = told(folder)
    assert isinstance(found, dict), found
    assert found in (before, expected[0])
    with SqliteStore(folder, create=False) as store:
        said = store.unknown_folders()
        assert not said or "`trimpot delete sphere-2` finishes it" in said, said
    kept += found == before
    if files(folder) != expected[1] or found == before:
        delete(folder)
    assert (told(folder), files(folder)) == expected, steps
    shutil.rmtree(folder)
    if status == 0:
        break
    steps += 1
assert 3 < kept < steps - 3, (kept, steps)  # deaths on either side of the commit
print(steps)
"""


def test_a_death_anywhere_leaves_a_store_that_is_read_and_a_deletion_that_can_be_repeated(
    made: Path, tmp_path: Path
) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [HELPERS, os.environ.get("PYTHONPATH")]))}
    done = subprocess.run(
        [sys.executable, "-c", DYING, str(made), str(tmp_path)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 20
