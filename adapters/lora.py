"""LoRAs merged into a transformer before knobs attach, without PEFT.

A LoRA holds two thin matrices for some linear layers: A of shape (rank, in_features) and B of shape
(out_features, rank). Merging adds their product to the layer's weight (LoRA, Hu et al. 2021, section 4.1),

    W + scaling * B @ A,   scaling = alpha / rank, or alpha / sqrt(rank) for rank-stabilised ones (rsLoRA),

computed in float32 and rounded once to the weight's own dtype. Everything is checked before anything changes.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..engine.errors import ModelError, near_misses
from ..engine.weights import weights_digest
from .sources import commit_of, first_line, hub_file

FLOW_GRPO = {
    "pickscore": "jieliu/SD3.5M-FlowGRPO-PickScore",
    "geneval": "jieliu/SD3.5M-FlowGRPO-GenEval",
    "text": "jieliu/SD3.5M-FlowGRPO-Text",
}  # Flow-GRPO's published LoRAs for Stable Diffusion 3.5 medium (Liu et al. 2025), by the reward of each

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
_KEY = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<side>[AB])\.weight")
_MERGED = ("r", "lora_alpha", "use_rslora")  # what of a config the product depends on
_HARMLESS = (  # what says where a LoRA came from, or matters only to training
    "auto_mapping",
    "base_model_name_or_path",
    "ensure_weight_tying",
    "exclude_modules",
    "inference_mode",
    "layers_pattern",
    "layers_to_transform",
    "lora_dropout",
    "megatron_core",
    "peft_type",
    "peft_version",
    "qalora_group_size",
    "revision",
    "target_modules",
    "task_type",
)


@dataclass(frozen=True)
class _Pair:
    """One layer's two matrices."""

    down: Tensor  # A: (rank, in_features)
    up: Tensor  # B: (out_features, rank)


def merge_lora(transformer: nn.Module, source: str | Path, *, revision: str | None = None) -> dict[str, Any]:
    """Merge a PEFT LoRA into a transformer, in place.

    Args:
        transformer: Where to; not quantized, and not offloaded yet.
        source: A folder with adapter_config.json and adapter_model.safetensors, a hub id of such a folder, or a
            name in `FLOW_GRPO`.
        revision: Branch, tag or commit on the hub.

    Returns:
        What was merged: `id`, `revision` (a commit) or `weights` (a digest), `rank`, `alpha`, `num_modules`.

    Raises:
        ModelError: If the LoRA cannot be had, or not be merged exactly; the transformer is then as it was.
    """
    folder, identity = _find(str(source), revision)
    config = _config(folder / CONFIG_FILE)
    rank, alpha = config["r"], config["lora_alpha"]
    scaling = alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
    pairs = _pairs(folder / WEIGHTS_FILE)
    modules = dict(transformer.named_modules())
    for path in pairs:
        if path not in modules:
            raise ModelError(f"{type(transformer).__name__} has no module {path}; the LoRA is made for another model")
    weights = {path: _weight(modules[path], path, pair, rank) for path, pair in pairs.items()}
    for path, pair in pairs.items():
        _add(weights[path], pair, scaling)
    return {**identity, "rank": rank, "alpha": alpha, "num_modules": len(pairs)}


def _find(source: str, revision: str | None) -> tuple[Path, dict[str, Any]]:
    """The folder of a LoRA's two files, and what it is."""
    folder = Path(source)
    if folder.is_dir():
        for name in (CONFIG_FILE, WEIGHTS_FILE):
            if not (folder / name).is_file():
                raise ModelError(_without(source, name, (folder / "adapter_model.bin").is_file()))
        return folder, {"id": folder.name, "weights": weights_digest(folder)}
    if folder.is_absolute() or source.startswith(".") or source.count("/") > 1 or folder.suffix == ".safetensors":
        raise ModelError(f"no LoRA folder {source}; give a folder with an {CONFIG_FILE}, or a hub id")
    if "/" not in source and source not in FLOW_GRPO:
        raise ModelError(f"no LoRA is named {source!r}; {near_misses(source, FLOW_GRPO)}")
    repository = FLOW_GRPO.get(source, source)
    config = hub_file(repository, CONFIG_FILE, revision)
    commit = commit_of(config)
    hub_file(repository, WEIGHTS_FILE, commit)
    return config.parent, {"id": repository, "revision": commit}


