"""Applying a calibration to a stock pipeline in one line."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..engine.calibration import Calibration, Finite
from ..ground.errors import CalibrationError, ConfigError, ModelError, Notice, near_misses
from ..ground.plain import number
from . import callers
from .ensemble import Condition, Ensemble, OwnGuidance
from .families import Family, as_inputs, encode_prompt, family_with
from .layout import LARGEST, LONGEST_PROMPT, MOST_MEMBERS, Sees, check_members
from .likeness import NUM_SAMPLES, warning
from .pipelines import Hooked
from .rows import StackedRows, site_within, transformers, unwrapped
from .scaling import is_compiled
from .sites import Site, find_sites

if TYPE_CHECKING:
    from torch import nn


Factor = Annotated[float, Field(strict=True, ge=-LARGEST, le=LARGEST, allow_inf_nan=False)]


class _Member(BaseModel):
    model_config = ConfigDict(extra="forbid")
    sees: Sees
    weight: Factor
    neutral_weight: Factor
    scales: dict[str, Factor] = Field(min_length=1)


class _Weights(BaseModel):
    model_config = ConfigDict(extra="forbid")
    shapes: str
    sample: list[Finite | None] = Field(max_length=NUM_SAMPLES)


class _Recipe(BaseModel):
    model_config = ConfigDict(extra="forbid")
    transformer: str
    blocks: dict[str, str] = Field(default_factory=dict)
    weights: _Weights | None = None
    members: list[_Member] = Field(max_length=MOST_MEMBERS)


class AppliedCalibration:
    """A calibration on a pipeline, until `remove`. Also a context manager.

    Attributes:
        calibration: The artifact.
        strength: 0 is the neutral model at its best guidance, 1 the calibrated one.
        num_inference_steps: What the pipeline should be called with.
    """

    def __init__(self, pipe: Any, calibration: Calibration, strength: float) -> None:
        strength = number(strength, "strength", low=-1, high=2, error=CalibrationError)
        self.calibration = calibration
        self.num_inference_steps = calibration.num_steps
        self._recipe = _recipe(calibration)
        transformer: Any = unwrapped(getattr(pipe, "transformer", None))
        if transformer is not None and any(map(is_compiled, transformers(pipe).values())):
            raise CalibrationError("the transformer is compiled already; apply the calibration, then compile")
        kind = type(transformer).__name__
        if kind != self._recipe.transformer:
            raise CalibrationError(f"this calibration is for a {self._recipe.transformer}, the pipeline has a {kind}")
        sites = _sites(transformers(pipe), self._recipe)
        weights = self._recipe.weights.model_dump() if self._recipe.weights else {}
        models = {prefix: unwrapped(model) for prefix, model in transformers(pipe).items()}
        if told := warning(pipe, models, calibration.backbone, weights):
            warnings.warn(told, Notice, stacklevel=4)  # before hooks: it may raise
        self._hooked = _hooked(pipe, sites, self._recipe, _longest(calibration))
        self.strength = strength

    @property
    def strength(self) -> float:
        """How much of the calibration is applied."""
        return self._strength

    @strength.setter
    def strength(self, strength: float) -> None:
        strength = number(strength, "strength", low=-1, high=2, error=CalibrationError)
        members = self._recipe.members
        addresses = list(members[0].scales)
        scales = [[1 + strength * (member.scales[address] - 1) for address in addresses] for member in members]
        weights = [m.neutral_weight + strength * (m.weight - m.neutral_weight) for m in members]
        self._strength = strength
        self._hooked.set(torch.tensor([scales], dtype=torch.float32), torch.tensor([weights], dtype=torch.float64))

    def remove(self) -> None:
        """Take the calibration off; the pipeline is as it was."""
        self._hooked.remove()

    def __enter__(self) -> AppliedCalibration:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.remove()


def load_calibration(pipe: Any, path: str | Path, strength: float = 1.0) -> AppliedCalibration:
    """Apply a calibration file to a stock diffusers pipeline.

    The pipeline is then called as always, with the number of steps the calibration recommends. The weights of an
    ensemble with an unconditional member take the place of the pipeline's guidance, whose value no longer matters:
    pass `guidance_scale=1` (`true_cfg_scale=1` to Qwen-Image) to save its time. A negative prompt still works in
    pipelines that guide in one forward pass, as Stable Diffusion 3 does with a `guidance_scale` above 1; those that
    make two see the empty one and refuse another.
    Guidance that is distilled into the model, or that the adapter `diffusers` left to the pipeline, is passed as
    ever, and so is all guidance to a calibration whose members all see the prompt, as one member does: whatever the
    pipeline asks for is scaled and summed.

    The calibration lies on the transformer, so other pipelines of the same components are calibrated too, each at its
    own guidance, and so is a copy, which keeps it. The pipeline may be moved or offloaded and LoRAs may be loaded
    before or after; one that is to be compiled must be compiled afterwards.

    Args:
        pipe: A pipeline with a transformer of the class that the calibration was made for.
        path: The calibration file.
        strength: 0 leaves the neutral model at its best guidance, 1 applies the calibration in full; values
            between and beyond, from -1 to 2, interpolate.

    Warns:
        Notice: If the transformer has other weights than those the calibration was made on, or another LoRA, or if
            that cannot be told, as where it is quantized.

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
    except (ConfigError, ModelError) as error:
        raise CalibrationError(f"{path} does not fit this pipeline: {error}") from None


