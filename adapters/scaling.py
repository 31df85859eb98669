"""Scale sites with one forward hook on each module that a site names.

The scales are a small float32 tensor on the hooked module itself, with one row for each row of the batch. The hook's
code is therefore the same for every block, and compiled graphs take new values without being compiled again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..ground.errors import ModelError
from .sites import Site

if TYPE_CHECKING:
    from torch import nn
    from torch.utils.hooks import RemovableHandle

SCALES = "_trimpot_scales"  # on the hooked module: (num_rows or 1, num_scaled_items), None while idle, or RESTING
RESTING = "between two forward passes"
ITEMS = "_trimpot_items"  # ((item, batch_dim), ...) in column order


class Scaling:
    """Scales on the sites of one model. The model is untouched until `set`, and again after `remove`.

    Args:
        model: The transformer.
        sites: The sites to scale; a site's index is its column in `set`.

    Raises:
        ModelError: If the model is already compiled (hooks would silently be ignored) or already has scales.
    """

    def __init__(self, model: nn.Module, sites: Sequence[Site]) -> None:
        if is_compiled(model):
            raise ModelError("the model is compiled already, so hooks would be ignored; attach scales, then compile")
        columns: dict[str, list[int]] = {}
        for index, site in enumerate(sites):
            columns.setdefault(site.path, []).append(index)
        self._model = model
        self._columns = {path: torch.tensor(indices) for path, indices in columns.items()}
        self._items = {
            path: tuple((sites[index].item, sites[index].batch_dim) for index in indices)
            for path, indices in columns.items()
        }
        self._modules = {path: model.get_submodule(path) for path in columns}
        for module in self._modules.values():
            if hasattr(module, ITEMS):
                raise ModelError("the model already has scales; remove them before adding others")
        self._handles: dict[str, RemovableHandle] = {}
        for path, module in self._modules.items():
            self._hook(path, module)

    def set(self, scales: Tensor | None) -> None:
        """Set every site's scale, or make the hooks idle.

        Args:
            scales: Shape (num_rows, num_sites) with one row for each row of the next batches, or (1, num_sites) for
                the same scales in all rows; float32. They may be on any device and are moved to the device of the
                module's output. None makes the hooks idle.
        """
        self.use(None if scales is None else self.split(scales))

    def split(self, scales: Tensor) -> list[Tensor]:
        """Split a (num_rows, num_sites) table by hooked module, so that `use` can apply it repeatedly."""
        return [scales[:, indices.to(scales.device)] for indices in self._columns.values()]

    def use(self, parts: Sequence[Tensor] | None) -> None:
        """Apply scales that `split` has returned, or make the hooks idle with None."""
        if not torch.compiler.is_compiling():
            self._follow()
        for index, module in enumerate(self._modules.values()):
            setattr(module, SCALES, None if parts is None else parts[index])

    def rest(self, *, active: bool) -> None:
        """Clear the scales until the next pass. If active, a module that runs before new scales are set is refused."""
        for module in self._modules.values():
            setattr(module, SCALES, RESTING if active else None)

    def remove(self) -> None:
        """Remove the hooks and restore the model."""
        for path in list(self._handles):
            self._unhook(path)
        self._modules = {}

    def _follow(self) -> None:
        """Move hooks to the current modules after a module was wrapped or unwrapped, for example by a LoRA."""
        for path, module in self._modules.items():
            try:
                found = self._model.get_submodule(path)
            except AttributeError:
                raise ModelError(
                    f"the transformer no longer has {path}, which the calibration scales; apply the calibration again"
                ) from None
            if found != module:  # modules are equal only to themselves
                self._unhook(path)
                self._hook(path, found)

    def _hook(self, path: str, module: nn.Module) -> None:
        setattr(module, ITEMS, self._items[path])
        setattr(module, SCALES, None)
        self._modules[path] = module
        self._handles[path] = module.register_forward_hook(_scale)

    def _unhook(self, path: str) -> None:
        self._handles.pop(path).remove()
        for attribute in (SCALES, ITEMS):
            if hasattr(self._modules[path], attribute):
                delattr(self._modules[path], attribute)


def _scale(module: nn.Module, _args: Any, output: Any) -> Any:
    scales: Tensor | str | None = getattr(module, SCALES)
    if scales is None:
        return None
    if isinstance(scales, str):
        raise ModelError(
            "a module of a calibrated transformer runs outside a call of the transformer, so its scales are unknown; "
            "apply the calibration again to the current pipeline"
        )
    result = output
    for column, (item, batch_dim) in enumerate(getattr(module, ITEMS)):
        factor = scales[:, column]
        if item is None and not isinstance(result, tuple):
            result = _times(result, factor, batch_dim)
        else:
            item = (
                item or 0
            )  # of a tuple without an item, the first: attentions return their weights beside their output
            check_item(module, result, item)
            result = (*result[:item], _times(result[item], factor, batch_dim), *result[item + 1 :])
    return result


def check_item(module: nn.Module, output: Any, item: int) -> None:
    """Refuse a site that names an item of a module's output that does not exist.

    Raises:
        ModelError: If the output has no such item.
    """
    if not isinstance(output, tuple) or item >= len(output):
        raise ModelError(f"{type(module).__name__} returns no item [{item}]; correct the site line of its block")


def _times(output: Tensor, factor: Tensor, batch_dim: int) -> Tensor:
    """Multiply rows in the wider of both dtypes, because 1.003 is 1.0 in bfloat16, and return the model's dtype."""
    num_rows = output.shape[batch_dim]
    if len(factor) not in (1, num_rows):  # the frames of a row are adjacent in the batch
        if num_rows % len(factor):
            raise ModelError(
                f"a scaled module returns {num_rows} rows for {len(factor)} pairs of candidate and prompt, so it is "
                "unclear which row belongs to which pair; set batch_size: 1"
            )
        factor = factor.repeat_interleave(num_rows // len(factor))
    if factor.device != output.device:  # for example if a model is spread over several devices
        factor = factor.to(output.device)
    shape = [1] * output.ndim
    shape[batch_dim] = -1
    return (output * factor.view(shape)).to(output.dtype)


def is_compiled(model: nn.Module) -> bool:
    """Return whether a model, one of its blocks or its `forward` is compiled by `torch.compile`."""
    return any(
        hasattr(module, "_orig_mod")
        or getattr(module, "_compiled_call_impl", None) is not None
        or hasattr(module.forward, "_torchdynamo_orig_callable")
        for module in model.modules()
    )
