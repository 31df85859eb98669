"""An accelerator for machines that have none: tensors that say they are on it, compute on the CPU, and do not mix.

Inside `accelerator("cuda", 2)`, PyTorch says it has two such devices. Whatever is moved to one or made there is an
ordinary tensor of the CPU that carries the device's name. As on the real thing, an operation on tensors of two
devices fails, numbers must come back to main memory before NumPy sees them, noise is drawn where its generator is,
and MPS has no float64.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map_only

CPU = torch.device("cpu")
_inside = 0  # operations that are running on what really is the CPU

# What looks at a tensor, or copies between devices, and so may see two of them.
_MAY_MIX = {"copy_", "set_", "__set__", "__get__", "__getitem__", "__setitem__", "type_as", "to"}
_MAY_MIX |= {"_has_compatible_shallow_copy_type", "index_put_"}


class Placed(torch.Tensor):
    """A tensor of the CPU that says it is on another device."""

    _where: torch.device

    def __new__(cls, data: torch.Tensor, requires_grad: bool = False) -> Any:
        """A parameter of the same numbers: libraries copy parameters by calling their class."""
        return torch.nn.Parameter(data, requires_grad)

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        """Where it says it is."""
        return CPU if _inside else self._where

    @property
    def is_cuda(self) -> bool:  # type: ignore[override]
        """Whether that is a GPU of CUDA's."""
        return self.device.type == "cuda"

    @property
    def is_mps(self) -> bool:  # type: ignore[override]
        """Whether that is MPS."""
        return self.device.type == "mps"

    @property
    def is_cpu(self) -> bool:  # type: ignore[override]
        """Whether it is in main memory."""
        return self.device.type == "cpu"


def where(tensor: torch.Tensor) -> torch.device:
    """Where a tensor is, or says it is."""
    return tensor._where if isinstance(tensor, Placed) else tensor.device


class _Mode(TorchFunctionMode):
    def __init__(self, kind: str, number: int) -> None:
        super().__init__()
        self.kind, self.number = kind, number

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        if name in ("to", "cpu", "cuda") and isinstance(args[0], torch.Tensor):
            return self._moved(name, *args, **kwargs)
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        here = {where(tensor) for tensor in tensors if tensor.ndim or where(tensor) != CPU} - {torch.device("meta")}
        if len(here) > 1 and name not in _MAY_MIX:
            found = " and ".join(sorted(map(str, here)))
            raise RuntimeError(f"Expected all tensors to be on the same device, but found {found} in {name}")
        if name in ("numpy", "__array__") and where(args[0]) != CPU:
            raise TypeError(f"can't convert {where(args[0])} device type tensor to numpy")
        target = next(iter(here - {CPU}), CPU) if not tensors or where(tensors[0]) != CPU or here != {CPU} else CPU
        if name == "__getitem__":
            target = where(args[0])
        asked = kwargs.get("device")
        if asked is not None:
            target = self._device(asked)
            kwargs["device"] = target if target.type == "meta" else CPU
        generator = kwargs.get("generator")
        if generator is not None and generator.device != target:
            raise RuntimeError(f"Expected a {target} device type for generator but found {generator.device}")
        with _really():
            made = func(*args, **kwargs)
        if name == "__set__" and len(args) == 2 and isinstance(args[1], torch.Tensor):
            _tag(args[0], where(args[1]))
            return made
        return tree_map_only(torch.Tensor, lambda tensor: self._placed(tensor, target), made)

    def _moved(self, name: str, tensor: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        if name != "to":
            asked = "cpu" if name == "cpu" else kwargs.get("device", args[0] if args else self.kind)
            args, kwargs = (asked,), {}
        copy = kwargs.pop("copy", False)
        if args and isinstance(args[0], torch.Tensor):
            device, dtype = where(args[0]), args[0].dtype
        else:
            device, dtype, *_ = torch._C._nn._parse_to(*args, **kwargs)
        source = where(tensor)
        target = source if device is None else self._device(device)
        if target.type == "meta" or source.type == "meta":
            with _really():
                return tensor.to(target, dtype)
        dtype = dtype or tensor.dtype
        if target == source and dtype == tensor.dtype and not copy:
            return tensor
        with _really():
            made = tensor.as_subclass(torch.Tensor).to(dtype=dtype, copy=True)
        return self._placed(made, target)

    def _placed(self, tensor: torch.Tensor, target: torch.device) -> torch.Tensor:
        if tensor.is_meta or isinstance(tensor, Placed) or target == CPU:
            return tensor
        if target.type == "mps" and tensor.dtype in (torch.float64, torch.complex128):
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype as MPS doesn't support float64")
        with _really():
            placed = tensor.as_subclass(Placed)
        placed._where = target
        return placed

    def _device(self, asked: Any) -> torch.device:
        device = torch.device(self.kind, asked) if isinstance(asked, int) else torch.device(asked)
        if device.type in ("cpu", "meta"):
            return torch.device(device.type)
        if device.type != self.kind or (device.index or 0) >= self.number:
            raise RuntimeError(f"there is no {device}")
        return torch.device(device.type, device.index or 0)


@contextmanager
def _really() -> Iterator[None]:
    global _inside
    _inside += 1
    try:
        with torch._C.DisableTorchFunctionSubclass():
            yield
    finally:
        _inside -= 1


def _tag(tensor: torch.Tensor, device: torch.device) -> None:
    """Say of a tensor whose numbers were exchanged where they are now."""
    if not isinstance(tensor, Placed):
        if device == CPU or device.type == "meta":
            return
        is_parameter = isinstance(tensor, torch.nn.Parameter)
        tensor.__class__ = Placed
        if is_parameter:
            tensor._is_param = True  # type: ignore[attr-defined]
    tensor._where = device  # type: ignore[attr-defined]


class _Event:
    """What has been computed by the time it is asked for."""

    def __init__(self, **_how: Any) -> None:
        pass

    def record(self, *_stream: Any) -> None:
        """Everything before it is done."""

    def synchronize(self) -> None:
        """There is nothing to wait for."""

    def query(self) -> bool:
        """It is done."""
        return True


@contextmanager
def accelerator(kind: str, number: int = 1) -> Iterator[None]:
    """Have a kind of device, `cuda`, `mps` or `xpu`, for a while."""
    with pytest.MonkeyPatch.context() as patch, _Mode(kind, number):
        module = getattr(torch, kind)
        for name, value in (("is_available", True), ("device_count", number), ("current_device", 0)):
            patch.setattr(module, name, lambda value=value: value, raising=False)
        for name in ("empty_cache", "synchronize"):
            patch.setattr(module, name, lambda *_: None, raising=False)
        patch.setattr(torch, "Event", _Event)
        if kind == "mps":
            patch.setattr(torch.backends.mps, "is_available", lambda: True)
        yield
