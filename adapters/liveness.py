"""Liveness: find the sites that cannot reach the output.

In many transformers the last block still updates its text stream, although nothing reads that stream any more. A knob
of such a site changes nothing and wastes a dimension of the search.

Autograd's graph shows which sites these are. Every site is multiplied by a probe, the model is called once, and the
graph is walked back from the output: a site whose probe is not reached is dead. No gradient is computed, and no tensor
is saved for one. The call is made by a copy of the model on the meta device, which has shapes but no numbers. If a
class needs numbers to run (to count a mask, for example), the model itself is called instead, once.
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

_found: dict[tuple[type, str, tuple[Site, ...], str], frozenset[int]] = {}


def dead_sites(
    model: nn.Module, sites: Sequence[Site], kwargs: Mapping[str, Any], *, measured: bool = False
) -> list[int]:
    """Find the sites that cannot reach the output of a forward call.

    The graph tracks tensors, not their parts: two streams that are concatenated and split again seem to reach each
    other. A site that the graph does not rule out may therefore still be dead. Conversely, if a class hides a part of
    its work from autograd, a site that the graph rules out may be alive. `measured` settles both cases.

    Args:
        model: The transformer. It is not changed.
        sites: The transformer's sites.
        kwargs: Keyword arguments of a real forward call, on the model's device. Missing inputs matter: without a
            reference picture, the branches that would read one are dead.
        measured: Also test the sites that the graph rules out and the sites of the last blocks on the model itself,
            with one forward call per site, and return only sites that change no bit of the output.

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
    """Return the sites that the graph does not rule out, or all sites if the class cannot be run in either way."""
    try:
        return _reached_on_meta(model, sites, kwargs)
    except ModelError:  # a site line names an absent item
        raise
    except Exception:  # a foreign class may fail in any way without numbers
        try:
            return _reached(model, sites, kwargs)
        except ModelError:
            raise
        except Exception:  # or fail in any way under autograd
            return set(range(len(sites)))


def _silent(model: nn.Module, sites: Sequence[Site], kwargs: Mapping[str, Any], reached: set[int]) -> list[int]:
    """Return the sites whose flipped sign changes nothing, searched from the last block backwards.

    If all sites of a block reach the output, all streams that enter the block reach it, and so do the sites of earlier
    blocks. The search therefore stops there, except for earlier sites that the graph rules out.
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
                f"the {type(model).__name__} cannot be run with the given inputs: {first_line(error)}"
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
    """Return whether the output stays bit-identical with a site's sign flipped."""
    handle = model.get_submodule(site.path).register_forward_hook(_multiply_by(torch.tensor(-1.0), site.item))
    try:
        output = _tensors(_call(model, kwargs))
    finally:
        handle.remove()
    return all(torch.equal(one, other) for one, other in zip(output, untouched, strict=True))


def _reached_on_meta(model: nn.Module, sites: Sequence[Site], kwargs: Mapping[str, Any]) -> set[int]:
    """Return the sites that are reached in a copy of the model on the meta device.

    What is reached follows from the class, its configuration, the sites and the shapes, so it is found once for them.
    """
    config: Any = model.config
    try:
        own = {name: value for name, value in config.items() if not name.startswith("_")}
        key = (type(model), _plain(own), tuple(sites), _plain(kwargs))
    except TypeError:  # an argument of a class of its own
        return _reached_by_twin(model, sites, kwargs)
    if key not in _found:
        _found[key] = frozenset(_reached_by_twin(model, sites, kwargs))
    return set(_found[key])


def _reached_by_twin(model: nn.Module, sites: Sequence[Site], kwargs: Mapping[str, Any]) -> set[int]:
    with torch.device("meta"):
        config: Any = model.config
        twin: nn.Module = type(model).from_config(config).eval()  # type: ignore[attr-defined]
        return _reached(twin, sites, _each(dict(kwargs), _without_numbers))


def _plain(value: Any) -> str:
    """Write arguments down, with shapes and dtypes in place of numbers.

    Raises:
        TypeError: If a value is of a class that cannot be written down.
    """
    if isinstance(value, Tensor):
        return f"{tuple(value.shape)} {value.dtype}"
    if isinstance(value, Mapping):
        return str({name: _plain(part) for name, part in value.items()})
    if isinstance(value, list | tuple):
        return f"{type(value).__name__} {[_plain(part) for part in value]}"
    if value is None or isinstance(value, bool | int | float | str | torch.dtype):
        return repr(value)
    raise TypeError(f"no plain value: {type(value).__name__}")


def _reached(model: nn.Module, sites: Sequence[Site], kwargs: Mapping[str, Any]) -> set[int]:
    """Return the sites that are reached on the way back from the output of a call."""
    with torch.inference_mode(False), torch.enable_grad(), _probed(model, sites) as probes:
        with torch.autograd.graph.saved_tensors_hooks(_forget, _never):
            output = _call(model, kwargs)
        return _met(output, {id(probe): index for index, probe in enumerate(probes)})


def _call(model: nn.Module, kwargs: Mapping[str, Any]) -> Any:
    """Call `forward` instead of the model, so that other hooks on the model do not run.

    Arguments are copied, because the call could change them, for example a key-value cache.
    """
    return model.forward(**_each(dict(kwargs), lambda tensor: tensor.detach().clone()))


@contextmanager
def _probed(model: nn.Module, sites: Sequence[Site]) -> Iterator[list[Tensor]]:
    """Multiply every site's output by its own probe, a 1 that autograd tracks."""
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
        if item is None and not isinstance(output, tuple):
            return output * probe.to(output.device, output.dtype)
        at = item or 0
        check_item(module, output, at)
        scaled = output[at] * probe.to(output[at].device, output[at].dtype)
        return (*output[:at], scaled, *output[at + 1 :])

    return hook


def _met(output: Any, probes: Mapping[int, int]) -> set[int]:
    """Walk autograd's graph back from every tensor of an output, and return the indices of the probes reached."""
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
    """Return arguments with `change` applied to every tensor, and a copy of everything else."""
    if isinstance(value, Tensor):
        return change(value)
    if type(value) is dict:
        return {name: _each(part, change) for name, part in value.items()}
    return type(value)(_each(part, change) for part in value) if type(value) in (list, tuple) else copy.deepcopy(value)


def _without_numbers(tensor: Tensor) -> Tensor:
    """Return a tensor of the same shape on the meta device, with floating-point dtypes as float32."""
    return torch.empty_like(tensor, device="meta", dtype=torch.float32 if tensor.is_floating_point() else tensor.dtype)


def _forget(_tensor: Tensor) -> None:
    """Save nothing: only the edges of the graph are needed, no gradients."""


def _never(_nothing: None) -> Tensor:
    raise AssertionError("no gradient is ever computed here")
