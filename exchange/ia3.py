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
    for place, scale in zip(places, scales, strict=True):
        layer = model.get_submodule(place.path)
        if not isinstance(layer, nn.Linear):
            raise CalibrationError(
                f"{place.path} is a {type(layer).__name__}, and IA3 scales linear layers only; export it as baked"
            )
        vector = vectors.setdefault(place.path, torch.ones(layer.out_features, 1))
        vector[place.begin : place.end] *= scale
    config = {
        "peft_type": "IA3",
        "base_model_name_or_path": calibration.backbone.get("id"),
        "target_modules": sorted(vectors),
        "feedforward_modules": [],
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_ia3_weights": True,
        "modules_to_save": None,
        "task_type": None,
    }
    folder.mkdir(parents=True, exist_ok=True)
    save_file({f"base_model.model.{path}.ia3_l": value for path, value in vectors.items()}, folder / WEIGHTS)
    (folder / CONFIG).write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return folder
