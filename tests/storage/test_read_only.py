"""Stores that may only be read: everything of them is read, and what cannot be done is said before it is begun."""

from __future__ import annotations

import fcntl
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from closed_form import Notes, hill_run
from damage import told
from trimpot.engine.loop import calibrate
from trimpot.ground.errors import StoreError
from trimpot.storage import Comparisons, SqliteStore
from trimpot.storage.database import FILE_NAME
from unwritable import unwritable

ASSETS = Path(__file__).parent / "assets"


def _finished(folder: Path) -> None:
    with SqliteStore(folder) as store:
        run = store.add_run("hill", "identity", {}, {})
        with store.working_on(run):
            calibrate(hill_run(run_id=run), store, Notes())


def _with_log(folder: Path, *others: str) -> None:
    """As a process leaves it that was killed: what it wrote last is in the log only."""
    _finished(folder / "whole")
    whole = folder / "whole" / FILE_NAME
    with SqliteStore(whole.parent) as store:
        store.update_run("hill-1", stop_reason="only the log knows")
        for ending in ("", "-wal", *others):
            shutil.copy(f"{whole}{ending}", folder / f"{FILE_NAME}{ending}")
    shutil.rmtree(folder / "whole")


def _with_log_alone(folder: Path) -> None:
    _with_log(folder)


def _with_log_and_index(folder: Path) -> None:
    _with_log(folder, "-shm")


def _with_an_empty_log(folder: Path) -> None:
    _finished(folder)
    (folder / f"{FILE_NAME}-wal").touch()


def _of_another_journal(folder: Path) -> None:
    _finished(folder)
    with sqlite3.connect(folder / FILE_NAME) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
    connection.close()


def _of_an_older_schema(folder: Path) -> None:
    shutil.copy(ASSETS / "schema-1.sqlite", folder / FILE_NAME)


STATES = [_finished, _with_log_alone, _with_log_and_index, _with_an_empty_log, _of_another_journal, _of_an_older_schema]


@pytest.mark.parametrize("make", STATES, ids=lambda make: make.__name__.strip("_"))
def test_a_store_that_may_only_be_read_is_read_whole(make: Callable[[Path], None], tmp_path: Path) -> None:
    folder = tmp_path / "store"
    folder.mkdir()
    make(folder)
    with unwritable(folder) as locked:
        before = {path.name: path.read_bytes() for path in locked.iterdir()}
        found = told(locked)
        assert {path.name: path.read_bytes() for path in locked.iterdir()} == before
    assert not isinstance(found, StoreError), found
    assert found == told(folder)
    if make in (_with_log_alone, _with_log_and_index):
        assert found["run hill-1"]["stop_reason"] == "only the log knows"


def test_what_would_write_says_in_a_sentence_that_it_cannot(tmp_path: Path) -> None:
    _finished(tmp_path / "store")
    with unwritable(tmp_path / "store") as locked, SqliteStore(locked, create=False) as store:
        assert store.read_only
        for write in (
            lambda: store.add_run("hill", "identity", {}, {}),
            lambda: store.update_run("hill-1", error=None),
            lambda: store.record("hill-1", []),
            lambda: store.record_generation("hill-1", 9, None),
            lambda: store.record_rescore("key", "reward", "f00d", [1.0]),
            lambda: store.record_outputs("key", []),
            lambda: store.lock("hill-1").__enter__(),
            lambda: store.run_folder("hill-1"),
            lambda: Comparisons(store).add("night", "identity", {}),
        ):
            with pytest.raises(StoreError, match=r"may only be read here; `trimpot backup DESTINATION --store "):
                write()


def test_a_store_that_must_be_written_says_so_before_any_work(tmp_path: Path) -> None:
    _finished(tmp_path / "store")
    with unwritable(tmp_path / "store") as locked, pytest.raises(StoreError, match=f"cannot use {locked / FILE_NAME}"):
        SqliteStore(locked)


def test_a_run_that_somebody_works_on_is_running_for_those_who_may_only_read(tmp_path: Path) -> None:
    _finished(tmp_path / "store")
    with SqliteStore(tmp_path / "store") as store:
        store.add_run("hill", "identity", {}, {})
        with store.lock("hill-2"):
            pass
    with unwritable(tmp_path / "store") as locked, (locked / ".hill-2.lock").open("rb") as lock:
        for held in (True, False):
            fcntl.flock(lock, fcntl.LOCK_EX if held else fcntl.LOCK_UN)
            with SqliteStore(locked, create=False) as store:
                assert store.run("hill-2").status == ("running" if held else "interrupted")
