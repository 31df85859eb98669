"""Compute digests of files and folders from every byte in them.

A large file is read once: its digest is cached in the user's cache folder (`$XDG_CACHE_HOME/trimpot`, or
`~/.cache/trimpot`) under the file's path, size, times of change and inode, and is computed again when any of these
differs. A file that changed within the last two seconds is always read, because its times may not show another change.
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

LARGE = 16 << 20  # bytes; the digests of larger files are cached
MOST_FILES = 20_000
SETTLED = 2 * 10**9  # nanoseconds; longer than the time resolution of file systems
_THREADS = 4  # hashing releases the interpreter's lock; disks rarely supply more threads with data
_File = tuple[str, Path]
_kept: dict[str, str] = {}


def content_digest(path: Path, passed_over: Collection[str] = ()) -> str:
    """Compute a digest of a file, or of the names and contents of all files under a folder.

    Hidden files are ignored, and links to folders are followed. The digest of a folder does not depend on its path;
    the digest of a single file depends on its suffix, but not on the rest of its path.

    Args:
        path: The file or folder.
        passed_over: Suffixes of files to ignore in a folder.

    Returns:
        16 hexadecimal digits.

    Raises:
        ConfigError: If a file cannot be read, or the folder holds more than `MOST_FILES` files.
    """
    found = hashlib.sha256()
    try:
        files = list(islice(_files(path, passed_over), MOST_FILES + 1)) if path.is_dir() else [(path.suffix, path)]
        if len(files) > MOST_FILES:
            raise ConfigError(f"{path} holds more than {MOST_FILES} files; give the files that are needed")
        if sum(file.stat().st_size for _, file in files) < LARGE:  # threads take longer to start than this to read
            digests = [file_digest(file) for _, file in files]
        else:
            with ThreadPoolExecutor(_THREADS) as pool:
                digests = list(pool.map(file_digest, [file for _, file in files]))
    except OSError as error:
        raise ConfigError(f"cannot read {error.filename or path}: {error.strerror}") from None
    for (name, _), each in zip(files, digests, strict=True):
        found.update(f"{name}\0{each}\0".encode("utf-8", "surrogateescape"))
    return found.hexdigest()[:16]


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file's bytes as 64 hexadecimal digits.

    Raises:
        OSError: If the file cannot be read.
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
    """Yield the files under a folder that are not ignored, each with its path relative to the folder."""
    status = folder.stat()
    here = (status.st_dev, status.st_ino)
    if here in above:  # a link to one of its own parent folders
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
    """Return a text that differs as soon as the file has been changed or replaced."""
    times = (status.st_mtime_ns, status.st_ctime_ns)
    return "\0".join(map(str, (os.path.realpath(path), status.st_size, *times, status.st_dev, status.st_ino)))


def _entry(key: str) -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(home, "trimpot", "digests", hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()[:40])


def _recalled(key: str, size: int) -> str | None:
    """Return the cached digest of a large file, or None if the cache holds no intact entry."""
    if size < LARGE:
        return None
    with contextlib.suppress(OSError, ValueError):
        found, check = _entry(key).read_text(encoding="ascii").split()
        if check == _check(key, found):
            _kept[key] = found
            return found
    return None


def _remember(key: str, size: int, found: str) -> None:
    """Cache the digest of a large file for later processes, if the cache folder can be written."""
    if size < LARGE:
        return
    entry = _entry(key)
    partial = entry.with_name(f"{entry.name}.{os.getpid()}-{threading.get_ident()}")
    with contextlib.suppress(OSError):
        entry.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(f"{found} {_check(key, found)}\n", encoding="ascii")
        os.replace(partial, entry)


def _check(key: str, found: str) -> str:
    """Return the checksum that tells an intact cache entry from a damaged one."""
    return hashlib.sha256(f"{key}\0{found}".encode("utf-8", "surrogateescape")).hexdigest()
