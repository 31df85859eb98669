"""Names of runs are names of folders: they fit any file system, and nothing is ever overwritten."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from trimpot.ground.errors import StoreError
from trimpot.storage import Comparisons, SqliteStore
from trimpot.storage.database import FILE_NAME
from trimpot.storage.names import RESERVED, free_name


@pytest.mark.parametrize(
    ("prefix", "name"),
    [
        ("shapes", "shapes-1"),
        ("org/model:v2", "org-model-v2-1"),
        ("../../etc", "etc-1"),
        (".hidden", "hidden-1"),
        ("", "run-1"),
        ("ünï", "n-1"),
        ("con", "run-con-1"),
        ("NUL.txt", "run-NUL.txt-1"),
        ("x" * 300, "x" * 200 + "-1"),
        ("images", "images-1"),
        (FILE_NAME, f"{FILE_NAME}-1"),
    ],
)
def test_any_prefix_becomes_a_name_that_a_folder_can_have(tmp_path: Path, prefix: str, name: str) -> None:
    with SqliteStore(tmp_path) as store:
        assert store.add_run(prefix, "identity", {}, {}) == name
        assert store.run_folder(name).parent == tmp_path
        with store.lock(name):
            assert store.run(name).status == "running"
        assert [row.id for row in store.runs()] == [name]
    assert len(f".{name}.lock".encode()) < 247


def test_names_of_windows_devices_are_never_whole_names() -> None:
    for device in RESERVED:
        for name in (free_name(device, []), free_name(f"{device.upper()}.x", [])):
            assert name.partition(".")[0].casefold() not in RESERVED


def test_names_do_not_differ_in_case_only(tmp_path: Path) -> None:
    with SqliteStore(tmp_path) as store:
        assert [store.add_run(prefix, "i", {}, {}) for prefix in ("Night", "night", "NIGHT")] == [
            "Night-1",
            "night-2",
            "NIGHT-3",
        ]


def test_runs_and_comparisons_share_no_name_for_they_share_a_folder(tmp_path: Path) -> None:
    with SqliteStore(tmp_path) as store:
        names = [Comparisons(store).add("night", "i", {}), store.add_run("night", "i", {}, {})]
        assert names == ["night-1", "night-2"]
        assert Comparisons(store).add("night", "i", {}) == "night-3"


def test_what_lies_in_the_folder_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "night-1").mkdir()
    (tmp_path / "night-1" / "calibration.json").write_text("precious")
    with SqliteStore(tmp_path) as store:
        assert store.add_run("night", "i", {}, {}) == "night-2"


def test_a_run_of_older_days_whose_name_no_folder_can_have_does_not_hide_the_others(tmp_path: Path) -> None:
    long = "x" * 260 + "-1"
    with SqliteStore(tmp_path) as store:
        store.add_run("night", "i", {}, {})
        with store._transaction():
            store.records.insert(
                "runs", {"id": long, "created": "2020", "identity": "i", "config": "{}", "versions": "{}", "seconds": 0}
            )
        assert [row.id for row in store.runs()] == [long, "night-1"]
        assert [row.status for row in store.runs()] == ["interrupted", "interrupted"]
        with pytest.raises(StoreError, match="File name too long"):
            store.run_folder(long)
        with pytest.raises(StoreError, match="File name too long"), store.lock(long):
            pass


def test_folders_that_the_database_does_not_know_are_said(tmp_path: Path) -> None:
    """As when it was copied without its -wal file."""
    for name in ("night-1", "night-2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "calibration.json").write_text(json.dumps({}))
    (tmp_path / "notes").mkdir()
    with SqliteStore(tmp_path) as store:
        assert "results of night-1 and 1 more" in store.unknown_folders()
        assert "`trimpot backup` copies a store whole" in store.unknown_folders()
        with pytest.raises(StoreError, match="copied without its -wal file"):
            store.run("night-1")
