"""PEFT's configuration of a LoRA: the scaling of each layer's product, and the features that cannot be merged."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from ..ground.errors import ModelError

_MERGED = ("r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern")  # what the product depends on
_HARMLESS = (  # keys that record a LoRA's origin, or matter only to training
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


def checked_config(config: object, where: str, name: str) -> Mapping[str, Any]:
    """Return a configuration after checking that its LoRA consists of two matrices per linear layer and nothing else.

    Args:
        config: The configuration as read.
        where: The place it was read from, for error messages.
        name: The LoRA's name for error messages.

    Raises:
        ModelError: If the LoRA has other parts, or the configuration lacks a valid rank or alpha.
    """
    if not isinstance(config, Mapping) or config.get("peft_type") != "LORA":
        raise ModelError(f"{where} does not describe a LoRA of PEFT")
    # Some initialisations also change the base model, and the LoRA's files do not hold that change.
    if config.get("init_lora_weights", True) not in (True, False, "gaussian"):
        raise ModelError(
            f"{name} was initialised with {config['init_lora_weights']!r}, which changes the base model too; convert "
            "it to an ordinary LoRA first"
        )
    if config.get("bias", "none") != "none":
        raise ModelError(f"{name} also trained biases ({config['bias']!r}), which cannot be merged here")
    known = {*_MERGED, *_HARMLESS, "init_lora_weights", "bias"}
    special = sorted(key for key, value in config.items() if value and key not in known)
    if special:
        raise ModelError(f"{name} uses {special[0]}, which cannot be merged here; merge it with PEFT")
    ranks = [config.get("r"), *_pattern(config, "rank_pattern", where).values()]
    alphas = [config.get("lora_alpha"), *_pattern(config, "alpha_pattern", where).values()]
    if not all(type(rank) is int and rank >= 1 for rank in ranks) or not all(map(_is_finite, alphas)):
        raise ModelError(f"{where} must give rank and alpha: r at least 1, lora_alpha a number")
    return config


def _pattern(config: Mapping[str, Any], key: str, where: str) -> Mapping[str, Any]:
    """Return a configuration's values for single layers, by regular expressions that match the layers' names."""
    pattern = config.get(key) or {}
    try:
        return {name: value for name, value in pattern.items() if re.compile(name)}
    except (AttributeError, TypeError, re.error) as error:
        raise ModelError(f"{where}: {key} is not a mapping of layers' names to numbers") from error


def _is_finite(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def scaling(config: Mapping[str, Any] | None, module: str, rank: int) -> float:
    """Return the factor of a layer's product: alpha / rank, or alpha / sqrt(rank) for rank-stabilised LoRAs.

    Args:
        config: The configuration; without one (None), alpha equals the rank.
        module: The layer's name, which patterns may match.
        rank: The rank of the layer's matrices.

    Raises:
        ModelError: If the configuration gives another rank than the matrices have.
    """
    if config is None:
        return 1.0
    wanted, alpha = (_of(config, key, pattern, module) for key, pattern in _KEYS)
    if rank != wanted:
        raise ModelError(f"the LoRA of {module} does not fit: its rank is {rank}, but its configuration says {wanted}")
    return float(alpha / (math.sqrt(rank) if config.get("use_rslora") else rank))


_KEYS = (("r", "rank_pattern"), ("lora_alpha", "alpha_pattern"))


def _of(config: Mapping[str, Any], key: str, pattern: str, module: str) -> Any:
    """Return a layer's number from the first pattern that matches the end of its name, as PEFT does, or the default."""
    matches = (value for name, value in (config.get(pattern) or {}).items() if re.match(rf"(.*\.)?({name})$", module))
    return next(matches, config[key])
