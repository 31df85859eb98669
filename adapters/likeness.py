"""Tell from its weights, not from its name, whether a transformer is the one that a calibration was made on."""

from __future__ import annotations

import contextlib
import hashlib
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from torch import nn

NUM_SAMPLES = 256
TOLERANCE = 0.02  # relative: precisions that a checkpoint is published in differ by less

Sample = Sequence["float | None"]


def weights_of(models: Mapping[str, nn.Module], *, adapted: bool = False) -> dict[str, Any]:
    """Return a short description of the weights of a pipeline's transformers, to compare with other weights.

    Args:
        models: The transformers by the prefix of their knobs' names, with weights on any device or disk.
        adapted: Whether to include active, unmerged LoRAs as if they were merged.

    Returns:
        `shapes`, a digest of the names and shapes of the parameters, and `sample`, one value from each of at most 256
        parameters. A value is None if it cannot be read, for example because the parameter is quantized.
    """
    named = [
        (prefix + name, prefix, path, value)
        for prefix, model in models.items()
        for name, path, value in _own_parameters(model)
    ]
    matrices = [(prefix, path) for _, prefix, path, value in named if value.ndim >= 2 and value.numel()]
    chosen = matrices[:: max(1, math.ceil(len(matrices) / NUM_SAMPLES))]
    on_disk = any(map(_waits_on_disk, models.values()))
    sample = [None if on_disk else _value(models[prefix], path, adapted=adapted) for prefix, path in chosen]
    shapes = [[name, list(value.shape)] for name, *_, value in named]
    return {"shapes": hashlib.sha256(repr(shapes).encode()).hexdigest()[:16], "sample": sample}


def same_weights(sample: Sample, other: Sample) -> bool | None:
    """Return whether two samples are from the same weights; None if too few of their values can be compared."""
    if len(sample) != len(other):
        return None
    pairs = [(one, two) for one, two in zip(sample, other, strict=True) if one is not None and two is not None]
    largest = max((abs(one) for one, _ in pairs), default=0.0)
    if not all(math.isclose(one, two, rel_tol=TOLERANCE, abs_tol=1e-4 * largest) for one, two in pairs):
        return False
    return True if pairs and 2 * len(pairs) >= len(sample) else None


def _is_known(sample: Sample) -> bool:
    known = sum(value is not None for value in sample)
    return known > 0 and 2 * known >= len(sample)


def warning(
    pipe: Any, models: Mapping[str, nn.Module], backbone: Mapping[str, Any], weights: Mapping[str, Any]
) -> str | None:
    """Describe in a sentence how a pipeline differs, or may differ, from the one that a calibration was made on.

    Args:
        pipe: The pipeline.
        models: The pipeline's transformers, as `weights_of` takes them.
        backbone: The calibration's record of its backbone.
        weights: The calibration's record from `weights_of`; empty in older files, for which only names are compared.

    Returns:
        The sentence, or None if nothing differs.
    """
    source = backbone.get("source")
    source = source if isinstance(source, Mapping) else backbone  # older files hold both in one
    made_on = source.get("id")
    lora, active = source.get("lora"), any(map(has_lora, models.values()))
    name = str(getattr(pipe, "name_or_path", None) or "")
    known = isinstance(made_on, str) and bool(name)
    elsewhere = known and PurePath(name).name != PurePath(str(made_on)).name
    told = []
    same: bool | None = None
    if weights:
        found = weights_of(models, adapted=bool(lora))
        recorded: Sample = weights["sample"]
        same = same_weights(recorded, found["sample"])
        whole = _is_known(recorded) and _is_known(found["sample"])  # quantized weights may have other shapes
        if found["shapes"] != weights["shapes"] and whole:
            told.append(f"its transformer's layers are not those of {made_on}")
        elif same is False:
            told.append(f"its transformer's weights are not those of {made_on}" + (" with its LoRA" if lora else ""))
        elif found["shapes"] != weights["shapes"]:
            same = None
    if same is None and not told:
        if elsewhere:
            told.append(f"it comes from {name}, not from {made_on}")
        if lora and not active:
            told.append("it lacks the LoRA that the calibration was made on")
    if active and not lora:
        told.append("it has a LoRA that the calibration was not made on")
    if told:
        return f"the calibration was made on another model: {' and '.join(told)}"
    if same is None and (weights or not known):
        return (
            "the calibration may have been made on another model: the transformer's weights cannot be compared with "
            f"those of {made_on}"
        )
    return None


