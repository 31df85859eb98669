"""Whether a transformer is the one that a calibration was made on, by what its weights are and not by its name."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import nn

NUM_SAMPLES = 256
TOLERANCE = 0.02  # of a value: the precisions that a checkpoint is published in differ by less


def weights_of(model: nn.Module) -> dict[str, Any]:
    """What tells a transformer's weights from others'.

    Returns:
        `shapes`, a digest of the names and shapes of its parameters, and `sample`, a value of each of 256 of them;
        there is no sample of what is quantized or waits elsewhere. LoRA layers beside the weights are not looked at.
    """
    named = sorted(
        (name.replace(".base_layer.", "."), value) for name, value in model.named_parameters() if ".lora_" not in name
    )
    matrices = [value for _, value in named if value.ndim >= 2 and value.numel()]
    sample: list[float] = []
    if all(value.dtype.is_floating_point and value.itemsize >= 2 and not value.is_meta for value in matrices):
        chosen = matrices[:: max(1, math.ceil(len(matrices) / NUM_SAMPLES))]
        values = [value.detach().reshape(-1)[value.numel() // 2].float().cpu() for value in chosen]
        sample = [float(value.to(torch.bfloat16)) for value in values]
    shapes = [[name, list(value.shape)] for name, value in named]
    return {"shapes": hashlib.sha256(repr(shapes).encode()).hexdigest()[:16], "sample": sample}


def same_weights(sample: Sequence[float], other: Sequence[float]) -> bool:
    """Whether two samples are of the same weights, as far as can be told: not where one is missing."""
    if not sample or len(sample) != len(other):
        return True
    largest = max(map(abs, sample))
    pairs = zip(sample, other, strict=True)
    return all(math.isclose(one, two, rel_tol=TOLERANCE, abs_tol=1e-4 * largest) for one, two in pairs)


def differences(pipe: Any, model: nn.Module, backbone: Mapping[str, Any], weights: Mapping[str, Any]) -> list[str]:
    """What of a pipeline is not as it was where a calibration was made, each in a clause.

    Args:
        pipe: The pipeline.
        model: Its transformer.
        backbone: What the calibration says it was made on.
        weights: What `weights_of` said of its transformer; empty in older files, which are told by names alone.
    """
    source = backbone.get("source")
    source = source if isinstance(source, Mapping) else backbone  # older files hold both in one
    made_on = source.get("id")
    lora, active = source.get("lora"), has_lora(model)
    told = []
    if weights.get("sample"):
        if not (lora and active) and not same_weights(weights["sample"], weights_of(model)["sample"]):
            told.append(f"its transformer's weights are not those of {made_on}" + (" with its LoRA" if lora else ""))
    else:
        name = str(getattr(pipe, "name_or_path", None) or "")
        if isinstance(made_on, str) and name and PurePath(name).name != PurePath(made_on).name:
            told.append(f"it comes from {name}, not from {made_on}")
        if lora and not active:
            told.append("it has no LoRA, where the calibration was made on one")
    if active and not lora:
        told.append("it has a LoRA that the calibration was not made on")
    return told


def has_lora(model: nn.Module) -> bool:
    """Whether PEFT layers act in a model, beside its own weights."""
    return any(
        getattr(module, "lora_A", None) and not getattr(module, "disable_adapters", False) and not module.merged
        for module in model.modules()
    )
