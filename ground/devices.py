"""Find devices, and recognize errors that report a lack of memory.

PyTorch is imported only inside the functions that need it, so that the engine can be imported without it.
"""

from __future__ import annotations

import ctypes
import errno
import gc
import os
import sys
from dataclasses import dataclass
from typing import Any

from .errors import ConfigError, TrimpotError

# Phrases with which libraries report a lack of memory in a RuntimeError, in lower case and with spaces instead of
# underscores: phrases of allocators, of library handles, and of cuDNN when the workspace of no algorithm fits.
_FULL = (
    "out of memory",
    "out of device memory",
    "out of host memory",
    "error out of resources",
    "alloc failed",
    "allocation failed",
    "not enough memory",
    "can't allocate memory",
    "cannot allocate memory",
    "failed to allocate",
    "bad alloc",
    "invalid buffer size",
    "cublas status not initialized",
    "cudnn status not supported",
    "valid cudnn algorithm",
    "unable to find an engine",
    "resource exhausted",
    "allocfailed",
    "memoryallocation",
)
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt(3): M_TRIM_THRESHOLD and M_MMAP_THRESHOLD
_HOST = ("defaultcpuallocator", "cannot allocate memory", "out of host memory", "bad alloc")


def present() -> dict[str, int]:
    """Count the devices of this machine by kind, such as {"cpu": 1, "cuda": 2}."""
    import torch

    own = torch.accelerator.current_accelerator()  # includes backends that extend PyTorch
    found = {"cpu": 1}
    for kind in dict.fromkeys(("cuda", "xpu", "mps", *([own.type] if own else []))):
        module = getattr(torch, kind, None)
        if module is not None and module.is_available():
            found[kind] = int(module.device_count())
    return found


def resolve(name: str | None, error: type[TrimpotError] = ConfigError) -> str:
    """Check the name of a device, or choose a device if no name is given.

    Args:
        name: A device in PyTorch's notation: `cpu`, `cuda`, `cuda:1`, `mps`, `xpu`. None selects a CUDA GPU if the
            machine has one, and the CPU otherwise.
        error: The class of the error to raise.

    Returns:
        The device in PyTorch's notation.

    Raises:
        TrimpotError: Of the class `error`, if the machine has no such device, or the device cannot be used.
    """
    import torch

    here = present()
    if name is None:
        return "cuda" if "cuda" in here else "cpu"
    try:
        device = torch.device(name)
    except Exception:  # PyTorch raises several classes of error for names and numbers it cannot read
        device = None
    wrapped = device is not None and str(device) != name  # PyTorch reads cuda:256 as cuda:0
    if device is None or wrapped or (device.index or 0) >= here.get(device.type, 0):
        known = [kind if many == 1 else f"{kind}:{at}" for kind, many in here.items() for at in range(many)]
        raise error(f"there is no device {name!r} here; choose {' or '.join(known)}, or leave `device` out")
    if device.type == "cpu":
        return "cpu"
    try:
        torch.empty(1, device=device)
    except Exception as reason:  # the driver is broken, or another process uses the device exclusively
        raise error(f"the device {name!r} cannot be used: {first_sentence(reason)}") from reason
    return str(device)


def narrow(module: Any, device: str) -> None:
    """Convert a module's float64 buffers to float32 if the device is MPS, which has no float64."""
    import torch

    if torch.device(device).type != "mps":
        return
    for part in module.modules():
        for name, buffer in part.named_buffers(recurse=False):
            if buffer.dtype == torch.float64:
                setattr(part, name, buffer.float())


@dataclass(frozen=True)
class Shortage:
    """A lack of memory.

    Attributes:
        error: The error that reports it.
        on_host: Whether main memory ran out, as opposed to a device's memory.
    """

    error: BaseException
    on_host: bool


def shortage(error: BaseException | None) -> Shortage | None:
    """Return the lack of memory that an error or one of its causes reports, or None if none of them does."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        text = str(error).lower().replace("_", " ")
        if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
            return Shortage(error, on_host=True)
        if any(kind.__name__ == "OutOfMemoryError" for kind in type(error).__mro__):
            return Shortage(error, on_host=False)
        if isinstance(error, RuntimeError) and any(words in text for words in _FULL):
            return Shortage(error, on_host=any(words in text for words in _HOST))
        seen.append(error)
        error = error.__cause__
    return None


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error or one of its causes reports that a device's or the machine's memory ran out."""
    return shortage(error) is not None


def first_sentence(error: BaseException) -> str:
    """Return the first sentence of an error's text without its full stop, to end another sentence with."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].partition(". ")[0].rstrip(".")


def keep_freed_memory() -> None:
    """Let this process reuse freed main memory for arrays of up to 256 MiB.

    Otherwise glibc's allocator returns large arrays to the system, which clears their pages at every new request. This
    takes a tenth of the time of a forward pass of many rows. At most 512 MiB of unused memory are kept. An allocator
    that the user has tuned is left unchanged; other allocators than glibc's have no such option.
    """
    chosen = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES", "LD_PRELOAD")
    if sys.platform != "linux" or any(name in os.environ for name in chosen):
        return
    tune = getattr(ctypes.CDLL(None), "mallopt", None)
    if tune is not None:
        for option, size in ((_MMAP_THRESHOLD, 256 << 20), (_TRIM_THRESHOLD, 512 << 20)):
            tune(option, size)


def free_memory() -> None:
    """Release the device memory that PyTorch has reserved and no tensor uses."""
    kinds = [kind for kind in present() if kind != "cpu"] if "torch" in sys.modules else []
    if kinds:
        gc.collect()  # modules and their hooks hold each other
    for kind in kinds:
        getattr(sys.modules["torch"], kind).empty_cache()
