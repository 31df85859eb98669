"""Assign each candidate's scales to all rows that a stock pipeline passes to its transformers for an output."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.nn import Module

from ..ground.errors import ModelError
from .scaling import Scaling
from .sites import SECOND, Site, site_at

if TYPE_CHECKING:
    import torch
    from torch import nn


def unwrapped(model: Any) -> Any:
    """Return the transformer inside a PEFT wrapper, because a call of the wrapper skips the transformer's hooks."""
    while type(model).__module__.startswith("peft.") and hasattr(getattr(model, "base_model", None), "model"):
        model = model.base_model.model
    return model


def is_language_model(model: Any) -> bool:
    """Return whether a model is one of transformers, and not of diffusers."""
    return any(each.__name__ == "PreTrainedModel" for each in type(unwrapped(model)).__mro__)


def transformer_of(pipe: Any) -> Any:
    """Return a pipeline's transformer, the first if there are two; None if there is none.

    A model that is called by itself, such as a language model, is its own; pipelines of transformers call it `model`.
    """
    if isinstance(pipe, Module):
        return pipe
    model = getattr(pipe, "model", None)
    return getattr(pipe, "transformer", model if isinstance(model, Module) and is_language_model(model) else None)


def transformers(pipe: Any) -> dict[str, nn.Module]:
    """Return a pipeline's transformers by the prefix of their knobs and addresses: empty, and `transformer_2.`."""
    second = None if isinstance(pipe, Module) else getattr(pipe, SECOND, None)
    return {"": transformer_of(pipe), **({} if second is None else {f"{SECOND}.": second})}


def site_within(models: Mapping[str, nn.Module], address: str) -> Site:
    """Return the site at an address that may start with its transformer's prefix.

    Raises:
        ModelError: If there is no such module.
    """
    prefix = f"{SECOND}." if address.startswith(f"{SECOND}.") and f"{SECOND}." in models else ""
    return site_at(unwrapped(models[prefix]), address.removeprefix(prefix)).within(prefix)


class StackedRows:
    """One row of scales per output, repeated as often as the pipeline stacks its rows for guidance.

    Pipelines that guide in one forward pass stack all unconditional rows before all conditional ones, so the table of
    scales is repeated as a whole. Other pipelines make a forward pass for each, and nothing is repeated.

    Args:
        models: The transformers, as `transformers` returns them.
        sites: The transformers' sites.
    """

    def __init__(self, models: Mapping[str, nn.Module], sites: Sequence[Site]) -> None:
        self._each: list[tuple[list[int], _Rows]] = []
        for prefix, model in models.items():
            own = [at for at, site in enumerate(sites) if site.path.startswith(f"{SECOND}.") == bool(prefix)]
            bare = [replace(sites[at], path=sites[at].path.removeprefix(prefix)) for at in own]
            try:
                self._each.append((own, _Rows(model, bare)))
            except ModelError:
                self.remove()  # so that a failure leaves no hooks behind
                raise

    def set(self, scales: Tensor | None, _weights: Tensor | None = None) -> None:
        """Set scales of shape (num_rows, 1, num_sites), or disable the hooks with None; weights are ignored."""
        for own, rows in self._each:
            rows.set(None if scales is None else scales[:, 0, own])

    def remove(self) -> None:
        """Remove all hooks from the transformers."""
        for _, rows in self._each:
            rows.remove()


class _Rows:
    """The rows of one transformer."""

    def __init__(self, model: nn.Module, sites: Sequence[Site]) -> None:
        self._first = list(inspect.signature(type(unwrapped(model)).forward).parameters)[1]  # after self
        self._scales: Tensor | None = None
        self._parts: dict[tuple[int, torch.device], list[Tensor]] = {}
        self._scaling = Scaling(unwrapped(model), sites)
        self._handles = [
            model.register_forward_pre_hook(self._repeat, with_kwargs=True),
            model.register_forward_hook(self._rest),
        ]

    def set(self, scales: Tensor | None) -> None:
        self._scales, self._parts = scales, {}
        self._scaling.rest(active=scales is not None)

    def remove(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._scaling.remove()

    def _rest(self, _model: nn.Module, _args: Any, _output: Any) -> None:
        if self._scales is not None:
            self._scaling.rest(active=True)

    def _repeat(self, _model: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        if self._scales is None:
            return
        num_rows = len(self._scales)
        given = args[0] if args else kwargs.get(self._first)
        if given is None:  # a language model that is given embeddings instead of tokens
            given = next(each for each in kwargs.values() if isinstance(each, Tensor))
        device = getattr(given, "device", self._scales.device)  # some transformers are given a list
        num_given = len(given) if num_rows > 1 else 1  # a single row of scales applies to all rows
        if num_given % num_rows:
            raise ModelError(
                f"the pipeline calls its transformer with {num_given} rows for {num_rows} outputs, so it is unclear "
                "which row belongs to which output; set batch_size: 1"
            )
        key = (num_given, device)
        if key not in self._parts:
            repeated = self._scales.to(device).repeat(num_given // num_rows, 1)
            self._parts[key] = self._scaling.split(repeated)
        self._scaling.use(self._parts[key])