def _without(source: str, name: str, pickled: bool) -> str:
    if name == CONFIG_FILE:
        return (
            f"{source} has no {CONFIG_FILE}, which says by how much its LoRA counts; give a folder written by PEFT's "
            "save_pretrained"
        )
    if pickled:
        return f"{source} holds its LoRA as a pickle, which can run code; save it as {WEIGHTS_FILE}"
    return f"{source} has no {WEIGHTS_FILE}; give a folder written by PEFT's save_pretrained"


def _config(path: Path) -> dict[str, Any]:
    """Read a LoRA's config, and refuse whatever makes it more than two matrices a linear layer."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        config = None
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise ModelError(f"{path} describes no LoRA of PEFT")
    # Some ways to initialise a LoRA also change the base, so that the difference cannot be told from its files.
    if config.get("init_lora_weights", True) not in (True, False, "gaussian"):
        raise ModelError(
            f"{path.parent.name} was initialised with {config['init_lora_weights']!r}, which changes the base model "
            "too; convert it to an ordinary LoRA first"
        )
    if config.get("bias", "none") != "none":
        raise ModelError(f"{path.parent.name} also trained biases ({config['bias']!r}), which cannot be merged here")
    known = {*_MERGED, *_HARMLESS, "init_lora_weights", "bias"}
    special = sorted(name for name, value in config.items() if value and name not in known)
    if special:
        raise ModelError(f"{path.parent.name} uses {special[0]}, which cannot be merged here; merge it with PEFT")
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if not isinstance(rank, int) or rank < 1 or not isinstance(alpha, (int, float)) or not math.isfinite(alpha):
        raise ModelError(f"{path} must say rank and alpha: r at least 1, lora_alpha a number")
    return config


def _pairs(path: Path) -> dict[str, _Pair]:
    """Read both matrices of every layer; a key that means anything else is an error."""
    from safetensors.torch import load_file

    try:
        tensors = load_file(path)
    except Exception as error:  # safetensors raises a class of its own for a broken file
        raise ModelError(f"{path} cannot be read as safetensors: {first_line(error)}") from error
    sides: dict[str, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        match = _KEY.fullmatch(key)
        if match is None:
            raise ModelError(f"{path} has a weight that no linear layer's LoRA uses: {key}")
        if not torch.isfinite(value).all():
            raise ModelError(f"{path} holds numbers that are not finite, first in {key}")
        sides.setdefault(match["module"], {})[match["side"]] = value
    for module, both in sides.items():
        if len(both) < 2:
            raise ModelError(f"{path} holds only half of the LoRA of {module}: lora_{next(iter(both))}")
    if not sides:
        raise ModelError(f"{path} is empty")
    return {module: _Pair(both["A"], both["B"]) for module, both in sides.items()}


def _weight(module: nn.Module, path: str, pair: _Pair, rank: int) -> Tensor:
    """The weight that a LoRA is added to, when it is certain that it can be."""
    weight = getattr(module, "weight", None)
    if not isinstance(module, nn.Linear) or not isinstance(weight, Tensor):
        raise ModelError(f"the LoRA of {path} is for a {type(module).__name__}; only linear layers can be merged")
    if type(module) is not nn.Linear or type(weight.data) is not Tensor or not weight.is_floating_point():
        raise ModelError(
            f"{path} is a {type(module).__name__} of {type(weight.data).__name__}, which a LoRA cannot be merged into; "
            "load the model unquantized"
        )
    if weight.is_meta or hasattr(module, "_hf_hook") or hasattr(module, "_diffusers_hook"):
        raise ModelError(f"{path} is offloaded already; merge the LoRA while loading, before weights are offloaded")
    out_features, in_features = weight.shape
    for name, matrix, shape in (("A", pair.down, (rank, in_features)), ("B", pair.up, (out_features, rank))):
        if tuple(matrix.shape) != shape:
            raise ModelError(f"the LoRA of {path} does not fit: its {name} is {tuple(matrix.shape)}, not {shape}")
    return weight


@torch.no_grad()
def _add(weight: Tensor, pair: _Pair, scaling: float) -> None:
    """Add a product in float32, rounded once to the weight's own dtype."""
    up, down = (matrix.to(weight.device, torch.float32) for matrix in (pair.up, pair.down))
    weight.copy_(weight.float() + scaling * (up @ down))
