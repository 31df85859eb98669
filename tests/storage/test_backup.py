"""A backup holds everything, also what only the write-ahead log knows, and is refused of what is damaged."""

from __future__ import annotations

import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from closed_form import Notes, hill_run
from damage import flip, told
from PIL import Image
from trimpot.engine.loop import calibrate
from trimpot.ground.errors import StoreError
from trimpot.storage import SqliteStore
from trimpot.storage.backup import back_up
from trimpot.storage.database import FILE_NAME
from unwritable import unwritable


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A store with a run, its files and an image."""
    folder = tmp_path / "runs"
    with SqliteStore(folder) as store:
        run = store.add_run("hill", "identity", {}, {})
        calibrate(hill_run(run_id=run), store, Notes())
        (store.run_folder(run) / "calibration.json").write_text("{}")
        [row] = store.records.read("candidates", stage="reference")
        store.record_outputs(row["evaluation"], store.keeper([Image.new("RGB", (size, size)) for size in (7, 8, 9)]))
    return folder


def test_a_backup_says_what_the_store_says_while_that_is_written_to(folder: Path, tmp_path: Path) -> None:
    with SqliteStore(folder) as store:
        store._db.conn.execute("PRAGMA wal_autocheckpoint=0")
        store.update_run("hill-1", stop_reason="only the log knows")
        back_up(store, tmp_path / "backup")
    assert sorted(path.name for path in (tmp_path / "backup").iterdir()) == ["hill-1", "images", FILE_NAME]
    shutil.move(tmp_path / "backup" / FILE_NAME, tmp_path / "carried.sqlite")  # one file is enough
    shutil.move(tmp_path / "carried.sqlite", tmp_path / "backup" / FILE_NAME)
    assert told(tmp_path / "backup") == told(folder)
    with SqliteStore(tmp_path / "backup") as copy:
        assert copy.run("hill-1").stop_reason == "only the log knows"
        [row] = copy.records.read("candidates", stage="reference")
        assert [image.size for image in copy.outputs(row["evaluation"])] == [(7, 7), (8, 8), (9, 9)]
        assert (copy.run_folder("hill-1") / "calibration.json").read_text() == "{}"


def test_images_may_be_left_out(folder: Path, tmp_path: Path) -> None:
    with SqliteStore(folder) as store:
        back_up(store, tmp_path / "backup", images=False)
    assert not (tmp_path / "backup" / "images").exists()


def test_a_store_that_may_only_be_read_is_backed_up(folder: Path, tmp_path: Path) -> None:
    expected = told(folder)
    tmp_path.chmod(0o755)
    with unwritable(folder) as locked, SqliteStore(locked, create=False) as store:
        target = Path(locked.parent) / "never"
        with pytest.raises(StoreError, match=f"cannot write {target}"):
            back_up(store, target)
    with SqliteStore(folder, create=False) as store:
        back_up(store, tmp_path / "backup")
    assert told(tmp_path / "backup") == expected


@pytest.mark.parametrize("there", ["a file", "a folder with something"])
def test_nothing_is_overwritten(folder: Path, tmp_path: Path, there: str) -> None:
    target = tmp_path / "backup"
    if there == "a file":
        target.write_text("precious")
    else:
        target.mkdir()
        (target / "precious").touch()
    with SqliteStore(folder) as store, pytest.raises(StoreError, match="holds something already"):
        back_up(store, target)


def test_a_damaged_store_is_not_backed_up_as_if_it_were_sound(folder: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(folder / FILE_NAME)) as connection, connection:
        connection.execute("UPDATE evaluations SET scores = zeroblob(length(scores))")
    with SqliteStore(folder) as store, pytest.raises(StoreError, match="the record evaluations"):
        back_up(store, tmp_path / "backup")
    assert not (tmp_path / "backup").exists()


def test_the_file_itself_is_whole_once_a_store_is_closed_or_a_run_has_ended(folder: Path, tmp_path: Path) -> None:
    with SqliteStore(folder) as store, SqliteStore(folder) as _another:
        store.update_run("hill-1", stop_reason="said last")
        store.settle()
        (tmp_path / "copy").mkdir()
        shutil.copy(folder / FILE_NAME, tmp_path / "copy")
    with SqliteStore(tmp_path / "copy") as copy:
        assert copy.run("hill-1").stop_reason == "said last"


def test_a_flipped_backup_is_refused_as_any_store_is(folder: Path, tmp_path: Path) -> None:
    with SqliteStore(folder) as store:
        back_up(store, tmp_path / "backup")
    path = tmp_path / "backup" / FILE_NAME
    content, expected, generator = path.read_bytes(), told(tmp_path / "backup"), random.Random(0)
    for _ in range(40):
        path.write_bytes(flip(content, generator))
        found = told(tmp_path / "backup")
        assert isinstance(found, StoreError) or found == expected
        for leftover in path.parent.glob(f"{FILE_NAME}-*"):
            leftover.unlink()
