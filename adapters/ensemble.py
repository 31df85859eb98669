"""Ensembles: M settings of one transformer and M output weights (Calibri, section 3.4, equation 4).

Hooks on the transformer itself repeat the incoming rows once a member, with each member's conditioning and
scales, and give the weighted sum back. The pipeline around it runs unmodified and sees one ordinary forward
pass. Guidance is the case of two members that see the conditional and the unconditional prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from ..engine.errors import ModelError
from .scaling import Scaling
from .sites import Site

if TYPE_CHECKING:
    from torch import nn

Condition = Literal["conditional", "unconditional"]


@dataclass(frozen=True)
class Conditioning:
    """How a transformer takes its inputs.

    Attributes:
        rows: Keyword arguments whose first dimension is the batch.
        prompt: Those among them that carry the prompt, and so differ between members.
    """

    rows: tuple[str, ...]
    prompt: tuple[str, ...]


class Ensemble:
    """Members of one transformer, attached until `remove`.

    Args:
        model: The transformer.
        sites: Its sites.
        members: What each member sees.
        conditioning: How the transformer takes its inputs.
        guided: Tells whether the pipeline stacks unconditional rows before conditional ones itself in the
            forward pass at hand. If so they are taken from there, and the sum is given back for both halves,
            which makes the pipeline's own guidance formula give exactly that sum.
    """

    def __init__(
        self,
        model: nn.Module,
        sites: Sequence[Site],
        members: Sequence[Condition],
        conditioning: Conditioning,
        guided: Callable[[], bool] = lambda: False,
    ) -> None:
        self.members = tuple(members)
        self.conditioning = conditioning
        self.unconditional: Mapping[str, Tensor] = {}
        self._guided = guided
        self._scales: Tensor | None = None
        self._weights: Tensor | None = None
        self._scaling = Scaling(model, sites)
        self._handles = [
            model.register_forward_pre_hook(self._spread, with_kwargs=True),
            model.register_forward_hook(self._combine),
        ]

    def set(self, scales: Tensor | None, weights: Tensor | None) -> None:
        """Set every member's scales and weight; None for both makes the hooks idle.

        Args:
            scales: Shape (num_rows, num_members, num_sites), or num_rows 1 for all rows alike; float32.
            weights: Shape (num_rows, num_members); float64.
        """
        self._scales, self._weights = scales, weights
        if scales is None:
            self._scaling.set(None)

    def remove(self) -> None:
        """Take all hooks off; the model is as it was."""
        for handle in self._handles:
            handle.remove()
        self._scaling.remove()

    def _spread(self, _model: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]] | None:
        """Repeat the rows once a member, with each member's conditioning."""
        if self._scales is None:
            return None
        if args:
            raise ModelError("the transformer was called with positional arguments; name them, as pipelines do")
        inputs = {name: kwargs[name] for name in self.conditioning.rows if kwargs.get(name) is not None}
        without: Mapping[str, Tensor] = self.unconditional
        if self._guided():
            halves = {name: value.chunk(2) for name, value in inputs.items()}
            without = {name: halves[name][0] for name in self.conditioning.prompt}
            inputs = {name: second for name, (_, second) in halves.items()}
        num_rows = len(next(iter(inputs.values())))
        spread = {}
        for name, value in inputs.items():
            seen = [value] * len(self.members)
            if name in self.conditioning.prompt:
                seen = [
                    value if member == "conditional" else without[name].to(value).expand_as(value)
                    for member in self.members
                ]
            spread[name] = torch.cat(seen)
        scales = self._scales.expand(num_rows, -1, -1)
        self._scaling.set(scales.transpose(0, 1).flatten(0, 1))
        return args, {**kwargs, **spread}

    def _combine(self, _model: nn.Module, _args: Any, output: Any) -> Any:
        """Give the members' weighted sum back, in the pipeline's layout."""
        if self._weights is None:
            return None
        is_tuple = isinstance(output, tuple)
        members = (output[0] if is_tuple else output.sample).unflatten(0, (len(self.members), -1))
        combined = weighted_sum(members, self._weights)
        if self._guided():
            combined = torch.cat([combined, combined])
        return (combined, *output[1:]) if is_tuple else type(output)(sample=combined)


def weighted_sum(members: Tensor, weights: Tensor) -> Tensor:
    """Sum members' outputs by weight, in at least float32.

    Written around the last member, so that weights (g, 1 - g) give bit for bit the guidance formula
    `uncond + g * (cond - uncond)` of the stock pipelines.

    Args:
        members: Shape (num_members, num_rows, ...).
        weights: Shape (num_rows or 1, num_members), float64.

    Returns:
        Shape (num_rows, ...), in the members' dtype.
    """
    shape = (-1, *[1] * (members.ndim - 2))
    wide = members if members.dtype == torch.float64 else members.float()
    last = wide[-1]
    total = weights.sum(1).to(wide.dtype).view(shape) * last
    for member in range(len(wide) - 1):
        total = total + weights[:, member].to(wide.dtype).view(shape) * (wide[member] - last)
    return total.to(members.dtype)
