"""Apply a calibration file to a stock pipeline in one line."""

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
    """A calibration applied to a pipeline until `remove` is called. Also a context manager.

    Attributes:
        calibration: The artifact.
        strength: 0 gives the neutral model at its best guidance, 1 the calibrated model.
        num_inference_steps: The number of steps that the calibration recommends for the pipeline's call.
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
            warnings.warn(told, Notice, stacklevel=4)  # before hooks are attached: a warning may be an error
        self._hooked = _hooked(pipe, sites, self._recipe, _longest(calibration))
        self.strength = strength

    @property
    def strength(self) -> float:
        """The fraction of the calibration that is applied."""
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
        """Remove the calibration and restore the pipeline."""
        self._hooked.remove()

    def __enter__(self) -> AppliedCalibration:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.remove()


def load_calibration(pipe: Any, path: str | Path, strength: float = 1.0) -> AppliedCalibration:
    """Apply a calibration file to a stock diffusers pipeline.

    Call the pipeline as before, with the number of steps that the calibration recommends. If the calibration has an
    unconditional member, its weights replace the pipeline's guidance, and the guidance argument has no effect: pass
    `guidance_scale=1` (`true_cfg_scale=1` for Qwen-Image) to save time. A negative prompt still works in pipelines
    that guide in one forward pass, such as Stable Diffusion 3 with a `guidance_scale` above 1. Pipelines that guide in
    two forward passes accept only the empty negative prompt.
    Pass guidance as before if it is distilled into the model, if the adapter `diffusers` left it to the pipeline, or
    if all members see the prompt: each forward pass of the pipeline is then scaled and summed.

    The calibration is attached to the transformer. Other pipelines that share the transformer are therefore
    calibrated too, each at its own guidance, and a copy of the pipeline keeps the calibration. The pipeline may be
    moved or offloaded, and LoRAs may be loaded, before or after. Compile only afterwards.

    Args:
        pipe: A pipeline whose transformer has the class that the calibration was made for.
        path: The calibration file.
        strength: 0 gives the neutral model at its best guidance, 1 applies the calibration in full; other values
            from -1 to 2 interpolate or extrapolate.

    Warns:
        Notice: If the transformer's weights or LoRA differ from those of the calibrated model, or if they cannot be
            compared, for example because the transformer is quantized.

    Returns:
        The applied calibration; call `.remove()` to remove it.

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
    """Attach the hooks that apply a recipe."""
    if len(recipe.members) == 1:  # the only member takes part in every forward pass of the pipeline
        return StackedRows(transformers(pipe), sites)
    members: list[Condition] = [member.sees for member in recipe.members if member.sees != "all"]
    family = family_with(recipe.transformer)
    unconditional = {}
    if "unconditional" in members:  # before hooks are attached: if this fails, the model stays untouched
        unconditional = as_inputs(family, encode_prompt(pipe, family, family.empty, max_sequence_length))
    ensemble = Ensemble(pipe.transformer, sites, members, family.conditioning, own=_own_guidance(family))
    ensemble.unconditional = unconditional
    return ensemble


def _own_guidance(family: Family) -> OwnGuidance:
    """Return the functions by which an ensemble inspects the guidance of the calling pipeline."""
    if family.stacks:
        return OwnGuidance(callers.refuse_perturbed, num_groups=callers.num_groups)
    return OwnGuidance(
        callers.refuse_perturbed, moment=callers.moment, is_empty=partial(callers.negative_is, family.empty)
    )


def _recipe(calibration: Calibration) -> _Recipe:
    if not calibration.apply:
        raise CalibrationError("this calibration was not made on a diffusion pipeline: it names no modules to scale")
    try:
        made_with = calibration.provenance.config.get("adapter")  # older files hold custom site lines only here
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
        raise CalibrationError("a calibration's member that sees all must be its only member")
    if "all" not in sees:
        check_members(sees)
    if len(sees) == 1 and {recipe.members[0].weight, recipe.members[0].neutral_weight} != {1.0}:
        raise CalibrationError("a calibration's only member must have the weight 1")
    return recipe


def _longest(calibration: Calibration) -> int | None:
    """Return the most tokens of a prompt that the calibrated pipeline encoded, or None if the file does not say."""
    found = calibration.backbone.get("max_sequence_length")
    if found is None:
        return None
    name = "the calibration's backbone.max_sequence_length"
    return int(number(found, name, low=1, high=LONGEST_PROMPT, error=CalibrationError))


def _sites(models: Mapping[str, nn.Module], recipe: _Recipe) -> list[Site]:
    """Return the sites that a recipe scales.

    Raises:
        ModelError: If the transformers lack one of these sites.
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
                f"{site.address} is not a site of the {recipe.transformer}; {near_misses(site.address, known)}"
            )
    return sites
