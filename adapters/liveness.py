"""Liveness: which sites cannot reach the output.

In many transformers the last block still updates its text stream, and nothing reads it any more. A knob there moves
nothing, and a search that does not know wastes a dimension on it.

The graph that autograd draws tells. A probe is put on every site, a call is made, and the graph is walked back from
the output: a site whose probe is never met is dead. No gradient is computed, and nothing that a gradient would need is
kept. The call is made by a twin of the model on the meta device, which has shapes but no numbers; where a class needs
numbers to find its way (it counts a mask, say), the model itself makes it, once.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..ground.errors import ModelError, first_line
from .scaling import check_item
from .sites import Site

if TYPE_CHECKING:
    from torch import nn


def dead_sites(
    model: nn.Module, sites: Sequence[Site], kwargs: Mapping[str, Any], *, measured: bool = False
) -> list[int]:
    """Find the sites that cannot reach the output of a forward call.

    The graph knows tensors and not their parts: streams that are joined and cut apart again further on look as if they
    reached each other. So a site that it does not rule out may still be dead. (And where a class hides a part of its
    work from autograd, one that it does rule out could be alive.) Measuring settles both.

    Args:
        model: The transformer. It is left as it is.
        sites: Sites of it.
        kwargs: Keyword arguments of a real forward call, on the model's device. What it leaves out matters: without
            a reference picture, the branches that would read it are dead.
        measured: Also try, on the model itself and with a forward call each, the sites that the graph rules out and
            those of the last blocks, and call dead only those that change no bit of the output.

    Returns:
        Indices of the dead sites, in order.

    Raises:
        ModelError: If a site names an item of an output that has no such item.
    """
    reached = _ruled_in(model, sites, kwargs)
    if measured:
        return _silent(model, sites, kwargs, reached)
    return [index for index in range(len(sites)) if index not in reached]


def _ruled_in(model: nn.Module, sites: Sequence[Site], kwargs: Mapping[str, Any]) -> set[int]:
    """The sites that the graph does not rule out; all of them where a class can be run neither way."""
    try:
        return _reached_on_meta(model, sites, kwargs)
    except ModelError:  # a site line that names what is not there
        raise
    except Exception:  # whatever a foreign class does without numbers
        try:
            return _reached(model, sites, kwargs)
        except ModelError:
            raise
        except Exception:  # and whatever it does with autograd looking on
            return set(range(len(sites)))


def _silent(model: nn.Module, sites: Sequence[Site], kwargs: Mapping[str, Any], reached: set[int]) -> list[int]:
    """The sites that change nothing when their sign is flipped, searched from the last blocks backwards.

    A block whose sites all reach the output hands on streams that all reach it, and so do the blocks before it: there
    the search stops, unless the graph has ruled out a site even before.
    """
    lists: dict[str, dict[str, list[int]]] = {}
    for index, site in enumerate(sites):
        lists.setdefault(site.block.rpartition(".")[0], {}).setdefault(site.block, []).append(index)
    silent: list[int] = []
    with torch.no_grad():
        try:
            untouched = _tensors(_call(model, kwargs))
        except ModelError:
            raise
        except Exception as error:  # sizes and memory fail in many classes
            raise ModelError(
                f"the {type(model).__name__} cannot be run with the inputs at hand: {first_line(error)}"
            ) from error
        for blocks in lists.values():
            at_the_end = True
            for indices in reversed(blocks.values()):
                tried = [index for index in indices if at_the_end or index not in reached]
                found = [index for index in tried if _flipping(model, sites[index], kwargs, untouched)]
                silent += found
                at_the_end = at_the_end and bool(found)
    return sorted(silent)


def _flipping(model: nn.Module, site: Site, kwargs: Mapping[str, Any], untouched: Sequence[Tensor]) -> bool:
    """Whether the output stays what it was, to the bit, with a site's sign flipped."""
    handle = model.get_submodule(site.path).register_forward_hook(_multiply_by(torch.tensor(-1.0), site.item))
    try:
        output = _tensors(_call(model, kwargs))
    finally:
        handle.remove()
    return all(torch.equal(one, other) for one, other in zip(output, untouched, strict=True))


def _reached_on_meta(model: nn.Module, sites: Sequence[Site], kwargs: Mapping[str, Any]) -> set[int]:
    with torch.device("meta"):
        config: Any = model.config
        twin: nn.Module = type(model).from_config(config).eval()  # type: ignore[attr-defined]
        return _reached(twin, sites, _each(dict(kwargs), _without_numbers))


def _reached(model: nn.Module, sites: Sequence[Site], kwargs: Mapping[str, Any]) -> set[int]:
    """Which sites are met on the way back from the output of a call."""
    with torch.inference_mode(False), torch.enable_grad(), _probed(model, sites) as probes:
        with torch.autograd.graph.saved_tensors_hooks(_forget, _never):
            output = _call(model, kwargs)
        return _met(output, {id(probe): index for index, probe in enumerate(probes)})


def _call(model: nn.Module, kwargs: Mapping[str, Any]) -> Any:
    """Run `forward` and not the model, so that hooks that others have put on the model do not hear of it.

    Arguments are copied: a key-value cache among them would remember.
    """
    return model.forward(**_each(dict(kwargs), lambda tensor: tensor.detach().clone()))


@contextmanager
def _probed(model: nn.Module, sites: Sequence[Site]) -> Iterator[list[Tensor]]:
    """Multiply every site by a 1 of its own that autograd follows."""
    probes, handles = [], []
    try:
        for site in sites:
            device = next(model.parameters()).device
            probes.append(torch.ones((), device=device, requires_grad=True))
            hook = _multiply_by(probes[-1], site.item)
            handles.append(model.get_submodule(site.path).register_forward_hook(hook))
        yield probes
    finally:
        for handle in handles:
            handle.remove()


def _multiply_by(probe: Tensor, item: int | None) -> Callable[[nn.Module, Any, Any], Any]:
    def hook(module: nn.Module, _args: Any, output: Any) -> Any:
        if item is None:
            return output * probe.to(output.device, output.dtype)
        check_item(module, output, item)
        scaled = output[item] * probe.to(output[item].device, output[item].dtype)
        return (*output[:item], scaled, *output[item + 1 :])

    return hook


def _met(output: Any, probes: Mapping[int, int]) -> set[int]:
    """Walk autograd's graph back from every tensor of an output; return which probes are met."""
    waiting = [tensor.grad_fn for tensor in _tensors(output) if tensor.grad_fn is not None]
    seen, met = set(waiting), set()
    while waiting:
        node = waiting.pop()
        if (index := probes.get(id(getattr(node, "variable", None)))) is not None:
            met.add(index)
        following = {after for after, _ in node.next_functions if after is not None} - seen
        seen |= following
        waiting.extend(following)
    return met


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return [tensor for part in parts for tensor in _tensors(part)]


def _each(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Arguments with every tensor changed, and everything else a copy."""
    if isinstance(value, Tensor):
        return change(value)
    if type(value) is dict:
        return {name: _each(part, change) for name, part in value.items()}
    return type(value)(_each(part, change) for part in value) if type(value) in (list, tuple) else copy.deepcopy(value)


def _without_numbers(tensor: Tensor) -> Tensor:
    """A tensor's shape, in the float32 of a fresh model."""
    return torch.empty_like(tensor, device="meta", dtype=torch.float32 if tensor.is_floating_point() else tensor.dtype)


def _forget(_tensor: Tensor) -> None:
    """Keep nothing: gradients are not wanted, only who leads to whom."""


def _never(_nothing: None) -> Tensor:
    raise AssertionError("no gradient is ever computed here")
