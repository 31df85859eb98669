"""A look at a store writes nothing, waits for nobody, is in nobody's way, and sees what is there."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from pathlib import Path

import pytest
from closed_form import SMALL
from damage import edit
from sessions import Installed, interrupt
from trimpot.ground.errors import StoreError
from trimpot.runs import session
from trimpot.setup.config import load_config
from trimpot.storage import Look, SqliteStore
from trimpot.storage.database import FILE_NAME
from trimpot.storage.looking import stamp
from unwritable import unwritable
from watched import stepped

pytestmark = pytest.mark.usefixtures("short_reports")


@pytest.fixture
def folder(installed: Installed, tmp_path: Path) -> Path:
    interrupt(tmp_path / "runs")
    return tmp_path / "runs"


def files(folder: Path) -> dict[str, tuple[int, int]]:
    return {path.name: (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.iterdir()}


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM runs",
        "UPDATE runs SET error = 'x'",
        "INSERT INTO names VALUES ('a', 'b', 'c')",
        "CREATE TABLE mine (a)",
        "DROP VIEW plain_runs",
        "PRAGMA user_version = 3",
        "VACUUM",
    ],
)
@pytest.mark.parametrize("logged", [False, True])
def test_whatever_would_write_through_a_look_fails(folder: Path, statement: str, logged: bool) -> None:
    """Also while another process has the store open, when the connection is another one."""
    with contextlib.ExitStack() as others:
        if logged:
            other = others.enter_context(SqliteStore(folder))
            other.update_run("hill-1", error="noted")
        before = files(folder)
        with Look(folder) as look:
            assert look._immutable != logged
            with pytest.raises(sqlite3.OperationalError, match=r"readonly|read-only|VACUUM"):
                look._db.conn.execute(statement)
            with pytest.raises(StoreError, match="may only be read"):
                look.update_run("hill-1", error="x")
            with pytest.raises(StoreError, match="may only be read"):
                look.add_run("x", "y", {}, {})
        after = files(folder)
        shared = f"{FILE_NAME}-shm"  # what SQLite itself keeps of who reads
        assert {**after, shared: 0} == {**before, shared: 0}


def test_a_look_leaves_nothing_behind(folder: Path) -> None:
    before = files(folder)
    for _ in range(3):
        with Look(folder) as look:
            assert [row.id for row in look.runs()] == ["hill-1"]
    assert files(folder) == before


def test_a_look_sees_one_moment_while_others_write(folder: Path) -> None:
    with SqliteStore(folder) as other:
        other.update_run("hill-1", error="first")
        with Look(folder) as look:
            assert look.run("hill-1").error == "first"
            other.update_run("hill-1", error="second")
            assert look.run("hill-1").error == "first" and not look.overtaken
        with Look(folder) as look:
            assert look.run("hill-1").error == "second"


def test_a_file_that_is_changed_in_place_meanwhile_is_noticed(folder: Path) -> None:
    with Look(folder) as look:
        assert look._immutable and not look.overtaken
        with SqliteStore(folder) as other:
            other.update_run("hill-1", error="meanwhile")
        assert look.overtaken


def test_every_writing_changes_the_stamp(folder: Path) -> None:
    seen = {stamp(folder)}
    with SqliteStore(folder) as other:
        for number in range(3):
            other.update_run("hill-1", error=str(number))
            seen.add(stamp(folder))
    assert len(seen) == 4
    assert stamp(folder / "absent") == ()


def test_a_reader_that_never_ends_its_transaction_does_not_stop_a_run(
    folder: Path, tmp_path: Path, installed: Installed
) -> None:
    """And the run ends where it ends without one."""
    look = Look(folder)
    known = look.history("hill-1")
    assert session.resume("hill-1", folder) == "hill-1"
    assert look.history("hill-1") == known, "it still sees the moment at which it began"
    look.close()
    alone = session.start(load_config(SMALL), tmp_path / "alone")
    with SqliteStore(tmp_path / "alone") as one, SqliteStore(folder) as other:
        assert one.totals(alone)["digest"] == other.totals("hill-1")["digest"]


def test_two_that_look_do_not_take_each_other_for_a_run(folder: Path) -> None:
    wrong, stop = [], threading.Event()

    def looking() -> None:
        while not stop.is_set():
            with Look(folder) as look:
                wrong.extend(row.id for row in look.runs() if row.locked)

    threads = [threading.Thread(target=looking) for _ in range(3)]
    for each in threads:
        each.start()
    time.sleep(0.3)
    stop.set()
    for each in threads:
        each.join()
    assert not wrong


@pytest.mark.skipif(os.name == "nt", reason="Windows has no fcntl")
def test_whoever_looks_keeps_no_run_from_beginning(folder: Path) -> None:
    """A look holds the lock for an instant; a run that begins just then waits that long."""
    import fcntl

    with (folder / ".hill-1.lock").open("rb") as file, SqliteStore(folder) as store:
        fcntl.flock(file, fcntl.LOCK_SH)
        threading.Timer(0.05, lambda: fcntl.flock(file, fcntl.LOCK_UN)).start()
        with store.lock("hill-1"), Look(folder) as look:
            assert look.run("hill-1").locked


def test_what_is_read_piece_by_piece_is_what_is_read_at_once(installed: Installed, tmp_path: Path) -> None:
    found, number, total = [], 0, 0
    with stepped(tmp_path) as (steps, _):
        for _ in range(6):
            with Look(tmp_path) as look:
                piece = look.since("hill-1", number, total)
                assert piece is not None
                found += piece[0]
                number, total = len(found), piece[1]
                assert look.since("hill-1", number, total) == ([], total)
                assert look.since("hill-1", number, total + 1) is None, "another beginning"
                assert look.since("hill-1", number + 1, total) is None, "more than there are"
            steps.go(4)
    with Look(tmp_path) as look:
        piece = look.since("hill-1", number, total)
        assert piece is not None and found + piece[0] == look.history("hill-1")


def test_a_lost_evaluation_is_noticed_piece_by_piece(folder: Path) -> None:
    edit(folder, "DELETE FROM candidates WHERE number = 7")
    with Look(folder) as look:
        with pytest.raises(StoreError, match="lost records"):
            look.since("hill-1", 0, 0)
        assert look.since("hill-1", 8, 0) is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("DELETE FROM _sqlite_migrations WHERE name = 'm007_views'", "by an earlier trimpot; `trimpot runs --store"),
        ("UPDATE _sqlite_migrations SET name = 'm900_new' WHERE name = 'm007_views'", "newer trimpot.*m900_new"),
    ],
)
def test_a_store_of_another_version_is_a_sentence_and_stays_as_it_is(folder: Path, change: str, said: str) -> None:
    edit(folder, change)
    before = files(folder)
    with pytest.raises(StoreError, match=said):
        Look(folder)
    assert files(folder) == before


def test_a_folder_without_a_store_is_a_sentence_and_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no runs in"):
        Look(tmp_path / "absent")
    assert not (tmp_path / "absent").exists()


@pytest.mark.parametrize("logged", [False, True])
def test_a_folder_that_may_only_be_read_is_looked_at_all_the_same(folder: Path, logged: bool) -> None:
    """What is in the log alone is read from a copy."""
    with SqliteStore(folder) as other:
        other.update_run("hill-1", error="in the log")
        if not logged:
            other.close()
        with unwritable(folder) as copied, Look(copied) as look:
            assert look.run("hill-1").error == "in the log"
