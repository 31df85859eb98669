"""Digests of checkpoints: every byte counts, and a large file is read once."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
from trimpot.ground import digests
from trimpot.ground.digests import content_digest, file_digest
from trimpot.ground.errors import ConfigError
from trimpot.ground.weights import weights_digest


@pytest.fixture
def reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that are opened to be read; every file counts as a large one, and none is known yet."""
    found: list[Path] = []
    opened = Path.open

    def counted(self: Path, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        if mode == "rb":
            found.append(self)
        return opened(self, mode, *arguments, **options)

    monkeypatch.setattr(Path, "open", counted)
    monkeypatch.setattr(digests, "LARGE", 0)
    monkeypatch.setattr(digests, "_kept", {})
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return found


def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if some seconds had gone by."""
    later = time.time_ns() + 10 * digests.SETTLED
    monkeypatch.setattr(time, "time_ns", lambda: later)


def another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests, "_kept", {})


def test_a_file_is_read_once_by_all_processes(
    tmp_path: Path, reads: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"weights")
    settled(monkeypatch)
    found = set()
    for _ in range(3):
        found |= {file_digest(file), file_digest(file)}
        another_process(monkeypatch)
    assert len(found) == len(reads) == 1


@pytest.mark.parametrize("how", ["rewritten", "with its old time", "replaced", "at once"])
def test_a_file_that_has_changed_is_read_again(
    how: str, tmp_path: Path, reads: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the same size, and even if its time of change was put back, as synchronising programs do."""
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"one")
    if how != "at once":
        settled(monkeypatch)
    before, status = file_digest(file), file.stat()
    if how == "replaced":
        (tmp_path / "new").write_bytes(b"two")
        os.utime(tmp_path / "new", ns=(status.st_atime_ns, status.st_mtime_ns))
        os.replace(tmp_path / "new", file)
    else:
        time.sleep(0.02)
        file.write_bytes(b"two")
    if how == "with its old time":
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert file_digest(file) != before
    assert len(reads) == 2


@pytest.mark.parametrize("damage", ["", "no digest", "0" * 64 + " " + "0" * 64, "\0\xff"])
def test_a_damaged_memory_is_not_believed(
    damage: str, tmp_path: Path, reads: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"weights")
    settled(monkeypatch)
    before = file_digest(file)
    [entry] = (tmp_path / "cache" / "trimpot" / "digests").iterdir()
    entry.write_text(damage, encoding="latin-1")
    another_process(monkeypatch)
    assert file_digest(file) == before
    assert len(reads) == 2


def test_where_nothing_can_be_kept_files_are_read(
    tmp_path: Path, reads: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cache").write_text("a file where a folder should be")
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"weights")
    settled(monkeypatch)
    before = file_digest(file)
    another_process(monkeypatch)
    assert file_digest(file) == before


def checkpoint(folder: Path) -> Path:
    for name in ("transformer/model.safetensors", "vae/config.json", "tokenizer/merges"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


def test_links_to_folders_are_followed_and_those_in_a_circle_are_not(tmp_path: Path) -> None:
    """Whoever shares a text encoder among checkpoints links to its folder."""
    base, found = checkpoint(tmp_path / "base"), []
    for number, content in enumerate(("one", "two")):
        shared = tmp_path / f"shared{number}"
        shared.mkdir()
        (shared / "model.safetensors").write_text(content)
        model = checkpoint(tmp_path / f"model{number}")
        (model / "text_encoder").symlink_to(shared)
        (model / "text_encoder_2").symlink_to(shared)
        found.append(weights_digest(model))
        (shared / "again").symlink_to(shared)
        assert weights_digest(model)
    assert len({*found, weights_digest(base)}) == 3
    again = checkpoint(tmp_path / "again")
    (again / "text_encoder").mkdir()
    (again / "text_encoder" / "model.safetensors").write_text("one")
    assert weights_digest(again) != found[0], "it lacks the second text encoder"


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        *(
            (name, True)
            for name in ("a.safetensors", "vocab", "a.py", "a.yaml", "a.msgpack", "a.gguf", "deep/er/a.bin")
        ),
        *((name, False) for name in (".cache/a.bin", ".hidden", "README.md", "sample.png", "__pycache__/a.pyc")),
    ],
)
def test_what_loading_may_read_counts_and_what_lies_beside_it_does_not(name: str, counts: bool, tmp_path: Path) -> None:
    before = weights_digest(checkpoint(tmp_path))
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text("more")
    assert (weights_digest(tmp_path) != before) == counts


def test_pictures_count_where_a_folder_is_given_for_what_it_holds(tmp_path: Path) -> None:
    before = content_digest(checkpoint(tmp_path))
    (tmp_path / "reference.png").write_bytes(b"a picture")
    assert content_digest(tmp_path) != before


def test_a_folder_of_too_many_files_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests, "MOST_FILES", 2)
    with pytest.raises(ConfigError, match="holds more than 2 files; give the files that are needed"):
        content_digest(checkpoint(tmp_path))


def test_a_file_that_cannot_be_read_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*gone: No such file or directory"):
        content_digest(tmp_path / "gone")
