"""What sites promise on a transformer, checked on one instance of its class.

    model = MyTransformer(num_layers=2, ...).eval()
    check_transformer(model, {"hidden_states": ..., "timestep": ...}, rows=2, blocks={"MyBlock": "block: ..."})

Each check raises an AssertionError that names what went wrong. They are functions and no test class, so that a table
can run them as well as a test suite. Take an instance whose parameters are large enough to be felt: freshly
initialised transformers hardly react to their gates (`trimpot.proofs.transformers.shake`).
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

ROUNDING = 1e-5  # no more than this, relative to its largest value, may an output move by rounding alone


def check_transformer(
    model: nn.Module, call: Call, rows: int, blocks: Lines = None, beside: Collection[str] = ()
) -> list[str]:
    """Run every check.

    Args:
        model: An instance in evaluation mode.
        call: Keyword arguments of a forward call with `rows` rows.
        rows: 1 where the class takes no batch; then rows are not compared.
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
    """Idle hooks, and scales of 1, leave every bit of the output as it was."""
    untouched = output(model, call)
    with _scaled(model, blocks) as (scaling, sites):
        assert _same(output(model, call), untouched), "idle hooks change the output"
        scaling.set(torch.ones(1, len(sites)))
        assert _same(output(model, call), untouched), "scales of 1 change the output"


def check_zero(model: nn.Module, call: Call, blocks: Lines = None, beside: Collection[str] = ()) -> None:
    """With all scales 0 every block hands its streams on untouched: each tensor it returns is one it was given.

    A block class in `beside` does more than add branches (it joins a skip connection into the stream, say). Of its
    blocks it is shown that what the scaled modules compute no longer matters: with other parameters in them, the
    block's output is the same to the bit.
    """
    found = find_blocks(model, blocks)
    with _scaled(model, blocks) as (scaling, sites), torch.no_grad():
        scaling.set(torch.zeros(1, len(sites)))
        before = _block_traffic(model, call, [block.path for block in found])
        for block in found:
            if block.kind not in beside and block.path in before:
                given, returned = before[block.path]
                assert all(any(torch.equal(one, other) for other in given) for one in returned), (
                    f"with all its scales at 0, block {block.path} is no identity"
                )
        others = [block.path for block in found if block.kind in beside and block.path in before]
        inside = tuple(f"{path}." for path in others)
        branches = [model.get_submodule(site.path) for site in sites if site.path.startswith(inside)]
        with _redrawn(branches):
            after = _block_traffic(model, call, others)
        for path in others:
            assert _same(after[path][1], before[path][1]), f"with its scales at 0, block {path} feels its branches"


def check_rows(model: nn.Module, call: Call, rows: int, blocks: Lines = None) -> None:
    """A batch of different candidates gives every row what its candidate gives the whole batch, to the bit."""
    with _scaled(model, blocks) as (scaling, sites), torch.no_grad():
        scales = _random_scales(rows, len(sites))
        scaling.set(scales)
        mixed = _rows_of(_forward(model, call), rows)
        for row in range(rows):
            scaling.set(scales[row : row + 1])
            alone = _rows_of(_forward(model, call), rows)
            assert _same(mixed[row], alone[row]), f"row {row} of a mixed batch is not what its candidate gives alone"


def check_every_site(model: nn.Module, call: Call, blocks: Lines = None) -> list[str]:
    """Every site moves the output by more than rounding, except those that cannot reach it: they change no bit of it.

    A site before a norm that undoes its scale is found here too: there only rounding moves.

    Returns:
        Names of the sites that cannot reach it, as `dead_sites` tells.
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
    """After removal the output is what it was, and no hook and no attribute is left."""
    before = output(model, call)
    traces = {path: (set(vars(module)), len(module._forward_hooks)) for path, module in model.named_modules()}
    with _scaled(model, blocks) as (scaling, sites):
        scaling.set(_random_scales(1, len(sites)))
        assert not _same(output(model, call), before), "scales change nothing at all"
    assert _same(output(model, call), before), "after removal the output is another"
    left = {path: (set(vars(module)), len(module._forward_hooks)) for path, module in model.named_modules()}
    assert left == traces, "after removal something is left on the model"


def check_gradient(model: nn.Module, call: Call, blocks: Lines = None, num_directions: int = 2) -> None:
    """The derivative of the output in random directions of scale space, by autograd and by central differences.

    Parts of most classes compute in float32 whatever their dtype: too short a step is lost in rounding, too long a one
    in curvature, and where the right length lies differs. One of three must agree.
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
    """Every tensor that a forward call returns, in order, without gradients."""
    with torch.no_grad():
        return _tensors(_forward(model, call))


def _forward(model: nn.Module, call: Call) -> Any:
    """Arguments are copied for each call: a key-value cache among them would remember."""
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
    """What each block that runs was given and what it returned, by its path."""
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
    """Other parameters in some modules, for a while."""
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
    """The tensors in nested tuples, lists and mappings, in order."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Mapping):
        value = list(value.values())
    return [tensor for part in value for tensor in _tensors(part)] if isinstance(value, list | tuple) else []


def _same(first: Sequence[Tensor], second: Sequence[Tensor]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


def _distance(first: Sequence[Tensor], second: Sequence[Tensor]) -> float:
    """The largest difference, relative to the largest value."""
    pairs = zip(first, second, strict=True)
    return max(float((one - other).abs().max() / other.abs().max().clamp_min(1e-30)) for one, other in pairs)


def _rows_of(value: Any, rows: int) -> list[list[Tensor]]:
    """Part an output by row: a list holds one tensor a row; in a tensor, a row's frames may stand in the batch."""
    if isinstance(value, Tensor):
        return [[part] for part in value.chunk(rows)]
    if isinstance(value, list) and len(value) == rows:
        return [_tensors(part) for part in value]
    parts = [_rows_of(part, rows) for part in (value.values() if isinstance(value, Mapping) else value)]
    return [[tensor for part in parts for tensor in part[row]] for row in range(rows)]


def _random_scales(rows: int, num_sites: int) -> Tensor:
    return torch.rand(rows, num_sites, generator=torch.Generator().manual_seed(5)) * 3 - 1
