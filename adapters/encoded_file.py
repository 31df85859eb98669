"""One memory-mapped safetensors file that holds encoded prompts and is written by several processes.

    FOLDER/NAME.safetensors            the file: one row of bytes per prompt; its header says how to read each row
    FOLDER/NAME/KEY.safetensors        one newly encoded prompt in the same format, until it is joined to the file
    FOLDER/.NAME.lock                  held while joining

Each file is written under a temporary name and then renamed, so that it is complete or absent, and never changes
afterwards. Each prompt has a checksum, which is verified at every read; a damaged entry is encoded again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
import uuid
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from torch import Tensor

from ..ground.errors import Notice

MOST_LOOSE = 64  # newly encoded prompts before they are joined, or as many as the file holds if those are more
MOST_HEADER = 100_000_000  # bytes; safetensors opens no file with more
MOST_MAPPED = 256 << 20  # bytes read before the file is mapped again: mapped pages that were read occupy memory
ALIGNED = 16  # bytes: where a tensor of any dtype may begin
ABANDONED = 3600.0  # seconds after which an unfinished draft is deleted

Bytes = NDArray[np.uint8]


class EncodedFile:
    """Encoded prompts by key. `encodings.Encodings` says which types an encoded prompt consists of.

    Args:
        folder: The folder of the file; created at the first write.
        name: The file's name without its suffix.

    Attributes:
        folder: The folder of the file.
        path: The path of the file.
        loose: The folder with encoded prompts that are not yet joined to the file.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.path = folder / f"{name}.safetensors"
        self.loose = folder / name
        self._lock = folder / f".{name}.lock"
        self._stamp: tuple[int, ...] | None = None
        self._mapped: Any = None
        self._meanings: Mapping[str, str] = {}
        self._num_written = self._num_read = 0

    def has(self, key: str) -> bool:
        """Return whether an entry exists; it is not read, so it may turn out to be damaged."""
        name = _name(key)
        return self._loose(name).exists() or name in self._mapping()

    def get(self, key: str) -> Any:
        """Return the encoded prompt of a key, or None if the entry is absent or damaged."""
        name = _name(key)
        path = self._loose(name)  # looked for first: it may replace a damaged entry of the file
        try:
            file: Any = safe_open(path, "numpy")
            found = _read(file, name, file.metadata(), key)
        except SafetensorError:
            found = None
        except OSError:  # there is no such file
            meanings = self._mapping()  # read after that: a loose file is removed only after it has been joined
            if name not in meanings:
                return None
            path, found = self.path, _read(self._mapped, name, meanings, key)
            self._num_read += _size(self._mapped, name) if found is not None else 0
            if self._num_read > MOST_MAPPED:
                self._num_read, self._stamp, self._mapped = 0, None, None
        if found is None:
            _say(f"{path} is damaged; its prompt is encoded again")
        return found

    def put(self, key: str, made: Any) -> bool:
        """Write an encoded prompt to a file of its own.

        Returns:
            Whether the file could be written; if not, a notice says why.
        """
        name = _name(key)
        form, blob = pack(made)
        meaning = json.dumps({"form": form, "checksum": checksum(key, form, blob)})
        try:
            self.loose.mkdir(parents=True, exist_ok=True)
            with _draft(self._loose(name)) as draft:
                draft.write_bytes(save({name: blob}, {name: meaning}))
        except OSError as error:
            why = (error.strerror or type(error).__name__).lower()
            _say(f"encoded prompts cannot be kept in {self.folder} ({why}); they are held in main memory instead")
            return False
        self._num_written += 1
        if self._num_written >= max(MOST_LOOSE, len(self._mapping())):  # so that few bytes are copied again
            self.join()
        return True

    def join(self) -> None:
        """Join the separately written prompts to the file. Do nothing if another process is joining, or on failure."""
        self._num_written = 0
        if not self.loose.is_dir():
            return
        hindered = (OSError, SafetensorError, Timeout, NotImplementedError)
        with contextlib.suppress(*hindered), FileLock(self._lock, timeout=0):
            self._join()

    def _join(self) -> None:
        loose = {path.stem: path for path in sorted(self.loose.glob("*.safetensors"))}
        if not loose:
            return
        known, mapped = dict(self._mapping()), self._mapped
        meanings, sizes = {}, {}
        for name in dict.fromkeys((*known, *loose)):
            with contextlib.suppress(SafetensorError, OSError, KeyError, TypeError):  # damaged entries are left out
                file = safe_open(loose[name], "numpy") if name in loose else mapped
                meaning, size = (file.metadata() if name in loose else known)[name], _size(file, name)
                meanings[name], sizes[name] = meaning, size
        header = _header(meanings, sizes)
        if len(header) > MOST_HEADER:
            return
        with _draft(self.path) as draft, draft.open("wb") as out:
            out.write(len(header).to_bytes(8, "little") + header)
            num_read = 0
            for name, size in sizes.items():
                out.write((safe_open(loose[name], "numpy") if name in loose else mapped).get_tensor(name).data)
                num_read += size
                if num_read > MOST_MAPPED and mapped is not None:
                    num_read, mapped, self._mapped, self._stamp = 0, safe_open(self.path, "numpy"), None, None
        for path in loose.values():
            path.unlink(missing_ok=True)
        for path in self.loose.glob("*.part"):
            if time.time() - path.stat().st_mtime > ABANDONED:
                path.unlink(missing_ok=True)

    def _loose(self, name: str) -> Path:
        return self.loose / f"{name}.safetensors"

    def _mapping(self) -> Mapping[str, str]:
        """Return the header's text for each prompt, after mapping the file again if it has been replaced."""
        try:
            status = self.path.stat()
        except OSError:
            self._stamp, self._mapped, self._meanings = None, None, {}
            return self._meanings
        stamp = (status.st_ino, status.st_size, status.st_mtime_ns)
        if stamp != self._stamp:
            self._stamp, self._mapped, self._meanings = stamp, None, {}
            try:
                self._mapped = safe_open(self.path, "numpy")
            except (SafetensorError, OSError) as error:
                why = (str(error).strip().splitlines() or [type(error).__name__])[0]
                _say(f"{self.path} cannot be read ({why}); its prompts are encoded again")
            else:
                names = set(self._mapped.keys())
                self._meanings = {name: text for name, text in (self._mapped.metadata() or {}).items() if name in names}
        return self._meanings


