"""The file of encoded prompts: what is read is what was written, or nothing, whatever happens to the file."""

from __future__ import annotations

import multiprocessing
import os
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from encoded import same, value, work
from safetensors.torch import load_file
from trimpot.adapters import encoded_file
from trimpot.adapters.encoded_file import MOST_LOOSE, EncodedFile
from trimpot.ground.errors import Notice

DTYPES = ("float32", "float16", "bfloat16", "float64", "float8_e4m3fn", "complex64", "int64", "int32", "uint8", "bool")
SHAPES: dict[str, Any] = {
    "a tensor": torch.arange(6.0).reshape(1, 2, 3),
    "a number": torch.tensor(2.5),
    "no tokens": torch.zeros(1, 0, 3),
    "not contiguous": torch.arange(6.0).reshape(2, 3).T,
    "a mapping": {"embeds": torch.ones(1, 3), "mask": torch.ones(1, 3, dtype=torch.bool)},
    "a tuple of everything": (torch.ones(1, 5), None, [torch.zeros(3), torch.zeros(2)], (torch.tensor([True]), [])),
    **{
        dtype: {"odd": torch.ones(3, dtype=torch.uint8), "x": torch.ones(2, 3).to(getattr(torch, dtype))}
        for dtype in DTYPES
    },
}


@pytest.mark.parametrize("made", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("joined", [False, True])
def test_what_was_written_is_read_to_the_bit(made: Any, joined: bool, tmp_path: Path) -> None:
    """Of any dtype and form, by who wrote it and by who comes later; whoever changes what was read changes his own."""
    writer = EncodedFile(tmp_path, "x")
    assert not writer.has("a") and writer.get("a") is None
    assert writer.put("before", value(1)) and writer.put("a", made) and writer.put("later", value(2))
    if joined:
        writer.join()
    assert [path.name for path in writer.loose.iterdir()] == [] if joined else not writer.path.exists()
    for reader in (writer, EncodedFile(tmp_path, "x")):
        found = reader.get("a")
        assert same(found, made) and str(found) == str(made) and reader.has("a")
        assert reader.get("b") is None and not reader.has("b")
        for part in found.values() if isinstance(found, dict) else []:
            part.zero_()
        assert same(reader.get("a"), made)


def test_a_prompt_and_another_are_two_whatever_they_are(tmp_path: Path) -> None:
    """Also one that no file could be called, and one that is no text that can be written."""
    keys = ["", "a", "A", "a ", "a/b", "../a", "ä", "é", "\ud800", "\0", "x" * 10_000]
    file = EncodedFile(tmp_path, "x")
    for number, key in enumerate(keys):
        file.put(key, value(number))
    file.join()
    for number, key in enumerate(keys):
        assert same(file.get(key), value(number))
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".lock") == [
        "x.safetensors"
    ]


def test_it_is_one_file_of_safetensors_however_many_prompts(tmp_path: Path) -> None:
    """Never many are apart; each is copied a few times at most."""
    file, copied = EncodedFile(tmp_path, "x"), []
    join = file._join
    file._join = lambda: (join(), copied.append(file.path.stat().st_size))  # type: ignore[method-assign,assignment]
    number = 3 * MOST_LOOSE
    for each in range(number):
        file.put(str(each), value(each))
        assert len(list(file.loose.iterdir())) <= max(MOST_LOOSE, each / 2)
    file.join()
    assert not list(file.loose.iterdir()) and len(load_file(file.path)) == number
    assert sum(copied) < 4 * file.path.stat().st_size
    assert all(same(EncodedFile(tmp_path, "x").get(str(each)), value(each)) for each in range(0, number, 7))


def resident(path: Path) -> int:
    """Bytes of a mapped file that are in this process's memory."""
    [*maps] = [each for each in psutil.Process().memory_maps(grouped=False) if each.path.startswith(str(path))]
    return sum(each.rss for each in maps)


