"""The contract of a transformer's sites, checked on one instance of its class.

    model = MyTransformer(num_layers=2, ...).eval()
    check_transformer(model, {"hidden_states": ..., "timestep": ...}, rows=2, blocks={"MyBlock": "block: ..."})

Each check raises an AssertionError that says what failed. The checks are functions, not a test class, so that scripts
can run them too. The parameters of the instance must be large enough to have an effect, because freshly initialised
transformers hardly react to their gates; `trimpot.proofs.transformers.shake` enlarges them.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..adapters.liveness import dead_sites
from ..adapters.scaling import Scaling
from ..adapters.sites import Site, find_blocks, find_sites

Call = Mapping[str, Any]
Lines = Mapping[str, str] | None

ROUNDING = 1e-5  # the most that rounding alone may change an output, relative to its largest value


def check_transformer(
    model: nn.Module, call: Call, rows: int, blocks: Lines = None, beside: Collection[str] = ()
) -> list[str]:
    """Run every check.

    Args:
        model: An instance in evaluation mode.
        call: Keyword arguments of a forward call with `rows` rows.
        rows: The number of rows; 1 for a class that takes no batch, which skips the comparison of rows.
        blocks: Site lines, as for `find_sites`.
        beside: Block classes that do more than add branches to their streams; see `check_zero`.

    Returns:
        Names of the sites that cannot reach the output of this call.
    """
    check_neutral(model, call, blocks)
    check_zero(model, call, blocks, beside)
    if rows > 1:
        check_rows(model, call, rows, blocks)
    check_removal(model, call, blocks)
    check_gradient(model, call, blocks)
    return check_every_site(model, call, blocks)


def check_neutral(model: nn.Module, call: Call, blocks: Lines = None) -> None:
    """Check that idle hooks and scales of 1 change no bit of the output."""
    untouched = output(model, call)
    with _scaled(model, blocks) as (scaling, sites):
        assert _same(output(model, call), untouched), "idle hooks change the output"
        scaling.set(torch.ones(1, len(sites)))
        assert _same(output(model, call), untouched), "scales of 1 change the output"


def check_zero(
    model: nn.Module, call: Call, blocks: Lines = None, beside: Collection[str] = (), streams: int | None = None
) -> None:
    """Check that with all scales 0, every block returns its streams unchanged: each output tensor is an input tensor.

    A block class in `beside` does more than add branches; for example, it joins a skip connection into the stream. For
    such blocks, the check is that the scaled modules no longer matter: with other parameters in these modules, the
    block's output is bit-identical.

    `streams` is the number of tensors at the beginning of a block's output that are its streams, if it also returns
    others, such as the weights of its attention; None if all are streams.
    """
    found = find_blocks(model, blocks)
    with _scaled(model, blocks) as (scaling, sites), torch.no_grad():
        scaling.set(torch.zeros(1, len(sites)))
        before = _block_traffic(model, call, [block.path for block in found])
        for block in found:
            if block.kind not in beside and block.path in before:
                given, returned = before[block.path]
                assert all(any(torch.equal(one, other) for other in given) for one in returned[:streams]), (
                    f"with all its scales at 0, block {block.path} is not the identity"
                )
        others = [block.path for block in found if block.kind in beside and block.path in before]
        inside = tuple(f"{path}." for path in others)
        branches = [model.get_submodule(site.path) for site in sites if site.path.startswith(inside)]
        with _redrawn(branches):
            after = _block_traffic(model, call, others)
        for path in others:
            assert _same(after[path][1][:streams], before[path][1][:streams]), (
                f"with scales at 0, block {path} depends on its branches"
            )


def check_rows(model: nn.Module, call: Call, rows: int, blocks: Lines = None, *, exactly: bool = True) -> None:
    """Check that in a batch of different candidates, every row is bit-identical to a batch of its candidate alone.

    Experts take their tokens from all rows together, so that the sizes of their products depend on the other rows; with
    `exactly` false, rows must be equal but for rounding.
    """
    with _scaled(model, blocks) as (scaling, sites), torch.no_grad():
        scales = _random_scales(rows, len(sites))
        scaling.set(scales)
        mixed = _rows_of(_forward(model, call), rows)
        for row in range(rows):
            scaling.set(scales[row : row + 1])
            alone = _rows_of(_forward(model, call), rows)
            same = _same(mixed[row], alone[row])
            if not exactly:
                same = _distance(mixed[row], alone[row]) <= ROUNDING
            assert same, f"row {row} of a mixed batch differs from its candidate alone"


def check_every_site(model: nn.Module, call: Call, blocks: Lines = None) -> list[str]:
    """Check that every site changes the output by more than rounding, and that dead sites change no bit of it.

    This check also finds a site before a norm that undoes its scale, because only rounding then changes the output.

    Returns:
        Names of the sites that cannot reach the output, according to `dead_sites`.
    """
    untouched = output(model, call)
    with _scaled(model, blocks) as (scaling, sites):
        dead = set(dead_sites(model, sites, call, measured=True))
        for index, site in enumerate(sites):
            scales = torch.ones(1, len(sites))
            scales[0, index] = 1.5
            scaling.set(scales)
            distance = _distance(output(model, call), untouched)
            if index in dead:
                assert distance == 0, f"site {site.name} moves the output, but is said to be dead"
            else:
                assert distance > ROUNDING, f"site {site.name} moves nothing"
    return [sites[index].name for index in sorted(dead)]


def check_removal(model: nn.Module, call: Call, blocks: Lines = None) -> None:
    """Check that removal restores the output and leaves no hook and no attribute behind."""
    before = output(model, call)
    traces = {path: (set(vars(module)), len(module._forward_hooks)) for path, module in model.named_modules()}
    with _scaled(model, blocks) as (scaling, sites):
        scaling.set(_random_scales(1, len(sites)))
        assert not _same(output(model, call), before), "scales change nothing at all"
    assert _same(output(model, call), before), "after removal the output differs"
    left = {path: (set(vars(module)), len(module._forward_hooks)) for path, module in model.named_modules()}
    assert left == traces, "after removal something is left on the model"


def check_gradient(model: nn.Module, call: Call, blocks: Lines = None, num_directions: int = 2) -> None:
    """Check autograd's derivative in random directions of scale space against central differences.

    Parts of most classes compute in float32 regardless of their dtype. The error of a short step is dominated by
    rounding, that of a long step by curvature, and the best length differs between classes. Therefore one of three
    lengths must agree.
    """
    dtype = torch.float64 if next(model.parameters()).dtype == torch.float64 else torch.float32
    tolerance = 2e-3 if dtype == torch.float64 else 2e-2
    generator = torch.Generator().manual_seed(6)
    weights = [torch.randn(part.shape, generator=generator).double() for part in output(model, call)]
    with _scaled(model, blocks) as (scaling, sites):
        point = 1 + 0.2 * _random_scales(1, len(sites)).double()

        def loss(scales: Tensor) -> Tensor:
            scaling.set(scales.to(dtype))
            parts = _tensors(_forward(model, call))
            return torch.stack([(part * weight).sum() for part, weight in zip(parts, weights, strict=True)]).sum()

        with torch.enable_grad():
            scales = point.clone().requires_grad_()
            (gradient,) = torch.autograd.grad(loss(scales), scales)
        for _ in range(num_directions):
            direction = torch.randint(0, 2, point.shape, generator=generator).double() * 2 - 1
            exact = float((gradient * direction).sum())
            with torch.no_grad():
                estimates = [
                    float(loss(point + step * direction) - loss(point - step * direction)) / (2 * step)
                    for step in (1e-2, 1e-3, 1e-4)
                ]
            assert min(abs(estimate - exact) for estimate in estimates) <= tolerance * float(gradient.abs().sum()), (
                f"along a direction of scale space autograd says {exact:.6g}, differences say {estimates}"
            )


def output(model: nn.Module, call: Call) -> list[Tensor]:
    """Return every tensor of a forward call's result, in order, without gradients."""
    with torch.no_grad():
        return _tensors(_forward(model, call))


