"""An example of a transformer class: a tiny configuration and inputs that fit the configuration."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

import torch
from torch import Tensor, nn


class Draw:
    """A seeded source of inputs for one forward call.

    Attributes:
        rows: Rows of the batch.
        dtype: Dtype of all floating-point inputs.
    """

    def __init__(self, rows: int, dtype: torch.dtype, seed: int) -> None:
        self.rows, self.dtype = rows, dtype
        self._generator = torch.Generator().manual_seed(seed)

    def normal(self, *shape: int) -> Tensor:
        """Draw noise of shape (rows, *shape)."""
        return self.fixed(self.rows, *shape)

    def fixed(self, *shape: int) -> Tensor:
        """Draw noise of exactly this shape, for inputs that the rows of a batch share."""
        return torch.randn(shape, generator=self._generator).to(self.dtype)

    def times(self, end: float) -> Tensor:
        """Draw a time between 0 and `end` for each row, shape (rows,)."""
        return (torch.rand(self.rows, generator=self._generator) * 0.8 + 0.1).mul(end).to(self.dtype)

    def tokens(self, length: int, vocabulary: int) -> Tensor:
        """Draw token ids of shape (rows, length)."""
        return torch.randint(0, vocabulary, (self.rows, length), generator=self._generator)


Maker = Callable[[Draw], Any]


@dataclass(frozen=True)
class Example:
    """A tiny real instance of a transformer class, and inputs for it.

    Configuration and inputs are words of the form `name=value`; if a name occurs twice, the later word is used. Values
    are Python literals without spaces, or plain text. Inputs may also have these values:

        ~4x8            noise of shape (rows, 4, 8)
        [~4x8]          a list with noise of shape (4, 8) for each row
        steps, sigmas   a time for each row, from 0 to 1000 or from 0 to 1; `steps:2` for each of two frames
        ones:5          a mask of shape (rows, 5) that hides nothing
        ids:4x3         coordinates of 4 tokens along 3 axes
        rows:(32,32)    a tensor with these numbers in every row
        each:(1,2,2)    a list with this value for each row

    Attributes:
        kind: Name of the class.
        config: Keyword arguments of the constructor.
        inputs: Keyword arguments of the forward call.
        also: Keyword arguments that no word can express. A function is called with a `Draw`; any other value is passed
            unchanged.
        max_rows: 1 if the class takes no batch of independent rows.
        precision: `float32` if the class cannot compute in float64.
        differentiable: False if autograd does not support the class on a CPU.
        beside: Block classes that do more than add branches to their streams, each with a description of the rest. With
            all scales at 0, such a block is not the identity, but its branches must still have no effect.
        streams: How many tensors of a block's output are its streams; None if all are.
        exact_rows: Whether the other rows of a batch change no bit of a row; see `check_rows`.
    """

    kind: str
    config: str
    inputs: str
    also: Mapping[str, Any] = field(default_factory=dict)
    max_rows: int = 8
    precision: Literal["float32", "float64"] = "float64"
    differentiable: bool = True
    beside: Mapping[str, str] = field(default_factory=dict)
    exact_rows: bool = True
    streams: int | None = None

    def build(self, dtype: torch.dtype = torch.float32) -> nn.Module:
        """Build a tiny instance with reproducible parameters, all large enough to have an effect."""
        settings = {key: _literal(text) for key, text in _words(self.config).items()}
        torch.manual_seed(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warnings that concern only large instances
            model = transformer_classes()[self.kind](**settings)
        shake(model)
        for module in model.children():  # not `model.to`, which warns about layers that should stay in float32
            module.to(dtype)
        for parameter in model.parameters():
            parameter.data = parameter.data.to(dtype)
        return model.eval()

    def arguments(self, rows: int = 2, dtype: torch.dtype = torch.float32, seed: int = 0) -> dict[str, Any]:
        """Return keyword arguments of a forward call with `rows` rows, or fewer if the class takes fewer."""
        draw = Draw(min(rows, self.max_rows), dtype, seed)
        made = {name: _made(text, draw) for name, text in _words(self.inputs).items()}
        return made | {name: value(draw) if callable(value) else value for name, value in self.also.items()}


def _words(text: str) -> dict[str, str]:
    pairs = (word.partition("=") for word in text.split())
    return {name: value for name, _, value in pairs}


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _shape(text: str) -> list[int]:
    return [int(size) for size in text.split("x")]


def _made(text: str, draw: Draw) -> Any:
    """Return the value that a word of the inputs stands for."""
    if text.startswith("~"):
        return draw.normal(*_shape(text[1:]))
    if text.startswith("[~"):
        return [draw.fixed(*_shape(text[2:-1])) for _ in range(draw.rows)]
    kind, _, rest = text.partition(":")
    match kind:
        case "steps" | "whole_steps" | "sigmas":
            times = draw.times(1.0 if kind == "sigmas" else 1000.0)
            times = times.long() if kind == "whole_steps" else times
            return times[:, None].expand(-1, int(rest)) if rest else times
        case "ones":
            return torch.ones(draw.rows, *_shape(rest), dtype=torch.bool)
        case "ids":
            length, axes = _shape(rest)
            return torch.stack([torch.arange(length) // 2**axis % 4 for axis in range(axes)], dim=-1).to(draw.dtype)
        case "rows":
            return torch.tensor([_literal(rest)] * draw.rows, dtype=torch.float32)
        case "each":
            return [_literal(rest)] * draw.rows
    return _literal(text)


def shake(model: nn.Module, scale: float = 0.3) -> None:
    """Add noise to every parameter, because freshly initialised transformers hardly react to their gates."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * scale)


@cache
def transformer_classes() -> dict[str, type[nn.Module]]:
    """Return every transformer class of the installed diffusers, by name."""
    import importlib
    import inspect
    import pkgutil

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about optional packages that are not needed here
        from diffusers.models import transformers

        modules = [
            importlib.import_module(f"{transformers.__name__}.{found.name}")
            for found in pkgutil.iter_modules(transformers.__path__)
        ]
        from diffusers import ModelMixin
    return {
        name: kind
        for module in modules
        for name, kind in sorted(vars(module).items())
        if inspect.isclass(kind) and kind.__module__ == module.__name__ and issubclass(kind, nn.Module)
        if issubclass(kind, ModelMixin) or name.endswith("Model")  # two parts of U-Nets are not ModelMixins
    }