def has_lora(model: nn.Module) -> bool:
    """Return whether a model has active, unmerged PEFT layers."""
    return any(_acts(module) for module in model.modules())


def _acts(module: Any) -> bool:
    return _is_tuner(module) and not module.disable_adapters and not module.merged


def _is_tuner(module: nn.Module) -> bool:
    """Return whether a module is a PEFT wrapper around another module."""
    tuners = sys.modules.get("peft.tuners.tuners_utils")  # without this import, no module is a wrapper of PEFT
    return tuners is not None and isinstance(module, tuners.BaseTunerLayer)


def _own_parameters(model: nn.Module) -> list[tuple[str, str, Tensor]]:
    """Return (name without PEFT's wrappers, actual path, value) of each parameter not added by PEFT, sorted by name."""
    tuners = {path for path, module in model.named_modules() if _is_tuner(module)}
    found = []
    for path, value in model.named_parameters():
        parts = path.split(".")
        above = [at for at in range(1, len(parts)) if ".".join(parts[:at]) in tuners]
        if all(parts[at] == "base_layer" for at in above):
            found.append((".".join(part for at, part in enumerate(parts) if at not in above), path, value))
    return sorted(found, key=lambda each: each[0])


def _value(model: nn.Module, path: str, *, adapted: bool) -> float | None:
    """Return the middle element of a parameter, rounded to bfloat16, or None if it cannot be read."""
    *owners, name = path.split(".")
    owner = model.get_submodule(".".join(owners))
    with _at_hand(owner):
        value = owner._parameters[name]
        if value is None or value.is_meta or type(value.data) is not Tensor:
            return None
        if not value.dtype.is_floating_point or value.itemsize < 2:
            return None
        result = float(value.detach().reshape(-1)[value.numel() // 2].float().cpu())
    if adapted and owners and owners[-1] == "base_layer":
        tuner = model.get_submodule(".".join(owners[:-1]))
        if _acts(tuner):
            change = _change(tuner, value) if name == "weight" else None
            if change is None:
                return None
            result += change
    return float(torch.tensor(result).to(torch.bfloat16))


def _change(tuner: Any, weight: Tensor) -> float | None:
    """Return the sum that plain LoRAs of a linear layer add to the middle element of its weight; None for others."""
    if weight.ndim != 2 or not hasattr(tuner, "lora_A") or getattr(tuner, "fan_in_fan_out", False):
        return None
    row, column = divmod(weight.numel() // 2, weight.shape[1])
    total = 0.0
    for adapter in tuner.active_adapters:
        if adapter in tuner.lora_A:
            down, up = tuner.lora_A[adapter].weight, tuner.lora_B[adapter].weight
            if getattr(tuner, "lora_variant", {}).get(adapter) is not None or down.is_meta or up.is_meta:
                return None
            total += tuner.scaling[adapter] * float((up[row].float() @ down[:, column].float()).detach())
    return total


def _at_hand(module: nn.Module) -> contextlib.AbstractContextManager[Any]:
    """Return a context in which the weights of a module with sequential offloading are in main memory."""
    if not hasattr(module, "_hf_hook"):
        return contextlib.nullcontext()
    from accelerate.utils import align_module_device, has_offloaded_params

    if not has_offloaded_params(module):
        return contextlib.nullcontext()
    context: contextlib.AbstractContextManager[Any] = align_module_device(module, torch.device("cpu"))
    return context


def _waits_on_disk(model: nn.Module) -> bool:
    """Return whether groups of layers are offloaded to disk: the values in memory are then placeholders."""
    registries = (module.__dict__.get("_diffusers_hook") for module in model.modules())
    groups = (
        getattr(hook, "group", None)
        for registry in registries
        if registry is not None
        for hook in registry.hooks.values()
    )
    return any(getattr(group, "offload_to_disk_path", None) for group in groups)
