"""Fold scales into weights: find the parameters that a site's output is linear in, and scale them instead.

A site's output is linear in the parameters that come last on every way to it: in an attention's output projection, in
the last layer of a feed-forward network (of each expert, and of the network that all tokens share), in the part of a
norm's modulation that becomes a gate, or in the weight of a norm. Which they are is found by trial on the module
itself, its parameters stirred by noise so that none is zero: parts of parameters are doubled, from the last that runs
to the first, and those are kept whose effects add up. Together they must double the site's output, exactly, while all
other outputs of the module stay.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..adapters.likeness import has_lora
from ..adapters.sites import Site
from ..ground.errors import CalibrationError

INSTEAD = "apply the calibration with trimpot.load_calibration"
_NUMBER = re.compile(r"(?<![^.])\d+(?![^.])")  # in a parameter's name, as of an expert in a list
ADDS_UP = 1e-3  # relative: effects of different parameters differ by far more than rounding
ROUNDING = 1e-5  # relative, of norms that add 1 to their weight


class Part(NamedTuple):
    """A part of a parameter.

    Attributes:
        name: The parameter's name in the model.
        axis: The axis along which the part is cut.
        begin: The first index on the axis.
        end: The index after the last.
        shift: What the layer adds to the parameter before it multiplies: 1 for norms that scale by `1 + weight`.
    """

    name: str
    axis: int
    begin: int
    end: int
    shift: float = 0.0

    def of(self, parameter: Tensor) -> Tensor:
        """Return the part's values, which share the parameter's memory."""
        return parameter.narrow(self.axis, self.begin, self.end - self.begin)


Fold = tuple[Part, ...]  # the parts of parameters that a site's scale is folded into, all of them


class _Enough(Exception):  # noqa: N818  # not an error: ends the call once all inputs are known
    pass


def folds(model: nn.Module, sites: Sequence[Site], call: Mapping[str, Any]) -> list[Fold]:
    """Return the fold of each site.

    Args:
        model: The transformer.
        sites: Its sites.
        call: Keyword arguments of a forward call, of any size.

    Raises:
        CalibrationError: If a site's output is not linear in parameters of its module, two sites share parameters, a
            parameter is quantized or not in memory, or a LoRA is active.
    """
    if has_lora(model):
        raise CalibrationError(
            "the model has an active LoRA, which weights of its own cannot hold; fuse the LoRA first"
        )
    kinds: dict[tuple[Any, ...], list[Site]] = {}
    for site in sites:
        kinds.setdefault(_kind(model, site), []).append(site)
    for alike in kinds.values():
        for name, value in model.get_submodule(alike[0].path).named_parameters():
            _check_plain(f"{alike[0].path}.{name}", value)
    given = _inputs(model, {alike[0].path for alike in kinds.values()}, call)
    found: dict[Site, Fold] = {}
    for alike in kinds.values():
        first = alike[0]
        if first.path not in given:
            raise CalibrationError(f"{first.path} does not run in a call of the model, so it cannot be folded")
        parts = _found(model.get_submodule(first.path), first.item, *given[first.path])
        if parts is None:
            raise CalibrationError(
                f"the output of {first.address} is not linear in parameters of its own, so it cannot be folded into "
                f"weights; {INSTEAD}"
            )
        for site in alike:
            found[site] = tuple(part._replace(name=f"{site.path}.{part.name}") for part in parts)
    _refuse_shared(model, found)
    return [found[site] for site in sites]


def fold(model: nn.Module, places: Sequence[Fold], scales: Sequence[float]) -> None:
    """Multiply parts of parameters by scales, in float32 or wider, and round once to the parameters' dtype.

    Args:
        model: The transformer, in plain floating-point weights.
        places: The parts, as `folds` returns them.
        scales: One scale for each.

    Raises:
        CalibrationError: If a parameter is quantized or not in memory; nothing is scaled then.
    """
    parameters = plain_parameters(model, places)
    with torch.no_grad():
        for place, scale in zip(places, scales, strict=True):
            for part in place:
                values = part.of(parameters[part.name])
                values.copy_(scaled(values, scale, part.shift))


@contextmanager
def within(model: nn.Module, places: Sequence[Fold], scales: Sequence[float]) -> Iterator[None]:
    """Within the block, have scales folded into the weights; afterwards the weights are as before, to the bit.

    Raises:
        CalibrationError: As `fold`.
    """
    parameters = plain_parameters(model, places)
    values = [part.of(parameters[part.name].data) for place in places for part in place]
    kept = [value.clone() for value in values]
    try:
        fold(model, places, scales)
        yield
    finally:
        for value, old in zip(values, kept, strict=True):
            value.copy_(old)


def plain_parameters(model: nn.Module, places: Sequence[Fold]) -> dict[str, Tensor]:
    """Return the parameters that scales are folded into, by name.

    Raises:
        CalibrationError: If one is quantized or not in memory.
    """
    found = {part.name: _parameter(model, part.name) for place in places for part in place}
    for name, value in found.items():
        _check_plain(name, value)
    return found


def scaled(values: Tensor, scale: float, shift: float = 0.0) -> Tensor:
    """Return values `w` such that `w + shift` is scaled, in float32 or wider, rounded once to the values' dtype."""
    wide = values.to(torch.promote_types(values.dtype, torch.float32))
    return (wide * scale + (scale - 1) * shift).to(values.dtype)


