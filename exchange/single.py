"""What a calibration of one member does to one model: its folds and its scales, ready for other formats."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import nn

from ..adapters.language.likelihood import caches
from ..adapters.rows import is_language_model, transformers, unwrapped
from ..adapters.stock import first_inputs
from ..applying.recipe import recipe_of, sites_of
from ..applying.recommended import recommended_call
from ..engine.calibration import Calibration
from ..ground.errors import CalibrationError, ModelError
from .folding import Fold, folds

PROBE = "a photo of a cat"


def tokens(model: Any, num_rows: int = 1, num_tokens: int = 12) -> dict[str, Any]:
    """Return the arguments of a call of a language model, with random tokens of its vocabulary."""
    size = model.get_input_embeddings().weight.shape[0]
    size = min(size, getattr(model.config.get_text_config(decoder=True), "vocab_size", size))
    ids = torch.randint(0, size, (num_rows, num_tokens), generator=torch.Generator().manual_seed(0))
    return {"input_ids": ids.to(model.device), **({"use_cache": False} if caches(model) else {})}


class Folded(NamedTuple):
    """The folds of a calibration's sites in the pipeline's transformer, with their scales."""

    model: nn.Module
    places: list[Fold]
    scales: list[float]


def folded(pipe: Any, calibration: Calibration) -> Folded:
    """Find where the scales of a calibration can be folded into a pipeline's weights.

    Args:
        pipe: The pipeline that was calibrated, untouched.
        calibration: The calibration.

    Raises:
        CalibrationError: If the calibration is an ensemble, is of two transformers or of another class, or a site
            cannot be folded.
    """
    recipe = recipe_of(calibration)
    if len(recipe.members) > 1:
        raise CalibrationError(
            f"this calibration is an ensemble of {len(recipe.members)} members with scales of their own, which no "
            "single set of weights can hold; export it as native, or calibrate with members: [conditional]"
        )
    if recipe.weighs:
        raise CalibrationError(
            f"this calibration weighs its output by {recipe.members[0].weight:g}, which no layer's weights can hold; "
            "export it as native"
        )
    models = transformers(pipe)
    if len(models) > 1:
        raise CalibrationError(
            "this calibration scales two transformers, and only one can be exported; export it as native"
        )
    model = unwrapped(models[""])
    if type(model).__name__ != recipe.transformer:
        raise CalibrationError(
            f"this calibration is for a {recipe.transformer}, the pipeline has a {type(model).__name__}"
        )
    try:
        sites = sites_of(models, recipe)
        if is_language_model(model):
            given = tokens(model)
        else:  # the first call of the transformer, not a whole image
            given = first_inputs(pipe, recommended_call(calibration, pipe), [PROBE])
    except ModelError as error:
        raise CalibrationError(f"the calibration does not fit this pipeline: {error}") from None
    scales = list(recipe.members[0].scales.values())
    return Folded(model, folds(model, sites, given), scales)