@pytest.mark.skipif(not hasattr(psutil.Process, "memory_maps"), reason="this system does not say what is mapped")
def test_main_memory_does_not_grow_with_what_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither as it is read nor as it is joined is more than a part of the file in memory."""
    monkeypatch.setattr(encoded_file, "MOST_MAPPED", 4 << 20)
    made, number, file = torch.ones(1, 1 << 18), 24, EncodedFile(tmp_path, "x")
    for each in range(number):
        file.put(str(each), made)
    file.join()
    seen = []
    for each in range(number):
        assert torch.equal(file.get(str(each)), made)
        seen.append(resident(file.path))
    file.put("more", made)
    replace = os.replace

    def looked(draft: Path, path: Path) -> None:
        seen.append(resident(file.path))
        replace(draft, path)

    monkeypatch.setattr(os, "replace", looked)
    file.join()
    assert len(seen) == number + 1 and max(seen) > 0
    assert max(seen) <= 6 << 20 < file.path.stat().st_size / 4
    assert torch.equal(file.get("3"), made)


def test_who_reads_meanwhile_finds_all(tmp_path: Path) -> None:
    """What another process has joined since it began, or has written since, is found without beginning again."""
    first, second = EncodedFile(tmp_path, "x"), EncodedFile(tmp_path, "x")
    for each in range(4):
        first.put(str(each), value(each))
        assert same(second.get(str(each)), value(each))
        if each % 2:
            first.join()
        assert all(second.has(str(known)) and same(second.get(str(known)), value(known)) for known in range(each + 1))


def test_processes_write_and_join_at_the_same_time(tmp_path: Path) -> None:
    """None ever reads anything but what was written, nothing is damaged, and nothing is lost."""
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=work, args=(tmp_path, mine)) for mine in (0, 32)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    file = EncodedFile(tmp_path, "x")
    file.join()
    assert all(same(file.get(str(each)), value(each)) for each in range(80))
    assert len(load_file(file.path)) == 80 and not list(file.loose.iterdir())


@pytest.mark.parametrize("joined", [False, True])
def test_not_one_bit_that_was_changed_is_read(joined: bool, tmp_path: Path) -> None:
    """Wherever it is, in the header or in the numbers: it is the same encoding, or none, and a notice says so."""
    writer = EncodedFile(tmp_path, "x")
    for each in range(2):
        writer.put(str(each), value(each))
    if joined:
        writer.join()
    [path, *_] = [path for path in tmp_path.rglob("*.safetensors") if path.is_file()]
    content, changed = path.read_bytes(), 0
    for at in range(0, len(content), 2 if joined else 1):
        path.write_bytes(content[:at] + bytes([content[at] ^ (1 << at % 8)]) + content[at + 1 :])
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            found = [EncodedFile(tmp_path, "x").get(str(each)) for each in range(2)]
        for number, each in enumerate(found):
            assert each is None or same(each, value(number)), at
        changed += None in found
        assert all(issubclass(each.category, Notice) for each in said)
    assert changed > len(content) / 4


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "cut off": lambda content: content[:-1],
    "cut off in its header": lambda content: content[:20],
    "longer": lambda content: content + b"\0",
    "zeros": lambda content: bytes(len(content)),
    "text": lambda content: b"version https://git-lfs.github.com/spec/v1\n",
    "a header of a terabyte": lambda content: (1 << 40).to_bytes(8, "little") + content[8:],
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
@pytest.mark.parametrize("joined", [False, True])
def test_what_is_damaged_is_said_and_made_again(damage: Callable[[bytes], bytes], joined: bool, tmp_path: Path) -> None:
    """Once it was put again all is well, here and for who comes later; also where it is damaged while it is mapped."""
    file = EncodedFile(tmp_path, "x")
    file.put("a", value(1))
    if joined:
        file.join()
    assert same(file.get("a"), value(1))
    [path] = [path for path in tmp_path.rglob("*.safetensors") if path.is_file()]
    path.write_bytes(damage(path.read_bytes()))
    os.utime(path, ns=(0, time.time_ns() + 10**9))
    with pytest.warns(Notice, match=r"is damaged; its prompt is encoded again|cannot be read \(.*encoded again"):
        assert file.get("a") is None
    file.put("a", value(1))
    assert same(file.get("a"), value(1))
    file.join()
    assert same(EncodedFile(tmp_path, "x").get("a"), value(1)) and not list(file.loose.iterdir())


def test_one_prompt_s_file_is_not_another_s(tmp_path: Path) -> None:
    """Whoever copies it over gets a notice and no wrong encoding, also where it is given the other's name within."""
    file = EncodedFile(tmp_path, "x")
    file.put("a", value(1))
    [first] = file.loose.iterdir()
    file.put("b", value(2))
    [second] = set(file.loose.iterdir()) - {first}
    for content in (first.read_bytes(), first.read_bytes().replace(first.stem.encode(), second.stem.encode())):
        second.write_bytes(content)
        with pytest.warns(Notice, match="is damaged"):
            assert file.get("b") is None
    assert same(file.get("a"), value(1))


def test_a_process_that_died_while_it_wrote_leaves_nothing_that_counts(tmp_path: Path) -> None:
    """Its draft is never read, and is removed once nobody can be writing it any more."""
    file = EncodedFile(tmp_path, "x")
    file.put("a", value(1))
    old, new = file.loose / "old.part", file.loose / "new.part"
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    file.join()
    assert list(file.loose.iterdir()) == [new] and same(file.get("a"), value(1))


def test_a_folder_that_was_deleted_meanwhile_is_made_anew(tmp_path: Path) -> None:
    import shutil

    file = EncodedFile(tmp_path / "deep" / "folder", "x")
    file.put("a", value(1))
    file.join()
    shutil.rmtree(tmp_path / "deep")
    assert file.get("a") is None and file.put("a", value(1)) and same(file.get("a"), value(1))


def test_joining_that_is_interrupted_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk, or an end before the old files are removed: all is found, and joined the next time."""
    file = EncodedFile(tmp_path, "x")
    file.put("a", value(1))
    file.join()
    file.put("b", value(2))
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", _full)
        file.join()
    assert not list(tmp_path.glob("*.part"))
    assert same(file.get("a"), value(1)) and same(file.get("b"), value(2))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", lambda *_, **__: None)
        file.join()
    assert list(file.loose.glob("*.safetensors"))
    assert same(file.get("a"), value(1)) and same(file.get("b"), value(2))
    file.join()
    assert not list(file.loose.glob("*.safetensors")) and same(EncodedFile(tmp_path, "x").get("b"), value(2))


def _full(*_: Any) -> None:
    raise OSError(28, "No space left on device")


def test_what_cannot_be_written_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk, and a file where the folder should be."""
    file = EncodedFile(tmp_path, "x")
    monkeypatch.setattr(os, "replace", _full)
    with pytest.warns(Notice, match=r"cannot be kept in .* \(no space left on device\); they are held in main memory"):
        assert not file.put("a", value(1))
    assert file.get("a") is None and not list(file.loose.iterdir())
    (tmp_path / "file").write_text("")
    with pytest.warns(Notice, match="cannot be kept in"):
        assert not EncodedFile(tmp_path / "file", "x").put("a", value(1))
    assert EncodedFile(tmp_path / "file", "x").get("a") is None