def _parameter(model: nn.Module, name: str) -> Tensor:
    owner, _, own = name.rpartition(".")
    value = getattr(model.get_submodule(owner), own)
    assert isinstance(value, Tensor), "a part is of a parameter"
    return value


def _check_plain(name: str, value: Tensor) -> None:
    if type(value.data) is not Tensor or not value.is_floating_point() or value.itemsize < 2 or value.is_meta:
        raise CalibrationError(
            f"the weights of {name.rpartition('.')[0]} are quantized or not in memory, so nothing can be folded into "
            "them; load the model without quantization and offload"
        )


def _kind(model: nn.Module, site: Site) -> tuple[Any, ...]:
    """Return what two sites share if the same parameters of the same module make their output."""
    module = model.get_submodule(site.path)
    kinds = tuple((name, type(each)) for name, each in module.named_modules())
    return site.item, kinds, tuple((name, tuple(each.shape)) for name, each in module.named_parameters())


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


@torch.no_grad()
def _found(module: nn.Module, item: int | None, args: Any, kwargs: Any) -> Fold | None:
    """Return the parts of a module's parameters that make a site's output, or None if there are none.

    A part is kept if doubling it changes no other output, if its effect grows in proportion, and if the effect is the
    same when the parts kept before are doubled too: then the output is a sum, and each part makes a term of it.
    """
    at = 0 if item is None else item
    with _stirred(module) as dtype:
        args, kwargs = _copied((args, kwargs), dtype)
        before = _outputs(module, args, kwargs)
        if at >= len(before) or not before[at].any():
            return None
        shape = before[at].shape
        widths = dict.fromkeys((shape[-1], *(shape[1:2] if len(shape) == 4 else ())))  # convolutions: channels first

        def changed(parts: Fold, scale: float) -> Tensor | None:
            """Return the site's output with parts scaled; None if another output changes too."""
            with _scaled(module, parts, scale):
                after = _outputs(module, args, kwargs)
            same = all(torch.equal(new, old) for n, (old, new) in enumerate(zip(before, after, strict=True)) if n != at)
            return after[at] if same else None

        def complete(parts: Fold) -> bool:
            twice, less = changed(parts, 2.0), changed(parts, 0.625)
            if twice is None or less is None:
                return False
            if any(part.shift for part in parts):
                return _close(twice, 2 * before[at], ROUNDING) and _close(less, 0.625 * before[at], ROUNDING)
            return torch.equal(twice, 2 * before[at]) and _close(less, 0.625 * before[at], ADDS_UP)

        def unused(part: Part) -> bool:
            after = changed((part,), 2.0)
            return after is not None and torch.equal(after, before[at])

        terms: list[tuple[Part, Tensor]] = []

        def sum_of(more: Iterable[tuple[Part, Tensor]]) -> Fold | None:
            """Return the first terms, those passed over that do not add to them, that make up the output together."""
            kept: Fold = ()
            made = before[at]
            for part, effect in more:
                if any(part.name == other.name and _overlap(part, other) for other in kept):
                    continue
                together = changed((*kept, part), 2.0)
                if together is None or not _close(together - made, effect, ADDS_UP):
                    continue
                done = _close(together, 2 * before[at], ADDS_UP)
                if done or not part.shift:  # without the shift, the weight is one term, and the shift another
                    kept, made = (*kept, part), together
                if done:
                    idle = (each for each in _alike(module, kept) if unused(each))  # of experts without a token
                    return (*kept, *dict.fromkeys(idle)) if complete(kept) else None
            return None

        def proportional() -> Iterator[tuple[Part, Tensor]]:
            """Yield the parts whose effect is in proportion to them, with their effect, and keep them."""
            for part in _candidates(module, widths, args, kwargs):
                alone = changed((part,), 2.0)
                if alone is None or not (effect := alone - before[at]).any():
                    continue
                fourfold = changed((part,), 4.0)
                if fourfold is not None and _close(fourfold - before[at], 3 * effect, ADDS_UP):
                    terms.append((part, effect))
                    yield part, effect

        found = sum_of(proportional())
        first = 1
        while found is None and first < len(terms):  # the first may be a factor of others: leave it out
            found = sum_of(terms[first:])
            first += 1
        return found


