"""Applying a calibration to a stock pipeline in one line."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, ValidationError

from ..engine.calibration import Calibration
from ..engine.errors import CalibrationError, ModelError
from .ensemble import Condition, Ensemble
from .families import family_of
from .sites import site_at


class _Member(BaseModel):
    model_config = ConfigDict(extra="forbid")
    sees: Condition
    weight: float
    neutral_weight: float
    scales: dict[str, float]


class _Recipe(BaseModel):
    model_config = ConfigDict(extra="forbid")
    transformer: str
    members: list[_Member]


class AppliedCalibration:
    """A calibration on a pipeline, until `remove`. Also a context manager.

    Attributes:
        calibration: The artifact.
        strength: 0 is the neutral model at its best guidance, 1 the calibrated one.
        num_inference_steps: What the pipeline should be called with.
    """

    def __init__(self, pipe: Any, calibration: Calibration, strength: float) -> None:
        self.calibration = calibration
        self.num_inference_steps = calibration.num_steps
        recipe = _recipe(calibration)
        kind = type(pipe.transformer).__name__
        if kind != recipe.transformer:
            raise CalibrationError(f"this calibration is for a {recipe.transformer}, the pipeline has a {kind}")
        family = family_of(pipe)
        sites = [site_at(pipe.transformer, address) for address in recipe.members[0].scales]
        self._recipe = recipe
        self._ensemble = Ensemble(
            pipe.transformer,
            sites,
            [member.sees for member in recipe.members],
            family.conditioning,
            guided=lambda: family.guided(pipe),
        )
        try:
            if family.guidance:
                with torch.no_grad():
                    empty = family.encode(pipe, "", calibration.backbone.get("max_sequence_length"))
                self._ensemble.unconditional = {family.embeddings[name]: value for name, value in empty.items()}
            self._device = pipe.transformer.device
            self.strength = strength
        except BaseException:
            self.remove()
            raise

    @property
    def strength(self) -> float:
        """How much of the calibration is applied."""
        return self._strength

    @strength.setter
    def strength(self, strength: float) -> None:
        members = self._recipe.members
        addresses = list(members[0].scales)
        scales = [[1 + strength * (member.scales[address] - 1) for address in addresses] for member in members]
        weights = [m.neutral_weight + strength * (m.weight - m.neutral_weight) for m in members]
        self._strength = strength
        self._ensemble.set(
            torch.tensor([scales], dtype=torch.float32, device=self._device),
            torch.tensor([weights], dtype=torch.float64, device=self._device),
        )

    def remove(self) -> None:
        """Take the calibration off; the pipeline is as it was."""
        self._ensemble.remove()

    def __enter__(self) -> AppliedCalibration:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.remove()


def load_calibration(pipe: Any, path: str | Path, strength: float = 1.0) -> AppliedCalibration:
    """Apply a calibration file to a stock diffusers pipeline.

    The pipeline is then called as always, with the number of steps the calibration recommends. The ensemble's
    own weights take the place of `guidance_scale`, whose value no longer matters; a negative prompt still works
    wherever `guidance_scale` is above 1.

    Args:
        pipe: A pipeline of the class the calibration was made for.
        path: The calibration file.
        strength: 0 leaves the neutral model at its best guidance, 1 applies the calibration in full; values
            between and beyond interpolate.

    Returns:
        The applied calibration; `.remove()` takes it off again.

    Raises:
        CalibrationError: If the file cannot be read or does not fit the pipeline, which stays untouched.

    Example:
        >>> calibration = load_calibration(pipe, "calibration.json")
        >>> pipe("two red circles", num_inference_steps=calibration.num_inference_steps).images[0].show()
        >>> calibration.remove()
    """
    try:
        return AppliedCalibration(pipe, Calibration.load(path), strength)
    except ModelError as error:
        raise CalibrationError(f"{path} does not fit this pipeline: {error}") from None


def _recipe(calibration: Calibration) -> _Recipe:
    if not calibration.apply:
        raise CalibrationError("this calibration is not of a diffusion pipeline: it names no modules to scale")
    try:
        recipe = _Recipe.model_validate(calibration.apply)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise CalibrationError(f"the calibration's apply.{where}: {first['msg']}") from None
    names = [set(member.scales) for member in recipe.members]
    if not names or any(other != names[0] for other in names):
        raise CalibrationError("the calibration's members must scale the same modules")
    return recipe
