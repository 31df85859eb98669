"""`torch.compile`, applied after the scale hooks: compiled code would silently ignore hooks added later."""

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

# The ways of offloading that each way of compiling survives. Hooks that offload a whole transformer restore the
# original `forward` after each call; hooks on single layers move weights, which compiled code of a block cannot do.
_OFFLOADS: dict[Compile, tuple[Offload, ...]] = {
    "off": ("none", "model", "group", "sequential"),
    "regional": ("none", "model"),
    "full": ("none",),
}


def check_compiling(how: Compile, offload: Offload) -> None:
    """Refuse a way of compiling that does not work together with the way of offloading.

    Raises:
        ModelError: If the two do not work together.
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
    """Compile a transformer whose sites already have their hooks.

    Regional compilation compiles each block that has sites; equal blocks share their code, so that a large model
    compiles in seconds rather than minutes. Full compilation compiles `forward`, without the hooks around it. Scales
    are inputs of the compiled code: new values do not compile it again.

    Args:
        model: The transformer.
        blocks: Site lines of further block classes.
        how: `regional`, `full`, or `off` to compile nothing.
    """
    if how == "full":
        model.forward = torch.compile(model.forward)
    if how == "regional":
        for block in find_blocks(model, blocks):
            model.get_submodule(block.path).compile(fullgraph=True)
