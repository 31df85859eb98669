"""Fold scales into weights: find the rows of a layer that make a site's output, and scale them instead.

A site's output is linear in the rows of some layer: in an attention's output projection, in the last layer of a
feed-forward network, in the part of a norm's modulation that becomes a gate, or in the weight of a norm. Which layer
and which rows is found by trial on the model itself: rows are doubled, and the site's output must double, exactly,
while all other outputs of the module stay.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..adapters.sites import Site
from ..ground.errors import CalibrationError


@dataclass(frozen=True)
class Fold:
    """The rows of a layer that a site's scale is folded into.

    Attributes:
        path: The path of the layer in the model; its weight and its bias, if it has one, are scaled.
        begin: The first row.
        end: The row after the last.
    """

    path: str
    begin: int
    end: int


class _Enough(Exception):  # noqa: N818  # not an error: ends the call once all inputs are known
    pass


def folds(model: nn.Module, sites: Sequence[Site], call: Mapping[str, Any]) -> list[Fold]:
    """Return the fold of each site.

    Args:
        model: The transformer.
        sites: Its sites.
        call: Keyword arguments of a forward call, of any size.

    Raises:
        CalibrationError: If a site's output is not linear in the rows of one layer, or two sites share rows.
    """
    kinds: dict[tuple[Any, ...], list[Site]] = {}
    for site in sites:
        kinds.setdefault(_kind(model, site), []).append(site)
    given = _inputs(model, {alike[0].path for alike in kinds.values()}, call)
    found: dict[Site, Fold] = {}
    for alike in kinds.values():
        first = alike[0]
        if first.path not in given:
            raise CalibrationError(f"{first.path} does not run in a call of the model, so it cannot be folded")
        relative = _found(model.get_submodule(first.path), first.item, *given[first.path])
        if relative is None:
            raise CalibrationError(
                f"the output of {first.address} is not linear in the rows of one layer, so it cannot be folded into "
                "weights; apply the calibration with trimpot.load_calibration"
            )
        path, begin, end = relative
        for site in alike:
            found[site] = Fold(f"{site.path}.{path}" if path else site.path, begin, end)
    _refuse_shared(found)
    return [found[site] for site in sites]


def fold(model: nn.Module, places: Sequence[Fold], scales: Sequence[float]) -> None:
    """Multiply the rows of weights by scales, in float32 or wider, and round once to the weights' dtype.

    Args:
        model: The transformer, in plain floating-point weights.
        places: The rows, as `folds` returns them.
        scales: One scale for each.

    Raises:
        CalibrationError: If a weight is quantized or not in memory; nothing is scaled then.
    """
    layers = plain_layers(model, places)
    with torch.no_grad():
        for place, layer, scale in zip(places, layers, scales, strict=True):
            for value in (layer.weight, getattr(layer, "bias", None)):
                if value is not None:
                    rows = value[place.begin : place.end]
                    rows.copy_(scaled(rows, scale))


@contextmanager
def within(model: nn.Module, places: Sequence[Fold], scales: Sequence[float]) -> Iterator[None]:
    """Within the block, have scales folded into the weights; afterwards the weights are as before, to the bit.

    Raises:
        CalibrationError: As `fold`.
    """
    layers = plain_layers(model, places)
    values = [
        value[place.begin : place.end]
        for place, layer in zip(places, layers, strict=True)
        for value in (layer.weight.data, getattr(getattr(layer, "bias", None), "data", None))
        if value is not None
    ]
    kept = [value.clone() for value in values]
    try:
        fold(model, places, scales)
        yield
    finally:
        for value, old in zip(values, kept, strict=True):
            value.copy_(old)


def plain_layers(model: nn.Module, places: Sequence[Fold]) -> list[Any]:
    """Return the layer of each place.

    Raises:
        CalibrationError: If a layer's weight is quantized or not in memory.
    """
    layers: list[Any] = [model.get_submodule(place.path) for place in places]
    for place, layer in zip(places, layers, strict=True):
        weight = layer.weight
        if type(weight.data) is not Tensor or not weight.is_floating_point() or weight.itemsize < 2 or weight.is_meta:
            raise CalibrationError(
                f"the weights of {place.path} are quantized or not in memory, so nothing can be folded into them; load "
                "the pipeline without quantization and offload"
            )
    return layers


def scaled(rows: Tensor, scale: float) -> Tensor:
    """Return rows times a scale, in float32 or wider, rounded once to the rows' dtype."""
    return (rows.to(torch.promote_types(rows.dtype, torch.float32)) * scale).to(rows.dtype)