def _hooked(pipe: Any, sites: list[Site], recipe: _Recipe, max_sequence_length: int | None) -> Hooked:
    """Attach what applies a recipe."""
    if len(recipe.members) == 1:  # it sees whatever the pipeline asks of its transformer
        return StackedRows(transformers(pipe), sites)
    members: list[Condition] = [member.sees for member in recipe.members if member.sees != "all"]
    family = family_with(recipe.transformer)
    unconditional = {}
    if "unconditional" in members:  # before hooks are attached: where this fails, the model stays untouched
        unconditional = as_inputs(family, encode_prompt(pipe, family, family.empty, max_sequence_length))
    ensemble = Ensemble(pipe.transformer, sites, members, family.conditioning, own=_own_guidance(family))
    ensemble.unconditional = unconditional
    return ensemble


def _own_guidance(family: Family) -> OwnGuidance:
    """How an ensemble learns what the guidance of a pipeline that calls it is doing."""
    if family.stacks:
        return OwnGuidance(callers.refuse_perturbed, num_groups=callers.num_groups)
    return OwnGuidance(
        callers.refuse_perturbed, moment=callers.moment, is_empty=partial(callers.negative_is, family.empty)
    )


def _recipe(calibration: Calibration) -> _Recipe:
    if not calibration.apply:
        raise CalibrationError("this calibration is not of a diffusion pipeline: it names no modules to scale")
    try:
        made_with = calibration.provenance.config.get("adapter")  # files once held site lines of others only there
        blocks = made_with.get("blocks") if isinstance(made_with, dict) else None
        recipe = _Recipe.model_validate({**({"blocks": blocks} if blocks else {}), **calibration.apply})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise CalibrationError(f"the calibration's apply.{where}: {first['msg']}") from None
    names = [set(member.scales) for member in recipe.members]
    if not names or any(other != names[0] for other in names):
        raise CalibrationError("the calibration's members must scale the same modules")
    sees = [member.sees for member in recipe.members]
    if "all" in sees and len(sees) > 1:
        raise CalibrationError("a calibration's member that sees all must be its only one")
    if "all" not in sees:
        check_members(sees)
    if len(sees) == 1 and {recipe.members[0].weight, recipe.members[0].neutral_weight} != {1.0}:
        raise CalibrationError("a calibration's only member must have the weight 1")
    return recipe


def _longest(calibration: Calibration) -> int | None:
    """How many tokens a prompt had room for."""
    found = calibration.backbone.get("max_sequence_length")
    if found is None:
        return None
    name = "the calibration's backbone.max_sequence_length"
    return int(number(found, name, low=1, high=LONGEST_PROMPT, error=CalibrationError))


def _sites(models: Mapping[str, nn.Module], recipe: _Recipe) -> list[Site]:
    """The sites that a recipe scales, each of which the transformers must have.

    Raises:
        ModelError: If one is no site of theirs.
    """
    sites = [site_within(models, address) for address in recipe.members[0].scales]
    known = {
        site.within(prefix).address
        for prefix, model in models.items()
        for site in find_sites(unwrapped(model), recipe.blocks)
    }
    for site in sites:
        if site.address not in known:
            raise ModelError(
                f"{site.address} is no site of the {recipe.transformer}; {near_misses(site.address, known)}"
            )
    return sites
