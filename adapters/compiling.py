"""`torch.compile`, after scales are attached: hooks added later would silently be ignored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import torch

from .sites import find_blocks

if TYPE_CHECKING:
    from torch import nn

Compile = Literal["off", "regional", "full"]


def compile_transformer(model: nn.Module, blocks: Mapping[str, str], how: Compile) -> None:
    """Compile a transformer whose sites carry their hooks already.

    Regional compilation works on each block that has sites; equal blocks share their code, so that a large model
    compiles in seconds rather than minutes. Full compilation works on `forward` and leaves what is hooked around it
    alone. Scales are inputs of the compiled code: values change without compiling again.

    Args:
        model: The transformer.
        blocks: Site lines of further block classes.
        how: `regional`, `full`, or `off` for nothing.
    """
    if how == "full":
        model.forward = torch.compile(model.forward)
    if how == "regional":
        for block in find_blocks(model, blocks):
            model.get_submodule(block.path).compile(fullgraph=True)