def _kind(model: nn.Module, site: Site) -> tuple[Any, ...]:
    """Return what two sites share if the same rows of the same layer make their output."""
    module = model.get_submodule(site.path)
    shapes = tuple(
        (name, type(each), tuple(getattr(each, "weight", torch.empty(0)).shape))
        for name, each in module.named_modules()
        if isinstance(getattr(each, "weight", None), Tensor)
    )
    return type(module), site.item, shapes


def _inputs(model: nn.Module, paths: set[str], call: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return the arguments of the first call of each module, in one call of the model."""
    given: dict[str, tuple[Any, Any]] = {}

    def look(path: str, args: Any, kwargs: dict[str, Any]) -> None:
        given.setdefault(path, _copied((args, kwargs)))
        if len(given) == len(paths):
            raise _Enough

    def hook(path: str) -> Any:
        return lambda _module, args, kwargs: look(path, args, kwargs)

    handles = [model.get_submodule(path).register_forward_pre_hook(hook(path), with_kwargs=True) for path in paths]
    try:
        with torch.no_grad():
            model(**call)
    except _Enough:
        pass
    finally:
        for handle in handles:
            handle.remove()
    return given


def _found(module: nn.Module, item: int | None, args: Any, kwargs: Any) -> tuple[str, int, int] | None:
    """Return the path of a layer within a module and its rows, the last layer first; None if there are none."""
    before = _outputs(module, args, kwargs)
    at = 0 if item is None else item
    if at >= len(before):
        return None
    shape = before[at].shape
    widths = dict.fromkeys((shape[-1], *(shape[1:2] if len(shape) == 4 else ())))  # convolutions: channels come first
    for path, layer in reversed(list(module.named_modules())):
        weight = getattr(layer, "weight", None)
        if not isinstance(weight, nn.Parameter) or not weight.is_floating_point():
            continue
        for width in widths:
            for begin in range(0, weight.shape[0], width) if weight.shape[0] % width == 0 else ():
                with _doubled(layer, begin, begin + width):
                    after = _outputs(module, args, kwargs)
                if _only_doubled(before, after, at):
                    return path, begin, begin + width
    return None


def _only_doubled(before: Sequence[Tensor], after: Sequence[Tensor], at: int) -> bool:
    return bool(before[at].any()) and all(
        torch.equal(new, 2 * old if index == at else old)
        for index, (old, new) in enumerate(zip(before, after, strict=True))
    )


@contextmanager
def _doubled(layer: nn.Module, begin: int, end: int) -> Iterator[None]:
    """Double some rows of a layer; doubling and halving are exact."""
    values = [value for value in (layer.weight, getattr(layer, "bias", None)) if isinstance(value, nn.Parameter)]
    kept = [value.data[begin:end].clone() for value in values]
    try:
        for value in values:
            value.data[begin:end] *= 2
        yield
    finally:
        for value, old in zip(values, kept, strict=True):
            value.data[begin:end] = old


def _outputs(module: nn.Module, args: Any, kwargs: Any) -> list[Tensor]:
    args, kwargs = _copied((args, kwargs))
    with torch.no_grad():
        output = module(*args, **kwargs)
    parts = output if isinstance(output, (tuple, list)) else (output,)
    return [part if isinstance(part, Tensor) else torch.zeros(1) for part in parts]


def _copied(value: Any) -> Any:
    """Copy the tensors of nested arguments, since a module may change them in place."""
    if isinstance(value, Tensor):
        return value.clone()
    if isinstance(value, (tuple, list)) and type(value) in (tuple, list):
        return type(value)(_copied(each) for each in value)
    if isinstance(value, dict):
        return {key: _copied(each) for key, each in value.items()}
    return value


def _refuse_shared(found: Mapping[Site, Fold]) -> None:
    """Refuse two sites whose scales would be folded into the same rows, as of a network that two branches share."""
    by_rows: dict[Fold, Site] = {}
    for site, place in found.items():
        other = by_rows.setdefault(place, site)
        if other is not site:
            raise CalibrationError(
                f"{site.address} and {other.address} come from the same rows of {place.path}, so their two scales "
                "cannot be folded into it; apply the calibration with trimpot.load_calibration"
            )