def _candidates(module: nn.Module, widths: Mapping[int, None], args: Any, kwargs: Any) -> Iterator[Part]:
    """Yield whole parameters, and parts as wide as the output, those of the layer that ends last first."""
    ended: list[nn.Module] = []
    handles = [each.register_forward_hook(lambda done, *_: ended.append(done)) for each in module.modules()]
    try:
        _outputs(module, args, kwargs)
    finally:
        for handle in handles:
            handle.remove()
    last = {each: at for at, each in enumerate(ended)}
    owners = sorted(module.named_modules(), key=lambda each: last.get(each[1], -1), reverse=True)
    for path, owner in owners:
        for own, value in reversed(list(owner.named_parameters(recurse=False))):
            if value.ndim == 0:
                continue
            name = f"{path}.{own}" if path else own
            if value.ndim == 1:
                yield Part(name, 0, 0, value.shape[0], 1.0)
            yield Part(name, 0, 0, value.shape[0])
            for axis, length in enumerate(value.shape):
                for width in widths:
                    if length > width and length % width == 0:
                        yield from (Part(name, axis, begin, begin + width) for begin in range(0, length, width))


def _alike(module: nn.Module, parts: Fold) -> Iterator[Part]:
    """Yield the same parts of parameters whose names differ in one number only, as those of experts in a list do."""
    taken = {part.name for part in parts}
    shapes = {name: value.shape for name, value in module.named_parameters()}
    for part in parts:
        for number in _NUMBER.finditer(part.name):
            pattern = re.escape(part.name[: number.start()]) + r"\d+" + re.escape(part.name[number.end() :])
            for name, shape in shapes.items():
                if name not in taken and shape == shapes[part.name] and re.fullmatch(pattern, name):
                    yield part._replace(name=name)


@contextmanager
def _stirred(module: nn.Module) -> Iterator[torch.dtype]:
    """Within the block, have noise on all parameters of a module, in float32 or wider; give their dtype."""
    floating = [value for value in (*module.parameters(), *module.buffers()) if value.is_floating_point()]
    dtype = torch.float32
    for value in floating:
        dtype = torch.promote_types(dtype, value.dtype)
    parameters = {id(value) for value in module.parameters()}
    kept = [value.data for value in floating]
    generator = torch.Generator().manual_seed(0)
    try:
        for value in floating:
            wide = value.data.to(dtype)
            if id(value) in parameters:
                size = 0.1 * float(wide.square().mean().sqrt()) + 0.02
                wide = wide + (size * torch.randn(wide.shape, generator=generator)).to(wide)
            value.data = wide
        yield dtype
    finally:
        for value, old in zip(floating, kept, strict=True):
            value.data = old


@contextmanager
def _scaled(module: nn.Module, parts: Fold, scale: float) -> Iterator[None]:
    """Scale parts of a module's parameters within the block."""
    parameters = dict(module.named_parameters())
    values = [part.of(parameters[part.name].data) for part in parts]
    kept = [value.clone() for value in values]
    try:
        for part, value in zip(parts, values, strict=True):
            value.copy_(scaled(value, scale, part.shift))
        yield
    finally:
        for value, old in zip(values, kept, strict=True):
            value.copy_(old)


def _overlap(part: Part, other: Part) -> bool:
    return part.axis != other.axis or (part.end > other.begin and other.end > part.begin)


def _close(found: Tensor, expected: Tensor, tolerance: float) -> bool:
    """Return whether no value differs by more than a share of the largest expected one."""
    return bool((found - expected).abs().max() <= tolerance * expected.abs().max())


def _outputs(module: nn.Module, args: Any, kwargs: Any) -> list[Tensor]:
    args, kwargs = _copied((args, kwargs))
    with torch.no_grad():
        output = module(*args, **kwargs)
    parts = output if isinstance(output, (tuple, list)) else (output,)
    return [part if isinstance(part, Tensor) else torch.zeros(1) for part in parts]


def _copied(value: Any, dtype: torch.dtype | None = None) -> Any:
    """Copy the tensors of nested arguments, since a module may change them in place; numbers become of a dtype."""
    if isinstance(value, Tensor):
        return value.to(dtype, copy=True) if dtype and value.is_floating_point() else value.clone()
    if isinstance(value, (tuple, list)) and type(value) in (tuple, list):
        return type(value)(_copied(each, dtype) for each in value)
    if isinstance(value, dict):
        return {key: _copied(each, dtype) for key, each in value.items()}
    return value


def _refuse_shared(model: nn.Module, found: Mapping[Site, Fold]) -> None:
    """Refuse two sites whose scales would be folded into the same numbers, and parameters that others use as well."""
    owners: dict[int, list[str]] = {}
    for path, module in model.named_modules():
        for own, value in module.named_parameters(recurse=False):
            owners.setdefault(id(value), []).append(f"{path}.{own}" if path else own)
    taken: dict[int, list[tuple[Part, Site]]] = {}
    for site, place in found.items():
        for part in place:
            value = id(_parameter(model, part.name))
            others = [name for name in owners[value] if name != part.name]
            if others:
                raise CalibrationError(
                    f"{part.name} is {others[0]} as well, so the scale of {site.address} cannot be folded into it; "
                    f"{INSTEAD}"
                )
            for other, elsewhere in taken.setdefault(value, []):
                if _overlap(part, other):
                    raise CalibrationError(
                        f"{site.address} and {elsewhere.address} come from the same numbers of {part.name}, so their "
                        f"two scales cannot be folded into it; {INSTEAD}"
                    )
            taken[value].append((part, site))
