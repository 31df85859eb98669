"""Bake a calibration: a diffusers `transformer` folder whose weights hold the scales, at no cost at inference."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..engine.calibration import Calibration
from .folding import within
from .single import folded

NOTE, TRANSFORMER = "baked.json", "transformer"


def write_note(calibration: Calibration, num_scales: int, folder: Path) -> None:
    """Write which calibration of which base was baked."""
    note = {"run": calibration.provenance.run, "base": calibration.backbone.get("source"), "baked": num_scales}
    (folder / NOTE).write_text(json.dumps(note, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def bake(pipe: Any, calibration: Calibration, folder: Path) -> Path:
    """Fold a calibration into a pipeline's transformer, and save the transformer as diffusers saves it.

    The pipeline itself is as before afterwards.

    Args:
        pipe: The pipeline that was calibrated, in plain floating-point weights.
        calibration: The calibration; an ensemble cannot be baked.
        folder: The folder to write, which does not exist yet.

    Returns:
        The folder of the transformer, for `from_pretrained`.

    Raises:
        CalibrationError: If the calibration cannot be folded; nothing is written then.
    """
    model, places, scales = folded(pipe, calibration)
    to: Any = model
    with within(model, places, scales):
        to.save_pretrained(str(folder / TRANSFORMER))
    write_note(calibration, len(scales), folder)
    return folder / TRANSFORMER
