"""A store on a network file system is said, once."""

from __future__ import annotations

import warnings
from collections import namedtuple
from pathlib import Path

import psutil
import pytest
from trimpot.ground.errors import Notice
from trimpot.storage import SqliteStore
from trimpot.storage.filesystems import network_file_system

Mount = namedtuple("Mount", "mountpoint fstype")


@pytest.mark.parametrize(
    ("kind", "network"), [("ext4", False), ("overlay", False), ("nfs4", True), ("fuse.sshfs", True), ("lustre", True)]
)
def test_the_nearest_mount_decides(kind: str, network: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = [Mount("/", "nfs" if not network else "ext4"), Mount(str(tmp_path), kind)]
    monkeypatch.setattr(psutil, "disk_partitions", lambda all: mounts)
    (tmp_path / "runs").mkdir()
    assert network_file_system(tmp_path / "runs") == (kind if network else None)


def test_a_store_on_one_is_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "disk_partitions", lambda all: [Mount(str(tmp_path), "nfs4")])
    with SqliteStore(tmp_path) as store:
        with pytest.warns(Notice, match=r"is on a network file system \(nfs4\).*`trimpot backup`"), store.lock("a-1"):
            pass
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with store.lock("a-1"):
                pass
