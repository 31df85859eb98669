"""LoRAs merged into a transformer before knobs attach, without PEFT.

A LoRA holds two thin matrices for some linear layers: A of shape (rank, in_features) and B of shape
(out_features, rank). Merging adds their product to the layer's weight (LoRA, Hu et al. 2021, section 4.1),

    W + scaling * B @ A,   scaling = alpha / rank, or alpha / sqrt(rank) for rank-stabilised ones (rsLoRA),

computed in float32 and rounded once to the weight's own dtype. All layers are checked before any weight changes.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..ground.errors import ModelError
from .lora_files import FLOW_GRPO, SHIPPED, Pair, find_lora, read_lora

__all__ = ["FLOW_GRPO", "SHIPPED", "merge_lora"]


def merge_lora(transformer: nn.Module, source: str | Path, *, revision: str | None = None) -> dict[str, Any]:
    """Merge a LoRA into a transformer, in place.

    Args:
        transformer: The transformer, neither quantized nor offloaded yet.
        source: A .safetensors file in the layout of diffusers, PEFT, kohya or the model's authors, a folder with
            such a file, a hub id, `owner/name/file.safetensors`, the address of its page, or a name in `FLOW_GRPO` or
            `SHIPPED`.
        revision: Branch, tag or commit on the hub.

    Returns:
        A record of the LoRA: `id`, `revision` (a commit) or `weights` (a digest), `rank` and `alpha` (lists if layers
        differ), `num_modules`.

    Raises:
        ModelError: If the LoRA cannot be read or cannot be merged exactly; the transformer is then unchanged.
    """
    weights, config, identity = find_lora(str(source), revision)
    pairs = read_lora(weights, config, transformer)
    modules = dict(transformer.named_modules())
    targets = {path: _weight(modules[path], path, pair) for path, pair in pairs.items()}
    for path, pair in pairs.items():  # check all pairs before any is merged
        if not torch.isfinite(_merged(targets[path], pair)).all():
            raise ModelError(f"the LoRA makes weights of {path} that are not finite; download the LoRA again")
    with torch.no_grad():
        for path, pair in pairs.items():
            targets[path].copy_(_merged(targets[path], pair))
    rank, alpha = (_one(getattr(pair, what) for pair in pairs.values()) for what in ("rank", "alpha"))
    return {**identity, "rank": rank, "alpha": alpha, "num_modules": len(pairs)}


def _one(values: Iterable[float]) -> Any:
    """Return the common value, or the sorted list of values if they differ, with whole numbers as int."""
    found = sorted({int(value) if float(value).is_integer() else round(value, 6) for value in values})
    return found[0] if len(found) == 1 else found


def _weight(module: nn.Module, path: str, pair: Pair) -> Tensor:
    """Return the weight that a LoRA is to be merged into, after checking that merging is possible."""
    weight = getattr(module, "weight", None)
    if not isinstance(module, nn.Linear) or not isinstance(weight, Tensor):
        raise ModelError(f"the LoRA of {path} is for a {type(module).__name__}; only linear layers can be merged")
    if type(module) is not nn.Linear or type(weight.data) is not Tensor or not weight.is_floating_point():
        raise ModelError(
            f"{path} is a {type(module).__name__} of {type(weight.data).__name__}, which a LoRA cannot be merged into; "
            "load the model unquantized"
        )
    if weight.is_meta or hasattr(module, "_hf_hook") or hasattr(module, "_diffusers_hook"):
        raise ModelError(f"{path} is already offloaded; merge the LoRA while loading, before weights are offloaded")
    out_features, in_features = weight.shape
    for name, matrix, shape in (("A", pair.down, (pair.rank, in_features)), ("B", pair.up, (out_features, pair.rank))):
        if tuple(matrix.shape) != shape:
            raise ModelError(f"the LoRA of {path} does not fit: its {name} is {tuple(matrix.shape)}, not {shape}")
    return weight


@torch.no_grad()
def _merged(weight: Tensor, pair: Pair) -> Tensor:
    """Return a weight plus a LoRA's product, added in float32 and rounded once to the weight's own dtype."""
    up, down = (matrix.to(weight.device, torch.float32) for matrix in (pair.up, pair.down))
    return (weight.float() + pair.scaling * (up @ down)).to(weight.dtype)