def _forward(model: nn.Module, call: Call) -> Any:
    """Call the model with copied arguments, because the call could change them, for example a key-value cache."""
    return model(**copy.deepcopy(dict(call)))


@contextmanager
def _scaled(model: nn.Module, blocks: Lines) -> Iterator[tuple[Scaling, list[Site]]]:
    sites = find_sites(model, blocks)
    scaling = Scaling(model, sites)
    try:
        yield scaling, sites
    finally:
        scaling.remove()


def _block_traffic(model: nn.Module, call: Call, paths: Sequence[str]) -> dict[str, tuple[list[Tensor], list[Tensor]]]:
    """Return the input and output tensors of each block that runs, by the block's path."""
    traffic: dict[str, tuple[list[Tensor], list[Tensor]]] = {}

    def listen(path: str) -> Any:
        def note(_module: nn.Module, args: Any, kwargs: Any, result: Any) -> None:
            traffic[path] = [part.clone() for part in _tensors((args, kwargs))], _tensors(result)

        return note

    handles = [
        model.get_submodule(path).register_forward_hook(listen(path), with_kwargs=True, prepend=True) for path in paths
    ]
    try:
        output(model, call)
    finally:
        for handle in handles:
            handle.remove()
    return traffic


@contextmanager
def _redrawn(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Use other random parameters in some modules within the block."""
    generator = torch.Generator().manual_seed(7)
    kept = [(parameter, parameter.clone()) for module in modules for parameter in module.parameters()]
    try:
        for parameter, _ in kept:
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
        yield
    finally:
        for parameter, before in kept:
            parameter.copy_(before)


def _tensors(value: Any) -> list[Tensor]:
    """Return the tensors in nested tuples, lists and mappings, in order."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Mapping):
        value = list(value.values())
    return [tensor for part in value for tensor in _tensors(part)] if isinstance(value, list | tuple) else []


def _same(first: Sequence[Tensor], second: Sequence[Tensor]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


def _distance(first: Sequence[Tensor], second: Sequence[Tensor]) -> float:
    """Return the largest difference, relative to the largest value."""
    pairs = zip(first, second, strict=True)
    return max(float((one - other).abs().max() / other.abs().max().clamp_min(1e-30)) for one, other in pairs)


def _rows_of(value: Any, rows: int) -> list[list[Tensor]]:
    """Split an output by row. A list holds one tensor per row; a tensor may hold several frames per row."""
    if isinstance(value, Tensor):
        return [[part] for part in value.chunk(rows)]
    if isinstance(value, list) and len(value) == rows:
        return [_tensors(part) for part in value]
    parts = [_rows_of(part, rows) for part in (value.values() if isinstance(value, Mapping) else value)]
    return [[tensor for part in parts for tensor in part[row]] for row in range(rows)]


def _random_scales(rows: int, num_sites: int) -> Tensor:
    return torch.rand(rows, num_sites, generator=torch.Generator().manual_seed(5)) * 3 - 1
