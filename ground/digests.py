"""Digests of files and folders by every byte in them.

A large file is read once: its digest is kept in the user's cache folder (`$XDG_CACHE_HOME/trimpot`, or
`~/.cache/trimpot`) beside its path, size, times of change and inode, and is made anew when any of them is another. A
file that changed within the last seconds is read each time, since its times could not tell a further change.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
import time
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

from .errors import ConfigError

LARGE = 16 << 20  # bytes from which on a digest is worth keeping
MOST_FILES = 20_000
SETTLED = 2 * 10**9  # nanoseconds: coarser than the clocks of file systems
_THREADS = 4  # hashing gives up the interpreter's lock; disks seldom feed more
_File = tuple[str, Path]
_kept: dict[str, str] = {}


def content_digest(path: Path, passed_over: Collection[str] = ()) -> str:
    """A digest of a file, or of the names and contents of all files under a folder.

    Hidden files do not count, links to folders are followed. Where the path itself lies does not matter, nor a
    file's name beside its suffix.

    Args:
        path: The file or folder.
        passed_over: Suffixes that do not count in a folder.

    Returns:
        16 hexadecimal digits.

    Raises:
        ConfigError: If something cannot be read, or there are more than `MOST_FILES` files.
    """
    found = hashlib.sha256()
    try:
        files = list(islice(_files(path, passed_over), MOST_FILES + 1)) if path.is_dir() else [(path.suffix, path)]
        if len(files) > MOST_FILES:
            raise ConfigError(f"{path} holds more than {MOST_FILES} files; give the files that are needed")
        with ThreadPoolExecutor(_THREADS) as pool:
            digests = list(pool.map(file_digest, [file for _, file in files]))
    except OSError as error:
        raise ConfigError(f"cannot read {error.filename or path}: {error.strerror}") from None
    for (name, _), each in zip(files, digests, strict=True):
        found.update(f"{name}\0{each}\0".encode("utf-8", "surrogateescape"))
    return found.hexdigest()[:16]


def file_digest(path: Path) -> str:
    """The sha256 of a file's bytes, 64 hexadecimal digits.

    Raises:
        OSError: If it cannot be read.
    """
    before = path.stat()
    settled = time.time_ns() - max(before.st_mtime_ns, before.st_ctime_ns) > SETTLED
    key = _stamp(path, before)
    known = (_kept.get(key) or _recalled(key, before.st_size)) if settled else None
    if known:
        return known
    with path.open("rb") as file:
        found = hashlib.sha256()
        while chunk := file.read(1 << 20):
            found.update(chunk)
    if settled and _stamp(path, path.stat()) == key:
        _kept[key] = found.hexdigest()
        _remember(key, before.st_size, found.hexdigest())
    return found.hexdigest()


def _files(folder: Path, passed_over: Collection[str], above: tuple[tuple[int, int], ...] = ()) -> Iterator[_File]:
    """The files under a folder that count, by their names from there on."""
    status = folder.stat()
    here = (status.st_dev, status.st_ino)
    if here in above:  # a link to a folder that holds it
        return
    for entry in sorted(os.scandir(folder), key=lambda each: each.name):
        if entry.name.startswith(".") or entry.name == "__pycache__":
            continue
        if entry.is_dir():
            for name, path in _files(Path(entry.path), passed_over, (*above, here)):
                yield f"{entry.name}/{name}", path
        elif entry.is_file() and Path(entry.name).suffix.lower() not in passed_over:
            yield entry.name, Path(entry.path)


def _stamp(path: Path, status: os.stat_result) -> str:
    """What is another as soon as a file is."""
    times = (status.st_mtime_ns, status.st_ctime_ns)
    return "\0".join(map(str, (os.path.realpath(path), status.st_size, *times, status.st_dev, status.st_ino)))


def _entry(key: str) -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(home, "trimpot", "digests", hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()[:40])


def _recalled(key: str, size: int) -> str | None:
    """What an earlier process found of a large file."""
    if size < LARGE:
        return None
    with contextlib.suppress(OSError, ValueError):
        found, check = _entry(key).read_text(encoding="ascii").split()
        if check == _check(key, found):
            _kept[key] = found
            return found
    return None


def _remember(key: str, size: int, found: str) -> None:
    """Keep a digest for later processes, where there is a place for it."""
    if size < LARGE:
        return
    entry = _entry(key)
    partial = entry.with_name(f"{entry.name}.{os.getpid()}-{threading.get_ident()}")
    with contextlib.suppress(OSError):
        entry.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(f"{found} {_check(key, found)}\n", encoding="ascii")
        os.replace(partial, entry)


def _check(key: str, found: str) -> str:
    """Tells a whole entry from a damaged one."""
    return hashlib.sha256(f"{key}\0{found}".encode("utf-8", "surrogateescape")).hexdigest()
