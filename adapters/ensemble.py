"""Ensembles: M settings of one transformer and M output weights (Calibri, section 3.4, equation 4).

Hooks on the transformer turn one ordinary forward pass into a forward pass of every member, with the member's
conditioning and scales, and return the weighted sum. The pipeline runs unmodified. Guidance is the case of two members
that see the conditional and the unconditional prompt; skip-layer guidance adds a third member, whose skipped blocks are
scaled to 0.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from ..ground.errors import ModelError
from .rows import unwrapped
from .scaling import Scaling
from .sites import Site

if TYPE_CHECKING:
    from torch import nn

Condition = Literal["conditional", "unconditional"]


@dataclass(frozen=True)
class Conditioning:
    """How a transformer takes its inputs, and how its outputs are combined.

    Attributes:
        rows: Names of the keyword arguments whose first dimension is the batch, latents first.
        prompt: The names in `rows` of arguments that carry the prompt and therefore differ between members.
        hints: The names in `rows` of lists of tensors that another model, a ControlNet, made from latents and prompt.
        together: Whether members share one batch, as in the stock pipeline's guidance, or have one batch each.
        rescaled: Whether a guided sum is rescaled to the norm of the conditional prediction.
    """

    rows: tuple[str, ...]
    prompt: tuple[str, ...]
    hints: tuple[str, ...] = ()
    together: bool = True
    rescaled: bool = False


@dataclass(frozen=True)
class OwnGuidance:
    """Functions that inspect the own guidance of the calling pipeline.

    Attributes:
        check: Refuses kinds of guidance that do not work with an ensemble.
        num_groups: Returns 2 if the pipeline stacks unconditional rows before conditional ones, otherwise 1. With 2,
            the members take these rows as their inputs, and the sum is returned for both halves, so that the pipeline's
            own guidance formula gives exactly that sum.
        moment: Returns an object that identifies the current denoising. A second forward pass on the same latents in
            one denoising is the pipeline's own guidance; it returns the sum of the first pass, to the same effect.
        is_empty: Returns whether the pipeline's negative prompt is the one that the unconditional member sees; None if
            it was not given as text.
        keeps_prompt: Whether the unconditional member sees its own prompt also where the pipeline stacks rows for one,
            so that a pipeline with another negative prompt is refused.
        empty: The prompt that the unconditional member sees, for messages.
        off: The argument by which the pipeline's guidance is switched off, for messages.
    """

    check: Callable[[], None]
    num_groups: Callable[[], int] = lambda: 1
    moment: Callable[[], object] | None = None
    is_empty: Callable[[], bool | None] = lambda: None
    keeps_prompt: bool = False
    empty: str = ""
    off: str = "true_cfg_scale=1"


class Ensemble:
    """The members of one transformer, attached until `remove` is called and idle until `set` is called.

    Args:
        model: The transformer, with or without a PEFT wrapper.
        sites: The transformer's sites.
        members: What each member sees.
        conditioning: How the transformer takes its inputs.
        own: Functions that inspect the pipeline's own guidance, which may be on. If all members see the prompt, the
            pipeline's guidance is left alone: every forward pass becomes a sum over the members.

    Raises:
        ModelError: If the model is already compiled or hooked.
    """

    def __init__(
        self,
        model: nn.Module,
        sites: Sequence[Site],
        members: Sequence[Condition],
        conditioning: Conditioning,
        *,
        own: OwnGuidance | None = None,
    ) -> None:
        self.members = tuple(members)
        self.conditioning = conditioning
        self.guides = "unconditional" in members
        self.unconditional: Mapping[str, Tensor] = {}  # the empty prompt in one row, by argument, on the device
        self._own = own
        self._num_groups = 1  # in the current forward pass
        self._skipping = False
        self._scales: Tensor | None = None
        self._weights: Tensor | None = None
        self._tables: dict[tuple[int, int, int | None, torch.device], list[list[Tensor]]] = {}
        self._passes: list[dict[str, Any]] = []
        self._last: tuple[object, object, Tensor, Tensor] | None = None
        self._negative: list[Tensor | None] | None = None
        self._scaling = Scaling(unwrapped(model), sites)
        self._modules = list(unwrapped(model).modules())
        self._handles = [
            model.register_forward_pre_hook(self._spread, with_kwargs=True),
            model.register_forward_hook(self._combine, with_kwargs=True),
        ]

    def set(self, scales: Tensor | None, weights: Tensor | None) -> None:
        """Set every member's scales and weight; None for both makes the hooks idle.

        Args:
            scales: Shape (num_rows, num_members, num_sites), with num_rows 1 for the same scales in all rows; float32.
                They may be on any device and are moved to the device of the transformer's inputs.
            weights: Shape (num_rows, num_members); float64.
        """
        self._scales, self._weights = scales, weights
        self._tables, self._passes, self._last, self._negative = {}, [], None, None
        self._scaling.rest(active=scales is not None)

    def remove(self) -> None:
        """Remove all hooks and restore the model."""
        for handle in self._handles:
            handle.remove()
        self._scaling.remove()

    def _spread(self, _model: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]] | None:
        """Turn one forward pass into one per member. This hook prepares the first; `_combine` makes the others."""
        self._passes = []
        if self._scales is None:
            return None
        self._check(args, kwargs)
        if self._is_repeated(kwargs):
            self._check_negative(kwargs)
            self._scaling.use(None)
            return None
        self._skipping = self.guides and kwargs.get("skip_layers") is not None
        self._num_groups = 1
        if self._skipping:  # the pipeline asks for the conditional rows only, with some layers skipped
            self._passes = [dict(kwargs)]
            latents = kwargs[self.conditioning.rows[0]]
            parts = self._parts(len(latents), latents.device, only=self.members.index("conditional"))
            self._scaling.use(parts[0])
            return None
        if self.guides and self._own is not None:
            self._num_groups = self._own.num_groups()
            if self._num_groups == 2 and self._own.keeps_prompt:
                given = {name: kwargs.get(name) for name in self.conditioning.prompt}
                self._check_negative({name: _half(value, 0) for name, value in given.items() if value is not None})
        seen = [self._seen(member, kwargs) for member in self.members]
        shapes = [{name: _shape(value) for name, value in each.items() if value is not None} for each in seen]
        first: Tensor = seen[0][self.conditioning.rows[0]]
        num_rows = len(first)
        if self.conditioning.together and all(each == shapes[0] for each in shapes):
            seen = [{name: _joined([each[name] for each in seen]) for name in shapes[0]}]
        self._passes = [{**kwargs, **each} for each in seen]
        self._scaling.use(self._parts(num_rows, first.device)[0])
        return args, self._passes[0]

    def _check(self, args: Any, kwargs: Mapping[str, Any]) -> None:
        """Refuse inputs and caches that members cannot share."""
        if args:
            raise ModelError("the transformer was called with positional arguments; name them, as pipelines do")
        if "ip_adapter_image_embeds" in (kwargs.get("joint_attention_kwargs") or {}):
            raise ModelError("an ensemble does not support an IP-Adapter's images; call the pipeline without them")
        if len(self.members) > 1 and _have_cache(self._modules):
            raise ModelError(
                "a cache reuses one member's block outputs for the other members; call the transformer's "
                "disable_cache(), or apply a calibration of one member"
            )
        if self._own is not None:
            self._own.check()

    def _is_repeated(self, kwargs: Mapping[str, Any]) -> bool:
        """Return whether this is the pipeline's second forward pass of a step, for its own guidance."""
        if self._own is None or self._own.moment is None or self._last is None:
            return False
        latents, moment, *_ = self._last
        return kwargs[self.conditioning.rows[0]] is latents and self._own.moment() is moment

    def _seen(self, member: Condition, kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the inputs of a member, with one row per row of the pipeline."""
        inputs = {name: kwargs[name] for name in self.conditioning.rows if kwargs.get(name) is not None}
        without: Mapping[str, Tensor] = self.unconditional
        if self._num_groups == 2:
            changing = (*self.conditioning.prompt, *self.conditioning.hints)
            without = {name: _half(inputs[name], 0) for name in changing if name in inputs}
            inputs = {name: _half(value, 1) for name, value in inputs.items()}
        elif member == "unconditional" and any(name in inputs for name in self.conditioning.hints):
            raise ModelError(
                "a ControlNet also reads the prompt, but was not given the empty prompt; pass a guidance_scale above 1"
            )
        if member == "unconditional":
            num_rows = len(inputs[self.conditioning.rows[0]])
            for name in self.conditioning.prompt:
                value, given = without.get(name), inputs.get(name)
                if value is not None:  # encoded once; the pipeline may have been moved since
                    value = value.to(inputs[self.conditioning.rows[0]].device if given is None else given)
                    value = value.expand(num_rows, *value.shape[1:])
                inputs[name] = value
            inputs.update({name: without[name] for name in self.conditioning.hints if name in inputs})
            self._check_length(inputs, kwargs)
        return inputs

    def _check_negative(self, kwargs: Mapping[str, Any]) -> None:
        """Refuse a negative prompt other than the one that the unconditional member sees."""
        assert self._own is not None
        empty = self._own.is_empty()
        if empty is None:  # given as embeddings, which are the same in every step and compared only once
            given = [kwargs.get(name) for name in self.conditioning.prompt]
            if self._negative is not None and all(map(operator.is_, given, self._negative)):
                return
            wanted = [self.unconditional.get(name) for name in self.conditioning.prompt]
            empty = all(map(_equal, given, wanted))
            self._negative = given if empty else None
        if not empty:
            seen = repr(self._own.empty) if self._own.empty.strip() else "the empty prompt"
            raise ModelError(
                f"the calibration's unconditional member sees {seen}; pass no negative_prompt, or {self._own.off}, or "
                f"negative_prompt={self._own.empty!r}"
            )

    def _check_length(self, inputs: Mapping[str, Any], kwargs: Mapping[str, Any]) -> None:
        """Refuse a prompt whose length differs from that of the calibration's empty prompt."""
        numbered, tokens = kwargs.get("txt_ids"), inputs.get("encoder_hidden_states")
        if numbered is not None and tokens is not None and numbered.shape[-2] != tokens.shape[1]:
            raise ModelError(
                f"the calibration's empty prompt has {tokens.shape[1]} tokens, the pipeline's prompt "
                f"{numbered.shape[-2]}; pass max_sequence_length={tokens.shape[1]}"
            )

    def _parts(self, num_rows: int, device: torch.device, only: int | None = None) -> list[list[Tensor]]:
        """Return the scales of each forward pass, split by module; only those of member `only` if it is given."""
        key = (num_rows, len(self._passes), only, device)
        if key not in self._tables:
            assert self._scales is not None
            scales = self._scales.to(device).expand(num_rows, -1, -1).transpose(0, 1)
            scales = scales if only is None else scales[only : only + 1]
            passes = [scales.flatten(0, 1)] if len(self._passes) == 1 else list(scales)
            self._tables[key] = [self._scaling.split(each) for each in passes]
        return self._tables[key]

    def _combine(self, model: nn.Module, _args: Any, kwargs: dict[str, Any], output: Any) -> Any:
        """Make the forward passes of the other members, and return the weighted sum in the pipeline's layout."""
        if self._weights is None:
            return None
        if not self._passes:
            assert self._last is not None
            self._scaling.rest(active=True)
            return _with_sample(output, self._last[2])
        if self._skipping:
            self._scaling.rest(active=True)
            return _with_sample(output, self._skipped(_sample(output)))
        made = [_sample(output)]
        parts = self._parts(len(made[0]) // (len(self.members) if len(self._passes) == 1 else 1), made[0].device)
        for own, scales in zip(self._passes[1:], parts[1:], strict=True):
            self._scaling.use(scales)
            made.append(_sample(model.forward(**own)))
        self._scaling.rest(active=True)
        members = made[0].reshape(len(self.members), -1, *made[0].shape[1:]) if len(made) == 1 else torch.stack(made)
        combined = self._sum(members)
        if self.guides and self._own is not None:
            moment = None if self._own.moment is None else self._own.moment()
            conditional = members[self.members.index("conditional")]
            self._last = (kwargs[self.conditioning.rows[0]], moment, combined, conditional)
        return _with_sample(output, torch.cat([combined] * self._num_groups))

    def _skipped(self, skipped: Tensor) -> Tensor:
        """Return the output of a pass with skipped layers, for a pipeline that adds `scale * (conditional - skipped)`.

        The pipeline uses the sum as its conditional prediction, so the difference must be subtracted from the sum.
        """
        if self._last is None or self._last[2].shape != skipped.shape:
            raise ModelError(
                "the pipeline skips layers for another batch than it has just guided; turn skip-layer guidance off"
            )
        _, _, combined, conditional = self._last
        return combined - (conditional - skipped)

    def _sum(self, members: Tensor) -> Tensor:
        """Return the members' weighted sum by the family's rule; guidance takes differences to the unconditional."""
        assert self._weights is not None
        around = self.members.index("unconditional") if self.guides else len(self.members) - 1
        combined = weighted_sum(members, self._weights, around)
        if self.guides and self.conditioning.rescaled:
            combined = with_norm_of(combined, members[self.members.index("conditional")])
        return combined.to(members.dtype)


def weighted_sum(members: Tensor, weights: Tensor, around: int = -1) -> Tensor:
    """Sum members' outputs by weight, in at least float32.

    The sum is computed from differences to one member. With weights (g, 1 - g), the result is therefore bit-identical
    to the stock pipelines' guidance formula `uncond + g * (cond - uncond)`.

    Args:
        members: Shape (num_members, num_rows, ...).
        weights: Shape (num_rows or 1, num_members), float64, on any device. They are converted to the dtype of the sum
            before they are moved, because some devices have no float64.
        around: Index of the member to which differences are computed.

    Returns:
        Shape (num_rows, ...), float32 or wider.
    """
    shape = (-1, *[1] * (members.ndim - 2))
    wide = members if members.dtype == torch.float64 else members.float()
    pivot = wide[around]
    every = torch.cat([weights.sum(1, keepdim=True), weights], dim=1).to(wide.dtype).to(wide.device)
    total = every[:, 0].view(shape) * pivot
    for member in range(len(wide)):
        if member != around % len(wide):
            total = total + every[:, member + 1].view(shape) * (wide[member] - pivot)
    return total


def with_norm_of(combined: Tensor, conditional: Tensor) -> Tensor:
    """Rescale every token's prediction to the norm of the conditional prediction, as Qwen-Image's pipeline does.

    Args:
        combined: Shape (num_rows, num_tokens, num_channels).
        conditional: The conditional prediction, of the same shape.
    """
    wanted = torch.norm(conditional.to(combined.dtype), dim=-1, keepdim=True)
    found = torch.norm(combined, dim=-1, keepdim=True)
    factor = wanted / found.clamp_min(torch.finfo(found.dtype).tiny)
    rescaled: Tensor = combined * factor.where(found > 0, 0)  # a token of zeros has no direction, and stays
    return rescaled


def _equal(given: Tensor | None, wanted: Tensor | None) -> bool:
    """Return whether every row equals the wanted one; a mask that masks nothing equals None."""
    if given is None or wanted is None:
        only = wanted if given is None else given
        return only is None or (not only.is_floating_point() and bool(only.all()))
    return given.shape[1:] == wanted.shape[1:] and torch.equal(wanted.to(given).expand_as(given), given)


def _shape(value: Any) -> Any:
    return [_shape(each) for each in value] if isinstance(value, (list, tuple)) else value.shape


def _half(value: Any, index: int) -> Any:
    """Return one half of stacked rows."""
    if isinstance(value, (list, tuple)):
        return [_half(each, index) for each in value]
    if len(value) % 2:
        raise ModelError(f"the pipeline guides with an odd number of rows, {len(value)}, which cannot be halved")
    return value.chunk(2)[index]


def _joined(values: Sequence[Any]) -> Any:
    """Join the rows of several members into one batch."""
    if isinstance(values[0], (list, tuple)):
        return [_joined(each) for each in zip(*values, strict=True)]
    return torch.cat(list(values))


def _sample(output: Any) -> Tensor:
    found: Tensor = output[0] if isinstance(output, tuple) else output.sample
    return found


def _with_sample(output: Any, sample: Tensor) -> Any:
    return (sample, *output[1:]) if isinstance(output, tuple) else type(output)(sample=sample)


@torch.compiler.disable  # type: ignore[untyped-decorator]  # it looks at every module's dictionary
def _have_cache(modules: Sequence[nn.Module]) -> bool:
    """Return whether a hook of diffusers reuses results of one forward pass in another, as its caches do."""
    registries = [module.__dict__["_diffusers_hook"] for module in modules if "_diffusers_hook" in module.__dict__]
    return any(hook._is_stateful for registry in registries for hook in registry.hooks.values())
