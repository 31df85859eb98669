"""A calibration as an IA3 adapter: one vector of factors a layer, which PEFT loads without trimpot.

IA3 (Liu et al., 2022, *Few-Shot Parameter-Efficient Fine-Tuning is Better and Cheaper than In-Context Learning*)
multiplies the output of a linear layer by a learned vector. The factors of a calibration's rows are such a vector.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..adapters.rows import is_language_model
from ..engine.calibration import Calibration
from ..ground.errors import CalibrationError
from .single import folded

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"


def write_ia3(pipe: Any, calibration: Calibration, folder: Path) -> Path:
    """Write a calibration as an IA3 adapter in the layout of PEFT.

    Args:
        pipe: The pipeline that was calibrated.
        calibration: The calibration; an ensemble cannot be exported.
        folder: The folder to write.

    Returns:
        The folder, for `PeftModel.from_pretrained(transformer, folder)`.

    Raises:
        CalibrationError: If the calibration cannot be folded, or a site is not made by a linear layer.
    """
    from safetensors.torch import save_file

    model, places, scales = folded(pipe, calibration)
    vectors: dict[str, torch.Tensor] = {}
    turned = False
    for place, scale in zip(places, scales, strict=True):
        names = {part.name for part in place}
        for part in place:
            path, _, own = part.name.rpartition(".")
            layer: Any = model.get_submodule(path)
            outputs = _output_axis(layer)
            if outputs is None:
                raise CalibrationError(
                    f"{path} is a {type(layer).__name__}, and IA3 scales linear layers only; export it as baked"
                )
            turned |= outputs == 1
            whole = part.end - part.begin == layer.weight.shape[part.axis]
            if not {f"{path}.{each}" for each, _ in layer.named_parameters()} <= names or not (
                whole or own != "weight" or part.axis == outputs
            ):
                raise CalibrationError(f"only a part of {path} is scaled, and IA3 scales all of it; export it as baked")
            if own == "weight":
                vector = vectors.setdefault(path, torch.ones(layer.weight.shape[outputs], 1))
                vector[slice(None) if whole else slice(part.begin, part.end)] *= scale
    config = {
        "peft_type": "IA3",
        "base_model_name_or_path": calibration.backbone.get("id"),
        "target_modules": sorted(vectors),
        "feedforward_modules": [],
        "fan_in_fan_out": turned,
        "inference_mode": True,
        "init_ia3_weights": True,
        "modules_to_save": None,
        "task_type": "CAUSAL_LM" if is_language_model(model) else None,
    }
    folder.mkdir(parents=True, exist_ok=True)
    save_file({f"base_model.model.{path}.ia3_l": value for path, value in vectors.items()}, folder / WEIGHTS)
    (folder / CONFIG).write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return folder


def _output_axis(layer: nn.Module) -> int | None:
    """Return the axis of a linear layer's weight that its outputs lie on; None for other layers."""
    if isinstance(layer, nn.Linear):
        return 0
    return 1 if type(layer).__name__ == "Conv1D" else None  # of GPT-2, whose weights are stored turned
