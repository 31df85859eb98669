"""`torch.compile`, after scales are attached: hooks added later would silently be ignored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import torch

from ..ground.errors import ModelError
from .loading import Offload
from .sites import find_blocks

if TYPE_CHECKING:
    from torch import nn

Compile = Literal["off", "regional", "full"]

# What lasts: after each call, the hooks that offload a whole transformer put back the `forward` that they found at
# first; those on its layers move weights, which cannot be part of a block's compiled code.
_OFFLOADS: dict[Compile, tuple[Offload, ...]] = {
    "off": ("none", "model", "group", "sequential"),
    "regional": ("none", "model"),
    "full": ("none",),
}


def check_compiling(how: Compile, offload: Offload) -> None:
    """Refuse to compile what offloading takes apart again.

    Raises:
        ModelError: If so.
    """
    if offload in _OFFLOADS[how]:
        return
    if offload == "model":
        raise ModelError(
            "compile: full lasts for one call only under offload: model; choose compile: regional, or offload: none"
        )
    allowed = " or ".join(_OFFLOADS["regional"])
    raise ModelError(
        f"compile: {how} does not work with offload: {offload}, which moves single layers in and out of the compiled "
        f"code; choose compile: off, or compile: regional with offload: {allowed}"
    )


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
