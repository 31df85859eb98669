"""Language models: a calibration as a checkpoint of its own, and how far exports are from the calibration.

A baked language model is a folder as `save_pretrained` writes it, with its tokenizer: transformers, and every program
that reads such folders, loads it alone.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..adapters.language.checkpoints import silent
from ..adapters.rows import transformer_of, unwrapped
from ..adapters.scaling import Scaling
from ..adapters.sites import site_at
from ..applying.applied import load_calibration
from ..applying.recipe import recipe_of
from ..engine.calibration import Calibration
from ..ground.errors import CalibrationError, first_line
from ..ground.extras import require
from .folding import INSTEAD, within
from .single import folded, tokens

NUM_ROWS, NUM_TOKENS = 4, 24  # of the texts whose logits are compared
SAME = {torch.float64: 1e-3, torch.float32: 1e-3}  # relative difference of logits; more is a fault, not rounding
ROUGH = 0.1  # in narrower dtypes, of which each layer rounds its output


def bake_language(pipe: Any, calibration: Calibration, folder: Path) -> int:
    """Fold a calibration into a language model, and save it as transformers does, with its tokenizer if there is one.

    The model itself is as before afterwards.

    Returns:
        The number of scales.

    Raises:
        CalibrationError: If the calibration cannot be folded, or the model cannot be saved.
    """
    model, places, scales = folded(pipe, calibration)
    to: Any = model
    addresses = list(recipe_of(calibration).members[0].scales)
    scaling = Scaling(model, [site_at(model, address) for address in addresses])
    try:
        scaling.set(torch.tensor([scales]))
        expected = logits(to)
    finally:
        scaling.remove()
    with within(model, places, scales):
        apart = largest(logits(to), expected)
        if not apart <= SAME.get(to.dtype, ROUGH):
            raise CalibrationError(
                f"a {type(model).__name__} uses weights in more places than its branches: with the scales folded into "
                f"them, its logits differ by {apart:.0e} of the largest; {INSTEAD}"
            )
        _save(to, folder)
    tokenizer = getattr(pipe, "tokenizer", None)
    if tokenizer is not None:
        _save(tokenizer, folder)
    return len(scales)


def _save(part: Any, folder: Path) -> None:
    try:
        with silent():
            part.save_pretrained(str(folder))
    except (ValueError, TypeError, RuntimeError) as error:  # of settings that a checkpoint of old days has
        raise CalibrationError(f"transformers cannot save the {type(part).__name__}: {first_line(error)}") from error


@torch.no_grad()
def logits(model: Any) -> Tensor:
    """Return a model's logits of some texts, shape (num_texts, num_tokens, vocabulary)."""
    found: Tensor = model(**tokens(unwrapped(model), NUM_ROWS, NUM_TOKENS)).logits
    return found.double().cpu()


def largest(found: Tensor, expected: Tensor) -> float:
    """Return the largest difference, relative to the largest expected value."""
    return float((found - expected).abs().max() / expected.abs().max())


def difference(pipe: Any, calibration: Path, folder: Path, road: str) -> float:
    """Compare an export of a language model, loaded by its own side, with the calibration applied by trimpot.

    Returns:
        The largest difference of the logits of some texts, relative to the largest.

    Raises:
        CalibrationError: If the export cannot be loaded.
    """
    model = transformer_of(pipe)
    with load_calibration(model, calibration):
        expected = logits(model)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the calibration's remarks on the model were made above
            with LOADED[road](model, folder) as other:
                found = logits(other)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise CalibrationError(f"{folder} cannot be loaded: {first_line(error)}; export it again") from error
    if found.shape != expected.shape:
        raise CalibrationError(f"{folder} holds a model of another vocabulary; export it again")
    return largest(found, expected)


@contextmanager
def _native(model: Any, folder: Path) -> Iterator[Any]:
    with load_calibration(model, folder):
        yield model


@contextmanager
def _baked(model: Any, folder: Path) -> Iterator[Any]:
    kind: Any = type(unwrapped(model))
    with silent():
        baked = kind.from_pretrained(str(folder), dtype=model.dtype, local_files_only=True, use_safetensors=True)
    yield baked.to(model.device).eval()


@contextmanager
def _ia3(model: Any, folder: Path) -> Iterator[Any]:
    require("an IA3 adapter", "peft")
    from peft import PeftModel

    wrapped = PeftModel.from_pretrained(model, str(folder))
    try:
        yield wrapped
    finally:
        wrapped.unload()


LOADED: dict[str, Callable[[Any, Path], Any]] = {"native": _native, "baked": _baked, "ia3": _ia3}
