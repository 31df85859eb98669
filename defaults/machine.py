"""The device that a run is planned for: the one of this machine, or one that is described by its memory."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from ..ground.devices import present, resolve
from ..ground.errors import ConfigError

GB = 10**9
_UNITS = {
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": GB,
    "tb": 10**12,
    "k": 10**3,
    "m": 10**6,
    "g": GB,
    "t": 10**12,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}
_SIZE = re.compile(r"(\d+(?:\.\d+)?|\.\d+)\s*([A-Za-z]*)")
_DEVICE = re.compile(r"cpu|mps|(cuda|xpu)(:\d+)?")
LEAST, MOST = GB // 10, 10**13  # bytes; no device outside this range runs these models


@dataclass(frozen=True)
class Machine:
    """A device with its memory.

    Attributes:
        kind: `cuda`, `xpu`, `mps` or `cpu`.
        memory: Bytes that the run may use: of the device, or main memory on a CPU.
        main: Bytes of main memory, where offloaded weights wait; None if unknown.
        name: The device in words.
        many: How many such devices there are.
        bfloat16: Whether it computes in bfloat16.
    """

    kind: str
    memory: int
    main: int | None
    name: str
    many: int = 1
    bfloat16: bool = True

    @property
    def is_gpu(self) -> bool:
        """Whether weights can wait in main memory, apart from the device's own."""
        return self.kind not in ("cpu", "mps")


def parse_memory(text: str) -> int:
    """Return the number of bytes that a text such as `24GB`, `24 GiB` or `24576MB` names.

    GB is 10^9 bytes and GiB is 2^30 bytes.

    Raises:
        ConfigError: If the text is no size, has no unit, or is a size that no device has.
    """
    found = _SIZE.fullmatch(text.strip())
    unit = found[2].lower() if found else ""
    if found is None or (unit and unit not in _UNITS):
        raise ConfigError(f"{text[:60]!r} is no size of memory; write a number and a unit, such as 24GB")
    if not unit:
        raise ConfigError(f"a memory of {text.strip()[:60]} has no unit; write {found[1][:20]}GB or {found[1][:20]}MB")
    size = float(found[1]) * _UNITS[unit]
    if not LEAST <= size <= MOST:
        raise ConfigError(f"a memory of {text.strip()[:60]} is none that a device has; give one from 0.1GB to 10TB")
    return int(size)


def this_machine(memory: int | None = None, device: str | None = None) -> Machine:
    """Describe the device of this machine that a run would use.

    Args:
        memory: Bytes that the run may use; None for what is free.
        device: The device in PyTorch's notation; None for the one that would be chosen.

    Raises:
        ConfigError: If there is no such device or amount of memory here.
    """
    import psutil
    import torch

    name, main = resolve(device), int(psutil.virtual_memory().total)
    kind = torch.device(name).type
    found = Machine("cpu", main, main, "this machine's main memory")
    if kind == "cuda":
        free, total = torch.cuda.mem_get_info(name)
        found = Machine(
            "cuda",
            int(total if free > 0.9 * total else free),
            main,
            torch.cuda.get_device_name(name),
            1 if device else present()["cuda"],
            torch.cuda.is_bf16_supported(including_emulation=False),
        )
    if memory is None:
        return found
    if memory > found.memory:
        raise ConfigError(
            f"--memory asks for {size(memory)}, and {found.name} has {size(found.memory)}; give less, or leave it out "
            "(`trimpot plan` and `trimpot init` take any)"
        )
    return replace(found, memory=memory)


def described(memory: int, device: str | None = None) -> Machine:
    """Describe a device of which only the memory is known; beside a GPU, main memory is taken to suffice.

    Raises:
        ConfigError: If no machine has a device of this name.
    """
    if device is not None and not _DEVICE.fullmatch(device):
        raise ConfigError(f"there is no device {device!r:.60}; choose cpu, cuda, cuda:1, mps or xpu, or leave it out")
    if device == "cpu":
        return Machine("cpu", memory, memory, f"a CPU with {size(memory)}")
    return Machine("cuda", memory, None, f"a GPU with {size(memory)}")


def size(count: float) -> str:
    """Return a number of bytes as text, in MB of 10^6 or GB of 10^9 bytes."""
    if count < 0.9995 * GB:
        return f"{count / 1e6:.{0 if count >= 1e7 else 1}f} MB"
    return f"{count / GB:.1f} GB".replace(".0 GB", " GB")