def pack(made: Any) -> tuple[Any, Bytes]:
    """Split an encoded prompt into its JSON-like form and the bytes of all its tensors."""
    parts: list[bytes] = []

    def form(part: Any) -> Any:
        if isinstance(part, Tensor):
            content = part.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
            parts.append(content + bytes(-len(content) % ALIGNED))
            return {"dtype": str(part.dtype).removeprefix("torch."), "shape": list(part.shape)}
        if isinstance(part, Mapping):
            return {"mapping": {name: form(each) for name, each in part.items()}}
        if isinstance(part, tuple | list):
            return {type(part).__name__: [form(each) for each in part]}
        assert part is None, f"a {type(part).__name__} cannot be part of an encoding"
        return None

    found = form(made)
    return found, np.frombuffer(b"".join(parts), np.uint8)


def unpack(form: Any, blob: Bytes) -> Any:
    """Reverse `pack`; the returned tensors share the memory of `blob`."""
    content, begin = torch.from_numpy(blob), 0

    def made(form: Any) -> Any:
        nonlocal begin
        if form is None:
            return None
        if "dtype" in form:
            dtype = getattr(torch, form["dtype"])
            size = dtype.itemsize * int(np.prod(form["shape"], dtype=np.int64))
            part = content[begin : begin + size].view(dtype) if size else torch.empty(0, dtype=dtype)
            begin += size + -size % ALIGNED
            return part.reshape(form["shape"])
        [(kind, parts)] = form.items()
        if kind == "mapping":
            return {name: made(each) for name, each in parts.items()}
        return {"tuple": tuple, "list": list}[kind](made(each) for each in parts)

    return made(form)


def checksum(key: str, form: Any, blob: Bytes) -> str:
    """Return a digest of a key and of every bit of its encoded prompt."""
    found = hashlib.sha256(f"{json.dumps([key, form])}\0".encode())
    found.update(blob.data)
    return found.hexdigest()


def _read(file: Any, name: str, meanings: Mapping[str, str] | None, key: str) -> Any:
    """Read a prompt's entry and verify its checksum; None if the entry is absent or damaged."""
    try:
        meaning = json.loads((meanings or {})[name])
        form, blob = meaning["form"], file.get_tensor(name)
        sound = checksum(key, form, blob) == meaning["checksum"]
    except (SafetensorError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return unpack(form, blob) if sound else None


def _size(file: Any, name: str) -> int:
    """Return the number of bytes of a prompt's entry, without reading them.

    Raises:
        TypeError: If the entry is not a row of bytes.
    """
    row = file.get_slice(name)
    if row.get_dtype() != "U8" or len(row.get_shape()) != 1:
        raise TypeError
    return int(row.get_shape()[0])


def _header(meanings: Mapping[str, str], sizes: Mapping[str, int]) -> bytes:
    """Return the header of a safetensors file with these rows in this order, padded as the format's own writer does."""
    header: dict[str, Any] = {"__metadata__": dict(meanings)}
    begin = 0
    for name in meanings:
        end = begin + sizes[name]
        header[name] = {"dtype": "U8", "shape": [sizes[name]], "data_offsets": [begin, end]}
        begin = end
    text = json.dumps(header, separators=(",", ":")).encode()
    return text + b" " * (-len(text) % 8)


@contextlib.contextmanager
def _draft(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder, and rename it to `path` when it has been written completely."""
    draft = path.with_name(f"{path.stem}.{uuid.uuid4().hex}.part")
    try:
        yield draft
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def _name(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _say(text: str) -> None:
    warnings.warn(text, Notice, stacklevel=4)
