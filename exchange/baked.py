"""Bake a calibration: a folder as its library saves it, whose weights hold the scales, at no cost at inference."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..adapters.rows import is_language_model, transformer_of
from ..engine.calibration import Calibration
from .folding import within
from .language import bake_language
from .single import folded

NOTE, TRANSFORMER = "baked.json", "transformer"


def write_note(calibration: Calibration, num_scales: int, folder: Path) -> None:
    """Write which calibration of which base was baked."""
    note = {"run": calibration.provenance.run, "base": calibration.backbone.get("source"), "baked": num_scales}
    (folder / NOTE).write_text(json.dumps(note, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def bake(pipe: Any, calibration: Calibration, folder: Path) -> Path:
    """Fold a calibration into a pipeline's transformer, and save the transformer as its library saves it.

    The pipeline itself is as before afterwards.

    Args:
        pipe: The pipeline that was calibrated, in plain floating-point weights.
        calibration: The calibration; an ensemble cannot be baked.
        folder: The folder to write, which does not exist yet.

    Returns:
        The folder of the transformer, for `from_pretrained`: of a language model, the folder itself.

    Raises:
        CalibrationError: If the calibration cannot be folded; nothing is written then.
    """
    if is_language_model(transformer_of(pipe)):
        write_note(calibration, bake_language(pipe, calibration, folder), folder)
        return folder
    model, places, scales = folded(pipe, calibration)
    to: Any = model
    with within(model, places, scales):
        to.save_pretrained(str(folder / TRANSFORMER))
    write_note(calibration, len(scales), folder)
    return folder / TRANSFORMER
